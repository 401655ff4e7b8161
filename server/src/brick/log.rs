//! The log: what waits for a checkpoint. Two files, one a generation in turn. See docs/on-disk.md.
//!
//! Records are appended, checked by their own checksums when they are read again, and never changed. A file is emptied by
//! being used anew for a later generation: records of an earlier one behind the new ones do not belong to it, and count as none.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use net_raid_proto::codec;
use net_raid_proto::ids::{Digests, Generation, Name, ObjectId, Timestamp, Transaction};
use net_raid_proto::limits::{BODY_MAX, PAYLOAD_MAX};
use net_raid_proto::message::{Fault, Part};

use super::OpenError;
use super::error::{Result, is_disk_failure};
use super::label::internal;
use super::sabotage::{Sabotage, is_chosen};
use crate::disk::Disk;

/// Format of records. The header stays as it is for ever, so that a newer record is told from a torn one.
pub(super) const LOG_FORMAT: u16 = 1;
/// Bytes before a record's body.
const HEADER_LEN: usize = 32;
/// Generations that can be open beyond what is in place: a recovery that was interrupted adds one to those of its owner.
const OPEN_MAX: u64 = 8;
/// Bytes that are searched at once for records behind a damaged one.
const SEARCH_STEP: usize = 64 * 1024;
/// Room that each file has from the start: a full disk still takes overwrites of what is there.
const ROOM_MIN: u64 = 2 * 1024 * 1024;
/// By how much a file grows.
const ROOM_STEP: u64 = 1024 * 1024;
/// A file that grew beyond this is cut when it is emptied.
const ROOM_KEPT: u64 = 64 * 1024 * 1024;
/// Room that only cuts and aborts may use, so that a full disk does not keep a brick from taking back what others lack.
const RESERVE: u64 = 64 * 1024;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Body {
    /// A write. Its data are the bytes of the blocks that `logged` names.
    Write {
        transaction: Transaction,
        participants: u16,
        id: ObjectId,
        /// Logical size after it, when it grows.
        size: Option<u64>,
        /// The mtime that the file had after it.
        mtime: Timestamp,
        parts: Vec<LoggedPart>,
    },
    /// A cut of the file; durable before bytes go.
    Truncate { transaction: Transaction, participants: u16, id: ObjectId, size: u64, brick_len: u64 },
    /// Units that become holes; durable before bytes go.
    Punch { transaction: Transaction, participants: u16, id: ObjectId, unit: u64, count: u64 },
    /// A file that grows without a write: cuts of the same generation are believed, so what follows them must be known.
    /// `size` where the length is not the size.
    Extend { transaction: Transaction, id: ObjectId, size: Option<u64>, len: u64 },
    /// The times of a file, as a kernel sends them before it asks for a sync: so that the log's is all that this takes.
    Times { transaction: Transaction, id: ObjectId, mtime: Timestamp, ctime: Timestamp },
    /// Writes of the same generation that count as never made.
    Abort { transactions: Vec<Transaction> },
}

/// A part of a write.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct LoggedPart {
    pub(super) part: Part,
    pub(super) stored: u32,
    pub(super) digests: Digests,
    /// Blocks of the part, one bit each, whose bytes are in the log; those of the others are in the file.
    pub(super) logged: u16,
}

/// A record that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) generation: Generation,
    pub(super) index: u64,
    pub(super) body: Body,
    /// Where its data begin in its file.
    pub(super) data_at: u64,
}

/// End of what a file holds.
#[derive(Debug, Default)]
struct Tail {
    /// Generation of its records.
    generation: Generation,
    /// Number of its records.
    index: u64,
    end: u64,
    /// Bytes that are allocated.
    room: u64,
    buffer: Vec<u8>,
}

struct LogFile<D: Disk> {
    /// Another one after somebody removed the file. Lock order: behind `tail`.
    handle: RwLock<Arc<D::Handle>>,
    tail: Mutex<Tail>,
    /// Counts appends, and those that are durable.
    appended: AtomicU64,
    durable: AtomicU64,
}

impl<D: Disk> LogFile<D> {
    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("no holder panics")
    }

    fn handle(&self) -> Arc<D::Handle> {
        self.handle.read().expect("no holder panics").clone()
    }

    /// Whether all records that wait can be read from what has the file's name.
    fn is_whole(&self, disk: &D, named: &D::Handle) -> io::Result<bool> {
        let (generation, mut index, mut at) = (self.tail().generation, 0, 0);
        // Appends go on meanwhile; and where the file is emptied, nothing waits any more.
        let waits = |at: u64| {
            let tail = self.tail();
            tail.generation == generation && at < tail.end
        };
        while waits(at) {
            let record = match read_record(disk, named, at) {
                Err(error) if is_disk_failure(&error) => None,
                record => record?.filter(|record| (record.generation, record.index) == (generation, index)),
            };
            let Some(record) = record else { return Ok(!waits(at)) };
            (at, index) = (record.end(), index + 1);
        }
        Ok(true)
    }

    /// Makes the file as it was when it was last emptied. `false` where something waits in it.
    fn make_anew(&self, disk: &D, area: &D::Handle, name: &Name) -> io::Result<bool> {
        let mut tail = self.tail();
        if tail.end > 0 {
            return Ok(false);
        }
        match disk.unlink(area, name) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
        let file = disk.create(area, name, 0o600)?;
        disk.allocate(&file, 0, ROOM_MIN, false)?;
        disk.sync_all(&file)?;
        disk.sync_all(area)?;
        *self.handle.write().expect("no holder panics") = Arc::new(file);
        tail.room = ROOM_MIN;
        Ok(true)
    }
}

/// What was found of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// All that waits can be read.
    Whole,
    /// Nothing waits, and it was made anew.
    Mended,
    /// Something waits that can only be put in place.
    Damaged,
}

/// The two files.
pub(super) struct Log<D: Disk> {
    files: [LogFile<D>; 2],
}

fn file_name(number: usize) -> Name {
    internal(&format!("log.{number}"))
}

/// Index of the file of a generation.
pub(super) fn file_of(generation: Generation) -> usize {
    (generation.0 % 2) as usize
}

impl<D: Disk> Log<D> {
    /// Opens the files, makes what is missing of them.
    pub(super) fn open(disk: &D, area: &D::Handle) -> io::Result<Log<D>> {
        let open = |number: usize| -> io::Result<LogFile<D>> {
            let name = file_name(number);
            let (handle, room) = match disk.open(area, &[&name]) {
                Ok((handle, stat)) => (handle, stat.size),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => (disk.create(area, &name, 0o600)?, 0),
                Err(error) => return Err(error),
            };
            let tail = Mutex::new(Tail { room, ..Tail::default() });
            // What was found may have been written just before a restart.
            let handle = RwLock::new(Arc::new(handle));
            Ok(LogFile { handle, tail, appended: AtomicU64::new(1), durable: AtomicU64::new(0) })
        };
        Ok(Log { files: [open(0)?, open(1)?] })
    }

    /// Takes the room that the files have at least.
    pub(super) fn make_room(&self, disk: &D) -> io::Result<()> {
        for file in &self.files {
            let mut tail = file.tail();
            if tail.room < ROOM_MIN {
                disk.allocate(&file.handle(), 0, ROOM_MIN, false)?;
                tail.room = ROOM_MIN;
            }
        }
        Ok(())
    }

    /// Reads what the files hold of generations after `applied`, in order.
    ///
    /// # Errors
    /// Beside those of the disk: records of a newer format; and, when `intact` says that nothing that was written can be
    /// lost, a record that is damaged in the middle. (Otherwise the log just ends where the power went.)
    pub(super) fn load(
        &self,
        disk: &D,
        applied: Generation,
        intact: bool,
    ) -> std::result::Result<Vec<Found>, OpenError> {
        let mut found = Vec::new();
        for (number, file) in self.files.iter().enumerate() {
            let mut tail = file.tail();
            while let Some(record) = read_record(disk, &file.handle(), tail.end)? {
                if tail.index == 0 {
                    tail.generation = record.generation;
                }
                if (record.generation, record.index) != (tail.generation, tail.index) || record.generation <= applied {
                    break;
                }
                found.push(Found {
                    generation: record.generation,
                    index: record.index,
                    body: record.body()?,
                    data_at: record.data_at,
                });
                (tail.index, tail.end) = (record.index + 1, record.end());
            }
            let mut from = tail.end;
            while let Some(at) = follower(disk, file, (&tail, from), applied, intact)? {
                if intact {
                    return Err(OpenError::LogDamaged { file: number, record: tail.index });
                }
                // Behind new records of the same generation it must not count again.
                disk.write_at(&file.handle(), &[0; HEADER_LEN], at).map_err(|short| short.source)?;
                from = at + 1;
            }
        }
        found.sort_by_key(|record| (record.generation, record.index));
        Ok(found)
    }

    /// Appends a record; returns its index and where its data are. Survives the process, not the machine: see [`Log::sync`].
    ///
    /// Only cuts and aborts are `urgent`, which a full log must not hinder. `applied` is the last generation whose file may be used anew.
    pub(super) fn append(
        &self,
        disk: &D,
        (generation, applied): (Generation, Generation),
        body: &Body,
        data: &[&[u8]],
        urgent: bool,
    ) -> Result<(u64, u64)> {
        let file = &self.files[file_of(generation)];
        let mut tail = file.tail();
        if tail.generation != generation && tail.end > 0 {
            if tail.generation > applied {
                return Err(Fault::Refused(format!("generation {} waits in the log", tail.generation)).into());
            }
            (tail.index, tail.end) = (0, 0);
        }
        let (index, at) = (tail.index, tail.end);
        let mut buffer = std::mem::take(&mut tail.buffer);
        buffer.clear();
        buffer.resize(HEADER_LEN, 0);
        let encoded = codec::encode(body, BODY_MAX, &mut buffer);
        encoded.map_err(|_| super::error::errno(libc::E2BIG))?;
        let body_len = buffer.len() - HEADER_LEN;
        data.iter().for_each(|bytes| buffer.extend_from_slice(bytes));
        let data_len = buffer.len() - HEADER_LEN - body_len;
        buffer[4..8].copy_from_slice(&(body_len as u32).to_le_bytes());
        buffer[8..12].copy_from_slice(&(data_len as u32).to_le_bytes());
        buffer[12..14].copy_from_slice(&LOG_FORMAT.to_le_bytes());
        buffer[16..24].copy_from_slice(&generation.0.to_le_bytes());
        buffer[24..32].copy_from_slice(&index.to_le_bytes());
        let crc = crc32c::crc32c(&buffer[4..]);
        buffer[..4].copy_from_slice(&crc.to_le_bytes());
        let end = at + buffer.len() as u64;
        let needed = if urgent { end } else { end + RESERVE };
        if needed > tail.room {
            let room = needed.next_multiple_of(ROOM_STEP);
            disk.allocate(&file.handle(), tail.room, room - tail.room, false)?;
            tail.room = room;
        }
        disk.write_at(&file.handle(), &buffer, at).map_err(|short| short.source)?;
        tail.generation = generation;
        (tail.index, tail.end) = (index + 1, end);
        // Big ones are rare and their memory is better given back.
        if buffer.len() <= 256 * 1024 {
            tail.buffer = buffer;
        }
        file.appended.fetch_add(1, Ordering::Release);
        Ok((index, at + (HEADER_LEN + body_len) as u64))
    }

    /// Makes all that was appended durable.
    pub(super) fn sync(&self, disk: &D) -> io::Result<()> {
        if is_chosen(Sabotage::SkipLogSync) {
            return Ok(());
        }
        for file in &self.files {
            let appended = file.appended.load(Ordering::Acquire);
            if file.durable.load(Ordering::Acquire) < appended {
                disk.sync_data(&file.handle())?;
                file.durable.fetch_max(appended, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Reads data of a record. What cannot be read is zeros: their digest tells, and the block is repaired from the other bricks
    /// like any damaged one.
    pub(super) fn read(&self, disk: &D, file: usize, at: u64, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let before = out.len();
        match disk.read_at(&self.files[file].handle(), out, len, at) {
            Err(error) if is_disk_failure(&error) => {
                tracing::error!(file, at, %error, "bytes in the log cannot be read");
                out.truncate(before);
            }
            read => drop(read?),
        }
        out.resize(before + len, 0);
        Ok(())
    }

    /// Looks whether what waits in a file would be found again if the brick were opened now.
    pub(super) fn verify(&self, disk: &D, area: &D::Handle, number: usize) -> io::Result<Condition> {
        let (file, name) = (&self.files[number], file_name(number));
        let named = match disk.open(area, &[&name]) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
            opened => Some(opened?),
        };
        // What was removed is still written to, and another file may have its name.
        let is_removed = disk.stat(&file.handle())?.nlink == 0;
        let named = named.filter(|(_, stat)| !is_removed && stat.size >= file.tail().room);
        if let Some((named, _)) = named {
            return Ok(if file.is_whole(disk, &named)? { Condition::Whole } else { Condition::Damaged });
        }
        Ok(if file.make_anew(disk, area, &name)? { Condition::Mended } else { Condition::Damaged })
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> u64 {
        self.files.iter().map(|file| file.tail().end).sum()
    }

    /// Empties what is of `applied` or before: nothing reads it any more.
    pub(super) fn empty(&self, disk: &D, applied: Generation) -> io::Result<()> {
        for file in &self.files {
            let mut tail = file.tail();
            if tail.generation > applied {
                continue;
            }
            (tail.index, tail.end) = (0, 0);
            if tail.room > ROOM_KEPT {
                disk.truncate(&file.handle(), ROOM_MIN)?;
                tail.room = ROOM_MIN;
            }
        }
        Ok(())
    }
}

/// A record as it is in a file, its checksum right.
struct OnDisk {
    format: u16,
    generation: Generation,
    index: u64,
    body: Vec<u8>,
    data_at: u64,
    data_len: usize,
}

impl OnDisk {
    fn body(&self) -> std::result::Result<Body, OpenError> {
        let newer = OpenError::NewerLog { format: self.format, known: LOG_FORMAT };
        if self.format > LOG_FORMAT {
            return Err(newer);
        }
        // What has its checksum and means nothing was written by something else.
        codec::decode(&self.body, BODY_MAX).map_err(|_| newer)
    }

    fn end(&self) -> u64 {
        self.data_at + self.data_len as u64
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// The record at `at`; `None` when there is no whole one.
fn read_record<D: Disk>(disk: &D, file: &D::Handle, at: u64) -> io::Result<Option<OnDisk>> {
    let mut bytes = Vec::new();
    disk.read_at(file, &mut bytes, HEADER_LEN, at)?;
    if bytes.len() < HEADER_LEN {
        return Ok(None);
    }
    let (body_len, data_len) = (u32_at(&bytes, 4) as usize, u32_at(&bytes, 8) as usize);
    if body_len == 0 || body_len > BODY_MAX || data_len > PAYLOAD_MAX {
        return Ok(None);
    }
    disk.read_at(file, &mut bytes, body_len + data_len, at + HEADER_LEN as u64)?;
    if bytes.len() != HEADER_LEN + body_len + data_len || u32_at(&bytes, 0) != crc32c::crc32c(&bytes[4..]) {
        return Ok(None);
    }
    Ok(Some(OnDisk {
        format: u16::from_le_bytes([bytes[12], bytes[13]]),
        generation: Generation(u64_at(&bytes, 16)),
        index: u64_at(&bytes, 24),
        body: bytes[HEADER_LEN..HEADER_LEN + body_len].to_vec(),
        data_at: at + (HEADER_LEN + body_len) as u64,
        data_len,
    }))
}

/// The first record from `from` on that belongs behind the end that was found: what is there was whole once.
fn follower<D: Disk>(
    disk: &D,
    file: &LogFile<D>,
    (tail, from): (&Tail, u64),
    applied: Generation,
    intact: bool,
) -> io::Result<Option<u64>> {
    // Where nothing was begun nothing can follow: the usual end. But without power any part of what was written may be lost.
    let mut head = Vec::new();
    disk.read_at(&file.handle(), &mut head, HEADER_LEN, tail.end)?;
    if intact && (head.iter().all(|byte| *byte == 0) || read_record(disk, &file.handle(), tail.end)?.is_some()) {
        return Ok(None);
    }
    let generations =
        if tail.index == 0 { applied.0 + 1..=applied.0 + OPEN_MAX } else { tail.generation.0..=tail.generation.0 };
    let lowest = |byte: u8| generations.clone().any(|generation| generation as u8 == byte);
    let lowest: [bool; 256] = std::array::from_fn(|byte| lowest(byte as u8));
    let follows = |head: &[u8]| generations.contains(&u64_at(head, 16)) && u64_at(head, 24) > tail.index;
    let mut at = from;
    // A record is no longer than this, so another one begins before, unless several are lost.
    let last = if intact { from + (HEADER_LEN + BODY_MAX + PAYLOAD_MAX) as u64 } else { u64::MAX };
    while let Some((start, end)) = disk.next_data(&file.handle(), at)?.filter(|(start, _)| *start < last) {
        at = at.max(start);
        while at < end.min(last) {
            let mut bytes = Vec::new();
            // A header that begins in this step may end in the next.
            disk.read_at(&file.handle(), &mut bytes, SEARCH_STEP + HEADER_LEN, at)?;
            for offset in 0..bytes.len().saturating_sub(HEADER_LEN).min(SEARCH_STEP) {
                // Nearly all places end here.
                if !lowest[bytes[offset + 16] as usize] || !follows(&bytes[offset..]) {
                    continue;
                }
                let found = at + offset as u64;
                if read_record(disk, &file.handle(), found)?.is_some() {
                    return Ok(Some(found));
                }
            }
            at += SEARCH_STEP as u64;
        }
    }
    Ok(None)
}
