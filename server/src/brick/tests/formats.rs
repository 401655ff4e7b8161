//! The bytes of docs/on-disk.md.

use super::super::label::{Stored, encode};
use super::super::object::{Meta, Recorded, Records};
use super::super::record::Record;
use super::*;

const PAGE: &str = include_str!("../../../../docs/on-disk.md");

/// The bytes of the first code block of the page behind `title`; text behind `;` is a comment.
fn golden(title: &str) -> Vec<u8> {
    let block = PAGE.split(title).nth(1).and_then(|rest| rest.split("```").nth(1)).expect("an example");
    let lines = block.lines().skip(1).map(|line| line.split(';').next().unwrap_or(""));
    lines.flat_map(str::split_whitespace).map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}

fn file() -> Meta {
    Meta {
        id: ObjectId(0x0001_0000_0000_0a0b),
        stamp: Generation(3),
        ctime: Timestamp { secs: 1, nanos: 2 },
        early_ctime: false,
        layout: Some(Layout::new(Level::Raid6, 5)),
        size: Some(5),
        recorded: None,
        records: Records::Inline { generation: Generation(3), digests: vec![Digest([0x11; 16])] },
        side_units: None,
    }
}

fn device() -> Meta {
    let recorded = Recorded { kind: Kind::CharDevice(0x0105), mode: 0o4755, uid: 1000, gid: 1001 };
    Meta { layout: None, size: None, recorded: Some(recorded), records: Records::None, ..file() }
}

#[track_caller]
fn check(meta: &Meta, title: &str) {
    assert_eq!(meta.encode(), golden(title));
    assert_eq!(Meta::decode(&golden(title)).as_ref(), Some(meta));
}

#[test]
fn the_object_attribute_is_as_documented() {
    check(&file(), "Example of a file");
    check(&device(), "Example of a device");
}

#[test]
fn a_file_of_one_block_fits_into_the_inode() {
    // ext4: 88 bytes for entries and values, 24 of them for this entry.
    assert!(file().encode().len() <= 64);
}

#[test]
fn object_attributes_are_read_whole_or_not_at_all() {
    let slots = Layout { slots: 0x4_0123, ..Layout::new(Level::Raid5, 5) };
    let earlier = Meta { layout: Some(slots), records: Records::Side, ..file() };
    assert_eq!(Meta::decode(&earlier.encode()), Some(earlier.clone()));
    let side = Meta { side_units: Some(7), ..earlier };
    assert_eq!(Meta::decode(&side.encode()), Some(side.clone()));
    for meta in [file(), device(), side] {
        let bytes = meta.encode();
        for cut in 0..bytes.len() {
            assert_ne!(Meta::decode(&bytes[..cut]), Some(meta.clone()));
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Meta::decode(&flipped), None, "bit {bit}");
        }
    }
}

#[test]
fn times_are_kept_over_the_range_of_ext4() {
    for secs in [-(1 << 31), -1, 0, 1 << 33] {
        let meta = Meta { ctime: Timestamp { secs, nanos: 999_999_999 }, ..file() };
        assert_eq!(Meta::decode(&meta.encode()), Some(meta));
    }
}

#[test]
fn the_record_is_as_documented() {
    let mut record = Record::hole(Generation(3));
    record.digests[0] = Digest([0x11; 16]);
    record.digests[15] = Digest([0x22; 16]);
    let example = golden("Example of a record");
    assert_eq!(record.encode()[..24], example[..24]);
    assert_eq!(record.encode()[248..], example[24..]);
}

#[test]
fn the_label_frame_is_as_documented() {
    let bytes = encode(
        6,
        &Stored { label: label(), holder: None, applied: Generation(0), boot: String::new(), doubt: Generation(0) },
    )
    .expect("encodes");
    let mut example = golden("Example of a label header");
    let body_len = (bytes.len() - 28) as u32;
    example[20..24].copy_from_slice(&body_len.to_le_bytes());
    assert_eq!(bytes[..24], example[..24]);
}

#[test]
fn the_log_is_as_documented() {
    let mut rig = Rig::new(Ownership::Recorded);
    rig.file("a", 10);
    rig.own(3);
    (0..6).for_each(|at| rig.write(id(10), at * BLOCK_SIZE as u64, &pattern(at, BLOCK_SIZE)));
    let log = std::fs::read(rig.path(&format!(".net_raid/log.{}", rig.generation().0 % 2))).expect("there");
    let length = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().expect("4 bytes")) as usize;
    let sixth = (0..5).fold(0, |at, _| at + 32 + length(at + 4) + length(at + 8));
    let end = sixth + 32 + length(sixth + 4) + length(sixth + 8);
    let mut example = golden("Example of a record header");
    example[4..12].copy_from_slice(&log[sixth + 4..sixth + 12]);
    example[16..24].copy_from_slice(&rig.generation().0.to_le_bytes());
    example[..4].copy_from_slice(&crc32c::crc32c(&log[sixth + 4..end]).to_le_bytes());
    assert_eq!(log[sixth..sixth + 32], example);
}
