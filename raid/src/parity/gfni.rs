//! Parity with AVX-512 and GFNI: 64 bytes at a time.
//!
//! GFNI multiplies in the field 0x11b only, which is the wrong one here. Multiplication by a
//! constant is however linear over bits, and GFNI applies any 8x8 bit matrix to every byte.

use std::arch::x86_64::*;
use std::ops::Range;

use super::kernel::{Kernel, Term, Work};
use super::vector::{each_column, vector_loops};
use crate::gf;

type Vector = __m512i;
type Factor = __m512i;

const WIDTH: usize = 64;

/// The kernel, if this CPU has the instructions.
pub(super) fn kernel() -> Option<&'static Kernel> {
    static KERNEL: Kernel = Kernel { name: "avx512+gfni", run };
    let present = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("gfni");
    present.then_some(&KERNEL)
}

fn run(work: Work<'_>) {
    // SAFETY: this function is reached only through `kernel`, which found avx512f and gfni.
    unsafe { run_vectors(work) }
}

vector_loops!("avx512f,gfni");

/// Multiplication by each constant as a bit matrix in the order of GF2P8AFFINEQB: the byte for the
/// lowest bit of the result is the highest.
static MATRICES: [u64; 256] = matrices();

const fn matrices() -> [u64; 256] {
    let mut table = [0; 256];
    let mut constant = 0;
    while constant < 256 {
        let mut column = 0;
        while column < 8 {
            let product = gf::mul(constant as u8, 1 << column);
            let mut row = 0;
            while row < 8 {
                let bit = (product >> row & 1) as u64;
                table[constant] |= bit << (8 * (7 - row) + column);
                row += 1;
            }
            column += 1;
        }
        constant += 1;
    }
    table
}

#[inline]
#[target_feature(enable = "avx512f")]
fn zero() -> Vector {
    _mm512_setzero_si512()
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm512_xor_si512(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,gfni")]
fn double(v: Vector) -> Vector {
    times(&factor(2), v)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn factor(constant: u8) -> Factor {
    _mm512_set1_epi64(MATRICES[usize::from(constant)].cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f,gfni")]
fn times(factor: &Factor, v: Vector) -> Vector {
    _mm512_gf2p8affine_epi64_epi8::<0>(v, *factor)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(from: &[u8]) -> Vector {
    let mut bytes = [0; WIDTH];
    match from.first_chunk() {
        Some(whole) => bytes = *whole,
        None => bytes[..from.len()].copy_from_slice(from),
    }
    // SAFETY: `bytes` is WIDTH readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut [u8], v: Vector) {
    let mut bytes = [0; WIDTH];
    // SAFETY: `bytes` is WIDTH writable bytes; the store needs no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), v) };
    match to.first_chunk_mut() {
        Some(whole) => *whole = bytes,
        None => to.copy_from_slice(&bytes[..to.len()]),
    }
}
