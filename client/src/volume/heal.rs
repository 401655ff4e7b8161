//! Catch-up: a member that was away for longer than anybody waited for it gets what it missed.
//!
//! ```text
//!          connected                     nothing is behind, for a moment without changes
//!   out -----------------> healing ---------------------------------------------------> away (backlog) -> current
//!    ^                      |   what differs is found by stamps, and what changes meanwhile is kept in mind;
//!    |                      |   it is sent no changes, and never read
//!    +----------------------+
//!      it breaks, or anything else goes wrong: all is looked at again, and copied what was not yet
//! ```
//!
//! See docs/decisions/catch-up.md.

mod attributes;
mod behind;
mod change;
mod data;
mod healing;
mod log;
mod names;
mod peer;
mod progress;
mod read;
mod together;
mod units;
mod walk;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use net_raid_proto::ids::{Generation, ObjectId, Slot};
use net_raid_proto::membership::{Label, SlotState};
use net_raid_proto::message::BrickState;
use tokio::time::{Instant, sleep};

use super::Core;
use super::away::Out;
use super::fanout::{Ask, Outcome};
use crate::conn::LinkState;
use crate::events::Event;
use crate::layout::SlotSet;
pub(super) use behind::Touched;
use behind::{Place, Stripes};
pub(super) use healing::{Healing, touched_by};
use peer::{Places, Side};
pub use progress::CatchUpProgress;
use progress::Progress;

/// Questions that are asked together.
const TOGETHER: usize = 32;
/// Between two attempts, longer each time.
const AGAIN_MIN: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// So little is left when changes pause for the last of it.
const LITTLE: usize = 256;
/// And they pause for as long as this at most, until what was begun is done.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// Each round is to take this part of the time of the one before, or changes are held back.
const NEARING: f64 = 0.75;
/// Rounds over what is left within a pause: what a name leads to follows in the next.
const LAST_ROUNDS: usize = 12;
/// So many objects are named in a message, at most.
const SHOWN_MAX: usize = 8;
/// Between two looks whether changes that take long are concluded.
const SETTLING: Duration = Duration::from_millis(50);

/// Why an attempt ends.
struct Halt(String);

type Result<T> = std::result::Result<T, Halt>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What of an object is as on the others, since a name of it was found to be gone there.
#[derive(Default)]
struct Equal {
    attributes: bool,
    data: bool,
}

/// One attempt to heal a member.
struct Attempt<'a> {
    core: &'a Arc<Core>,
    slot: Slot,
    /// It has everything up to this generation, but for what it `missed`.
    since: Generation,
    /// Of what was done up to then, when that is in mind of when it left. The record's generation is durable there, this one is not.
    missed: Option<Touched>,
    places: Mutex<Places>,
    /// The last generation that it completed.
    completed: tokio::sync::Mutex<Generation>,
    /// Made, and perhaps removed, since the attempt began.
    born: Mutex<BTreeSet<ObjectId>>,
    gone: Mutex<BTreeSet<ObjectId>>,
    /// Other names were given to these, or taken from them, since the attempt began.
    moved: Mutex<BTreeSet<ObjectId>>,
    /// Had one name on the member, which the others do not have.
    taken_out: Mutex<BTreeSet<ObjectId>>,
    /// A source was searched for something in vain, and nothing moved meanwhile.
    searched: AtomicBool,
    /// Being given a name just now.
    making: Mutex<BTreeSet<ObjectId>>,
    /// About to lose one of several names.
    leaving: Mutex<BTreeMap<ObjectId, Equal>>,
    /// What is not known is searched for in the whole tree.
    searches: AtomicBool,
    /// Changes pause.
    paused: AtomicBool,
    begun: Instant,
    /// It has come to files.
    arrived: AtomicBool,
    progress: Arc<Progress>,
}

impl Core {
    /// Takes out of `asks` those to members that are being healed: what these miss is kept in mind. Returns members that have joined
    /// since the asks were made for `of`: they would miss it.
    pub(super) fn take_behind(&self, asks: &mut Vec<Ask>, of: SlotSet) -> Vec<(Slot, Outcome)> {
        let healing = self.members.healing();
        if !healing.is_empty() {
            asks.retain(|ask| !healing.has(ask.slot));
        }
        let why = "it came back while a change was made";
        let late = |slots: SlotSet| SlotSet(slots.0 & !of.0);
        late(self.members.away()).iter().for_each(|slot| self.keep_out(slot, why));
        late(self.members.current()).iter().map(|slot| (slot, Outcome::Failed(why.into()))).collect()
    }

    /// Heals members that are out, whenever they can be reached.
    pub(super) fn keep_healing(self: &Arc<Core>) {
        for slot in self.members.slots().iter() {
            tokio::spawn(keep(Arc::downgrade(self), slot));
        }
    }

    /// Since when a member is out that is not dealt with otherwise.
    fn out_since(&self, slot: Slot) -> Option<Generation> {
        if self.members.away().has(slot) || self.members.current().has(slot) {
            return None;
        }
        match self.members.record().slots[slot.index()].state {
            SlotState::Stale { since } if !self.members.record().is_left_out(slot) => Some(since),
            _ => None,
        }
    }

    async fn heal(self: &Arc<Core>, slot: Slot, since: Generation) -> Result<()> {
        lock(&self.healing.frontier).open(slot);
        lock(&self.healing.together).begin(slot);
        self.members.set_healing(slot, true);
        // From here on nobody else gets the slot before this ends; until now somebody may have.
        if self.healing.is_stopped(slot) || self.out_since(slot) != Some(since) {
            self.end_healing(slot);
            return Err(Halt("its state changed".into()));
        }
        // What is in mind of when it left is as good as what the record says, and later.
        let brick = self.members.record().slots[slot.index()].brick;
        let missing = self.healing.missing(slot, brick).filter(|_| !self.members.conn(slot).has_lost());
        let (since, missed) = missing.map_or((since, None), |missing| (missing.since, Some(missing.touched)));
        let attempt = Attempt {
            core: self,
            slot,
            since,
            missed,
            places: Mutex::default(),
            completed: tokio::sync::Mutex::default(),
            born: Mutex::default(),
            gone: Mutex::default(),
            moved: Mutex::default(),
            taken_out: Mutex::default(),
            searched: AtomicBool::new(false),
            making: Mutex::default(),
            leaving: Mutex::default(),
            searches: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            begun: Instant::now(),
            arrived: AtomicBool::new(false),
            progress: Arc::default(),
        };
        lock(&self.healing.progress).insert(slot, Arc::clone(&attempt.progress));
        let result = tokio::select! {
            biased;
            result = attempt.run() => result,
            never = attempt.tell() => match never {},
        };
        lock(&self.healing.progress).remove(&slot);
        self.healing.hold_back.store(0, Ordering::Relaxed);
        self.end_healing(slot);
        result
    }

    fn end_healing(&self, slot: Slot) {
        self.members.set_healing(slot, false);
        lock(&self.healing.frontier).close(slot);
        lock(&self.healing.together).end(slot);
        self.healing.handed_over.note();
        if self.healing.is_stopped(slot) {
            self.members.changed.note();
        }
    }

    /// Whether a brick is the one that left, with all that it had then.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn recognise(&self, since: Generation, label: &Label) -> std::result::Result<(), String> {
        // It may have been stopped just before it noted the last generation that it took part in.
        let ways_out = "empty its directory and give it to the volume as a new server, or put back what it was";
        if label.complete.0 + 1 < since.0 {
            return Err(format!("it is older than when it left: was it restored from a backup? {ways_out}"));
        }
        if label.complete > self.checkpoints.completed() {
            return Err(format!("it went on without this volume: {ways_out}"));
        }
        Ok(())
    }

    /// Has nobody healed in a slot for as long as the guard is held; an attempt that is under way ends before this returns. Only then
    /// another brick may get the slot: what the attempt believes that the member has, is true of the one that it was begun with.
    ///
    /// # Errors
    /// When it does not end within `timeout`.
    pub(super) async fn stop_healing(self: &Arc<Core>, slot: Slot) -> std::result::Result<Stopped, String> {
        let mut seen = self.members.watch();
        self.healing.set_stopped(slot, true);
        let stopped = Stopped { core: Arc::clone(self), slot };
        let deadline = Instant::now() + self.timeout();
        // What the attempt waits for it may never get.
        self.healing.reset(slot, self.members.conn(slot));
        while self.members.healing().has(slot) {
            if !self.members.wait_change(&mut seen, deadline).await {
                return Err("the rebuild does not end".into());
            }
        }
        // What is still on its way is not done after this.
        self.healing.reset(slot, self.members.conn(slot));
        Ok(stopped)
    }
}

/// Nobody is healed in a slot for as long as this is held.
pub(super) struct Stopped {
    core: Arc<Core>,
    slot: Slot,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.core.healing.set_stopped(self.slot, false);
        self.core.members.changed.note();
    }
}

async fn keep(core: Weak<Core>, slot: Slot) {
    let Some(mut seen) = core.upgrade().map(|core| core.members.watch()) else { return };
    let (mut again, mut failed, mut asked_anew) = (AGAIN_MIN, None, false);
    loop {
        let Some(strong) = core.upgrade() else { return };
        let conn = Arc::clone(strong.members.conn(slot));
        let state = conn.state();
        if state == LinkState::Closed || strong.members.check_owned().is_err() {
            return;
        }
        let since = strong.out_since(slot).filter(|_| !strong.healing.closed.load(Ordering::Acquire));
        // What it has lost with its machine it gets again; a member that counts must not lose anything.
        conn.set_take_over(since.is_some() || strong.members.record().is_left_out(slot));
        let since = since.filter(|_| !strong.healing.is_stopped(slot));
        let (Some(since), LinkState::Up(brick)) = (since, state) else {
            drop(strong);
            seen.changed().await;
            continue;
        };
        let recognised = match &*brick {
            BrickState::Labelled { label, .. } => strong.recognise(since, label).map_err(Halt),
            _ => Err(Halt("it has no label".into())),
        };
        if recognised.is_err() && !asked_anew {
            // It said that when it was connected, which may be long ago.
            asked_anew = true;
            strong.healing.reset(slot, &conn);
            drop(strong);
            seen.changed().await;
            continue;
        }
        conn.set_take_over(false);
        if failed.is_none() {
            strong.log(Some(slot), &Event::CatchUpStarted { slot: slot.0 });
        }
        let healed = match recognised {
            Ok(()) => strong.heal(slot, since).await,
            Err(halt) => Err(halt),
        };
        asked_anew = false;
        match healed {
            Ok(()) => (again, failed) = (AGAIN_MIN, None),
            // Another brick gets the slot, which begins anew.
            Err(_) if strong.healing.is_stopped(slot) => (again, failed) = (AGAIN_MIN, None),
            Err(Halt(why)) => {
                tracing::debug!(%slot, why, "catch-up broken off");
                let closed = strong.healing.closed.load(Ordering::Acquire) || conn.state() == LinkState::Closed;
                if !closed && failed.as_ref() != Some(&why) {
                    strong.log(Some(slot), &Event::CatchUpFailed { slot: slot.0, reason: why.clone() });
                    failed = Some(why);
                }
                // Whatever of it is still on its way must not be done later.
                strong.healing.reset(slot, &conn);
                drop(strong);
                sleep(again).await;
                again = (again * 2).min(AGAIN_MAX);
            }
        }
    }
}

impl Attempt<'_> {
    async fn run(&self) -> Result<()> {
        self.settle_log().await?;
        let found = self.walk().await?;
        self.add(found);
        self.searches.store(true, Ordering::Relaxed);
        let mut before = Duration::MAX;
        loop {
            self.check_open()?;
            let round = Instant::now();
            self.round(None).await?;
            self.equal_orphans().await?;
            let (left, took) = (self.left(), round.elapsed());
            // What changes meanwhile takes ever less time where users do not change more than can be copied.
            let is_nearing = took < before.mul_f64(NEARING);
            self.core.healing.pace(left > LITTLE && !is_nearing);
            before = took;
            if left > LITTLE && is_nearing {
                continue;
            }
            if self.finish().await? {
                break;
            }
            sleep(SETTLING).await;
        }
        // From here on it is kept what it misses. What it was given is durable on all, before it counts.
        let ended = async {
            self.core.checkpoint().await.map_err(|error| Out::Unequal(error.to_string()))?;
            self.core.catch_up(self.slot).await
        };
        match ended.await {
            Ok(()) => {
                let Progress { files_copied: files, bytes_copied: bytes, .. } = &*self.progress;
                self.core.log(
                    Some(self.slot),
                    &Event::CaughtUp {
                        slot: self.slot.0,
                        files: files.load(Ordering::Relaxed),
                        bytes: bytes.load(Ordering::Relaxed),
                        seconds: self.begun.elapsed().as_secs(),
                    },
                );
                Ok(())
            }
            Err(out) => {
                self.core.keep_out(self.slot, out.why());
                Err(Halt(out.why().to_string()))
            }
        }
    }

    /// Sees to all that is behind once; what changes meanwhile, and what follows, is behind again.
    async fn round(&self, until: Option<Instant>) -> Result<()> {
        let Touched { places, renamed, objects, data, born, gone, seen } =
            lock(&self.core.healing.frontier).take(self.slot);
        self.leaving().retain(|id, _| !renamed.contains(id));
        lock(&self.moved).extend(renamed);
        lock(&self.born).extend(born);
        lock(&self.gone).extend(gone);
        self.heard(seen);
        self.forget_absent();
        let more = self.equal_names(places).await?;
        let mut objects = objects;
        objects.extend(&more.objects);
        let mut rest = Touched { data, ..Touched::default() };
        more.data.into_iter().for_each(|(id, stripes)| rest.add_data(id, stripes));
        self.add(Touched { places: more.places, ..Touched::default() });
        let again = self.equal_attributes(objects, &rest.data).await?;
        self.add(again);
        if until.is_none() {
            self.arrive().await;
        }
        let again = self.equal_data(rest.data, until).await?;
        self.add(again);
        Ok(())
    }

    /// Pauses changes, and sees to the last of what is behind. Whether nothing is.
    async fn finish(&self) -> Result<bool> {
        if self.left() > LITTLE {
            return Ok(false);
        }
        let Some(_nothing_changes) = self.core.members.away.pause().await else { return Ok(false) };
        if !self.core.checkpoints.generations.are_idle() {
            return Ok(false);
        }
        self.paused.store(true, Ordering::Relaxed);
        let finished = self.finish_paused().await;
        self.paused.store(false, Ordering::Relaxed);
        finished
    }

    async fn finish_paused(&self) -> Result<bool> {
        let until = Instant::now() + PAUSE_MAX;
        for _ in 0..LAST_ROUNDS {
            if Instant::now() > until {
                return Ok(false);
            }
            let equal = self.equal_orphans().await?;
            if equal && lock(&self.core.healing.frontier).is_empty(self.slot) {
                self.check_open()?;
                lock(&self.core.healing.frontier).close(self.slot);
                self.core.members.set_away(self.slot);
                return Ok(true);
            }
            self.round(Some(until)).await?;
        }
        if lock(&self.core.healing.frontier).is_empty(self.slot) {
            return Ok(false);
        }
        Err(self.stuck().await)
    }

    /// What is left after all that could be done.
    async fn stuck(&self) -> Halt {
        let left = lock(&self.core.healing.frontier).take(self.slot);
        tracing::warn!(slot = %self.slot, ?left, "catch-up is stuck");
        let (names, files) = (left.places.len(), left.data.len());
        let objects: Vec<String> = left.objects.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
        let why = format!("it does not become equal: {names} names, {files} files, objects {}", objects.join(" "));
        self.halt(Side::Target, &why)
    }

    fn left(&self) -> usize {
        lock(&self.core.healing.frontier).len(self.slot)
    }

    /// Stripes of a file that may be behind: any that the records tell of, and what is known besides.
    fn any_of(&self, id: ObjectId) -> Stripes {
        let mut stripes = Stripes::any();
        if let Some(missed) = self.missed.as_ref().and_then(|missed| missed.data.get(&id)) {
            stripes.add(missed.clone());
        }
        stripes
    }

    fn add(&self, touched: Touched) {
        lock(&self.core.healing.frontier).add(self.slot, touched);
    }

    fn has_name(&self, place: &Place, id: ObjectId) -> bool {
        lock(&self.core.healing.frontier).has_name(self.slot, place, Some(id))
    }

    /// Whether the names of an object change just now, or have since.
    fn is_moving(&self, id: ObjectId) -> bool {
        lock(&self.core.healing.frontier).is_moving(self.slot, id)
    }

    fn has_data(&self, id: ObjectId, stripes: (u64, u64)) -> bool {
        lock(&self.core.healing.frontier).has_data(self.slot, id, stripes)
    }

    /// Whether the member cannot have it but from this attempt.
    fn is_new(&self, id: ObjectId) -> bool {
        lock(&self.born).contains(&id)
    }

    fn leaving(&self) -> MutexGuard<'_, BTreeMap<ObjectId, Equal>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is equal of an object that is about to lose a name.
    fn note_equal(&self, id: ObjectId, note: impl FnOnce(&mut Equal)) {
        if let Some(equal) = self.leaving().get_mut(&id) {
            note(equal);
        }
    }

    fn may_be_gone(&self, id: ObjectId) -> bool {
        lock(&self.gone).contains(&id) || lock(&self.core.healing.frontier).may_be_gone(self.slot, id)
    }

    fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    fn searches(&self) -> bool {
        self.searches.load(Ordering::Relaxed)
    }

    /// The members to heal from.
    fn sources(&self) -> Result<Vec<Slot>> {
        let readable: Vec<Slot> = self.core.members.readable().iter().collect();
        if readable.len() < self.core.members.record().members_needed() {
            return Err(Halt("too few servers answer".into()));
        }
        Ok(readable)
    }

    fn source(&self) -> Result<Slot> {
        self.sources()?.first().copied().ok_or_else(|| Halt("no server answers".into()))
    }

    fn check_open(&self) -> Result<()> {
        let closed = self.core.healing.closed.load(Ordering::Acquire);
        let out = self.core.out_since(self.slot).is_some();
        match () {
            () if closed => Err(Halt("the volume is closed".into())),
            () if self.core.healing.is_stopped(self.slot) => Err(Halt("another server gets its slot".into())),
            () if !out => Err(Halt("its state changed".into())),
            () => Ok(()),
        }
    }
}
