//! MD5 (RFC 1321) of one block, and of many at once.

use crate::Digest;
use md5::Digest as _;

/// The MD5 of `data`.
pub fn md5(data: &[u8]) -> Digest {
    md5::Md5::digest(data).into()
}

/// Writes the MD5 of each block to `out`.
///
/// # Panics
/// If `blocks` and `out` have different lengths.
pub fn md5_many(blocks: &[&[u8]], out: &mut [Digest]) {
    assert_eq!(blocks.len(), out.len(), "one digest for each block");
    for (block, out) in blocks.iter().zip(out) {
        *out = md5(block);
    }
}

/// The implementation in use.
pub fn name() -> &'static str {
    "scalar"
}

#[cfg(test)]
mod tests;
