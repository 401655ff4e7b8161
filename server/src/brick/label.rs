//! The label files: two copies, written in turn, each durable before the other is touched. Both have the same length for
//! ever, so that a write needs no space, no journal, and one sync. See docs/on-disk.md.

use std::io;

use net_raid_proto::codec;
use net_raid_proto::ids::{Generation, Name};
use net_raid_proto::limits::BODY_MAX;
use net_raid_proto::membership::{FORMAT_VERSION, Label};
use net_raid_proto::message::Holder;

use super::OpenError;
use super::error::is_disk_failure;
use crate::disk::{Disk, RenameMode};

const MAGIC: [u8; 8] = *b"NRlabel\n";
const HEADER_LEN: usize = 8 + 2 + 2 + 8 + 4 + 4;
const CRC_AT: usize = HEADER_LEN - 4;
/// Labels are written in whole pages, so that the kernel need not read one first.
const PAGE: usize = 4096;
/// Bytes of a label file, for ever: room for the largest label.
pub(super) const FILE_LEN: usize = (HEADER_LEN + BODY_MAX).next_multiple_of(PAGE);

/// What a label file says.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Stored {
    pub(super) label: Label,
    /// Who took the newest epoch, unless it was given up since.
    pub(super) holder: Option<Holder>,
    /// Newest generation whose bytes are all in place: the log holds later ones.
    pub(super) applied: Generation,
    /// Boot id of the machine when the newest epoch was taken.
    pub(super) boot: String,
    /// Newest generation in the log when the machine was last found restarted: until it is in place, bytes of it and of
    /// those before may be lost, also when nothing happened since but that a process was killed.
    pub(super) doubt: Generation,
}

/// What is found where a label should be.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// No file.
    Missing,
    /// Damaged or half written.
    Torn,
    /// Of a newer format.
    Newer(u16),
    /// A label and its sequence number.
    Valid(u64, Box<Stored>),
}

/// A fixed name under `.net_raid/`.
pub(super) fn internal(name: &str) -> Name {
    Name::new(name.as_bytes()).expect("internal names are valid")
}

pub(super) fn encode(sequence: u64, stored: &Stored) -> io::Result<Vec<u8>> {
    let mut out = vec![0; HEADER_LEN];
    // Too long a label is the client's mistake, not the disk's.
    codec::encode(stored, BODY_MAX, &mut out).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let body_len = (out.len() - HEADER_LEN) as u32;
    out[..8].copy_from_slice(&MAGIC);
    out[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[12..20].copy_from_slice(&sequence.to_le_bytes());
    out[20..24].copy_from_slice(&body_len.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..CRC_AT]), &out[HEADER_LEN..]);
    out[CRC_AT..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    Ok(out)
}

pub(super) fn decode(bytes: &[u8]) -> Found {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else { return Found::Torn };
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let Some(body) = rest.get(..u32_at(20) as usize) else { return Found::Torn };
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..CRC_AT]), body);
    if header[..8] != MAGIC || u32_at(CRC_AT) != crc {
        return Found::Torn;
    }
    // The frame around the body stays the same for ever, so a newer body is told from a torn one.
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version > FORMAT_VERSION {
        return Found::Newer(version);
    }
    let sequence = u64::from_le_bytes(header[12..20].try_into().expect("8 bytes"));
    match codec::decode(body, BODY_MAX) {
        Ok(stored) => Found::Valid(sequence, Box::new(stored)),
        Err(_) => Found::Torn,
    }
}

fn file_name(sequence: u64) -> Name {
    internal(if copy_of(sequence) == 0 { "label.0" } else { "label.1" })
}

fn read<D: Disk>(disk: &D, area: &D::Handle, name: &Name) -> io::Result<Found> {
    let file = match disk.open(area, &[name]) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Found::Missing),
        opened => opened?.0,
    };
    let mut bytes = Vec::new();
    disk.read_at(&file, &mut bytes, HEADER_LEN + BODY_MAX, 0)?;
    Ok(decode(&bytes))
}

/// The newest label with its sequence number; `None` when there never was one.
pub(super) fn load<D: Disk>(disk: &D, area: &D::Handle) -> Result<Option<(u64, Stored)>, OpenError> {
    let found = [read(disk, area, &file_name(0))?, read(disk, area, &file_name(1))?];
    let newer = found.iter().find_map(|found| if let Found::Newer(version) = found { Some(*version) } else { None });
    if let Some(version) = newer {
        return Err(OpenError::NewerFormat { version, known: FORMAT_VERSION });
    }
    if found.iter().all(|found| *found == Found::Missing) {
        return Ok(None);
    }
    let valid = found.into_iter().filter_map(|found| match found {
        Found::Valid(sequence, stored) => Some((sequence, *stored)),
        _ => None,
    });
    valid.max_by_key(|(sequence, _)| *sequence).map(Some).ok_or(OpenError::LabelsDamaged)
}

/// Writes a label over the older copy, in place: the file keeps its blocks, so a full disk is no hindrance. Returns the
/// file, which the caller makes durable.
pub(super) fn store<D: Disk>(disk: &D, area: &D::Handle, sequence: u64, stored: &Stored) -> io::Result<D::Handle> {
    let (file, stat) = match disk.open(area, &[&file_name(sequence)]) {
        // Somebody removed it.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return store_anew(disk, area, sequence, stored),
        opened => opened?,
    };
    let mut bytes = encode(sequence, stored)?;
    // What is left of a longer label behind this one is not read. A file that lost its length gets it back.
    let whole = stat.size >= FILE_LEN as u64;
    bytes.resize(if whole { bytes.len().next_multiple_of(PAGE) } else { FILE_LEN }, 0);
    disk.write_at(&file, &bytes, 0).map_err(|short| short.source)?;
    Ok(file)
}

/// Writes both copies for the first time.
pub(super) fn store_first<D: Disk>(disk: &D, area: &D::Handle, stored: &Stored) -> io::Result<()> {
    [0, 1].into_iter().try_for_each(|sequence| store_anew(disk, area, sequence, stored).map(drop))
}

/// Writes a copy that is not there: it appears whole or not at all, and durably.
///
/// The padding is written, not reserved: blocks that are only reserved would need the journal when they are first used.
fn store_anew<D: Disk>(disk: &D, area: &D::Handle, sequence: u64, stored: &Stored) -> io::Result<D::Handle> {
    let mut bytes = encode(sequence, stored)?;
    bytes.resize(FILE_LEN, 0);
    let fresh = internal("label.new");
    match disk.unlink(area, &fresh) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
        _ => {}
    }
    let file = disk.create(area, &fresh, 0o600)?;
    disk.write_at(&file, &bytes, 0).map_err(|short| short.source)?;
    disk.sync_all(&file)?;
    disk.rename(area, &fresh, area, &file_name(sequence), RenameMode::Replace)?;
    disk.sync_all(area)?;
    Ok(file)
}

/// Which of the last two labels, by their numbers and the newest one first, are not in their files any more. `stored` is the
/// newest one, which `sequence` counts.
pub(super) fn damaged<D: Disk>(disk: &D, area: &D::Handle, sequence: u64, stored: &Stored) -> io::Result<Vec<u64>> {
    let mut damaged = Vec::new();
    for number in [sequence, sequence.saturating_sub(1)] {
        let is_whole = match read(disk, area, &file_name(number)) {
            Ok(Found::Valid(found, copy)) => {
                // What the label before said nobody knows any more.
                found == number
                    && if number == sequence { *copy == *stored } else { is_ours(&copy.label, &stored.label) }
            }
            Err(error) if !is_disk_failure(&error) => return Err(error),
            _ => false,
        };
        if !is_whole {
            damaged.push(number);
        }
    }
    Ok(damaged)
}

fn is_ours(label: &Label, ours: &Label) -> bool {
    (label.volume, label.brick) == (ours.volume, ours.brick)
}

/// The copy that a label is in.
pub(super) fn copy_of(sequence: u64) -> u8 {
    (sequence % 2) as u8
}
