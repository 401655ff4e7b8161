//! One client has a volume: how another one gets it, what becomes of the first, and what `--force` does.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use net_raid_tests::client::{MOUNT_WITHIN, TIMEOUT, is_mounted};
use net_raid_tests::deadline::{in_time, wait_until};
use net_raid_tests::netns::Netns;
use net_raid_tests::process::{Finished, is_alive, kill_group, run, send, sh, wait};
use net_raid_tests::watchdog::Watchdog;
use net_raid_tests::workdir::end_all;
use net_raid_tests::{Array, Client, Cluster, Health, Rig, Volume};
use nix::sys::signal::Signal;
use rustix::io::Errno;

/// How long bricks keep an owner that they do not hear of.
const LEASE: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(10);
const BUDGET: Duration = Duration::from_secs(180);

/// A process that stands still for as long as this lives. Programs that wait for it wait in the kernel then, where some of
/// what others ask about them waits too: so it is never left behind.
struct Stopped(i32);

impl Stopped {
    fn new(pid: i32) -> Stopped {
        send(pid, Signal::SIGSTOP);
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let signal = if std::thread::panicking() { Signal::SIGKILL } else { Signal::SIGCONT };
        send(self.0, signal);
    }
}

/// A program that has written something that only the kernel knows of. It is a process of its own: every program that this one
/// starts would close its files first, and wait for that.
struct Writer(Child);

impl Writer {
    fn start(file: &Path) -> Writer {
        // Nothing is closed before the end, since that would make the kernel write it back.
        let script = "exec 1<>\"$0\"; printf wronged; read -r _ || true; exec sync -d \"$0\"";
        let mut bash = Command::new("bash");
        bash.args(["-euc", script]).arg(file).stdin(Stdio::piped()).stderr(Stdio::piped());
        let writer = Writer(bash.spawn().unwrap());
        let written = || fs::metadata(file).is_ok_and(|meta| meta.len() == 7);
        wait_until("a program writes", SLACK, written);
        writer
    }

    /// Tries to make it durable.
    #[track_caller]
    fn fails(&mut self) {
        drop(self.0.stdin.take());
        let status = wait(&mut self.0, TIMEOUT + SLACK).expect("a sync does not end");
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!status.success() && said.contains("Input/output error"), "{status}: {said}");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        kill_group(&mut self.0);
    }
}

#[track_caller]
fn eio<T: std::fmt::Debug>(what: &str, operation: impl FnOnce() -> std::io::Result<T>) {
    let result = in_time(what, TIMEOUT + SLACK, operation);
    assert_eq!(result.map_err(|error| Errno::from_io_error(&error)).unwrap_err(), Some(Errno::IO), "{what}");
}

/// All that programs could see of a brick's files.
fn files_of(brick: &Path) -> String {
    sh(brick, "find . -path ./.net_raid -prune -o -type f -printf '%p %s %m\\n' -exec md5sum {} + | sort")
}

/// A client that stands still for longer than its lease loses the volume to the next one. When it goes on, it cannot write a
/// byte any more, and says why.
fn who_stood_still_writes_nothing_more(array: Array) {
    let cluster = Cluster::start(array.bricks);
    let dir = cluster.path().to_owned();
    let _watchdog = Watchdog::arm("a change of owners", BUDGET, move || end_all(&dir));
    let volume = Volume::new(&cluster, "V", array, 0);
    let first = Client::new(cluster.path(), "first", std::slice::from_ref(&volume));
    first.mount();
    let (old, new) = (volume.mountpoint.clone(), cluster.path().join("other"));
    fs::write(old.join("file"), "first").unwrap();
    fs::create_dir(&new).unwrap();
    let second = Client::new(cluster.path(), "second", &[Volume { mountpoint: new.clone(), ..volume }]);

    let refused = second.try_mount();
    let host = sh(cluster.path(), "hostname");
    let holder = format!("in use by process {} on {} (last heard of ", first.pid(), host.trim());
    let line = refused.stderr.lines().find(|line| line.contains(&holder));
    assert!(refused.code() == 1 && line.is_some_and(|line| line.contains(" ms ago")), "{}", refused.words());
    assert!(!is_mounted(&new));

    fs::write(old.join("cached"), "first").unwrap();
    let cached = || fs::metadata(old.join("cached"));
    cached().unwrap();
    let mut writer = Writer::start(&old.join("file"));
    let stopped = Stopped::new(first.pid());
    in_time("a mount that waits for a lease", LEASE + SLACK, || second.mount());
    assert_eq!(fs::read(new.join("file")).unwrap(), b"first");
    fs::write(new.join("file"), "second").unwrap();
    fs::write(new.join("more"), vec![7; 300_000]).unwrap();
    fs::write(new.join("cached"), "second").unwrap();
    second.remount();
    let files = || (0..array.bricks).map(|brick| files_of(cluster[brick].dir())).collect::<Vec<_>>();
    let before = files();

    drop(stopped);
    writer.fails();
    eio("a new file", || fs::write(old.join("intruder"), "x"));
    eio("a removal", || fs::remove_file(old.join("file")));
    eio("a truncation", || fs::write(old.join("file"), "x"));
    let why = first.errorlog().expect(&["V", "taken over"], SLACK);
    assert_eq!(first.errorlog().matching(&["taken over"]), [why]);
    // Nor does anybody see what is old by now.
    wait_until("the kernel forgets what it cached", SLACK, || cached().is_err());
    eio("what was cached", cached);
    assert!(first.terminate(), "the one that was cut off does not end");

    assert_eq!(files(), before);
    assert_eq!(fs::read(new.join("file")).unwrap(), b"second");
    second.remount();
    assert_eq!(fs::read(new.join("file")).unwrap(), b"second");
    assert_eq!(fs::read(new.join("more")).unwrap(), vec![7; 300_000]);
    assert!(!new.join("intruder").exists());
    second.unmount();
}

#[test]
fn who_stood_still_writes_nothing_more_raid1() {
    who_stood_still_writes_nothing_more(Array::RAID1);
}

#[test]
fn who_stood_still_writes_nothing_more_raid5() {
    who_stood_still_writes_nothing_more(Array::RAID5);
}

#[test]
fn who_stood_still_writes_nothing_more_raid6() {
    who_stood_still_writes_nothing_more(Array::RAID6_NARROW);
}

/// The same with a client that goes on, and hears nothing.
fn who_was_cut_off_writes_nothing_more(array: Array) {
    let netns = Netns::new();
    let cluster = Cluster::start_beside(&netns, array.bricks);
    let dir = cluster.path().to_owned();
    let _watchdog = Watchdog::arm("a change of owners", BUDGET, move || end_all(&dir));
    let volume = Volume::new(&cluster, "V", array, 0);
    let first = Client::new(cluster.path(), "first", std::slice::from_ref(&volume)).in_netns(netns);
    first.mount();
    let (old, new) = (volume.mountpoint.clone(), cluster.path().join("other"));
    fs::write(old.join("file"), "first").unwrap();
    fs::create_dir(&new).unwrap();
    let second = Client::new(cluster.path(), "second", &[Volume { mountpoint: new.clone(), ..volume }]);
    let mut writer = Writer::start(&old.join("file"));
    first.netns().cut();
    in_time("a mount that waits for a lease", LEASE + SLACK, || second.mount());
    assert_eq!(fs::read(new.join("file")).unwrap(), b"first");
    fs::write(new.join("file"), "second").unwrap();
    second.remount();
    let files = || (0..array.bricks).map(|brick| files_of(cluster[brick].dir())).collect::<Vec<_>>();
    let before = files();

    // What is cut off fails by itself; and when it is back it is told why.
    eio("a new file beyond the redundancy", || fs::write(old.join("intruder"), "x"));
    first.netns().join();
    first.errorlog().expect(&["V", "taken over"], SLACK);
    writer.fails();
    eio("another new file", || fs::write(old.join("intruder2"), "x"));
    assert!(first.terminate(), "the one that was cut off does not end");

    assert_eq!(files(), before);
    second.remount();
    assert_eq!(fs::read(new.join("file")).unwrap(), b"second");
    assert!(!new.join("intruder").exists() && !new.join("intruder2").exists());
    second.unmount();
}

#[test]
fn who_was_cut_off_writes_nothing_more_raid1() {
    who_was_cut_off_writes_nothing_more(Array::RAID1);
}

#[test]
fn who_was_cut_off_writes_nothing_more_raid5() {
    who_was_cut_off_writes_nothing_more(Array::RAID5);
}

/// The client is dead, not only silent: on its own machine nobody has to wait for the lease.
#[test]
fn who_died_here_is_not_waited_for() {
    Rig::run(Array::RAID5, Health::Healthy, |rig| {
        fs::write(rig.path("file"), "x").unwrap();
        rig.client.kill9();
        in_time("a mount after kill -9", LEASE / 2, || rig.client.mount());
        assert_eq!(fs::read(rig.path("file")).unwrap(), b"x");
    });
}

fn forced(rig: &Rig) -> Finished {
    run(rig.client.command().arg("--force"), MOUNT_WITHIN)
}

/// One half of the volume went on alone, and is away, perhaps for good. The other half is refused, until an administrator says
/// otherwise; and then nothing of the first half counts any more.
fn force_goes_on_with_the_half_that_is_here(array: Array) {
    Rig::run(array, Health::Healthy, |rig| {
        let stale: Vec<usize> = (0..array.bricks / 2).collect();
        let newest: Vec<usize> = (array.bricks / 2..array.bricks).collect();
        fs::write(rig.path("file"), "both").unwrap();
        sh(&rig.root(), "sync -f .");
        rig.cluster.kill9(&stale);
        fs::write(rig.path("file"), "newer").unwrap();
        rig.client.unmount();
        rig.cluster.kill9(&newest);
        rig.cluster.restart(&stale);

        let gone: Vec<String> = newest.iter().map(|brick| rig.cluster[*brick].address()).collect();
        let refused = in_time("a refusal", TIMEOUT + SLACK, || rig.client.try_mount());
        let said = refused.words();
        assert!(refused.code() == 1 && said.contains("--force") && said.contains("is lost"), "{said}");
        assert!(gone.iter().all(|server| said.contains(server.as_str())), "{said}");

        let done = in_time("a mount by force", TIMEOUT + SLACK, || forced(rig));
        assert_eq!(done.code(), 0, "{}", done.words());
        for server in &gone {
            rig.client.errorlog().expect(&["VOLUME", "started by --force", server, "is lost"], SLACK);
        }
        assert_eq!(fs::read(rig.path("file")).unwrap(), b"both");
        fs::write(rig.path("file"), "forced").unwrap();

        // They come back while it serves, and afterwards; then they are alone, and then it is assembled of all.
        rig.cluster.restart(&newest);
        for server in &gone {
            rig.client.errorlog().expect(&["server back", "left out by --force", server], SLACK);
        }
        assert_eq!(fs::read(rig.path("file")).unwrap(), b"forced");
        rig.client.remount();
        assert_eq!(fs::read(rig.path("file")).unwrap(), b"forced");
        rig.client.unmount();
        rig.cluster.kill9(&stale);
        let alone = rig.client.try_mount();
        assert!(alone.code() == 1 && alone.words().contains("left out by --force"), "{}", alone.words());
        let alone = forced(rig);
        assert!(alone.code() == 1 && alone.words().contains("left out by --force"), "{}", alone.words());
        rig.cluster.restart(&stale);
        rig.client.mount();
        assert_eq!(fs::read(rig.path("file")).unwrap(), b"forced");
        let pid = rig.client.pid();
        rig.client.unmount();
        wait_until("the daemon ends", SLACK, || !is_alive(pid));
    });
}

#[test]
fn force_goes_on_with_the_half_that_is_here_raid1() {
    force_goes_on_with_the_half_that_is_here(Array::RAID1);
}

#[test]
fn force_goes_on_with_the_half_that_is_here_raid6() {
    force_goes_on_with_the_half_that_is_here(Array::RAID6_NARROW);
}
