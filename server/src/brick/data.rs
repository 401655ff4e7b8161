//! Bytes of files with their digests.

use net_raid_proto::ids::{Digest, Digests, ObjectId, Timestamp};
use net_raid_proto::limits::{BLOCK_SIZE, PARTS_MAX, PAYLOAD_MAX, UNIT_SIZE};
use net_raid_proto::message::{Part, PartRecord, Reply, WritePart};

use super::error::{Result, errno, is_disk_failure};
use super::log::{Body, LoggedPart};
use super::node::{Node, State};
use super::record::Record;
use super::sabotage::{Sabotage, is_chosen};
use super::waiting::{Entry, Overlay, What, stored_of};
use super::{Brick, Ticket, lock};
use crate::disk::Disk;

/// Bytes of a file that are written before the disk is told to begin with them.
const KEPT_BACK_MAX: u64 = 8 << 20;

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
        self.check_side(&node, &state)?;
        out.reserve_exact(total);
        let start = out.len();
        for extent in read_extents(parts) {
            self.read_extent(&node, extent, out)?;
        }
        let waiting = self.waiting(id);
        let mut waiting = waiting.as_ref().map(|waiting| lock(waiting));
        let records = match waiting.as_deref_mut() {
            Some(waiting) => {
                let overlay = waiting.overlay(|unit| self.load_record(&state, unit))?;
                let records = self.part_records(&state, parts, Some(overlay))?;
                self.read_spots(overlay, parts, &mut out[start..])?;
                records
            }
            None => self.part_records(&state, parts, None)?,
        };
        // Whatever is in the file where nothing was written, or what was written was taken back, is not content.
        let digests = records.iter().flat_map(|record| &record.digests.0);
        for (block, _) in out[start..].chunks_mut(BLOCK_SIZE).zip(digests).filter(|(_, d)| **d == Digest::HOLE) {
            block.fill(0);
        }
        Ok(Reply::Read(records))
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

    /// Puts bytes that wait in the log over those of the file.
    fn read_spots(&self, overlay: &Overlay, parts: &[Part], out: &mut [u8]) -> Result<()> {
        if overlay.spots.is_empty() {
            return Ok(());
        }
        let log = &self.areas()?.log;
        let (mut at, mut bytes) = (0, Vec::new());
        for part in parts {
            let first = offset_of(part) / BLOCK_SIZE as u64;
            let count = u64::from(part.len) / BLOCK_SIZE as u64;
            for (number, spot) in overlay.spots.range(first..first + count) {
                let block = &mut out[at + (number - first) as usize * BLOCK_SIZE..][..BLOCK_SIZE];
                bytes.clear();
                log.read(&self.disk, spot.file, spot.at, spot.stored as usize, &mut bytes)?;
                block[..bytes.len()].copy_from_slice(&bytes);
                block[bytes.len()..].fill(0);
            }
            at += part.len as usize;
        }
        Ok(())
    }

    fn part_records(&self, state: &State<D>, parts: &[Part], overlay: Option<&Overlay>) -> Result<Vec<PartRecord>> {
        let mut found = Vec::with_capacity(parts.len());
        let mut rest = parts;
        while let Some(first) = rest.first() {
            // Parts of the same or the next unit share one read of records.
            let joins = |pair: &[Part]| matches!(pair[1].unit.checked_sub(pair[0].unit), Some(0 | 1));
            let count = 1 + rest.windows(2).take_while(|pair| joins(pair)).count();
            let (run, behind) = rest.split_at(count);
            let units = first.unit..run[count - 1].unit + 1;
            let known = |unit| overlay.and_then(|overlay| overlay.records.get(&unit));
            let in_place = match units.clone().all(|unit| known(unit).is_some()) {
                true => Vec::new(),
                false => self.load_records(state, first.unit, (units.end - units.start) as usize)?,
            };
            for part in run {
                let record = known(part.unit).unwrap_or_else(|| &in_place[(part.unit - first.unit) as usize]);
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

    /// Bytes of blocks that have none yet go into the file, others into the log, and the record that makes either count
    /// goes into the log. Records in place follow at the checkpoint.
    pub(super) fn write(
        &self,
        ticket: &Ticket,
        id: ObjectId,
        meta: &WriteMeta,
        parts: &[WritePart],
        payload: &[u8],
    ) -> Result<Reply> {
        check_write(parts, payload)?;
        self.stamp(id)?;
        let node = self.file(id)?;
        let mut state = node.state_mut();
        let waiting = self.waiting_mut(id);
        let mut waiting = lock(&waiting);
        let before = self.disk.stat(&node.handle)?;
        let mtime = meta.mtime.unwrap_or(before.mtime);
        if ticket.resend && waiting.has(ticket.transaction) {
            // A process that was killed may not have come as far as the size.
            self.write_meta(&node, &mut state, meta, mtime)?;
            return self.written();
        }
        self.check_side(&node, &state)?;
        self.outdate(&node, &mut state)?;
        self.reserve_records(&node, &mut state, parts)?;
        let overlay = waiting.overlay(|unit| self.load_record(&state, unit))?;
        let parts = self.logged_parts(&state, overlay, parts)?;
        let outcome = self.write_fresh(&node, before.size, &parts, payload).and_then(|fresh| {
            let end = parts.iter().map(|part| offset_of(&part.part) + u64::from(part.stored)).max().unwrap_or(0);
            if end > before.size && end > fresh {
                self.disk.truncate(&node.handle, end)?;
            }
            let body = Body::Write {
                transaction: ticket.transaction,
                participants: ticket.participants,
                id,
                size: meta.size,
                mtime,
                parts: parts.clone(),
            };
            let logged = logged_bytes(&parts, payload);
            let (index, data_at) = self.append_log(ticket.generation, &body, &logged, false)?;
            let in_log: usize = logged.iter().map(|bytes| bytes.len()).sum();
            Ok((index, data_at, fresh > 0 || end > before.size, payload.len() - in_log))
        });
        let (index, data_at, changed, in_file) = match outcome {
            Ok(done) => done,
            Err(error) => {
                // Blocks without a record are holes; the length must not tell of them either.
                self.disk.truncate(&node.handle, before.size)?;
                self.disk.set_times(&node.handle, None, Some(before.mtime))?;
                return Err(error);
            }
        };
        state.unsynced |= changed;
        self.begin_write_back(&node, &mut state, in_file as u64);
        let entry = Entry {
            transaction: ticket.transaction,
            generation: ticket.generation,
            index,
            participants: ticket.participants,
            what: What::Write { parts, data_at, size: meta.size, mtime },
            whole: true,
        };
        waiting.push(entry, |unit| self.load_record(&state, unit))?;
        self.write_meta(&node, &mut state, meta, mtime)?;
        self.written()
    }

    /// Has the disk begin with a file of which much was written, so that who syncs it waits for the rest only.
    fn begin_write_back(&self, node: &Node<D>, state: &mut State<D>, written: u64) {
        state.kept_back += written;
        if state.kept_back >= KEPT_BACK_MAX {
            state.kept_back = 0;
            self.disk.begin_write_back(&node.handle);
        }
    }

    fn written(&self) -> Result<Reply> {
        Ok(Reply::Written { logged: self.areas()?.log.len() })
    }

    /// Tells blocks that have content from those that have none.
    fn logged_parts(&self, state: &State<D>, overlay: &Overlay, parts: &[WritePart]) -> Result<Vec<LoggedPart>> {
        let mut known: Option<(u64, Record)> = None;
        let mut logged = Vec::with_capacity(parts.len());
        for WritePart { part, stored, digests } in parts {
            let record = match (overlay.records.get(&part.unit), &known) {
                (Some(record), _) => record,
                (None, Some((unit, _))) if *unit == part.unit => &known.as_ref().expect("it is some").1,
                (None, _) => &known.insert((part.unit, self.load_record(state, part.unit)?)).1,
            };
            let has_content = record.digests[blocks_of(part)]
                .iter()
                .map(|digest| *digest != Digest::HOLE && !is_chosen(Sabotage::ApplyEarly));
            let bits = has_content.enumerate().fold(0, |bits, (i, has)| bits | u16::from(has) << i);
            logged.push(LoggedPart { part: *part, stored: *stored, digests: digests.clone(), logged: bits });
        }
        Ok(logged)
    }

    /// Writes blocks that have no content yet into a file of `len` bytes; returns where the last ends, 0 when there is none.
    fn write_fresh(&self, node: &Node<D>, len: u64, parts: &[LoggedPart], payload: &[u8]) -> Result<u64> {
        let mut pieces = Vec::new();
        let mut at = 0;
        for LoggedPart { part, stored, digests, logged } in parts {
            for i in 0..digests.0.len() {
                if logged >> i & 1 == 0 {
                    let offset = offset_of(part) + (i * BLOCK_SIZE) as u64;
                    // What a power loss left there of a write that did not survive must not stay behind the new bytes.
                    let reached = len.saturating_sub(offset).min(BLOCK_SIZE as u64) as usize;
                    let stored = reached.max(stored_of(*stored, i) as usize);
                    let extent = Extent { offset, len: BLOCK_SIZE, stored };
                    pieces.push((at + i * BLOCK_SIZE, extent));
                }
            }
            at += part.len as usize;
        }
        let mut end = 0;
        let next = |(a, x): &(usize, Extent), (b, y): &(usize, Extent)| {
            a + BLOCK_SIZE == *b && x.offset + BLOCK_SIZE as u64 == y.offset && x.stored == BLOCK_SIZE
        };
        for run in pieces.chunk_by(next) {
            let (first, extent) = run[0];
            let stored: usize = run.iter().map(|(_, extent)| extent.stored).sum();
            let bytes = &payload[first..first + stored];
            self.disk.write_at(&node.handle, bytes, extent.offset).map_err(|short| short.source)?;
            end = end.max(extent.offset + stored as u64);
        }
        Ok(end)
    }

    /// The size when it grows, and times and mode.
    fn write_meta(&self, node: &Node<D>, state: &mut State<D>, after: &WriteMeta, mtime: Timestamp) -> Result<()> {
        let mut meta = state.meta.clone();
        if let (Some(present), Some(size)) = (&mut meta.size, after.size) {
            *present = size.max(*present);
        }
        let follows = meta == state.meta && after.mtime == Some(after.now) && meta.follows_mtime(after.now);
        if after.sets_times() && !follows {
            meta.set_times(after.now, mtime);
        }
        self.put_meta(node, state, meta)?;
        if let Some(mode) = after.mode {
            self.set_mode_with(node, state, mode)?;
        }
        self.disk.set_times(&node.handle, None, Some(mtime))?;
        Ok(())
    }
}

/// Bytes of a write that wait in the log.
fn logged_bytes<'a>(parts: &[LoggedPart], payload: &'a [u8]) -> Vec<&'a [u8]> {
    let mut bytes: Vec<&[u8]> = Vec::new();
    let mut at = 0;
    for LoggedPart { part, stored, digests, logged } in parts {
        for i in (0..digests.0.len()).filter(|i| logged >> i & 1 == 1) {
            let start = at + i * BLOCK_SIZE;
            bytes.push(&payload[start..start + stored_of(*stored, i) as usize]);
        }
        at += part.len as usize;
    }
    bytes
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
