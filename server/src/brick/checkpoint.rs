//! What waits in the log: found by object, taken back, put in place.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::{Arc, Mutex};

use net_raid_proto::ids::{Epoch, Generation, ObjectId, Timestamp, Transaction};
use net_raid_proto::limits::{BLOCK_SIZE, BLOCKS_PER_UNIT};
use net_raid_proto::message::{Fault, Kind, LogEntry, Logged, Reply};

use super::attr::reported_ctime;
use super::error::{Error, Result};
use super::log::Body;
use super::node::Node;
use super::object::Meta;
use super::records::RecordRun;
use super::waiting::{Entry, Overlay, Waiting, What};
use super::{Brick, lock};
use crate::disk::Disk;

/// Files that are synced one by one after a checkpoint; of more, the whole file system is.
const SYNCED_ONE_BY_ONE: usize = 8;
/// Parts in one page of the log: 16 bytes each, and less than 100 an entry, in a body of 64 KiB.
const PAGE_PARTS: usize = 1024;
const PAGE_ENTRIES: usize = 256;

impl<D: Disk> Brick<D> {
    /// What waits of a file.
    pub(super) fn waiting(&self, id: ObjectId) -> Option<Arc<Mutex<Waiting>>> {
        lock(&self.waiting).get(&id).cloned()
    }

    /// The same for a file of which something is to wait.
    pub(super) fn waiting_mut(&self, id: ObjectId) -> Arc<Mutex<Waiting>> {
        lock(&self.waiting).entry(id).or_default().clone()
    }

    /// The file of what waits is gone.
    pub(super) fn forget_waiting(&self, id: ObjectId) {
        if lock(&self.waiting).remove(&id).is_some() {
            self.unsynced_removal.store(true, Release);
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.all_waiting().iter().any(|(_, waiting)| !lock(waiting).entries.is_empty())
    }

    /// Generation of the newest that waits; 0 when nothing does.
    pub(super) fn newest_waiting(&self) -> Generation {
        let newest = |waiting: &Waiting| waiting.entries.iter().map(|entry| entry.generation).max();
        self.all_waiting().iter().filter_map(|(_, waiting)| newest(&lock(waiting))).max().unwrap_or_default()
    }

    fn all_waiting(&self) -> Vec<(ObjectId, Arc<Mutex<Waiting>>)> {
        lock(&self.waiting).iter().map(|(id, waiting)| (*id, waiting.clone())).collect()
    }

    /// Newest generation that all members have durably, and newest that is in place here.
    pub(super) fn completed(&self) -> (Generation, Generation) {
        // Not from the label: a request that holds `standing` may ask, and a writer of the label may wait for it.
        (Generation(self.completed.load(Acquire)), Generation(self.applied.load(Acquire)))
    }

    pub(super) fn append_log(
        &self,
        generation: Generation,
        body: &Body,
        data: &[&[u8]],
        urgent: bool,
    ) -> Result<(u64, u64)> {
        let (_, applied) = self.completed();
        self.areas()?.log.append(&self.disk, (generation, applied), body, data, urgent)
    }

    /// Says durably that a generation is complete everywhere, then puts it in place, then empties its log.
    ///
    /// The caller must not hold a guard of `standing`.
    pub(super) fn complete(&self, epoch: Epoch, generation: Generation) -> Result<Reply> {
        let _one = lock(&self.completing);
        if self.completed().0 < generation {
            // From here on what the log has of it is known to be decided, also after a power loss in the middle of the rest.
            self.change_label(epoch, |stored| {
                stored.label.complete = generation;
                Ok(())
            })?;
            self.completed.fetch_max(generation.0, AcqRel);
        }
        if self.completed().1 >= generation {
            return Ok(Reply::Done);
        }
        self.put_all_in_place(generation)?;
        self.change_label(epoch, |stored| {
            stored.applied = generation;
            Ok(())
        })?;
        self.finish(generation)?;
        Ok(Reply::Done)
    }

    fn put_all_in_place(&self, generation: Generation) -> Result<()> {
        let ends_here = |waiting: &Waiting| waiting.entries.iter().any(|entry| entry.generation <= generation);
        let mut all = self.all_waiting();
        all.retain(|(_, waiting)| ends_here(&lock(waiting)));
        let mut some = Vec::new();
        let count = all.len();
        for (id, waiting) in all {
            let Some(node) = self.logged_file(id)? else { continue };
            self.put_in_place(&node, &waiting, generation)?;
            if count <= SYNCED_ONE_BY_ONE {
                some.push(node);
            }
        }
        // A file that was removed has nothing in place: it must not come back once its log is emptied.
        let removal = self.unsynced_removal.swap(false, AcqRel);
        let synced = if removal || count > SYNCED_ONE_BY_ONE {
            self.disk.sync_fs().map_err(Error::from)
        } else {
            some.iter().try_for_each(|node| self.sync_in_place(node))
        };
        synced.map_err(|error| self.sync_failed(error))
    }

    fn sync_in_place(&self, node: &Node<D>) -> Result<()> {
        let side = node.state().side.clone();
        if let Some(side) = side {
            self.disk.sync_data(&side)?;
        }
        Ok(self.disk.sync_all(&node.handle)?)
    }

    /// Forgets what is in place, and empties its log.
    fn finish(&self, generation: Generation) -> Result<()> {
        let mut empty = Vec::new();
        for (id, waiting) in self.all_waiting() {
            let mut waiting = lock(&waiting);
            waiting.finish(generation);
            if waiting.entries.is_empty() {
                empty.push((id, waiting.released));
            }
        }
        for (id, released) in empty {
            self.drop_if_empty(id);
            if let Some(node) = self.cache.get(id).filter(|_| released) {
                self.settle(&node);
            }
        }
        self.applied.fetch_max(generation.0, AcqRel);
        Ok(self.areas()?.log.empty(&self.disk, generation)?)
    }

    /// A writer may have come by meanwhile: one that has the object's entry in hand adds to it.
    fn drop_if_empty(&self, id: ObjectId) {
        let mut all = lock(&self.waiting);
        let idle = |waiting: &Arc<Mutex<Waiting>>| Arc::strong_count(waiting) == 1 && lock(waiting).entries.is_empty();
        if all.get(&id).is_some_and(idle) {
            all.remove(&id);
        }
    }

    /// Bytes, then records, of what waits up to a generation.
    fn put_in_place(&self, node: &Node<D>, waiting: &Mutex<Waiting>, generation: Generation) -> Result<()> {
        let mut state = node.state_mut();
        self.check_side(node, &state)?;
        let (overlay, newest) = {
            let waiting = lock(waiting);
            let here = waiting.entries.iter().map(|entry| entry.generation).filter(|of| *of <= generation);
            (waiting.fold(generation, |unit| self.load_record(&state, unit))?, here.max().unwrap_or(generation))
        };
        let before = self.disk.stat(&node.handle)?;
        if !overlay.spots.is_empty() {
            self.note_times(&state.meta, before.mtime, newest)?;
        }
        self.put_bytes(node, &overlay, before.size)?;
        let mut runs: Vec<RecordRun> = Vec::new();
        for (unit, record) in overlay.records {
            match runs.last_mut() {
                Some(run) if run.unit + run.records.len() as u64 == unit => run.records.push(record),
                _ => runs.push(RecordRun { unit, records: vec![record] }),
            }
        }
        let mut meta = state.meta.clone();
        self.store_records(node, &mut state, &mut meta, &runs)?;
        self.put_meta(node, &mut state, meta)?;
        // The file has the mtime of its last write; putting bytes in place is none.
        self.disk.set_times(&node.handle, None, Some(before.mtime))?;
        Ok(())
    }

    /// Notes the times of a file whose bytes are about to change for nobody, in case that this is interrupted, in the log of a
    /// generation that is put in place.
    fn note_times(&self, meta: &Meta, mtime: Timestamp, generation: Generation) -> Result<()> {
        let (transaction, ctime) = (Transaction(0), reported_ctime(meta, mtime));
        let noted = self.append_log(generation, &Body::Times { transaction, id: meta.id, mtime, ctime }, &[], false);
        match noted {
            // A log that is full is being emptied here.
            Err(Error::Os(error)) if error.raw_os_error() == Some(libc::ENOSPC) => Ok(()),
            noted => noted.map(drop),
        }
    }

    /// The bytes of an overlay, as far as the file reaches: what was cut off is not wanted.
    fn put_bytes(&self, node: &Node<D>, overlay: &Overlay, len: u64) -> Result<()> {
        let log = &self.areas()?.log;
        let mut bytes = Vec::new();
        for (number, spot) in &overlay.spots {
            let offset = number * BLOCK_SIZE as u64;
            let reached = len.saturating_sub(offset).min(BLOCK_SIZE as u64) as usize;
            if reached == 0 {
                continue;
            }
            bytes.clear();
            log.read(&self.disk, spot.file, spot.at, reached.min(spot.stored as usize), &mut bytes)?;
            // A file that was cut here and has grown since may have its old bytes behind these after a power loss.
            bytes.resize(reached, 0);
            self.disk.write_at(&node.handle, &bytes, offset).map_err(|short| short.source)?;
        }
        Ok(())
    }

    /// The file of log records; `None` when it is gone, and then nothing of it waits any more.
    pub(super) fn logged_file(&self, id: ObjectId) -> Result<Option<Arc<Node<D>>>> {
        for walk in [None, Some(self.completed().1), Some(Generation(0))] {
            if let Some(since) = walk {
                self.look_for(id, since)?;
            }
            match self.node(id) {
                Err(Error::Fault(Fault::Unresolved(_))) => {}
                node => return node.map(Some),
            }
        }
        self.forget_waiting(id);
        Ok(None)
    }

    /// Looks for what waits, where the tree changed after a generation. A file with several names may have been written by
    /// one that is gone, so nothing is missing for certain before the whole tree was seen.
    fn look_for(&self, id: ObjectId, since: Generation) -> Result<()> {
        let wanted: HashSet<ObjectId> = lock(&self.waiting).keys().copied().chain([id]).collect();
        let mut directories = vec![ObjectId::ROOT];
        while let Some(at) = directories.pop() {
            let directory = self.directory(at)?;
            let mut cursor = 0;
            loop {
                let page = self.disk.read_dir(&directory.handle, cursor)?;
                let Some(last) = page.last() else { break };
                cursor = last.next;
                for item in &page {
                    let Some(child) = self.child(&directory, &item.name)? else { continue };
                    let is_directory = child.stat.kind == Kind::Directory;
                    if wanted.contains(&child.meta.id) || is_directory && child.meta.stamp > since {
                        self.seen(child.meta.id, at, &item.name);
                    }
                    if is_directory && child.meta.stamp > since {
                        directories.push(child.meta.id);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes writes back, durably.
    pub(super) fn abort(&self, transactions: &[Transaction]) -> Result<Reply> {
        let body = Body::Abort { transactions: transactions.to_vec() };
        let transactions: HashSet<Transaction> = transactions.iter().copied().collect();
        let is_aborted =
            |entry: &&Entry| transactions.contains(&entry.transaction) && matches!(entry.what, What::Write { .. });
        let mut touched = Vec::new();
        let mut generations: Vec<Generation> = Vec::new();
        for (id, waiting) in self.all_waiting() {
            let of_these: Vec<Generation> =
                lock(&waiting).entries.iter().filter(is_aborted).map(|entry| entry.generation).collect();
            if !of_these.is_empty() {
                generations.extend(of_these);
                touched.push((id, waiting));
            }
        }
        generations.sort_unstable();
        generations.dedup();
        for generation in generations {
            self.append_log(generation, &body, &[], true)?;
        }
        self.areas()?.log.sync(&self.disk).map_err(|error| self.sync_failed(error.into()))?;
        for (id, waiting) in touched {
            let Some(node) = self.logged_file(id)? else { continue };
            self.abort_in(&node, &waiting, &transactions)?;
        }
        Ok(Reply::Done)
    }

    fn abort_in(&self, node: &Node<D>, waiting: &Mutex<Waiting>, transactions: &HashSet<Transaction>) -> Result<()> {
        let state = node.state_mut();
        let mut waiting = lock(waiting);
        let fresh = waiting.abort(transactions);
        let overlay = waiting.overlay(|unit| self.load_record(&state, unit))?;
        let before = self.disk.stat(&node.handle)?;
        let mut holes: Vec<Range<u64>> = Vec::new();
        let mut last = None;
        for number in fresh {
            let unit = number / BLOCKS_PER_UNIT as u64;
            let record = match last.take().filter(|(of, _)| *of == unit) {
                Some((_, record)) => record,
                None => match overlay.records.get(&unit) {
                    Some(record) => record.clone(),
                    None => self.load_record(&state, unit)?,
                },
            };
            let hole = record.digests[(number % BLOCKS_PER_UNIT as u64) as usize] == net_raid_proto::ids::Digest::HOLE;
            last = Some((unit, record));
            if !hole || number * BLOCK_SIZE as u64 >= before.size {
                continue;
            }
            match holes.last_mut() {
                Some(last) if last.end == number => last.end += 1,
                _ => holes.push(number..number + 1),
            }
        }
        // Nobody reads them by their record, but a copy on level 1 is a file for everybody. One by one would take a minute a gigabyte.
        for Range { start, end } in holes {
            self.free_blocks(node, start * BLOCK_SIZE as u64, (end - start) * BLOCK_SIZE as u64)?;
        }
        self.disk.set_times(&node.handle, None, Some(before.mtime))?;
        Ok(())
    }

    /// One page of all writes and cuts that wait.
    pub(super) fn read_log(&self, cursor: u64) -> Result<Reply> {
        if cursor == 0 {
            self.all_waiting().into_iter().try_for_each(|(id, _)| self.finish_growth(id))?;
        }
        let mut all = Vec::new();
        for (id, waiting) in self.all_waiting() {
            let waiting = lock(&waiting);
            let order = |entry: &Entry| (entry.generation, entry.index);
            all.extend(waiting.entries.iter().filter_map(|entry| Some((order(entry), log_entry(id, entry)?))));
        }
        all.sort_by_key(|(order, _)| *order);
        let (mut entries, mut parts) = (Vec::new(), 0);
        let mut rest = all.into_iter().skip(cursor as usize).map(|(_, entry)| entry).peekable();
        while let Some(entry) = rest.next_if(|entry| {
            parts += if let Logged::Write { parts } = &entry.what { parts.len() } else { 0 };
            entries.is_empty() || parts <= PAGE_PARTS && entries.len() < PAGE_ENTRIES
        }) {
            entries.push(entry);
        }
        let next = rest.peek().map(|_| cursor + entries.len() as u64);
        Ok(Reply::Log { entries, next })
    }
}

/// `None` for what recovery makes equal without the log.
fn log_entry(id: ObjectId, entry: &Entry) -> Option<LogEntry> {
    let what = match &entry.what {
        What::Write { parts, .. } => Logged::Write { parts: parts.iter().map(|part| part.part).collect() },
        What::Truncate { size, brick_len } => Logged::Truncate { size: *size, brick_len: *brick_len },
        What::Punch { unit, count } => Logged::Punch { unit: *unit, count: *count },
        What::Extend { .. } | What::Times { .. } => return None,
    };
    Some(LogEntry {
        transaction: entry.transaction,
        generation: entry.generation,
        participants: entry.participants,
        id,
        what,
        whole: entry.whole,
    })
}
