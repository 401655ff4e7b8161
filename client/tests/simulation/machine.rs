//! A server's machine: its disk, its kernel, and the process that serves the brick.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use net_raid_client::world::Stream;
use net_raid_proto::frame::Header;
use net_raid_proto::ids::{BrickId, Name};
use net_raid_proto::membership::Ownership;
use net_raid_proto::message::{Answer, Fault, Request};
use net_raid_server::brick::{Brick, BrickOptions};
use net_raid_server::disk::Disk;
use net_raid_server::disk::sim::{Random, SimDisk};
use net_raid_server::session::{Context, Service, SlowWork, serve};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::common::offline::Stopped;
use crate::network::{STREAM_BUFFER, Way, carry};

/// Bytes of a disk.
const CAPACITY: u64 = 256 << 20;
const DISK_BLOCK: usize = 4096;

/// A process that may die in the middle of a request.
struct Served {
    brick: Brick<SimDisk>,
    disk: SimDisk,
    crash: Arc<Crash>,
}

/// When a process dies, and whether it did.
struct Crash {
    /// The call of the disk that is its last.
    call: AtomicU64,
    dead: Arc<AtomicBool>,
}

impl Service for Served {
    fn handle(&self, header: &Header, request: &Request, payload: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Answer {
        let gone = || Err(Fault::Failed("the process is gone".into()));
        if self.crash.dead.load(Ordering::SeqCst) {
            return gone();
        }
        let answer = self.brick.handle(header, request, payload, now_ms, out);
        if self.disk.calls() > self.crash.call.load(Ordering::SeqCst) {
            // Nothing that it says from here on is heard.
            self.crash.dead.store(true, Ordering::SeqCst);
            return gone();
        }
        answer
    }

    fn is_slow(&self, request: &Request) -> bool {
        self.brick.is_slow(request)
    }
}

struct Process {
    context: Arc<Context<Served>>,
    stop: watch::Sender<bool>,
    crash: Arc<Crash>,
    /// Tasks that carry its bytes: aborting them is a reset of its connections.
    pumps: Vec<AbortHandle>,
    /// Nobody is there, not even a kernel that says so.
    silent: watch::Sender<bool>,
}

struct State {
    disk: SimDisk,
    boots: u32,
    process: Option<Process>,
    /// Of a machine that lost power: its peers notice nothing until it is back.
    silent: Option<Process>,
    lost: bool,
}

/// A machine with one disk.
pub struct Machine {
    /// Its place in the configuration.
    pub index: usize,
    /// The process is stopped (SIGSTOP) while this is true.
    pub frozen: watch::Sender<bool>,
    ownership: Ownership,
    state: Mutex<State>,
}

impl Machine {
    /// A machine with an empty disk, and nothing that runs.
    pub fn new(index: usize, ownership: Ownership) -> Arc<Machine> {
        let disk = SimDisk::new(CAPACITY, DISK_BLOCK);
        let state = Mutex::new(State { disk, boots: 1, process: None, silent: None, lost: false });
        Arc::new(Machine { index, frozen: watch::channel(false).0, ownership, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn options(&self, boots: u32) -> BrickOptions {
        let brick = BrickId([self.index as u8 + 1; 16]);
        BrickOptions { ownership: self.ownership, brick, boot: format!("boot {boots}") }
    }

    /// Starts the process; nothing happens when it runs, or the disk is lost.
    pub fn start(&self) -> Result<(), String> {
        let mut state = self.state();
        if state.lost || state.process.is_some() {
            return Ok(());
        }
        // A machine that is there again resets connections that it does not know.
        if let Some(before) = state.silent.take() {
            before.end();
        }
        let disk = state.disk.clone();
        let brick = Brick::open(disk.clone(), self.options(state.boots));
        let brick = brick.map_err(|error| format!("brick {} does not open: {error}", self.index))?;
        let crash = Arc::new(Crash { call: AtomicU64::new(u64::MAX), dead: Arc::default() });
        let served = Served { brick, disk, crash: Arc::clone(&crash) };
        let start = Instant::now();
        let context = Context::new(served, SlowWork::Inline, move || start.elapsed().as_millis() as u64);
        state.process = Some(Process {
            context: Arc::new(context),
            stop: watch::channel(false).0,
            crash,
            pumps: Vec::new(),
            silent: watch::channel(false).0,
        });
        Ok(())
    }

    /// kill -9: the kernel and its caches live on.
    pub fn kill(&self) {
        let mut state = self.state();
        if let Some(process) = state.process.take() {
            process.end();
            state.disk = state.disk.clone_as_killed();
        }
        drop(state);
        self.frozen.send_replace(false);
    }

    /// The power is cut.
    pub fn power_off(&self, seed: u64) {
        let mut state = self.state();
        if let Some(process) = state.process.take() {
            process.stop.send_replace(true);
            process.silent.send_replace(true);
            state.silent = Some(process);
        }
        state.disk = state.disk.power_loss(seed);
        state.boots += 1;
        drop(state);
        self.frozen.send_replace(false);
    }

    /// The machine is gone for good, with its disk.
    pub fn lose(&self) {
        self.kill();
        self.state().lost = true;
    }

    /// Whether it is gone for good.
    pub fn is_lost(&self) -> bool {
        self.state().lost
    }

    /// Whether the process runs.
    pub fn is_running(&self) -> bool {
        self.state().process.as_ref().is_some_and(|process| !process.crash.dead.load(Ordering::SeqCst))
    }

    /// The process dies at the `call`th call of its disk from now on; of a write, `written` bytes still happen.
    pub fn crash_after(&self, call: u64, written: usize) {
        let state = self.state();
        if let Some(process) = &state.process {
            let call = state.disk.calls() + call;
            state.disk.crash_at(call, written);
            process.crash.call.store(call, Ordering::SeqCst);
        }
    }

    /// A death that has not come yet does not come.
    pub fn disarm(&self) {
        if !self.has_crashed() {
            self.crash_after(u64::MAX / 2, 0);
        }
    }

    /// Whether it died in the middle of a request.
    pub fn has_crashed(&self) -> bool {
        self.state().process.as_ref().is_some_and(|process| process.crash.dead.load(Ordering::SeqCst))
    }

    /// The disk, as it is used now.
    pub fn disk(&self) -> SimDisk {
        self.state().disk.clone()
    }

    /// Full, or with room again.
    pub fn fill(&self, full: bool) {
        self.disk().set_capacity(if full { 0 } else { CAPACITY });
    }

    /// The brick as it would be found if the process were killed now; the process goes on.
    pub fn stopped(&self) -> Stopped<SimDisk> {
        let state = self.state();
        let disk = state.disk.clone_as_killed();
        let list = {
            let disk = disk.clone();
            move |dir: &str| names_below(&disk, dir).unwrap_or_else(|error| panic!("{dir}: {error}"))
        };
        Stopped { disk, options: self.options(state.boots), list: Box::new(list) }
    }

    /// A new connection of a client; `there` and `back` are what its bytes meet.
    pub fn connect(&self, there: Way, back: Way, gone: &Arc<AtomicBool>) -> io::Result<(Stream, [AbortHandle; 2])> {
        let mut state = self.state();
        let process = state.process.as_mut().filter(|process| !process.crash.dead.load(Ordering::SeqCst));
        let process = process.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, mid_near) = tokio::io::duplex(STREAM_BUFFER);
        let (far, mid_far) = tokio::io::duplex(STREAM_BUFFER);
        let (near_reader, near_writer) = tokio::io::split(near);
        let (far_reader, far_writer) = tokio::io::split(far);
        let (mid_near_reader, mid_near_writer) = tokio::io::split(mid_near);
        let (mid_far_reader, mid_far_writer) = tokio::io::split(mid_far);
        let shut = |mut way: Way, dead: &Arc<AtomicBool>| {
            way.gates.extend([self.frozen.subscribe(), process.silent.subscribe()]);
            way.silenced.push(Arc::clone(dead));
            way
        };
        let pumps = [
            carry(shut(there, gone), mid_near_reader, mid_far_writer),
            carry(shut(back, &process.crash.dead), mid_far_reader, mid_near_writer),
        ];
        process.pumps.extend(pumps.iter().cloned());
        let (context, stop) = (Arc::clone(&process.context), process.stop.subscribe());
        let peer: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        tokio::spawn(async move { serve(&context, far_reader, far_writer, peer, stop).await });
        Ok((Stream { reader: Box::new(near_reader), writer: Box::new(near_writer) }, pumps))
    }
}

impl Process {
    fn end(self) {
        self.pumps.iter().for_each(AbortHandle::abort);
        self.stop.send_replace(true);
    }
}

/// Names in a directory below `.net_raid`.
fn names_below(disk: &SimDisk, dir: &str) -> io::Result<Vec<String>> {
    let parts: Vec<Name> = std::iter::once(".net_raid").chain(dir.split('/')).map(internal).collect();
    let (handle, _) = disk.open(&disk.root()?, &parts.iter().collect::<Vec<_>>())?;
    let (mut names, mut cursor) = (Vec::new(), 0);
    loop {
        let page = disk.read_dir(&handle, cursor)?;
        let Some(last) = page.last() else { return Ok(names) };
        cursor = last.next;
        names.extend(page.iter().map(|item| String::from_utf8_lossy(item.name.as_bytes()).into_owned()));
    }
}

fn internal(name: &str) -> Name {
    Name::new(name.as_bytes()).expect("a short name")
}

/// Flips a bit of one file of the tree. Returns which, when there is one with bytes at the chosen place.
pub fn rot(disk: &SimDisk, random: &mut Random) -> Option<String> {
    let root = disk.root().ok()?;
    let (mut files, mut waiting) = (Vec::new(), vec![Vec::<Name>::new()]);
    while let Some(path) = waiting.pop() {
        let (handle, stat) = disk.open(&root, &path.iter().collect::<Vec<_>>()).ok()?;
        if stat.kind == net_raid_proto::message::Kind::File && stat.size > 0 {
            files.push((path, handle, stat.size));
        } else if stat.kind == net_raid_proto::message::Kind::Directory {
            let items = disk.read_dir(&handle, 0).ok()?;
            let visible = items.into_iter().filter(|item| item.name.as_bytes() != b".net_raid");
            waiting.extend(visible.map(|item| path.iter().cloned().chain([item.name]).collect()));
        }
    }
    if files.is_empty() {
        return None;
    }
    let (path, handle, size) = &files[random.below(files.len() as u64) as usize];
    let offset = random.below(*size);
    let path: Vec<_> = path.iter().map(|name| String::from_utf8_lossy(name.as_bytes())).collect();
    disk.flip(handle, offset, 1 << random.below(8)).then(|| format!("{} at {offset}", path.join("/")))
}
