//! MD5 with AVX-512: 16 blocks at a time.

use std::arch::x86_64::*;

use super::kernel::Kernel;
use super::lanes::{CHUNK, INITIAL, SINES, Tail, digest, lane_loops};
use crate::Digest;

type Vector = __m512i;

const LANES: usize = 16;

/// The kernel, if this CPU has the instructions.
pub(super) fn kernel() -> Option<&'static Kernel> {
    static KERNEL: Kernel = Kernel { name: "avx512", lanes: LANES, run };
    is_x86_feature_detected!("avx512f").then_some(&KERNEL)
}

fn run(blocks: &[&[u8]], out: &mut [Digest]) {
    // SAFETY: this function is reached only through `kernel`, which found avx512f.
    super::batch::fill_lanes(blocks, out, |blocks, out| unsafe { hash_vectors(blocks, out) });
}

lane_loops!("avx512f");

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(word: u32) -> Vector {
    _mm512_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sum(a: Vector, b: Vector) -> Vector {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rotate<const L: i32, const R: i32>(v: Vector) -> Vector {
    _mm512_rol_epi32::<L>(v)
}

// The constant of a ternary function is its truth table: the value for x, y, z is bit 4x + 2y + z.

/// `y` where `x` is set, else `z`.
#[inline]
#[target_feature(enable = "avx512f")]
fn f(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xca>(x, y, z)
}

/// `x` where `z` is set, else `y`.
#[inline]
#[target_feature(enable = "avx512f")]
fn g(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xe4>(x, y, z)
}

/// Exclusive or of the three.
#[inline]
#[target_feature(enable = "avx512f")]
fn h(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0x96>(x, y, z)
}

/// `y` xor (`x` or not `z`).
#[inline]
#[target_feature(enable = "avx512f")]
fn i(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0x39>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(v: Vector) -> [u32; LANES] {
    let mut words = [0; LANES];
    // SAFETY: `words` is 64 writable bytes; the store needs no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), v) };
    words
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(chunk: &[u8; CHUNK]) -> Vector {
    // SAFETY: `chunk` is 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) }
}

/// A transposition of 16 x 16 words in four rounds: pairs of words, then of two words, then of
/// quarters, then of halves change places between two rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn gather(blocks: &[&[u8]; LANES], at: usize) -> [Vector; 16] {
    let mut rows = [splat(0); 16];
    for (row, block) in rows.iter_mut().zip(blocks) {
        if let Some(chunk) = block[at..].first_chunk() {
            *row = load(chunk);
        }
    }
    // After this, quads[r][c] holds, in its quarter q, word 4q + c of rows 4r to 4r + 3.
    let mut quads = [[splat(0); 4]; 4];
    for (r, quad) in quads.iter_mut().enumerate() {
        let [r0, r1, r2, r3] = [rows[4 * r], rows[4 * r + 1], rows[4 * r + 2], rows[4 * r + 3]];
        let (low01, high01) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
        let (low23, high23) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
        *quad = [
            _mm512_unpacklo_epi64(low01, low23),
            _mm512_unpackhi_epi64(low01, low23),
            _mm512_unpacklo_epi64(high01, high23),
            _mm512_unpackhi_epi64(high01, high23),
        ];
    }
    let mut words = [splat(0); 16];
    for c in 0..4 {
        let [q0, q1, q2, q3] = [quads[0][c], quads[1][c], quads[2][c], quads[3][c]];
        let even01 = _mm512_shuffle_i32x4::<0x88>(q0, q1);
        let odd01 = _mm512_shuffle_i32x4::<0xdd>(q0, q1);
        let even23 = _mm512_shuffle_i32x4::<0x88>(q2, q3);
        let odd23 = _mm512_shuffle_i32x4::<0xdd>(q2, q3);
        words[c] = _mm512_shuffle_i32x4::<0x88>(even01, even23);
        words[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd01, odd23);
        words[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even01, even23);
        words[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd01, odd23);
    }
    words
}
