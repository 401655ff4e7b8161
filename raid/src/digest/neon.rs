//! MD5 with NEON, which every aarch64 CPU has: 4 blocks at a time.

use std::arch::aarch64::*;

use super::kernel::Kernel;
use super::lanes::{CHUNK, INITIAL, SINES, Tail, digest, lane_loops};
use crate::Digest;

type Vector = uint32x4_t;

const LANES: usize = 4;

/// The kernel, if this CPU has the instructions.
pub(super) fn kernel() -> Option<&'static Kernel> {
    static KERNEL: Kernel = Kernel { name: "neon", lanes: LANES, run };
    std::arch::is_aarch64_feature_detected!("neon").then_some(&KERNEL)
}

fn run(blocks: &[&[u8]], out: &mut [Digest]) {
    // SAFETY: this function is reached only through `kernel`, which found neon.
    super::batch::fill_lanes(blocks, out, |blocks, out| unsafe { hash_vectors(blocks, out) });
}

lane_loops!("neon");

#[inline]
#[target_feature(enable = "neon")]
fn splat(word: u32) -> Vector {
    vdupq_n_u32(word)
}

#[inline]
#[target_feature(enable = "neon")]
fn sum(a: Vector, b: Vector) -> Vector {
    vaddq_u32(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn rotate<const L: i32, const R: i32>(v: Vector) -> Vector {
    vsriq_n_u32::<R>(vshlq_n_u32::<L>(v), v)
}

/// `y` where `x` is set, else `z`.
#[inline]
#[target_feature(enable = "neon")]
fn f(x: Vector, y: Vector, z: Vector) -> Vector {
    vbslq_u32(x, y, z)
}

/// `x` where `z` is set, else `y`.
#[inline]
#[target_feature(enable = "neon")]
fn g(x: Vector, y: Vector, z: Vector) -> Vector {
    vbslq_u32(z, x, y)
}

/// Exclusive or of the three.
#[inline]
#[target_feature(enable = "neon")]
fn h(x: Vector, y: Vector, z: Vector) -> Vector {
    veorq_u32(x, veorq_u32(y, z))
}

/// `y` xor (`x` or not `z`).
#[inline]
#[target_feature(enable = "neon")]
fn i(x: Vector, y: Vector, z: Vector) -> Vector {
    veorq_u32(y, vornq_u32(x, z))
}

#[inline]
#[target_feature(enable = "neon")]
fn store(v: Vector) -> [u32; LANES] {
    let mut words = [0; LANES];
    // SAFETY: `words` is 16 writable bytes with the alignment of a word.
    unsafe { vst1q_u32(words.as_mut_ptr(), v) };
    words
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 4 * LANES]) -> Vector {
    // SAFETY: `bytes` is 16 readable bytes; a load of bytes needs no alignment.
    let bytes = unsafe { vld1q_u8(bytes.as_ptr()) };
    vreinterpretq_u32_u8(bytes)
}

/// Four quarters of 4 words, each transposed as 4 x 4.
#[inline]
#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
fn transpose([r0, r1, r2, r3]: [Vector; 4]) -> [Vector; 4] {
    let wide = |low, high| (vreinterpretq_u64_u32(low), vreinterpretq_u64_u32(high));
    let (even01, even23) = wide(vtrn1q_u32(r0, r1), vtrn1q_u32(r2, r3));
    let (odd01, odd23) = wide(vtrn2q_u32(r0, r1), vtrn2q_u32(r2, r3));
    [
        vreinterpretq_u32_u64(vtrn1q_u64(even01, even23)),
        vreinterpretq_u32_u64(vtrn1q_u64(odd01, odd23)),
        vreinterpretq_u32_u64(vtrn2q_u64(even01, even23)),
        vreinterpretq_u32_u64(vtrn2q_u64(odd01, odd23)),
    ]
}
