//! Whether anybody works with the volume just now: the scrub in the background gives way.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Nobody works when the last operation ended so long ago.
const QUIET: Duration = Duration::from_millis(20);
/// How often that is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Operations under way, and when the last one ended.
pub(in crate::volume) struct Users {
    under_way: AtomicUsize,
    base: Instant,
    last_us: AtomicU64,
}

/// An operation, until it is dropped.
pub(in crate::volume) struct User<'a>(&'a Users);

impl Default for Users {
    fn default() -> Users {
        Users { under_way: AtomicUsize::new(0), base: Instant::now(), last_us: AtomicU64::new(0) }
    }
}

impl Users {
    pub(in crate::volume) fn enter(&self) -> User<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        User(self)
    }

    fn are_quiet(&self) -> bool {
        let last = Duration::from_micros(self.last_us.load(Ordering::Relaxed));
        self.under_way.load(Ordering::Relaxed) == 0 && self.base.elapsed().saturating_sub(last) >= QUIET
    }

    /// Waits for a moment in which nobody works, for `limit` at most.
    pub(super) async fn give_way(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while !self.are_quiet() && Instant::now() < end {
            sleep(LOOK_AGAIN).await;
        }
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        self.0.last_us.store(self.0.base.elapsed().as_micros() as u64, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
