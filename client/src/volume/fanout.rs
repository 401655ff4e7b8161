//! One change on many members: sent to all at once, judged together, acknowledged only when every
//! current member has it or is durably dropped.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use net_raid_proto::ids::{ObjectId, Slot, Timestamp};
use net_raid_proto::message::{Change, Fault, Kind, Reply, Request};
use tokio::time::timeout_at;

use super::away::Passage;
use super::changes::Seen;
use super::even;
use super::generation::Ticket;
use super::{Core, VolumeError};
use crate::conn::{CallError, Response};
use crate::events::Event;
use crate::layout::SlotSet;

/// What one member is asked.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) slot: Slot,
    pub(super) request: Request,
    pub(super) payload: Vec<Bytes>,
}

/// What members are asked together.
pub(super) struct Asks {
    /// Each that is asked.
    pub(super) each: Vec<Ask>,
    /// The members that it was made for. Who has joined since would miss it.
    pub(super) of: SlotSet,
}

/// How one member answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has the change.
    Done,
    /// It refused with an errno.
    Errno(i32),
    /// It is out of reach: why.
    Lost(String),
    /// It answers that it cannot go on: why.
    Failed(String),
}

/// What the answers mean together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All that answered have it.
    Done,
    /// All that answered refused alike.
    Refused(i32),
    /// Some have it and some refused, for want of space: those that have it must give it back.
    Undo(i32),
    /// Some have it and these refused for reasons of their own: they differ from the others.
    Differs(SlotSet, i32),
    /// Nobody answered.
    Nobody,
}

/// Judges the answers.
pub(super) fn judge(outcomes: &[(Slot, Outcome)]) -> Verdict {
    let done = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Done).count();
    let refused: Vec<(Slot, i32)> = outcomes
        .iter()
        .filter_map(|(slot, outcome)| match outcome {
            Outcome::Errno(errno) => Some((*slot, *errno)),
            _ => None,
        })
        .collect();
    let no_space = refused.iter().find(|(_, errno)| is_for_space(*errno));
    match (done, refused.first()) {
        (0, None) => Verdict::Nobody,
        (_, None) => Verdict::Done,
        (0, Some(first)) => Verdict::Refused(no_space.unwrap_or(first).1),
        (_, Some(first)) => match no_space {
            Some((_, errno)) => Verdict::Undo(*errno),
            None => Verdict::Differs(refused.iter().map(|(slot, _)| *slot).collect(), first.1),
        },
    }
}

/// Whether a member refuses for want of space, and not for what it holds, which all have alike.
fn is_for_space(errno: i32) -> bool {
    matches!(errno, libc::ENOSPC | libc::EDQUOT)
}

/// Rounds of resolving one object's path before giving up: the object, its parents, a race or two.
pub(super) const RESOLVE_MAX: u32 = 8;
/// Between two questions whether there is room by now.
const ROOM_AGAIN: Duration = Duration::from_millis(200);
/// Between two rounds while a path changes, longer each time.
const RESOLVE_AGAIN: Duration = Duration::from_millis(10);

impl Core {
    /// Asks one member, telling it where objects are that it does not know.
    pub(super) async fn ask(
        &self,
        slot: Slot,
        request: &Request,
        payload: &[Bytes],
        resend: bool,
    ) -> Result<Response, CallError> {
        let conn = self.members.conn(slot);
        // A brick that restarts forgets where objects are, but what it did before is done.
        let resend = Arc::new(AtomicBool::new(resend));
        for round in 0..RESOLVE_MAX {
            match conn.call_telling(request, payload.to_vec(), Vec::new(), &resend).await {
                Err(CallError::Fault(Fault::Unresolved(id))) => match self.resolve(slot, id).await {
                    // A rename under way: the path is old here, or new already. It is right in a moment.
                    Err(CallError::Fault(Fault::Errno(libc::ENOENT | libc::ENOTDIR))) => {
                        tokio::time::sleep(RESOLVE_AGAIN * round).await;
                    }
                    resolved => resolved?,
                },
                other => return other,
            }
        }
        Err(CallError::Fault(Fault::Errno(libc::ESTALE)))
    }

    /// Tells a brick where an object is.
    pub(super) async fn resolve(&self, slot: Slot, id: ObjectId) -> Result<(), CallError> {
        let Some(paths) = self.paths.get() else { return Err(stale()) };
        let Some(path) = paths.path_of(id) else {
            return if paths.has_unknown_name(id) { self.search(slot, id).await } else { Err(stale()) };
        };
        let request = Request::Resolve { id, path };
        self.members.conn(slot).call(&request, Vec::new(), Vec::new(), false).await.map(|_| ())
    }

    /// Reads directories of a brick until it has come by an object, whose names nobody knows: it is open, and the name
    /// that it was opened by is gone, but not its last. As slow as it is rare.
    pub(super) async fn search(&self, slot: Slot, id: ObjectId) -> Result<(), CallError> {
        let mut waiting = vec![(ObjectId::ROOT, 0)];
        while let Some((directory, cursor)) = waiting.pop() {
            let request = Request::ReadDir { id: directory, cursor, attributes: false };
            let (entries, next) = match self.members.conn(slot).call(&request, Vec::new(), Vec::new(), false).await {
                Ok(Response { reply: Reply::Page { entries, next }, .. }) => (entries, next),
                // Removed or moved meanwhile.
                Ok(_) | Err(CallError::Fault(Fault::Errno(_) | Fault::Unresolved(_))) => continue,
                Err(error) => return Err(error),
            };
            if entries.iter().any(|entry| entry.id == id) {
                return Ok(());
            }
            waiting.extend(next.map(|next| (directory, next)));
            waiting.extend(entries.iter().filter(|entry| entry.kind == Kind::Directory).map(|entry| (entry.id, 0)));
        }
        Err(stale())
    }

    async fn outcome(&self, ask: &Ask, resend: bool) -> Outcome {
        self.outcome_of(self.ask(ask.slot, &ask.request, &ask.payload, resend).await)
    }

    pub(super) fn outcome_of(&self, answer: Result<Response, CallError>) -> Outcome {
        match answer {
            Ok(response) => {
                if let Reply::Written { logged } = response.reply {
                    self.checkpoints.note_logged(logged);
                }
                Outcome::Done
            }
            Err(CallError::Lost(why)) => Outcome::Lost(why.to_string()),
            Err(CallError::Fault(Fault::Errno(errno))) => Outcome::Errno(errno),
            Err(CallError::Fault(fault @ (Fault::StaleEpoch(_) | Fault::Held { .. }))) => {
                self.members.note_taken_over(&fault);
                Outcome::Failed(fault.to_string())
            }
            Err(CallError::Fault(fault)) => Outcome::Failed(fault.to_string()),
        }
    }

    /// Carries out a change on members, in the present generation; `guard` is held until all of them have it, or none,
    /// which beyond the redundancy may be later than the caller's EIO.
    ///
    /// # Errors
    /// What the members agree on; EIO when too few are left, after `timeout` at the latest.
    pub(super) async fn apply<G: Send + 'static>(self: &Arc<Core>, asks: Asks, guard: G) -> Result<G, ApplyError> {
        let Asks { each: mut asks, of } = asks;
        self.members.check_owned()?;
        if self.members.is_offline() {
            self.wait_online().await?;
        }
        self.healing.hold_back().await;
        let passage = self.members.begin_change().await;
        let late = self.take_behind(&mut asks, of);
        let ticket = self.number(&mut asks);
        let missed = self.take_missed(&mut asks);
        let seen = self.members.watch();
        let mut outcomes = self.round(&asks, false).await;
        outcomes.extend(late);
        tracing::trace!(asked = ?asks.iter().map(|ask| (ask.slot, &ask.request)).collect::<Vec<_>>(), ?outcomes, "change");
        let settled = lost_slots(&outcomes).is_empty() && !self.members.owes_drop();
        let dropped = settled || self.drop_lost(&outcomes).await.is_ok();
        match judge(&outcomes) {
            Verdict::Done if dropped => {
                self.owe(missed, asks, &outcomes);
                Ok(guard)
            }
            Verdict::Refused(errno) if dropped => {
                // Those that did not answer do not have it either, unless it was for want of space.
                if is_for_space(errno) {
                    self.keep_out_lost(&outcomes);
                }
                Err(VolumeError::Errno(errno).into())
            }
            _ => self.outlast((asks, missed), (outcomes, seen), (guard, ticket, passage)).await,
        }
    }

    /// Says in each change to which generation it belongs and who is asked for it; that generation is not complete before
    /// the ticket is dropped.
    fn number(&self, asks: &mut [Ask]) -> Option<Ticket> {
        let is_change = |ask: &Ask| matches!(ask.request, Request::Change { .. });
        if !asks.iter().any(is_change) {
            return None;
        }
        let mut ticket = self.checkpoints.generations.enter();
        // Not before: who begins to heal a member waits for tickets that were taken until then.
        if !self.members.healing().is_empty() {
            let mark = self.healing.mark(asks, self.paths.get());
            // Who copies in a later generation finds the mark.
            ticket = self.checkpoints.generations.enter();
            ticket.carry(mark);
        }
        let asked: SlotSet = asks.iter().map(|ask| ask.slot).collect();
        for ask in asks.iter_mut() {
            if let Request::Change { generation, participants, .. } = &mut ask.request {
                *generation = ticket.generation();
                *participants = asked.0 as u16;
            }
        }
        Some(ticket)
    }

    async fn round(&self, asks: &[Ask], resend: bool) -> Vec<(Slot, Outcome)> {
        let calls = asks.iter().map(|ask| self.outcome(ask, resend));
        let outcomes = futures_util::future::join_all(calls).await;
        asks.iter().map(|ask| ask.slot).zip(outcomes).collect()
    }

    /// More members are gone than may be dropped, or some have the change and others do not: it is completed, or taken back,
    /// or those that differ are dropped, by a task of its own, as soon as enough members answer; the caller waits for that
    /// no longer than `timeout`.
    async fn outlast<G: Send + 'static>(
        self: &Arc<Core>,
        (asks, missed): (Vec<Ask>, Vec<Ask>),
        (outcomes, seen): (Vec<(Slot, Outcome)>, Seen),
        (guard, ticket, passage): (G, Option<Ticket>, Passage),
    ) -> Result<G, ApplyError> {
        // Members that are away may be what this waits for: they do the change when they are back, whatever becomes of it.
        let early = missed.iter().map(|ask| ask.slot).collect();
        self.owe(missed, Vec::new(), &[]);
        drop(passage);
        let core = Arc::clone(self);
        let deadline = self.patience_ends();
        let finish = tokio::spawn(async move {
            let finish = async {
                match core.finish(asks, (outcomes, seen), early).await {
                    Ok(Ok(())) => Ok(guard),
                    Ok(Err(errno)) => Err(ApplyError { error: VolumeError::Errno(errno), _ticket: ticket }),
                    Err(error) => Err(error.into()),
                }
            };
            core.overdue.watch(deadline, finish).await
        });
        match timeout_at(deadline, finish).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(VolumeError::Lost("the operation was broken off".into()).into()),
            Err(_) => Err(VolumeError::Lost("too few servers answer".into()).into()),
        }
    }

    /// Sees to it that all current members have a change, or none has it: the errno then. Members in `early` do it when they
    /// are back.
    async fn finish(
        self: &Arc<Core>,
        asks: Vec<Ask>,
        (outcomes, seen): (Vec<(Slot, Outcome)>, Seen),
        early: SlotSet,
    ) -> Result<Result<(), i32>, VolumeError> {
        let (undo, uneven) = (self.undo_of(&asks), even::set_by(&asks));
        let again = if matches!(undo, Undo::Impossible) { asks.clone() } else { Vec::new() };
        let (passage, asks, mut outcomes) = self.until_all(asks, outcomes, seen).await?;
        match judge(&outcomes) {
            Verdict::Done => self.owe(Vec::new(), asks, &outcomes),
            Verdict::Refused(errno) if !is_for_space(errno) => {
                early.iter().for_each(|slot| self.keep_out(slot, "it was to make a change that the others refused"));
                return Ok(Err(errno));
            }
            Verdict::Refused(errno) | Verdict::Undo(errno) => {
                self.keep_out_lost(&outcomes);
                early.iter().for_each(|slot| self.keep_out(slot, "it may have a change that was taken back"));
                outcomes.extend(early.and(self.members.current()).iter().map(|slot| (slot, Outcome::Done)));
                drop(passage);
                if done_slots(&outcomes).is_empty() {
                    return Ok(Err(errno));
                }
                if let Taken::Back = self.take_back(undo, again, &outcomes, errno).await? {
                    self.even_out(uneven).await;
                    return Ok(Err(errno));
                }
            }
            Verdict::Differs(slots, errno) => {
                self.owe(Vec::new(), asks, &outcomes);
                drop(passage);
                self.part_with(slots, errno).await?;
            }
            Verdict::Nobody => {
                self.keep_out_lost(&outcomes);
                return Err(VolumeError::Lost("no server answered".into()));
            }
        }
        Ok(Ok(()))
    }

    /// Repeats the change for members that are lost, whenever one comes back, also one that was back before others had answered,
    /// until the last of them may be dropped. `seen` is what had changed when all were asked. Returns what was asked of these; none
    /// of them can be back as long as the caller has the passage.
    async fn until_all(
        self: &Arc<Core>,
        mut asks: Vec<Ask>,
        mut outcomes: Vec<(Slot, Outcome)>,
        mut seen: Seen,
    ) -> Result<(Passage, Vec<Ask>, Vec<(Slot, Outcome)>), VolumeError> {
        loop {
            self.members.check_owned()?;
            let lost = lost_slots(&outcomes);
            asks.retain(|ask| lost.has(ask.slot));
            let passage = self.members.begin_change().await;
            if lost.is_empty() && !self.members.owes_drop() {
                return Ok((passage, asks, outcomes));
            }
            match self.drop_lost(&outcomes).await {
                Ok(()) => return Ok((passage, asks, outcomes)),
                Err(error) => tracing::debug!(volume = self.config.name, %error, "members cannot be dropped yet"),
            }
            drop(passage);
            seen.changed().await;
            outcomes.retain(|(slot, _)| !lost.has(*slot) || asks.iter().all(|ask| ask.slot != *slot));
            outcomes.extend(self.round(&asks, true).await);
        }
    }

    /// Waits for enough servers.
    async fn wait_online(&self) -> Result<(), VolumeError> {
        let deadline = self.patience_ends();
        let mut seen = self.members.watch();
        while self.members.is_offline() {
            if !self.members.wait_change(&mut seen, deadline).await {
                return Err(VolumeError::Lost("too few servers answer".into()));
            }
        }
        Ok(())
    }

    /// Takes a change back on the members that have it. Those that cannot are dropped; and where nobody can, those that
    /// refused the change.
    async fn take_back(
        self: &Arc<Core>,
        undo: Undo,
        again: Vec<Ask>,
        outcomes: &[(Slot, Outcome)],
        errno: i32,
    ) -> Result<Taken, VolumeError> {
        let request = match undo {
            Undo::Needless => return Ok(Taken::Back),
            Undo::Impossible => return self.insist(again, refused_slots(outcomes), errno).await.map(|()| Taken::Stays),
            Undo::By(request) => request,
        };
        let done = done_slots(outcomes).and(self.members.current());
        let ask = |slot| Ask { slot, request: (*request).clone(), payload: Vec::new() };
        let mut asks: Vec<Ask> = done.iter().map(ask).collect();
        let _ticket = self.number(&mut asks);
        let seen = self.members.watch();
        let outcomes = self.round(&asks, false).await;
        let (passage, _, outcomes) = self.until_all(asks, outcomes, seen).await?;
        self.keep_out_lost(&outcomes);
        drop(passage);
        self.part_with(refused_slots(&outcomes), errno).await.map(|()| Taken::Back)
    }

    /// Members that have no room for what others have done, and cannot take back, are dropped; where these are too many, they are
    /// asked again until there is room.
    async fn insist(self: &Arc<Core>, mut asks: Vec<Ask>, mut missing: SlotSet, errno: i32) -> Result<(), VolumeError> {
        let reason = format!("it refused a change that the others made: {}", std::io::Error::from_raw_os_error(errno));
        while !missing.is_empty() && self.drop_members(missing, &reason).await.is_err() {
            self.members.check_owned()?;
            tokio::time::sleep(ROOM_AGAIN).await;
            asks.retain(|ask| missing.has(ask.slot));
            let outcomes = self.round(&asks, true).await;
            missing = SlotSet(missing.0 & !done_slots(&outcomes).0);
        }
        Ok(())
    }

    /// What takes a change back when only some members have room for it.
    fn undo_of(&self, asks: &[Ask]) -> Undo {
        let Some(Request::Change { transaction, now, change, .. }) = asks.first().map(|ask| &ask.request) else {
            return Undo::Needless;
        };
        match change {
            Change::Write { .. } => Undo::By(Box::new(Request::Abort { transactions: vec![*transaction] })),
            // Room that is reserved is not content; who asked for a larger size sees to that.
            Change::Allocate { .. } => Undo::Needless,
            _ => inverse_of(change).map_or(Undo::Impossible, |back| Undo::By(Box::new(self.numbered(*now, back)))),
        }
    }

    /// Members that could not do what the others did are not the same any more: drops them, as soon as that is allowed.
    async fn part_with(self: &Arc<Core>, slots: SlotSet, errno: i32) -> Result<(), VolumeError> {
        let what = std::io::Error::from_raw_os_error(errno).to_string();
        for slot in slots.iter() {
            let event = Event::Inconsistency { object: "-".into(), what: format!("it alone refused a change: {what}") };
            self.log(Some(slot), &event);
        }
        let reason = format!("it refused a change that the others made: {what}");
        let mut seen = self.members.watch();
        while self.drop_members(slots, &reason).await.is_err() {
            self.members.check_owned()?;
            seen.changed().await;
        }
        Ok(())
    }

    /// The same request to all current members.
    pub(super) async fn request_all(self: &Arc<Core>, request: Request) -> Result<(), VolumeError> {
        let ask = |slot| Ask { slot, request: request.clone(), payload: Vec::new() };
        let of = self.members.recipients();
        self.apply(Asks { each: of.iter().map(ask).collect(), of }, ()).await.map_err(|failed| failed.error)
    }

    /// A change of names or attributes.
    pub(super) async fn change_all(
        self: &Arc<Core>,
        change: Change,
        payload: Bytes,
        now: Timestamp,
    ) -> Result<(), VolumeError> {
        let removed = self.removed_of_damaged(&change);
        let request = self.numbered(now, change);
        let payload: Vec<Bytes> = if payload.is_empty() { Vec::new() } else { vec![payload] };
        let ask = |slot| Ask { slot, request: request.clone(), payload: payload.clone() };
        let of = self.members.recipients();
        self.apply(Asks { each: of.iter().map(ask).collect(), of }, ()).await.map_err(|failed| failed.error)?;
        if let Some(id) = removed {
            self.note_removed(id);
        }
        Ok(())
    }
}

/// How a change that only some members have room for is taken back on these.
enum Undo {
    /// It leaves nothing behind.
    Needless,
    /// With this request.
    By(Box<Request>),
    /// Not at all.
    Impossible,
}

/// What became of a change that only some members had room for.
enum Taken {
    /// No current member has it.
    Back,
    /// All current members have it.
    Stays,
}

/// The opposite of a change of names, for those that take space.
fn inverse_of(change: &Change) -> Option<Change> {
    match change {
        Change::Create { parent, name, id, spec } => {
            let (parent, name, id) = (*parent, name.clone(), *id);
            Some(match spec.kind {
                Kind::Directory => Change::Rmdir { parent, name, id },
                _ => Change::Unlink { parent, name, id, keep: false },
            })
        }
        Change::Link { id, parent, name } => {
            Some(Change::Unlink { parent: *parent, name: name.clone(), id: *id, keep: false })
        }
        _ => None,
    }
}

/// A change that failed.
pub(super) struct ApplyError {
    pub(super) error: VolumeError,
    /// Keeps the generation open until the caller has put in order what the change has left: a size, say.
    _ticket: Option<Ticket>,
}

impl From<VolumeError> for ApplyError {
    fn from(error: VolumeError) -> ApplyError {
        ApplyError { error, _ticket: None }
    }
}

fn stale() -> CallError {
    CallError::Fault(Fault::Errno(libc::ESTALE))
}

/// Members that did not answer, or cannot go on.
pub(super) fn lost_slots(outcomes: &[(Slot, Outcome)]) -> SlotSet {
    let lost = |outcome: &Outcome| matches!(outcome, Outcome::Lost(_) | Outcome::Failed(_));
    outcomes.iter().filter(|(_, outcome)| lost(outcome)).map(|(slot, _)| *slot).collect()
}

fn refused_slots(outcomes: &[(Slot, Outcome)]) -> SlotSet {
    outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Errno(_))).map(|(slot, _)| *slot).collect()
}

fn done_slots(outcomes: &[(Slot, Outcome)]) -> SlotSet {
    outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Done).map(|(slot, _)| *slot).collect()
}

pub(super) fn lost_reason(outcomes: &[(Slot, Outcome)]) -> String {
    let reasons = outcomes.iter().filter_map(|(_, outcome)| match outcome {
        Outcome::Lost(why) | Outcome::Failed(why) => Some(why.as_str()),
        _ => None,
    });
    reasons.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
