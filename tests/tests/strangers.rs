//! Servers that come back with something else than they had: nobody reads that, nobody writes over it, and the log has the ways out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use net_raid_tests::fsops::forget;
use net_raid_tests::pattern::{Pattern, verify_file, write_file};
use net_raid_tests::process::sh;
use net_raid_tests::{Array, Health, Rig};

const MIB: u64 = 1024 * 1024;
const SOON: Duration = Duration::from_secs(40);

/// What a brick had before most of the work was done.
fn keep(rig: &mut Rig) -> PathBuf {
    write_file(&rig.path("file"), Pattern::of(1), 3 * MIB).unwrap();
    rig.client.unmount();
    let aside = rig.cluster.path().join("aside");
    sh(Path::new("/"), &format!("cp -a {} {}", rig.cluster[0].dir().display(), aside.display()));
    rig.client.mount();
    aside
}

/// Some generations of work.
fn work(rig: &Rig) {
    for round in 0..3 {
        fs::write(rig.path("small"), round.to_string()).unwrap();
        sh(&rig.root(), "sync -f .");
    }
    write_file(&rig.path("file"), Pattern::of(2), 3 * MIB).unwrap();
    sh(&rig.root(), "sync -f .");
}

fn put_back(rig: &Rig, aside: &Path) {
    let brick = rig.cluster[0].dir().display().to_string();
    sh(Path::new("/"), &format!("find {brick} -mindepth 1 -delete; cp -a {}/. {brick}", aside.display()));
}

fn is_new(rig: &Rig) {
    for _ in 0..2 {
        let file = File::open(rig.path("file")).unwrap();
        forget(&file);
        verify_file(&rig.path("file"), Pattern::of(2), 3 * MIB).unwrap();
        assert_eq!(fs::read(rig.path("small")).unwrap(), b"2");
    }
}

/// All that a brick has, as text.
fn listing(brick: &Path) -> String {
    sh(brick, "find . -path ./.net_raid -prune -o -printf '%p %s %T@\\n' | sort")
}

/// The server's disk was restored from a backup while it was away, and dropped.
fn a_backup_is_refused(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        let aside = keep(rig);
        work(rig);
        rig.cluster[0].kill9();
        fs::write(rig.path("dropped"), "").unwrap();
        let address = rig.cluster[0].address();
        rig.client.errorlog().expect(&["member dropped", &address], SOON);
        put_back(rig, &aside);
        let before = listing(rig.cluster[0].dir());
        rig.cluster[0].start();
        let ways_out = "was it restored from a backup? empty its directory and give it to the volume as a new server, or put back what it was";
        rig.client.errorlog().expect(&[&address, ways_out], SOON);
        is_new(rig);
        assert_eq!(listing(rig.cluster[0].dir()), before, "nothing of it is touched");
        rig.client.remount();
        is_new(rig);
    });
}

/// The same before anybody noticed that it was away.
fn a_backup_is_noticed_at_once(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        let aside = keep(rig);
        work(rig);
        rig.cluster[0].kill9();
        put_back(rig, &aside);
        rig.cluster[0].start();
        is_new(rig);
        fs::write(rig.path("more"), "").unwrap();
        is_new(rig);
        rig.client.errorlog().expect(&[&rig.cluster[0].address(), "was it restored from a backup?"], SOON);
        rig.client.remount();
        is_new(rig);
    });
}

/// Its disk is not mounted.
fn an_empty_directory_is_not_filled(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        keep(rig);
        work(rig);
        rig.cluster[0].kill9();
        fs::write(rig.path("dropped"), "").unwrap();
        let brick = rig.cluster[0].dir().to_owned();
        let aside = rig.cluster.path().join("unmounted");
        fs::rename(&brick, &aside).unwrap();
        fs::create_dir(&brick).unwrap();
        rig.cluster[0].start();
        rig.client.errorlog().expect(&[&rig.cluster[0].address(), "its directory is empty"], SOON);
        work(rig);
        is_new(rig);
        assert_eq!(listing(&brick).lines().count(), 1, "{}", listing(&brick));
        // What it had counts again when it is back.
        rig.cluster[0].kill9();
        fs::remove_dir_all(&brick).unwrap();
        fs::rename(&aside, &brick).unwrap();
        rig.cluster[0].start();
        rig.client.errorlog().expect(&["member caught up", &rig.cluster[0].address()], SOON);
        is_new(rig);
    });
}

macro_rules! on_three_arrays {
    ($($test:ident),+ $(,)?) => { $(
        mod $test {
            use super::Array;
            #[test]
            fn raid1x2() { super::$test(Array::RAID1); }
            #[test]
            fn raid5x3() { super::$test(Array::RAID5); }
            #[test]
            fn raid6x4() { super::$test(Array::RAID6_NARROW); }
        }
    )+ };
}

on_three_arrays!(a_backup_is_refused, a_backup_is_noticed_at_once, an_empty_directory_is_not_filled);
