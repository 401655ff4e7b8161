//! Recovery: what a new owner does with a volume that nobody gave up.
//!
//! Changes that were under way when the last owner went may be on some members only. Before anything is served they are
//! made whole or taken back, so that all current members are equal: bytes by their logs ([`decide`]), then names by
//! what the members have ([`names`]), then sizes and attributes. Every step can be interrupted and begun again: the
//! next owner finds the holder in the labels, and recovers too.

mod attributes;
pub(super) mod decide;
#[cfg(test)]
mod model;
mod names;
mod walk;

use std::sync::Arc;

use bytes::Bytes;
use net_raid_proto::ids::{Generation, ObjectId, Slot, Timestamp, Transaction};
use net_raid_proto::message::{Change, Entry, Fault, Kind, LogEntry, Logged, NewObject, Reply, Request};

use super::query::nonsense;
use super::{Core, VolumeError};
use crate::conn::{CallError, Response};
use crate::events::Event;
use crate::layout::{Geometry, SlotSet};
use decide::Cut;
use names::{Plan, Step, View, What};

/// Transactions of one `Abort`: at most 10 bytes each, far below a body's limit.
const ABORT_MAX: usize = 4096;
/// Times that one member is told where an object is before it counts as broken.
const SHOW_MAX: usize = 8;
/// Objects that are looked at together.
const TOGETHER: usize = 32;

/// What was put right.
#[derive(Debug, Default)]
struct Counts {
    writes: usize,
    cuts: usize,
    names: usize,
    sizes: usize,
    attributes: usize,
}

/// Why recovery cannot go on as it is.
#[derive(Debug)]
enum Trouble {
    /// A member cannot do its part: the others go on without it.
    Member(Slot, String),
    /// Nothing helps.
    Volume(VolumeError),
}

impl Trouble {
    fn nonsense(slot: Slot) -> Trouble {
        Trouble::Member(slot, nonsense().to_string())
    }
}

type Result<T> = std::result::Result<T, Trouble>;

/// One attempt, with the members that are current now.
struct Recovery<'a> {
    core: &'a Arc<Core>,
    /// What belongs to this generation, or to one before, is durable and the same on all members.
    complete: Generation,
    slots: Vec<Slot>,
}

impl Core {
    /// Makes all current members equal; `complete` is the newest generation that any of them completed.
    ///
    /// # Errors
    /// When too few members are left that can take part.
    pub(super) async fn recover(self: &Arc<Core>, complete: Generation) -> std::result::Result<(), VolumeError> {
        loop {
            let slots = self.members.current().iter().collect();
            let recovery = Recovery { core: self, complete, slots };
            match recovery.run().await {
                Ok(Counts { writes, cuts, names, sizes, attributes }) => {
                    self.checkpoint().await?;
                    self.log(None, &Event::Recovered { writes, cuts, names, sizes, attributes });
                    return Ok(());
                }
                Err(Trouble::Volume(error)) => return Err(error),
                // What was done so far is found done by the next attempt.
                Err(Trouble::Member(slot, why)) => {
                    let reason = format!("it could not be recovered: {why}");
                    self.drop_members(SlotSet::default().with(slot), &reason).await?;
                }
            }
        }
    }
}

impl Recovery<'_> {
    async fn run(&self) -> Result<Counts> {
        // All have that checkpoint, or nobody would have completed it; some may have been stopped before they did.
        let complete = &Request::Complete { generation: self.complete };
        self.each(|slot| async move { self.ask((slot, &View::default()), complete, &[]).await }).await?;
        let logs = self.each(|slot| async move { Ok((slot, self.log_of(slot).await?)) }).await?;
        let decision = decide::decide(&logs, self.complete);
        self.abort(&decision.dropped).await?;
        let mut views = self.walk().await?;
        self.repeat_cuts(&mut views, &decision.cuts).await?;
        let plan = names::plan(&views);
        self.carry_out(&mut views, &plan).await?;
        Ok(Counts {
            writes: decision.dropped.len(),
            cuts: decision.cuts.len(),
            names: plan.steps.iter().map(|(_, steps)| steps.len()).sum(),
            sizes: self.equal_sizes(&views, &plan).await?,
            attributes: self.equal_attributes(&views, &plan).await?,
        })
    }

    /// Does the same for all members at once.
    async fn each<T, F: Future<Output = Result<T>>>(&self, call: impl Fn(Slot) -> F) -> Result<Vec<T>> {
        futures_util::future::try_join_all(self.slots.iter().copied().map(call)).await
    }

    /// Asks one member; faults are the caller's to judge.
    async fn call(
        &self,
        slot: Slot,
        request: &Request,
        payload: &[Bytes],
    ) -> Result<std::result::Result<Response, Fault>> {
        match self.core.members.conn(slot).call(request, payload.to_vec(), Vec::new(), false).await {
            Ok(response) => Ok(Ok(response)),
            Err(CallError::Fault(fault @ (Fault::StaleEpoch(_) | Fault::Held { .. }))) => {
                self.core.members.note_taken_over(&fault);
                Err(Trouble::Volume(VolumeError::Lost(fault.to_string())))
            }
            Err(CallError::Fault(fault)) => Ok(Err(fault)),
            Err(CallError::Lost(why)) => Err(Trouble::Member(slot, why.to_string())),
        }
    }

    /// Asks one member, and shows it objects that it does not know where `view` says that they are.
    async fn ask(&self, (slot, view): (Slot, &View), request: &Request, payload: &[Bytes]) -> Result<Reply> {
        for _ in 0..SHOW_MAX {
            match self.call(slot, request, payload).await? {
                Ok(response) => return Ok(response.reply),
                Err(Fault::Unresolved(id)) => self.show((slot, view), id).await?,
                Err(fault) => return Err(Trouble::Member(slot, format!("{}: {fault}", words(request)))),
            }
        }
        Err(Trouble::Member(slot, format!("{}: the object cannot be found", words(request))))
    }

    async fn show(&self, (slot, view): (Slot, &View), id: ObjectId) -> Result<()> {
        let Some(path) = view.path(id) else { return self.search(slot, id).await.map(|_| ()) };
        for (parent, name) in path {
            // A name that is not there is no answer: the question is asked again, and fails for good.
            let _ = self.call(slot, &Request::Lookup { parent, name }, &[]).await?;
        }
        Ok(())
    }

    /// Lets a member come by an object whose names are in directories that are the same everywhere; whether it did.
    async fn search(&self, slot: Slot, id: ObjectId) -> Result<bool> {
        match self.core.search(slot, id).await {
            Ok(()) => Ok(true),
            Err(CallError::Fault(_)) => Ok(false),
            Err(CallError::Lost(why)) => Err(Trouble::Member(slot, why.to_string())),
        }
    }

    /// A change for one member alone.
    fn alone(&self, slot: Slot, transaction: Transaction, now: Timestamp, change: Change) -> Request {
        let mut request = self.core.change(transaction, now, change);
        if let Request::Change { participants, generation, .. } = &mut request {
            *participants = 1 << slot.0;
            // The last that the owner before can have begun: what is done here is found undone, or done, by the next recovery if
            // this one is interrupted, and goes into logs behind what they hold.
            *generation = Generation(self.complete.0 + 2);
        }
        request
    }

    async fn change(&self, to: (Slot, &View), now: Timestamp, change: Change, payload: Bytes) -> Result<()> {
        let request = self.alone(to.0, self.core.transaction(), now, change);
        let payload = if payload.is_empty() { Vec::new() } else { vec![payload] };
        self.ask(to, &request, &payload).await.map(|_| ())
    }

    async fn log_of(&self, slot: Slot) -> Result<Vec<LogEntry>> {
        let (mut log, mut cursor) = (Vec::new(), 0);
        loop {
            match self.ask((slot, &View::default()), &Request::ReadLog { cursor }, &[]).await? {
                Reply::Log { entries, next } => {
                    log.extend(entries);
                    let Some(next) = next else { return Ok(log) };
                    cursor = next;
                }
                _ => return Err(Trouble::nonsense(slot)),
            }
        }
    }

    /// Every member hears of every dropped write: one that does not have it does nothing.
    async fn abort(&self, dropped: &[Transaction]) -> Result<()> {
        for transactions in dropped.chunks(ABORT_MAX) {
            let request = &Request::Abort { transactions: transactions.to_vec() };
            self.each(|slot| async move { self.ask((slot, &View::default()), request, &[]).await }).await?;
        }
        Ok(())
    }

    async fn repeat_cuts(&self, views: &mut [(Slot, View)], cuts: &[(Slot, Cut)]) -> Result<()> {
        for (slot, view) in views {
            for (_, cut) in cuts.iter().filter(|(member, _)| member == slot) {
                // What was removed there meanwhile is made equal with the names.
                let Some(entry) = view.objects.get(&cut.id) else { continue };
                let change = cut_on(*slot, cut, entry);
                let request = self.alone(*slot, cut.transaction, self.core.world.clock.now(), change);
                self.ask((*slot, view), &request, &[]).await?;
                if let (Logged::Truncate { size, .. }, Some(entry)) = (&cut.what, view.objects.get_mut(&cut.id)) {
                    entry.attr.size = *size;
                }
            }
        }
        Ok(())
    }

    /// Carries the steps out, and leaves the views as they are then.
    async fn carry_out(&self, views: &mut Vec<(Slot, View)>, plan: &Plan) -> Result<()> {
        let before = &*views;
        let after = self.each(|slot| async move { Ok((slot, self.carry_out_on(slot, before, plan).await?)) }).await?;
        *views = after;
        Ok(())
    }

    async fn carry_out_on(&self, slot: Slot, views: &[(Slot, View)], plan: &Plan) -> Result<View> {
        let mut view = walk::view_of(views, slot).cloned().unwrap_or_default();
        let steps = plan.steps.iter().find(|(member, _)| *member == slot).map_or(&[][..], |(_, steps)| steps);
        let now = self.core.world.clock.now();
        for step in steps {
            tracing::info!(%slot, ?step, "recovery of names");
            let made = names::made(views, &plan.source, step.id);
            let change = self.change_of(step, (slot, &view), views, plan).await?;
            self.change((slot, &view), now, change, Bytes::new()).await?;
            view.apply(step, made);
        }
        Ok(view)
    }

    async fn change_of(&self, step: &Step, to: (Slot, &View), views: &[(Slot, View)], plan: &Plan) -> Result<Change> {
        let (id, (parent, name)) = (step.id, step.place.clone());
        if step.what == What::Link && to.1.path(id).is_none() {
            let named = self.find_one(to.0, id, true).await?.is_some_and(|entry| entry.attr.nlink > 0);
            if !named {
                // Its other name is among the orphans: a replacing rename was interrupted.
                return Ok(Change::Attach { id, parent, name });
            }
        }
        if let Some(change) = step.change() {
            return Ok(change);
        }
        let missing = || Trouble::Member(to.0, "an object that is to be made is nowhere".into());
        let entry = names::made(views, &plan.source, id).ok_or_else(missing)?;
        let target = match (&entry.attr.kind, plan.source.get(&id)) {
            (Kind::Symlink, Some(source)) => self.target(*source, views, id).await?,
            _ => Vec::new(),
        };
        Ok(Change::Create { parent, name, id, spec: Box::new(spec(entry, target)) })
    }

    async fn target(&self, slot: Slot, views: &[(Slot, View)], id: ObjectId) -> Result<Vec<u8>> {
        let view = walk::view_of(views, slot).ok_or_else(|| Trouble::nonsense(slot))?;
        match self.ask((slot, view), &Request::ReadLink { id }, &[]).await? {
            Reply::Bytes(target) => Ok(target),
            _ => Err(Trouble::nonsense(slot)),
        }
    }
}

/// A cut as the member in `slot` must do it.
fn cut_on(slot: Slot, cut: &Cut, entry: &Entry) -> Change {
    let id = cut.id;
    match cut.what {
        Logged::Truncate { size, .. } => {
            let brick_len = Geometry::new(entry.layout, id).brick_len(size, slot);
            Change::Truncate { id, size, brick_len, mtime: None, mode: None }
        }
        Logged::Punch { unit, count } => Change::Punch { id, unit, count, mtime: None },
        // Not a cut; nothing of it is repeated.
        Logged::Write { .. } => Change::Punch { id, unit: 0, count: 0, mtime: None },
    }
}

/// An object that is no regular file, made anew; extended attributes follow with those of all others.
fn spec(entry: &Entry, target: Vec<u8>) -> NewObject {
    NewObject {
        kind: entry.attr.kind.clone(),
        mode: entry.attr.mode,
        uid: entry.attr.uid,
        gid: entry.attr.gid,
        target,
        layout: entry.layout,
        xattrs: Vec::new(),
    }
}

/// What was asked, for an error's text.
fn words(request: &Request) -> &'static str {
    match request {
        Request::ReadLog { .. } => "reading its log",
        Request::Abort { .. } => "taking writes back",
        Request::Change { .. } => "a change of names or attributes",
        _ => "looking at its names",
    }
}
