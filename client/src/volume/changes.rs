//! Counts changes, for many who wait for the next one. They are woken in the order in which they came, so that what follows is
//! the same each time when it is simulated.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// How often something has changed.
#[derive(Default)]
pub(super) struct Changes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    count: AtomicU64,
    changed: Notify,
}

impl Changes {
    /// Counts one, and wakes all who wait.
    pub(super) fn note(&self) {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }

    /// Sees what changes from now on.
    pub(super) fn watch(&self) -> Seen {
        Seen { shared: Arc::clone(&self.0), count: self.0.count.load(Ordering::Acquire) }
    }
}

/// Changes that somebody has seen.
pub(super) struct Seen {
    shared: Arc<Shared>,
    count: u64,
}

impl Seen {
    /// Waits until there are more. Cancel safe.
    pub(super) async fn changed(&mut self) {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let count = self.shared.count.load(Ordering::Acquire);
            if count != self.count {
                self.count = count;
                return;
            }
            changed.await;
        }
    }
}
