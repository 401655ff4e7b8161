//! `scripts/quickstart` as a newcomer runs it: again, from elsewhere, after a crash; and what it tells people to try.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use net_raid_tests::binaries;
use net_raid_tests::client::is_mounted;
use net_raid_tests::deadline::{reached, wait_until};
use net_raid_tests::places::workspace;
use net_raid_tests::process::{is_alive, run, run_ok, send, sh, shell};
use net_raid_tests::watchdog::Watchdog;
use net_raid_tests::workdir::{Workdir, end_all, mounts_below, processes_of};
use nix::sys::signal::Signal;

const WITHIN: Duration = Duration::from_secs(120);
/// Six bricks and a spare.
const SERVERS: [&str; 7] = ["brick1", "brick2", "brick3", "brick4", "brick5", "brick6", "spare"];

/// A quickstart that disturbs no other: its own directory and ports, and the binaries of this test run.
struct Quickstart {
    state: PathBuf,
    port: u16,
    _watchdog: Watchdog,
    work: Workdir,
}

impl Quickstart {
    fn new() -> Quickstart {
        let work = Workdir::new();
        let (state, dir) = (work.path().join("state"), work.path().to_owned());
        let _watchdog = Watchdog::arm("quickstart", Duration::from_secs(240), move || end_all(&dir));
        Quickstart { state, port: free_ports(SERVERS.len() as u16), _watchdog, work }
    }

    /// The script, called by `path` in the directory `from`.
    fn command(&self, from: &Path, path: &Path) -> Command {
        let mut command = Command::new(path);
        command.current_dir(from).env("NET_RAID_QUICKSTART_DIR", &self.state);
        command.env("NET_RAID_QUICKSTART_PORT", self.port.to_string()).env("NET_RAID_BIN_DIR", binaries::directory());
        command
    }

    fn start(&self) -> String {
        self.start_from(workspace(), Path::new("./scripts/quickstart"))
    }

    #[track_caller]
    fn start_from(&self, from: &Path, path: &Path) -> String {
        let said = run_ok(&mut self.command(from, path), WITHIN);
        assert!(is_mounted(&self.mountpoint()), "not mounted: {said}");
        assert!(self.all().into_iter().all(is_alive), "a server or the client does not run: {said}");
        said
    }

    /// Stops it, and looks for what is left.
    #[track_caller]
    fn stop(&self) {
        run_ok(self.command(workspace(), Path::new("./scripts/quickstart")).arg("stop"), WITHIN);
        assert_eq!(processes_of(&self.state), Vec::<i32>::new(), "processes are left");
        assert_eq!(mounts_below(&self.state), Vec::<PathBuf>::new(), "a mount is left");
        assert!(!self.state.exists(), "the directory is left");
        assert!(binds(self.port, SERVERS.len() as u16), "a port is in use still");
    }

    fn mountpoint(&self) -> PathBuf {
        self.state.join("mnt")
    }

    fn pid(&self, name: &str) -> i32 {
        let text = fs::read_to_string(self.state.join(format!("{name}.pid"))).expect("a pid file");
        text.trim().parse().expect("a process id")
    }

    /// The client and all servers.
    fn all(&self) -> Vec<i32> {
        SERVERS.iter().chain(&["client"]).map(|name| self.pid(name)).collect()
    }
}

/// True when `count` ports from `first` on are free.
fn binds(first: u16, count: u16) -> bool {
    (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// The first of `count` free ports: below those of outgoing connections, from a place that depends on the process,
/// each caller further on.
fn free_ports(count: u16) -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static CALLS: AtomicU16 = AtomicU16::new(0);
    // Ten callers of a process have places of their own: one whose servers are down for a moment loses its ports to nobody.
    let place = (std::process::id() % 200) as u16 * 100 + 10 * (CALLS.fetch_add(1, Ordering::Relaxed) % 10);
    let candidates = (0..200).map(|step| 12_000 + (place + 100 * step) % 20_000);
    candidates.into_iter().find(|&first| binds(first, count)).expect("free ports")
}

fn kill9(pids: &[i32]) {
    pids.iter().for_each(|&pid| send(pid, Signal::SIGKILL));
    wait_until("they are gone", WITHIN, || !pids.iter().any(|&pid| is_alive(pid)));
}

/// Twice in a row, after kill -9 of everything, from other directories: it mounts, and what was there is there.
#[test]
fn it_starts_again_whatever_happened_and_stops_without_a_trace() {
    let quickstart = Quickstart::new();
    let said = quickstart.start();
    let mountpoint = quickstart.mountpoint();
    assert!(said.contains(mountpoint.to_str().unwrap()) && said.contains("kill -9") && said.contains("stop"), "{said}");
    fs::write(mountpoint.join("first"), "1").unwrap();
    let before = quickstart.all();
    quickstart.start();
    assert!(!before.into_iter().any(is_alive), "the first quickstart still runs");
    fs::write(mountpoint.join("second"), "2").unwrap();
    kill9(&quickstart.all());
    assert!(fs::read(mountpoint.join("first")).is_err(), "the mount of a dead client");
    quickstart.start_from(Path::new("/"), &workspace().join("scripts/quickstart"));
    sh(&mountpoint, "test $(cat first second | tr -d '\\n') = 12");
    quickstart.start_from(quickstart.work.path(), &workspace().join("scripts/../scripts/quickstart"));
    sh(&mountpoint, "test $(cat first second | tr -d '\\n') = 12");
    quickstart.stop();
    quickstart.stop();
}

/// What it tells people to try, and a little worse: the servers die in the middle of the copy.
#[test]
fn a_copy_loses_two_servers_and_is_unharmed() {
    let quickstart = Quickstart::new();
    quickstart.start();
    let mountpoint = quickstart.mountpoint();
    let mut copy = shell(&mountpoint, "cp -a /usr/include/linux .; sync -f .");
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| run_ok(&mut copy, WITHIN));
        let begun = || fs::read_dir(mountpoint.join("linux")).is_ok_and(|entries| entries.count() > 50);
        assert!(reached(WITHIN, || begun() || copying.is_finished()) && !copying.is_finished(), "no middle to kill in");
        kill9(&[quickstart.pid("brick2"), quickstart.pid("brick5")]);
        copying.join().expect("cp fails");
    });
    sh(&mountpoint, "diff -r --no-dereference /usr/include/linux linux");
    sh(&quickstart.state, "test $(grep -c 'member dropped' error.log) = 2");
    quickstart.start();
    sh(&mountpoint, "diff -r --no-dereference /usr/include/linux linux");
    quickstart.stop();
}

/// `stop` gets rid of a mount whose client is dead or frozen, and of one that a program is still in.
#[test]
fn stop_cleans_up_what_is_dead_or_busy() {
    let quickstart = Quickstart::new();
    quickstart.start();
    kill9(&[quickstart.pid("client"), quickstart.pid("brick1")]);
    quickstart.stop();
    quickstart.start();
    let busy = fs::File::create(quickstart.mountpoint().join("busy")).unwrap();
    quickstart.stop();
    drop(busy);
}

#[test]
fn a_mistake_in_the_command_line_starts_nothing() {
    let quickstart = Quickstart::new();
    let finished = run(quickstart.command(workspace(), Path::new("./scripts/quickstart")).arg("stpo"), WITHIN);
    assert_ne!(finished.code(), 0);
    assert!(finished.words().contains("usage") && !quickstart.state.exists(), "{}", finished.words());
}
