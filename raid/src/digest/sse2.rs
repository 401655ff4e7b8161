//! MD5 with SSE2, which every x86-64 CPU has: 4 blocks at a time.

use std::arch::x86_64::*;

use super::kernel::Kernel;
use super::lanes::{CHUNK, INITIAL, SINES, Tail, digest, lane_loops};
use crate::Digest;

type Vector = __m128i;

const LANES: usize = 4;

/// The kernel, if this CPU has the instructions.
pub(super) fn kernel() -> Option<&'static Kernel> {
    static KERNEL: Kernel = Kernel { name: "sse2", lanes: LANES, run };
    is_x86_feature_detected!("sse2").then_some(&KERNEL)
}

fn run(blocks: &[&[u8]], out: &mut [Digest]) {
    // SAFETY: this function is reached only through `kernel`, which found sse2.
    super::batch::fill_lanes(blocks, out, |blocks, out| unsafe { hash_vectors(blocks, out) });
}

lane_loops!("sse2");

#[inline]
#[target_feature(enable = "sse2")]
fn splat(word: u32) -> Vector {
    _mm_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "sse2")]
fn sum(a: Vector, b: Vector) -> Vector {
    _mm_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "sse2")]
fn rotate<const L: i32, const R: i32>(v: Vector) -> Vector {
    _mm_or_si128(_mm_slli_epi32::<L>(v), _mm_srli_epi32::<R>(v))
}

/// `y` where `x` is set, else `z`.
#[inline]
#[target_feature(enable = "sse2")]
fn f(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm_xor_si128(z, _mm_and_si128(x, _mm_xor_si128(y, z)))
}

/// `x` where `z` is set, else `y`. The two terms share no bit, so a sum joins them, and the term
/// without `x`, which is known last, is ready early.
#[inline]
#[target_feature(enable = "sse2")]
fn g(x: Vector, y: Vector, z: Vector) -> Vector {
    sum(_mm_andnot_si128(z, y), _mm_and_si128(x, z))
}

/// Exclusive or of the three.
#[inline]
#[target_feature(enable = "sse2")]
fn h(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm_xor_si128(x, _mm_xor_si128(y, z))
}

/// `y` xor (`x` or not `z`).
#[inline]
#[target_feature(enable = "sse2")]
fn i(x: Vector, y: Vector, z: Vector) -> Vector {
    let not_z = _mm_xor_si128(z, splat(u32::MAX));
    _mm_xor_si128(y, _mm_or_si128(x, not_z))
}

#[inline]
#[target_feature(enable = "sse2")]
fn store(v: Vector) -> [u32; LANES] {
    let mut words = [0; LANES];
    // SAFETY: `words` is as long as a vector and writable; the store needs no alignment.
    unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), v) };
    words
}

#[inline]
#[target_feature(enable = "sse2")]
fn load(bytes: &[u8; 4 * LANES]) -> Vector {
    // SAFETY: `bytes` is as long as a vector and readable; the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Four quarters of 4 words, each transposed as 4 x 4.
#[inline]
#[target_feature(enable = "sse2")]
fn gather(blocks: &[&[u8]; LANES], at: usize) -> [Vector; 16] {
    let mut words = [splat(0); 16];
    for (quarter, words) in words.chunks_exact_mut(LANES).enumerate() {
        let mut rows = [splat(0); LANES];
        for (row, block) in rows.iter_mut().zip(blocks) {
            if let Some(bytes) = block[at + 4 * LANES * quarter..].first_chunk() {
                *row = load(bytes);
            }
        }
        words.copy_from_slice(&transpose(rows));
    }
    words
}

#[inline]
#[target_feature(enable = "sse2")]
fn transpose([r0, r1, r2, r3]: [Vector; 4]) -> [Vector; 4] {
    let (low01, high01) = (_mm_unpacklo_epi32(r0, r1), _mm_unpackhi_epi32(r0, r1));
    let (low23, high23) = (_mm_unpacklo_epi32(r2, r3), _mm_unpackhi_epi32(r2, r3));
    [
        _mm_unpacklo_epi64(low01, low23),
        _mm_unpackhi_epi64(low01, low23),
        _mm_unpacklo_epi64(high01, high23),
        _mm_unpackhi_epi64(high01, high23),
    ]
}
