//! Names and object ids at the edges of their ranges.

use super::*;

#[test]
fn names() {
    for good in [&b"a"[..], b"...", b".a", b"..a", b"\xff\xfe", b" ", b"\n", b"-", b"\\", &[b'n'; NAME_MAX]] {
        assert_eq!(Name::new(good).unwrap().as_bytes(), good);
    }
    for bad in [&b""[..], b".", b"..", b"/", b"a/b", b"a/", b"\0", b"a\0b"] {
        assert_eq!(Name::new(bad), Err(BadName::Component), "{}", bad.escape_ascii());
    }
    assert_eq!(Name::new(&[b'n'; NAME_MAX + 1]), Err(BadName::TooLong));
    assert_eq!(Name::new(&[b'/'; NAME_MAX + 1]), Err(BadName::TooLong));
}

#[test]
fn names_are_printed_without_harm() {
    let name = Name::new(b"\x1b[31m\xff\"").unwrap();
    assert_eq!(format!("{name} {name:?}"), r#"\x1b[31m\xff\" "\x1b[31m\xff\"""#);
}

#[test]
fn object_ids_at_the_edges() {
    let (epochs, counters) = (1u64 << 24, 1u64 << 40);
    assert_eq!(ObjectId::new(Epoch(1), 0), Some(ObjectId(counters)));
    assert_eq!(ObjectId::new(Epoch(1), counters - 1), Some(ObjectId(2 * counters - 1)));
    assert_eq!(ObjectId::new(Epoch(epochs - 1), counters - 1), Some(ObjectId(u64::MAX)));
    assert_eq!(ObjectId::new(Epoch(0), 1), None);
    assert_eq!(ObjectId::new(Epoch(epochs), 0), None);
    assert_eq!(ObjectId::new(Epoch(1), counters), None);
    assert_eq!(ObjectId::new(Epoch(u64::MAX), u64::MAX), None);
}

/// The root and the ids below the first epoch's can never be given to another object.
#[test]
fn the_root_is_nobody_elses() {
    assert!(ObjectId::new(Epoch(1), 0).unwrap() > ObjectId::ROOT);
}

#[test]
fn uuids_are_printed_in_hex() {
    assert_eq!(VolumeId([0xa0; 16]).to_string(), "a0".repeat(16));
    assert_eq!(BrickId([1; 16]).to_string(), "01".repeat(16));
}
