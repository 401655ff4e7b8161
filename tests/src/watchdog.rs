//! The end of a test that hangs.
//!
//! A system call on a mount whose daemon does not answer cannot be interrupted from within the test,
//! but it fails at once when the daemon is killed. So that is what happens when the time is up.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long a test has to fail by itself after everything under it was ended.
const GRACE: Duration = Duration::from_secs(30);

/// Armed as long as it lives.
pub struct Watchdog {
    disarm: Sender<()>,
}

impl Watchdog {
    /// Calls `end_everything` after `budget`. When that does not free the test either, the whole
    /// test program is aborted: better than a run that never ends.
    pub fn arm(what: &str, budget: Duration, end_everything: impl FnOnce() + Send + 'static) -> Watchdog {
        let (disarm, disarmed) = channel();
        let what = what.to_owned();
        let expired = move |within| disarmed.recv_timeout(within) == Err(RecvTimeoutError::Timeout);
        thread::spawn(move || {
            if expired(budget) {
                eprintln!("watchdog: {what} still runs after {budget:?}; ending its processes");
                end_everything();
                if expired(GRACE) {
                    eprintln!("watchdog: {what} still hangs; aborting");
                    std::process::abort();
                }
            }
        });
        Watchdog { disarm }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.disarm.send(());
    }
}
