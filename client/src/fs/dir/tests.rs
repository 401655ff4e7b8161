use net_raid_proto::ids::Name;

use super::*;
use crate::fs::table::Table;

fn snapshot(count: u64) -> Snapshot {
    let entries = (0..count)
        .map(|index| DirEntry {
            name: Name::new(format!("n{index}").as_bytes()).unwrap(),
            id: ObjectId(100 + index),
            kind: Kind::File,
            entry: None,
        })
        .collect();
    Snapshot { id: ObjectId(7), parent: ObjectId(3), entries, version: 0, since: Table::default().now() }
}

#[test]
fn dots_come_first() {
    let snapshot = snapshot(1);
    let items: Vec<_> = (0..snapshot.len()).map(|index| snapshot.item(index, None)).collect();
    let seen: Vec<_> = items.iter().map(|item| (item.name.as_slice(), item.id.0, item.next_offset)).collect();
    assert_eq!(seen, [(&b"."[..], 7, 1), (b"..", 3, 2), (b"n0", 100, 3)]);
}

#[test]
fn every_offset_goes_on_behind_its_entry() {
    let snapshot = snapshot(1000);
    let mut offset = 0;
    let mut names = Vec::new();
    while offset < snapshot.len() {
        let item = snapshot.item(offset, None);
        offset = item.next_offset;
        names.push(item.name);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 1002);
    assert!(snapshot.entry(u64::MAX).is_none());
}
