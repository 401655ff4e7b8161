//! Generations: every change belongs to one, and the checkpoint of a generation waits until its changes are concluded.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_raid_proto::ids::Generation;
use tokio::sync::Notify;

/// The generation of new changes, and which ones still have changes under way.
pub(super) struct Generations {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// The last change of some generation is concluded.
    emptied: Notify,
}

struct State {
    now: Generation,
    /// The newest that any change belongs to.
    used: Option<Generation>,
    /// How many changes are under way in each, oldest first; a checkpoint at a time keeps this at two or three.
    open: Vec<(Generation, usize)>,
}

impl Generations {
    /// Changes begin in `first`.
    pub(super) fn starting_with(first: Generation) -> Generations {
        let state = State { now: first, used: None, open: Vec::with_capacity(4) };
        Generations { shared: Arc::new(Shared { state: Mutex::new(state), emptied: Notify::new() }) }
    }

    /// The generation of new changes.
    pub(super) fn now(&self) -> Generation {
        self.shared.state().now
    }

    /// Whether a change was begun in a later generation than `generation`.
    pub(super) fn used_after(&self, generation: Generation) -> bool {
        self.shared.state().used.is_some_and(|used| used > generation)
    }

    /// Begins a change. Never waits, so that a change can be part of concluding another one.
    pub(super) fn enter(&self) -> Ticket {
        let mut state = self.shared.state();
        let generation = state.now;
        state.used = Some(generation);
        match state.open.last_mut() {
            Some((last, count)) if *last == generation => *count += 1,
            _ => state.open.push((generation, 1)),
        }
        drop(state);
        Ticket { shared: Arc::clone(&self.shared), generation, companion: None }
    }

    /// Whether no change is under way.
    pub(super) fn are_idle(&self) -> bool {
        self.shared.state().open.is_empty()
    }

    /// Ends the present generation and returns it: new changes belong to the next one.
    pub(super) fn advance(&self) -> Generation {
        let mut state = self.shared.state();
        let ended = state.now;
        state.now = Generation(ended.0 + 1);
        ended
    }

    /// Waits until no change of generations up to this one is under way. Cancel safe. The caller sets the deadline.
    pub(super) async fn drained(&self, generation: Generation) {
        loop {
            let mut emptied = pin!(self.shared.emptied.notified());
            emptied.as_mut().enable();
            if self.shared.state().open.iter().all(|(open, _)| *open > generation) {
                return;
            }
            emptied.await;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change under way; dropping it says that its outcome is the same on all current members.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    generation: Generation,
    /// Let go before the change counts as concluded.
    companion: Option<Box<dyn Send + Sync>>,
}

impl Ticket {
    /// The generation that the change belongs to.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Keeps something until the change is concluded.
    pub(super) fn carry(&mut self, companion: impl Send + Sync + 'static) {
        self.companion = Some(Box::new(companion));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.companion = None;
        let mut state = self.shared.state();
        let Some(at) = state.open.iter().position(|(open, _)| *open == self.generation) else { return };
        state.open[at].1 -= 1;
        if state.open[at].1 == 0 {
            state.open.remove(at);
            self.shared.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
