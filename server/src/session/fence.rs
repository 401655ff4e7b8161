//! One connection an owner: what is left of an earlier one ends before the next one begins.
//!
//! A client that lost a connection sends its requests again on another, and goes on. The first
//! connection may not be over here: requests of it may wait in its socket or run. One of them that
//! was done after the client went on, say a write after a newer write of the same block, would undo
//! what was acknowledged; its epoch is no protection, because it is the same.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use net_raid_proto::ids::Epoch;
use tokio::sync::Semaphore;

use super::IN_FLIGHT_MAX;

/// A connection that can be cut.
pub(super) trait Cut: Send + Sync {
    /// Sends nothing more; returns what its requests hold while they are in flight.
    fn cut(&self) -> Arc<Semaphore>;
}

/// The connection that owns the brick, and its epoch.
#[derive(Default)]
pub(super) struct Fence(Mutex<Option<(Epoch, Weak<dyn Cut>)>>);

impl Fence {
    /// Makes `connection` the owner's one, and waits until no request of the one before can be done any more.
    ///
    /// Nothing is cut when the epoch is another one: the brick itself refuses frames of an older one.
    pub async fn pass(&self, epoch: Epoch, connection: Weak<dyn Cut>) {
        let new = (epoch, connection.clone());
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(new);
        let Some((_, before)) = before.filter(|(of, same)| *of == epoch && !Weak::ptr_eq(same, &connection)) else {
            return;
        };
        // Requests in flight keep their session alive: what is gone has none.
        let Some(before) = before.upgrade() else { return };
        let in_flight = before.cut();
        drop(before);
        let _all = in_flight.acquire_many(IN_FLIGHT_MAX).await;
        in_flight.close();
    }
}
