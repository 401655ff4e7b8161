//! What users feel of servers that die, freeze, or are cut off: how long single operations take.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use net_raid_tests::cluster::Cluster;
use net_raid_tests::deadline::Stop;
use net_raid_tests::fsops::open_with;
use net_raid_tests::pattern::{Pattern, verify_file, verify_range, write_file};
use net_raid_tests::rig::BUDGET;
use net_raid_tests::{Array, Health, Rig, on_every_healthy_array};
use rustix::fs::OFlags;

on_every_healthy_array!(killed_servers_delay_a_moment_under_load, frozen_servers_delay_once_under_load);

const MIB: u64 = 1024 * 1024;
/// What a promise in seconds may take on a machine that does something else too.
const SLACK: Duration = Duration::from_secs(3);
/// The default of `stall`.
const STALL: Duration = Duration::from_secs(2);

/// The longest that one write and one read took.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    write: Duration,
    read: Duration,
}

/// Lets `disturb` do its worst while a program writes and another one reads, both around the kernel's cache.
fn pauses(rig: &mut Rig, object: u16, disturb: impl FnOnce(&mut Rig)) -> Pauses {
    const STEP: u64 = 256 * 1024;
    let (written, read) = (rig.path(&format!("written{object}")), rig.path(&format!("read{object}")));
    write_file(&read, Pattern::of(object), 8 * MIB).unwrap();
    let open = |path: &Path, flags| open_with(path, flags | OFlags::DIRECT).unwrap();
    let (writer, reader) = (open(&written, OFlags::CREATE | OFlags::RDWR), open(&read, OFlags::RDONLY));
    let (stop, length) = (AtomicBool::new(false), AtomicU64::new(0));
    let write = |i| {
        writer.write_all_at(&Pattern::of(object).bytes(i * STEP, STEP as usize), i * STEP).expect("no write fails");
        length.store((i + 1) * STEP, Ordering::Relaxed);
    };
    let read = |i| verify_range(&reader, Pattern::of(object), i * STEP % (8 * MIB), STEP).expect("no read fails");
    let longest = std::thread::scope(|scope| {
        let write = scope.spawn(|| longest_until(&stop, write));
        let read = scope.spawn(|| longest_until(&stop, read));
        let both_end = Stop(&stop);
        disturb(rig);
        drop(both_end);
        Pauses { write: write.join().unwrap(), read: read.join().unwrap() }
    });
    verify_file(&written, Pattern::of(object), length.into_inner()).unwrap();
    longest
}

/// Repeats `step` with a number that counts, and returns how long the longest took.
fn longest_until(stop: &AtomicBool, step: impl Fn(u64)) -> Duration {
    let mut longest = Duration::ZERO;
    for i in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        step(i);
        longest = longest.max(start.elapsed());
    }
    longest
}

/// Both go on for a while: there is no condition to wait for.
fn go_on() {
    std::thread::sleep(Duration::from_millis(700));
}

/// What the machine itself is to blame for: another second of the same without any trouble, and a margin.
fn limit(rig: &mut Rig, promise: Duration) -> Duration {
    let calm = pauses(rig, 1, |_| go_on());
    promise + calm.write.max(calm.read) + Duration::from_millis(300)
}

fn killed_servers_delay_a_moment_under_load(rig: &mut Rig) {
    let limit = limit(rig, Duration::from_millis(200));
    for victim in rig.array.victims() {
        let longest = pauses(rig, 2 + victim as u16, |rig| {
            go_on();
            rig.cluster[victim].kill9();
            go_on();
        });
        println!("{}, killed: {longest:?}, at most {limit:?}", rig.array);
        assert!(longest.write <= limit && longest.read <= limit, "{longest:?}, at most {limit:?}");
    }
}

/// Frozen under load, when its sockets are full, and dropped although it never says a word.
fn frozen_servers_delay_once_under_load(rig: &mut Rig) {
    silent_servers_delay_once(rig, "frozen", |rig, victim| rig.cluster[victim].freeze());
    rig.array.victims().into_iter().for_each(|victim| rig.cluster[victim].thaw());
}

fn cut_servers_delay_once_under_load(array: Array) {
    let rig = Rig::over(Cluster::start_in_netns(array.bricks), array);
    rig.run_mounted(BUDGET, Health::Healthy, |rig| {
        silent_servers_delay_once(rig, "cut off", |rig, victim| rig.cluster[victim].netns().cut());
    });
}

#[test]
fn cut_servers_delay_once_under_load_raid1x2() {
    cut_servers_delay_once_under_load(Array::RAID1);
}

#[test]
fn cut_servers_delay_once_under_load_raid5x3() {
    cut_servers_delay_once_under_load(Array::RAID5);
}

#[test]
fn cut_servers_delay_once_under_load_raid6x6() {
    cut_servers_delay_once_under_load(Array::RAID6);
}

fn silent_servers_delay_once(rig: &mut Rig, how: &str, silence: impl Fn(&Rig, usize)) {
    let limit = limit(rig, STALL + Duration::from_millis(500));
    let longest = pauses(rig, 2, |rig| {
        go_on();
        let victims = rig.array.victims();
        victims.iter().for_each(|&victim| silence(rig, victim));
        let dropped = |address: String| rig.client.errorlog().expect(&["VOLUME", "dropped", &address], STALL + SLACK);
        victims.iter().for_each(|&victim| drop(dropped(rig.cluster[victim].address())));
        go_on();
    });
    println!("{}, {how}: {longest:?}, at most {limit:?}", rig.array);
    assert!(longest.write <= limit && longest.read <= limit, "{longest:?}, at most {limit:?}");
    let after = pauses(rig, 3, |_| go_on());
    assert!(after.write < STALL && after.read < STALL, "delayed again: {after:?}");
}
