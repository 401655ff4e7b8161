//! How fast a server gets what it missed, and a spare everything, while nobody uses the volume. Nothing else runs beside these tests:
//! they compare times.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use net_raid_tests::fsops::forget;
use net_raid_tests::pattern::{Pattern, verify_file, write_file};
use net_raid_tests::places::long_run;
use net_raid_tests::process::sh;
use net_raid_tests::{Array, Health, Rig};

const MIB: u64 = 1024 * 1024;
const BUDGET: Duration = Duration::from_secs(600);
/// A server that is gone is dropped, and replaced, within this.
const SOON: Duration = Duration::from_secs(60);
const WITHIN: Duration = Duration::from_secs(240);
/// A machine does other things too, which only ever takes time: it counts what was measured best.
const ATTEMPTS: usize = 3;

/// Bytes of the large file; at full size 1 GiB.
fn large() -> u64 {
    if long_run() { 1024 * MIB } else { 256 * MIB }
}

/// Files beside it; at full size 2,000.
fn small_files() -> usize {
    if long_run() { 2000 } else { 200 }
}

/// Bytes per second.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Rate(f64);

impl Rate {
    fn of(bytes: u64, time: Duration) -> Rate {
        Rate(bytes as f64 / time.as_secs_f64())
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} MB/s", self.0 / 1e6)
    }
}

/// What the disk does that all bricks are on: a file of that many bytes is written and made durable.
fn disk_alone(dir: &Path, bytes: u64) -> Rate {
    let path = dir.join("alone");
    let begin = Instant::now();
    write_file(&path, Pattern::of(9), bytes).unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    let rate = Rate::of(bytes, begin.elapsed());
    fs::remove_file(&path).unwrap();
    rate
}

/// The least that counts as fast: of a file's bytes four fifths of what goes onto the disk alone, which all bricks share, or of 400 MB a
/// second; what the disk does differs that much from one second to the next. With parity a brick is given a part of these bytes only, so that
/// this says less of its disk. In short runs, in which what each attempt begins and ends with weighs more, and with unoptimised programs
/// 15 % will do.
fn least(alone: Rate) -> Rate {
    let part = if long_run() { 0.8 } else { 0.15 };
    Rate(alone.0.min(400e6) * part)
}

/// As many as may be lost go, but not this one: what is read now comes from it.
fn check_without_others(rig: &mut Rig, kept: usize, file: Pattern) {
    let running = (0..rig.cluster.len()).filter(|&brick| brick != kept && rig.cluster[brick].is_served());
    let others: Vec<usize> = running.take(rig.array.losses()).collect();
    rig.cluster.kill9(&others);
    forget(&File::open(rig.path("large")).unwrap());
    verify_file(&rig.path("large"), file, large()).unwrap();
}

/// A server comes back to a file that was written anew while it was away.
fn catch_up(array: Array) {
    Rig::run_within(BUDGET, array, Health::Healthy, |rig| {
        let address = format!(" {} ", rig.cluster[0].address());
        let on_a_brick = large() / array.data_bricks() as u64;
        let written = |time: usize| Pattern::of(time as u16);
        let fast = (1..=ATTEMPTS).find(|&time| {
            rig.cluster[0].kill9();
            write_file(&rig.path("large"), written(time), large()).unwrap();
            rig.client.errorlog().expect_times(&[&address, "member dropped"], time, SOON);
            sh(&rig.root(), "sync -f .; sync");
            let alone = disk_alone(rig.cluster.path(), on_a_brick);
            let begin = Instant::now();
            rig.cluster[0].start();
            rig.client.errorlog().expect_times(&[&address, "member caught up"], time, WITHIN);
            let took = begin.elapsed();
            let (file, brick) = (Rate::of(large(), took), Rate::of(on_a_brick, took));
            let size = large() / MIB;
            println!(
                "{array}, {size} MiB written anew: {file}, {brick} onto the brick, in {took:?}; the disk alone {alone}"
            );
            file >= least(alone)
        });
        check_without_others(rig, 0, written(fast.expect("not once fast")));
    });
}

/// A spare gets a large file and small ones.
fn rebuild(array: Array) {
    let work = |rig: &mut Rig| {
        let on_a_brick = large() / array.data_bricks() as u64;
        let address = format!(" {} ", rig.cluster[array.bricks].address());
        write_file(&rig.path("large"), Pattern::of(1), large()).unwrap();
        for number in 0..small_files() {
            fs::write(rig.path(&format!("small{number}")), vec![1; 4096]).unwrap();
        }
        sh(&rig.root(), "sync -f .; sync");
        let alone = disk_alone(rig.cluster.path(), on_a_brick);
        rig.cluster[0].kill9();
        rig.client.errorlog().expect(&["copy to spare started"], SOON);
        let begin = Instant::now();
        rig.client.errorlog().expect(&[&address, "member caught up"], WITHIN);
        let took = begin.elapsed();
        let (file, brick) = (Rate::of(large(), took), Rate::of(on_a_brick, took));
        let (size, small) = (large() / MIB, small_files());
        println!(
            "{array}, {size} MiB and {small} files onto a spare: {file}, {brick} onto the brick, in {took:?}; the disk alone {alone}"
        );
        check_without_others(rig, array.bricks, Pattern::of(1));
        file >= least(alone)
    };
    let is_fast = (1..=ATTEMPTS).any(|_| {
        let mut fast = false;
        Rig::unmounted(array, 1).run_mounted(BUDGET, Health::Healthy, |rig| fast = work(rig));
        fast
    });
    assert!(is_fast, "not once of {ATTEMPTS} times");
}

#[test]
fn catch_up_raid1x2() {
    catch_up(Array::RAID1);
}

#[test]
fn catch_up_raid5x3() {
    catch_up(Array::RAID5);
}

#[test]
fn catch_up_raid6x4() {
    catch_up(Array::RAID6_NARROW);
}

#[test]
fn rebuild_raid1x2() {
    rebuild(Array::RAID1);
}

#[test]
fn rebuild_raid6x4() {
    rebuild(Array::RAID6_NARROW);
}
