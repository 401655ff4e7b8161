//! A cluster in one process: real brick cores and the real volume, joined by in-memory streams.

#![allow(dead_code)]

pub mod liar;
pub mod offline;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use net_raid_client::config::{self, ServerAddr, VolumeConfig};
use net_raid_client::events::EventLog;
use net_raid_client::volume::{AssemblyError, File, Volume, open};
use net_raid_client::world::{Connecting, Host, Random, Stream, Transport, WallClock, World};
use net_raid_proto::ids::{BrickId, Name, ObjectId, Timestamp};
use net_raid_proto::membership::Ownership;
use net_raid_proto::message::{Change, Holder, Kind, NewObject};
use net_raid_server::brick::{Brick, BrickOptions};
use net_raid_server::disk::RealDisk;
use net_raid_server::session::{Context, SlowWork, serve};
use tokio::sync::watch;
use tokio::time::Instant;

use liar::{Journal, Liar, Script};

/// Bytes that an in-memory stream holds.
const STREAM_BUFFER: usize = 256 * 1024;

/// A brick that can be killed, frozen and started again.
pub struct Node {
    /// Its directory.
    pub dir: PathBuf,
    running: Mutex<Option<Running>>,
    /// Nothing passes in either direction, and nothing is said about it.
    pub frozen: Arc<AtomicBool>,
    /// The next change is answered with yes, and not made.
    pub lies: Arc<AtomicBool>,
    /// What else it does otherwise than asked.
    pub script: Arc<Script>,
    /// How an empty brick will keep owners; `None`: as the process can.
    ownership: Option<Ownership>,
}

#[derive(Clone)]
struct Running {
    context: Arc<Context<Liar>>,
    stop: watch::Sender<bool>,
    /// Tasks that carry bytes: aborting them is a connection reset.
    pumps: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>,
}

impl Node {
    fn new(dir: PathBuf, ownership: Option<Ownership>, script: Arc<Script>) -> Arc<Node> {
        std::fs::create_dir_all(&dir).expect("brick directory");
        let (running, frozen, lies) = (Mutex::new(None), Arc::default(), Arc::default());
        let node = Node { dir, running, frozen, lies, script, ownership };
        node.start();
        Arc::new(node)
    }

    /// Starts a stopped brick.
    pub fn start(&self) {
        let disk = RealDisk::open(&self.dir).expect("open the directory");
        let ownership = self.ownership.unwrap_or_else(|| disk.ownership());
        let options = BrickOptions { ownership, brick: BrickId(random()), boot: "boot".into() };
        let brick = Brick::open(disk, options).expect("open the brick");
        let brick = Liar { brick, lies: Arc::clone(&self.lies), script: Arc::clone(&self.script) };
        let start = Instant::now();
        let context = Context::new(brick, SlowWork::Threads, move || start.elapsed().as_millis() as u64);
        let running = Running { context: Arc::new(context), stop: watch::channel(false).0, pumps: Arc::default() };
        *self.running.lock().unwrap() = Some(running);
    }

    /// What kill -9 does.
    pub fn kill(&self) {
        let Some(running) = self.running.lock().unwrap().take() else { return };
        running.pumps.lock().unwrap().iter().for_each(|pump| pump.abort());
        running.stop.send_replace(true);
    }

    /// What kill -9 does, and waits until nothing of it runs any more: it can be started again, or its directory
    /// looked at.
    pub async fn kill_and_wait(&self) {
        let context = self.running.lock().unwrap().as_ref().map(|running| Arc::downgrade(&running.context));
        self.kill();
        let deadline = Instant::now() + Duration::from_secs(20);
        while context.as_ref().is_some_and(|context| context.strong_count() > 0) {
            assert!(Instant::now() < deadline, "a killed brick goes on");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running.lock().unwrap().is_some()
    }

    /// SIGSTOP (true), SIGCONT (false).
    pub fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::SeqCst);
    }

    fn connect(&self) -> io::Result<Stream> {
        let Some(running) = self.running.lock().unwrap().clone() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let (near, mid_near) = tokio::io::duplex(STREAM_BUFFER);
        let (far, mid_far) = tokio::io::duplex(STREAM_BUFFER);
        let (near_reader, near_writer) = tokio::io::split(near);
        let (far_reader, far_writer) = tokio::io::split(far);
        let (mid_near_reader, mid_near_writer) = tokio::io::split(mid_near);
        let (mid_far_reader, mid_far_writer) = tokio::io::split(mid_far);
        let frozen = Arc::clone(&self.frozen);
        let there = tokio::spawn(pump(mid_near_reader, mid_far_writer, Arc::clone(&frozen)));
        let back = tokio::spawn(pump(mid_far_reader, mid_near_writer, frozen));
        running.pumps.lock().unwrap().extend([there, back]);
        let (context, stop) = (Arc::clone(&running.context), running.stop.subscribe());
        let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
        tokio::spawn(async move { serve(&context, far_reader, far_writer, peer, stop).await });
        Ok(Stream { reader: Box::new(near_reader), writer: Box::new(near_writer) })
    }
}

async fn pump<R, W>(mut from: R, mut to: W, frozen: Arc<AtomicBool>)
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        while frozen.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if to.write_all(&buffer[..len]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// By the number of the client: the nodes that it cannot connect to, by their number.
type Cables = [Mutex<HashSet<usize>>; 2];

/// What one client sees.
struct Net {
    nodes: Vec<Arc<Node>>,
    cut: Arc<Cables>,
    client: usize,
}

impl Transport for Net {
    fn connect<'a>(&'a self, server: &'a ServerAddr) -> Connecting<'a> {
        let number = usize::from(server.port) - 1;
        let node = &self.nodes[number];
        Box::pin(async move {
            if self.cut[self.client].lock().unwrap().contains(&number) {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            while node.frozen.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            node.connect()
        })
    }
}

/// A clock that ticks whenever it is read.
pub struct Ticking(AtomicU64);

impl Ticking {
    /// The time that was told last.
    pub fn last(&self) -> Timestamp {
        timestamp(self.0.load(Ordering::Relaxed).saturating_sub(1))
    }

    /// The time that will be told next.
    pub fn peek(&self) -> Timestamp {
        timestamp(self.0.load(Ordering::Relaxed))
    }
}

fn timestamp(tick: u64) -> Timestamp {
    Timestamp { secs: 1_700_000_000 + (tick / 1000) as i64, nanos: (tick % 1000) as u32 * 1_000_000 }
}

impl WallClock for Ticking {
    fn now(&self) -> Timestamp {
        timestamp(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A client machine of its own, by number.
struct Client(u32);

impl Host for Client {
    fn holder(&self) -> Holder {
        Holder { host: format!("client{}", self.0), pid: self.0, started_ticks: 1, boot: String::new() }
    }

    fn is_dead(&self, _holder: &Holder) -> bool {
        false
    }
}

struct Chance;

impl Random for Chance {
    fn bytes(&self) -> [u8; 16] {
        random()
    }
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// A volume and its bricks.
pub struct Cluster {
    /// The servers, by slot, then the spares.
    pub nodes: Vec<Arc<Node>>,
    /// The configuration.
    pub config: VolumeConfig,
    /// Where everything is.
    pub dir: tempfile::TempDir,
    /// What the bricks are asked, once it is kept.
    pub journal: Arc<Journal>,
    /// The client's time of day.
    pub clock: Arc<Ticking>,
    cut: Arc<Cables>,
    world: World,
}

impl Cluster {
    /// Empty bricks for a volume of `level` over `servers`, and `spares` more.
    pub fn new(level: u8, servers: usize, spares: usize) -> Cluster {
        Cluster::with_ownership(level, servers, spares, None)
    }

    /// The same, of bricks that keep owners as said.
    pub fn with_ownership(level: u8, servers: usize, spares: usize, ownership: Option<Ownership>) -> Cluster {
        let base = std::env::var_os("NET_RAID_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let dir = tempfile::Builder::new().prefix("net_raid_cluster").tempdir_in(base).expect("temporary directory");
        let journal = Arc::new(Journal::default());
        let node = |i| Node::new(dir.path().join(format!("b{i}")), ownership, Script::new(i, Arc::clone(&journal)));
        let nodes: Vec<Arc<Node>> = (0..servers + spares).map(node).collect();
        let config = config_of(level, servers, spares, dir.path());
        let clock = Arc::new(Ticking(AtomicU64::new(0)));
        let cut: Arc<Cables> = Arc::default();
        let world = World {
            transport: Arc::new(Net { nodes: nodes.clone(), cut: Arc::clone(&cut), client: 0 }),
            clock: clock.clone(),
            random: Arc::new(Chance),
            host: Arc::new(Client(1)),
        };
        Cluster { nodes, config, dir, journal, clock, cut, world }
    }

    /// Assembles the volume.
    pub async fn open(&self) -> Result<Arc<Volume>, AssemblyError> {
        let events = EventLog::open(Some(&self.errorlog())).expect("error log");
        open(&self.config, self.world.clone(), Arc::new(events)).await
    }

    /// Assembles the volume from another machine.
    pub async fn open_elsewhere(&self) -> Result<Arc<Volume>, AssemblyError> {
        let events = EventLog::open(Some(&self.errorlog())).expect("error log");
        let net = Net { nodes: self.nodes.clone(), cut: Arc::clone(&self.cut), client: 1 };
        let world = World { host: Arc::new(Client(2)), transport: Arc::new(net), ..self.world.clone() };
        open(&self.config, world, Arc::new(events)).await
    }

    /// From now on the first client (0), or the one elsewhere (1), can connect to a node, or cannot. What is connected
    /// stays so.
    pub fn cut(&self, client: usize, node: usize, cut: bool) {
        let mut nodes = self.cut[client].lock().unwrap();
        if cut {
            nodes.insert(node)
        } else {
            nodes.remove(&node)
        };
    }

    /// The client as holder of the volume.
    pub fn holder(&self) -> Holder {
        self.world.host.holder()
    }

    fn errorlog(&self) -> PathBuf {
        self.dir.path().join("errors.log")
    }

    /// What the error log says so far.
    pub fn events(&self) -> String {
        std::fs::read_to_string(self.errorlog()).unwrap_or_default()
    }

    /// Waits until the error log says something.
    pub async fn wait_event(&self, words: &str) {
        self.wait_events(words, 1).await;
    }

    /// Waits until the error log says something so many times.
    pub async fn wait_events(&self, words: &str, times: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.events().matches(words).count() < times {
            assert!(Instant::now() < deadline, "no event {words:?} ({times}) in:\n{}", self.events());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn config_of(level: u8, servers: usize, spares: usize, dir: &Path) -> VolumeConfig {
    let list =
        |range: std::ops::Range<usize>| range.map(|i| format!("127.0.0.1:{}", i + 1)).collect::<Vec<_>>().join(", ");
    let hotswap = if spares > 0 { format!("hotswap = {}\n", list(servers..servers + spares)) } else { String::new() };
    let text = format!(
        "timeout = 5\nstall = 1\ncache_size = 16M\ndiskname = TEST\nmountpoint = {}\nraid = {level}\nservers = {}\n{hotswap}",
        dir.display(),
        list(0..servers)
    );
    let config = config::parse(Path::new("test.conf"), &text).unwrap_or_else(|errors| panic!("{errors}"));
    config.volumes.into_iter().next().expect("one volume")
}

/// Makes a file in the root.
pub async fn create(volume: &Volume, name: &str) -> Arc<File> {
    let id = volume.new_id().unwrap();
    let spec = NewObject {
        kind: Kind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        target: Vec::new(),
        layout: volume.layout(),
        xattrs: Vec::new(),
    };
    let name = Name::new(name.as_bytes()).unwrap();
    let change = Change::Create { parent: ObjectId::ROOT, name, id, spec: Box::new(spec) };
    volume.change(change, Bytes::new(), volume.now()).await.unwrap();
    Arc::new(File::new(id, volume.layout(), 0))
}

/// All bytes of a file.
pub async fn read_all(volume: &Volume, file: &File) -> Bytes {
    volume.read(file, 0, file.size() as usize).await.expect("the file can be read")
}
