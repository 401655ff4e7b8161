//! What a session needs from outside.

use std::net::SocketAddr;

use net_raid_proto::frame::Header;
use net_raid_proto::message::{Answer, Request};

use super::fence::Fence;
use super::trouble::{Trouble, Troubles};
use crate::brick::Brick;
use crate::disk::Disk;

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

impl<D> Service for Brick<D>
where
    D: Disk + Send + Sync + 'static,
    Brick<D>: Send + Sync,
{
    fn handle(&self, header: &Header, request: &Request, payload: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Answer {
        Brick::handle(self, header, request, payload, now_ms, out)
    }

    fn is_slow(&self, request: &Request) -> bool {
        Brick::is_slow(self, request)
    }
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
    pub(super) fence: Fence,
    troubles: Troubles,
}

impl<S> Context<S> {
    /// A context with an empty record of troubles.
    pub fn new(service: S, slow: SlowWork, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Context<S> {
        Context { service, clock: Box::new(clock), slow, fence: Fence::default(), troubles: Troubles::default() }
    }

    /// Writes one line about a peer, at most once a minute for each address.
    pub(crate) fn log(&self, peer: SocketAddr, why: &Trouble) {
        self.troubles.log(peer, why, (self.clock)());
    }
}
