//! What ends a connection early, and a log of it that no peer can flood.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use net_raid_proto::codec::CodecError;
use net_raid_proto::frame::FrameError;

/// One address is written about at most once in this time.
const LOG_EVERY_MS: u64 = 60_000;
/// Addresses remembered; when there are more, all are forgotten.
const ADDRESSES_MAX: usize = 1024;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The peer is gone, or a frame was cut off.
    #[error("connection lost: {0}")]
    Stream(#[from] io::Error),
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame whose body is no request.
    #[error(transparent)]
    Body(#[from] CodecError),
    /// An answer, sent to a server.
    #[error("sends answers, not requests")]
    Direction,
    /// Another version than the one agreed on.
    #[error("speaks protocol version {0}, which was not agreed on")]
    Version(u16),
    /// The first request is none that may be first.
    #[error("did not say Hello first")]
    NoHello,
    /// Nothing, or less than a `Hello`, came in time.
    #[error("did not say Hello in time")]
    Silent,
    /// There are as many connections as there may be.
    #[error("too many connections")]
    Crowded,
    /// No connection can be accepted.
    #[error("cannot accept connections: {0}")]
    Accept(io::Error),
    /// A frame began and did not end in time.
    #[error("sent part of a frame only")]
    Late,
}

impl Trouble {
    /// Whether it is what happens to connections when a client is killed or the network fails.
    fn is_usual(&self) -> bool {
        matches!(self, Trouble::Stream(_))
    }
}

/// When each address was written about, in milliseconds, and how often it was not since then.
#[derive(Default)]
pub(super) struct Troubles(Mutex<HashMap<IpAddr, (u64, u64)>>);

impl Troubles {
    /// Writes one line, unless there was one for this address within the last minute.
    pub fn log(&self, peer: SocketAddr, why: &Trouble, now_ms: u64) {
        let Some(unlogged) = self.admit(peer.ip(), now_ms) else { return };
        if why.is_usual() {
            tracing::info!(%peer, %why, unlogged, "connection ended");
        } else {
            tracing::warn!(%peer, %why, unlogged, "connection trouble");
        }
    }

    /// `None` to keep silent, else how many lines were kept back since the last one.
    pub fn admit(&self, address: IpAddr, now_ms: u64) -> Option<u64> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last_ms, unlogged)) = seen.get_mut(&address)
            && now_ms.saturating_sub(*last_ms) < LOG_EVERY_MS
        {
            *unlogged += 1;
            return None;
        }
        if seen.len() >= ADDRESSES_MAX && !seen.contains_key(&address) {
            seen.clear();
        }
        Some(seen.insert(address, (now_ms, 0)).map_or(0, |(_, unlogged)| unlogged))
    }
}
