//! What waits of one file: the writes and cuts of its log records, and what its blocks are with them. No I/O.
//!
//! Records in the file's own place change only when a generation is put in place, or cut. Until then the newest digest of a
//! block, and where its bytes are, are here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use net_raid_proto::ids::{Digest, Generation, Timestamp, Transaction};
use net_raid_proto::limits::{BLOCK_SIZE, BLOCKS_PER_UNIT, UNIT_SIZE};

use super::log::{LoggedPart, file_of};
use super::record::Record;

/// Bytes of a block that wait in a log file; zeros follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) file: usize,
    pub(super) at: u64,
    pub(super) stored: u32,
}

/// A record of the log.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) transaction: Transaction,
    pub(super) generation: Generation,
    /// Its place among the records of its generation.
    pub(super) index: u64,
    pub(super) participants: u16,
    pub(super) what: What,
    /// All of its bytes are here.
    pub(super) whole: bool,
}

/// What an entry does.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// Blocks that were cut since have no digest any more.
    Write {
        parts: Vec<LoggedPart>,
        data_at: u64,
        size: Option<u64>,
        mtime: Timestamp,
    },
    Truncate {
        size: u64,
        brick_len: u64,
    },
    Punch {
        unit: u64,
        count: u64,
    },
    Extend {
        size: Option<u64>,
        len: u64,
    },
    Times {
        mtime: Timestamp,
        ctime: Timestamp,
    },
}

/// A block of a write.
pub(super) struct Block {
    /// Number in the file.
    pub(super) number: u64,
    pub(super) digest: Digest,
    /// Where its bytes are when they are not in the file.
    pub(super) spot: Option<Spot>,
    /// Bytes of it that are stored.
    pub(super) stored: u32,
}

impl Entry {
    /// Blocks of a write that still count.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let What::Write { parts, data_at, .. } = &self.what else { return Vec::new() };
        let mut blocks = Vec::new();
        let mut at = *data_at;
        for LoggedPart { part, stored, digests, logged } in parts {
            let first = part.unit * BLOCKS_PER_UNIT as u64 + u64::from(part.offset) / BLOCK_SIZE as u64;
            for (i, digest) in digests.0.iter().enumerate() {
                let stored = stored_of(*stored, i);
                let spot = (logged >> i & 1 == 1).then_some(Spot { file: file_of(self.generation), at, stored });
                at += spot.map_or(0, |_| u64::from(stored));
                if *digest != Digest::HOLE {
                    blocks.push(Block { number: first + i as u64, digest: *digest, spot, stored });
                }
            }
        }
        blocks
    }

    /// Blocks that a cut made holes.
    fn cut(&self) -> Option<Range<u64>> {
        match &self.what {
            What::Truncate { size, brick_len } => Some(cut_of_len(*size.min(brick_len))),
            What::Punch { unit, count } => Some(cut_of_units(*unit, *count)),
            _ => None,
        }
    }

    fn void(&mut self, cut: &Range<u64>) {
        let What::Write { parts, .. } = &mut self.what else { return };
        for LoggedPart { part, digests, .. } in parts {
            let first = part.unit * BLOCKS_PER_UNIT as u64 + u64::from(part.offset) / BLOCK_SIZE as u64;
            for (i, digest) in digests.0.iter_mut().enumerate() {
                if cut.contains(&(first + i as u64)) {
                    *digest = Digest::HOLE;
                }
            }
        }
    }
}

/// Bytes that block `i` of a part stores, of `stored` in all.
pub(super) fn stored_of(stored: u32, i: usize) -> u32 {
    stored.saturating_sub((i * BLOCK_SIZE) as u32).min(BLOCK_SIZE as u32)
}

/// Records and spots that differ from what is in place.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Overlay {
    pub(super) records: BTreeMap<u64, Record>,
    pub(super) spots: BTreeMap<u64, Spot>,
}

impl Overlay {
    /// Adds an entry; `place` knows the records in place. Of what was cut, writes before have no digest any more: a cut only says when
    /// that was.
    pub(super) fn add<E>(&mut self, entry: &Entry, mut place: impl FnMut(u64) -> Result<Record, E>) -> Result<(), E> {
        if let Some(cut) = entry.cut() {
            self.void(&cut, entry.generation);
        }
        for block in entry.blocks() {
            let unit = block.number / BLOCKS_PER_UNIT as u64;
            let record = match self.records.entry(unit) {
                std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => free.insert(place(unit)?),
            };
            record.generation = record.generation.max(entry.generation);
            record.digests[(block.number % BLOCKS_PER_UNIT as u64) as usize] = block.digest;
            match block.spot {
                Some(spot) => self.spots.insert(block.number, spot),
                None => self.spots.remove(&block.number),
            };
        }
        Ok(())
    }

    fn void(&mut self, cut: &Range<u64>, generation: Generation) {
        let units = cut.start / BLOCKS_PER_UNIT as u64..=cut.end.saturating_sub(1) / BLOCKS_PER_UNIT as u64;
        for (unit, record) in self.records.range_mut(units) {
            for (i, digest) in record.digests.iter_mut().enumerate() {
                if cut.contains(&(unit * BLOCKS_PER_UNIT as u64 + i as u64)) {
                    *digest = Digest::HOLE;
                    record.generation = record.generation.max(generation);
                }
            }
        }
        let voided: Vec<u64> = self.spots.range(cut.clone()).map(|(number, _)| *number).collect();
        for number in voided {
            self.spots.remove(&number);
        }
    }
}

/// What waits of one file.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// In the order of the log.
    pub(super) entries: Vec<Entry>,
    /// `None` until somebody needs it.
    overlay: Option<Overlay>,
    /// The last handle was closed since.
    pub(super) released: bool,
}

impl Waiting {
    pub(super) fn has(&self, transaction: Transaction) -> bool {
        self.entries.iter().rev().any(|entry| entry.transaction == transaction)
    }

    /// The overlay of all entries.
    pub(super) fn overlay<E>(&mut self, mut place: impl FnMut(u64) -> Result<Record, E>) -> Result<&Overlay, E> {
        if self.overlay.is_none() {
            let mut overlay = Overlay::default();
            for entry in &self.entries {
                overlay.add(entry, &mut place)?;
            }
            self.overlay = Some(overlay);
        }
        Ok(self.overlay.get_or_insert_default())
    }

    /// What entries up to a generation make of the blocks that they touch.
    pub(super) fn fold<E>(
        &self,
        generation: Generation,
        mut place: impl FnMut(u64) -> Result<Record, E>,
    ) -> Result<Overlay, E> {
        let mut overlay = Overlay::default();
        for entry in self.entries.iter().filter(|entry| entry.generation <= generation) {
            overlay.add(entry, &mut place)?;
        }
        Ok(overlay)
    }

    /// The mtime and ctime that the file has after these entries.
    pub(super) fn times(&self) -> Option<(Timestamp, Timestamp)> {
        self.entries.iter().fold(None, |times, entry| match &entry.what {
            What::Write { mtime, .. } => Some((*mtime, times.map_or(*mtime, |(_, ctime)| ctime.max(*mtime)))),
            What::Times { mtime, ctime } => Some((*mtime, *ctime)),
            _ => times,
        })
    }

    /// Units whose records an entry changes, not only to holes, each with the newest generation that does.
    pub(super) fn units(&self) -> BTreeMap<u64, Generation> {
        let mut units = BTreeMap::new();
        for entry in &self.entries {
            let touched: Vec<u64> = match &entry.what {
                What::Write { parts, .. } => parts.iter().map(|part| part.part.unit).collect(),
                What::Truncate { size, brick_len } => vec![*size.min(brick_len) / UNIT_SIZE as u64],
                What::Punch { .. } | What::Extend { .. } | What::Times { .. } => Vec::new(),
            };
            for unit in touched {
                let newest = units.entry(unit).or_insert(entry.generation);
                *newest = entry.generation.max(*newest);
            }
        }
        units
    }

    /// Adds the newest entry of a write.
    pub(super) fn push<E>(&mut self, entry: Entry, place: impl FnMut(u64) -> Result<Record, E>) -> Result<(), E> {
        self.released = false;
        if let Some(overlay) = &mut self.overlay {
            overlay.add(&entry, place)?;
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Adds a cut of blocks: writes before it do not count there any more, in whatever generation they are.
    pub(super) fn cut(&mut self, entry: Entry, cut: &Range<u64>) {
        self.entries.iter_mut().for_each(|entry| entry.void(cut));
        if let Some(overlay) = &mut self.overlay {
            overlay.void(cut, entry.generation);
        }
        self.entries.push(entry);
    }

    /// Takes writes out; returns the blocks whose bytes they left in the file, in ascending order.
    pub(super) fn abort(&mut self, transactions: &HashSet<Transaction>) -> BTreeSet<u64> {
        let is_aborted =
            |entry: &Entry| transactions.contains(&entry.transaction) && matches!(entry.what, What::Write { .. });
        let (aborted, kept): (Vec<Entry>, Vec<Entry>) = self.entries.drain(..).partition(is_aborted);
        self.entries = kept;
        self.overlay = None;
        let fresh = aborted.iter().flat_map(Entry::blocks).filter(|block| block.spot.is_none());
        fresh.map(|block| block.number).collect()
    }

    /// Forgets what is in place now.
    pub(super) fn finish(&mut self, generation: Generation) {
        self.entries.retain(|entry| entry.generation > generation);
        self.overlay = None;
    }
}

/// Blocks that a truncation to `len` bytes makes holes.
pub(super) fn cut_of_len(len: u64) -> Range<u64> {
    len.div_ceil(BLOCK_SIZE as u64)..u64::MAX
}

/// Blocks of units.
pub(super) fn cut_of_units(unit: u64, count: u64) -> Range<u64> {
    unit.saturating_mul(BLOCKS_PER_UNIT as u64)..unit.saturating_add(count).saturating_mul(BLOCKS_PER_UNIT as u64)
}
