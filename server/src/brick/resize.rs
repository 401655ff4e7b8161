//! Length and holes of files.

use net_raid_proto::ids::{Generation, ObjectId, Timestamp};
use net_raid_proto::limits::{BLOCK_SIZE, UNIT_SIZE};
use net_raid_proto::message::Reply;

use super::error::{Error, Result, errno};
use super::log::Body;
use super::node::{Node, State};
use super::object::Meta;
use super::records::RecordRun;
use super::waiting::{Entry, What, cut_of_len, cut_of_units};
use super::{Brick, Ticket, lock};
use crate::disk::Disk;

/// Most ranges of one answer to `Allocated`: 16 bytes each, far below a body's limit.
const RANGES_MAX: usize = 1024;

impl<D: Disk> Brick<D> {
    pub(super) fn truncate(
        &self,
        ticket: &Ticket,
        id: ObjectId,
        (size, brick_len): (u64, u64),
        (mtime, mode, now): (Option<Timestamp>, Option<u32>, Timestamp),
    ) -> Result<Reply> {
        if size > i64::MAX as u64 {
            return Err(errno(libc::EFBIG));
        }
        self.stamp(id)?;
        let node = self.file(id)?;
        let mut state = node.state_mut();
        self.check_side(&node, &state)?;
        self.outdate(&node, &mut state)?;
        let before = self.disk.stat(&node.handle)?;
        let (len, mtime_after) = (before.size, mtime.unwrap_or(before.mtime));
        // Where the length is the logical size it grows too; elsewhere nothing is needed beyond the units.
        let new_len = if state.meta.size.is_none() { size } else { len.min(brick_len) };
        let cut = new_len.min(brick_len);
        if cut >= len && size > state.meta.size.unwrap_or(len) {
            self.log_growth(ticket, id, state.meta.size.map(|_| size), new_len)?;
        } else {
            self.log_cut(ticket, id, What::Truncate { size, brick_len }, &cut_of_len(cut), cut < len)?;
        }
        if new_len != len {
            self.disk.truncate(&node.handle, new_len)?;
            state.unsynced = true;
        }
        let mut meta = state.meta.clone();
        if mtime.is_some() || mode.is_some() {
            meta.set_times(now, mtime_after);
        }
        if let Some(present) = &mut meta.size {
            *present = size;
        }
        let cut = self.cut_records(&node, &mut state, &mut meta, (new_len.min(brick_len), ticket.generation));
        cut.and_then(|()| self.put_meta(&node, &mut state, meta)).map_err(|error| self.cut_failed(error))?;
        self.finish_resize(&node, &mut state, mtime_after, mode)
    }

    /// Notes a cut before it is made. Writes before it do not count there any more.
    ///
    /// Every member that is asked notes it, also where nothing is cut: a later owner repeats it on members that lack it,
    /// and must not do so over what was written since.
    fn log_cut(
        &self,
        ticket: &Ticket,
        id: ObjectId,
        what: What,
        cut: &std::ops::Range<u64>,
        destroys: bool,
    ) -> Result<()> {
        let waiting = self.waiting_mut(id);
        let mut waiting = lock(&waiting);
        if ticket.resend && waiting.has(ticket.transaction) {
            return Ok(());
        }
        let (transaction, participants) = (ticket.transaction, ticket.participants);
        let body = match what {
            What::Punch { unit, count } => Body::Punch { transaction, participants, id, unit, count },
            What::Truncate { size, brick_len } => Body::Truncate { transaction, participants, id, size, brick_len },
            What::Write { .. } | What::Extend { .. } | What::Times { .. } => return Err(errno(libc::EINVAL)),
        };
        let (index, _) = self.append_log(ticket.generation, &body, &[], true)?;
        if destroys {
            // Of bytes that are gone nothing can be taken back, so a later owner must be able to repeat it elsewhere.
            self.areas()?.log.sync(&self.disk).map_err(|error| self.sync_failed(error.into()))?;
        }
        let generation = ticket.generation;
        let entry = Entry { transaction, generation, index, participants, what, whole: true };
        waiting.cut(entry, cut);
        Ok(())
    }

    /// Notes that a file grows, before it does.
    fn log_growth(&self, ticket: &Ticket, id: ObjectId, size: Option<u64>, len: u64) -> Result<()> {
        let waiting = self.waiting_mut(id);
        let mut waiting = lock(&waiting);
        let (transaction, generation) = (ticket.transaction, ticket.generation);
        let (index, _) = self.append_log(generation, &Body::Extend { transaction, id, size, len }, &[], false)?;
        let what = What::Extend { size, len };
        waiting.entries.push(Entry { transaction, generation, index, participants: 0, what, whole: true });
        Ok(())
    }

    /// Records in place are overwritten, which takes space on few file systems. Where there is none, the cut cannot be
    /// refused any more, because it is noted: the brick ends, and finishes the cut when it is opened again.
    fn cut_failed(&self, error: Error) -> Error {
        match error {
            Error::Os(error) => self.fail(&error).into(),
            fault => fault,
        }
    }

    /// Gives back the space of blocks that the log calls holes already. Where that would itself take space they keep
    /// theirs: without a digest nobody reads them.
    pub(super) fn free_blocks(&self, node: &Node<D>, offset: u64, len: u64) -> Result<()> {
        match self.disk.punch(&node.handle, offset, len) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Ok(()),
            punched => Ok(punched?),
        }
    }

    /// Makes every block that begins at `len` or behind it a hole.
    pub(super) fn cut_records(
        &self,
        node: &Node<D>,
        state: &mut State<D>,
        meta: &mut Meta,
        (len, generation): (u64, Generation),
    ) -> Result<()> {
        let (unit, blocks) = (len / UNIT_SIZE as u64, (len % UNIT_SIZE as u64).div_ceil(BLOCK_SIZE as u64) as usize);
        state.recent = None;
        if blocks == 0 {
            return self.blank_units(state, meta, unit..u64::MAX, generation);
        }
        let mut record = self.load_record(state, unit)?;
        if record.digests[blocks..].iter().any(super::locate::is_data) {
            record.generation = generation.max(record.generation);
            record.digests[blocks..].fill(net_raid_proto::ids::Digest::HOLE);
            self.store_records(node, state, meta, &[RecordRun { unit, records: vec![record] }])?;
        }
        self.blank_units(state, meta, unit + 1..u64::MAX, generation)
    }

    pub(super) fn punch(
        &self,
        ticket: &Ticket,
        id: ObjectId,
        (unit, count): (u64, u64),
        mtime: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Reply> {
        self.stamp(id)?;
        let node = self.file(id)?;
        let mut state = node.state_mut();
        self.check_side(&node, &state)?;
        self.outdate(&node, &mut state)?;
        let before = self.disk.stat(&node.handle)?;
        let (len, mtime_after) = (before.size, mtime.unwrap_or(before.mtime));
        let start = unit.saturating_mul(UNIT_SIZE as u64);
        let end = unit.saturating_add(count).saturating_mul(UNIT_SIZE as u64).min(len);
        self.log_cut(ticket, id, What::Punch { unit, count }, &cut_of_units(unit, count), start < end)?;
        if start < end {
            self.free_blocks(&node, start, end - start)?;
        }
        let mut meta = state.meta.clone();
        if mtime.is_some() {
            meta.set_times(now, mtime_after);
        }
        state.recent = None;
        let cut = self.blank_units(&mut state, &mut meta, unit..unit.saturating_add(count), ticket.generation);
        cut.and_then(|()| self.put_meta(&node, &mut state, meta)).map_err(|error| self.cut_failed(error))?;
        self.finish_resize(&node, &mut state, mtime_after, None)
    }

    pub(super) fn allocate(
        &self,
        ticket: &Ticket,
        id: ObjectId,
        size: Option<u64>,
        (offset, len): (u64, u64),
        keep_size: bool,
        now: Timestamp,
    ) -> Result<Reply> {
        self.stamp(id)?;
        let node = self.file(id)?;
        let mut state = node.state_mut();
        let before = self.disk.stat(&node.handle)?;
        if len > 0 {
            // The length follows when the log has it.
            self.disk.allocate(&node.handle, offset, len, true)?;
        }
        let end = if keep_size { 0 } else { offset.saturating_add(len) };
        let brick_len = before.size.max(end);
        let mut meta = state.meta.clone();
        if let (Some(present), Some(size)) = (&mut meta.size, size) {
            *present = size.max(*present);
        }
        if brick_len > before.size || meta != state.meta {
            self.log_growth(ticket, id, meta.size, brick_len)?;
        }
        if brick_len > before.size {
            self.disk.truncate(&node.handle, brick_len)?;
            state.unsynced = true;
        }
        self.disk.set_times(&node.handle, None, Some(before.mtime))?;
        meta.set_times(now, before.mtime);
        self.put_meta(&node, &mut state, meta)?;
        Ok(Reply::Done)
    }

    fn finish_resize(
        &self,
        node: &Node<D>,
        state: &mut State<D>,
        mtime: Timestamp,
        mode: Option<u32>,
    ) -> Result<Reply> {
        if let Some(mode) = mode {
            self.set_mode_with(node, state, mode)?;
        }
        self.disk.set_times(&node.handle, None, Some(mtime))?;
        Ok(Reply::Done)
    }

    pub(super) fn allocated(&self, id: ObjectId, unit: u64, count: u32) -> Result<Reply> {
        let node = self.file(id)?;
        let _state = node.state();
        let unit_size = UNIT_SIZE as u64;
        let end = unit.saturating_add(count.into()).saturating_mul(unit_size).min(i64::MAX as u64);
        let mut at = unit.saturating_mul(unit_size);
        let mut ranges = Vec::new();
        while at < end && ranges.len() < RANGES_MAX {
            match self.disk.next_data(&node.handle, at)?.filter(|(start, _)| *start < end) {
                Some((start, stop)) => {
                    ranges.push((start, stop.min(end)));
                    at = stop;
                }
                None => at = end,
            }
        }
        Ok(Reply::Ranges { ranges, more: at < end })
    }
}
