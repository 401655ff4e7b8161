//! From the records of the log to what waits, when a brick is opened.

use std::collections::HashSet;

use md5::{Digest as _, Md5};
use net_raid_proto::ids::{Digest, Generation, ObjectId, Transaction};
use net_raid_proto::limits::{BLOCK_SIZE, UNIT_SIZE};

use super::error::{Error, Result, is_disk_failure};
use super::log::{Body, Found, LoggedPart};
use super::node::{Node, State};
use super::waiting::{Block, Entry, What, cut_of_len, cut_of_units};
use super::{Brick, OpenError, lock};
use crate::disk::Disk;

impl<D: Disk> Brick<D> {
    /// Takes over what the log holds. Where the machine was restarted meanwhile, the files lack what was not synced: cuts
    /// are repeated, and writes whose bytes are gone are noted as not whole.
    ///
    /// Generations up to `doubt` were in the log when an earlier restart was found, and may not be whole either.
    pub(super) fn replay(&self, found: Vec<Found>, doubt: Generation) -> std::result::Result<(), OpenError> {
        let aborted = aborted(&found);
        for Found { generation, index, body, data_at } in found {
            self.generation.fetch_max(generation.0, std::sync::atomic::Ordering::Relaxed);
            let (id, transaction, participants, what) = match body {
                Body::Abort { .. } => continue,
                Body::Write { transaction, id, size, parts, .. } if aborted.contains(&(generation, transaction)) => {
                    // As where nothing was restarted: the blocks are what they were, the length stays.
                    (id, transaction, 0, What::Extend { size, len: end_of(&parts) })
                }
                Body::Write { transaction, participants, id, size, mtime, parts } => {
                    (id, transaction, participants, What::Write { parts, data_at, size, mtime })
                }
                Body::Truncate { transaction, participants, id, size, brick_len } => {
                    (id, transaction, participants, What::Truncate { size, brick_len })
                }
                Body::Punch { transaction, participants, id, unit, count } => {
                    (id, transaction, participants, What::Punch { unit, count })
                }
                Body::Extend { transaction, id, size, len } => (id, transaction, 0, What::Extend { size, len }),
                Body::Times { transaction, id, mtime, ctime } => (id, transaction, 0, What::Times { mtime, ctime }),
            };
            let cut = match &what {
                What::Write { .. } | What::Extend { .. } | What::Times { .. } => None,
                What::Truncate { size, brick_len } => Some(cut_of_len(*size.min(brick_len))),
                What::Punch { unit, count } => Some(cut_of_units(*unit, *count)),
            };
            let entry = Entry { transaction, generation, index, participants, what, whole: true };
            let waiting = self.waiting_mut(id);
            let mut waiting = lock(&waiting);
            match cut {
                Some(cut) => waiting.cut(entry, &cut),
                None => waiting.entries.push(entry),
            }
        }
        let intact = self.intact.load(std::sync::atomic::Ordering::Relaxed);
        let ids: Vec<ObjectId> = lock(&self.waiting).keys().copied().collect();
        for id in ids {
            let mended = match intact {
                true => self.finish_cut(id).and_then(|()| self.finish_times(id)),
                false => self.mend_length(id),
            };
            let doubt = if intact { doubt } else { Generation(u64::MAX) };
            mended.and_then(|()| self.find_losses(id, doubt)).map_err(|error| match error {
                Error::Os(error) => OpenError::Os(error),
                Error::Fault(fault) => OpenError::Os(std::io::Error::other(fault.to_string())),
            })?;
        }
        Ok(())
    }

    /// Records in place change when a generation is put in place, and when a file is cut. Until that is durable, the log has
    /// what they change to. For a file that was just opened, before anybody else sees it.
    pub(super) fn mend_records(&self, id: ObjectId, state: &mut State<D>) -> Result<()> {
        let Some(waiting) = self.waiting(id) else { return Ok(()) };
        let units = lock(&waiting).units();
        units.into_iter().try_for_each(|(unit, generation)| self.mend_record(state, unit, generation))
    }

    /// A process that was killed may have noted a cut, and have made none of it, or a part. Only the last change of a file can
    /// be half done.
    fn finish_cut(&self, id: ObjectId) -> Result<()> {
        let last = self.waiting(id).and_then(|waiting| lock(&waiting).entries.last().cloned());
        let Some(entry) = last.filter(|entry| matches!(entry.what, What::Truncate { .. } | What::Punch { .. })) else {
            return Ok(());
        };
        let Some(node) = self.logged_file(id)? else { return Ok(()) };
        let mut state = node.state_mut();
        let before = self.disk.stat(&node.handle)?;
        if self.is_to_destroy(&node, &entry.what, before.size)? {
            // It may have been stopped before the record was durable. Where the bytes are gone it was not, and nobody has to wait for a
            // disk that is busy.
            self.areas()?.log.sync(&self.disk)?;
        }
        let mut meta = state.meta.clone();
        match entry.what {
            What::Truncate { size, brick_len } => {
                let cut = size.min(brick_len);
                if cut < before.size {
                    self.disk.truncate(&node.handle, cut)?;
                }
                meta.size = meta.size.map(|_| size);
                self.cut_records(&node, &mut state, &mut meta, (cut, entry.generation))?;
            }
            What::Punch { unit, count } => {
                let units = unit..unit.saturating_add(count);
                let (start, end) = (unit * UNIT_SIZE as u64, units.end.saturating_mul(UNIT_SIZE as u64));
                if start < before.size {
                    self.free_blocks(&node, start, end.min(before.size) - start)?;
                }
                self.blank_units(&mut state, &mut meta, units, entry.generation)?;
            }
            _ => {}
        }
        state.recent = None;
        self.put_meta(&node, &mut state, meta)?;
        self.disk.set_times(&node.handle, None, Some(before.mtime))?;
        Ok(())
    }

    /// Whether bytes are there that a cut takes, of a file of `len` bytes.
    fn is_to_destroy(&self, node: &Node<D>, cut: &What, len: u64) -> Result<bool> {
        match cut {
            What::Truncate { size, brick_len } => Ok(*size.min(brick_len) < len),
            What::Punch { unit, count } => {
                let bytes = |unit: u64| unit.saturating_mul(UNIT_SIZE as u64).min(len);
                let (start, end) = (bytes(*unit), bytes(unit.saturating_add(*count)));
                // Also those whose records are only in the log.
                Ok(start < end && self.disk.next_data(&node.handle, start)?.is_some_and(|(at, _)| at < end))
            }
            What::Write { .. } | What::Extend { .. } | What::Times { .. } => Ok(false),
        }
    }

    /// A process that was killed while it put bytes in place may have left the time of that.
    fn finish_times(&self, id: ObjectId) -> Result<()> {
        let (complete, _) = self.completed();
        let Some(waiting) = self.waiting(id) else { return Ok(()) };
        let times = {
            let waiting = lock(&waiting);
            waiting.times().filter(|_| waiting.entries.iter().any(|entry| entry.generation <= complete))
        };
        let Some((mtime, ctime)) = times else { return Ok(()) };
        let Some(node) = self.logged_file(id)? else { return Ok(()) };
        // A later change of the attributes has set the mtime of its time.
        if ctime >= node.state().meta.ctime {
            self.disk.set_times(&node.handle, None, Some(mtime))?;
        }
        Ok(())
    }

    /// The same for a change that lets a file grow: the log may tell of it where the size does not. An owner that is still
    /// there sends it again; a new one learns of it from the log.
    pub(super) fn finish_growth(&self, id: ObjectId) -> Result<()> {
        let last = self.waiting(id).and_then(|waiting| lock(&waiting).entries.last().cloned());
        let (grown, len) = match last.map(|entry| entry.what) {
            Some(What::Write { size: Some(size), .. }) => (Some(size), 0),
            Some(What::Extend { size, len }) => (size, len),
            _ => return Ok(()),
        };
        let Some(node) = self.logged_file(id)? else { return Ok(()) };
        let mut state = node.state_mut();
        let before = self.disk.stat(&node.handle)?;
        if len > before.size {
            self.disk.truncate(&node.handle, len)?;
            self.disk.set_times(&node.handle, None, Some(before.mtime))?;
        }
        let mut meta = state.meta.clone();
        meta.size = meta.size.map(|size| size.max(grown.unwrap_or(0)));
        self.put_meta(&node, &mut state, meta)
    }

    /// Notes which writes up to a generation are not whole.
    fn find_losses(&self, id: ObjectId, doubt: Generation) -> Result<()> {
        let (complete, _) = self.completed();
        let Some(waiting) = self.waiting(id).filter(|_| doubt > complete) else { return Ok(()) };
        let Some(node) = self.logged_file(id)? else { return Ok(()) };
        let mut waiting = lock(&waiting);
        let mut cuts: Vec<u64> = Vec::new();
        for entry in waiting.entries.iter_mut().rev() {
            // What is complete was durable before: where it is not whole it is damaged, and repaired like anything damaged.
            if entry.generation > complete && entry.generation <= doubt {
                entry.whole = self.is_whole(&node, entry, &cuts)?;
            }
            if let What::Truncate { size, brick_len } = entry.what {
                cuts.push(size.min(brick_len));
            }
        }
        Ok(())
    }

    /// Cuts and extends as the log says. Records of cut blocks become holes; bytes behind a cut may be those of later writes.
    fn mend_length(&self, id: ObjectId) -> Result<()> {
        let Some(node) = self.logged_file(id)? else { return Ok(()) };
        // The log may be durable where the stamps of its changes are not.
        self.stamp(id)?;
        let Some(waiting) = self.waiting(id) else { return Ok(()) };
        let mut state = node.state_mut();
        let (node, state, waiting) = (&*node, &mut *state, lock(&waiting));
        let before = self.disk.stat(&node.handle)?;
        let (mut len, mut size, mut cut) = (before.size, state.meta.size, false);
        let mut meta = state.meta.clone();
        let level1 = state.meta.size.is_none();
        for entry in &waiting.entries {
            match &entry.what {
                What::Write { parts, size: grown, .. } => {
                    // Also of blocks that were punched since: that leaves the length.
                    len = len.max(end_of(parts));
                    size = size.map(|size| size.max(grown.unwrap_or(0)));
                }
                What::Truncate { size: to, brick_len } => {
                    let to_len = if level1 { *to } else { len.min(*brick_len) };
                    self.cut_records(node, state, &mut meta, (to_len.min(*brick_len), entry.generation))?;
                    (len, cut) = (to_len, true);
                    size = size.map(|_| *to);
                }
                What::Extend { size: grown, len: to_len } => {
                    len = len.max(*to_len);
                    size = size.map(|size| size.max(grown.unwrap_or(0)));
                }
                What::Times { .. } => {}
                What::Punch { unit, count } => {
                    let units = *unit..unit.saturating_add(*count);
                    self.blank_units(state, &mut meta, units, entry.generation)?;
                    state.recent = None;
                }
            }
        }
        if len > before.size || cut && len != before.size {
            self.disk.truncate(&node.handle, len)?;
        }
        meta.size = size;
        // A later change of the attributes is durable with the mtime of its time.
        let times = waiting.times().filter(|(_, ctime)| *ctime >= state.meta.ctime);
        if let Some((mtime, ctime)) = times {
            meta.set_times(ctime, mtime);
        }
        self.put_meta(node, state, meta)?;
        self.disk.set_times(&node.handle, None, Some(times.map_or(before.mtime, |(mtime, _)| mtime)))?;
        Ok(())
    }

    /// Whether the bytes that a write put into the file are there, where none of the later `cuts` took some. Bytes in the log
    /// were checked when it was read.
    fn is_whole(&self, node: &Node<D>, entry: &Entry, cuts: &[u64]) -> Result<bool> {
        let mut bytes = Vec::new();
        // What is left of a block that was cut was logged before the cut. A cut behind what the block stores took none of it, such
        // as one that takes back what a failed write left beyond the end: nothing was made durable before that.
        let is_cut = |block: &Block| {
            let start = block.number * BLOCK_SIZE as u64;
            cuts.iter().any(|cut| (start..start + u64::from(block.stored)).contains(cut))
        };
        for block in entry.blocks().into_iter().filter(|block| block.spot.is_none() && !is_cut(block)) {
            bytes.clear();
            match self.disk.read_at(&node.handle, &mut bytes, BLOCK_SIZE, block.number * BLOCK_SIZE as u64) {
                // A bad sector costs a write, not the brick.
                Err(error) if is_disk_failure(&error) => return Ok(false),
                read => read?,
            };
            bytes.truncate(block.stored as usize);
            bytes.resize(BLOCK_SIZE, 0);
            if Digest(Md5::digest(&bytes).into()) != block.digest {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Where the last byte of a write ends in the file.
fn end_of(parts: &[LoggedPart]) -> u64 {
    let end = |LoggedPart { part, stored, .. }: &LoggedPart| {
        part.unit * UNIT_SIZE as u64 + u64::from(part.offset) + u64::from(*stored)
    };
    parts.iter().map(end).max().unwrap_or(0)
}

/// Writes that were taken back.
fn aborted(found: &[Found]) -> HashSet<(Generation, Transaction)> {
    let mut aborted = HashSet::new();
    for record in found {
        if let Body::Abort { transactions } = &record.body {
            aborted.extend(transactions.iter().map(|transaction| (record.generation, *transaction)));
        }
    }
    aborted
}
