//! MD5 with AVX2: 8 blocks at a time.

use std::arch::x86_64::*;

use super::kernel::Kernel;
use super::lanes::{CHUNK, INITIAL, SINES, Tail, digest, lane_loops};
use crate::Digest;

type Vector = __m256i;

const LANES: usize = 8;

/// The kernel, if this CPU has the instructions.
pub(super) fn kernel() -> Option<&'static Kernel> {
    static KERNEL: Kernel = Kernel { name: "avx2", lanes: LANES, run };
    is_x86_feature_detected!("avx2").then_some(&KERNEL)
}

fn run(blocks: &[&[u8]], out: &mut [Digest]) {
    // SAFETY: this function is reached only through `kernel`, which found avx2.
    super::batch::fill_lanes(blocks, out, |blocks, out| unsafe { hash_vectors(blocks, out) });
}

lane_loops!("avx2");

#[inline]
#[target_feature(enable = "avx2")]
fn splat(word: u32) -> Vector {
    _mm256_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum(a: Vector, b: Vector) -> Vector {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const L: i32, const R: i32>(v: Vector) -> Vector {
    _mm256_or_si256(_mm256_slli_epi32::<L>(v), _mm256_srli_epi32::<R>(v))
}

/// `y` where `x` is set, else `z`.
#[inline]
#[target_feature(enable = "avx2")]
fn f(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm256_xor_si256(z, _mm256_and_si256(x, _mm256_xor_si256(y, z)))
}

/// `x` where `z` is set, else `y`. The two terms share no bit, so a sum joins them, and the term
/// without `x`, which is known last, is ready early.
#[inline]
#[target_feature(enable = "avx2")]
fn g(x: Vector, y: Vector, z: Vector) -> Vector {
    sum(_mm256_andnot_si256(z, y), _mm256_and_si256(x, z))
}

/// Exclusive or of the three.
#[inline]
#[target_feature(enable = "avx2")]
fn h(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm256_xor_si256(x, _mm256_xor_si256(y, z))
}

/// `y` xor (`x` or not `z`).
#[inline]
#[target_feature(enable = "avx2")]
fn i(x: Vector, y: Vector, z: Vector) -> Vector {
    let not_z = _mm256_xor_si256(z, splat(u32::MAX));
    _mm256_xor_si256(y, _mm256_or_si256(x, not_z))
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(v: Vector) -> [u32; LANES] {
    let mut words = [0; LANES];
    // SAFETY: `words` is as long as a vector and writable; the store needs no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), v) };
    words
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 4 * LANES]) -> Vector {
    // SAFETY: `bytes` is as long as a vector and readable; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Two halves of 8 words, each transposed as 8 x 8.
#[inline]
#[target_feature(enable = "avx2")]
fn gather(blocks: &[&[u8]; LANES], at: usize) -> [Vector; 16] {
    let mut words = [splat(0); 16];
    for (half, words) in words.chunks_exact_mut(LANES).enumerate() {
        let mut rows = [splat(0); LANES];
        for (row, block) in rows.iter_mut().zip(blocks) {
            if let Some(bytes) = block[at + 4 * LANES * half..].first_chunk() {
                *row = load(bytes);
            }
        }
        let (low, high) = ([rows[0], rows[1], rows[2], rows[3]], [rows[4], rows[5], rows[6], rows[7]]);
        let (low, high) = (transpose_quarters(low), transpose_quarters(high));
        for c in 0..4 {
            words[c] = _mm256_permute2x128_si256::<0x20>(low[c], high[c]);
            words[4 + c] = _mm256_permute2x128_si256::<0x31>(low[c], high[c]);
        }
    }
    words
}

/// Transposes 4 x 4 words within each 128 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_quarters([r0, r1, r2, r3]: [Vector; 4]) -> [Vector; 4] {
    let (low01, high01) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
    let (low23, high23) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
    [
        _mm256_unpacklo_epi64(low01, low23),
        _mm256_unpackhi_epi64(low01, low23),
        _mm256_unpacklo_epi64(high01, high23),
        _mm256_unpackhi_epi64(high01, high23),
    ]
}
