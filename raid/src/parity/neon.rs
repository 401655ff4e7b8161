//! Parity with NEON, which every aarch64 CPU has: 16 bytes at a time.

use std::arch::aarch64::*;
use std::ops::Range;

use super::kernel::{Kernel, Term, Work};
use super::vector::{each_column, vector_loops};
use crate::gf;

type Vector = uint8x16_t;

/// Products with the low and the high nibble.
type Factor = (uint8x16_t, uint8x16_t);

const WIDTH: usize = 16;

/// The kernel, if this CPU has the instructions.
pub(super) fn kernel() -> Option<&'static Kernel> {
    static KERNEL: Kernel = Kernel { name: "neon", run };
    std::arch::is_aarch64_feature_detected!("neon").then_some(&KERNEL)
}

fn run(work: Work<'_>) {
    // SAFETY: this function is reached only through `kernel`, which found neon.
    unsafe { run_vectors(work) }
}

vector_loops!("neon");

#[inline]
#[target_feature(enable = "neon")]
fn zero() -> Vector {
    vdupq_n_u8(0)
}

#[inline]
#[target_feature(enable = "neon")]
fn add(a: Vector, b: Vector) -> Vector {
    veorq_u8(a, b)
}

/// Bytes whose highest bit leaves, which are negative, are reduced.
#[inline]
#[target_feature(enable = "neon")]
fn double(v: Vector) -> Vector {
    let leaves = vcltzq_s8(vreinterpretq_s8_u8(v));
    add(vshlq_n_u8::<1>(v), vandq_u8(leaves, vdupq_n_u8(gf::REDUCTION)))
}

#[inline]
#[target_feature(enable = "neon")]
fn factor(constant: u8) -> Factor {
    let table = &gf::NIBBLES[usize::from(constant)];
    (load(&table.low), load(&table.high))
}

#[inline]
#[target_feature(enable = "neon")]
fn times((low, high): &Factor, v: Vector) -> Vector {
    let low_nibbles = vandq_u8(v, vdupq_n_u8(15));
    let high_nibbles = vshrq_n_u8::<4>(v);
    add(vqtbl1q_u8(*low, low_nibbles), vqtbl1q_u8(*high, high_nibbles))
}

#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[u8]) -> Vector {
    let mut bytes = [0; WIDTH];
    match from.first_chunk() {
        Some(whole) => bytes = *whole,
        None => bytes[..from.len()].copy_from_slice(from),
    }
    // SAFETY: `bytes` is WIDTH readable bytes; the load needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(to: &mut [u8], v: Vector) {
    let mut bytes = [0; WIDTH];
    // SAFETY: `bytes` is WIDTH writable bytes; the store needs no alignment.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), v) };
    match to.first_chunk_mut() {
        Some(whole) => *whole = bytes,
        None => to.copy_from_slice(&bytes[..to.len()]),
    }
}
