//! A client's machine and process, and its lines to the servers.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_raid_client::config::ServerAddr;
use net_raid_client::world::{Connecting, Host, Random as Ids, Transport, WallClock, World};
use net_raid_proto::ids::Timestamp;
use net_raid_proto::message::Holder;
use net_raid_server::disk::sim::Random;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::machine::Machine;
use crate::network::Way;

/// A connection of a client: to which machine, what carries its bytes there and back, and what ends each.
struct Connection {
    machine: usize,
    pumps: [AbortHandle; 2],
    cuts: [watch::Sender<bool>; 2],
}

/// A client's process.
pub struct Client {
    host: u32,
    process: u32,
    machines: Vec<Arc<Machine>>,
    /// By machine: nothing passes while it is true.
    pub lines: Vec<watch::Sender<bool>>,
    connections: Mutex<Vec<Connection>>,
    /// It was killed.
    gone: Arc<AtomicBool>,
    /// Processes of all clients that were killed.
    dead: Arc<Mutex<BTreeSet<u32>>>,
    random: Mutex<Random>,
    delay_max: u64,
}

impl Client {
    /// A process on a host; `dead` is shared by all clients.
    pub fn new(
        (host, process): (u32, u32),
        machines: &[Arc<Machine>],
        dead: &Arc<Mutex<BTreeSet<u32>>>,
        mut random: Random,
    ) -> Arc<Client> {
        let delay_max = [0, 1, 4, 8][random.below(4) as usize];
        Arc::new(Client {
            host,
            process,
            machines: machines.to_vec(),
            lines: machines.iter().map(|_| watch::channel(false).0).collect(),
            connections: Mutex::default(),
            gone: Arc::default(),
            dead: Arc::clone(dead),
            random: Mutex::new(random),
            delay_max,
        })
    }

    /// The world as this client sees it.
    pub fn world(self: &Arc<Client>, start: Instant) -> World {
        let clock = Clock { start, told: AtomicU64::new(0) };
        World { transport: self.clone(), clock: Arc::new(clock), random: self.clone(), host: self.clone() }
    }

    /// kill -9: what it has not sent by now is never sent.
    pub fn kill(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.dead.lock().unwrap().insert(self.process);
        for connection in self.connections.lock().unwrap().drain(..) {
            // Answers find nobody; requests that are on their way arrive or do not.
            connection.pumps[1].abort();
            if self.random.lock().unwrap().chance(4) {
                connection.pumps[0].abort();
            }
        }
    }

    /// Holds everything on all lines, or lets it go on.
    pub fn hold(&self, held: bool) {
        for line in &self.lines {
            line.send_replace(held);
        }
    }

    /// Breaks the connections to a machine; requests that are on their way may arrive later all the same.
    pub fn cut(&self, machine: usize, late: bool) {
        self.connections.lock().unwrap().retain(|connection| {
            let same = connection.machine == machine;
            if same {
                connection.cuts[1].send_replace(true);
            }
            if same && !late {
                connection.cuts[0].send_replace(true);
            }
            // One that is late ends by itself.
            !same || late
        });
    }

    fn way(&self, machine: usize, cut: &watch::Sender<bool>) -> Way {
        let random = Random::new(self.random.lock().unwrap().draw());
        let gates = vec![self.lines[machine].subscribe()];
        Way { gates, silenced: Vec::new(), cut: cut.subscribe(), random, delay_max: self.delay_max }
    }
}

impl Transport for Client {
    fn connect<'a>(&'a self, server: &'a ServerAddr) -> Connecting<'a> {
        let index = usize::from(server.port) - 1;
        Box::pin(async move {
            let delay = self.random.lock().unwrap().below(self.delay_max + 1);
            sleep(Duration::from_millis(delay)).await;
            // A connection that nobody answers is no error: the caller gives up some time.
            let _ = self.lines[index].subscribe().wait_for(|held| !held).await;
            if self.gone.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::NetworkUnreachable.into());
            }
            let cuts = [watch::channel(false).0, watch::channel(false).0];
            let (there, back) = (self.way(index, &cuts[0]), self.way(index, &cuts[1]));
            let (stream, pumps) = self.machines[index].connect(there, back, &self.gone)?;
            self.connections.lock().unwrap().push(Connection { machine: index, pumps, cuts });
            Ok(stream)
        })
    }
}

impl Host for Client {
    fn holder(&self) -> Holder {
        let host = format!("client {}", self.host);
        Holder { host, pid: self.process, started_ticks: u64::from(self.process), boot: "boot".into() }
    }

    fn is_dead(&self, holder: &Holder) -> bool {
        holder.host == self.holder().host && self.dead.lock().unwrap().contains(&holder.pid)
    }
}

impl Ids for Client {
    fn bytes(&self) -> [u8; 16] {
        let mut random = self.random.lock().unwrap();
        let (low, high) = (random.draw(), random.draw());
        (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
    }
}

/// Virtual time of day, which never tells the same time twice.
struct Clock {
    start: Instant,
    told: AtomicU64,
}

impl WallClock for Clock {
    fn now(&self) -> Timestamp {
        let since = self.start.elapsed().as_nanos() as u64;
        let told = self.told.fetch_max(since, Ordering::Relaxed).max(since);
        self.told.fetch_add(1, Ordering::Relaxed);
        Timestamp { secs: 1_700_000_000 + (told / 1_000_000_000) as i64, nanos: (told % 1_000_000_000) as u32 }
    }
}
