//! Waiting for each other: an operation that waits for another one gives up when that waits for servers.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::{Instant, timeout, timeout_at};

use super::{Core, VolumeError};

/// Counts changes that have waited for servers for longer than anybody waits for them. They hold their stripes, and keep
/// their generation open.
#[derive(Default)]
pub(super) struct Overdue(AtomicUsize);

struct Guard<'a>(&'a Overdue);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Overdue {
    /// Waits for a change whose caller waits until `deadline`, and counts it from then on.
    pub(super) async fn watch<T>(&self, deadline: Instant, change: impl Future<Output = T>) -> T {
        let mut change = pin!(change);
        if let Ok(done) = timeout_at(deadline, change.as_mut()).await {
            return done;
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        let _guard = Guard(self);
        change.await
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Core {
    /// Waits for what other operations hold, for as long as these get on. Those that wait for servers may do so for ever, also
    /// while enough servers answer reads.
    ///
    /// # Errors
    /// EIO, `timeout` after the call at the earliest.
    pub(super) async fn patiently<T>(self: &Arc<Core>, wait: impl Future<Output = T>) -> Result<T, VolumeError> {
        let mut wait = pin!(wait);
        loop {
            if let Ok(done) = timeout(self.timeout(), wait.as_mut()).await {
                return Ok(done);
            }
            self.members.check_owned()?;
            if self.members.is_offline() || self.overdue.any() {
                return Err(VolumeError::Lost("too few servers answer".into()));
            }
        }
    }
}
