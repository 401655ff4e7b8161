//! What rots of a brick's own, the label and the log, while its server runs, is found by a scrub and mended: nothing of it is
//! left when the server is started again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use net_raid_tests::deadline::wait_until;
use net_raid_tests::fsops::forget;
use net_raid_tests::pattern::{Pattern, verify_range, write_file, write_range};
use net_raid_tests::process::sh;
use net_raid_tests::scrub::{flip, scrub};
use net_raid_tests::{Array, Health, Rig};

/// How long a client needs to find a server that is back.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// Bytes at the start of the file that are overwritten.
const OVERWRITTEN: u64 = 100_000;

fn length(rig: &Rig) -> u64 {
    4 * rig.array.stripe_bytes()
}

fn own(rig: &Rig, brick: usize, file: &str) -> PathBuf {
    rig.cluster[brick].dir().join(".net_raid").join(file)
}

/// A file that was written, and the beginning of it overwritten.
fn reads_right(rig: &Rig) {
    let file = File::open(rig.path("file")).unwrap();
    forget(&file);
    verify_range(&file, Pattern::of(2), 0, OVERWRITTEN).unwrap();
    verify_range(&file, Pattern::of(1), OVERWRITTEN, length(rig) - OVERWRITTEN).unwrap();
}

/// Makes the logs hold an overwrite of the file.
fn overwrite(rig: &Rig) {
    let file = File::options().write(true).open(rig.path("file")).unwrap();
    write_range(&file, Pattern::of(2), 0, OVERWRITTEN).unwrap();
    file.sync_all().unwrap();
}

fn begin(rig: &mut Rig) {
    write_file(&rig.path("file"), Pattern::of(1), length(rig)).unwrap();
    rig.client.remount();
    overwrite(rig);
    let first = scrub(rig);
    assert_eq!((first.mended, first.damaged), (0, 0), "nothing is wrong yet:\n{}", first.log);
}

/// Hurts one file of as many bricks as may be lost: a scrub tells of each, mends it, and the next one finds nothing.
fn is_mended(rig: &mut Rig, damage: &str, file: &str, inflict: fn(&Path)) {
    let victims = rig.array.victims();
    victims.iter().for_each(|brick| inflict(&own(rig, *brick, file)));
    let first = scrub(rig);
    for brick in &victims {
        let (address, file) = (rig.cluster[*brick].address(), format!(".net_raid/{file}"));
        let found = first.lines(&[&address, "inconsistency found", &file]);
        assert_eq!(found, 1, "{damage}, {file} of {address}:\n{}", first.log);
        let repaired = first.lines(&[&address, "repaired", &file]);
        assert_eq!(repaired, 1, "{damage}, {file} of {address}:\n{}", first.log);
    }
    assert_eq!(first.damaged, 0, "{damage}:\n{}", first.log);
    let second = scrub(rig);
    assert_eq!((second.mended, second.damaged), (0, 0), "{damage}, once more:\n{}", second.log);
}

/// The servers are killed, and start; they are as good as the others.
fn they_start_again(rig: &mut Rig, damage: &str) {
    let victims = rig.array.victims();
    let back = |rig: &Rig, brick: usize| {
        let log = rig.client.errorlog();
        let address = format!(" {} ", rig.cluster[brick].address());
        log.matching(&[&address, "up to date"]).len() + log.matching(&[&address, "member caught up"]).len()
    };
    let before: Vec<usize> = victims.iter().map(|brick| back(rig, *brick)).collect();
    rig.cluster.kill9(&victims);
    rig.cluster.restart(&victims);
    wait_until(damage, BACK_WITHIN, || victims.iter().zip(&before).all(|(brick, before)| back(rig, *brick) > *before));
    reads_right(rig);
}

/// What it is called, and how it is done to a file.
type Damage = (&'static str, fn(&Path));

const LABEL_DAMAGES: [Damage; 4] = [
    ("a flipped byte", |label| assert!(flip(label, 30))),
    ("a cut label", |label| File::options().write(true).open(label).unwrap().set_len(100).unwrap()),
    ("a lost label", |label| fs::remove_file(label).unwrap()),
    ("an overwritten label", |label| fs::write(label, [7; 100]).unwrap()),
];

/// Where one copy was mended, the brick starts also when the other one is lost then. (A server that breaks off more often than this is
/// left alone for a while.)
fn labels_are_mended(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        begin(rig);
        let labels = |rig: &Rig, file: &str| -> Vec<PathBuf> {
            array.victims().into_iter().map(|brick| own(rig, brick, file)).collect()
        };
        for (round, (damage, inflict)) in LABEL_DAMAGES.into_iter().enumerate() {
            is_mended(rig, damage, "label.0", inflict);
            is_mended(rig, damage, "label.1", inflict);
            let other = if round % 2 == 0 { "label.0" } else { "label.1" };
            labels(rig, other).iter().for_each(|label| assert!(flip(label, 30)));
            they_start_again(rig, damage);
            scrub(rig);
        }
        let both = [labels(rig, "label.0"), labels(rig, "label.1")].concat();
        both.iter().for_each(|label| assert!(flip(label, 30)));
        assert_eq!(scrub(rig).mended, both.len() as u64, "both copies at once");
        they_start_again(rig, "both copies");
    });
}

/// The log that holds the overwrite, which was just made.
fn live_log(rig: &Rig, brick: usize) -> &'static str {
    let logs = ["log.0", "log.1"];
    let has_some = |log: &&&str| fs::read(own(rig, brick, log)).unwrap()[..4] != [0; 4];
    let generation = |log: &&&str| fs::read(own(rig, brick, log)).unwrap()[16..24].to_vec().into_iter().rev().collect();
    logs.iter().filter(has_some).max_by_key(|log| -> Vec<u8> { generation(log) }).expect("an overwrite is in one")
}

const LOG_DAMAGES: [Damage; 5] = [
    ("a flipped byte of a record", |log| assert!(flip(log, 40))),
    ("a flipped byte of data", |log| assert!(flip(log, 20_000))),
    ("a cut log", |log| File::options().write(true).open(log).unwrap().set_len(3000).unwrap()),
    ("a lost log", |log| fs::remove_file(log).unwrap()),
    ("another log", |log| {
        fs::remove_file(log).unwrap();
        fs::write(log, [7; 30_000]).unwrap();
    }),
];

/// What waits in the log is in its place afterwards, right in every byte.
fn logs_are_mended(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        begin(rig);
        for (damage, inflict) in LOG_DAMAGES {
            overwrite(rig);
            // All bricks are in the same generation.
            let log = live_log(rig, array.victims()[0]);
            is_mended(rig, damage, log, inflict);
            they_start_again(rig, damage);
            sh(&rig.root(), "cat file > /dev/null");
        }
        let second = scrub(rig);
        assert_eq!((second.mended, second.damaged), (0, 0), "at last:\n{}", second.log);
    });
}

#[test]
fn labels_are_mended_raid1x2() {
    labels_are_mended(Array::RAID1);
}

#[test]
fn labels_are_mended_raid5x3() {
    labels_are_mended(Array::RAID5);
}

#[test]
fn labels_are_mended_raid6x4() {
    labels_are_mended(Array::RAID6_NARROW);
}

#[test]
fn logs_are_mended_raid1x2() {
    logs_are_mended(Array::RAID1);
}

#[test]
fn logs_are_mended_raid5x3() {
    logs_are_mended(Array::RAID5);
}

#[test]
fn logs_are_mended_raid6x4() {
    logs_are_mended(Array::RAID6_NARROW);
}
