//! The simulator itself: what it loses and keeps, and that it does what the kernel does.

mod differential;

use net_raid_proto::ids::Name;

use super::*;
use crate::disk::{Disk, XattrMode};

const BLOCK: usize = 4096;
const MIB: u64 = 1 << 20;

fn disk() -> SimDisk {
    SimDisk::new(64 * MIB, BLOCK)
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

fn create(disk: &SimDisk, text: &str) -> SimHandle {
    disk.create(&disk.root().expect("root"), &name(text), 0o600).expect("created")
}

/// Content of a file of the root; `None` when there is none.
fn content(disk: &SimDisk, text: &str) -> Option<Vec<u8>> {
    let (file, stat) = disk.open(&disk.root().expect("root"), &[&name(text)]).ok()?;
    let mut out = Vec::new();
    disk.read_at(&file, &mut out, stat.size as usize, 0).expect("read");
    Some(out)
}

fn number<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn what_was_synced_survives_and_names_survive_as_a_prefix() {
    let disk = disk();
    let root = disk.root().expect("root");
    let kept = create(&disk, "kept");
    disk.write_at(&kept, b"synced", 0).expect("written");
    disk.sync_all(&kept).expect("synced");
    for number in 0..10 {
        disk.mkdir(&root, &name(&format!("d{number}")), 0o700).expect("made");
    }
    let mut counts = [0; 11];
    for seed in 0..200 {
        let left = disk.power_loss(seed);
        assert_eq!(content(&left, "kept").as_deref(), Some(&b"synced"[..]));
        let names: Vec<Name> =
            left.read_dir(&left.root().expect("root"), 0).expect("listed").into_iter().map(|item| item.name).collect();
        let dirs: Vec<Name> = (0..names.len() - 1).map(|number| name(&format!("d{number}"))).collect();
        assert_eq!(names[1..], dirs);
        counts[dirs.len()] += 1;
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[test]
fn unsynced_sectors_are_old_or_new_one_by_one() {
    let disk = disk();
    let file = create(&disk, "a");
    disk.write_at(&file, &[1; 2 * BLOCK], 0).expect("written");
    disk.sync_all(&file).expect("synced");
    disk.write_at(&file, &[2; 2 * BLOCK], 0).expect("written");
    let mut mixed = 0;
    for seed in 0..50 {
        let left = content(&disk.power_loss(seed), "a").expect("there");
        assert_eq!(left.len(), 2 * BLOCK);
        for sector in left.chunks(SECTOR) {
            assert!(sector == [1; SECTOR] || sector == [2; SECTOR]);
        }
        mixed += u32::from(left.contains(&1) && left.contains(&2));
    }
    assert!(mixed > 10, "{mixed}");
    disk.sync_data(&file).expect("synced");
    assert_eq!(content(&disk.power_loss(1), "a"), Some(vec![2; 2 * BLOCK]));
}

#[test]
fn a_new_block_that_is_lost_reads_as_zeros_even_when_later_metadata_survived() {
    let disk = disk();
    let (file, other) = (create(&disk, "a"), create(&disk, "b"));
    disk.write_at(&file, &[1; 4 * BLOCK], 0).expect("written");
    disk.set_xattr(&file, b"user.x", b"later", XattrMode::Any).expect("set");
    // Commits the journal, but writes nothing of the first file.
    disk.sync_all(&other).expect("synced");
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let left = disk.power_loss(seed);
        let (file, _) = left.open(&left.root().expect("root"), &[&name("a")]).expect("committed");
        assert_eq!(left.get_xattr(&file, b"user.x").expect("asked"), Some(b"later".to_vec()));
        let left = content(&left, "a").expect("there");
        assert!(left.chunks(SECTOR).all(|sector| sector == [0; SECTOR] || sector == [1; SECTOR]));
        lengths.insert(left.len() / BLOCK);
    }
    assert!(lengths.contains(&0) && lengths.contains(&4), "{lengths:?}");
}

#[test]
fn sync_data_leaves_attributes_out_unless_the_length_changed() {
    let disk = disk();
    let file = create(&disk, "a");
    disk.write_at(&file, &[1; BLOCK], 0).expect("written");
    disk.sync_all(&file).expect("synced");
    disk.set_xattr(&file, b"user.x", b"1", XattrMode::Any).expect("set");
    disk.write_at(&file, &[2; BLOCK], 0).expect("written");
    disk.sync_data(&file).expect("synced");
    let has_attr = |seed| {
        let left = disk.power_loss(seed);
        let (file, _) = left.open(&left.root().expect("root"), &[&name("a")]).expect("there");
        left.get_xattr(&file, b"user.x").expect("asked").is_some()
    };
    assert!((0..50).any(|seed| !has_attr(seed)));
    disk.write_at(&file, &[2; BLOCK], BLOCK as u64).expect("written");
    disk.sync_data(&file).expect("synced");
    assert!((0..50).all(has_attr));
}

#[test]
fn a_reservation_is_there_after_the_loss_without_old_bytes() {
    let disk = disk();
    let file = create(&disk, "a");
    disk.allocate(&file, 0, 4 * BLOCK as u64, false).expect("reserved");
    disk.sync_all(&file).expect("synced");
    assert_eq!(disk.next_data(&file, 0).expect("asked"), None);
    disk.write_at(&file, &[1; BLOCK], 0).expect("written");
    assert_eq!(disk.next_data(&file, 0).expect("asked"), Some((0, BLOCK as u64)));
    for seed in 0..50 {
        let left = disk.power_loss(seed);
        let (file, stat) = left.open(&left.root().expect("root"), &[&name("a")]).expect("there");
        assert_eq!((stat.size, stat.blocks), (4 * BLOCK as u64, 32));
        // What is reserved can be written on a full disk.
        left.set_capacity(0);
        left.write_at(&file, &[3; 4 * BLOCK], 0).expect("written");
    }
}

#[test]
fn a_killed_process_loses_nothing_but_unnamed_files() {
    let disk = disk();
    let root = disk.root().expect("root");
    let (file, unnamed) = (create(&disk, "a"), create(&disk, "b"));
    disk.write_at(&file, b"unsynced", 0).expect("written");
    disk.write_at(&unnamed, &[1; BLOCK], 0).expect("written");
    let used = disk.space().expect("asked").free;
    disk.unlink(&root, &name("b")).expect("unlinked");
    let mut out = Vec::new();
    assert_eq!(disk.read_at(&unnamed, &mut out, BLOCK, 0).expect("read"), BLOCK);
    assert_eq!(disk.space().expect("asked").free, used);
    let left = disk.clone_as_killed();
    assert_eq!(content(&left, "a").as_deref(), Some(&b"unsynced"[..]));
    assert_eq!(left.space().expect("asked").free, used + BLOCK as u64);
    drop(unnamed);
    assert_eq!(disk.space().expect("asked").free, used + BLOCK as u64);
}

#[test]
fn a_full_disk_takes_what_fits_and_keeps_the_rest_out() {
    let disk = SimDisk::new(64 * 1024, 1024);
    let file = create(&disk, "a");
    let free = disk.space().expect("asked").free;
    let short = disk.write_at(&file, &[1; 128 * 1024], 512).expect_err("full");
    assert_eq!((short.written as u64, short.source.raw_os_error()), (free - 512, Some(libc::ENOSPC)));
    assert_eq!(disk.stat(&file).expect("asked").size, free);
    assert_eq!(disk.space().expect("asked").free, 0);
    assert_eq!(number(disk.mkdir(&disk.root().expect("root"), &name("d"), 0o700)), Some(libc::ENOSPC));
    assert_eq!(number(disk.allocate(&file, free, 1024, true)), Some(libc::ENOSPC));
    assert_eq!(number(disk.set_xattr(&file, b"user.long", &[0; 200], XattrMode::Any)), Some(libc::ENOSPC));
    disk.set_xattr(&file, b"user.short", b"1", XattrMode::Any).expect("fits into the inode");
    disk.write_at(&file, &[2; 1024], 0).expect("in place");
    disk.truncate(&file, 1024).expect("cut");
    assert_eq!(disk.space().expect("asked").free, free - 1024);
}

#[test]
fn calls_fail_where_they_are_told_to() {
    let disk = disk();
    let file = create(&disk, "a");
    disk.write_at(&file, b"one", 0).expect("written");
    disk.sync_all(&file).expect("synced");
    disk.fail(disk.calls() + 1, libc::EIO);
    disk.write_at(&file, b"two", 0).expect("written");
    assert_eq!(number(disk.sync_data(&file)), Some(libc::EIO));
    // The kernel takes what it could not write for clean.
    disk.sync_data(&file).expect("says nothing");
    assert_eq!(content(&disk, "a").as_deref(), Some(&b"two"[..]));
    assert_eq!(content(&disk.power_loss(1), "a").as_deref(), Some(&b"one"[..]));
    assert!(disk.flip(&file, 0, 1));
    assert_eq!(content(&disk, "a").as_deref(), Some(&b"uwo"[..]));
    assert!(!disk.flip(&file, MIB, 1));
}

#[test]
fn a_crash_ends_everything_and_may_tear_the_write_under_way() {
    let disk = disk();
    let file = create(&disk, "a");
    disk.crash_at(disk.calls(), BLOCK + 700);
    assert!(disk.write_at(&file, &[1; 3 * BLOCK], 0).is_err());
    assert_eq!(number(disk.stat(&file)), Some(libc::EIO));
    assert_eq!(number(disk.sync_all(&file)), Some(libc::EIO));
    assert_eq!(content(&disk.clone_as_killed(), "a"), Some(vec![1; BLOCK + 512]));
}

#[test]
fn crashes_are_noted_at_every_change_and_within_writes() {
    let disk = disk();
    let root = disk.root().expect("root");
    disk.note_crashes();
    let file = create(&disk, "a");
    disk.write_at(&file, &[1; BLOCK], 0).expect("written");
    disk.stat(&file).expect("asked");
    disk.sync_all(&file).expect("synced");
    disk.unlink(&root, &name("a")).expect("unlinked");
    let crashes = disk.take_crashes();
    let left: Vec<Option<usize>> =
        crashes.iter().map(|crash| content(&crash.killed(), "a").map(|content| content.len())).collect();
    let sectors = [1024, 2048, 3584].map(Some);
    assert_eq!(left, [[None].as_slice(), &sectors, &[Some(0)], &[Some(BLOCK)], &[Some(BLOCK)]].concat());
    assert_eq!(content(&crashes[crashes.len() - 1].power_loss(3), "a"), Some(vec![1; BLOCK]));
}
