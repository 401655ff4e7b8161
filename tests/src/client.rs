//! One `net_raid_client` with its config file.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::array::Array;
use crate::binaries;
use crate::cluster::Cluster;
use crate::deadline::{reached, wait_until};
use crate::errorlog::ErrorLog;
use crate::netns::Netns;
use crate::process::{Finished, is_alive, run, send};
use crate::user::User;
use crate::workdir::mounts_below;

/// What another test has open by mistake, it has closed by then.
const FORKED_WITHIN: Duration = Duration::from_secs(5);
/// How long the command has until it returns: what it makes durable on all bricks takes as long as a busy disk does.
pub const MOUNT_WITHIN: Duration = Duration::from_secs(180);
/// How long a daemon has to end after its last mount went: it has everything made durable, which on a busy disk takes as long as a mount.
pub const END_WITHIN: Duration = Duration::from_secs(180);
/// The `timeout` of the volumes under test: operations beyond the redundancy fail within it.
pub const TIMEOUT: Duration = Duration::from_secs(3);

/// One block of a config file.
#[derive(Clone, Debug)]
pub struct Volume {
    /// `diskname`.
    pub name: String,
    /// `mountpoint`.
    pub mountpoint: PathBuf,
    /// `raid`.
    pub level: u8,
    /// `servers`.
    pub servers: Vec<String>,
    /// `hotswap`; the line is left out without any.
    pub spares: Vec<String>,
}

impl Volume {
    /// A volume of `array` on the bricks of `cluster` from number `first` on, to be mounted on the
    /// directory `name` beside them, which is created.
    pub fn new(cluster: &Cluster, name: &str, array: Array, first: usize) -> Volume {
        let mountpoint = cluster.path().join(name);
        if !mountpoint.exists() {
            fs::create_dir(&mountpoint).expect("create a mountpoint");
        }
        let servers = cluster.addresses(first..first + array.bricks);
        Volume { name: name.into(), mountpoint, level: array.level, servers, spares: Vec::new() }
    }

    fn block(&self) -> String {
        let Volume { name, level, .. } = self;
        let mut block = format!("\ndiskname = {name}\nmountpoint = {}\nraid = {level}\n", self.mountpoint.display());
        writeln!(block, "servers = {}", self.servers.join(", ")).expect("to a string");
        if !self.spares.is_empty() {
            writeln!(block, "hotswap = {}", self.spares.join(", ")).expect("to a string");
        }
        block
    }
}

/// A config file, and the daemon that may run with it.
#[derive(Debug)]
pub struct Client {
    config: PathBuf,
    pid_file: PathBuf,
    errorlog: ErrorLog,
    mountpoints: Vec<PathBuf>,
    user: Option<User>,
    netns: Option<Netns>,
}

impl Client {
    /// Writes `name.conf` into `dir` for these volumes, with a small cache and [`TIMEOUT`].
    pub fn new(dir: &Path, name: &str, volumes: &[Volume]) -> Client {
        let errorlog = dir.join(format!("{name}.errors"));
        let seconds = TIMEOUT.as_secs();
        let mut text = format!("errorlog = {}\n", errorlog.display());
        writeln!(text, "cache_size = 64M\ncache_replacment = rlu\ntimeout = {seconds}").expect("to a string");
        volumes.iter().for_each(|volume| text.push_str(&volume.block()));
        let client = Client {
            config: dir.join(format!("{name}.conf")),
            pid_file: dir.join(format!("{name}.pid")),
            errorlog: ErrorLog::new(errorlog),
            mountpoints: volumes.iter().map(|volume| volume.mountpoint.clone()).collect(),
            user: None,
            netns: None,
        };
        client.rewrite(&text);
        client
    }

    /// The same client, run by `user`, to whom its directory and mountpoints are given.
    pub fn owned_by(mut self, user: User) -> Client {
        self.user = Some(user);
        for owned in self.mountpoints.iter().map(PathBuf::as_path).chain(self.config.parent()) {
            std::os::unix::fs::chown(owned, Some(user.uid), Some(user.gid)).expect("chown as root");
        }
        self
    }

    /// The same client at the other end of a cable.
    pub fn in_netns(mut self, netns: Netns) -> Client {
        self.netns = Some(netns);
        self
    }

    /// The cable of a client that is behind one.
    ///
    /// # Panics
    /// When it is not.
    pub fn netns(&self) -> &Netns {
        self.netns.as_ref().expect("a client behind a cable")
    }

    /// Replaces the config file.
    pub fn rewrite(&self, text: &str) {
        fs::write(&self.config, text).expect("write a config");
    }

    /// The config file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The error log of all its volumes.
    pub fn errorlog(&self) -> &ErrorLog {
        &self.errorlog
    }

    /// `net_raid_client --pid-file PID CONFIG`.
    pub fn command(&self) -> Command {
        let mut command = match (self.user, &self.netns) {
            (None, None) => Command::new(binaries::client()),
            (None, Some(netns)) => netns.command(&binaries::client()),
            (Some(user), _) => {
                let copy = self.config.with_file_name("net_raid_client");
                user.command(&binaries::copy_for_anyone(&binaries::client(), &copy))
            }
        };
        command.arg("--pid-file").arg(&self.pid_file).arg(&self.config).current_dir("/");
        command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()));
        command.env("RUST_BACKTRACE", "1");
        command
    }

    /// Runs the command until it returns, whatever it says.
    pub fn try_mount(&self) -> Finished {
        run(&mut self.command(), MOUNT_WITHIN)
    }

    /// Mounts every volume.
    ///
    /// # Panics
    /// When the command does not return 0, or one of the mountpoints is none after that.
    pub fn mount(&self) {
        let finished = self.try_mount();
        let code = finished.code();
        assert_eq!(code, 0, "mounting failed:\n{}{}", finished.stdout, finished.stderr);
        for mountpoint in &self.mountpoints {
            assert!(is_mounted(mountpoint), "{} is not mounted after exit 0", mountpoint.display());
        }
    }

    /// The id of the daemon.
    ///
    /// # Panics
    /// When there is no pid file.
    pub fn pid(&self) -> i32 {
        let text = fs::read_to_string(&self.pid_file);
        let text = text.unwrap_or_else(|e| panic!("no pid in {}: {e}", self.pid_file.display()));
        text.trim().parse().expect("a process id")
    }

    /// Unmounts everything as `umount` does, and waits for the daemon to end. Another test that starts a program at this moment
    /// has for an instant, between fork and exec, all files open that this one has; then it is tried again.
    ///
    /// # Panics
    /// When a mountpoint is busy, or the daemon does not end in time.
    pub fn unmount(&self) {
        let pid = self.pid();
        for mountpoint in &self.mountpoints {
            let mut said = String::new();
            let unmounted = reached(FORKED_WITHIN, || {
                let finished = run(Command::new("umount").arg(mountpoint), END_WITHIN);
                said = finished.stderr.clone();
                finished.code() == 0 || !said.contains("busy")
            });
            assert!(unmounted && !is_mounted(mountpoint), "{said}");
        }
        wait_until("the daemon ends after its last umount", END_WITHIN, || !is_alive(pid));
    }

    /// Unmounts and mounts again: what is read after that comes from the bricks.
    pub fn remount(&self) {
        self.unmount();
        self.mount();
    }

    /// Kills the daemon with -9. Its dead mounts stay.
    pub fn kill9(&self) {
        let pid = self.pid();
        send(pid, Signal::SIGKILL);
        wait_until("the daemon is gone after kill -9", END_WITHIN, || !is_alive(pid));
    }

    /// Ends the daemon with SIGTERM; says whether it ended in time and took its mounts with it.
    pub fn terminate(&self) -> bool {
        let pid = self.pid();
        send(pid, Signal::SIGTERM);
        reached(END_WITHIN, || !is_alive(pid)) && !self.mountpoints.iter().any(|m| is_mounted(m))
    }
}

/// True when something is mounted on `path`, alive or dead.
pub fn is_mounted(path: &Path) -> bool {
    mounts_below(path).iter().any(|mountpoint| mountpoint == path)
}
