//! Whether anybody works with the volume just now, and how long that takes: work in the background gives way.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::throttle::{Kind, Throttle};

/// Nobody works when the last operation ended so long ago.
const QUIET: Duration = Duration::from_millis(20);
/// How often that is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Operations under way, and when the last one ended.
pub(super) struct Users {
    under_way: AtomicUsize,
    base: Instant,
    last_us: AtomicU64,
    /// Copies under way, and those of them that wait for nobody.
    copies: AtomicUsize,
    ruthless: AtomicUsize,
    throttle: Mutex<Throttle>,
}

/// An operation, until it is dropped.
pub(super) struct User<'a> {
    users: &'a Users,
    kind: Kind,
    began: Duration,
    /// Something was being copied when it began.
    beside: bool,
}

/// A copy, until it is dropped.
pub(super) struct Copying<'a> {
    users: &'a Users,
    ruthless: bool,
}

impl Default for Users {
    fn default() -> Users {
        Users {
            under_way: AtomicUsize::new(0),
            base: Instant::now(),
            last_us: AtomicU64::new(0),
            copies: AtomicUsize::new(0),
            ruthless: AtomicUsize::new(0),
            throttle: Mutex::default(),
        }
    }
}

impl Users {
    pub(super) fn enter(&self, kind: Kind) -> User<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        User { users: self, kind, began: self.base.elapsed(), beside: self.is_copied() }
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_copied(&self) -> bool {
        self.copies.load(Ordering::Relaxed) > 0
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

    /// Waits until so many bytes may be copied: at once while nobody works.
    pub(super) async fn admit(&self, bytes: u64) -> Copying<'_> {
        if self.are_quiet() {
            self.throttle().forgive(self.base.elapsed());
        } else {
            let start = self.throttle().admit(bytes, self.base.elapsed());
            // It may be quiet before.
            while self.base.elapsed() < start && !self.are_quiet() {
                sleep(start.saturating_sub(self.base.elapsed()).min(QUIET)).await;
            }
        }
        self.copying(false)
    }

    /// A copy that waits for nobody. What users feel of it says nothing of others.
    pub(super) fn admit_at_once(&self) -> Copying<'_> {
        self.copying(true)
    }

    fn copying(&self, ruthless: bool) -> Copying<'_> {
        self.copies.fetch_add(1, Ordering::Relaxed);
        self.ruthless.fetch_add(usize::from(ruthless), Ordering::Relaxed);
        Copying { users: self, ruthless }
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.users.ruthless.fetch_sub(usize::from(self.ruthless), Ordering::Relaxed);
        self.users.copies.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        let User { users, kind, began, beside } = *self;
        let now = users.base.elapsed();
        let took = now.saturating_sub(began);
        match beside || users.is_copied() {
            true if users.ruthless.load(Ordering::Relaxed) > 0 => {}
            true => users.throttle().note_beside(kind, took, now),
            false => users.throttle().note_alone(kind, took),
        }
        users.last_us.store(now.as_micros() as u64, Ordering::Relaxed);
        users.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
