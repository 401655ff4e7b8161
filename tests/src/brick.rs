//! One `net_raid_server` process and the directory that it serves.

use std::fs::{self, File, OpenOptions};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::binaries;
use crate::deadline::reached;
use crate::image::Image;
use crate::netns::Netns;
use crate::process::{kill_group, send, wait, whereabouts};
use crate::user::User;

/// How long a server has to accept connections after its start. Nothing is promised: it looks at its files first, and where another
/// program makes much durable on the same disk, one transaction of the file system takes as long as that does.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// How long it has to end after a SIGTERM: as long as requests in flight get, and its last sync on such a disk.
const END_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take after a kill -9. The kernel ends a call that waits for the disk first, and the port and the lock are held until then.
const GONE_WITHIN: Duration = Duration::from_secs(180);

/// A brick directory with its address; its server runs or not.
#[derive(Debug)]
pub struct Brick {
    dir: PathBuf,
    address: SocketAddr,
    log: PathBuf,
    user: Option<User>,
    server: Option<Child>,
    // After the server, which is in them.
    image: Option<Image>,
    netns: Option<Netns>,
}

impl Brick {
    /// A brick in the existing directory `dir`, not served yet. Its log is `dir` with `.log`.
    pub fn new(dir: PathBuf, address: SocketAddr, user: Option<User>) -> Brick {
        let log = dir.with_extension("log");
        if let Some(user) = user {
            std::os::unix::fs::chown(&dir, Some(user.uid), Some(user.gid)).expect("chown as root");
        }
        Brick { dir, address, log, user, server: None, image: None, netns: None }
    }

    /// A brick on a disk of its own, on which there is room beside it. The log is not there.
    pub fn on_image(image: Image, address: SocketAddr) -> Brick {
        let dir = image.path().join("brick");
        fs::create_dir(&dir).expect("create a brick");
        let mut brick = Brick::new(dir, address, None);
        brick.log = image.path().with_extension("log");
        brick.image = Some(image);
        brick
    }

    /// A brick whose server is at the other end of a cable.
    pub fn in_netns(dir: PathBuf, netns: Netns) -> Brick {
        let address = SocketAddr::new(netns.address(), free_address().port());
        let mut brick = Brick::new(dir, address, None);
        brick.netns = Some(netns);
        brick
    }

    /// The disk of a brick that has one of its own.
    pub fn image(&self) -> &Image {
        self.image.as_ref().expect("on an image")
    }

    /// The cable to the server of a brick that has one.
    pub fn netns(&self) -> &Netns {
        self.netns.as_ref().expect("in a namespace")
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where it listens, as a config names it.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What the server has logged so far, over all its starts.
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or_else(|_| String::new(), |b| String::from_utf8_lossy(&b).into_owned())
    }

    /// The id of the server.
    ///
    /// # Panics
    /// When it was not started.
    pub fn pid(&self) -> i32 {
        self.server.as_ref().expect("the server runs").id() as i32
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// # Panics
    /// When it ends instead, or does not accept any in time; with its log.
    pub fn start(&mut self) {
        self.launch();
        self.await_ready();
    }

    /// Starts the server without waiting.
    pub fn launch(&mut self) {
        assert!(self.server.is_none(), "{} is served already", self.dir.display());
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("open a log");
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(duplicate(&log)).stderr(log).process_group(0);
        self.server = Some(command.spawn().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}")));
    }

    /// Waits until the launched server accepts connections.
    ///
    /// # Panics
    /// As [`Brick::start`] does.
    pub fn await_ready(&mut self) {
        let address = self.address;
        let server = self.server.as_mut().expect("launched");
        let mut ended = None;
        let accepts = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok();
        let ready = reached(READY_WITHIN, || {
            ended = server.try_wait().expect("wait for a server");
            ended.is_some() || accepts()
        });
        let pid = server.id() as i32;
        assert!(
            ready && ended.is_none(),
            "server {address} is not ready ({ended:?}):\n{}{}",
            self.log(),
            whereabouts(pid)
        );
    }

    /// `net_raid_server IP PORT DIR` for this brick.
    fn command(&self) -> Command {
        let program = match self.user {
            None => binaries::server(),
            Some(_) => binaries::copy_for_anyone(&binaries::server(), &self.dir.with_file_name("net_raid_server")),
        };
        let mut command = self.netns.as_ref().map_or_else(|| Command::new(&program), |netns| netns.command(&program));
        command.arg(self.address.ip().to_string()).arg(self.address.port().to_string()).arg(&self.dir);
        command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()));
        command.env("RUST_BACKTRACE", "1").current_dir("/");
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// Kills the server with -9, and waits until it is gone.
    ///
    /// # Panics
    /// When the kernel holds it for too long; with where.
    pub fn kill9(&mut self) {
        let mut server = self.server.take().expect("the server runs");
        kill_group(&mut server);
        let gone = wait(&mut server, GONE_WITHIN).is_some();
        assert!(gone, "server {} is not gone after kill -9:\n{}", self.address, whereabouts(server.id() as i32));
    }

    /// Ends the server with SIGTERM, and waits for it.
    ///
    /// # Panics
    /// When it does not end in time, or with anything but 0.
    pub fn terminate(&mut self) {
        send(self.pid(), Signal::SIGTERM);
        let mut server = self.server.take().expect("the server runs");
        let status = wait(&mut server, END_WITHIN);
        kill_group(&mut server);
        let clean = status.is_some_and(|s| s.success());
        assert!(clean, "server {} ended with {status:?}:\n{}", self.address, self.log());
    }

    /// Freezes the server with SIGSTOP: its connections stay open, and nothing answers.
    pub fn freeze(&self) {
        send(self.pid(), Signal::SIGSTOP);
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        send(self.pid(), Signal::SIGCONT);
    }

    /// True when a server was started and not ended from here.
    pub fn is_served(&self) -> bool {
        self.server.is_some()
    }
}

impl Drop for Brick {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            kill_group(&mut server);
        }
    }
}

/// An address on loopback that no other test uses: the network from the id of this process, the
/// port from a counter, below the range that the kernel gives to outgoing connections.
pub fn free_address() -> SocketAddr {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let pid = std::process::id();
    let ip = [127, 1 + (pid >> 8 & 0x7f) as u8, pid as u8, 1];
    SocketAddr::new(IpAddr::from(ip), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn duplicate(file: &File) -> File {
    file.try_clone().expect("dup")
}
