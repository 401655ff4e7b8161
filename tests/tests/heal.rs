//! A server that is gone is replaced by a spare, and one that returns is brought up to date, while programs work.

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use net_raid_tests::deadline::wait_until;
use net_raid_tests::fsops::forget;
use net_raid_tests::pattern::{Pattern, verify_file, write_file};
use net_raid_tests::process::sh;
use net_raid_tests::{Array, Health, Rig};

const MIB: u64 = 1024 * 1024;
/// From when a server is gone until a spare has everything: the timeout of the tests, and the copying.
const CURRENT_WITHIN: Duration = Duration::from_secs(100);

/// How often the server was brought up to date.
fn caught_up(rig: &Rig, brick: usize) -> usize {
    rig.client.errorlog().matching(&["member caught up", &format!(" {} ", rig.cluster[brick].address())]).len()
}

/// A tree with what file systems have, and a large file.
fn begin(rig: &mut Rig) {
    sh(
        &rig.root(),
        "mkdir -p tree/a/b; for i in $(seq 300); do echo $i > tree/a/$i; done; ln tree/a/7 tree/link; ln -s a/7 tree/soft; \
         mkfifo tree/pipe; chmod 4711 tree/a/9; touch -d 2001-01-01 tree/a/10; rm tree/a/11; mv tree/a/12 tree/a/b",
    );
    write_file(&rig.path("large"), Pattern::of(1), 40 * MIB).unwrap();
}

/// All of the tree as text, without what a directory's own size says.
fn listing(rig: &Rig) -> String {
    sh(&rig.root(), "find tree -printf '%p %y %m %n %l %T@\\n' | sort; find tree -type f | sort | xargs cat | md5sum")
}

/// Overwrites, renames and new files, until `done`.
fn work_until(rig: &Rig, done: impl Fn() -> bool) {
    let (root, stop) = (rig.root(), AtomicBool::new(false));
    fs::create_dir_all(root.join("work")).unwrap();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut round = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                fs::write(root.join("work/new"), round.to_string()).expect("no write fails");
                fs::rename(root.join("work/new"), root.join(format!("work/{}", round % 100))).expect("no rename fails");
                round += 1;
            }
            round
        });
        wait_until("the member is current", CURRENT_WITHIN, || done() || worker.is_finished());
        stop.store(true, Ordering::Relaxed);
        let rounds = worker.join().expect("no operation fails");
        for file in 0..rounds.min(100) {
            let newest = (0..rounds).rev().find(|round| round % 100 == file).expect("one of them");
            assert_eq!(fs::read_to_string(root.join(format!("work/{file}"))).unwrap(), newest.to_string());
        }
    });
}

/// As many as may be lost go, but not these: now everything is read from them.
fn lose_others(rig: &mut Rig, kept: &[usize]) {
    let others = (0..rig.array.bricks).filter(|brick| !kept.contains(brick)).take(rig.array.losses());
    rig.cluster.kill9(&others.collect::<Vec<_>>());
}

fn check(rig: &Rig, tree: &str) {
    forget(&File::open(rig.path("large")).unwrap());
    verify_file(&rig.path("large"), Pattern::of(1), 40 * MIB).unwrap();
    assert_eq!(listing(rig), tree);
}

fn a_spare_replaces(array: Array) {
    Rig::run_with_spare(array, |rig| {
        begin(rig);
        let (tree, spare) = (listing(rig), array.bricks);
        rig.cluster[0].kill9();
        work_until(rig, || caught_up(rig, spare) > 0);
        assert_eq!(rig.client.errorlog().matching(&["copy to spare started, slot 0"]).len(), 1);
        lose_others(rig, &[0]);
        check(rig, &tree);
    });
}

fn a_server_returns(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        begin(rig);
        rig.cluster[0].kill9();
        sh(
            &rig.root(),
            "rm -r tree/a/b; mv tree/a tree/c; mkdir tree/d; echo new > tree/d/x; setfattr -n user.k -v v tree/d",
        );
        // From then on nobody waits for it, and it cannot just resume.
        let out = format!(" {} member dropped", rig.cluster[0].address());
        rig.client.errorlog().expect(&[&out], CURRENT_WITHIN);
        write_file(&rig.path("large"), Pattern::of(1), 40 * MIB).unwrap();
        let tree = listing(rig);
        rig.cluster[0].start();
        work_until(rig, || caught_up(rig, 0) > 0);
        let out = format!(" {} server back, stays out until caught up", rig.cluster[0].address());
        assert_eq!(rig.client.errorlog().matching(&[&out]).len(), 1, "it was away for long");
        lose_others(rig, &[0]);
        check(rig, &tree);
    });
}

#[test]
fn a_spare_replaces_raid1x2() {
    a_spare_replaces(Array::RAID1);
}

#[test]
fn a_spare_replaces_raid5x3() {
    a_spare_replaces(Array::RAID5);
}

#[test]
fn a_spare_replaces_raid6x4() {
    a_spare_replaces(Array::RAID6_NARROW);
}

#[test]
fn a_server_returns_raid1x2() {
    a_server_returns(Array::RAID1);
}

#[test]
fn a_server_returns_raid5x3() {
    a_server_returns(Array::RAID5);
}

#[test]
fn a_server_returns_raid6x6() {
    a_server_returns(Array::RAID6);
}
