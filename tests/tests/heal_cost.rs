//! Bringing a server up to date costs as much as changed, not as much as is there.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use net_raid_tests::cluster::Cluster;
use net_raid_tests::fsops::forget;
use net_raid_tests::pattern::{Pattern, verify_range, write_file, write_range};
use net_raid_tests::places::long_run;
use net_raid_tests::process::sh;
use net_raid_tests::{Array, Health, Rig};

const MIB: u64 = 1024 * 1024;
const BUDGET: Duration = Duration::from_secs(1500);
const WITHIN: Duration = Duration::from_secs(60);
const FILES_IN_A_DIRECTORY: usize = 1000;
const ALL: usize = usize::MAX;

/// Every server on a machine of its own: what goes through its cable is counted.
fn behind_cables(array: Array) -> Rig {
    Rig::over(Cluster::start_in_netns(array.bricks), array)
}

/// What a catch-up took.
#[derive(Debug)]
struct Cost {
    time: Duration,
    /// Through all cables together, whatever else goes through them meanwhile included.
    bytes: u64,
}

/// Brick 0 goes, `change` happens without it, and it comes back: what that costs.
fn cost_of(rig: &mut Rig, change: impl FnOnce(&Path)) -> Cost {
    rig.cluster[0].kill9();
    let address = format!(" {} ", rig.cluster[0].address());
    fs::write(rig.path("missed"), "missed").unwrap();
    // From then on it cannot just resume.
    rig.client.errorlog().expect(&[&address, "member dropped"], WITHIN);
    change(&rig.root());
    sh(&rig.root(), "sync -f .");
    let traffic = |rig: &Rig| rig.cluster.iter().map(|brick| brick.netns().traffic()).sum::<u64>();
    let before = traffic(rig);
    let begin = Instant::now();
    rig.cluster[0].start();
    rig.client.errorlog().expect(&[&address, "member caught up"], WITHIN);
    Cost { time: begin.elapsed(), bytes: traffic(rig) - before }
}

/// As many others as may be lost go: what is read now comes from the server that caught up.
fn lose_others(rig: &mut Rig) {
    rig.cluster.kill9(&(1..=rig.array.losses()).collect::<Vec<_>>());
}

fn make_files(root: &Path, count: usize, in_a_directory: usize) {
    for number in 0..count {
        let dir = root.join(format!("d{}", number / in_a_directory));
        if number.is_multiple_of(in_a_directory) {
            fs::create_dir(&dir).unwrap();
        }
        fs::write(dir.join(number.to_string()), number.to_string()).unwrap();
    }
}

/// Ten of the files, each in another way. Returns what `find` and the contents say of them.
fn change_ten(root: &Path, count: usize, in_a_directory: usize) {
    let path = |tenth: usize| {
        let number = tenth * count / 10;
        format!("d{}/{number}", number / in_a_directory)
    };
    sh(
        root,
        &format!(
            "echo longer >> {}; printf X | dd of={} conv=notrunc status=none; rm {}; mv {} moved; chmod 600 {}; \
             setfattr -n user.k -v v {}; ln {} link; mv {} {}.new; touch -d 2001-01-01 {}; echo new > {}",
            path(0),
            path(1),
            path(2),
            path(3),
            path(4),
            path(5),
            path(6),
            path(7),
            path(7),
            path(8),
            path(9)
        ),
    );
}

fn ten_of_many(array: Array, count: usize, in_a_directory: usize) {
    behind_cables(array).run_mounted(BUDGET, Health::Healthy, |rig| {
        make_files(&rig.root(), count, in_a_directory);
        sh(&rig.root(), "sync -f .");
        let cost = cost_of(rig, |root| change_ten(root, count, in_a_directory));
        let directories = count.div_ceil(in_a_directory);
        println!("{array}, 10 of {count} files in {directories} directories: {cost:?}");
        let listing = "find . -printf '%p %y %m %n %T@\\n' | sort | md5sum; find . -type f | sort | xargs cat | md5sum";
        let tree = sh(&rig.root(), listing);
        // What the kernel remembers would be no witness.
        rig.client.remount();
        lose_others(rig);
        assert_eq!(sh(&rig.root(), listing), tree);
        assert!(cost.time <= Duration::from_secs(3), "{cost:?}");
        assert!(cost.bytes <= 2 * MIB, "{cost:?}");
    });
}

/// At full size 100,000 files.
fn many() -> usize {
    if long_run() { 100_000 } else { 10_000 }
}

#[test]
fn ten_files_of_many_raid1x2() {
    ten_of_many(Array::RAID1, many(), FILES_IN_A_DIRECTORY);
}

#[test]
fn ten_files_of_many_raid5x3() {
    ten_of_many(Array::RAID5, many(), FILES_IN_A_DIRECTORY);
}

/// All in one directory, from which some were removed.
#[test]
fn ten_files_of_one_directory_raid5x3() {
    ten_of_many(Array::RAID5, many(), ALL);
}

/// One block of a large file, at full size 10 GiB.
fn one_block(array: Array) {
    let size = if long_run() { 10 << 30 } else { 256 * MIB };
    behind_cables(array).run_mounted(BUDGET, Health::Healthy, |rig| {
        let path = rig.path("large");
        write_file(&path, Pattern::of(1), size).unwrap();
        sh(&rig.root(), "sync -f .");
        let at = size / 3 / 4096 * 4096;
        let cost = cost_of(rig, |_| {
            let file = File::options().write(true).open(&path).unwrap();
            write_range(&file, Pattern::of(2), at, 4096).unwrap();
            file.sync_all().unwrap();
        });
        println!("{array}, one block of {} MiB: {cost:?}", size / MIB);
        lose_others(rig);
        let file = File::open(&path).unwrap();
        forget(&file);
        verify_range(&file, Pattern::of(2), at, 4096).unwrap();
        for (from, len) in [(at - MIB, MIB), (at + 4096, MIB)] {
            verify_range(&file, Pattern::of(1), from, len).unwrap();
        }
        // Whatever is asked for beside bytes of the file is less than a stripe: 64 KiB.
        let stripe = array.stripe_bytes() + array.losses() as u64 * 64 * 1024;
        assert!(cost.bytes <= 2 * stripe, "{cost:?}, two stripes are {}", 2 * stripe);
    });
}

#[test]
fn one_block_of_a_large_file_raid1x2() {
    one_block(Array::RAID1);
}

#[test]
fn one_block_of_a_large_file_raid5x3() {
    one_block(Array::RAID5);
}

#[test]
fn one_block_of_a_large_file_raid6x6() {
    one_block(Array::RAID6);
}
