//! What workloads run on: a mounted directory, and the processes behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::array::Array;
use crate::client::is_mounted;
use crate::deadline::wait_until;
use crate::process::{kill_group, run_ok};
use crate::rig::Rig;
use crate::workdir::Workdir;

/// How long anything may take that begins or ends a target.
const SOON: Duration = Duration::from_secs(120);

/// A mounted directory.
pub(super) trait Target {
    /// What it is called in tables.
    fn name(&self) -> String;
    /// Where it is mounted.
    fn root(&self) -> PathBuf;
    /// Unmounts and mounts again: the client knows nothing any more.
    fn remount(&mut self);
    /// The client's process.
    fn clients(&self) -> Vec<i32>;
    /// The servers' processes.
    fn servers(&self) -> Vec<i32>;
}

/// A volume of ours with default settings.
pub(super) struct Ours(Rig);

impl Ours {
    pub(super) fn start(array: Array) -> Ours {
        let rig = Rig::unmounted(array, 0);
        let text = fs::read_to_string(rig.client.config()).expect("a config");
        // What the tests set otherwise.
        let is_default =
            |line: &&str| !["cache_size", "cache_replacment", "timeout"].iter().any(|key| line.starts_with(key));
        rig.client.rewrite(&text.lines().filter(is_default).map(|line| format!("{line}\n")).collect::<String>());
        rig.client.mount();
        Ours(rig)
    }
}

impl Target for Ours {
    fn name(&self) -> String {
        name_of(self.0.array)
    }

    fn root(&self) -> PathBuf {
        self.0.root()
    }

    fn remount(&mut self) {
        self.0.client.remount();
    }

    fn clients(&self) -> Vec<i32> {
        vec![self.0.client.pid()]
    }

    fn servers(&self) -> Vec<i32> {
        self.0.cluster.iter().map(|brick| brick.pid()).collect()
    }
}

/// What a volume of ours is called.
pub(super) fn name_of(array: Array) -> String {
    format!("RAID-{} of {}", array.level, array.bricks)
}

/// GlusterFS, as Debian has it, with its defaults: a volume that bears the loss of as many servers.
pub(super) struct Peer {
    name: String,
    volume: &'static str,
    work: Workdir,
    daemon: Option<Child>,
}

/// Bricks of the peer are not on `localhost`, which it takes for somebody else's.
const PEER_HOST: &str = "127.1.1.1";

fn gluster(arguments: &[&str]) {
    run_ok(Command::new("gluster").arg("--mode=script").args(arguments), SOON);
}

fn answers() -> bool {
    Command::new("gluster")
        .args(["--mode=script", "peer", "status"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// What the peer's volume beside ours is called.
pub(super) fn peer_of(array: Array) -> String {
    match array.level {
        1 => format!("replica {}", array.bricks),
        _ => format!("disperse {}+{}", array.data_bricks(), array.losses()),
    }
}

impl Peer {
    pub(super) fn start(array: Array) -> Peer {
        let (work, volume) = (Workdir::new(), "net_raid_bench");
        let daemon = (!answers()).then(|| {
            let log = work.path().join("glusterd.log");
            // What its helpers miss they say, and work without it.
            let mut command = Command::new("glusterd");
            command.arg("--no-daemon").arg("--log-file").arg(log).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("start glusterd")
        });
        wait_until("glusterd answers", SOON, answers);
        let bricks: Vec<String> = (0..array.bricks)
            .map(|i| format!("{PEER_HOST}:{}", work.make_dir(&format!("peer{i}")).display()))
            .collect();
        let (count, losses) = (array.bricks.to_string(), array.losses().to_string());
        let kind: &[&str] = match array.level {
            1 => &["replica", &count],
            _ => &["disperse", &count, "redundancy", &losses],
        };
        let bricks: Vec<&str> = bricks.iter().map(String::as_str).collect();
        gluster(&[&["volume", "create", volume], kind, &["transport", "tcp"], &bricks, &["force"]].concat());
        gluster(&["volume", "start", volume]);
        work.make_dir("mount");
        let peer = Peer { name: peer_of(array), volume, work, daemon };
        peer.mount();
        peer
    }

    fn mount(&self) {
        let source = format!("{PEER_HOST}:/{}", self.volume);
        run_ok(Command::new("mount").args(["-t", "glusterfs", &source]).arg(self.root()), SOON);
    }
}

impl Target for Peer {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn root(&self) -> PathBuf {
        self.work.path().join("mount")
    }

    fn remount(&mut self) {
        run_ok(Command::new("umount").arg(self.root()), SOON);
        self.mount();
    }

    fn clients(&self) -> Vec<i32> {
        pids(&format!("glusterfs .*{}", self.root().display()))
    }

    fn servers(&self) -> Vec<i32> {
        pids(&format!("glusterfsd .*--volfile-id {}", self.volume))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.root()).output();
        for step in ["stop", "delete"] {
            let mut command = Command::new("gluster");
            command.args(["--mode=script", "volume", step, self.volume]).args((step == "stop").then_some("force"));
            let _ = command.output();
        }
        if let Some(daemon) = &mut self.daemon {
            // Its helpers end with it.
            pids("glusterfs .*glustershd")
                .into_iter()
                .for_each(|pid| crate::process::send(pid, nix::sys::signal::Signal::SIGTERM));
            kill_group(daemon);
        }
    }
}

/// Processes by what `pgrep -f` finds.
fn pids(pattern: &str) -> Vec<i32> {
    let output = Command::new("pgrep").args(["-f", pattern]).output().expect("run pgrep");
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.parse().ok()).collect()
}

/// A FUSE file system that passes everything on to a directory of this disk: nobody who uses FUSE is much faster.
pub(super) struct Floor {
    program: PathBuf,
    work: Workdir,
    process: Child,
}

/// The name of the floor in tables.
pub(super) const FLOOR: &str = "passthrough";

impl Floor {
    /// `program` is `passthrough_ll` of libfuse.
    pub(super) fn start(program: &Path) -> Floor {
        let work = Workdir::new();
        let (source, root) = (work.make_dir("source"), work.make_dir("mount"));
        let process = pass_through(program, &source, &root);
        Floor { program: program.to_owned(), work, process }
    }
}

fn pass_through(program: &Path, source: &Path, root: &Path) -> Child {
    let options = format!("source={},writeback,cache=always", source.display());
    let child = Command::new(program).args(["-f", "-o", &options]).arg(root).spawn().expect("start the pass-through");
    wait_until("the pass-through is mounted", SOON, || is_mounted(root));
    child
}

impl Target for Floor {
    fn name(&self) -> String {
        FLOOR.into()
    }

    fn root(&self) -> PathBuf {
        self.work.path().join("mount")
    }

    fn remount(&mut self) {
        run_ok(Command::new("umount").arg(self.root()), SOON);
        crate::process::wait(&mut self.process, SOON);
        self.process = pass_through(&self.program, &self.work.path().join("source"), &self.root());
    }

    fn clients(&self) -> Vec<i32> {
        vec![self.process.id() as i32]
    }

    fn servers(&self) -> Vec<i32> {
        Vec::new()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.root()).output();
        kill_group(&mut self.process);
    }
}
