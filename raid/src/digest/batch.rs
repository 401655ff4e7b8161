//! Batches of blocks for the lanes of a kernel.

use super::kernel::{Kernel, SCALAR};
use crate::Digest;

/// Fewer blocks than this go one by one: a kernel takes as long for one block as for all its
/// lanes, which is about as long as the scalar implementation takes for one.
const WORTHWHILE: usize = 2;

/// Writes the digest of each block. Neighbours of one length share a batch.
pub(super) fn digests(kernel: &Kernel, blocks: &[&[u8]], out: &mut [Digest]) {
    let mut out = out;
    for run in blocks.chunk_by(|a, b| a.len() == b.len()) {
        for batch in run.chunks(kernel.lanes) {
            let (now, later) = out.split_at_mut(batch.len());
            let kernel = if batch.len() < WORTHWHILE { &SCALAR } else { kernel };
            (kernel.run)(batch, now);
            out = later;
        }
    }
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
