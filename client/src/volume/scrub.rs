//! Scrub: everything that the members have is read, compared, and put right from each other.
//!
//! ```text
//!   for each directory, each name, each stripe:  all current members say what they have   (nobody waits for that)
//!        they agree: the next one
//!        they do not: changes pause for a moment, all are asked again, and what is still wrong is mended or reported
//! ```
//!
//! What only moved between two answers is not touched therefore. See docs/decisions/scrub.md.

mod compare;
mod data;
mod equal;
mod first;
mod names;
mod peer;
mod stripe;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use net_raid_proto::ids::Slot;
use net_raid_proto::message::{Entry, Request};
use tokio::sync::{Notify, OwnedRwLockWriteGuard};
use tokio::time::{Instant, sleep};

use super::Core;
use crate::events::Event;
use crate::layout::SlotSet;
use data::Looked;
use first::Doubts;
use names::Dir;
use peer::Spot;

/// Times that changes are asked to pause before something that differs is left for the next scrub.
const PAUSES: u32 = 20;
/// Between two of them.
const PAUSE_AGAIN: Duration = Duration::from_millis(50);

/// So many mended objects are remembered.
const TOUCHED_MAX: usize = 100_000;

/// Whether the volume is to be scrubbed.
#[derive(Default)]
pub(super) struct Scrubs {
    wanted: Arc<Notify>,
    closed: AtomicBool,
    /// What is not believed until it was scrubbed.
    pub(super) doubts: Doubts,
}

impl Scrubs {
    /// Scrubs now, or once more after the scrub under way.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Nothing is scrubbed any more.
    pub(super) fn stop(&self) {
        self.closed.store(true, Release);
        self.wanted.notify_one();
    }
}

/// Why a scrub ends early.
struct Halt(String);

/// What was seen and done.
#[derive(Default)]
struct Counts {
    files: AtomicU64,
    bytes: AtomicU64,
    mended: AtomicU64,
    damaged: AtomicU64,
}

/// One scrub of the whole volume.
struct Pass<'a> {
    core: &'a Arc<Core>,
    counts: Counts,
    /// What was mended; of more than [`TOUCHED_MAX`] the digests for people come when it is next closed.
    touched: Mutex<Vec<(Slot, Spot)>>,
}

impl Core {
    /// Scrubs whenever that is wanted, for as long as the volume is there and open.
    pub(super) fn keep_scrubbed(self: &Arc<Core>) {
        tokio::spawn(keep(Arc::downgrade(self), Arc::clone(&self.scrubs.wanted)));
    }

    async fn scrub(self: &Arc<Core>) {
        let begun = Instant::now();
        self.log(None, &Event::ScrubStarted);
        let pass = Pass::new(self);
        match pass.run().await {
            Ok(()) => self.log(
                None,
                &Event::ScrubDone {
                    files: pass.counts.files.load(Relaxed),
                    bytes: pass.counts.bytes.load(Relaxed),
                    mended: pass.counts.mended.load(Relaxed),
                    damaged: pass.counts.damaged.load(Relaxed),
                    seconds: begun.elapsed().as_secs(),
                },
            ),
            Err(Halt(reason)) => self.log(None, &Event::ScrubFailed { reason }),
        }
    }
}

async fn keep(core: Weak<Core>, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        let Some(core) = core.upgrade() else { return };
        if core.scrubs.closed.load(Acquire) {
            return;
        }
        core.scrub().await;
    }
}

impl<'a> Pass<'a> {
    fn new(core: &'a Arc<Core>) -> Pass<'a> {
        Pass { core, counts: Counts::default(), touched: Mutex::default() }
    }
}

impl Pass<'_> {
    async fn run(&self) -> Result<(), Halt> {
        let mut waiting = vec![Dir { spot: Spot::root(), times: None }];
        while let Some(dir) = waiting.pop() {
            self.check_open()?;
            self.scrub_directory(&dir, &mut waiting).await?;
        }
        if self.counts.mended.load(Relaxed) > 0 {
            // What was mended is in its place, and durable.
            self.core.checkpoint().await.map_err(|error| Halt(error.to_string()))?;
            self.end_digests().await;
        }
        Ok(())
    }

    async fn scrub_file(&self, spot: &Spot, entry: &Entry, outdated: SlotSet) -> Result<Looked, Halt> {
        self.counts.files.fetch_add(1, Relaxed);
        self.scrub_data(spot, entry, outdated).await
    }

    /// Members that count, and answer.
    fn members(&self) -> SlotSet {
        self.core.members.readable()
    }

    fn check_open(&self) -> Result<(), Halt> {
        let members = self.members().len();
        match () {
            () if self.core.scrubs.closed.load(Acquire) => Err(Halt("the volume is closed".into())),
            () if self.core.members.check_owned().is_err() => Err(Halt("another client has the volume".into())),
            () if members < self.core.members.record().members_needed() => Err(Halt("too few servers answer".into())),
            () => Ok(()),
        }
    }

    /// Lets no change begin until the guard is dropped; nothing when those under way do not end.
    async fn pause(&self) -> Result<Option<OwnedRwLockWriteGuard<()>>, Halt> {
        for _ in 0..PAUSES {
            self.check_open()?;
            let guard = self.core.members.away.pause().await;
            if let Some(guard) = guard.filter(|_| self.core.checkpoints.generations.are_idle()) {
                return Ok(Some(guard));
            }
            sleep(PAUSE_AGAIN).await;
        }
        Ok(None)
    }

    /// Bricks bring the digests for people up to date of what was mended, when it is in its place.
    async fn end_digests(&self) {
        let touched = std::mem::take(&mut *self.touched());
        for (slot, spot) in touched {
            // A digest that is missing is no damage.
            let _ = self.ask(slot, &spot, &Request::Verify { id: spot.id }, &[], &[]).await;
        }
    }

    fn touched(&self) -> MutexGuard<'_, Vec<(Slot, Spot)>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was put right.
    fn mended(&self, slot: Slot, spot: &Spot, wrong: String, what: String) {
        self.counts.mended.fetch_add(1, Relaxed);
        let mut touched = self.touched();
        if touched.len() < TOUCHED_MAX {
            touched.push((slot, spot.clone()));
        }
        drop(touched);
        self.core.log(Some(slot), &Event::Inconsistency { object: spot.words(), what: wrong });
        let from = self.members().without(slot).iter().map(|slot| self.core.members.server(slot).clone()).collect();
        let to = self.core.members.server(slot).clone();
        self.core.log(Some(slot), &Event::Repaired { object: spot.words(), what, from, to });
    }

    /// Something cannot be put right.
    fn damaged(&self, spot: &Spot, what: String) {
        self.counts.damaged.fetch_add(1, Relaxed);
        self.core.log(None, &Event::Damaged { object: spot.words(), what });
    }
}
