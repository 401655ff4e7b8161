//! What the cores ask of the world: time of day, randomness, streams. Simulations bring their own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use net_raid_proto::ids::Timestamp;
use net_raid_proto::message::Holder;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::ServerAddr;

/// The two directions of a connected stream: separate, so that they never wait for each other.
pub struct Stream {
    /// What the server says.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What it hears.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// A future of the transport.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;

/// Connects to servers.
pub trait Transport: Send + Sync {
    /// One attempt; the caller sets the deadline.
    fn connect<'a>(&'a self, server: &'a ServerAddr) -> Connecting<'a>;
}

/// Time of day.
pub trait WallClock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Randomness for ids.
pub trait Random: Send + Sync {
    /// 16 random bytes.
    fn bytes(&self) -> [u8; 16];
}

/// The machine and the process, as holders of volumes.
pub trait Host: Send + Sync {
    /// Who we are.
    fn holder(&self) -> Holder;

    /// Whether a holder is known to be dead: a process of this machine that does not run any more.
    fn is_dead(&self, holder: &Holder) -> bool;
}

/// The world that a volume lives in.
#[derive(Clone)]
pub struct World {
    /// Streams.
    pub transport: Arc<dyn Transport>,
    /// Time of day.
    pub clock: Arc<dyn WallClock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// This machine.
    pub host: Arc<dyn Host>,
}
