//! What people and machines do to a volume: full disks, flipped bytes, ordinary users, programs that hang, pulled cables.

use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use net_raid_tests::array::UNIT;
use net_raid_tests::client::{END_WITHIN, TIMEOUT, is_mounted};
use net_raid_tests::deadline::{in_time, reached, wait_until};
use net_raid_tests::fsops::forget;
use net_raid_tests::image::Image;
use net_raid_tests::pattern::{Pattern, verify_file, verify_range, write_file};
use net_raid_tests::process::{Finished, is_alive, is_stuck, run, run_ok, send, sh, whereabouts};
use net_raid_tests::rig::BUDGET;
use net_raid_tests::user::NOBODY;
use net_raid_tests::workdir::{Workdir, processes_of};
use net_raid_tests::{Array, Client, Cluster, Health, Rig, Volume, on_every_healthy_array};
use nix::sys::signal::Signal;
use rustix::io::Errno;

on_every_healthy_array!(
    flipped_bytes_of_data_and_records_are_repaired,
    a_flipped_byte_of_a_label_costs_nothing,
    a_writer_stuck_beyond_the_redundancy_gets_eio,
    umount_does_not_wait_for_frozen_servers,
    sigterm_does_not_wait_for_frozen_servers,
);

const MIB: u64 = 1024 * 1024;
/// A disk that is filled in a second.
const DISK: u64 = 64 * MIB;
/// What a promise in seconds may take on a machine that does something else too.
const SLACK: Duration = Duration::from_secs(3);
/// The default of `stall`.
const STALL: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(60);

/// Makes of each test function a module of its name with one test for each level, over what `rig` makes of an array.
macro_rules! on_every_level {
    ($rig:path; $($test:ident),+ $(,)?) => { $(
        mod $test {
            use super::{Array, BUDGET, Health};
            #[test]
            fn raid1() { $rig(Array::RAID1).run_mounted(BUDGET, Health::Healthy, super::$test); }
            #[test]
            fn raid5() { $rig(Array::RAID5).run_mounted(BUDGET, Health::Healthy, super::$test); }
            #[test]
            fn raid6() { $rig(Array::RAID6_NARROW).run_mounted(BUDGET, Health::Healthy, super::$test); }
        }
    )+ };
}

on_every_level!(
    super::on_small_disks;
    a_full_volume_is_enospc,
    one_full_disk_is_enospc,
    an_old_version_on_a_full_disk_is_not_read,
);
on_every_level!(super::behind_cables; a_pulled_cable_delays_once);

/// Every brick on a disk of its own.
fn on_small_disks(array: Array) -> Rig {
    Rig::over(Cluster::start_on_images(array.bricks, DISK), array)
}

/// Every server on a machine of its own.
fn behind_cables(array: Array) -> Rig {
    Rig::over(Cluster::start_in_netns(array.bricks), array)
}

/// Files that were there before, one of them of many stripes.
struct Kept(Vec<(PathBuf, Pattern, u64)>);

impl Kept {
    fn write(rig: &Rig) -> Kept {
        let lengths = [0, 1, 5000, UNIT, rig.array.stripe_bytes() + 1, 5 * MIB + 3];
        let file = |(object, length): (u16, u64)| (rig.path(&format!("kept{object}")), Pattern::of(object), length);
        let kept = Kept((0..).zip(lengths).map(file).collect());
        kept.0.iter().for_each(|(path, pattern, length)| write_file(path, *pattern, *length).unwrap());
        sh(&rig.root(), "sync -f .");
        kept
    }

    /// Reads all of it from the bricks.
    #[track_caller]
    fn verify(&self) {
        for (path, pattern, length) in &self.0 {
            forget(&File::open(path).unwrap());
            verify_file(path, *pattern, *length).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
}

/// The error number of a failed call of the standard library.
fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|e| Errno::from_io_error(&e))
}

/// The program failed, because there was no room and for nothing else.
#[track_caller]
fn found_no_room(finished: &Finished) {
    let said = finished.words();
    assert_ne!(finished.code(), 0, "{said}");
    assert!(said.contains("No space left on device") && !said.contains("Input/output"), "{said}");
}

/// Nothing of the kind happened to any server.
#[track_caller]
fn nothing_was_dropped(rig: &Rig) {
    for word in ["lost", "dropped", "offline", "inconsistency"] {
        assert_eq!(rig.client.errorlog().matching(&[word]), Vec::<String>::new());
    }
}

/// `dd` of so many MiB into the volume, written to the disks when it ends.
fn dd(rig: &Rig, name: &str, mib: u64) -> Finished {
    let mut dd = Command::new("dd");
    dd.args(["if=/dev/zero", "bs=1M", "conv=fsync"]).arg(format!("of={}", rig.path(name).display()));
    run(dd.arg(format!("count={mib}")), WITHIN)
}

/// Small files until there is no room; each that was closed is whole.
fn fill_with_small_files(rig: &Rig) {
    let write = |i: &u16| {
        let path = rig.path(&format!("small{i}"));
        let written = write_file(&path, Pattern::of(*i), 9000).and_then(|()| File::open(&path)?.sync_all());
        match written {
            Ok(()) => true,
            Err(e) => {
                assert_eq!(Errno::from_io_error(&e), Some(Errno::NOSPC), "small file {i}");
                false
            }
        }
    };
    let whole = (0..).take_while(write).count() as u16;
    for i in 0..whole {
        verify_file(&rig.path(&format!("small{i}")), Pattern::of(i), 9000).unwrap();
    }
}

fn a_full_volume_is_enospc(rig: &mut Rig) {
    let kept = Kept::write(rig);
    let more_than_all = (rig.array.data_bricks() as u64 * DISK) / MIB + 10;
    found_no_room(&dd(rig, "full", more_than_all));
    fill_with_small_files(rig);
    kept.verify();
    rig.client.remount();
    kept.verify();
    sh(&rig.root(), "cat full >/dev/null; rm full small*; touch empty");
    let source = rig.cluster.path().join("source");
    write_file(&source, Pattern::of(99), more_than_all * MIB).unwrap();
    found_no_room(&run(Command::new("cp").arg(&source).arg(rig.path("copy")), WITHIN));
    sh(&rig.root(), "rm copy");
    wait_until("there is room again", WITHIN, || dd(rig, "again", more_than_all / 2).code() == 0);
    found_no_room(&run(Command::new("cp").arg(&source).arg(rig.path("copy")), WITHIN));
    rig.client.remount();
    kept.verify();
    nothing_was_dropped(rig);
    reads_the_same_without_the_dead(rig);
}

/// What failed for want of space has left stripes whose members agree: nothing is computed otherwise than it is read.
fn reads_the_same_without_the_dead(rig: &mut Rig) {
    rig.client.remount();
    let sums = sh(&rig.root(), "md5sum *");
    rig.client.remount();
    rig.kill_victims();
    assert_eq!(sh(&rig.root(), "md5sum *"), sums);
}

fn one_full_disk_is_enospc(rig: &mut Rig) {
    let kept = Kept::write(rig);
    write_file(&rig.path("removed"), Pattern::of(50), MIB).unwrap();
    rig.cluster[1].image().fill();
    found_no_room(&dd(rig, "full", 20));
    // What has its place on the disks can be written still.
    let (path, pattern, length) = kept.0.last().unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&pattern.bytes(0, *length as usize), 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    rig.client.remount();
    kept.verify();
    sh(&rig.root(), "rm -f removed; mv full partial");
    rig.cluster[1].image().relieve();
    wait_until("there is room again", WITHIN, || dd(rig, "again", 20).code() == 0);
    rig.client.remount();
    kept.verify();
    assert!(!rig.path("removed").exists());
    nothing_was_dropped(rig);
    reads_the_same_without_the_dead(rig);
}

/// What was put back cannot be mended while there is no room for that; it is not read for as long.
fn an_old_version_on_a_full_disk_is_not_read(rig: &mut Rig) {
    let (victims, length) = (rig.array.victims(), 20 * rig.array.stripe_bytes());
    // Holes: what overwrites them needs room.
    File::create(rig.path("file")).unwrap().set_len(length).unwrap();
    rig.client.unmount();
    let aside = |brick: usize| rig.cluster.path().join(format!("aside{brick}"));
    for brick in &victims {
        let aside = aside(*brick);
        let keep = format!("mkdir {0}; cp -a --parents file .net_raid/records {0}", aside.display());
        sh(rig.cluster[*brick].dir(), &keep);
    }
    rig.client.mount();
    let file = File::options().write(true).open(rig.path("file")).unwrap();
    file.write_all_at(&Pattern::of(2).bytes(0, length as usize), 0).unwrap();
    drop(file);
    rig.client.unmount();
    let asides: Vec<PathBuf> = victims.iter().map(|brick| aside(*brick)).collect();
    rig.cluster.kill9(&victims);
    for (brick, aside) in victims.iter().zip(&asides) {
        sh(rig.cluster[*brick].dir(), &format!("cp -a {}/. .", aside.display()));
    }
    rig.cluster.restart(&victims);
    victims.iter().for_each(|brick| rig.cluster[*brick].image().fill());
    rig.client.mount();
    let newer = |rig: &Rig| {
        let file = File::open(rig.path("file")).unwrap();
        forget(&file);
        verify_range(&file, Pattern::of(2), 0, length).unwrap();
    };
    newer(rig);
    // After the first attempt to mend it too.
    let log = rig.client.errorlog();
    for brick in &victims {
        log.expect(&[&rig.cluster[*brick].address(), "/file", "not repaired"], WITHIN);
    }
    newer(rig);
    victims.iter().for_each(|brick| rig.cluster[*brick].image().relieve());
    for brick in &victims {
        log.expect(&[&rig.cluster[*brick].address(), "repaired: /file", "blocks"], WITHIN);
    }
    newer(rig);
}

/// The harness cleans up behind itself, also when the test fails.
#[test]
fn a_small_disk_leaves_no_loop_device() {
    let work = Workdir::new();
    let image = Image::mount(work.path(), "disk", DISK);
    let file = image.file().to_owned();
    image.fill();
    assert_eq!(Image::loop_devices(&file).lines().count(), 1);
    drop(image);
    assert_eq!(Image::loop_devices(&file), "");
    let forgotten = std::mem::ManuallyDrop::new(Image::mount(work.path(), "forgotten", DISK));
    let file = forgotten.file().to_owned();
    net_raid_tests::workdir::end_all(work.path());
    wait_until("the loop device goes", WITHIN, || Image::loop_devices(&file).is_empty());
}

/// Changes the byte at `at` of `file`, as a bad disk does: neither its length nor its times move.
fn flip(file: &Path, at: u64) {
    let opened = File::options().read(true).write(true).open(file).unwrap();
    let mtime = opened.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    opened.read_exact_at(&mut byte, at).unwrap();
    opened.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    opened.set_modified(mtime).unwrap();
    opened.sync_all().unwrap();
}

/// The only record file of a brick with one large file.
fn record_file(brick: &Path) -> PathBuf {
    let found = sh(&brick.join(".net_raid/records"), "realpath $(find . -type f)");
    assert_eq!(found.lines().count(), 1, "{found}");
    found.trim().into()
}

/// The digests in records of 264 bytes: what goes before them, a generation and a CRC, may change with a repair.
fn digests(records: &[u8]) -> Vec<&[u8]> {
    records.chunks(264).map(|record| &record[8..]).collect()
}

/// A byte of a data unit is flipped, and a digest of another one. Both are found, told, and put right on the disk.
fn flipped_bytes_of_data_and_records_are_repaired(rig: &mut Rig) {
    let (path, length) = (rig.path("file"), 12 * rig.array.stripe_bytes());
    write_file(&path, Pattern::of(1), length).unwrap();
    rig.client.unmount();
    let victim = rig.array.victims()[0];
    let (data, records) = (rig.cluster[victim].dir().join("file"), record_file(rig.cluster[victim].dir()));
    let (good_data, good_records) = (fs::read(&data).unwrap(), fs::read(&records).unwrap());
    // Units of parity are read by a scrub, not by programs.
    let of_data = |unit: &u64| Pattern::of(1).locate(&good_data[(unit * UNIT) as usize..]).is_some();
    let units: Vec<u64> = (0..good_data.len() as u64 / UNIT).filter(of_data).collect();
    flip(&data, units[0] * UNIT + 4099);
    flip(&records, units[1] * 264 + 8 + 16 * 3);
    rig.client.mount();
    verify_file(&path, Pattern::of(1), length).unwrap();
    let file = File::open(&path).unwrap();
    // Mirrors spread their reads: read until this copy has had its turn.
    let repaired = reached(WITHIN, || {
        forget(&file);
        verify_range(&file, Pattern::of(1), 0, length).unwrap();
        let (data, records) = (fs::read(&data).unwrap(), fs::read(&records).unwrap());
        data == good_data && digests(&records) == digests(&good_records)
    });
    drop(file);
    let log = rig.client.errorlog();
    assert!(repaired, "still damaged on disk:\n{}", log.text());
    let damaged = rig.cluster[victim].address();
    log.expect(&["VOLUME", &damaged, "inconsistency found", "/file"], SLACK);
    let line = log.expect(&["VOLUME", "repaired", "/file", &format!("to {damaged}")], SLACK);
    let from = line.split(" from ").nth(1).and_then(|rest| rest.split(" to ").next()).expect("from whom");
    let others: Vec<String> = rig.cluster.iter().map(|b| b.address()).filter(|address| *address != damaged).collect();
    assert!(from.split(", ").all(|server| others.iter().any(|other| other == server)), "{line}");
    nothing_is_found_again(rig, &path, length);
}

/// Once repaired, the next mount finds nothing to tell.
fn nothing_is_found_again(rig: &Rig, path: &Path, length: u64) {
    let told = |rig: &Rig| rig.client.errorlog().matching(&["inconsistency"]).len();
    rig.client.unmount();
    let before = told(rig);
    for _ in 0..2 {
        rig.client.mount();
        verify_file(path, Pattern::of(1), length).unwrap();
        rig.client.unmount();
    }
    assert_eq!(told(rig), before, "{}", rig.client.errorlog().text());
}

/// Each copy in turn, twice: that the other one serves shows that it was written anew after its own damage.
fn a_flipped_byte_of_a_label_costs_nothing(rig: &mut Rig) {
    let (path, length) = (rig.path("file"), 3 * rig.array.stripe_bytes());
    write_file(&path, Pattern::of(1), length).unwrap();
    let victim = rig.array.victims()[0];
    for copy in ["label.0", "label.1", "label.1", "label.0"] {
        rig.client.unmount();
        rig.cluster[victim].terminate();
        flip(&rig.cluster[victim].dir().join(".net_raid").join(copy), 40);
        rig.cluster[victim].start();
        rig.client.mount();
        verify_file(&path, Pattern::of(1), length).unwrap();
        nothing_was_dropped(rig);
    }
    // It counts as much as before: the others alone are enough with it, and it is read.
    let others: Vec<usize> = (0..rig.array.bricks).filter(|&i| i != victim).take(rig.array.losses()).collect();
    rig.cluster.kill9(&others);
    forget(&File::open(&path).unwrap());
    verify_file(&path, Pattern::of(1), length).unwrap();
}

/// Client and servers of one who has no rights: his mount ends by his own hand.
#[test]
fn an_ordinary_user_unmounts_what_he_mounted() {
    let cluster = Cluster::start_as(Array::RAID6_NARROW.bricks, Some(NOBODY));
    let home = cluster.work().make_dir("home");
    let volume = Volume::new(&cluster, "VOLUME", Array::RAID6_NARROW, 0);
    let mountpoint = volume.mountpoint.clone();
    let client = Client::new(&home, "net_raid", &[volume]).owned_by(NOBODY);
    let sh = |script: &str| {
        let mut bash = NOBODY.command(Path::new("bash"));
        run_ok(bash.args(["-euo", "pipefail", "-c", script]).current_dir("/").env("M", &mountpoint), WITHIN)
    };
    client.mount();
    sh("mkdir $M/dir; seq 100000 >$M/dir/numbers; ln -s dir $M/link; chmod 640 $M/dir/numbers");
    let pid = client.pid();
    sh("fusermount3 -u $M");
    wait_until("the daemon ends with its mount", END_WITHIN, || !is_alive(pid));
    assert!(!is_mounted(&mountpoint));
    client.errorlog().expect(&["VOLUME", "volume unmounted"], SLACK);
    client.mount();
    sh("seq 100000 | cmp - $M/link/numbers; test $(stat -c %a.%U $M/dir/numbers) = 640.nobody");
    assert!(client.terminate(), "the daemon or its mount is still there after SIGTERM");
    client.mount();
    sh("seq 100000 | cmp - $M/link/numbers");
    client.kill9();
    client.mount();
    sh("seq 100000 | cmp - $M/link/numbers; fusermount3 -u $M");
    nothing_lost_by(&client);
}

fn nothing_lost_by(client: &Client) {
    assert_eq!(client.errorlog().matching(&["lost"]), Vec::<String>::new());
}

/// How long anything may take that needs servers beyond the redundancy.
const GIVES_UP: Duration = TIMEOUT.saturating_add(STALL).saturating_add(SLACK);

/// Freezes one server more than may be lost.
fn freeze_too_many(rig: &Rig) {
    rig.cluster[..=rig.array.losses()].iter().for_each(|brick| brick.freeze());
}

fn thaw(rig: &Rig) {
    rig.cluster[..=rig.array.losses()].iter().for_each(|brick| brick.thaw());
}

fn a_writer_stuck_beyond_the_redundancy_gets_eio(rig: &mut Rig) {
    let kept = Kept::write(rig);
    freeze_too_many(rig);
    // The file is opened, written and synced: any of it may be what fails.
    let dd = in_time("dd", 2 * GIVES_UP, || dd(rig, "stuck", 2));
    assert!(dd.code() != 0 && dd.words().contains("Input/output error"), "{}", dd.words());
    let write = in_time("an overwrite", 2 * GIVES_UP, || {
        let file = File::options().write(true).open(&kept.0[3].0)?;
        file.write_all_at(&[0], 0).and_then(|()| file.sync_all())
    });
    assert_eq!(errno(write), Some(Errno::IO));
    let work = rig.cluster.path().to_owned();
    wait_until("nothing hangs in the kernel", SLACK, || !processes_of(&work).into_iter().any(is_stuck));
    thaw(rig);
    let works = || fs::write(rig.path("again"), "x").and_then(|()| File::open(rig.path("again"))?.sync_all()).is_ok();
    wait_until("writes work when the servers go on", WITHIN, works);
    // One byte of this one is of the writer that was told that it failed.
    kept.0.iter().enumerate().filter(|(i, _)| *i != 3).for_each(|(_, file)| Kept(vec![file.clone()]).verify());
    rig.client.remount();
    assert_eq!(fs::read(rig.path("again")).unwrap(), b"x");
}

/// Has something to write back when the servers freeze, ends the mount by `end`, and looks whether all is well later.
fn ended_among_frozen_servers(rig: &mut Rig, end: impl FnOnce(&Rig)) {
    let kept = Kept::write(rig);
    let mut file = File::create(rig.path("dirty")).unwrap();
    freeze_too_many(rig);
    io::Write::write_all(&mut file, &[1; 100_000]).unwrap();
    let pid = rig.client.pid();
    in_time("close", 2 * GIVES_UP, || drop(file));
    in_time("the end of the mount", 2 * GIVES_UP, || {
        end(rig);
        wait_until("the daemon ends", END_WITHIN, || !is_alive(pid));
    });
    assert!(!is_mounted(&rig.root()));
    let work = rig.cluster.path().to_owned();
    assert!(!processes_of(&work).into_iter().any(is_stuck), "something hangs in the kernel");
    thaw(rig);
    rig.client.mount();
    kept.verify();
    fs::write(rig.path("again"), "x").unwrap();
}

fn umount_does_not_wait_for_frozen_servers(rig: &mut Rig) {
    ended_among_frozen_servers(rig, |rig| {
        run_ok(Command::new("umount").arg(rig.root()), END_WITHIN);
    });
}

fn sigterm_does_not_wait_for_frozen_servers(rig: &mut Rig) {
    ended_among_frozen_servers(rig, |rig| assert!(rig.client.terminate(), "the daemon or its mount is still there"));
}

/// Of a client that is killed while the kernel writes back to it, nothing is left that others wait for.
#[test]
fn a_client_that_is_killed_while_it_ends_is_gone() {
    Rig::run(Array::RAID1, Health::Healthy, |rig| {
        let kept = Kept::write(rig);
        // Among frozen servers it may not come to that.
        let was_killed = (0..5).any(|_| {
            let was_killed = is_killed_while_it_writes_back(rig);
            thaw(rig);
            rig.client.mount();
            was_killed
        });
        assert!(was_killed, "the kernel never wrote back");
        kept.verify();
    });
}

fn is_killed_while_it_writes_back(rig: &Rig) -> bool {
    // If it hangs, so does closing this.
    let mut file = ManuallyDrop::new(File::create(rig.path("dirty")).unwrap());
    io::Write::write_all(&mut *file, &[1; 100_000]).unwrap();
    freeze_too_many(rig);
    let (pid, work) = (rig.client.pid(), rig.cluster.path().to_owned());
    send(pid, Signal::SIGTERM);
    let writes_back = || processes_of(&work).into_iter().any(|pid| whereabouts(pid).contains("syncfs"));
    wait_until("the kernel writes back, or the end", END_WITHIN, || writes_back() || !is_alive(pid));
    let is_in_time = is_alive(pid);
    if is_in_time {
        send(pid, Signal::SIGKILL);
        let is_dead = || {
            let finished = run(Command::new("stat").arg(rig.path("never seen")), SLACK);
            finished.words().contains("Transport endpoint is not connected")
        };
        wait_until("the mount is dead", WITHIN, is_dead);
    }
    drop(ManuallyDrop::into_inner(file));
    wait_until("nothing hangs in the kernel", SLACK, || !processes_of(&work).into_iter().any(is_stuck));
    is_in_time
}

/// No packet arrives any more, and nobody says so: that is noticed once, after `stall`.
fn a_pulled_cable_delays_once(rig: &mut Rig) {
    let kept = Kept::write(rig);
    rig.cluster[0].netns().cut();
    in_time("writes without a cable", STALL + SLACK, || {
        (0..20).for_each(|i| fs::write(rig.path(&format!("cut{i}")), "x").unwrap());
    });
    rig.client.errorlog().expect(&["VOLUME", "dropped", &rig.cluster[0].address()], SLACK);
    in_time("writes after that", Duration::from_secs(1), || {
        (0..20).for_each(|i| fs::write(rig.path(&format!("after{i}")), "x").unwrap());
    });
    in_time("reads after that", STALL, || kept.verify());
    rig.cluster[0].netns().join();
    rig.client.errorlog().expect(&["VOLUME", "back", &rig.cluster[0].address()], WITHIN);
    kept.verify();
    rig.client.remount();
    kept.verify();
    assert!((0..20).all(|i| fs::read(rig.path(&format!("cut{i}"))).unwrap() == b"x"));
}
