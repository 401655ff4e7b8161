//! Parity with AVX2: 32 bytes at a time.

use std::arch::x86_64::*;
use std::ops::Range;

use super::kernel::{Kernel, Term, Work};
use super::vector::{each_column, vector_loops};
use crate::gf;

type Vector = __m256i;

/// Products with the low and the high nibble, in both halves of a vector.
type Factor = (__m256i, __m256i);

const WIDTH: usize = 32;

/// The kernel, if this CPU has the instructions.
pub(super) fn kernel() -> Option<&'static Kernel> {
    static KERNEL: Kernel = Kernel { name: "avx2", run };
    is_x86_feature_detected!("avx2").then_some(&KERNEL)
}

fn run(work: Work<'_>) {
    // SAFETY: this function is reached only through `kernel`, which found avx2.
    unsafe { run_vectors(work) }
}

vector_loops!("avx2");

#[inline]
#[target_feature(enable = "avx2")]
fn zero() -> Vector {
    _mm256_setzero_si256()
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm256_xor_si256(a, b)
}

/// Bytes have no shift, so each is added to itself; those whose highest bit leaves, which are
/// negative, are reduced.
#[inline]
#[target_feature(enable = "avx2")]
fn double(v: Vector) -> Vector {
    let leaves = _mm256_cmpgt_epi8(zero(), v);
    let reduction = _mm256_set1_epi8(gf::REDUCTION.cast_signed());
    add(_mm256_add_epi8(v, v), _mm256_and_si256(leaves, reduction))
}

#[inline]
#[target_feature(enable = "avx2")]
fn factor(constant: u8) -> Factor {
    let table = &gf::NIBBLES[usize::from(constant)];
    (both_halves(&table.low), both_halves(&table.high))
}

#[inline]
#[target_feature(enable = "avx2")]
fn times((low, high): &Factor, v: Vector) -> Vector {
    let nibble = _mm256_set1_epi8(15);
    let low_nibbles = _mm256_and_si256(v, nibble);
    let high_nibbles = _mm256_and_si256(_mm256_srli_epi64::<4>(v), nibble);
    add(_mm256_shuffle_epi8(*low, low_nibbles), _mm256_shuffle_epi8(*high, high_nibbles))
}

#[inline]
#[target_feature(enable = "avx2")]
fn both_halves(table: &[u8; 16]) -> Vector {
    // SAFETY: `table` is 16 readable bytes; the load needs no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(from: &[u8]) -> Vector {
    let mut bytes = [0; WIDTH];
    match from.first_chunk() {
        Some(whole) => bytes = *whole,
        None => bytes[..from.len()].copy_from_slice(from),
    }
    // SAFETY: `bytes` is WIDTH readable bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [u8], v: Vector) {
    let mut bytes = [0; WIDTH];
    // SAFETY: `bytes` is WIDTH writable bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), v) };
    match to.first_chunk_mut() {
        Some(whole) => *whole = bytes,
        None => to.copy_from_slice(&bytes[..to.len()]),
    }
}
