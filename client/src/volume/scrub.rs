//! Scrub: everything that the members have is read, compared, and put right from each other.
//!
//! ```text
//!   for each directory, each name, each stripe:  all current members say what they have   (nobody waits for that)
//!        they agree: the next one
//!        they do not: changes pause for a moment, all are asked again, and what is still wrong is mended or reported
//! ```
//!
//! All directories are visited, and all names in each, in the order of names, so that a place in the tree means something later.
//! What only moved between two answers is not touched therefore. See docs/decisions/scrub.md.

mod background;
mod bricks;
mod compare;
mod data;
mod equal;
mod first;
mod names;
mod note;
mod pace;
mod peer;
mod stripe;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net_raid_proto::ids::{ObjectId, Slot};
use net_raid_proto::message::{DirEntry, Kind, Request};
use tokio::sync::{Notify, OwnedRwLockWriteGuard};
use tokio::time::{Instant, sleep};

use super::Core;
use crate::events::Event;
use crate::layout::SlotSet;
use background::Background;
pub use background::ScrubProgress;
use first::Doubts;
use names::Dir;
use note::Place;
pub use note::Sums;
use peer::Spot;

/// Times that changes are asked to pause before something that differs is left for the next scrub.
const PAUSES: u32 = 20;
/// Between two of them.
const PAUSE_AGAIN: Duration = Duration::from_millis(50);

/// So many mended objects are remembered.
const TOUCHED_MAX: usize = 100_000;

/// Whether the volume is to be scrubbed, and is.
#[derive(Default)]
pub(super) struct Scrubs {
    /// Wakes the task.
    wanted: Arc<Notify>,
    /// At full speed.
    is_wanted: AtomicBool,
    closed: AtomicBool,
    /// How many notes were written.
    notes: AtomicU64,
    /// The errorlog has it that the pass in the background goes on.
    was_told: AtomicBool,
    progress: Mutex<Option<ScrubProgress>>,
    /// What is not believed until it was scrubbed.
    pub(super) doubts: Doubts,
}

impl Scrubs {
    /// Scrubs now, or once more after the scrub under way.
    pub(super) fn want(&self) {
        self.is_wanted.store(true, Release);
        self.wanted.notify_one();
    }

    /// How far the scrub is that is under way.
    pub(super) fn progress(&self) -> Option<ScrubProgress> {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_progress(&self, progress: Option<ScrubProgress>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
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
    /// As a pace counts it.
    work: AtomicU64,
}

/// One scrub of the whole volume.
struct Pass<'a> {
    core: &'a Arc<Core>,
    counts: Counts,
    /// What was mended; of more than [`TOUCHED_MAX`] the digests for people come when it is next closed.
    touched: Mutex<Vec<(Slot, Spot)>>,
    /// Without: at full speed.
    background: Option<Background>,
    /// All of the work, as far as is known.
    work: u64,
    /// What earlier clients did of this pass.
    before: Sums,
    earlier_seconds: u64,
    begun: Instant,
    /// When the errorlog was told last.
    told: Mutex<Instant>,
    /// The stripe to begin with, of the file in which the pass goes on.
    first: Mutex<Option<(ObjectId, u64)>>,
}

impl<'a> Pass<'a> {
    fn new(core: &'a Arc<Core>) -> Pass<'a> {
        Pass {
            core,
            counts: Counts::default(),
            touched: Mutex::default(),
            background: None,
            work: 0,
            before: Sums::default(),
            earlier_seconds: 0,
            begun: Instant::now(),
            told: Mutex::new(Instant::now()),
            first: Mutex::default(),
        }
    }
}

impl Pass<'_> {
    async fn run(&self, from: &Place) -> Result<(), Halt> {
        self.scrub_bricks().await?;
        self.scrub_root(false).await?;
        let mut waiting = self.places_from(from).await?;
        while let Some(dir) = waiting.pop() {
            self.check_open()?;
            let others = waiting.len();
            self.scrub_directory(&dir, &mut waiting).await?;
            // The first of its directories comes next.
            waiting[others..].reverse();
        }
        self.conclude().await
    }

    /// Has what was mended be in its place, and durable.
    async fn conclude(&self) -> Result<(), Halt> {
        if self.counts.mended.load(Relaxed) > 0 {
            self.core.checkpoint().await.map_err(|error| Halt(error.to_string()))?;
            self.end_digests().await;
        }
        Ok(())
    }

    /// Directories that are still to be compared, the next one last.
    async fn places_from(&self, from: &Place) -> Result<Vec<Dir>, Halt> {
        let Some((name, parents)) = from.path.split_last() else { return Ok(vec![Dir::at(Spot::root(), None)]) };
        let (mut waiting, mut spot) = (Vec::new(), Spot::root());
        for next in parents {
            let mut below = self.directories(&spot).await?;
            below.sort_unstable_by(|one, other| other.name.cmp(&one.name));
            let found = below.iter().find(|entry| entry.name == *next).map(|entry| spot.child(entry.id, next));
            let later = below.iter().filter(|entry| entry.name > *next);
            waiting.extend(later.map(|entry| Dir::at(spot.child(entry.id, &entry.name), None)));
            // One that is gone needs no more.
            let Some(found) = found else { return Ok(waiting) };
            spot = found;
        }
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some((ObjectId(from.id), from.stripe));
        waiting.push(Dir::at(spot, Some(name.clone())));
        Ok(waiting)
    }

    /// The directories in a directory, as any member has them.
    async fn directories(&self, dir: &Spot) -> Result<Vec<DirEntry>, Halt> {
        for slot in self.members().iter() {
            if let Ok(mut entries) = self.list(slot, dir).await {
                entries.retain(|entry| entry.kind == Kind::Directory);
                return Ok(entries);
            }
        }
        self.check_open().map(|()| Vec::new())
    }

    /// Where to begin in a file, if the pass goes on in it.
    fn first_of(&self, id: ObjectId) -> Option<u64> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.take_if(|(of, _)| *of == id).map(|(_, stripe)| stripe)
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
        let mut touched = self.touched();
        if touched.len() < TOUCHED_MAX {
            touched.push((slot, spot.clone()));
        }
        drop(touched);
        self.tell_mended(slot, spot.words(), (wrong, what), self.members().without(slot));
    }

    /// Tells what was `wrong`, and what was put right from some members.
    fn tell_mended(&self, slot: Slot, object: String, (wrong, what): (String, String), from: SlotSet) {
        self.counts.mended.fetch_add(1, Relaxed);
        self.core.log(Some(slot), &Event::Inconsistency { object: object.clone(), what: wrong });
        let from = from.iter().map(|slot| self.core.members.server(slot).clone()).collect();
        let to = self.core.members.server(slot).clone();
        self.core.log(Some(slot), &Event::Repaired { object, what, from, to });
    }

    /// What members say of an object's name and attributes contradicts itself, or does not any more.
    fn set_contradiction(&self, spot: &Spot, why: Option<&str>) {
        if why.is_some() || self.core.damages.is_any() {
            self.core.damages.set_contradiction(spot.id, spot.words(), why, self.core.world.clock.now());
        }
    }

    /// Something cannot be put right.
    fn damaged(&self, spot: &Spot, what: String) {
        self.counts.damaged.fetch_add(1, Relaxed);
        self.core.log(None, &Event::Damaged { object: spot.words(), what });
    }
}
