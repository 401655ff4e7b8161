//! Bytes of files with their digests.

use net_raid_proto::ids::{Digest, Digests, ObjectId, Timestamp};
use net_raid_proto::limits::{BLOCK_SIZE, PARTS_MAX, PAYLOAD_MAX, UNIT_SIZE};
use net_raid_proto::message::{Part, PartRecord, Reply, WritePart};

use super::Brick;
use super::error::{Error, Result, errno, is_disk_failure};
use super::node::{Node, State};
use super::record::Record;
use super::records::RecordRun;
use crate::disk::Disk;

/// What a write changes beside the bytes.
pub(super) struct WriteMeta {
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) mode: Option<u32>,
    pub(super) now: Timestamp,
}

impl WriteMeta {
    /// Whether the ctime changes: not when a repair puts bytes back, or a kernel sends the times of its dirty pages later.
    fn sets_times(&self) -> bool {
        self.mtime.is_some() || self.mode.is_some()
    }
}

/// Consecutive bytes of a brick's file.
#[derive(Debug, Clone, Copy)]
struct Extent {
    offset: u64,
    /// Bytes of the payload.
    len: usize,
    /// Bytes that are in the file.
    stored: usize,
}

/// First byte of a part in the brick's file.
fn offset_of(part: &Part) -> u64 {
    part.unit * UNIT_SIZE as u64 + u64::from(part.offset)
}

fn blocks_of(part: &Part) -> std::ops::Range<usize> {
    let first = part.offset as usize / BLOCK_SIZE;
    first..first + part.len as usize / BLOCK_SIZE
}

/// Whether parts are whole blocks of one unit each, few enough, within what a file can have.
fn check_parts<'a>(parts: impl ExactSizeIterator<Item = &'a Part>) -> Result<usize> {
    let aligned = |bytes: u32| (bytes as usize).is_multiple_of(BLOCK_SIZE);
    let fits = |part: &Part| {
        let end = part.offset as usize + part.len as usize;
        let unit_max = i64::MAX as u64 / UNIT_SIZE as u64;
        part.len > 0 && aligned(part.offset) && aligned(part.len) && end <= UNIT_SIZE && part.unit < unit_max
    };
    let mut total = 0;
    if parts.len() > PARTS_MAX {
        return Err(errno(libc::EINVAL));
    }
    for part in parts {
        if !fits(part) {
            return Err(errno(libc::EINVAL));
        }
        total += part.len as usize;
    }
    if total > PAYLOAD_MAX { Err(errno(libc::EINVAL)) } else { Ok(total) }
}

/// Joins what is consecutive in the file and in the payload.
fn coalesce(pieces: impl Iterator<Item = Extent>) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    for piece in pieces {
        match extents.last_mut() {
            Some(last) if last.offset + last.len as u64 == piece.offset && last.stored == last.len => {
                last.stored += piece.stored;
                last.len += piece.len;
            }
            _ => extents.push(piece),
        }
    }
    extents
}

fn read_extents(parts: &[Part]) -> Vec<Extent> {
    let extent = |part: &Part| {
        let len = part.len as usize;
        Extent { offset: offset_of(part), len, stored: len }
    };
    coalesce(parts.iter().map(extent))
}

impl<D: Disk> Brick<D> {
    pub(super) fn read(&self, id: ObjectId, parts: &[Part], out: &mut Vec<u8>) -> Result<Reply> {
        let total = check_parts(parts.iter())?;
        let node = self.file(id)?;
        let state = node.state();
        out.reserve_exact(total);
        for extent in read_extents(parts) {
            self.read_extent(&node, extent, out)?;
        }
        Ok(Reply::Read(self.part_records(&state, parts)?))
    }

    fn read_extent(&self, node: &Node<D>, extent: Extent, out: &mut Vec<u8>) -> Result<()> {
        let end = out.len() + extent.len;
        let start = out.len();
        match self.disk.read_at(&node.handle, out, extent.len, extent.offset) {
            Ok(_) => {}
            Err(error) if is_disk_failure(&error) => {
                out.truncate(start);
                self.read_blocks(node, extent, out);
            }
            Err(error) => return Err(error.into()),
        }
        out.resize(end, 0);
        Ok(())
    }

    /// Reads block by block where the disk has bad sectors. What it cannot read stays zeros: their
    /// digest tells, and the block is repaired from the other bricks like any damaged one.
    fn read_blocks(&self, node: &Node<D>, extent: Extent, out: &mut Vec<u8>) {
        for at in (0..extent.len).step_by(BLOCK_SIZE) {
            let start = out.len();
            let offset = extent.offset + at as u64;
            if let Err(error) = self.disk.read_at(&node.handle, out, BLOCK_SIZE, offset) {
                tracing::error!(id = node.id.0, offset, %error, "block cannot be read");
                out.truncate(start);
            }
            out.resize(start + BLOCK_SIZE, 0);
        }
    }

    fn part_records(&self, state: &State<D>, parts: &[Part]) -> Result<Vec<PartRecord>> {
        let mut found = Vec::with_capacity(parts.len());
        let mut rest = parts;
        while let Some(first) = rest.first() {
            // Parts of the same or the next unit share one read of records.
            let joins = |pair: &[Part]| matches!(pair[1].unit.checked_sub(pair[0].unit), Some(0 | 1));
            let count = 1 + rest.windows(2).take_while(|pair| joins(pair)).count();
            let (run, behind) = rest.split_at(count);
            let units = (run[count - 1].unit - first.unit + 1) as usize;
            let records = self.load_records(state, first.unit, units)?;
            for part in run {
                let record = &records[(part.unit - first.unit) as usize];
                let digests = Digests(record.digests[blocks_of(part)].to_vec());
                found.push(PartRecord { generation: record.generation, digests });
            }
            rest = behind;
        }
        Ok(found)
    }

    /// Whether a read needs no disk.
    pub(super) fn is_cached(&self, id: ObjectId, parts: &[Part]) -> bool {
        let Some(node) = self.cache.get(id) else { return false };
        check_parts(parts.iter()).is_ok()
            && read_extents(parts).iter().all(|extent| self.disk.is_cached(&node.handle, extent.len, extent.offset))
    }

    /// Data first, then records, then the attribute. The write-ahead log will come before all three.
    pub(super) fn write(&self, id: ObjectId, meta: &WriteMeta, parts: &[WritePart], payload: &[u8]) -> Result<Reply> {
        check_write(parts, payload)?;
        self.stamp(id)?;
        let node = self.file(id)?;
        let mut state = node.state_mut();
        self.outdate(&node, &mut state)?;
        let mtime = self.mtime_after(&node, meta.mtime)?;
        self.reserve_records(&node, &mut state, parts)?;
        let outcome = self.write_data(&node, parts, payload);
        let written = outcome.as_ref().err().map_or(payload.len(), |(written, _)| *written);
        // Also after a failure: every block that did change must match its digest. One that was written in part (a local file
        // system of 1 KiB blocks is full in the middle of it) counts as not written: it stays the hole that it was.
        let after = WriteMeta { size: meta.size.filter(|_| outcome.is_ok()), ..*meta };
        if let Err(error) = self.write_records(&node, &mut state, parts, written, (&after, mtime)) {
            // The attribute, with a record in it, needs a place of its own when it is long.
            self.unwrite(&node, &state, parts)?;
            return Err(error);
        }
        outcome.map_err(|(_, error)| error)?;
        if let Some(mode) = meta.mode {
            self.set_mode_with(&node, &mut state, mode)?;
        }
        self.disk.set_times(&node.handle, None, Some(mtime))?;
        Ok(Reply::Done)
    }

    /// The mtime that a change of the file's bytes must leave: what is asked for, or as it is. The local file system
    /// would set the time of this machine.
    pub(super) fn mtime_after(&self, node: &Node<D>, asked: Option<Timestamp>) -> Result<Timestamp> {
        match asked {
            Some(mtime) => Ok(mtime),
            None => Ok(self.disk.stat(&node.handle)?.mtime),
        }
    }

    /// How many bytes of the payload were written, and why no more.
    fn write_data(
        &self,
        node: &Node<D>,
        parts: &[WritePart],
        payload: &[u8],
    ) -> std::result::Result<(), (usize, Error)> {
        let extent = |part: &WritePart| Extent {
            offset: offset_of(&part.part),
            len: part.part.len as usize,
            stored: part.stored as usize,
        };
        let mut at = 0;
        for extent in coalesce(parts.iter().map(extent)) {
            let stored = &payload[at..at + extent.stored];
            if let Err(short) = self.disk.write_at(&node.handle, stored, extent.offset) {
                return Err((at + short.written, short.source.into()));
            }
            at += extent.len;
        }
        Ok(())
    }

    /// Records of the first `written` bytes, and the size when it grows.
    fn write_records(
        &self,
        node: &Node<D>,
        state: &mut State<D>,
        parts: &[WritePart],
        written: usize,
        (after, mtime): (&WriteMeta, Timestamp),
    ) -> Result<()> {
        let runs = self.new_records(state, parts, written / BLOCK_SIZE)?;
        let mut meta = state.meta.clone();
        self.store_records(node, state, &mut meta, &runs)?;
        if let (Some(present), Some(size)) = (&mut meta.size, after.size) {
            *present = size.max(*present);
        }
        let follows = meta == state.meta && after.mtime == Some(after.now) && meta.follows_mtime(after.now);
        if after.sets_times() && !follows {
            meta.set_times(after.now, mtime);
        }
        self.put_meta(node, state, meta)
    }

    /// Makes holes again of those blocks of `parts` that were holes.
    fn unwrite(&self, node: &Node<D>, state: &State<D>, parts: &[WritePart]) -> Result<()> {
        for WritePart { part, .. } in parts {
            let record = self.load_record(state, part.unit)?;
            for block in blocks_of(part).filter(|block| record.digests[*block] == Digest::HOLE) {
                let offset = part.unit * UNIT_SIZE as u64 + (block * BLOCK_SIZE) as u64;
                self.disk.punch(&node.handle, offset, BLOCK_SIZE as u64)?;
            }
        }
        Ok(())
    }

    /// What the records of the units become with the first `blocks` blocks of the parts.
    fn new_records(&self, state: &State<D>, parts: &[WritePart], blocks: usize) -> Result<Vec<RecordRun>> {
        let generation = self.generation();
        let mut runs: Vec<RecordRun> = Vec::new();
        let mut left = blocks;
        for WritePart { part, digests, .. } in parts {
            let taken = digests.0.len().min(left);
            left -= taken;
            if taken == 0 {
                break;
            }
            let record = self.record_for(state, &mut runs, part.unit)?;
            record.generation = generation;
            record.digests[blocks_of(part).start..][..taken].copy_from_slice(&digests.0[..taken]);
        }
        Ok(runs)
    }

    /// The record of a unit among the new ones, or as it was.
    fn record_for<'a>(&self, state: &State<D>, runs: &'a mut Vec<RecordRun>, unit: u64) -> Result<&'a mut Record> {
        let place = |runs: &[RecordRun]| {
            runs.iter().position(|run| (run.unit..run.unit + run.records.len() as u64).contains(&unit))
        };
        if let Some(index) = place(runs) {
            let run = &mut runs[index];
            return Ok(&mut run.records[(unit - run.unit) as usize]);
        }
        let record = self.load_record(state, unit)?;
        if runs.last().is_none_or(|run| run.unit + run.records.len() as u64 != unit) {
            runs.push(RecordRun { unit, records: Vec::new() });
        }
        let records = &mut runs.last_mut().expect("one was pushed").records;
        records.push(record);
        Ok(records.last_mut().expect("one was pushed"))
    }
}

fn check_write(parts: &[WritePart], payload: &[u8]) -> Result<()> {
    let total = check_parts(parts.iter().map(|part| &part.part).collect::<Vec<_>>().into_iter())?;
    let right = |part: &WritePart| {
        let blocks = part.part.len as usize / BLOCK_SIZE;
        // A written block is no hole: its digest cannot be the one that says so.
        let digests = part.digests.0.len() == blocks && part.digests.0.iter().all(|digest| *digest != Digest::HOLE);
        digests && part.stored <= part.part.len
    };
    if total != payload.len() || !parts.iter().all(right) {
        return Err(errno(libc::EINVAL));
    }
    Ok(())
}
