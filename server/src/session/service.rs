//! What a session needs from outside.

use std::net::SocketAddr;

use net_raid_proto::frame::Header;
use net_raid_proto::message::{Answer, Request};

use super::trouble::{Trouble, Troubles};

/// What answers requests: a brick, or a fake in tests.
pub trait Service: Send + Sync + 'static {
    /// Does `request`; bytes that go with the reply are put into the empty `out`.
    ///
    /// `payload` came with the request, `now_ms` is a clock that never goes back. May block.
    fn handle(&self, header: &Header, request: &Request, payload: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Answer;

    /// Whether the request may take longer than a hand-over to another thread is worth (tens of
    /// microseconds). Asked by the task that reads: must not block.
    fn is_slow(&self, request: &Request) -> bool;
}

/// Where slow requests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlowWork {
    /// On the runtime's threads for blocking work.
    Threads,
    /// In the task that reads, one after the other: for a simulation in one thread.
    Inline,
}

/// What the sessions of one server share.
pub struct Context<S> {
    /// What answers requests.
    pub service: S,
    /// Milliseconds of a clock that never goes back.
    pub clock: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Where slow requests run.
    pub slow: SlowWork,
    troubles: Troubles,
}

impl<S> Context<S> {
    /// A context with an empty record of troubles.
    pub fn new(service: S, slow: SlowWork, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Context<S> {
        Context { service, clock: Box::new(clock), slow, troubles: Troubles::default() }
    }

    /// Writes one line about a peer, at most once a minute for each address.
    pub(crate) fn log(&self, peer: SocketAddr, why: &Trouble) {
        self.troubles.log(peer, why, (self.clock)());
    }
}
