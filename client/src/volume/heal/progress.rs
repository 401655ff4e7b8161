//! How far catch-up is: for whoever asks, and for the errorlog now and then.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net_raid_proto::ids::{ObjectId, Slot};
use tokio::time::{Instant, sleep};

use super::Attempt;
use crate::events::Event;

/// Between two events.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How far the catch-up of a member is. It may find that there is more to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchUpProgress {
    /// Whose.
    pub slot: Slot,
    /// Files that were seen to, and all that are known of.
    pub files: (u64, u64),
    /// Bytes of their parts on the member that were seen to, and all of them. What has not changed is done at once.
    pub bytes: (u64, u64),
    /// Bytes that were written.
    pub copied: u64,
    /// Bytes a second that were seen to, since the first of them.
    pub rate: u64,
    /// Seconds until they should all be; nothing before there is a rate.
    pub left_seconds: Option<u64>,
    /// The file that was begun last.
    pub at: Option<ObjectId>,
}

/// What is counted.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) files_copied: AtomicU64,
    pub(super) bytes_copied: AtomicU64,
    files: AtomicU64,
    all_files: AtomicU64,
    bytes: AtomicU64,
    all_bytes: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    files: BTreeSet<ObjectId>,
    /// When the first bytes were seen to.
    since: Option<Instant>,
    at: Option<ObjectId>,
}

impl Progress {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file is to be seen to, of which the member has `bytes`.
    pub(super) fn expect(&self, id: ObjectId, bytes: u64) {
        if self.known().files.insert(id) {
            self.all_files.fetch_add(1, Relaxed);
            self.all_bytes.fetch_add(bytes, Relaxed);
        }
    }

    /// A file is being seen to.
    pub(super) fn begin(&self, id: ObjectId) {
        let mut known = self.known();
        known.since.get_or_insert_with(Instant::now);
        known.at = Some(id);
    }

    /// So many bytes were seen to.
    pub(super) fn passed(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// All of a file was seen to.
    pub(super) fn end(&self) {
        self.files.fetch_add(1, Relaxed);
    }

    pub(super) fn of(&self, slot: Slot) -> CatchUpProgress {
        let known = self.known();
        let elapsed = known.since.map(|since| since.elapsed()).unwrap_or_default();
        // What changes meanwhile is seen to again.
        let of = |done: &AtomicU64, all: &AtomicU64| (done.load(Relaxed).min(all.load(Relaxed)), all.load(Relaxed));
        let bytes = of(&self.bytes, &self.all_bytes);
        let rate = rate(bytes.0, elapsed);
        CatchUpProgress {
            slot,
            files: of(&self.files, &self.all_files),
            bytes,
            copied: self.bytes_copied.load(Relaxed),
            rate,
            left_seconds: (bytes.1 - bytes.0).checked_div(rate),
            at: known.at,
        }
    }
}

fn rate(bytes: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / millis).unwrap_or(u64::MAX)
}

impl Attempt<'_> {
    /// Says how far it is, for as long as this is polled.
    pub(super) async fn tell(&self) -> std::convert::Infallible {
        loop {
            sleep(TELL_EVERY).await;
            let CatchUpProgress { slot, files, bytes, copied, rate, left_seconds, at } = self.progress.of(self.slot);
            let path = at.and_then(|id| self.core.paths.get()?.path_of(id));
            let object = path.map(|path| path.iter().map(|name| format!("/{name}")).collect());
            let (slot, left) = (slot.0, left_seconds);
            self.core.log(Some(self.slot), &Event::CatchUpProgress { slot, files, bytes, copied, rate, left, object });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_what_was_done() {
        let progress = Progress::default();
        progress.expect(ObjectId(7), 3000);
        progress.expect(ObjectId(8), 1000);
        // Told of by another name, or once more.
        progress.expect(ObjectId(7), 3000);
        let nothing = progress.of(Slot(2));
        assert_eq!((nothing.files, nothing.bytes, nothing.left_seconds), ((0, 2), (0, 4000), None));
        progress.begin(ObjectId(7));
        progress.passed(3000);
        progress.end();
        let some = progress.of(Slot(2));
        assert_eq!((some.files, some.bytes, some.at), ((1, 2), (3000, 4000), Some(ObjectId(7))));
        assert_eq!(some.left_seconds, Some(1000 / some.rate));
        // Never more than all.
        progress.passed(9000);
        assert_eq!(progress.of(Slot(2)).bytes, (4000, 4000));
        assert_eq!(rate(3000, Duration::from_secs(2)), 1500);
        assert_eq!(rate(u64::MAX, Duration::from_millis(1)), u64::MAX);
    }
}
