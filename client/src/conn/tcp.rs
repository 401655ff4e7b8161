//! The real world: TCP, the machine's clock and its randomness.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use net_raid_proto::ids::Timestamp;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::host::Machine;
use crate::config::ServerAddr;
use crate::world::{Connecting, Random, Stream, Transport, WallClock, World};

/// A peer that vanished is noticed by the kernel after this long even when nothing is sent.
const KEEPALIVE: Duration = Duration::from_secs(10);

struct Tcp;

impl Transport for Tcp {
    fn connect<'a>(&'a self, server: &'a ServerAddr) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
            stream.set_nodelay(true)?;
            SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
            let (reader, writer) = stream.into_split();
            Ok(Stream { reader: Box::new(reader), writer: Box::new(writer) })
        })
    }
}

struct MachineClock;

impl WallClock for MachineClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 is a broken clock: 1970 it is then.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp { secs: since.as_secs() as i64, nanos: since.subsec_nanos() }
    }
}

struct MachineRandom;

impl Random for MachineRandom {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the kernel has randomness");
        bytes
    }
}

/// The machine that this process runs on.
pub fn real_world() -> World {
    World {
        transport: Arc::new(Tcp),
        clock: Arc::new(MachineClock),
        random: Arc::new(MachineRandom),
        host: Arc::new(Machine),
    }
}
