//! Label files on a disk that loses power, tears writes and is full.

use super::super::label::{self, FILE_LEN, Stored};
use super::*;
use crate::disk::Disk;
use crate::disk::sim::{SimDisk, SimHandle};

const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// As a brick does it.
fn store(disk: &SimDisk, area: &SimHandle, sequence: u64, stored: &Stored) -> std::io::Result<()> {
    disk.sync_data(&label::store(disk, area, sequence, stored)?)
}

/// A label of about `len` bytes.
fn stored(epoch: u64, len: usize) -> Stored {
    let label = Label { epoch: Epoch(epoch), name: "V".repeat(len), ..label() };
    Stored { label, holder: Some(holder(3)), applied: Generation(2), boot: "b".into(), doubt: Generation(1) }
}

/// A disk with the labels that formatting writes, and its root, in which they are.
fn formatted(first: &Stored) -> (SimDisk, SimHandle) {
    let disk = SimDisk::new(1 << 20, PAGE);
    let root = disk.root().expect("root");
    label::store_first(&disk, &root, first).expect("stored");
    (disk, root)
}

fn load(disk: &SimDisk) -> (u64, Stored) {
    label::load(disk, &disk.root().expect("root")).expect("a label is readable").expect("there is one")
}

#[test]
fn formatting_leaves_no_label_or_a_whole_one() {
    let disk = SimDisk::new(1 << 20, PAGE);
    let root = disk.root().expect("root");
    disk.note_crashes();
    let first = stored(1, 5000);
    label::store_first(&disk, &root, &first).expect("stored");
    let crashes = disk.take_crashes();
    for crash in &crashes {
        let disks = (0..20).map(|seed| crash.power_loss(seed)).chain([crash.killed()]);
        for disk in disks {
            let found = label::load(&disk, &disk.root().expect("root")).expect("no damage");
            assert!(found.is_none_or(|(_, stored)| stored == first));
        }
    }
    assert_eq!(load(&disk.power_loss(0)), (1, first));
    for name in [name("label.0"), name("label.1")] {
        assert_eq!(disk.stat_at(&root, &name).expect("there").size, FILE_LEN as u64);
    }
}

#[test]
fn a_label_costs_one_write_and_one_sync_and_no_space() {
    let (disk, root) = formatted(&stored(1, 10));
    disk.set_capacity(0);
    assert_eq!(disk.space().expect("asked").free, 0);
    for (sequence, len) in [(2, 10), (3, 60_000), (4, 100), (5, 20_000), (6, 60_000)] {
        let before = disk.calls();
        store(&disk, &root, sequence, &stored(sequence, len)).expect("a full disk does not matter");
        assert_eq!(disk.calls() - before, 3, "open, write, sync");
        for seed in 0..5 {
            assert_eq!(load(&disk.power_loss(seed)), (sequence, stored(sequence, len)));
        }
    }
}

#[test]
fn a_label_torn_anywhere_leaves_the_one_before() {
    let lens = [10, 3 * PAGE, 200, 60_000];
    for pair in lens.windows(2) {
        let (old, new) = (stored(2, pair[0]), stored(3, pair[1]));
        let sectors = (pair[1] + PAGE) / SECTOR + 1;
        for sector in (0..=sectors).step_by(if sectors > 40 { 5 } else { 1 }) {
            let (disk, root) = formatted(&stored(1, 40_000));
            store(&disk, &root, 2, &old).expect("stored");
            // The second call is the write.
            disk.crash_at(disk.calls() + 1, sector * SECTOR);
            assert!(store(&disk, &root, 3, &new).is_err());
            let disks = (0..4).map(|seed| disk.power_loss(seed)).chain([disk.clone_as_killed()]);
            for disk in disks {
                let found = load(&disk);
                assert!(found == (2, old.clone()) || found == (3, new.clone()), "torn at sector {sector}");
            }
        }
    }
}

#[test]
fn any_mixture_of_old_and_new_sectors_leaves_the_one_before() {
    let (old, new) = (stored(2, 10_000), stored(3, 12_000));
    let (disk, root) = formatted(&stored(1, 11_000));
    store(&disk, &root, 2, &old).expect("stored");
    disk.crash_at(disk.calls() + 2, 0);
    assert!(store(&disk, &root, 3, &new).is_err());
    let (mut olds, mut news) = (0, 0);
    for seed in 0..400 {
        let found = load(&disk.power_loss(seed));
        assert!(found == (2, old.clone()) || found == (3, new.clone()), "seed {seed}");
        (olds, news) = (olds + u32::from(found.0 == 2), news + u32::from(found.0 == 3));
    }
    assert!(olds > 50 && news > 50, "{olds} {news}");
}

#[test]
fn a_label_file_that_lost_its_length_gets_it_back() {
    let (disk, root) = formatted(&stored(1, 10));
    let (file, _) = disk.open(&root, &[&name("label.0")]).expect("there");
    disk.truncate(&file, 100).expect("cut");
    disk.sync_all(&file).expect("synced");
    assert_eq!(load(&disk).0, 1);
    store(&disk, &root, 2, &stored(2, 10)).expect("stored");
    for seed in 0..20 {
        let disk = disk.power_loss(seed);
        assert_eq!(load(&disk), (2, stored(2, 10)));
        let size = disk.stat_at(&disk.root().expect("root"), &name("label.0")).expect("there").size;
        assert_eq!(size, FILE_LEN as u64);
    }
}
