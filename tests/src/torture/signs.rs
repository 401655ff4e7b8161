//! What the writers and whoever torments them tell each other.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the one, looked at by the others.
#[derive(Debug, Default)]
pub(super) struct Signs {
    stop: AtomicBool,
    may_fail: AtomicBool,
    held: AtomicBool,
}

impl Signs {
    /// Writers are to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn is_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// More is about to go than operations have to bear: from now on they may fail.
    pub(super) fn let_fail(&self) {
        self.may_fail.store(true, Ordering::Release);
    }

    pub(super) fn may_fail(&self) -> bool {
        self.may_fail.load(Ordering::Acquire)
    }

    /// Writers pause after what they do, or go on.
    pub(super) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Release);
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }
}
