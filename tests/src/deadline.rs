//! Waiting for a condition, never for ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Looks at `condition` until it holds or `within` has passed; says whether it held.
pub fn reached(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within `within`; `what` says what was waited for.
pub fn wait_until(what: &str, within: Duration, condition: impl FnMut() -> bool) {
    assert!(reached(within, condition), "not within {within:?}: {what}");
}

/// Waits until `attempt` gives a value, and returns it.
///
/// # Panics
/// When it gives none within `within`.
pub fn wait_for<T>(what: &str, within: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let mut value = None;
    wait_until(what, within, || {
        value = attempt();
        value.is_some()
    });
    value.expect("wait_until returned")
}

/// Runs `operation` and fails when it took longer than `limit`.
///
/// # Panics
/// When it did; the watchdog of the test ends an operation that never returns.
pub fn in_time<T>(what: &str, limit: Duration, operation: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = operation();
    let took = start.elapsed();
    assert!(took <= limit, "{what} took {took:?}, at most {limit:?} is promised");
    result
}

/// Ends what repeats, also when what was to happen meanwhile panics: a test that fails must not hang.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
