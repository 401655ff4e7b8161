//! What users feel of work in the background. Nothing else runs beside these tests: they compare times.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net_raid_tests::deadline::Stop;
use net_raid_tests::fsops::open_with;
use net_raid_tests::pattern::{Pattern, verify_range, write_file};
use net_raid_tests::places::long_run;
use net_raid_tests::process::sh;
use net_raid_tests::{Array, Health, Rig};
use rustix::fs::OFlags;

const MIB: u64 = 1024 * 1024;
/// A server that is gone is dropped within this.
const SOON: Duration = Duration::from_secs(30);

/// What a hundredth of the reads, and of the writes, took longer than.
#[derive(Clone, Copy, Debug)]
struct Slowest {
    write: Duration,
    read: Duration,
}

/// A program that reads and one that writes a block now and then, both around the kernel's cache, while something happens.
fn slowest(rig: &mut Rig, meanwhile: impl FnOnce(&mut Rig)) -> Slowest {
    const BLOCK: u64 = 4096;
    const EVERY: Duration = Duration::from_millis(4);
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::DIRECT;
    let (written, read): (File, File) =
        (open_with(&rig.path("written"), flags).unwrap(), open_with(&rig.path("read"), flags).unwrap());
    // Any order does in which what comes next is not what came before.
    let place = |i: u64| i * 7919 % (USED / BLOCK) * BLOCK;
    let stop = AtomicBool::new(false);
    let write = |i| {
        let at = place(i);
        written.write_all_at(&Pattern::of(1).bytes(at, BLOCK as usize), at).expect("no write fails");
    };
    let read = |i| verify_range(&read, Pattern::of(2), place(i), BLOCK).expect("no read fails");
    std::thread::scope(|scope| {
        let write = scope.spawn(|| times_until(&stop, EVERY, write));
        let read = scope.spawn(|| times_until(&stop, EVERY, read));
        let both_end = Stop(&stop);
        meanwhile(rig);
        drop(both_end);
        Slowest { write: percentile(write.join().unwrap()), read: percentile(read.join().unwrap()) }
    })
}

fn times_until(stop: &AtomicBool, every: Duration, step: impl Fn(u64)) -> Vec<Duration> {
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        step(times.len() as u64);
        times.push(start.elapsed());
        // What a program does between two operations.
        std::thread::sleep(every.saturating_sub(start.elapsed()));
    }
    times
}

fn percentile(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

/// Bytes of the files that programs use, and of what is behind.
const USED: u64 = 32 * MIB;
const BEHIND: u64 = 512 * MIB;

/// A machine does other things too, which only ever takes time: it counts what was measured best.
const ATTEMPTS: u32 = 3;

/// What takes longest may take so many times as long, or so many milliseconds longer: two, or one. Where bricks, client and programs share
/// two processors, in a short run, twice that is allowed; copies that give way to nobody take ten times as long.
fn limit(alone: Duration) -> Duration {
    let (times, longer) = if long_run() { (2, 1) } else { (4, 4) };
    (times * alone).max(alone + Duration::from_millis(longer))
}

/// A server is brought up to date beside users.
fn users_feel_little_of_a_catch_up(array: Array) {
    Rig::run_within(Duration::from_secs(500), array, Health::Healthy, |rig| {
        write_file(&rig.path("written"), Pattern::of(1), USED).unwrap();
        write_file(&rig.path("read"), Pattern::of(2), USED).unwrap();
        let is_little = (0..ATTEMPTS).any(|attempt| {
            let (alone, beside) = alone_and_beside_a_catch_up(rig, attempt as usize + 1);
            beside.write <= limit(alone.write) && beside.read <= limit(alone.read)
        });
        assert!(is_little, "not once of {ATTEMPTS} times");
    });
}

fn alone_and_beside_a_catch_up(rig: &mut Rig, time: usize) -> (Slowest, Slowest) {
    let address = format!(" {} ", rig.cluster[0].address());
    rig.cluster[0].kill9();
    write_file(&rig.path("behind"), Pattern::of(2 + time as u16), BEHIND).unwrap();
    rig.client.errorlog().expect_times(&[&address, "member dropped"], time, SOON);
    sh(&rig.root(), "sync -f .; sync");
    let alone = slowest(rig, |_| std::thread::sleep(Duration::from_secs(6)));
    let begun = Instant::now();
    let beside = slowest(rig, |rig| {
        rig.cluster[0].start();
        rig.client.errorlog().expect_times(&[&address, "member caught up"], time, Duration::from_secs(120));
    });
    println!("{}: alone {alone:?}, beside {beside:?} for {:?}", rig.array, begun.elapsed());
    (alone, beside)
}

#[test]
fn users_feel_little_of_a_catch_up_raid1x2() {
    users_feel_little_of_a_catch_up(Array::RAID1);
}

#[test]
fn users_feel_little_of_a_catch_up_raid5x3() {
    users_feel_little_of_a_catch_up(Array::RAID5);
}

#[test]
fn users_feel_little_of_a_catch_up_raid6x4() {
    users_feel_little_of_a_catch_up(Array::RAID6_NARROW);
}
