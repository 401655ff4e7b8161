//! What rots on bricks, behind their servers' backs, is found by a scrub and put right from the others.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use net_raid_tests::array::UNIT;
use net_raid_tests::deadline::reached;
use net_raid_tests::fsops::{forget, xattr, xattr_names};
use net_raid_tests::pattern::{Pattern, verify_file, verify_range, write_file, write_range};
use net_raid_tests::process::sh;
use net_raid_tests::scrub::{SCRUBBED_WITHIN, flip, scrub};
use net_raid_tests::{Array, Health, Rig};
use rustix::io::Errno;

/// What people see of one object on a brick.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    mtime: (i64, i64),
    content: Vec<u8>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

/// All that is on a brick, but for the brick's own records.
fn seen(brick: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![vec![brick.to_owned()]];
    while let Some(paths) = waiting.pop() {
        for path in paths.into_iter().filter(|path| *path != brick.join(".net_raid")) {
            let stat = fs::symlink_metadata(&path).unwrap();
            let kind = stat.file_type();
            let content = match () {
                () if kind.is_file() => fs::read(&path).unwrap(),
                () if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                () => Vec::new(),
            };
            let names = if kind.is_symlink() { Vec::new() } else { xattr_names(&path) };
            let names = names.iter().map(|name| name.to_str().expect("text").to_owned());
            let xattrs = names.filter(|name| name.starts_with("user.")).map(|name| {
                let value = xattr(&path, &name).unwrap();
                (name, value)
            });
            if kind.is_dir() {
                waiting.push(fs::read_dir(&path).unwrap().map(|item| item.unwrap().path()).collect());
            }
            let seen = Seen {
                mode: stat.mode(),
                owner: (stat.uid(), stat.gid()),
                links: stat.nlink(),
                mtime: (stat.mtime(), stat.mtime_nsec()),
                content,
                xattrs: xattrs.collect(),
            };
            all.insert(path.strip_prefix(brick).unwrap().to_owned(), seen);
        }
    }
    all
}

/// The first object in which two states of a brick differ.
fn difference(before: &BTreeMap<PathBuf, Seen>, now: &BTreeMap<PathBuf, Seen>) -> Option<String> {
    let paths = before.keys().chain(now.keys());
    let path = paths.into_iter().find(|path| before.get(*path) != now.get(*path))?;
    let short = |seen: Option<&Seen>| {
        seen.map(|seen| {
            let Seen { mode, owner, links, mtime, content, xattrs } = seen;
            format!("{mode:o} {owner:?} {links} {mtime:?} {} bytes {xattrs:?}", content.len())
        })
    };
    Some(format!("{}: {:?} was {:?}", path.display(), short(now.get(path)), short(before.get(path))))
}

/// Changes one byte as a person does: the brick's file is newer than all others then.
fn write_by_hand(file: &Path, at: u64) -> bool {
    flip(file, at) && {
        File::options().write(true).open(file).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        true
    }
}

/// The one record file of a brick.
fn record_file(brick: &Path) -> PathBuf {
    let buckets = fs::read_dir(brick.join(".net_raid/records")).unwrap();
    let files = buckets.flat_map(|bucket| fs::read_dir(bucket.unwrap().path()).unwrap());
    let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "record files: {files:?}");
    files[0].clone()
}

fn cut_records(brick: &Path, len: u64) -> bool {
    File::options().write(true).open(record_file(brick)).unwrap().set_len(len).unwrap();
    true
}

fn length(rig: &Rig) -> u64 {
    6 * rig.array.stripe_bytes() + 1000
}

/// A tree at rest, with one file that has a record file.
fn begin(rig: &mut Rig) {
    write_file(&rig.path("large"), Pattern::of(1), length(rig)).unwrap();
    sh(
        &rig.root(),
        "mkdir -p d/deep; echo small > d/small; echo other > d/other; head -c 9000 large > d/blocks; echo x > d/deep/x; \
         ln d/other d/hard; ln -s small d/soft; mkfifo d/pipe; setfattr -n user.k -v value d/small; setfattr -n user.d -v v d; \
         chmod 640 d/small; touch -d 2001-01-01 d/deep/x; touch empty; setfattr -n user.r -v r .; chmod 751 .",
    );
    rig.client.remount();
    let first = scrub(rig);
    assert_eq!((first.mended, first.damaged), (0, 0), "nothing is wrong yet:\n{}", first.log);
}

/// Something that is done to a brick, and the object of which the log must tell.
struct Damage {
    name: &'static str,
    object: &'static str,
    /// `false` where the brick has nothing that could be hurt so.
    inflict: fn(&Path) -> bool,
    /// What the server has open hides it.
    restart: bool,
}

const fn damage(name: &'static str, object: &'static str, inflict: fn(&Path) -> bool) -> Damage {
    Damage { name, object, inflict, restart: false }
}

/// Inflicts it on as many bricks as may be lost, and scrubs.
fn is_mended(rig: &mut Rig, damage: &Damage) {
    let Damage { name, object, inflict, restart } = damage;
    let victims = rig.array.victims();
    let before: Vec<_> = rig.cluster.iter().map(|brick| seen(brick.dir())).collect();
    let whole = |rig: &Rig| -> Option<String> {
        let now = rig.cluster.iter().map(|brick| seen(brick.dir()));
        before
            .iter()
            .zip(now)
            .enumerate()
            .find_map(|(i, (before, now))| difference(before, &now).map(|what| format!("brick {i}: {what}")))
    };
    let hurt: Vec<usize> = victims.iter().copied().filter(|brick| inflict(rig.cluster[*brick].dir())).collect();
    if hurt.is_empty() {
        return;
    }
    // What has a trusted attribute only, the test does not look at.
    let is_hidden = name.contains("record") || name.contains("attribute") || name.contains("id");
    assert!(is_hidden || whole(rig).is_some(), "{name}: the test does not see the damage");
    if *restart {
        rig.client.unmount();
        rig.cluster.kill9(&victims);
        rig.cluster.restart(&victims);
        rig.client.mount();
    }
    let first = scrub(rig);
    assert_eq!(first.damaged, 0, "{name}:\n{}", first.log);
    assert_eq!(first.lines(&["older version"]), 0, "{name}, nothing was ever changed:\n{}", first.log);
    for brick in hurt {
        let address = rig.cluster[brick].address();
        assert!(first.lines(&[&address, "inconsistency found", object]) > 0, "{name}, {address}:\n{}", first.log);
        assert!(first.lines(&[&address, "repaired", object]) > 0, "{name}, {address}:\n{}", first.log);
    }
    let mut what = None;
    let restored = reached(Duration::from_secs(5), || {
        what = whole(rig);
        what.is_none()
    });
    assert!(restored, "{name}: {}\n{}", what.unwrap_or_default(), first.log);
    let second = scrub(rig);
    assert_eq!((second.mended, second.damaged), (0, 0), "{name}, once more:\n{}", second.log);
}

/// As many of the others go as may be lost: everything is read from those that were mended.
fn others_go(rig: &mut Rig) {
    let victims = rig.array.victims();
    let others: Vec<usize> =
        (0..rig.array.bricks).filter(|brick| !victims.contains(brick)).take(rig.array.losses()).collect();
    rig.cluster.kill9(&others);
    forget(&File::open(rig.path("large")).unwrap());
    verify_file(&rig.path("large"), Pattern::of(1), length(rig)).unwrap();
    sh(
        &rig.root(),
        "test \"$(cat d/small d/other d/hard d/deep/x)\" = \"$(printf 'small\\nother\\nother\\nx')\"; \
         test $(readlink d/soft) = small; cmp -n 9000 large d/blocks; test -p d/pipe; test -f empty; \
         test $(stat -c %h d/hard) = 2; test $(getfattr --only-values -n user.k d/small) = value",
    );
}

fn all_are_mended(array: Array, damages: &[Damage]) {
    Rig::run(array, Health::Healthy, |rig| {
        begin(rig);
        damages.iter().for_each(|damage| is_mended(rig, damage));
        others_go(rig);
    });
}

const BYTES: &[Damage] = &[
    damage("a flipped byte", "/large", |brick| flip(&brick.join("large"), 9)),
    damage("flipped bytes of many units", "/large", |brick| {
        (0..6).all(|unit| flip(&brick.join("large"), unit * UNIT + 4464))
    }),
    damage("a flipped byte of a small file", "/d/small", |brick| flip(&brick.join("d/small"), 0)),
    damage("a byte written by hand", "/large", |brick| write_by_hand(&brick.join("large"), 9)),
    damage("the last byte written by hand", "/d/small", |brick| write_by_hand(&brick.join("d/small"), 3)),
    damage("a flipped byte of a record", "/large", |brick| flip(&record_file(brick), 3 * 264 + 20)),
    Damage {
        name: "a lost record file",
        object: "/large",
        inflict: |brick| fs::remove_file(record_file(brick)).is_ok(),
        restart: true,
    },
    damage("a cut record file", "/large", |brick| cut_records(brick, 2 * 264 + 100)),
    damage("an emptied record file", "/large", |brick| cut_records(brick, 0)),
    Damage {
        restart: true,
        ..damage("an emptied record file, and a restart", "/large", |brick| cut_records(brick, 0))
    },
];

/// Does what a shell does in a brick.
fn with_sh(brick: &Path, script: &str) -> bool {
    sh(brick, script);
    true
}

/// Changes one byte of an extended attribute.
fn flip_xattr(file: &Path, name: &str, at: usize) -> bool {
    let mut value = xattr(file, name).unwrap();
    value[at] ^= 0x10;
    rustix::fs::lsetxattr(file, name, &value, rustix::fs::XattrFlags::empty()).unwrap();
    true
}

const OBJECT: &str = "trusted.net_raid";

const OBJECTS: &[Damage] = &[
    damage("a deleted file", "/d/small", |brick| with_sh(brick, "rm d/small")),
    damage("a deleted large file", "/large", |brick| with_sh(brick, "rm large")),
    damage("a deleted file and its records", "/large", |brick| {
        fs::remove_file(record_file(brick)).unwrap();
        with_sh(brick, "rm large")
    }),
    damage("a deleted empty file", "/empty", |brick| with_sh(brick, "rm empty")),
    damage("a deleted link", "/d/soft", |brick| with_sh(brick, "rm d/soft")),
    damage("a deleted name of two", "/d/hard", |brick| with_sh(brick, "rm d/hard")),
    damage("both names deleted", "/d/hard", |brick| with_sh(brick, "rm d/hard d/other")),
    damage("a deleted pipe", "/d/pipe", |brick| with_sh(brick, "rm d/pipe")),
    damage("a cut file", "/large", |brick| with_sh(brick, "truncate -s 70000 large")),
    damage("a file cut to nothing", "/large", |brick| with_sh(brick, "truncate -s 0 large")),
    damage("a longer file", "/large", |brick| with_sh(brick, "head -c 5000 /dev/urandom >> large")),
    damage("a much longer file", "/large", |brick| with_sh(brick, "head -c 300000 /dev/urandom >> large")),
    damage("a replaced file", "/large", |brick| with_sh(brick, "rm large; head -c 200000 /dev/urandom > large")),
    damage("a file that became a directory", "/d/small", |brick| with_sh(brick, "rm d/small; mkdir d/small")),
    damage("an overwritten file", "/large", |brick| with_sh(brick, "head -c 200000 /dev/urandom > large")),
    damage("a file without its attribute", "/large", |brick| with_sh(brick, "setfattr -x trusted.net_raid large")),
    damage("a small file without its attribute", "/d/small", |brick| {
        with_sh(brick, "setfattr -x trusted.net_raid d/small")
    }),
    damage("a file without any attribute", "/d/small", |brick| {
        with_sh(brick, "setfattr -x trusted.net_raid d/small; setfattr -x user.k d/small")
    }),
    damage("a directory without its attribute", "/d", |brick| with_sh(brick, "setfattr -x trusted.net_raid d")),
    damage("a link without its attribute", "/d/soft", |brick| with_sh(brick, "setfattr -h -x trusted.net_raid d/soft")),
    damage("a lost user attribute", "/d/small", |brick| with_sh(brick, "setfattr -x user.k d/small")),
    damage("a flipped byte of a file's attribute", "/large", |brick| flip_xattr(&brick.join("large"), OBJECT, 11)),
    damage("a flipped id", "/d/deep", |brick| flip_xattr(&brick.join("d/deep"), OBJECT, 6)),
    damage("a flipped byte of a small file's attribute", "/d/blocks", |brick| {
        flip_xattr(&brick.join("d/blocks"), OBJECT, 30)
    }),
    damage("an emptied directory", "/d/deep/x", |brick| with_sh(brick, "rm -r d/*")),
    damage("a deleted directory", "/d/deep", |brick| with_sh(brick, "rm -r d")),
    damage("everything deleted", "/large", |brick| with_sh(brick, "rm -r *")),
];

/// What has no name above it.
const ROOT: &[Damage] = &[
    damage("a lost user attribute of the root", ": /", |brick| with_sh(brick, "setfattr -x user.r .")),
    damage("times of the root", ": /", |brick| with_sh(brick, "touch -d 2002-02-02 .")),
    damage("the root without its attribute", ": /", |brick| with_sh(brick, "setfattr -x trusted.net_raid .")),
    damage("a flipped byte of the root's attribute", ": /", |brick| flip_xattr(brick, OBJECT, 11)),
];

/// Of two copies nothing says which is right.
const OF_MORE_THAN_TWO: &[Damage] = &[
    damage("the mode of the root", ": /", |brick| with_sh(brick, "chmod 700 .")),
    damage("the owner of the root", ": /", |brick| with_sh(brick, "chown 7:8 .")),
];

/// Where the digest for people is, it is on every brick.
const DIGEST: &[Damage] =
    &[damage("a flipped digest", "/large", |brick| flip_xattr(&brick.join("large"), "user.net_raid.md5", 3))];

macro_rules! on_three_arrays {
    ($($test:ident: $damages:expr;)+) => { $(
        mod $test {
            use super::*;
            #[test]
            fn raid1x2() { all_are_mended(Array::RAID1, $damages); }
            #[test]
            fn raid5x3() { all_are_mended(Array::RAID5, $damages); }
            #[test]
            fn raid6x4() { all_are_mended(Array::RAID6_NARROW, $damages); }
        }
    )+ };
}

on_three_arrays! {
    rotten_bytes: BYTES;
    rotten_objects: OBJECTS;
    rotten_digests: DIGEST;
    rotten_roots: ROOT;
}

#[test]
fn rotten_modes_of_roots_raid5x3() {
    all_are_mended(Array::RAID5, OF_MORE_THAN_TWO);
}

#[test]
fn rotten_modes_of_roots_raid6x6() {
    all_are_mended(Array::RAID6, OF_MORE_THAN_TWO);
}

/// What a brick has of some files, with all attributes and records: as a backup of its disk would bring it back.
fn keep(rig: &Rig, brick: usize, aside: &Path) {
    let script = format!(
        "rm -rf {0}; mkdir {0}; cp -a --parents large d/small .net_raid/records {0}; chmod --reference=. {0}; touch -r . {0}",
        aside.display()
    );
    sh(rig.cluster[brick].dir(), &script);
}

/// Has files in two versions, the old one on as many bricks as may be lost; then `looks` sees to it that all is put right, and says
/// what of the errorlog tells of that.
fn old_versions_come_back(array: Array, looks: fn(&Rig) -> String) {
    Rig::run(array, Health::Healthy, |rig| {
        begin(rig);
        let aside = |brick: usize| rig.cluster.path().join(format!("aside{brick}"));
        let asides: Vec<PathBuf> = array.victims().into_iter().map(aside).collect();
        array.victims().into_iter().zip(&asides).for_each(|(brick, aside)| keep(rig, brick, aside));
        // Some stripes, and not those in the middle; and a file that gets shorter.
        for at in [0, 4 * array.stripe_bytes()] {
            let file = File::options().write(true).open(rig.path("large")).unwrap();
            write_range(&file, Pattern::of(2), at, 100_000).unwrap();
        }
        fs::write(rig.path("d/small"), "new").unwrap();
        rig.client.unmount();
        let before: Vec<_> = rig.cluster.iter().map(|brick| seen(brick.dir())).collect();
        rig.cluster.kill9(&array.victims());
        for (brick, aside) in array.victims().into_iter().zip(&asides) {
            sh(rig.cluster[brick].dir(), &format!("cp -a {}/. .", aside.display()));
        }
        rig.cluster.restart(&array.victims());
        rig.client.mount();
        let log = looks(rig);
        for brick in array.victims() {
            let address = rig.cluster[brick].address();
            let told = |line: &&str| line.contains(&address) && line.contains("/large: it is an older version");
            assert!(log.lines().any(|line| told(&line)), "{address}:\n{log}");
        }
        let second = scrub(rig);
        assert_eq!((second.mended, second.damaged), (0, 0), "once more:\n{}", second.log);
        rig.client.unmount();
        let now: Vec<_> = rig.cluster.iter().map(|brick| seen(brick.dir())).collect();
        let differs = before.iter().zip(&now).find_map(|(before, now)| difference(before, now));
        assert_eq!(differs, None, "{log}");
        rig.client.mount();
        let others = (0..array.bricks).filter(|brick| !array.victims().contains(brick)).take(array.losses());
        rig.cluster.kill9(&others.collect::<Vec<_>>());
        reads_the_new_version(rig);
    });
}

fn reads_the_new_version(rig: &Rig) {
    let file = File::open(rig.path("large")).unwrap();
    forget(&file);
    let stripe = rig.array.stripe_bytes();
    for at in [0, 4 * stripe] {
        verify_range(&file, Pattern::of(2), at, 100_000).unwrap();
    }
    verify_range(&file, Pattern::of(1), 100_000, 4 * stripe - 100_000).unwrap();
    assert_eq!(fs::read(rig.path("d/small")).unwrap(), b"new");
}

fn old_versions_are_mended(array: Array) {
    old_versions_come_back(array, |rig| {
        let first = scrub(rig);
        assert_eq!(first.damaged, 0, "{}", first.log);
        first.log
    });
}

/// Nobody asked for a scrub: the first open is enough.
fn old_versions_are_never_served(array: Array) {
    old_versions_come_back(array, |rig| {
        // As a program does that lists a directory and opens what is there.
        sh(&rig.root(), "ls -l . d");
        reads_the_new_version(rig);
        let log = rig.client.errorlog();
        let last = rig.array.victims().into_iter().map(|brick| rig.cluster[brick].address()).next_back().expect("one");
        log.expect(&[&last, "repaired: /large", "blocks"], SCRUBBED_WITHIN);
        // What was not opened yet, and what is under way.
        scrub(rig);
        log.text()
    });
}

#[test]
fn old_versions_are_never_served_raid1x2() {
    old_versions_are_never_served(Array::RAID1);
}

#[test]
fn old_versions_are_never_served_raid5x3() {
    old_versions_are_never_served(Array::RAID5);
}

#[test]
fn old_versions_are_never_served_raid6x4() {
    old_versions_are_never_served(Array::RAID6_NARROW);
}

/// What a server has lost is found by its name, and read, before anybody asks for a scrub.
fn lost_files_are_found(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        begin(rig);
        rig.client.unmount();
        for brick in array.victims() {
            sh(rig.cluster[brick].dir(), "rm -r d large");
        }
        rig.client.mount();
        sh(&rig.root(), "ls -l d | grep -q small; test $(cat d/small) = small; test $(cat d/deep/x) = x");
        verify_file(&rig.path("large"), Pattern::of(1), length(rig)).unwrap();
        scrub(rig);
        let second = scrub(rig);
        assert_eq!((second.mended, second.damaged), (0, 0), "once more:\n{}", second.log);
        others_go(rig);
    });
}

#[test]
fn lost_files_are_found_raid1x2() {
    lost_files_are_found(Array::RAID1);
}

#[test]
fn lost_files_are_found_raid5x3() {
    lost_files_are_found(Array::RAID5);
}

#[test]
fn lost_files_are_found_raid6x4() {
    lost_files_are_found(Array::RAID6_NARROW);
}

#[test]
fn old_versions_are_mended_raid1x2() {
    old_versions_are_mended(Array::RAID1);
}

#[test]
fn old_versions_are_mended_raid5x3() {
    old_versions_are_mended(Array::RAID5);
}

#[test]
fn old_versions_are_mended_raid6x4() {
    old_versions_are_mended(Array::RAID6_NARROW);
}

/// Without its record nobody knows what a block was: it is not read as zeros, before anybody asks for a scrub.
fn cut_records_are_no_holes(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        begin(rig);
        for restart in [false, true] {
            let victims = array.victims();
            rig.client.unmount();
            victims.iter().for_each(|brick| assert!(cut_records(rig.cluster[*brick].dir(), 264)));
            if restart {
                rig.cluster.kill9(&victims);
                rig.cluster.restart(&victims);
            }
            rig.client.mount();
            // Copies take turns.
            for _ in 0..2 {
                forget(&File::open(rig.path("large")).unwrap());
                verify_file(&rig.path("large"), Pattern::of(1), length(rig)).unwrap();
            }
            for brick in victims {
                rig.client
                    .errorlog()
                    .expect(&[&rig.cluster[brick].address(), "inconsistency found: /large"], SCRUBBED_WITHIN);
            }
            scrub(rig);
            let second = scrub(rig);
            assert_eq!((second.mended, second.damaged), (0, 0), "once more:\n{}", second.log);
        }
        others_go(rig);
    });
}

#[test]
fn cut_records_are_no_holes_raid1x2() {
    cut_records_are_no_holes(Array::RAID1);
}

#[test]
fn cut_records_are_no_holes_raid5x3() {
    cut_records_are_no_holes(Array::RAID5);
}

#[test]
fn cut_records_are_no_holes_raid6x4() {
    cut_records_are_no_holes(Array::RAID6_NARROW);
}

/// What a read has repaired is not newer than what others have: if the file is then touched by hand on that brick, the others are right.
fn what_a_read_repaired_is_no_newer(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        begin(rig);
        let before = fs::metadata(rig.path("large")).unwrap().modified().unwrap();
        // A change of the atime, which the next read makes no more, has the same stamp on all.
        verify_file(&rig.path("large"), Pattern::of(1), length(rig)).unwrap();
        rig.client.unmount();
        let victim = array.victims()[0];
        let file = rig.cluster[victim].dir().join("large");
        // Parity is not read.
        (0..6).for_each(|unit| assert!(flip(&file, unit * UNIT + 9)));
        rig.client.mount();
        // Copies take turns.
        for _ in 0..2 {
            forget(&File::open(rig.path("large")).unwrap());
            verify_file(&rig.path("large"), Pattern::of(1), length(rig)).unwrap();
        }
        let address = rig.cluster[victim].address();
        rig.client.errorlog().expect(&[&address, "repaired: /large"], SCRUBBED_WITHIN);
        rig.client.remount();
        sh(rig.cluster[victim].dir(), "touch -d 2001-01-01 large");
        let done = scrub(rig);
        let found = ["inconsistency found: /large"];
        assert_eq!(done.lines(&found), done.lines(&[&address, found[0]]), "the others are right:\n{}", done.log);
        assert_eq!(done.lines(&[&address, found[0], "its times"]), 1, "{}", done.log);
        rig.client.remount();
        assert_eq!(fs::metadata(rig.path("large")).unwrap().modified().unwrap(), before, "{}", done.log);
    });
}

#[test]
fn what_a_read_repaired_is_no_newer_raid1x2() {
    what_a_read_repaired_is_no_newer(Array::RAID1);
}

#[test]
fn what_a_read_repaired_is_no_newer_raid5x3() {
    what_a_read_repaired_is_no_newer(Array::RAID5);
}

#[test]
fn what_a_read_repaired_is_no_newer_raid6x4() {
    what_a_read_repaired_is_no_newer(Array::RAID6_NARROW);
}

/// One bad copy more than the level bears: an error and never a guess, in the log too, and nothing else is harmed.
fn beyond_is_told_and_left_alone(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        begin(rig);
        for brick in rig.cluster.iter().take(array.losses() + 1) {
            assert!(flip(&brick.dir().join("large"), UNIT + 12));
        }
        let before: Vec<_> = rig.cluster.iter().map(|brick| seen(brick.dir())).collect();
        for _ in 0..2 {
            let done = scrub(rig);
            assert_eq!((done.mended, done.damaged), (0, 1), "{}", done.log);
            assert_eq!(done.lines(&["damaged beyond repair: /large", "stripe 1"]), 1, "{}", done.log);
        }
        let now: Vec<_> = rig.cluster.iter().map(|brick| seen(brick.dir())).collect();
        assert_eq!(before.iter().zip(&now).find_map(|(before, now)| difference(before, now)), None);
        let file = File::open(rig.path("large")).unwrap();
        let (mut failed, mut buffer) = (0, vec![0; 4096]);
        for at in (0..length(rig)).step_by(4096) {
            match file.read_at(&mut buffer, at) {
                Ok(len) => Pattern::of(1).check(at, &buffer[..len]).unwrap(),
                Err(error) => {
                    assert_eq!(Errno::from_io_error(&error), Some(Errno::IO));
                    failed += 1;
                }
            }
        }
        assert!(failed > 0 && failed < length(rig) / 4096, "{failed} blocks cannot be read");
    });
}

#[test]
fn beyond_is_told_and_left_alone_raid1x2() {
    beyond_is_told_and_left_alone(Array::RAID1);
}

#[test]
fn beyond_is_told_and_left_alone_raid5x3() {
    beyond_is_told_and_left_alone(Array::RAID5);
}

#[test]
fn beyond_is_told_and_left_alone_raid6x4() {
    beyond_is_told_and_left_alone(Array::RAID6_NARROW);
}
