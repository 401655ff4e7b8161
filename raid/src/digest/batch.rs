//! Batches of blocks for the lanes of a kernel.

use super::kernel::{Kernel, SCALAR};
use crate::Digest;

/// Writes the digest of each block. Neighbours of one length share a batch. `kernels` has the
/// widest first.
pub(super) fn digests(kernels: &[&Kernel], blocks: &[&[u8]], out: &mut [Digest]) {
    let mut out = out;
    for run in blocks.chunk_by(|a, b| a.len() == b.len()) {
        for batch in run.chunks(kernels[0].lanes) {
            let (now, later) = out.split_at_mut(batch.len());
            (narrowest(kernels, batch.len()).run)(batch, now);
            out = later;
        }
    }
}

/// The narrowest kernel that takes `count` blocks at once.
///
/// A kernel takes as long for one block as for all its lanes, at most twice as long as the scalar
/// one takes for one block, and the less the fewer lanes it has: two blocks already gain.
pub(super) fn narrowest<'a>(kernels: &[&'a Kernel], count: usize) -> &'a Kernel {
    kernels.iter().rfind(|kernel| kernel.lanes >= count).copied().unwrap_or(&SCALAR)
}

/// Calls `hash` with all lanes filled: lanes without a block of their own repeat the first one,
/// and what comes out of them is dropped.
pub(super) fn fill_lanes<const LANES: usize>(
    blocks: &[&[u8]],
    out: &mut [Digest],
    hash: impl FnOnce(&[&[u8]; LANES], &mut [Digest; LANES]),
) {
    let mut lanes = [blocks[0]; LANES];
    lanes[..blocks.len()].copy_from_slice(blocks);
    let mut digests = [[0; 16]; LANES];
    hash(&lanes, &mut digests);
    out.copy_from_slice(&digests[..blocks.len()]);
}
