//! Work that nobody waits for, but that ends with the file system.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Tasks at a time: beyond this, work that may be left undone is.
const TASKS_MAX: usize = 4096;

/// Running tasks.
pub(super) struct Tasks {
    set: Mutex<JoinSet<()>>,
    runtime: Handle,
}

impl Tasks {
    pub(super) fn new(runtime: Handle) -> Tasks {
        Tasks { set: Mutex::default(), runtime }
    }

    fn set(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for one that may be left undone.
    pub(super) fn has_room(&self) -> bool {
        let mut set = self.set();
        reap(&mut set);
        set.len() < TASKS_MAX
    }

    /// Starts a task; from any thread.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.set();
        reap(&mut set);
        set.spawn_on(task, &self.runtime);
    }

    /// Waits for all that were started.
    pub(super) async fn finish(&self) {
        let mut set = std::mem::take(&mut *self.set());
        while set.join_next().await.is_some() {}
    }
}

/// Forgets those that ended, so that the set stays as small as what runs.
fn reap(set: &mut JoinSet<()>) {
    while set.try_join_next().is_some() {}
}
