//! Shared and exclusive locks on ranges of stripes of one file, first come first served.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Stripes `first..=last`, exclusively or shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claim {
    first: u64,
    last: u64,
    exclusive: bool,
}

impl Claim {
    fn conflicts(&self, other: &Claim) -> bool {
        (self.exclusive || other.exclusive) && self.first <= other.last && other.first <= self.last
    }
}

#[derive(Default)]
struct State {
    next: u64,
    held: Vec<(u64, Claim)>,
    waiting: VecDeque<(u64, Claim, oneshot::Sender<()>)>,
}

impl State {
    /// Grants what conflicts neither with what is held nor with what has waited longer.
    fn grant(&mut self) {
        let mut passed: Vec<Claim> = Vec::new();
        let mut still = VecDeque::with_capacity(self.waiting.len());
        for (ticket, claim, granted) in self.waiting.drain(..) {
            let blocked =
                self.held.iter().any(|(_, held)| held.conflicts(&claim)) || passed.iter().any(|p| p.conflicts(&claim));
            if blocked {
                passed.push(claim);
                still.push_back((ticket, claim, granted));
            } else if granted.send(()).is_ok() {
                self.held.push((ticket, claim));
            }
        }
        self.waiting = still;
    }
}

/// The locks of one file.
#[derive(Default, Clone)]
pub struct RangeLocks {
    state: Arc<Mutex<State>>,
}

/// Holds a range; dropping it lets others in.
pub struct RangeGuard {
    state: Arc<Mutex<State>>,
    ticket: u64,
}

impl RangeLocks {
    /// Waits for stripes `first..=last`. Cancel safe: a dropped wait claims nothing.
    pub async fn lock(&self, first: u64, last: u64, exclusive: bool) -> RangeGuard {
        let claim = Claim { first, last, exclusive };
        let (guard, granted) = self.claim(claim);
        if let Some(granted) = granted {
            // The sender lives in the queue until it is granted.
            let _ = granted.await;
        }
        guard
    }

    /// Whether a range is held or waited for, or another copy of these locks is kept.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.state) > 1
    }

    /// The whole file, exclusively.
    pub async fn lock_all(&self) -> RangeGuard {
        self.lock(0, u64::MAX, true).await
    }

    fn claim(&self, claim: Claim) -> (RangeGuard, Option<oneshot::Receiver<()>>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = state.next;
        state.next += 1;
        let guard = RangeGuard { state: Arc::clone(&self.state), ticket };
        let free = !state.held.iter().any(|(_, held)| held.conflicts(&claim))
            && !state.waiting.iter().any(|(_, waiting, _)| waiting.conflicts(&claim));
        if free {
            state.held.push((ticket, claim));
            return (guard, None);
        }
        let (grant, granted) = oneshot::channel();
        state.waiting.push_back((ticket, claim, grant));
        (guard, Some(granted))
    }
}

impl Drop for RangeGuard {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.held.retain(|(ticket, _)| *ticket != self.ticket);
        state.waiting.retain(|(ticket, _, _)| *ticket != self.ticket);
        state.grant();
    }
}

#[cfg(test)]
mod tests;
