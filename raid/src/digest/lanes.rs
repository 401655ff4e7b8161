//! MD5 (RFC 1321) of several blocks of one length, written once for every vector width.
//!
//! One MD5 is a chain in which every step waits for the one before it, so a single stream gains
//! nothing from vectors. Here each 32-bit lane of a vector works on another block.
//!
//! As in parity, the loops are a macro that expands to safe code. The instruction-set file defines:
//!
//! - `Vector`, `LANES` (blocks at once), `splat(u32)`, `sum(Vector, Vector)` (modulo 2^32);
//! - `rotate::<L, R>(Vector)`: every lane left by L = 32 - R bits;
//! - `f`, `g`, `h`, `i`: the four functions of the RFC;
//! - `gather(&[&[u8]; LANES], at)`: the 16 words at byte `at` of every block, transposed;
//! - `store(Vector) -> [u32; LANES]`.

use crate::Digest;

/// Bytes that MD5 consumes at once.
pub(super) const CHUNK: usize = 64;

/// The initial state: A, B, C, D of the RFC.
pub(super) const INITIAL: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The integer part of 2^32 * abs(sin(i + 1)), with i in radians.
#[rustfmt::skip]
pub(super) const SINES: [u32; 64] = [
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee,
    0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be,
    0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa,
    0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed,
    0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c,
    0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05,
    0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039,
    0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1,
    0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
];

/// The end of a message with its padding: one or two chunks.
pub(super) struct Tail {
    bytes: [u8; 2 * CHUNK],
    len: usize,
}

impl Tail {
    /// The tail of `message`: what follows its last whole chunk, a 1 bit, zeros, and the length in
    /// bits.
    pub(super) fn new(message: &[u8]) -> Self {
        let rest = &message[message.len() / CHUNK * CHUNK..];
        let mut bytes = [0; 2 * CHUNK];
        bytes[..rest.len()].copy_from_slice(rest);
        bytes[rest.len()] = 0x80;
        let len = if rest.len() < CHUNK - 8 { CHUNK } else { 2 * CHUNK };
        let bits = (message.len() as u64).wrapping_mul(8);
        bytes[len - 8..len].copy_from_slice(&bits.to_le_bytes());
        Self { bytes, len }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The digest in `lane` of a final state.
pub(super) fn digest<const LANES: usize>(state: &[[u32; LANES]; 4], lane: usize) -> Digest {
    let mut digest = [0; 16];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word[lane].to_le_bytes());
    }
    digest
}

macro_rules! lane_loops {
    ($features:literal) => {
        /// The digests of `LANES` blocks of one length.
        #[target_feature(enable = $features)]
        fn hash_vectors(blocks: &[&[u8]; LANES], out: &mut [Digest; LANES]) {
            let mut state = INITIAL.map(|word| splat(word));
            let len = blocks[0].len();
            for at in (0..len / CHUNK * CHUNK).step_by(CHUNK) {
                state = compress(state, &gather(blocks, at));
            }
            let tails = blocks.map(Tail::new);
            let tails = tails.each_ref().map(Tail::bytes);
            for at in (0..tails[0].len()).step_by(CHUNK) {
                state = compress(state, &gather(&tails, at));
            }
            let state = state.map(|word| store(word));
            for (lane, out) in out.iter_mut().enumerate() {
                *out = digest(&state, lane);
            }
        }

        /// The four rounds of the RFC over one chunk of every lane.
        #[inline]
        #[target_feature(enable = $features)]
        fn compress(state: [Vector; 4], x: &[Vector; 16]) -> [Vector; 4] {
            let [mut a, mut b, mut c, mut d] = state;
            for n in (0..16).step_by(4) {
                let word = |k: usize| sum(x[n + k], splat(SINES[n + k]));
                a = step::<7, 25>(f(b, c, d), a, b, word(0));
                d = step::<12, 20>(f(a, b, c), d, a, word(1));
                c = step::<17, 15>(f(d, a, b), c, d, word(2));
                b = step::<22, 10>(f(c, d, a), b, c, word(3));
            }
            for n in (0..16).step_by(4) {
                let word = |k: usize| sum(x[(5 * (n + k) + 1) % 16], splat(SINES[16 + n + k]));
                a = step::<5, 27>(g(b, c, d), a, b, word(0));
                d = step::<9, 23>(g(a, b, c), d, a, word(1));
                c = step::<14, 18>(g(d, a, b), c, d, word(2));
                b = step::<20, 12>(g(c, d, a), b, c, word(3));
            }
            for n in (0..16).step_by(4) {
                let word = |k: usize| sum(x[(3 * (n + k) + 5) % 16], splat(SINES[32 + n + k]));
                a = step::<4, 28>(h(b, c, d), a, b, word(0));
                d = step::<11, 21>(h(a, b, c), d, a, word(1));
                c = step::<16, 16>(h(d, a, b), c, d, word(2));
                b = step::<23, 9>(h(c, d, a), b, c, word(3));
            }
            for n in (0..16).step_by(4) {
                let word = |k: usize| sum(x[7 * (n + k) % 16], splat(SINES[48 + n + k]));
                a = step::<6, 26>(i(b, c, d), a, b, word(0));
                d = step::<10, 22>(i(a, b, c), d, a, word(1));
                c = step::<15, 17>(i(d, a, b), c, d, word(2));
                b = step::<21, 11>(i(c, d, a), b, c, word(3));
            }
            let [a0, b0, c0, d0] = state;
            [sum(a, a0), sum(b, b0), sum(c, c0), sum(d, d0)]
        }

        /// `a` = `b` + (`a` + `mixed` + `word`) rotated. What is known early is added first: each
        /// step waits for `mixed` alone.
        #[inline]
        #[target_feature(enable = $features)]
        fn step<const L: i32, const R: i32>(mixed: Vector, a: Vector, b: Vector, word: Vector) -> Vector {
            sum(b, rotate::<L, R>(sum(sum(a, word), mixed)))
        }
    };
}

pub(super) use lane_loops;
