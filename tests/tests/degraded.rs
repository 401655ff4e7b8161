//! Servers that die, freeze, return, and lie: what was written is read back, never anything else.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use net_raid_tests::array::UNIT;
use net_raid_tests::client::TIMEOUT;
use net_raid_tests::deadline::{in_time, reached, wait_until};
use net_raid_tests::fsops::forget;
use net_raid_tests::pattern::{Pattern, verify_file, verify_range, write_file, write_range};
use net_raid_tests::process::{run_ok, sh, shell};
use net_raid_tests::{Array, Health, Rig, on_every_healthy_array};
use rustix::io::Errno;

on_every_healthy_array!(
    killed_between,
    killed_while_writing,
    killed_while_creating,
    killed_one_mount_at_a_time,
    overwrites_without_the_dead,
    frozen_servers_delay_once,
    a_pause_shorter_than_the_stall_loses_nothing,
    beyond_the_redundancy_is_eio_and_ends,
    a_server_that_returns_is_not_read,
    a_flipped_byte_is_never_returned_and_repaired,
    damage_beyond_repair_is_eio,
    everything_killed_at_once,
    programs_run_on_while_servers_die,
);

const MIB: u64 = 1024 * 1024;
/// What a promise in seconds may take on a machine that does something else too.
const SLACK: Duration = Duration::from_secs(3);
/// The default of `stall`.
const STALL: Duration = Duration::from_secs(2);

/// Files of many lengths, around every edge.
struct Files {
    lengths: Vec<(PathBuf, Pattern, u64)>,
}

impl Files {
    fn write(rig: &Rig, first: u16) -> Files {
        let stripe = rig.array.stripe_bytes();
        let lengths = [0, 1, 4096, 65_535, stripe, stripe + 1, 3 * stripe + 777, 5 * MIB + 3];
        let named = |(i, length): (usize, u64)| {
            let object = first + i as u16;
            let (path, pattern) = (rig.path(&format!("file{object}")), Pattern::of(object));
            write_file(&path, pattern, length).unwrap();
            (path, pattern, length)
        };
        Files { lengths: lengths.into_iter().enumerate().map(named).collect() }
    }

    /// Reads every byte back from the bricks.
    #[track_caller]
    fn verify(&self) {
        for (path, pattern, length) in &self.lengths {
            forget(&File::open(path).unwrap());
            verify_file(path, *pattern, *length).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
}

fn killed_between(rig: &mut Rig) {
    let before = Files::write(rig, 0);
    for victim in rig.array.victims() {
        rig.cluster[victim].kill9();
        in_time("the first read after a kill", SLACK, || fs::read(&before.lengths[2].0).unwrap());
        before.verify();
        let lost = rig.cluster[victim].address();
        rig.client.errorlog().expect(&["VOLUME", "lost", &lost], SLACK);
    }
    let after = Files::write(rig, 100);
    before.verify();
    after.verify();
    rig.client.remount();
    before.verify();
    after.verify();
}

/// A file grows while servers die; every write that returned is there.
fn killed_while_writing(rig: &mut Rig) {
    let path = rig.path("growing");
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    const STEP: u64 = 100_000;
    std::thread::scope(|scope| {
        let file = File::create(&path).unwrap();
        let (written, stop) = (&written, &stop);
        let writer = scope.spawn(move || -> io::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let at = written.load(Ordering::Relaxed);
                write_range(&file, Pattern::of(1), at, STEP)?;
                file.sync_data()?;
                written.store(at + STEP, Ordering::Relaxed);
            }
            Ok(())
        });
        let goes_on = |steps: u64| {
            let goal = written.load(Ordering::Relaxed) + steps * STEP;
            reached(Duration::from_secs(30), || written.load(Ordering::Relaxed) >= goal || writer.is_finished())
        };
        let mut going = goes_on(5);
        for victim in rig.array.victims() {
            rig.cluster[victim].kill9();
            going &= goes_on(5);
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap().expect("no write fails");
        assert!(going, "the writer stopped at {}", written.load(Ordering::Relaxed));
    });
    let length = written.into_inner();
    verify_file(&path, Pattern::of(1), length).unwrap();
    rig.client.remount();
    verify_file(&path, Pattern::of(1), length).unwrap();
}

/// Names come and go while servers die; nothing fails, and the tree is what the program made of it.
fn killed_while_creating(rig: &mut Rig) {
    const ROUNDS: u64 = 150;
    let root = rig.root();
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| (0..ROUNDS).try_for_each(|i| one_round_of_names(&root, i, &done)));
        for (i, victim) in rig.array.victims().into_iter().enumerate() {
            let goal = 50 + 50 * i as u64;
            reached(Duration::from_secs(60), || done.load(Ordering::Relaxed) >= goal || worker.is_finished());
            rig.cluster[victim].kill9();
        }
        worker.join().unwrap().expect("no operation fails");
    });
    for check in 0..2 {
        for i in 0..ROUNDS {
            assert_eq!(fs::read_link(root.join(format!("d{i}/link"))).unwrap(), Path::new("file"));
            assert_eq!(fs::read(root.join(format!("d{i}/link"))).unwrap(), format!("file {i}").as_bytes());
            assert_eq!(fs::read_dir(root.join(format!("d{i}"))).unwrap().count(), 3);
        }
        if check == 0 {
            rig.client.remount();
        }
    }
}

fn one_round_of_names(root: &Path, i: u64, done: &AtomicU64) -> io::Result<()> {
    let dir = root.join(format!("new{i}"));
    fs::create_dir(&dir)?;
    fs::write(dir.join("temporary"), format!("file {i}"))?;
    fs::rename(dir.join("temporary"), dir.join("file"))?;
    fs::hard_link(dir.join("file"), dir.join("hard"))?;
    fs::write(dir.join("gone"), "x")?;
    fs::remove_file(dir.join("gone"))?;
    std::os::unix::fs::symlink("file", dir.join("link"))?;
    fs::rename(&dir, root.join(format!("d{i}")))?;
    done.store(i, Ordering::Relaxed);
    Ok(())
}

/// With a spare that votes, every level starts cold without as many servers as may be lost.
#[test]
fn killed_before_the_mount() {
    for array in Array::ALL {
        Rig::run_with_spare(array, |rig| {
            let before = Files::write(rig, 0);
            rig.client.unmount();
            rig.kill_victims();
            rig.client.mount();
            before.verify();
            let after = Files::write(rig, 100);
            rig.client.remount();
            before.verify();
            after.verify();
        });
    }
}

/// Half of the voters is not there: it could have gone on alone, so that what is here could be old.
#[test]
fn a_cold_start_without_half_of_the_voters_is_refused() {
    for array in [Array::RAID1, Array::RAID6_NARROW] {
        Rig::run(array, Health::Healthy, |rig| {
            let files = Files::write(rig, 0);
            rig.client.unmount();
            rig.kill_victims();
            let finished = rig.client.try_mount();
            let said = finished.words();
            assert_eq!(finished.code(), 1, "{said}");
            let named = |victim: usize| said.contains(&rig.cluster[victim].address());
            assert!(
                array.victims().into_iter().all(named) && said.contains("newer") && said.contains("spare"),
                "{said}"
            );
            rig.cluster.restart(&array.victims());
            rig.client.mount();
            files.verify();
        });
    }
}

/// Each loss in a mount of its own, with changes in between.
fn killed_one_mount_at_a_time(rig: &mut Rig) {
    let mut all = vec![Files::write(rig, 0)];
    for (i, victim) in rig.array.victims().into_iter().enumerate() {
        rig.cluster[victim].kill9();
        all.push(Files::write(rig, 100 * (i as u16 + 1)));
        rig.client.remount();
        all.iter().for_each(Files::verify);
    }
}

/// Partial stripes are changed when units of them are missing, data and parity.
fn overwrites_without_the_dead(rig: &mut Rig) {
    let stripe = rig.array.stripe_bytes();
    let length = 8 * stripe + 100;
    let path = rig.path("file");
    write_file(&path, Pattern::of(1), length).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut image = Pattern::of(1).bytes(0, length as usize);
    let mut victims = rig.array.victims().into_iter();
    for round in 0..=rig.array.losses() as u16 {
        forget(&file);
        for (i, at) in (0..length - 9000).step_by(stripe as usize / 3 + 1001).enumerate() {
            let new = Pattern { object: 2 + round, version: i as u16 }.bytes(at, 100 + 900 * (i % 10));
            file.write_all_at(&new, at).unwrap();
            image[at as usize..at as usize + new.len()].copy_from_slice(&new);
        }
        forget(&file);
        same(&path, &image);
        victims.next().into_iter().for_each(|victim| rig.cluster[victim].kill9());
        same(&path, &image);
    }
    drop(file);
    rig.client.remount();
    same(&path, &image);
}

#[track_caller]
fn same(path: &Path, image: &[u8]) {
    let found = fs::read(path).unwrap();
    let first = found.iter().zip(image).position(|(a, b)| a != b);
    assert_eq!((found.len(), first), (image.len(), None), "length and first difference");
}

fn frozen_servers_delay_once(rig: &mut Rig) {
    let files = Files::write(rig, 0);
    let victims = rig.array.victims();
    victims.iter().for_each(|&v| rig.cluster[v].freeze());
    in_time("writes while servers are frozen", STALL + SLACK, || {
        for i in 0..20 {
            fs::write(rig.path(&format!("frozen{i}")), "x").unwrap();
        }
    });
    in_time("reads once they are dropped", SLACK, || files.verify());
    victims.iter().for_each(|&v| rig.cluster[v].thaw());
    for i in 0..20 {
        assert_eq!(fs::read(rig.path(&format!("frozen{i}"))).unwrap(), b"x");
    }
    rig.client.remount();
    files.verify();
}

/// cp, git clone and tar lose all servers that may be lost on their way, and notice nothing.
fn programs_run_on_while_servers_die(rig: &mut Rig) {
    let script = "cp -r /usr/include/linux copy
        git init -q $WORK/origin; cp -r /usr/include/asm-generic $WORK/origin/; cd $WORK/origin
        git add .; git -c user.name=t -c user.email=t@localhost commit -qm all; cd $OLDPWD
        git clone -q file://$WORK/origin clone
        tar -C /usr/include -cf - linux | tar xf -; sync -f .";
    let mut command = shell(&rig.root(), script);
    command.env("WORK", rig.cluster.path()).env("GIT_CONFIG_GLOBAL", "/dev/null");
    let victims = rig.array.victims();
    let begun = [rig.path("copy"), if victims.len() > 1 { rig.path("clone") } else { rig.path("linux") }];
    std::thread::scope(|scope| {
        let program = scope.spawn(|| run_ok(&mut command, Duration::from_secs(120)));
        for (victim, sign) in victims.into_iter().zip(begun) {
            let some = || fs::read_dir(&sign).is_ok_and(|entries| entries.count() > 1);
            assert!(reached(Duration::from_secs(60), || some() || program.is_finished()), "{}", sign.display());
            rig.cluster[victim].kill9();
        }
        program.join().expect("no program fails");
    });
    let check = "diff -r --no-dereference /usr/include/linux copy; diff -r --no-dereference /usr/include/linux linux
        diff -r --exclude=.git /usr/include/asm-generic clone/asm-generic; git -C clone fsck --full --strict";
    sh(&rig.root(), check);
    rig.client.remount();
    sh(&rig.root(), check);
}

fn a_pause_shorter_than_the_stall_loses_nothing(rig: &mut Rig) {
    let files = Files::write(rig, 0);
    let victim = rig.array.victims()[0];
    rig.cluster[victim].freeze();
    let wake = std::thread::scope(|scope| {
        let write = scope.spawn(|| fs::write(rig.path("during"), "x"));
        // A condition to wait for does not exist: the point is that nothing happens for a moment.
        std::thread::sleep(Duration::from_millis(300));
        rig.cluster[victim].thaw();
        write.join().unwrap()
    });
    wake.unwrap();
    files.verify();
    let address = rig.cluster[victim].address();
    assert_eq!(rig.client.errorlog().matching(&["lost", &address]), Vec::<String>::new());
}

fn beyond_the_redundancy_is_eio_and_ends(rig: &mut Rig) {
    let files = Files::write(rig, 0);
    files.lengths.iter().for_each(|(path, ..)| forget(&File::open(path).unwrap()));
    let stopped: Vec<usize> = (0..=rig.array.losses()).collect();
    rig.cluster.kill9(&stopped);
    let limit = TIMEOUT + STALL + SLACK;
    let (path, ..) = &files.lengths[7];
    let read = in_time("a read", limit, || fs::read(path).map(|bytes| bytes.len()));
    assert_eq!(read.map_err(|e| Errno::from_io_error(&e)), Err(Some(Errno::IO)));
    let write = in_time("a write", limit, || fs::write(rig.path("new"), "x"));
    assert_eq!(write.map_err(|e| Errno::from_io_error(&e)), Err(Some(Errno::IO)));
    let list = || fs::read_dir(rig.root()).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let _ = in_time("a listing", limit, list);
    let _ = in_time("statfs", limit, || rustix::fs::statvfs(rig.root()));

    rig.cluster.restart(&stopped);
    let back = || fs::write(rig.path("again"), "x").is_ok();
    wait_until("writes work when the servers are back", Duration::from_secs(30), back);
    files.verify();
    rig.client.remount();
    files.verify();
    assert_eq!(fs::read(rig.path("again")).unwrap(), b"x");
}

/// A server that missed something stays out, whoever is lost after that, until it is caught up.
fn a_server_that_returns_is_not_read(rig: &mut Rig) {
    let path = rig.path("file");
    write_file(&path, Pattern::of(1), 3 * MIB).unwrap();
    sh(&rig.root(), "touch removed; mkdir dir; touch dir/old");
    let victim = rig.array.victims()[0];
    rig.cluster[victim].kill9();
    write_file(&path, Pattern::of(1).next(), 3 * MIB).unwrap();
    sh(&rig.root(), "rm removed; mv dir/old dir/new; sync -f .");
    rig.cluster[victim].start();
    let address = rig.cluster[victim].address();
    rig.client.errorlog().expect(&["VOLUME", "back", &address], Duration::from_secs(30));
    for _ in 0..2 {
        forget(&File::open(&path).unwrap());
        verify_file(&path, Pattern::of(1).next(), 3 * MIB).unwrap();
        assert!(!rig.path("removed").exists() && rig.path("dir/new").exists());
        rig.client.remount();
    }
}

/// What is current is not enough, and a server that missed something does not make up for it.
fn stale_alone_is_refused(rig: &mut Rig) {
    fs::write(rig.path("truth"), "old").unwrap();
    rig.cluster[0].kill9();
    fs::write(rig.path("truth"), "new").unwrap();
    rig.client.unmount();
    rig.cluster[1].kill9();
    rig.cluster[0].start();
    let finished = rig.client.try_mount();
    assert_eq!(finished.code(), 1, "a stale server alone made a volume: {}", finished.words());
    rig.cluster[1].start();
    rig.client.mount();
    assert_eq!(fs::read(rig.path("truth")).unwrap(), b"new");
}

/// Changes one byte of `file`, as a bad disk does: neither its length nor its times move.
fn flip(file: &Path, at: u64) {
    let opened = File::options().read(true).write(true).open(file).unwrap();
    let mtime = opened.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    opened.read_exact_at(&mut byte, at).unwrap();
    opened.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    opened.set_modified(mtime).unwrap();
    opened.sync_all().unwrap();
}

/// A file of some stripes, unmounted, so that the bricks can be looked at.
fn file_at_rest(rig: &Rig) -> u64 {
    let length = 6 * rig.array.stripe_bytes();
    write_file(&rig.path("file"), Pattern::of(1), length).unwrap();
    rig.client.unmount();
    length
}

/// A flipped byte of a data unit, and the byte that belongs there.
struct Damage {
    file: PathBuf,
    at: u64,
    good: u8,
}

impl Damage {
    /// Flips the byte. `None` when it is of a parity unit: reads do not look at that, a scrub does.
    fn inflict(file: &Path, at: u64) -> Option<Damage> {
        let bytes = fs::read(file).unwrap();
        let unit = (at - at % UNIT) as usize;
        flip(file, at);
        Pattern::of(1).locate(&bytes[unit..])?;
        Some(Damage { file: file.to_owned(), at, good: bytes[at as usize] })
    }

    fn is_repaired(&self) -> bool {
        fs::read(&self.file).unwrap()[self.at as usize] == self.good
    }
}

fn a_flipped_byte_is_never_returned_and_repaired(rig: &mut Rig) {
    let length = file_at_rest(rig);
    // As many bricks as may be lost, each in several units, all in the same stripes.
    let places = [9, UNIT + 4464, 3 * UNIT + 65_535];
    let on_bricks = rig.array.victims().into_iter().map(|i| rig.cluster[i].dir().join("file"));
    let flipped: Vec<Damage> =
        on_bricks.flat_map(|file| places.into_iter().filter_map(move |at| Damage::inflict(&file, at))).collect();
    assert!(!flipped.is_empty(), "parity does not rotate");
    rig.client.mount();
    verify_file(&rig.path("file"), Pattern::of(1), length).unwrap();
    let file = File::open(rig.path("file")).unwrap();
    // Mirrors spread their reads: read until each copy has had its turn.
    let repaired = reached(Duration::from_secs(60), || {
        forget(&file);
        verify_range(&file, Pattern::of(1), 0, length).unwrap();
        flipped.iter().all(Damage::is_repaired)
    });
    let log = rig.client.errorlog();
    assert!(repaired, "still damaged on disk:\n{}", log.text());
    log.expect(&["VOLUME", "inconsisten"], SLACK);
    log.expect(&["VOLUME", "repaired", "file"], SLACK);
}

fn damage_beyond_repair_is_eio(rig: &mut Rig) {
    let length = file_at_rest(rig);
    for brick in rig.cluster.iter() {
        flip(&brick.dir().join("file"), 65_536 + 12);
    }
    rig.client.mount();
    let file = File::open(rig.path("file")).unwrap();
    let (mut failed, mut buffer) = (0, vec![0; 4096]);
    for at in (0..length).step_by(4096) {
        match file.read_exact_at(&mut buffer, at) {
            Ok(()) => Pattern::of(1).check(at, &buffer).unwrap(),
            Err(e) => {
                assert_eq!(Errno::from_io_error(&e), Some(Errno::IO));
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "every copy is damaged, and nothing failed");
    assert!(failed < length / 4096, "the rest of the file is readable");
    fs::write(rig.path("other"), "x").unwrap();
}

/// P2: what was closed survives kill -9 of the client and every server at once.
fn everything_killed_at_once(rig: &mut Rig) {
    let files = Files::write(rig, 0);
    sh(&rig.root(), "mkdir d; touch d/a; mv d/a d/b; ln d/b hard; setfattr -n user.x -v y d/b");
    let pid = rig.client.pid();
    for brick in 0..rig.array.bricks {
        rig.cluster[brick].kill9();
    }
    net_raid_tests::process::send(pid, nix::sys::signal::Signal::SIGKILL);
    wait_until("the client is gone", SLACK, || !net_raid_tests::process::is_alive(pid));
    rig.cluster.restart(&(0..rig.array.bricks).collect::<Vec<_>>());
    rig.client.mount();
    files.verify();
    sh(&rig.root(), "test $(getfattr --only-values -n user.x hard) = y; test $(stat -c %h d/b) = 2; ! test -e d/a");
    rig.kill_victims();
    files.verify();
}

/// Losing half a mirror and getting the other half back must not bring old data back.
#[test]
fn a_split_mirror_never_shows_its_old_half() {
    Rig::run(Array::RAID1, Health::Healthy, |rig| {
        fs::write(rig.path("file"), "one").unwrap();
        rig.cluster[1].kill9();
        fs::write(rig.path("file"), "two").unwrap();
        rig.cluster[0].kill9();
        rig.cluster[1].start();
        let read = in_time("a read", TIMEOUT + STALL + SLACK, || fs::read(rig.path("file")));
        assert_ne!(read.ok().as_deref(), Some(b"one".as_slice()), "the stale half was read");
        rig.cluster[0].start();
        let newest = || fs::read(rig.path("file")).is_ok_and(|bytes| bytes == b"two");
        wait_until("the newest data is back with its server", Duration::from_secs(30), newest);
    });
}

#[test]
fn stale_servers_alone_are_no_volume() {
    for array in [Array::RAID1, Array::RAID5] {
        Rig::run(array, Health::Healthy, stale_alone_is_refused);
    }
}
