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
mod data;
mod names;
mod peer;
mod progress;
mod units;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use net_raid_proto::ids::{Generation, ObjectId, Slot, Timestamp, Transaction};
use net_raid_proto::membership::{Label, SlotState};
use net_raid_proto::message::{BrickState, Change, LogEntry, Logged, Reply, Request};
use tokio::time::{Instant, sleep};

use super::fanout::{Ask, Outcome};
use super::generation::Ticket;
use super::query::nonsense;
use super::{Core, PathSource};
use crate::conn::{Conn, LinkState};
use crate::events::Event;
use crate::layout::{SlotSet, UNIT};
use behind::{Frontier, Place, Touched};
use peer::{Places, Side, is_gone};
pub use progress::CatchUpProgress;
use progress::Progress;

/// Questions that are asked together.
const TOGETHER: usize = 32;
/// Transactions of one `Abort`.
const ABORT_MAX: usize = 4096;
/// Between two attempts, longer each time.
const AGAIN_MIN: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// So little is left when changes pause for the last of it.
const LITTLE: usize = 256;
/// And they pause for as long as this at most, until what was begun is done.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// Each round is to take this part of the time of the one before, or changes are held back.
const NEARING: f64 = 0.75;
/// For as long as this, in microseconds.
const HOLD_MIN: u64 = 500;
const HOLD_MAX: u64 = 20_000;
/// Rounds over what is left within a pause: what a name leads to follows in the next.
const LAST_ROUNDS: usize = 12;
/// So many objects are named in a message, at most.
const SHOWN_MAX: usize = 8;
/// Between two looks whether changes that take long are concluded.
const SETTLING: Duration = Duration::from_millis(50);

/// Why an attempt ends.
struct Halt(String);

type Result<T> = std::result::Result<T, Halt>;

/// What is under way, and what is behind on members that are being healed.
#[derive(Default)]
pub(super) struct Healing {
    frontier: Arc<Mutex<Frontier>>,
    /// Microseconds that each change waits, so that a member gets on faster than others write.
    hold_back: AtomicU64,
    /// Slots whose connections were reset.
    reset: AtomicU32,
    closed: AtomicBool,
    progress: Mutex<BTreeMap<Slot, Arc<Progress>>>,
}

/// Keeps in mind what a change touches, until it is concluded.
pub(super) struct Mark {
    frontier: Arc<Mutex<Frontier>>,
    number: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Mark {
    fn drop(&mut self) {
        lock(&self.frontier).end(self.number);
    }
}

impl Healing {
    /// A change begins.
    pub(super) fn mark(&self, asks: &[Ask], paths: Option<&Arc<dyn PathSource>>) -> Mark {
        let mut touched = Touched::default();
        let changes = asks.iter().filter_map(|ask| match &ask.request {
            Request::Change { change, .. } => Some(change),
            _ => None,
        });
        let mut purged = Vec::new();
        for change in changes {
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
        let number = lock(&self.frontier).begin(touched);
        Mark { frontier: Arc::clone(&self.frontier), number }
    }

    /// Lets those who are healed get on, where changes come as fast as these can be made there.
    pub(super) async fn hold_back(&self) {
        let wait = self.hold_back.load(Ordering::Relaxed);
        if wait > 0 {
            sleep(Duration::from_micros(wait)).await;
        }
    }

    /// Whether changes wait for those who are healed.
    fn holds_back(&self) -> bool {
        self.hold_back.load(Ordering::Relaxed) > 0
    }

    /// Whether too much was left after a round: changes wait longer then, or else shorter.
    fn pace(&self, too_much: bool) {
        let step = |wait: u64| match too_much {
            true => (wait * 2).clamp(HOLD_MIN, HOLD_MAX),
            false => wait / 2,
        };
        let _ = self.hold_back.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |wait| Some(step(wait)));
    }

    /// Gives the present connection to a member up, with all that is under way on it. That it is back is no news then.
    fn reset(&self, slot: Slot, conn: &Conn) {
        if conn.is_up() {
            self.reset.fetch_or(1 << slot.0, Ordering::AcqRel);
            conn.reset();
        }
    }

    /// Whether a connection is new because it was reset.
    pub(super) fn was_reset(&self, slot: Slot) -> bool {
        self.reset.fetch_and(!(1 << slot.0), Ordering::AcqRel) >> slot.0 & 1 == 1
    }

    /// How far those are that are healed.
    pub(super) fn progress(&self) -> Vec<CatchUpProgress> {
        lock(&self.progress).iter().map(|(slot, progress)| progress.of(*slot)).collect()
    }

    /// Nobody is healed any more.
    pub(super) fn stop(&self) {
        self.closed.store(true, Ordering::Release);
    }
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
    /// It has everything up to this generation.
    since: Generation,
    places: Mutex<Places>,
    /// The last generation that it completed.
    completed: tokio::sync::Mutex<Generation>,
    /// Made, and perhaps removed, since the attempt began.
    born: Mutex<BTreeSet<ObjectId>>,
    gone: Mutex<BTreeSet<ObjectId>>,
    /// Being given a name just now.
    making: Mutex<BTreeSet<ObjectId>>,
    /// About to lose one of several names.
    leaving: Mutex<BTreeMap<ObjectId, Equal>>,
    /// What is not known is searched for in the whole tree.
    searches: AtomicBool,
    /// Changes pause.
    paused: AtomicBool,
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
        self.members.set_healing(slot, true);
        let attempt = Attempt {
            core: self,
            slot,
            since,
            places: Mutex::default(),
            completed: tokio::sync::Mutex::default(),
            born: Mutex::default(),
            gone: Mutex::default(),
            making: Mutex::default(),
            leaving: Mutex::default(),
            searches: AtomicBool::new(false),
            paused: AtomicBool::new(false),
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
        self.members.set_healing(slot, false);
        lock(&self.healing.frontier).close(slot);
        result
    }

    /// Whether a brick is the one that left, with all that it had then.
    fn recognise(&self, since: Generation, label: &Label) -> Result<()> {
        // It may have been stopped just before it noted the last generation that it took part in.
        let ways_out = "empty its directory and give it to the volume as a new server, or put back what it was";
        if label.complete.0 + 1 < since.0 {
            return Err(Halt(format!("it is older than when it left: was it restored from a backup? {ways_out}")));
        }
        if label.complete > self.checkpoints.completed() {
            return Err(Halt(format!("it went on without this volume: {ways_out}")));
        }
        Ok(())
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
        let (Some(since), LinkState::Up(brick)) = (since, state) else {
            drop(strong);
            seen.changed().await;
            continue;
        };
        let recognised = match &*brick {
            BrickState::Labelled { label, .. } => strong.recognise(since, label),
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
        let begun = Instant::now();
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
            self.core.checkpoint().await.map_err(|error| error.to_string())?;
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
                        seconds: begun.elapsed().as_secs(),
                    },
                );
                Ok(())
            }
            Err(why) => {
                self.core.keep_out(self.slot, &why);
                Err(Halt(why))
            }
        }
    }

    /// What waits in its log was never decided with it: none of that counts.
    async fn settle_log(&self) -> Result<()> {
        // Changes that began before anything was kept in mind are concluded then.
        self.core.checkpoint().await.map_err(|error| Halt(error.to_string()))?;
        self.asked(&Request::Complete { generation: self.since }).await?;
        let mut dropped: Vec<Transaction> = Vec::new();
        let mut cuts = Vec::new();
        let (mut cursor, mut newest) = (0, Generation(0));
        loop {
            let Reply::Log { entries, next } = self.asked(&Request::ReadLog { cursor }).await? else {
                return Err(self.halt(Side::Target, &nonsense().to_string()));
            };
            newest = entries.iter().map(|entry| entry.generation).max().unwrap_or_default().max(newest);
            tracing::debug!(slot = %self.slot, since = %self.since, ?entries, "its log");
            let is_write = |entry: &&LogEntry| matches!(entry.what, Logged::Write { .. });
            dropped.extend(entries.iter().filter(is_write).map(|entry| entry.transaction));
            cuts.extend(entries.into_iter().filter_map(|entry| match entry.what {
                Logged::Truncate { size, brick_len } => Some((entry.generation, entry.id, size.min(brick_len))),
                _ => None,
            }));
            let Some(next) = next else { break };
            cursor = next;
        }
        for transactions in dropped.chunks(ABORT_MAX) {
            self.asked(&Request::Abort { transactions: transactions.to_vec() }).await?;
        }
        if newest > self.core.checkpoints.completed() {
            return Err(self.halt(Side::Target, "it has changes that this volume does not know"));
        }
        // While it is in the log: the next attempt could not tell.
        self.searches.store(!cuts.is_empty(), Ordering::Relaxed);
        for (generation, id, cut) in cuts {
            self.blank_cut(generation, id, cut).await?;
        }
        self.searches.store(false, Ordering::Relaxed);
        self.complete_up_to(self.core.checkpoints.completed()).await
    }

    /// Makes the unit within which a file was cut a hole. What stays of it would be of the generation of the cut, as if it had been
    /// copied then. Whether the file is there.
    async fn blank_cut(&self, generation: Generation, id: ObjectId, cut: u64) -> Result<bool> {
        if cut.is_multiple_of(UNIT) {
            return Ok(true);
        }
        let change = Change::Punch { id, unit: cut / UNIT, count: 1, mtime: None };
        match self.send(generation, Timestamp::default(), change, Vec::new()).await? {
            Ok(_) => Ok(true),
            Err(errno) if is_gone(errno) => Ok(false),
            Err(errno) => Err(self.refused(Side::Target, "cutting a file", errno)),
        }
    }

    async fn complete_up_to(&self, generation: Generation) -> Result<()> {
        let mut completed = self.completed.lock().await;
        if *completed < generation {
            self.asked(&Request::Checkpoint { generation }).await?;
            self.asked(&Request::Complete { generation }).await?;
            *completed = generation;
        }
        Ok(())
    }

    /// Has the member's log emptied, which only the completion of all that is in it does.
    async fn empty_log(&self) -> Result<()> {
        // A checkpoint would wait for the end of the pause.
        if self.paused.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.core.checkpoint().await.map_err(|error| Halt(error.to_string()))?;
        self.complete_up_to(self.core.checkpoints.completed()).await
    }

    /// Asks the member for what it cannot refuse.
    async fn asked(&self, request: &Request) -> Result<Reply> {
        match self.ask(Side::Target, request, &[]).await? {
            Ok(response) => Ok(response.reply),
            Err(errno) => Err(self.refused(Side::Target, "settling its log", errno)),
        }
    }

    /// Sees to all that is behind once; what changes meanwhile, and what follows, is behind again.
    async fn round(&self, until: Option<Instant>) -> Result<()> {
        let Touched { places, renamed, objects, data, born, gone, seen } =
            lock(&self.core.healing.frontier).take(self.slot);
        self.leaving().retain(|id, _| !renamed.contains(id));
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
            () if !out => Err(Halt("its state changed".into())),
            () => Ok(()),
        }
    }

    /// A generation for changes of the member, which is not complete before the ticket is dropped.
    async fn ticket(&self) -> Result<Ticket> {
        let ticket = self.core.checkpoints.generations.enter();
        // Its log holds two generations.
        self.complete_up_to(self.core.checkpoints.completed()).await?;
        Ok(ticket)
    }

    /// A change of the member alone.
    async fn change_with(
        &self,
        ticket: &Ticket,
        change: Change,
        payload: Vec<Bytes>,
    ) -> Result<std::result::Result<Reply, i32>> {
        self.send(ticket.generation(), Timestamp::default(), change, payload).await
    }

    async fn send(
        &self,
        generation: Generation,
        now: Timestamp,
        change: Change,
        payload: Vec<Bytes>,
    ) -> Result<std::result::Result<Reply, i32>> {
        let request = Request::Change {
            transaction: self.core.transaction(),
            generation,
            participants: 1 << self.slot.0,
            now,
            change,
        };
        tracing::trace!(slot = %self.slot, ?request, "change");
        Ok(self.ask(Side::Target, &request, &payload).await?.map(|response| response.reply))
    }

    async fn try_change(
        &self,
        now: Timestamp,
        change: Change,
        payload: Bytes,
    ) -> Result<std::result::Result<Reply, i32>> {
        let ticket = self.ticket().await?;
        let payload = if payload.is_empty() { Vec::new() } else { vec![payload] };
        self.send(ticket.generation(), now, change, payload).await
    }

    /// A change that can only be refused for want of space.
    async fn change(&self, now: Timestamp, change: Change, payload: Bytes) -> Result<()> {
        match self.try_change(now, change, payload).await? {
            Ok(_) => Ok(()),
            Err(errno) => Err(self.refused(Side::Target, "changing names", errno)),
        }
    }
}
