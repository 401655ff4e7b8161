//! The brick's own attribute of an object: everything that its inode does not say. See docs/on-disk.md.

use net_raid_proto::ids::{Digest, Generation, ObjectId, Timestamp};
use net_raid_proto::layout::{Layout, Level};
use net_raid_proto::limits::BLOCKS_PER_UNIT;
use net_raid_proto::message::Kind;

use super::record::{Record, generation_bytes};

const FORMAT: u8 = 1;
/// Where the checksum is: behind format and flags.
const CRC: std::ops::Range<usize> = 2..6;

const HAS_LAYOUT: u8 = 1;
const HAS_SLOTS: u8 = 1 << 1;
const HAS_SIZE: u8 = 1 << 2;
const HAS_OWNER: u8 = 1 << 3;
const HAS_DEVICE: u8 = 1 << 4;
const HAS_INLINE: u8 = 1 << 5;
const HAS_SIDE: u8 = 1 << 6;
const EARLY_CTIME: u8 = 1 << 7;

/// Owner, mode and type where the inode cannot keep them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Where the records of a file's units are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Records {
    /// Nothing was written yet, or the object is no file.
    None,
    /// In the attribute: those of unit 0, only as many digests as there are blocks.
    Inline { generation: Generation, digests: Vec<Digest> },
    /// In the side file.
    Side,
}

/// What the attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) id: ObjectId,
    /// Generation in which the object, or anything below it, last changed.
    pub(super) stamp: Generation,
    /// Time of the last change that did not set the mtime to the same.
    pub(super) ctime: Timestamp,
    /// The ctime is earlier than the mtime, which somebody set into the future.
    pub(super) early_ctime: bool,
    /// Of files only.
    pub(super) layout: Option<Layout>,
    /// Logical size, where the brick's file does not have it as its length.
    pub(super) size: Option<u64>,
    pub(super) recorded: Option<Recorded>,
    pub(super) records: Records,
    /// Units that the side file has records of, at least; not known of one that an earlier program left.
    pub(super) side_units: Option<u64>,
}

impl Meta {
    /// The attribute after a change at `now` that left the object with `mtime`, as the inode keeps it.
    pub(super) fn set_times(&mut self, now: Timestamp, mtime: Timestamp) {
        self.ctime = now;
        self.early_ctime = mtime > now;
    }

    /// Whether a change that set the mtime to `now` need not be noted here: the ctime follows.
    pub(super) fn follows_mtime(&self, now: Timestamp) -> bool {
        !self.early_ctime && self.ctime <= now
    }

    /// The inline records as one record; blank when there are none.
    pub(super) fn inline(&self) -> Record {
        let mut record = Record::BLANK;
        if let Records::Inline { generation, digests } = &self.records {
            record.generation = *generation;
            record.digests[..digests.len()].copy_from_slice(digests);
        }
        record
    }

    /// Puts `record` inline, without the holes at its end.
    pub(super) fn set_inline(&mut self, record: &Record) {
        let used = record.digests.iter().rposition(|digest| *digest != Digest::HOLE).map_or(0, |last| last + 1);
        self.records = Records::Inline { generation: record.generation, digests: record.digests[..used].to_vec() };
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend([FORMAT, 0, 0, 0, 0, 0]);
        out.extend(self.id.0.to_le_bytes());
        out.extend(generation_bytes(self.stamp));
        out.extend(pack_time(self.ctime).to_le_bytes());
        let mut flags = if self.early_ctime { EARLY_CTIME } else { 0 };
        if let Some(layout) = &self.layout {
            flags |= HAS_LAYOUT | put_layout(layout, &mut out);
        }
        if let Some(size) = self.size {
            flags |= HAS_SIZE;
            out.extend(size.to_le_bytes());
        }
        if let Some(recorded) = &self.recorded {
            flags |= HAS_OWNER | put_recorded(recorded, &mut out);
        }
        match &self.records {
            Records::None => {}
            Records::Inline { generation, digests } => {
                flags |= HAS_INLINE;
                out.extend(generation_bytes(*generation));
                digests.iter().for_each(|digest| out.extend(digest.0));
            }
            Records::Side => {
                flags |= HAS_SIDE;
                out.extend(self.side_units.iter().flat_map(|units| units.to_le_bytes()));
            }
        }
        out[1] = flags;
        let crc = checksum(&out);
        out[CRC].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the attribute; `None` when it is damaged or of a newer format.
    pub(super) fn decode(bytes: &[u8]) -> Option<Meta> {
        let mut input = Input(bytes);
        let [format, flags] = input.take()?;
        if format != FORMAT || bytes.len() < CRC.end || input.u32()? != checksum(bytes) {
            return None;
        }
        let has = |flag: u8| flags & flag != 0;
        let id = ObjectId(input.u64()?);
        let stamp = Generation(input.u32()?.into());
        let ctime = unpack_time(input.u64()?);
        let early_ctime = has(EARLY_CTIME);
        let layout = if has(HAS_LAYOUT) { Some(take_layout(&mut input, has(HAS_SLOTS))?) } else { None };
        let size = if has(HAS_SIZE) { Some(input.u64()?) } else { None };
        let recorded = if has(HAS_OWNER) { Some(take_recorded(&mut input, has(HAS_DEVICE))?) } else { None };
        let records = match (has(HAS_INLINE), has(HAS_SIDE)) {
            (false, false) => Records::None,
            (true, false) => take_inline(&mut input)?,
            (false, true) => Records::Side,
            (true, true) => return None,
        };
        let side_units = if has(HAS_SIDE) && !input.0.is_empty() { Some(input.u64()?) } else { None };
        let meta = Meta { id, stamp, ctime, early_ctime, layout, size, recorded, records, side_units };
        input.0.is_empty().then_some(meta)
    }
}

/// CRC-32C of all but the checksum itself.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC.start]), &bytes[CRC.end..])
}

/// Bytes that are still to be read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Level and width share a byte: levels 1, 5, 6 in the low three bits, the width less one above.
fn put_layout(layout: &Layout, out: &mut Vec<u8>) -> u8 {
    out.extend([layout.level.number() | (layout.width - 1) << 3, layout.unit_log2]);
    let identity = Layout::new(layout.level, layout.width.into()).slots;
    if layout.slots == identity {
        return 0;
    }
    out.extend(layout.slots.to_le_bytes());
    HAS_SLOTS
}

fn take_layout(input: &mut Input<'_>, has_slots: bool) -> Option<Layout> {
    let [shape, unit_log2] = input.take()?;
    let level = Level::from_number(shape & 7)?;
    let width = (shape >> 3) + 1;
    if !(level.members_min()..=net_raid_proto::limits::MEMBERS_MAX).contains(&width.into()) {
        return None;
    }
    let slots = if has_slots { input.u64()? } else { Layout::new(level, width.into()).slots };
    let layout = Layout { level, unit_log2, width, slots };
    layout.is_valid().then_some(layout)
}

fn put_recorded(recorded: &Recorded, out: &mut Vec<u8>) -> u8 {
    let (kind, device) = match recorded.kind {
        Kind::File => (1, None),
        Kind::Directory => (2, None),
        Kind::Symlink => (3, None),
        Kind::Fifo => (4, None),
        Kind::Socket => (5, None),
        Kind::CharDevice(device) => (6, Some(device)),
        Kind::BlockDevice(device) => (7, Some(device)),
    };
    out.push(kind);
    out.extend((recorded.mode as u16).to_le_bytes());
    out.extend(recorded.uid.to_le_bytes());
    out.extend(recorded.gid.to_le_bytes());
    let Some(device) = device else { return 0 };
    out.extend(device.to_le_bytes());
    HAS_DEVICE
}

fn take_recorded(input: &mut Input<'_>, has_device: bool) -> Option<Recorded> {
    let [kind] = input.take()?;
    let mode = u16::from_le_bytes(input.take()?).into();
    let (uid, gid) = (input.u32()?, input.u32()?);
    let kind = match (kind, has_device) {
        (1, false) => Kind::File,
        (2, false) => Kind::Directory,
        (3, false) => Kind::Symlink,
        (4, false) => Kind::Fifo,
        (5, false) => Kind::Socket,
        (6, true) => Kind::CharDevice(input.u64()?),
        (7, true) => Kind::BlockDevice(input.u64()?),
        _ => return None,
    };
    Some(Recorded { kind, mode, uid, gid })
}

fn take_inline(input: &mut Input<'_>) -> Option<Records> {
    let generation = Generation(input.u32()?.into());
    let (digests, rest) = input.0.as_chunks::<16>();
    if !rest.is_empty() || digests.len() > BLOCKS_PER_UNIT {
        return None;
    }
    input.0 = &[];
    Some(Records::Inline { generation, digests: digests.iter().copied().map(Digest).collect() })
}

/// Seconds before 1970 that fit: the same range as ext4's own times, December 1901 to 2446.
const EARLIEST_SECS: i64 = -(1 << 31);
const NANOS_BITS: u32 = 30;

/// Nanoseconds in the low 30 bits, seconds since December 1901 above.
fn pack_time(time: Timestamp) -> u64 {
    let secs = time.secs.clamp(EARLIEST_SECS, (1 << (64 - NANOS_BITS)) - 1 + EARLIEST_SECS);
    ((secs - EARLIEST_SECS) as u64) << NANOS_BITS | u64::from(time.nanos.min(999_999_999))
}

fn unpack_time(packed: u64) -> Timestamp {
    let nanos = (packed & ((1 << NANOS_BITS) - 1)) as u32;
    Timestamp { secs: (packed >> NANOS_BITS) as i64 + EARLIEST_SECS, nanos: nanos.min(999_999_999) }
}
