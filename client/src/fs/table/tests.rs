use net_raid_proto::ids::{Generation, Timestamp};
use net_raid_proto::layout::{Layout, Level};
use net_raid_proto::message::{Attr, Kind};

use super::*;

fn entry(id: u64, kind: Kind) -> Entry {
    let time = Timestamp::default();
    let attr = Attr {
        kind,
        mode: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        size: 0,
        brick_blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
    };
    Entry { id: ObjectId(id), stamp: Generation(1), layout: Layout::new(Level::Raid1, 2), attr }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// A table with the root; an object in it for each (id, directory, name), with one kernel reference.
fn table(objects: &[(u64, u64, &str)]) -> Table {
    let table = Table::default();
    drop(table.hold(entry(1, Kind::Directory), None));
    for &(id, parent, at) in objects {
        table.hold(entry(id, Kind::Directory), Some((ObjectId(parent), &name(at)))).into_kernel();
    }
    table
}

fn path(table: &Table, id: u64) -> Option<String> {
    let names = table.path_of(ObjectId(id))?;
    Some(names.iter().map(|name| format!("/{name}")).collect())
}

#[test]
fn paths_follow_renames_of_directories_above() {
    let table = table(&[(2, 1, "a"), (3, 2, "b"), (4, 3, "c"), (5, 1, "d")]);
    assert_eq!(path(&table, 4).unwrap(), "/a/b/c");
    table.rename((ObjectId(2), &name("b")), (ObjectId(5), &name("x")), false);
    assert_eq!(path(&table, 4).unwrap(), "/d/x/c");
    table.rename((ObjectId(1), &name("a")), (ObjectId(1), &name("d")), true);
    assert_eq!(path(&table, 4).unwrap(), "/a/x/c");
    assert_eq!(path(&table, 1).unwrap(), "");
}

#[test]
fn a_replaced_object_has_no_path() {
    let table = table(&[(2, 1, "a"), (3, 1, "b")]);
    table.rename((ObjectId::ROOT, &name("a")), (ObjectId::ROOT, &name("b")), false);
    assert_eq!((path(&table, 2).unwrap(), path(&table, 3)), ("/b".to_owned(), None));
    assert!(table.child(ObjectId::ROOT, &name("a")).is_none());
}

#[test]
fn hard_links_give_another_path_when_one_name_goes() {
    let table = table(&[(2, 1, "a"), (3, 1, "dir")]);
    table.name(ObjectId(2), ObjectId(3), &name("link"));
    table.unname(ObjectId::ROOT, &name("a"));
    assert_eq!(path(&table, 2).unwrap(), "/dir/link");
    table.unname(ObjectId(3), &name("link"));
    assert_eq!(path(&table, 2), None);
    assert!(table.get(ObjectId(2)).is_some(), "the kernel still refers to it");
}

#[test]
fn a_directory_stays_as_long_as_a_path_goes_through_it() {
    let table = table(&[(2, 1, "a"), (3, 2, "b"), (4, 3, "c")]);
    table.forget(ObjectId(2), 1);
    table.forget(ObjectId(3), 1);
    assert_eq!(path(&table, 4).unwrap(), "/a/b/c");
    table.forget(ObjectId(4), 1);
    for id in 2..=4 {
        assert!(table.get(ObjectId(id)).is_none(), "{id}");
    }
    assert!(table.child(ObjectId::ROOT, &name("a")).is_none());
    assert!(table.get(ObjectId::ROOT).is_some());
}

#[test]
fn references_are_counted() {
    let table = table(&[(2, 1, "a")]);
    table.child(ObjectId::ROOT, &name("a")).unwrap().into_kernel();
    drop(table.child(ObjectId::ROOT, &name("a")).unwrap());
    table.forget(ObjectId(2), 1);
    assert!(table.get(ObjectId(2)).is_some());
    table.forget(ObjectId(2), 1);
    assert!(table.get(ObjectId(2)).is_none());
    table.forget(ObjectId(2), 1);
    table.forget(ObjectId::ROOT, u64::MAX);
}

#[test]
fn an_open_object_outlives_its_references() {
    let table = table(&[(2, 1, "a")]);
    let inode = table.get(ObjectId(2)).unwrap();
    inode.opened(false).unwrap();
    table.forget(ObjectId(2), 1);
    assert!(table.get(ObjectId(2)).is_some());
    inode.closed(false);
    table.settle(ObjectId(2));
    assert!(table.get(ObjectId(2)).is_none());
}

#[test]
fn what_is_in_memory_is_newer_than_what_a_brick_tells() {
    let table = table(&[(2, 1, "a")]);
    table.get(ObjectId(2)).unwrap().state().attr.mode = 0o700;
    let held = table.hold(entry(2, Kind::Directory), Some((ObjectId::ROOT, &name("b"))));
    assert_eq!(held.inode.stat().mode, 0o700);
}

#[test]
fn dropping_a_changed_object_dates_what_was_told_before() {
    let table = table(&[(2, 1, "a"), (3, 1, "b")]);
    let since = table.now();
    table.forget(ObjectId(2), 1);
    assert!(table.is_current(since));
    table.get(ObjectId(3)).unwrap().changed(Timestamp::default());
    table.forget(ObjectId(3), 1);
    assert!(!table.is_current(since));
}

#[test]
fn memory_stays_flat_over_a_million_lookups() {
    let table = table(&[(2, 1, "dir")]);
    for id in 10..1_000_010 {
        let held = table.hold(entry(id, Kind::File), Some((ObjectId(2), &name(&id.to_string()))));
        held.into_kernel();
        // The kernel keeps some thousands.
        if id >= 5_010 {
            table.forget(ObjectId(id - 5_000), 1);
        }
    }
    (995_010..1_000_010).for_each(|id| table.forget(ObjectId(id), 1));
    let maps = table.maps();
    assert_eq!(maps.slots.len(), 2);
    assert!(maps.slots.capacity() < 20_000);
    assert!(maps.slots[&ObjectId(2)].children.capacity() < 20_000);
}

#[test]
fn memory_of_a_great_directory_is_given_back() {
    let table = table(&[]);
    for id in 10..100_010 {
        table.hold(entry(id, Kind::File), Some((ObjectId::ROOT, &name(&id.to_string())))).into_kernel();
    }
    (10..100_010).for_each(|id| table.forget(ObjectId(id), 1));
    let maps = table.maps();
    assert!(maps.slots.capacity() <= SHRINK_MIN * 2);
    assert!(maps.slots[&ObjectId::ROOT].children.capacity() <= SHRINK_MIN * 2);
}

#[test]
fn an_object_in_use_is_the_same_after_it_was_forgotten() {
    let table = table(&[]);
    let here = name("f");
    let held = table.hold(entry(2, Kind::File), Some((ObjectId::ROOT, &here)));
    let (inode, file) = (held.inode.clone(), held.inode.file.clone().unwrap());
    drop(held);
    assert!(table.get(ObjectId(2)).is_none());
    // An operation has it.
    let again = table.hold(entry(2, Kind::File), Some((ObjectId::ROOT, &here)));
    assert!(Arc::ptr_eq(&again.inode, &inode));
    drop((again, inode, file));
    let fresh = table.hold(entry(2, Kind::File), Some((ObjectId::ROOT, &here)));
    let locks = std::sync::Arc::downgrade(fresh.inode.file.as_ref().unwrap());
    drop(fresh);
    assert_eq!(table.maps().lingering.len(), 0);
    assert!(locks.upgrade().is_none());
}

#[test]
fn a_task_that_shares_only_the_locks_keeps_the_object() {
    let table = table(&[]);
    let here = name("f");
    let held = table.hold(entry(2, Kind::File), Some((ObjectId::ROOT, &here)));
    // As a repair in the background, or a write that waits for servers: neither knows the inode.
    let (shared, weak) = (held.inode.file.as_ref().unwrap().share(), Arc::downgrade(&held.inode));
    drop(held);
    let again = table.hold(entry(2, Kind::File), Some((ObjectId::ROOT, &here)));
    assert!(Arc::ptr_eq(&again.inode, &weak.upgrade().unwrap()));
    assert!(again.inode.file.as_ref().unwrap().is_busy());
    drop((again, shared));
    let fresh = table.hold(entry(2, Kind::File), Some((ObjectId::ROOT, &here)));
    assert!(!fresh.inode.file.as_ref().unwrap().is_busy());
}
