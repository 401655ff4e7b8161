//! Servers that lie: what they send is checked before it is used.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use net_raid_client::config::{Level, ServerAddr, VolumeConfig};
use net_raid_client::events::EventLog;
use net_raid_client::volume::open;
use net_raid_client::world::{Connecting, Host, Random, Stream, Transport, WallClock, World};
use net_raid_proto::frame::Header;
use net_raid_proto::ids::{BrickId, Epoch, Generation, Timestamp, VolumeId};
use net_raid_proto::membership::{Label, Membership, Ownership, SlotRecord, SlotState};
use net_raid_proto::message::{Answer, BrickState, Holder, Reply, Request};
use net_raid_server::session::{Context, Service, SlowWork, serve};
use tokio::sync::watch;

/// Shows one label, and says yes to everything else.
#[derive(Clone)]
struct Liar(Label);

impl Service for Liar {
    fn handle(&self, _: &Header, request: &Request, _: &[u8], _: u64, _: &mut Vec<u8>) -> Answer {
        match request {
            Request::Hello { .. } => {
                let brick = BrickState::Labelled { label: self.0.clone(), holder: None };
                Ok(Reply::Welcome { version: 1, features: 0, brick: Box::new(brick) })
            }
            _ => Ok(Reply::Done),
        }
    }

    fn is_slow(&self, _: &Request) -> bool {
        false
    }
}

struct Lies(Label);

impl Transport for Lies {
    fn connect<'a>(&'a self, _: &'a ServerAddr) -> Connecting<'a> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let (reader, writer) = tokio::io::split(theirs);
            let context = Arc::new(Context::new(Liar(self.0.clone()), SlowWork::Inline, || 0));
            tokio::spawn(async move {
                let (_stop, stopping) = watch::channel(false);
                serve(&context, reader, writer, ([127, 0, 0, 1], 1).into(), stopping).await;
            });
            let (reader, writer) = tokio::io::split(ours);
            Ok::<_, io::Error>(Stream { reader: Box::new(reader), writer: Box::new(writer) })
        })
    }
}

struct Fixed;

impl WallClock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

impl Random for Fixed {
    fn bytes(&self) -> [u8; 16] {
        [7; 16]
    }
}

impl Host for Fixed {
    fn holder(&self) -> Holder {
        Holder { host: "here".into(), pid: 1, started_ticks: 1, boot: "b".into() }
    }

    fn is_dead(&self, _: &Holder) -> bool {
        false
    }
}

fn label(membership: Membership) -> Label {
    Label {
        volume: VolumeId([1; 16]),
        name: "V".into(),
        brick: BrickId([1; 16]),
        ownership: Ownership::Recorded,
        epoch: Epoch(1),
        complete: Generation(1),
        membership,
    }
}

/// A record without slots has no redundancy to subtract, one with too many no slot numbers.
#[tokio::test(start_paused = true)]
async fn a_membership_record_that_is_not_valid_is_ignored() {
    let slot = |brick: u8| SlotRecord { brick: BrickId([brick; 16]), state: SlotState::Current };
    for slots in [vec![], vec![slot(1)], (0..=99).map(slot).collect()] {
        let record =
            Membership { version: 7, level: Level::Raid1, slots, voters: vec![BrickId([1; 16])], formers: Vec::new() };
        let config = VolumeConfig {
            name: "V".into(),
            mountpoint: "/nowhere".into(),
            level: Level::Raid1,
            servers: (1..=2).map(|port| ServerAddr { host: "liar".into(), port }).collect(),
            spares: Vec::new(),
            cache_size: 1 << 20,
            timeout: Duration::from_millis(500),
            stall: Duration::from_millis(200),
            scrub: None,
            errorlog: None,
            force: false,
            fast: false,
        };
        let world = World {
            transport: Arc::new(Lies(label(record))),
            clock: Arc::new(Fixed),
            random: Arc::new(Fixed),
            host: Arc::new(Fixed),
        };
        let events = Arc::new(EventLog::open(None).expect("a log without a file"));
        let refused = open(&config, world, events).await.err().expect("no volume");
        assert!(refused.0.contains("membership record is damaged"), "{refused}");
    }
}
