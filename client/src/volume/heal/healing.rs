//! What the owner keeps of those who are healed, whoever heals them: what changes touch, how far they are, and who waits for whom.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_raid_proto::ids::{BrickId, Generation, ObjectId, Slot};
use net_raid_proto::message::{Change, Request};
use tokio::time::sleep;

use super::CatchUpProgress;
use super::behind::{Frontier, Touched};
use super::lock;
use super::progress::Progress;
use super::together::Together;
use crate::conn::Conn;
use crate::volume::PathSource;
use crate::volume::changes::Changes;
use crate::volume::fanout::Ask;

/// Changes are held back for as long as this, in microseconds.
const HOLD_MIN: u64 = 500;
const HOLD_MAX: u64 = 20_000;

/// What is under way, and what is behind on members that are being healed.
#[derive(Default)]
pub(in crate::volume) struct Healing {
    pub(super) frontier: Arc<Mutex<Frontier>>,
    pub(super) together: Mutex<Together>,
    /// What one has read for others, or gave up to read; who comes, and who goes.
    pub(super) handed_over: Changes,
    /// What users open.
    pub(super) opened: Changes,
    /// Microseconds that each change waits, so that a member gets on faster than others write.
    pub(super) hold_back: AtomicU64,
    /// Slots whose connections were reset.
    reset: AtomicU32,
    /// Slots in which nobody is healed for a moment, because another brick gets them.
    stopped: AtomicU32,
    pub(super) closed: AtomicBool,
    pub(super) progress: Mutex<BTreeMap<Slot, Arc<Progress>>>,
    missing: Mutex<BTreeMap<Slot, Missing>>,
}

/// What a brick that left is known to lack.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    brick: BrickId,
    /// But for this it has everything up to this generation, if it has lost nothing since.
    pub(super) since: Generation,
    pub(super) touched: Touched,
}

/// More than this of one member is not kept in mind, roughly in requests.
const MISSING_MAX: usize = 1 << 18;

/// What changes touch.
pub(in crate::volume) fn touched_by<'a>(
    requests: impl Iterator<Item = &'a Request>,
    paths: Option<&Arc<dyn PathSource>>,
) -> Touched {
    let mut touched = Touched::default();
    let mut purged = Vec::new();
    for request in requests {
        let Request::Change { change, .. } = request else { continue };
        touched.add_change(change);
        if let Change::Purge { id } = change {
            purged.push(*id);
        }
    }
    if let Some(paths) = paths {
        touched.locate(|id| paths.place_of(id));
    }
    touched.gone.retain(|id| paths.is_some_and(|paths| paths.has_one_name(*id)));
    touched.gone.extend(purged);
    touched
}

/// Keeps in mind what a change touches, until it is concluded.
pub(in crate::volume) struct Mark {
    frontier: Arc<Mutex<Frontier>>,
    number: u64,
}

impl Drop for Mark {
    fn drop(&mut self) {
        lock(&self.frontier).end(self.number);
    }
}

impl Healing {
    /// A change begins.
    pub(in crate::volume) fn mark(&self, asks: &[Ask], paths: Option<&Arc<dyn PathSource>>) -> Mark {
        let touched = touched_by(asks.iter().map(|ask| &ask.request), paths);
        let number = lock(&self.frontier).begin(touched);
        Mark { frontier: Arc::clone(&self.frontier), number }
    }

    /// A user opened a file.
    pub(in crate::volume) fn want(&self, id: ObjectId) {
        lock(&self.together).want(id);
        self.opened.note();
    }

    /// Lets those who are healed get on, where changes come as fast as these can be made there.
    pub(in crate::volume) async fn hold_back(&self) {
        let wait = self.hold_back.load(Ordering::Relaxed);
        if wait > 0 {
            sleep(Duration::from_micros(wait)).await;
        }
    }

    /// Whether changes wait for those who are healed.
    pub(super) fn holds_back(&self) -> bool {
        self.hold_back.load(Ordering::Relaxed) > 0
    }

    /// Whether too much was left after a round: changes wait longer then, or else shorter.
    pub(super) fn pace(&self, too_much: bool) {
        let step = |wait: u64| match too_much {
            true => (wait * 2).clamp(HOLD_MIN, HOLD_MAX),
            false => wait / 2,
        };
        let _ = self.hold_back.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |wait| Some(step(wait)));
    }

    /// Gives the present connection to a member up, with all that is under way on it. That it is back is no news then.
    pub(in crate::volume) fn reset(&self, slot: Slot, conn: &Conn) {
        if conn.is_up() {
            self.reset.fetch_or(1 << slot.0, Ordering::AcqRel);
            conn.reset();
        }
    }

    /// Whether a connection is new because it was reset.
    pub(in crate::volume) fn was_reset(&self, slot: Slot) -> bool {
        self.reset.fetch_and(!(1 << slot.0), Ordering::AcqRel) >> slot.0 & 1 == 1
    }

    /// Keeps in mind what a brick lacks that left, and has everything else up to a generation.
    pub(in crate::volume) fn keep(&self, slot: Slot, brick: BrickId, since: Generation, touched: Touched) {
        let touched = touched.missed();
        if touched.len() <= MISSING_MAX {
            lock(&self.missing).insert(slot, Missing { brick, since, touched });
        }
    }

    /// Nothing is known of a member any more but what the record says.
    pub(in crate::volume) fn forget(&self, slot: Slot) {
        lock(&self.missing).remove(&slot);
    }

    /// What the brick that has a slot is known to lack.
    pub(super) fn missing(&self, slot: Slot, brick: BrickId) -> Option<Missing> {
        lock(&self.missing).get(&slot).filter(|missing| missing.brick == brick).cloned()
    }

    /// Nobody is healed in a slot, or somebody may be again.
    pub(super) fn set_stopped(&self, slot: Slot, stopped: bool) {
        match stopped {
            true => self.stopped.fetch_or(1 << slot.0, Ordering::SeqCst),
            false => self.stopped.fetch_and(!(1 << slot.0), Ordering::SeqCst),
        };
    }

    pub(super) fn is_stopped(&self, slot: Slot) -> bool {
        self.stopped.load(Ordering::SeqCst) >> slot.0 & 1 == 1
    }

    /// How far those are that are healed.
    pub(in crate::volume) fn progress(&self) -> Vec<CatchUpProgress> {
        lock(&self.progress).iter().map(|(slot, progress)| progress.of(*slot)).collect()
    }

    /// Nobody is healed any more.
    pub(in crate::volume) fn stop(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
