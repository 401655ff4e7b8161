//! Members whose connection broke a moment ago: what they miss is kept, and done there when they are back.
//!
//! Nobody waits for such a member, so the record drops it, durably, and nothing is read from it. But when it is back within
//! `stall`, what it missed is done there in the order in which it was acknowledged, and a newer record makes it current
//! again: a server that is restarted costs no copying.
//!
//! ```text
//!            lost, a moment ago                    back, and nothing is missed any more
//!  current ----------------------> away (backlog) -------------------------------------> current
//!                                   |
//!                                   | not back within `stall`, missed too much, refuses something
//!                                   v
//!                                  out
//! ```
//!
//! One that is not back is out when a generation has ended: with what it missed until then, and the generations of all later changes,
//! it is known what it lacks ([`super::heal`]).
//!
//! Of two changes the later depends on the earlier only when it began after the other was acknowledged. Each is put into the
//! backlog before it is acknowledged, so that the backlog has an order in which they can be done.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use net_raid_proto::ids::{Name, ObjectId, Slot};
use net_raid_proto::message::{Change, Fault, RenameTarget, Request};
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Core;
use super::fanout::{Ask, Outcome, RESOLVE_MAX, lost_slots};
use super::heal::{Touched, touched_by};
use crate::conn::{CallError, LinkState, Response};
use crate::events::Event;

/// A member that missed more bytes than this stays out: they wait in memory, for each that is away.
const MISSED_MAX: usize = 512 << 20;
/// What a request takes in memory besides its payload, roughly.
const ASK_BYTES: usize = 512;
/// Changes that begin wait for as long as this, at most, for those under way to end, so that the last of what a member missed can
/// be done; and for as long again for that, which is as little as came meanwhile.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Between two such pauses, when the first was too short.
const PAUSE_AGAIN: Duration = Duration::from_millis(500);
/// A change waits for as long as this, at most, for who is back and has more than `BEHIND` requests to make up for: else they
/// would never be done, where programs write faster than one server can that does one thing after the other.
const HOLD_BACK: Duration = Duration::from_millis(100);
const BEHIND: usize = 16;
/// Who is back is given this long.
const MAKE_UP_MAX: Duration = Duration::from_secs(60);

/// What a change holds while it is under way: no member becomes current again meanwhile.
pub(super) type Passage = OwnedRwLockReadGuard<()>;

/// What members that are away have missed.
#[derive(Default)]
pub(super) struct Away {
    backlogs: Mutex<BTreeMap<Slot, Backlog>>,
    gate: Arc<RwLock<()>>,
    /// Something of a backlog was done.
    progress: Notify,
}

/// What one member missed, oldest first.
#[derive(Default)]
struct Backlog {
    missed: VecDeque<Missed>,
    bytes: usize,
    /// The member is back, and makes up for it.
    is_back: bool,
    /// How many requests of each kind to sync an object there are: the last one does for all.
    syncs: BTreeMap<(ObjectId, bool), usize>,
    /// It will not do it: what all of it touches.
    left: Option<Touched>,
}

struct Missed {
    ask: Ask,
    /// It may have been done before the connection broke.
    resend: bool,
    /// Where its objects were just before it: the member does not know when it was restarted, and has them there still.
    paths: Vec<(ObjectId, Vec<Name>)>,
    touched: Touched,
}

/// What became of what was kept for a member before that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was to do it.
    Staying,
    /// It was dropped for good, and that was told.
    Leaving,
}

/// Why a member stays out.
#[derive(Debug)]
pub(super) enum Out {
    /// It is not back in time; else it has everything but what is kept for it.
    Gone(String),
    /// Nobody knows what it has.
    Unequal(String),
}

impl Out {
    pub(super) fn why(&self) -> &str {
        match self {
            Out::Gone(why) | Out::Unequal(why) => why,
        }
    }
}

impl Missed {
    fn bytes(&self) -> usize {
        ASK_BYTES + self.ask.payload.iter().map(Bytes::len).sum::<usize>()
    }

    /// A change is not broken off while the member may be doing it, since it must not do it twice at once. What makes it durable
    /// may take long, and may be repeated at any time.
    fn may_be_broken_off(&self) -> bool {
        !matches!(self.ask.request, Request::Change { .. })
    }

    fn sync_of(&self) -> Option<(ObjectId, bool)> {
        match self.ask.request {
            Request::Fsync { id, data_only } => Some((id, data_only)),
            _ => None,
        }
    }
}

impl Backlog {
    fn push(&mut self, missed: Missed) {
        if let Some(left) = &mut self.left {
            self.bytes += ASK_BYTES;
            left.add(missed.touched);
            return;
        }
        self.count(&missed);
        self.missed.push_back(missed);
    }

    /// The connection broke before it was done for sure.
    fn put_back(&mut self, missed: Missed) {
        self.count(&missed);
        self.missed.push_front(missed);
    }

    fn count(&mut self, missed: &Missed) {
        self.bytes += missed.bytes();
        if let Some(sync) = missed.sync_of() {
            *self.syncs.entry(sync).or_default() += 1;
        }
    }

    /// The oldest that is still to be done.
    fn pop(&mut self) -> Option<Missed> {
        loop {
            let missed = self.missed.pop_front()?;
            self.bytes -= missed.bytes();
            if missed.sync_of().is_none_or(|sync| self.is_last(sync)) {
                return Some(missed);
            }
        }
    }

    /// Counts a request to sync that was taken out; whether no other one of the kind is left.
    fn is_last(&mut self, sync: (ObjectId, bool)) -> bool {
        let left = self.syncs.remove(&sync).unwrap_or(1) - 1;
        if left > 0 {
            self.syncs.insert(sync, left);
        }
        left == 0
    }
}

impl Away {
    fn backlogs(&self) -> MutexGuard<'_, BTreeMap<Slot, Backlog>> {
        self.backlogs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on what the member misses is kept.
    pub(super) fn begin(&self, slot: Slot) {
        self.backlogs().insert(slot, Backlog::default());
    }

    /// Nothing is kept for it any more; `None` when nothing was.
    pub(super) fn end(&self, slot: Slot) -> Option<Ended> {
        let backlog = self.backlogs().remove(&slot)?;
        Some(if backlog.left.is_some() { Ended::Leaving } else { Ended::Staying })
    }

    /// The member will not do what is kept for it: of that, and of what comes, only what it touches is kept.
    fn leave(&self, slot: Slot) {
        if let Some(backlog) = self.backlogs().get_mut(&slot) {
            let mut left = Touched::default();
            // Their bytes go: they count no more.
            backlog.bytes = backlog.missed.len() * ASK_BYTES;
            backlog.missed.drain(..).for_each(|missed| left.add(missed.touched));
            backlog.left = Some(left);
        }
    }

    /// Ends that; what was touched, if it was kept until now.
    fn end_leaving(&self, slot: Slot) -> Option<Touched> {
        self.backlogs().remove(&slot)?.left
    }

    fn pop(&self, slot: Slot) -> Option<Missed> {
        let missed = self.backlogs().get_mut(&slot)?.pop();
        self.progress.notify_waiters();
        missed
    }

    /// Notes whether a member that is away can make up for what it missed.
    fn set_back(&self, slot: Slot, is_back: bool) {
        if let Some(backlog) = self.backlogs().get_mut(&slot) {
            backlog.is_back = is_back;
        }
    }

    fn is_anybody_behind(&self) -> bool {
        self.backlogs().values().any(|backlog| backlog.is_back && backlog.missed.len() > BEHIND)
    }

    /// Lets those who are back catch up a little.
    async fn hold_back(&self) {
        loop {
            let mut progress = pin!(self.progress.notified());
            progress.as_mut().enable();
            if !self.is_anybody_behind() {
                return;
            }
            progress.await;
        }
    }

    fn put_back(&self, slot: Slot, missed: Missed) {
        if let Some(backlog) = self.backlogs().get_mut(&slot) {
            backlog.put_back(Missed { resend: true, ..missed });
        }
    }

    /// Keeps a request for its member, where something is kept for that.
    ///
    /// # Errors
    /// The slot, when it missed too much by now.
    fn push(&self, missed: Missed) -> Result<(), Slot> {
        let slot = missed.ask.slot;
        let mut backlogs = self.backlogs();
        let Some(backlog) = backlogs.get_mut(&slot) else { return Ok(()) };
        backlog.push(missed);
        if backlog.bytes > MISSED_MAX { Err(slot) } else { Ok(()) }
    }

    /// Lets no change begin until the guard is dropped; `None` when those under way take too long.
    pub(super) async fn pause(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        timeout(PAUSE_MAX, Arc::clone(&self.gate).write_owned()).await.ok()
    }

    /// Lets a change begin; `held_back` when somebody is away.
    pub(super) async fn enter(&self, held_back: bool) -> Passage {
        if held_back {
            let _ = timeout(HOLD_BACK, self.hold_back()).await;
        }
        Arc::clone(&self.gate).read_owned().await
    }
}

/// Why a member that is back cannot make up for what it missed.
enum Trouble {
    /// The connection broke again.
    Lost,
    /// It stays out.
    Final(Out),
}

impl Core {
    /// Takes the requests to members that are away out of `asks`.
    pub(super) fn take_missed(&self, asks: &mut Vec<Ask>) -> Vec<Ask> {
        let away = self.members.away();
        if away.is_empty() {
            return Vec::new();
        }
        let (missed, live) = std::mem::take(asks).into_iter().partition(|ask| away.has(ask.slot));
        *asks = live;
        missed
    }

    /// A change is concluded that all others have: those who `missed` it are to do it, and those who did not answer,
    /// which may have done it.
    pub(super) fn owe(&self, missed: Vec<Ask>, asks: Vec<Ask>, outcomes: &[(Slot, Outcome)]) {
        if missed.is_empty() && lost_slots(outcomes).is_empty() {
            return;
        }
        for (slot, outcome) in outcomes {
            if let Outcome::Failed(why) = outcome {
                self.keep_out(*slot, why);
            }
        }
        let lost = lost_slots(outcomes);
        let lost = asks.into_iter().filter(|ask| lost.has(ask.slot)).map(|ask| (ask, true));
        for (ask, resend) in missed.into_iter().map(|ask| (ask, false)).chain(lost) {
            let paths = self.paths_of(&ask.request);
            let touched = touched_by(std::iter::once(&ask.request), self.paths.get());
            if let Err(slot) = self.members.away.push(Missed { ask, resend, paths, touched }) {
                self.keep_out(slot, &format!("it missed more than {} MiB", MISSED_MAX >> 20));
            }
        }
    }

    /// A change is concluded that the others do not have, and nobody knows whether these do.
    pub(super) fn keep_out_lost(&self, outcomes: &[(Slot, Outcome)]) {
        let why = "it may have made a change that the others refused";
        lost_slots(outcomes).iter().for_each(|slot| self.keep_out(slot, why));
    }

    /// A member that is away stays out.
    pub(super) fn keep_out(&self, slot: Slot, why: &str) {
        let Some(ended) = self.members.away.end(slot) else { return };
        self.members.set_out(slot);
        if ended == Ended::Staying {
            self.log(Some(slot), &Event::MemberDropped { slot: slot.0, reason: why.to_string() });
        }
    }

    /// Waits until a member that is away is back, and makes it current again. One that nobody waits for, because it was silent for so
    /// long, is out at once.
    #[expect(clippy::manual_async_fn, reason = "it is begun by what it may end with, a change of the record")]
    pub(super) fn bring_back(self: Arc<Core>, slot: Slot, silent: bool) -> impl Future<Output = ()> + Send {
        async move {
            if silent {
                return self.let_go(slot).await;
            }
            match self.make_current(slot).await {
                Ok(()) => {}
                Err(Out::Gone(reason)) => {
                    self.log(Some(slot), &Event::MemberDropped { slot: slot.0, reason });
                    self.let_go(slot).await;
                }
                Err(Out::Unequal(why)) => self.keep_out(slot, &why),
            }
        }
    }

    /// A member that is away is out from the end of a generation on: what it misses until then is known, and of what comes later
    /// the generations tell. That it is dropped was told.
    async fn let_go(self: &Arc<Core>, slot: Slot) {
        let brick = self.members.seat(slot).brick();
        self.members.away.leave(slot);
        // Of the changes up to it, none is under way any more.
        let ended = timeout(self.timeout(), self.checkpoint()).await;
        let since = self.checkpoints.completed();
        let Some(touched) = self.members.away.end_leaving(slot) else { return };
        if let (Ok(Ok(())), Some(brick)) = (ended, brick) {
            self.healing.keep(slot, brick, since, touched);
        }
        self.members.set_out(slot);
    }

    async fn make_current(self: &Arc<Core>, slot: Slot) -> Result<(), Out> {
        self.wait_back(slot).await?;
        self.catch_up(slot).await
    }

    /// Has a member that is back do what it missed, and makes it current again.
    ///
    /// # Errors
    /// Why it stays out.
    pub(super) async fn catch_up(self: &Arc<Core>, slot: Slot) -> Result<(), Out> {
        let made_up = timeout(MAKE_UP_MAX, self.make_up_all(slot)).await;
        let why = || Out::Unequal(format!("it did not make up for what it missed within {MAKE_UP_MAX:?}"));
        made_up.unwrap_or_else(|_| Err(why()))
    }

    async fn make_up_all(self: &Arc<Core>, slot: Slot) -> Result<(), Out> {
        loop {
            self.members.away.set_back(slot, false);
            self.wait_back(slot).await?;
            self.members.away.set_back(slot, true);
            let made_up = match self.make_up(slot, None).await {
                Ok(_) => self.make_up_the_last(slot).await,
                Err(trouble) => Err(trouble),
            };
            match made_up {
                Ok(true) => return Ok(()),
                Ok(false) => sleep(PAUSE_AGAIN).await,
                Err(Trouble::Lost) => {}
                Err(Trouble::Final(why)) => return Err(why),
            }
        }
    }

    /// Pauses changes, has the member do what came meanwhile, and makes it current; `false` when that took too long.
    async fn make_up_the_last(self: &Arc<Core>, slot: Slot) -> Result<bool, Trouble> {
        let until = Instant::now() + PAUSE_MAX;
        let Ok(_nothing_begins) = timeout_at(until, self.members.away.gate.write()).await else { return Ok(false) };
        let all = self.make_up(slot, Some(until + PAUSE_MAX)).await?;
        if all {
            self.reinstate(slot).await.map_err(|error| Trouble::Final(Out::Unequal(error.to_string())))?;
        }
        Ok(all)
    }

    /// Waits for the connection, for `stall` from when it broke.
    async fn wait_back(&self, slot: Slot) -> Result<(), Out> {
        let conn = self.members.conn(slot);
        let mut states = conn.watch();
        if conn.is_up() {
            return Ok(());
        }
        let Some(broke_at) = conn.broke_at() else { return Err(Out::Gone("it stopped answering".into())) };
        let back = states.wait_for(|state| matches!(state, LinkState::Up(_) | LinkState::Closed));
        match timeout_at(broke_at + self.config.stall, back).await {
            Ok(Ok(state)) if matches!(*state, LinkState::Up(_)) => Ok(()),
            Ok(_) => Err(Out::Unequal("the volume was closed".into())),
            Err(_) => Err(Out::Gone(match conn.state() {
                LinkState::Lost(why) => why.to_string(),
                _ => "it does not answer".into(),
            })),
        }
    }

    /// Has a member do what it missed, one by one; `false` when something is left at the time given.
    async fn make_up(&self, slot: Slot, until: Option<Instant>) -> Result<bool, Trouble> {
        while until.is_none_or(|until| Instant::now() < until) {
            let Some(missed) = self.members.away.pop(slot) else { return Ok(true) };
            let answer = match until.filter(|_| missed.may_be_broken_off()) {
                Some(until) => timeout_at(until, self.redo(&missed)).await.ok(),
                None => Some(self.redo(&missed).await),
            };
            match answer.map(|answer| self.outcome_of(answer)) {
                Some(Outcome::Done) => {}
                None => self.members.away.put_back(slot, missed),
                Some(Outcome::Lost(_)) => {
                    self.members.away.put_back(slot, missed);
                    return Err(Trouble::Lost);
                }
                Some(Outcome::Failed(why)) => return Err(Trouble::Final(Out::Unequal(why))),
                Some(Outcome::Errno(errno)) => {
                    let what = std::io::Error::from_raw_os_error(errno);
                    let why = format!("it refuses a change that the others made: {what}");
                    return Err(Trouble::Final(Out::Unequal(why)));
                }
            }
        }
        Ok(false)
    }

    /// Asks a member again for what it missed.
    async fn redo(&self, Missed { ask, resend, paths, .. }: &Missed) -> Result<Response, CallError> {
        let conn = self.members.conn(ask.slot);
        let resend = Arc::new(AtomicBool::new(*resend));
        for _ in 0..RESOLVE_MAX {
            let unknown = match conn.call_telling(&ask.request, ask.payload.clone(), Vec::new(), &resend).await {
                Err(CallError::Fault(Fault::Unresolved(id))) => id,
                other => return other,
            };
            match paths.iter().find(|(id, _)| *id == unknown) {
                Some((id, path)) => {
                    let request = Request::Resolve { id: *id, path: path.clone() };
                    conn.call(&request, Vec::new(), Vec::new(), false).await?;
                }
                None => self.search(ask.slot, unknown).await?,
            }
        }
        Err(CallError::Fault(Fault::Errno(libc::ESTALE)))
    }

    fn paths_of(&self, request: &Request) -> Vec<(ObjectId, Vec<Name>)> {
        let Some(paths) = self.paths.get() else { return Vec::new() };
        objects(request).into_iter().filter_map(|id| Some((id, paths.path_of(id)?))).collect()
    }

    /// For a volume that is closed: waits until nobody is away any more, one way or the other.
    pub(super) async fn nobody_away(&self) {
        let mut seen = self.members.watch();
        let deadline = Instant::now() + self.config.stall * 2;
        while !self.members.away().is_empty() && self.members.wait_change(&mut seen, deadline).await {}
    }
}

/// The objects that must be there before a request can be done.
pub(super) fn objects(request: &Request) -> Vec<ObjectId> {
    let change = match request {
        Request::Change { change, .. } => change,
        Request::Fsync { id, .. } => return vec![*id],
        _ => return Vec::new(),
    };
    match change {
        Change::Create { parent, .. } => vec![*parent],
        Change::Attach { parent, .. } => vec![*parent],
        Change::Link { id, parent, .. }
        | Change::Unlink { parent, id, .. }
        | Change::Rmdir { parent, id, .. }
        | Change::Detach { parent, id, .. } => vec![*parent, *id],
        Change::Rename { parent, id, new_parent, target, .. } => {
            let other = match target {
                RenameTarget::Absent => None,
                RenameTarget::Replace { id, .. } | RenameTarget::Exchange { id } => Some(*id),
            };
            [*parent, *id, *new_parent].into_iter().chain(other).collect()
        }
        Change::SetAttr { id, .. }
        | Change::SetXattr { id, .. }
        | Change::RemoveXattr { id, .. }
        | Change::Write { id, .. }
        | Change::Truncate { id, .. }
        | Change::Punch { id, .. }
        | Change::Allocate { id, .. }
        | Change::Purge { id, .. } => vec![*id],
    }
}

#[cfg(test)]
mod tests;
