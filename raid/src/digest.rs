//! MD5 (RFC 1321) of one block, and of many at once.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;
mod batch;
mod kernel;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod lanes;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
mod neon;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod sse2;

use crate::Digest;
use md5::Digest as _;

/// The MD5 of `data`.
pub fn md5(data: &[u8]) -> Digest {
    md5::Md5::digest(data).into()
}

/// Writes the MD5 of each block, of any length in bytes, to `out`.
///
/// Neighbours of equal length are hashed side by side, so put blocks of unusual length at an end.
///
/// # Panics
/// If `blocks` and `out` have different lengths.
pub fn md5_many(blocks: &[&[u8]], out: &mut [Digest]) {
    assert_eq!(blocks.len(), out.len(), "one digest for each block");
    batch::digests(kernel::chosen(), blocks, out);
}

/// The widest implementation in use; narrower ones serve what is left over.
pub fn name() -> &'static str {
    kernel::chosen()[0].name
}

#[cfg(test)]
mod tests;
