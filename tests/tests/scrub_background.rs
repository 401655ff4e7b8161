//! The scrub in the background: it finds what rots without being asked, goes on where it was, and gives way.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use net_raid_tests::array::UNIT;
use net_raid_tests::deadline::reached;
use net_raid_tests::fsops::forget;
use net_raid_tests::pattern::{Pattern, verify_file, write_file};
use net_raid_tests::process::send;
use net_raid_tests::scrub::flip;
use net_raid_tests::{Array, Health, Rig};
use nix::sys::signal::Signal;

/// How long a pass over the little that there is here may take.
const WITHIN: Duration = Duration::from_secs(60);
const GOES_ON: &str = "scrub in the background goes on: ";

/// Mounts with the shortest pass that there is.
fn often(rig: &Rig) {
    let text = fs::read_to_string(rig.client.config()).unwrap();
    rig.client.rewrite(&format!("scrub = 1m\n{text}"));
    rig.client.remount();
}

fn note(rig: &Rig) -> PathBuf {
    rig.cluster[0].dir().join(".net_raid/note")
}

fn count(line: &str, word: &str) -> u64 {
    let rest = line.split(&format!("{word} ")).nth(1).unwrap_or_else(|| panic!("no {word}: {line}"));
    rest.split([',', ':']).next().expect("a number").trim().parse().unwrap_or_else(|e| panic!("{e}: {line}"))
}

fn rot_is_found_without_a_word(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        let len = 6 * array.stripe_bytes();
        write_file(&rig.path("nobody_reads_it"), Pattern::of(1), len).unwrap();
        rig.client.unmount();
        let brick = array.victims()[0];
        let file = rig.cluster[brick].dir().join("nobody_reads_it");
        let before = fs::read(&file).unwrap();
        assert!(flip(&file, 2 * UNIT + 9));
        rig.client.mount();
        often(rig);
        let log = rig.client.errorlog();
        let address = rig.cluster[brick].address();
        log.expect(&[&address, "repaired: /nobody_reads_it", "1 blocks"], WITHIN);
        log.expect(&["scrub in the background done", "mended 1, damaged 0"], WITHIN);
        // What is mended comes to its place with a checkpoint.
        assert!(reached(WITHIN, || fs::read(&file).unwrap() == before));
        assert_eq!(log.matching(&["scrub in the background started"]).len(), 1, "{}", log.text());
        assert_eq!(log.matching(&["scrub started"]).len(), 0, "{}", log.text());
    });
}

#[test]
fn rot_is_found_without_a_word_raid1x2() {
    rot_is_found_without_a_word(Array::RAID1);
}

#[test]
fn rot_is_found_without_a_word_raid5x3() {
    rot_is_found_without_a_word(Array::RAID5);
}

#[test]
fn rot_is_found_without_a_word_raid6x4() {
    rot_is_found_without_a_word(Array::RAID6_NARROW);
}

/// A file that takes some time to scrub, and one to be read meanwhile, scrubbed in the background; their lengths.
fn begin(rig: &Rig) -> (u64, u64) {
    let (len, small) = (400 * rig.array.stripe_bytes(), 3 * rig.array.stripe_bytes());
    write_file(&rig.path("large"), Pattern::of(1), len).unwrap();
    write_file(&rig.path("read"), Pattern::of(2), small).unwrap();
    often(rig);
    (len, small)
}

/// Waits until the place of the pass in the background was noted once.
fn await_note(rig: &Rig) {
    assert!(reached(WITHIN, || note(rig).exists()), "{}", rig.client.errorlog().text());
}

/// Reads without a pause until told to stop, which keeps a scrub slow. Every byte must be right.
fn reading<T>(rig: &Rig, name: &str, len: u64, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    let path = rig.path(name);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut rounds = 0;
            while !is_over.load(Ordering::Relaxed) {
                forget(&File::open(&path).unwrap());
                verify_file(&path, Pattern::of(2), len).unwrap();
                rounds += 1;
            }
            rounds
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        assert!(reader.join().expect("the reader ends") > 0, "users read");
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The place is noted on the bricks: after kill -9 the next client is near where the last one was.
#[test]
fn it_goes_on_after_kill_9_and_users_go_on_reading() {
    let array = Array::RAID5;
    Rig::run(array, Health::Healthy, |rig| {
        let (len, small) = begin(rig);
        reading(rig, "read", small, || {
            await_note(rig);
            let first = fs::read(note(rig)).unwrap();
            assert!(reached(WITHIN, || fs::read(note(rig)).is_ok_and(|note| note != first)));
        });
        rig.client.kill9();
        rig.client.mount();
        let log = rig.client.errorlog();
        log.expect(&[GOES_ON, "/large"], WITHIN);
        let line = log.text().lines().rfind(|line| line.contains(GOES_ON)).expect("it is there").to_owned();
        assert!(count(&line, "stripe") > 0, "{line}");
        let before = count(&line, "bytes");
        assert!(before > 0, "{line}");
        log.expect(&["scrub in the background done"], WITHIN);
        let line = log.text().lines().rfind(|line| line.contains("background done")).expect("done").to_owned();
        let all = (len + small) / array.stripe_bytes() * UNIT * array.bricks as u64;
        let bytes = count(&line, "bytes");
        assert!(bytes >= all && bytes < all + before, "{bytes} of {all}, and {before} before: {line}");
        assert_eq!(count(&line, "files"), 2, "{line}");
        assert_eq!(log.matching(&["scrub in the background started"]).len(), 1, "{}", log.text());
    });
}

/// What is wanted at full speed is done at once and whole, and the pass in the background is done with it.
#[test]
fn a_scrub_that_is_wanted_ends_the_one_in_the_background() {
    let array = Array::RAID5;
    Rig::run(array, Health::Healthy, |rig| {
        let (len, small) = begin(rig);
        reading(rig, "read", small, || {
            await_note(rig);
            send(rig.client.pid(), Signal::SIGUSR1);
            let log = rig.client.errorlog();
            log.expect(&["scrub done", "files 2"], WITHIN);
            let line = log.matching(&["scrub done"]).last().expect("done").to_owned();
            let all = (len + small) / array.stripe_bytes() * UNIT * array.bricks as u64;
            assert_eq!(count(&line, "bytes"), all, "{line}");
        });
        // It is not that one that ended, and the next one is not due yet: after a mount nothing goes on.
        let log = rig.client.errorlog();
        assert_eq!(log.matching(&["scrub in the background done"]).len(), 0, "{}", log.text());
        rig.client.remount();
        rig.client.unmount();
        assert_eq!(log.matching(&[GOES_ON]).len(), 0, "{}", log.text());
        rig.client.mount();
    });
}
