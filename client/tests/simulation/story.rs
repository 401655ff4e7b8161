//! One run: a volume is formed, worked on and crashed again and again, and after each recovery everything that was promised
//! must be there.
//!
//! Faults stay within the promise: some machines, no more than the level and the voters bear, may be away, lost, full or rotten
//! at any time. All the others only suffer what a volume survives as a whole: everything killed, power lost everywhere,
//! connections cut.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_raid_client::config::{self, VolumeConfig};
use net_raid_client::events::EventLog;
use net_raid_client::fs::Fs;
use net_raid_client::volume::{self, Volume};
use net_raid_client::world::{Host, World};
use net_raid_proto::membership::Ownership;
use net_raid_server::disk::sim::Random;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::actor::Actor;
use crate::client::Client;
use crate::history::{ActorHistory, History, Names};
use crate::machine::Machine;
use crate::trace::Trace;

/// What a run is about.
pub struct Setup {
    pub level: u8,
    pub servers: usize,
    pub spares: usize,
    /// Machines that may miss something.
    pub unreliable: Vec<usize>,
    ownership: Ownership,
}

impl Setup {
    fn new(random: &mut Random) -> Setup {
        let (level, least) = [(1, 2), (5, 3), (6, 4)][random.below(3) as usize];
        let servers = least + random.below(9 - least as u64) as usize;
        let spares = usize::from(random.chance(2));
        let losses = match level {
            1 => servers - 1,
            5 => 1,
            _ => 2,
        };
        let count = losses.min((servers + spares) / 2);
        let mut unreliable: Vec<usize> = (0..servers + spares).collect();
        while unreliable.len() > count {
            unreliable.remove(random.below(unreliable.len() as u64) as usize);
        }
        let ownership = if random.chance(4) { Ownership::Native } else { Ownership::Recorded };
        Setup { level, servers, spares, unreliable, ownership }
    }

    fn stripe(&self) -> u64 {
        let data = match self.level {
            1 => 1,
            5 => self.servers - 1,
            _ => self.servers - 2,
        };
        data as u64 * 64 * 1024
    }

    fn config(&self) -> VolumeConfig {
        let list = |range: std::ops::Range<usize>| {
            range.map(|index| format!("127.0.0.1:{}", index + 1)).collect::<Vec<_>>().join(", ")
        };
        let spares = list(self.servers..self.servers + self.spares);
        let hotswap = if self.spares > 0 { format!("hotswap = {spares}\n") } else { String::new() };
        let text = format!(
            "scrub = 1m\ntimeout = 5\nstall = 1\ncache_size = 4M\ndiskname = SIM\nmountpoint = /mnt/sim\nraid = {}\nservers = {}\n{hotswap}",
            self.level,
            list(0..self.servers)
        );
        let config = config::parse(Path::new("sim.conf"), &text).unwrap_or_else(|errors| panic!("{errors}"));
        config.volumes.into_iter().next().expect("one volume")
    }
}

/// A client that has the volume.
pub struct Session {
    pub client: Arc<Client>,
    pub volume: Arc<Volume>,
    pub fs: Arc<Fs>,
    pub actors: Vec<JoinHandle<()>>,
}

/// One run.
pub struct Story {
    pub setup: Setup,
    pub random: Random,
    pub trace: Trace,
    pub machines: Vec<Arc<Machine>>,
    pub history: Arc<Mutex<History>>,
    /// Machines that lost power since the last recovery.
    pub powerless: BTreeSet<usize>,
    /// Machines with flipped bits that nobody may have noticed.
    pub rotten: BTreeSet<usize>,
    pub config: VolumeConfig,
    dead: Arc<Mutex<BTreeSet<u32>>>,
    clients: u32,
    start: Instant,
}

/// Rounds of work and crash.
const ROUNDS: u64 = 4;
/// An assembly takes less than this when it can be done: the lease of a dead owner, and the patience with absent servers.
const OPEN_MAX: Duration = Duration::from_secs(60);
/// A run takes less than this.
const RUN_MAX: Duration = Duration::from_secs(3600);

/// Runs a seed; the first thing that must not be.
pub async fn run(seed: u64, trace: Trace) -> Result<(), String> {
    let mut random = Random::new(seed);
    let setup = Setup::new(&mut random);
    let count = setup.servers + setup.spares;
    let machines: Vec<Arc<Machine>> = (0..count).map(|index| Machine::new(index, setup.ownership)).collect();
    trace.note(format_args!(
        "RAID-{} over {} servers, {} spares, unreliable {:?}",
        setup.level, setup.servers, setup.spares, setup.unreliable
    ));
    let mut history = History::default();
    let actors = 1 + random.below(3);
    history.actors.extend((0..actors).map(|_| ActorHistory::new(Names::new())));
    let mut story = Story {
        config: setup.config(),
        setup,
        random,
        trace,
        machines,
        history: Arc::new(Mutex::new(history)),
        powerless: BTreeSet::new(),
        rotten: BTreeSet::new(),
        dead: Arc::default(),
        clients: 0,
        start: Instant::now(),
    };
    match timeout(RUN_MAX, story.run()).await {
        Ok(result) => result,
        Err(_) => Err("it does not come to an end".into()),
    }
}

impl Story {
    async fn run(&mut self) -> Result<(), String> {
        self.start_machines()?;
        let client = self.new_client();
        let volume = self.open(&client).await.map_err(|why| format!("not formed: {why}"))?;
        let mut session = self.session(client, volume);
        for round in 0..ROUNDS {
            self.trace.note(format_args!("round {round}"));
            self.work(&mut session).await?;
            session = match self.crash(session).await? {
                Some(session) => session,
                None => match self.recover().await? {
                    Some(session) => session,
                    None => return Ok(()),
                },
            };
        }
        Ok(())
    }

    /// Starts all processes whose machines are there.
    pub fn start_machines(&self) -> Result<(), String> {
        self.machines.iter().try_for_each(|machine| machine.start())
    }

    /// A process on some host.
    pub fn new_client(&mut self) -> Arc<Client> {
        self.clients += 1;
        let host = self.random.below(2) as u32;
        let random = Random::new(self.random.draw());
        Client::new((host, self.clients), &self.machines, &self.dead, random)
    }

    /// Assembles the volume.
    pub async fn open(&self, client: &Arc<Client>) -> Result<Arc<Volume>, String> {
        let events = EventLog::open(None).expect("no file");
        let world = client.world(self.start);
        self.trace.note(format_args!("client {} opens", client.holder().pid));
        let opened = timeout(OPEN_MAX, volume::open(&self.config, world, Arc::new(events))).await;
        let opened = opened.map_err(|_| "it takes too long".to_string()).and_then(|opened| opened.map_err(|why| why.0));
        self.trace.note(format_args!("opened: {:?}", opened.as_ref().map(|_| ())));
        opened
    }

    /// What it takes to open the volume.
    pub fn assembly(&self, client: &Arc<Client>) -> (VolumeConfig, World) {
        (self.config.clone(), client.world(self.start))
    }

    /// A session without work.
    pub fn session(&self, client: Arc<Client>, volume: Arc<Volume>) -> Session {
        let fs = Fs::new(Arc::clone(&volume));
        Session { client, volume, fs, actors: Vec::new() }
    }

    /// Begins to work.
    pub fn employ(&mut self, session: &mut Session) {
        let steps = 10 + self.random.below(60) as usize;
        for index in 0..self.history.lock().unwrap().actors.len() {
            let actor = Actor {
                index,
                fs: Arc::clone(&session.fs),
                volume: Arc::clone(&session.volume),
                history: Arc::clone(&self.history),
                random: Random::new(self.random.draw()),
                trace: self.trace.clone(),
                stripe: self.setup.stripe(),
            };
            session.actors.push(tokio::spawn(actor.run(steps)));
        }
    }

    /// kill -9 of a client.
    pub fn kill_client(&self, session: Session) {
        session.actors.iter().for_each(JoinHandle::abort);
        session.client.kill();
        self.trace.fault("client killed", format_args!("{}", session.client.holder().pid));
        // Its tasks live on, but reach nobody; what was opened ends in its own time.
        tokio::spawn(async move { session.volume.close().await });
    }

    /// The first thing that must not be.
    pub fn judge(&self) -> Result<(), String> {
        match &self.history.lock().unwrap().violation {
            Some(violation) => Err(violation.clone()),
            None => Ok(()),
        }
    }

    /// A while of up to `ms`, short ones likelier.
    pub async fn pause(&mut self, ms: u64) {
        let bound = 1 + self.random.below(ms);
        sleep(Duration::from_millis(self.random.below(bound))).await;
    }

    /// Some machine.
    pub fn machine(&mut self) -> Arc<Machine> {
        let index = self.random.below(self.machines.len() as u64) as usize;
        Arc::clone(&self.machines[index])
    }
}
