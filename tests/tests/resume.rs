//! A server that is killed and started again within the stall is as good as the others, and nothing is copied for that.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use net_raid_tests::deadline::{reached, wait_until};
use net_raid_tests::fsops::{forget, open_with};
use net_raid_tests::pattern::{Pattern, verify_file, verify_range, write_file};
use net_raid_tests::process::sh;
use net_raid_tests::{Rig, on_every_healthy_array};
use rustix::fs::OFlags;

on_every_healthy_array!(between_changes_nothing_is_written_for_it, while_programs_write_it_does_what_it_missed);

const MIB: u64 = 1024 * 1024;
/// How long a client that tries again and again needs to find a server that is back, and to bring it up to date.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// A server that was away no longer than this is resumed, whatever the machine does: the stall is two seconds.
const SURELY_IN_TIME: Duration = Duration::from_millis(1700);

/// How often a server was resumed.
fn resumed(rig: &Rig, victim: usize) -> usize {
    rig.client.errorlog().matching(&["up to date", &format!(" {} ", rig.cluster[victim].address())]).len()
}

fn is_anybody_dropped(rig: &Rig) -> bool {
    !rig.client.errorlog().matching(&["member dropped"]).is_empty()
}

/// Bytes that a process has written to files and sockets.
fn written_by(pid: i32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).expect("read /proc/PID/io");
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("wchar");
    line.parse().expect("a number")
}

/// As many as may be lost go, none of them the one that was away: it has to be as good as the others.
fn lose_others(rig: &mut Rig, resumed: usize) {
    let others = (0..rig.array.bricks).filter(|brick| *brick != resumed).take(rig.array.losses());
    rig.cluster.kill9(&others.collect::<Vec<_>>());
}

/// Programs read while the server is away; none changes anything.
fn between_changes_nothing_is_written_for_it(rig: &mut Rig) {
    let pattern = Pattern::of(1);
    write_file(&rig.path("file"), pattern, 16 * MIB).unwrap();
    sh(&rig.root(), "mkdir dir; touch dir/a; mv dir/a dir/b; sync -f .");
    let file = open_with(&rig.path("file"), OFlags::RDONLY | OFlags::DIRECT).unwrap();
    let victim = rig.array.victims()[0];
    let before = resumed(rig, victim);
    rig.cluster[victim].kill9();
    verify_range(&file, pattern, 0, 4 * MIB).unwrap();
    rig.cluster[victim].start();
    wait_until("the server is resumed", BACK_WITHIN, || resumed(rig, victim) > before);
    let written = written_by(rig.cluster[victim].pid());
    assert!(written < MIB, "{written} bytes were written by a server that missed nothing");
    assert!(!is_anybody_dropped(rig));
    drop(file);
    lose_others(rig, victim);
    forget(&File::open(rig.path("file")).unwrap());
    verify_file(&rig.path("file"), pattern, 16 * MIB).unwrap();
}

/// What the programs have done by now, in rounds.
#[derive(Default)]
struct Progress {
    written: AtomicU64,
    named: AtomicU64,
    /// The longest that one of them waited for an operation, in milliseconds.
    longest: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn timed(&self, operation: impl FnOnce()) {
        let start = Instant::now();
        operation();
        self.longest.fetch_max(start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

const STEP: u64 = 40_000;

/// A file grows, and its beginning is written again and again, with a sync now and then.
fn write(path: &Path, progress: &Progress) {
    let file = open_with(path, OFlags::CREATE | OFlags::RDWR).unwrap();
    let mut round = 0;
    while progress.goes_on() {
        progress.timed(|| {
            file.write_all_at(&Pattern::of(2).bytes(round * STEP, STEP as usize), round * STEP)
                .expect("no write fails");
            file.write_all_at(&round.to_le_bytes(), 0).expect("no overwrite fails");
        });
        if round.is_multiple_of(16) {
            file.sync_data().expect("no sync fails");
        }
        round += 1;
        progress.written.store(round, Ordering::Relaxed);
    }
}

/// Files are made, moved into place over one another, and go.
fn rename(root: &Path, progress: &Progress) {
    let mut round = 0;
    while progress.goes_on() {
        progress.timed(|| {
            fs::write(root.join("names/new"), round.to_string()).expect("no file fails");
            fs::rename(root.join("names/new"), root.join(format!("names/{}", round % 50))).expect("no rename fails");
            if round % 50 == 49 {
                fs::remove_file(root.join("names/0")).expect("no removal fails");
            }
        });
        round += 1;
        progress.named.store(round, Ordering::Relaxed);
    }
}

/// One server after another is away for about a second.
fn while_programs_write_it_does_what_it_missed(rig: &mut Rig) {
    let (root, path) = (rig.root(), rig.path("file"));
    fs::create_dir(root.join("names")).unwrap();
    let progress = Progress::default();
    let mut too_late = false;
    let victims: Vec<usize> = (0..rig.array.bricks).take(3).collect();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&path, &progress));
        let renamer = scope.spawn(|| rename(&root, &progress));
        let _stop = Stop(&progress);
        for victim in &victims {
            let before = resumed(rig, *victim);
            let killed = Instant::now();
            rig.cluster[*victim].kill9();
            let (written, named) = (progress.written.load(Ordering::Relaxed), progress.named.load(Ordering::Relaxed));
            let go_on = || {
                progress.written.load(Ordering::Relaxed) > written + 20
                    && progress.named.load(Ordering::Relaxed) > named + 5
                    && killed.elapsed() > Duration::from_millis(700)
            };
            wait_until("programs go on without the server", BACK_WITHIN, || go_on() || writer.is_finished());
            rig.cluster[*victim].start();
            too_late |= killed.elapsed() > SURELY_IN_TIME;
            let is_back = || resumed(rig, *victim) > before || too_late && is_anybody_dropped(rig);
            assert!(reached(BACK_WITHIN, is_back), "not resumed: {}", rig.client.errorlog().text());
        }
        progress.stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer");
        renamer.join().expect("the renamer");
    });
    eprintln!("{}: the longest operation took {} ms", rig.array, progress.longest.load(Ordering::Relaxed));
    assert!(too_late || !is_anybody_dropped(rig), "{}", rig.client.errorlog().text());
    // Whoever was dropped because the machine was too slow has no part in what follows.
    let last = victims[victims.len() - 1];
    if !too_late {
        lose_others(rig, last);
    }
    check(&root, &path, &progress);
    rig.client.remount();
    check(&root, &path, &progress);
}

/// Everything is there.
fn check(root: &Path, path: &Path, progress: &Progress) {
    let (written, named) = (progress.written.load(Ordering::Relaxed), progress.named.load(Ordering::Relaxed));
    let file = File::open(path).unwrap();
    forget(&file);
    let mut last = [0; 8];
    file.read_exact_at(&mut last, 0).unwrap();
    assert_eq!(u64::from_le_bytes(last), written - 1);
    verify_range(&file, Pattern::of(2), 4096, written * STEP - 4096).unwrap();
    for name in 0..50 {
        let newest = (0..named).rev().find(|round| round % 50 == name);
        let removed = name == 0 && named % 50 == 0;
        let expected = newest.filter(|_| !removed).map(|round| round.to_string());
        assert_eq!(fs::read_to_string(root.join(format!("names/{name}"))).ok(), expected, "name {name} of {named}");
    }
}

struct Stop<'a>(&'a Progress);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}
