//! Bytes of a RAID: parity, recovery of lost units, and block digests in batches.
//!
//! The crate is pure. It knows bytes and never positions: which unit of a stripe lies on which
//! server, and which of them rotate, is the layout's business.
//!
//! [`parity`] and [`digest`] are the fronts. They check their contracts once; behind them stand
//! implementations for instruction sets, chosen once at run time. `unsafe` is confined to the
//! files named after an instruction set, and there to loads, stores and the step into code that
//! is compiled for a CPU feature.
#![deny(unsafe_code)]

mod gf;
pub mod parity;

pub mod digest;

/// Bytes that one digest covers.
pub const BLOCK: usize = 4096;

/// An MD5 digest, in the byte order in which RFC 1321 prints it.
pub type Digest = [u8; 16];
