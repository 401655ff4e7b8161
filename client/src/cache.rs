//! Blocks of stripes that were read or written lately: what partial writes and small reads need again.
//!
//! Bounded by bytes, least recently used unit first. The volume keeps it right: it changes under the
//! stripe's lock, together with what the bricks hold.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use net_raid_proto::limits::{BLOCK_SIZE, BLOCKS_PER_UNIT};

/// Names a cached unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnitKey {
    /// The file's tag: a new one when its old content is void, and what is left of that ages out.
    pub file: u64,
    /// The stripe.
    pub stripe: u64,
    /// The index in the stripe, parity included; 0 for every copy of level 1.
    pub index: usize,
}

type Block = Box<[u8; BLOCK_SIZE]>;

#[derive(Default)]
struct Unit {
    blocks: [Option<Block>; BLOCKS_PER_UNIT],
}

impl Unit {
    fn bytes(&self) -> usize {
        self.blocks.iter().flatten().count() * BLOCK_SIZE
    }
}

struct Shard {
    units: LruCache<UnitKey, Unit>,
    bytes: usize,
    limit: usize,
}

/// Locks of the cache: enough that threads seldom meet.
const SHARDS: usize = 16;

/// The cache of one volume.
pub struct BlockCache {
    shards: Vec<Mutex<Shard>>,
}

impl BlockCache {
    /// A cache of at most `limit` bytes of blocks.
    pub fn new(limit: u64) -> BlockCache {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX) / SHARDS;
        let shard = || Mutex::new(Shard { units: LruCache::unbounded(), bytes: 0, limit });
        BlockCache { shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    fn shard(&self, key: &UnitKey) -> MutexGuard<'_, Shard> {
        let mixed = (key.file ^ key.stripe.wrapping_mul(31) ^ key.index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let shard = &self.shards[(mixed >> 60) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies blocks from byte `start` of a unit into `out`, when all of them are here.
    ///
    /// # Panics
    /// When `start` or the length is no multiple of a block.
    pub fn get(&self, key: &UnitKey, start: usize, out: &mut [u8]) -> bool {
        assert!(start.is_multiple_of(BLOCK_SIZE) && out.len().is_multiple_of(BLOCK_SIZE));
        let mut shard = self.shard(key);
        let Some(unit) = shard.units.get(key) else { return false };
        let first = start / BLOCK_SIZE;
        let blocks = &unit.blocks[first..first + out.len() / BLOCK_SIZE];
        if blocks.iter().any(Option::is_none) {
            return false;
        }
        for (block, out) in blocks.iter().flatten().zip(out.chunks_exact_mut(BLOCK_SIZE)) {
            out.copy_from_slice(&block[..]);
        }
        true
    }

    /// Keeps blocks that begin at byte `start` of a unit.
    ///
    /// # Panics
    /// When `start` or the length is no multiple of a block.
    pub fn put(&self, key: UnitKey, start: usize, bytes: &[u8]) {
        assert!(start.is_multiple_of(BLOCK_SIZE) && bytes.len().is_multiple_of(BLOCK_SIZE));
        let mut shard = self.shard(&key);
        let shard = &mut *shard;
        let unit = shard.units.get_or_insert_mut(key, Unit::default);
        let first = start / BLOCK_SIZE;
        for (slot, bytes) in unit.blocks[first..].iter_mut().zip(bytes.as_chunks::<BLOCK_SIZE>().0) {
            match slot {
                Some(block) => block.copy_from_slice(bytes),
                None => {
                    *slot = Some(Box::new(*bytes));
                    shard.bytes += BLOCK_SIZE;
                }
            }
        }
        while shard.bytes > shard.limit {
            let Some((_, evicted)) = shard.units.pop_lru() else { break };
            shard.bytes -= evicted.bytes();
        }
    }

    /// Forgets blocks `start..end` (bytes of the unit).
    pub fn forget(&self, key: &UnitKey, start: usize, end: usize) {
        let mut shard = self.shard(key);
        let shard = &mut *shard;
        let Some(unit) = shard.units.peek_mut(key) else { return };
        let range = start / BLOCK_SIZE..end.div_ceil(BLOCK_SIZE);
        shard.bytes -= unit.blocks[range].iter_mut().filter_map(Option::take).count() * BLOCK_SIZE;
        if unit.bytes() == 0 {
            shard.units.pop(key);
        }
    }

    /// Bytes of blocks held.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).bytes).sum()
    }
}

#[cfg(test)]
mod tests;
