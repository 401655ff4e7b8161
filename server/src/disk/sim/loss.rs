//! What a power loss leaves of a file system.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::filesystem::{Block, FileSystem, Inodes, apply};
use super::inode::{Allocation, Extent, Inode};
use super::random::Random;

/// Bytes that a device writes whole or not at all.
pub(super) const SECTOR: usize = 512;

impl FileSystem {
    /// The file system after a power loss and the replay of its journal.
    pub(super) fn after_power_loss(&self, seed: u64) -> FileSystem {
        let mut random = Random::new(seed);
        let mut left = self.clone();
        left.inodes = self.surviving_metadata(&mut random);
        left.journal.clear();
        // How much of the unsynced data got out: sometimes nothing, sometimes everything.
        let (data, delayed) = ([0, 1, 4, 7, 8][random.below(5) as usize], [0, 1, 4, 7, 8][random.below(5) as usize]);
        let mut blocks = BTreeMap::new();
        for inode in left.inodes.values_mut() {
            *inode = Arc::new(self.surviving_file(inode, &mut blocks, &mut random, (data, delayed)));
        }
        left.blocks = blocks;
        left.durable = left.inodes.clone();
        left.used = left.inodes.values().map(|inode| inode.cost(left.block_len)).sum();
        left
    }

    /// A prefix of the journal, with the ends likelier than their share.
    fn surviving_metadata(&self, random: &mut Random) -> Inodes {
        let records = match random.below(4) {
            0 => 0,
            1 => self.journal.len(),
            _ => random.below(self.journal.len() as u64 + 1) as usize,
        };
        let mut inodes = self.durable.clone();
        self.journal[..records].iter().for_each(|record| apply(&mut inodes, record));
        inodes.retain(|_, inode| inode.nlink > 0);
        inodes
    }

    fn surviving_file(
        &self,
        inode: &Inode,
        blocks: &mut BTreeMap<u64, Block>,
        random: &mut Random,
        (data, delayed): (u64, u64),
    ) -> Inode {
        let block_len = self.block_len as u64;
        let mut left = inode.clone();
        let (mut extents, mut end) = (BTreeMap::new(), 0);
        for (number, extent) in inode.extents.iter() {
            let allocation = match extent.allocation {
                Allocation::Delayed if random.chance(delayed) => Allocation::Written,
                Allocation::Delayed => continue,
                Allocation::Converting if random.chance(delayed) => Allocation::Written,
                Allocation::Converting => Allocation::Unwritten,
                allocation => allocation,
            };
            if allocation == Allocation::Written {
                end = (number + 1) * block_len;
            }
            extents.insert(*number, Extent { allocation, ..*extent });
        }
        left.size = inode.size_journaled.max(inode.size.min(end));
        left.size_journaled = left.size;
        for (number, extent) in &extents {
            // What a later extension must not show.
            let beyond = left.size.saturating_sub(number * block_len).min(block_len) as usize;
            let content = self.surviving_content(extent, beyond, data, random);
            blocks.insert(extent.block, Block { now: content.clone(), stable: content, lost: false });
        }
        left.extents = Arc::new(extents);
        left
    }

    fn surviving_content(&self, extent: &Extent, end: usize, data: u64, random: &mut Random) -> Arc<[u8]> {
        let block = &self.blocks[&extent.block];
        if extent.allocation == Allocation::Unwritten {
            return self.zeros.clone();
        }
        let clean = Arc::ptr_eq(&block.now, &block.stable) || block.lost;
        if clean && end == self.block_len {
            return block.stable.clone();
        }
        let mut content = block.stable.to_vec();
        for (sector, new) in content.chunks_mut(SECTOR).zip(block.now.chunks(SECTOR)).filter(|_| !clean) {
            if random.chance(data) {
                sector.copy_from_slice(new);
            }
        }
        content[end..].fill(0);
        content.into()
    }
}
