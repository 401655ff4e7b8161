//! Scrub: everything that the members have is read, compared, and put right from each other.
//!
//! ```text
//!   for each directory, each name, each stripe:  all current members say what they have   (nobody waits for that)
//!        they agree: the next one
//!        they do not: changes pause for a moment, all are asked again, and what is still wrong is mended or reported
//! ```
//!
//! What only moved between two answers is not touched therefore. See docs/decisions/scrub.md.

mod data;
mod peer;
mod stripe;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;

use net_raid_proto::ids::Slot;
use net_raid_proto::message::{Entry, Kind};
use tokio::sync::{Notify, OwnedRwLockWriteGuard};
use tokio::time::{Instant, sleep};

use super::Core;
use crate::events::Event;
use crate::layout::SlotSet;
use peer::Spot;

/// Times that changes are asked to pause before something that differs is left for the next scrub.
const PAUSES: u32 = 20;
/// Between two of them.
const PAUSE_AGAIN: Duration = Duration::from_millis(50);

/// Whether the volume is to be scrubbed.
#[derive(Default)]
pub(super) struct Scrubs {
    wanted: Arc<Notify>,
    closed: AtomicBool,
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
}

impl Core {
    /// Scrubs whenever that is wanted, for as long as the volume is there and open.
    pub(super) fn keep_scrubbed(self: &Arc<Core>) {
        tokio::spawn(keep(Arc::downgrade(self), Arc::clone(&self.scrubs.wanted)));
    }

    async fn scrub(self: &Arc<Core>) {
        let begun = Instant::now();
        self.log(None, &Event::ScrubStarted);
        let pass = Pass { core: self, counts: Counts::default() };
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

impl Pass<'_> {
    async fn run(&self) -> Result<(), Halt> {
        let mut waiting = vec![Spot::root()];
        while let Some(dir) = waiting.pop() {
            self.check_open()?;
            self.scrub_directory(&dir, &mut waiting).await?;
        }
        if self.counts.mended.load(Relaxed) > 0 {
            // What was mended is in its place, and durable.
            self.core.checkpoint().await.map_err(|error| Halt(error.to_string()))?;
        }
        Ok(())
    }

    async fn scrub_directory(&self, dir: &Spot, waiting: &mut Vec<Spot>) -> Result<(), Halt> {
        let mut listed = Err(Halt(format!("{} cannot be read", dir.words())));
        for slot in self.members().iter() {
            match self.list(slot, dir).await {
                Ok(entries) => {
                    listed = Ok(entries);
                    break;
                }
                Err(trouble) if trouble.is_absence() => listed = Ok(Vec::new()),
                Err(trouble) => tracing::debug!(%slot, %trouble, "scrub"),
            }
        }
        for found in listed? {
            let Some(entry) = found.entry else { continue };
            let spot = dir.child(found.id, &found.name);
            match entry.attr.kind {
                Kind::Directory => waiting.push(spot),
                Kind::File => self.scrub_file(&spot, &entry, SlotSet::default()).await?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn scrub_file(&self, spot: &Spot, entry: &Entry, outdated: SlotSet) -> Result<(), Halt> {
        if !self.core.fits(entry) {
            return Ok(());
        }
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

    /// Something was put right.
    fn mended(&self, slot: Slot, spot: &Spot, wrong: String, what: String) {
        self.counts.mended.fetch_add(1, Relaxed);
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
