//! Who is in, who is out: drops, returns, and waiting for servers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use net_raid_proto::ids::{BrickId, Epoch, Slot};
use net_raid_proto::limits::{RENEW_MS, VOTERS_MAX};
use net_raid_proto::membership::{FORCED_MAX, Membership};
use net_raid_proto::message::{Fault, Request};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::away::Away;
use super::changes::{Changes, Seen};
use super::fanout::{Outcome, lost_reason, lost_slots};
use super::quorum::{self, Change, Shortage};
use super::{Core, VolumeError};
use crate::config::ServerAddr;
use crate::conn::{CallError, Conn, LinkState, Session};
use crate::events::Event;
use crate::layout::SlotSet;

/// A member's or spare's connection and brick.
pub(super) struct Seat {
    pub(super) conn: Arc<Conn>,
    pub(super) brick: Option<BrickId>,
}

/// The members of a volume, and its spares.
pub(super) struct Members {
    /// By slot.
    pub(super) seats: Vec<Seat>,
    pub(super) spares: Vec<Seat>,
    pub(super) session: Session,
    record: Mutex<Membership>,
    /// Older records that were found, until the present one is known to be on all its voters.
    others: Mutex<Vec<Membership>>,
    /// Slots that the record calls current, and, 32 bits higher, those that are away.
    standing: AtomicU64,
    pub(super) away: Away,
    writing: tokio::sync::Mutex<Writing>,
    /// Changes whenever a connection does.
    changed: Changes,
    taken_over: OnceLock<String>,
    /// Since when too few current members answer.
    offline_since: Mutex<Option<Instant>>,
}

/// What is known of the records that voters may hold. One is written at a time.
struct Writing {
    /// The newest version that any voter may hold.
    newest: u64,
    /// Members that are back, until all voters know that.
    back: SlotSet,
}

impl Writing {
    /// Some voters may hold what another member's failure broke off: a version says one thing only.
    fn next_version(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }
}

impl Members {
    pub(super) fn new(seats: Vec<Seat>, spares: Vec<Seat>, session: Session, record: Membership) -> Members {
        let current: SlotSet = record.current_slots().collect();
        Members {
            seats,
            spares,
            standing: AtomicU64::new(current.0.into()),
            away: Away::default(),
            // Out of reach there may be records of former owners, of any version that these came to.
            writing: tokio::sync::Mutex::new(Writing {
                newest: record.version.max(Membership::first_version(record.forced(), session.epoch)),
                back: SlotSet::default(),
            }),
            session,
            record: Mutex::new(record),
            others: Mutex::default(),
            changed: Changes::default(),
            taken_over: OnceLock::new(),
            offline_since: Mutex::new(None),
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.session.epoch
    }

    pub(super) fn server(&self, slot: Slot) -> &ServerAddr {
        self.seats[slot.index()].conn.server()
    }

    pub(super) fn conn(&self, slot: Slot) -> &Arc<Conn> {
        &self.seats[slot.index()].conn
    }

    /// Members that hold everything.
    pub(super) fn current(&self) -> SlotSet {
        SlotSet(self.standing.load(Ordering::Acquire) as u32)
    }

    /// Members that were current a moment ago, and will be if they are back soon.
    pub(super) fn away(&self) -> SlotSet {
        SlotSet((self.standing.load(Ordering::Acquire) >> 32) as u32)
    }

    /// Members that every change is meant for: those that are current, and those that are away.
    pub(super) fn recipients(&self) -> SlotSet {
        let standing = self.standing.load(Ordering::Acquire);
        SlotSet(standing as u32 | (standing >> 32) as u32)
    }

    /// A member that was away is out for good.
    pub(super) fn set_out(&self, slot: Slot) {
        self.standing.fetch_and(!(1 << (32 + slot.0)), Ordering::AcqRel);
        self.changed.note();
    }

    /// What the record says from now on. Members of `away` were dropped with it and may come back.
    fn stand(&self, record: &Membership, away: SlotSet) {
        let current: SlotSet = record.current_slots().collect();
        let stand = |before: u64| {
            let away = ((before >> 32) as u32 | away.0) & !current.0;
            u64::from(away) << 32 | u64::from(current.0)
        };
        // It always says something new.
        let _ = self.standing.fetch_update(Ordering::AcqRel, Ordering::Acquire, |before| Some(stand(before)));
    }

    /// Current members that can be asked now.
    pub(super) fn readable(&self) -> SlotSet {
        self.current().iter().filter(|slot| self.conn(*slot).is_up()).collect()
    }

    pub(super) fn record(&self) -> Membership {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A record that is tried: voters may have it from now on, whatever becomes of it.
    fn heed_too(&self, record: Membership) {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    fn others(&self) -> Vec<Membership> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Voters of these records count too until the next record is stored.
    pub(super) fn heed(&self, others: Vec<Membership>) {
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = others;
    }

    /// An error for good, when another client took the volume over.
    pub(super) fn check_owned(&self) -> Result<(), VolumeError> {
        match self.taken_over.get() {
            None => Ok(()),
            Some(fault) => Err(VolumeError::Lost(format!("this client no longer owns the volume: {fault}"))),
        }
    }

    pub(super) fn note_taken_over(&self, fault: &Fault) {
        if self.taken_over.set(fault.to_string()).is_ok() {
            // Whoever waits for servers waits in vain, and the task that says so is to.
            self.changed.note();
        }
    }

    /// Waits until some connection changes; `false` when `deadline` came first.
    pub(super) async fn wait_change(&self, seen: &mut Seen, deadline: Instant) -> bool {
        timeout_at(deadline, seen.changed()).await.is_ok()
    }

    pub(super) fn watch(&self) -> Seen {
        self.changed.watch()
    }

    pub(super) fn is_offline(&self) -> bool {
        self.offline_since().is_some()
    }

    fn offline_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.offline_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Follows the connections of all members: logs what happens and wakes who waits.
    pub(super) fn follow(self: &Arc<Core>) {
        tokio::spawn(keep_ownership(Arc::downgrade(self)));
        for slot in 0..self.members.seats.len() {
            let slot = Slot(slot as u8);
            let states = self.members.conn(slot).watch();
            tokio::spawn(follow_one(Arc::downgrade(self), slot, states));
        }
    }

    /// Asks the current members whose they are. As long as another client has so few of them that the rest suffices, they are
    /// members that fail.
    async fn ask_whose(&self) {
        let current: Vec<Slot> = self.members.current().iter().collect();
        let answers = futures_util::future::join_all(current.iter().map(|slot| self.owner_of(*slot))).await;
        let others: Vec<Epoch> = answers.into_iter().flatten().collect();
        let left = current.len() - others.len();
        if let Some(epoch) = others.into_iter().max().filter(|_| left < self.members.record().members_needed()) {
            self.members.note_taken_over(&Fault::StaleEpoch(epoch));
        }
    }

    /// The epoch in which another client has a member.
    async fn owner_of(&self, slot: Slot) -> Option<Epoch> {
        let conn = self.members.conn(slot);
        if !conn.is_up() {
            return conn.replaced();
        }
        match conn.call(&Request::Ping, Vec::new(), Vec::new(), false).await {
            Err(CallError::Fault(Fault::StaleEpoch(epoch))) => Some(epoch),
            _ => None,
        }
    }

    async fn note_state(&self, slot: Slot, state: &LinkState) {
        match state {
            LinkState::Lost(reason) => {
                self.log(Some(slot), &Event::ServerLost { reason: reason.to_string() });
                self.check_online();
            }
            LinkState::Up(_) if self.members.current().has(slot) => {
                self.refresh_record(slot).await;
                self.log(Some(slot), &Event::ServerResumed);
                self.check_online();
            }
            // What it missed comes first.
            LinkState::Up(_) if self.members.away().has(slot) => {}
            LinkState::Up(brick) => {
                if !self.tell_if_left_out(slot, brick).await {
                    self.log(Some(slot), &Event::ServerBack);
                }
            }
            LinkState::Broken | LinkState::Closed => {}
        }
    }

    /// Until when an operation waits for servers that are out of reach: one that begins when they have been
    /// away for longer does not wait at all, so that a program that tries again and again is not held up each time.
    pub(super) fn patience_ends(&self) -> Instant {
        self.members.offline_since().unwrap_or_else(Instant::now) + self.timeout()
    }

    /// Says once when the volume goes beyond its redundancy, and once when it is back.
    fn check_online(&self) {
        let (readable, needed) = (self.members.readable().len(), self.members.record().members_needed());
        let offline = readable < needed;
        {
            let mut since = self.members.offline_since();
            if since.is_some() == offline {
                return;
            }
            *since = offline.then(Instant::now);
        }
        if offline {
            let reason = format!("{readable} current servers answer, {needed} are needed");
            self.log(None, &Event::VolumeOffline { reason });
        } else {
            self.log(None, &Event::VolumeOnline);
        }
    }

    /// A member that was away while another one was dropped learns of that; not while the record is being written, because
    /// there is an order in which voters have to learn of returns.
    pub(super) async fn refresh_record(&self, slot: Slot) {
        let writing = self.members.writing.lock().await;
        if !writing.back.is_empty() {
            return;
        }
        let request = Request::SetMembership { membership: self.members.record() };
        if let Err(error) = self.members.conn(slot).call(&request, Vec::new(), Vec::new(), false).await {
            tracing::debug!(%slot, %error, "membership record not refreshed");
        }
    }

    /// Drops members for good: once this returns, nothing that they miss can be served from them, whatever
    /// restarts in whatever order.
    ///
    /// # Errors
    /// When the redundancy or the number of voters does not allow it.
    pub(super) async fn drop_members(self: &Arc<Core>, lost: SlotSet, reason: &str) -> Result<(), VolumeError> {
        lost.iter().for_each(|slot| self.keep_out(slot, reason));
        self.drop_for(lost, SlotSet::default(), reason).await
    }

    /// Drops the members that did not answer; those whose connections broke a moment ago are away then.
    pub(super) async fn drop_lost(self: &Arc<Core>, outcomes: &[(Slot, Outcome)]) -> Result<(), VolumeError> {
        let broke = outcomes.iter().filter(|(slot, outcome)| match outcome {
            Outcome::Lost(_) => self.broke_lately(*slot),
            _ => false,
        });
        let may_return = broke.map(|(slot, _)| *slot).collect();
        self.drop_for(lost_slots(outcomes), may_return, &lost_reason(outcomes)).await
    }

    async fn drop_for(self: &Arc<Core>, lost: SlotSet, may_return: SlotSet, reason: &str) -> Result<(), VolumeError> {
        let mut writing = self.members.writing.lock().await;
        let lost = lost.and(self.members.current());
        if lost.is_empty() {
            return Ok(());
        }
        self.store(&mut writing, Change { lost, back: None }, may_return, reason).await
    }

    fn broke_lately(&self, slot: Slot) -> bool {
        self.members.conn(slot).broke_at().is_some_and(|at| at.elapsed() < self.config.stall)
    }

    /// Writes the record anew. A former owner may have gone while it wrote it: some of its voters do not have it then,
    /// and could begin without the others.
    pub(super) async fn confirm_record(self: &Arc<Core>) -> Result<(), VolumeError> {
        let mut writing = self.members.writing.lock().await;
        let reason = "it failed when the volume was mounted";
        self.store(&mut writing, Change::default(), SlotSet::default(), reason).await
    }

    /// Makes a member current again that has everything by now. The caller sees to it that nothing is changed meanwhile.
    ///
    /// # Errors
    /// When too few voters can be reached, or it is not away any more.
    pub(super) async fn reinstate(self: &Arc<Core>, slot: Slot) -> Result<(), VolumeError> {
        let mut writing = self.members.writing.lock().await;
        let nobody = SlotSet::default();
        let mut others = self.members.others();
        others.push(self.members.record());
        // As soon as one voter has the new record the next owner may go by it. So this one does, too: whoever fails while
        // it is written is dropped from it, the returned member as well.
        let mut record = self.changed(Change { lost: nobody, back: Some(slot) })?;
        record.version = writing.next_version();
        if !self.members.away.end(slot) {
            return Err(VolumeError::Lost("it was left out meanwhile".into()));
        }
        self.adopt(record, nobody);
        writing.back = writing.back.with(slot);
        self.members.heed(others);
        let stored = self.store(&mut writing, Change::default(), nobody, "it failed when a server came back").await;
        if let Err(error) = stored {
            // Until then the voters believe less than is true.
            tracing::warn!(volume = self.config.name, %error, "the membership record is written with the next change");
        }
        self.log(Some(slot), &Event::ServerResumed);
        Ok(())
    }

    /// Writes the record with a change, without those members too that fail at that.
    async fn store(
        self: &Arc<Core>,
        writing: &mut Writing,
        change: Change,
        may_return: SlotSet,
        reason: &str,
    ) -> Result<(), VolumeError> {
        let record = |lost| self.changed(Change { lost, ..change });
        let lost = self.store_without(writing, change.lost, may_return, record).await?;
        for slot in lost.iter().filter(|slot| !may_return.has(*slot)) {
            self.log(Some(slot), &Event::MemberDropped { slot: slot.0, reason: reason.to_string() });
        }
        Ok(())
    }

    /// Writes the record that `without` makes of the present one, the members that are absent, and the bricks that are here, which beats
    /// all records that others can write. Returns who is absent then.
    pub(super) async fn store_forced(
        self: &Arc<Core>,
        absent: SlotSet,
        without: impl Fn(&Membership, SlotSet, &[BrickId]) -> Result<Membership, Shortage>,
    ) -> Result<SlotSet, VolumeError> {
        let mut writing = self.members.writing.lock().await;
        let old = self.members.record();
        let forced = old.forced() + 1;
        if forced == FORCED_MAX {
            return Err(VolumeError::Lost("members were left out too often".into()));
        }
        writing.newest = Membership::first_version(forced, self.members.epoch());
        let without = |lost| {
            without(&old, lost, &self.reachable_voters(&old, lost)).map_err(|shortage| shortage_words(&old, shortage))
        };
        self.store_without(&mut writing, absent, SlotSet::default(), without).await
    }

    /// Stores a record without `lost`, and without those that fail at that; returns all of them. Those in `may_return` are away
    /// from then on.
    async fn store_without(
        self: &Arc<Core>,
        writing: &mut Writing,
        mut lost: SlotSet,
        may_return: SlotSet,
        without: impl Fn(SlotSet) -> Result<Membership, VolumeError>,
    ) -> Result<SlotSet, VolumeError> {
        loop {
            let mut record = without(lost)?;
            record.version = writing.next_version();
            let failed = self.store_record(&record, writing.back).await?;
            if failed.is_empty() {
                writing.back = SlotSet::default();
                let away = may_return.and(lost);
                // What is acknowledged from here on, they miss.
                away.iter().for_each(|slot| self.members.away.begin(slot));
                self.adopt(record, away);
                away.iter().for_each(|slot| drop(tokio::spawn(Arc::clone(self).bring_back(slot))));
                return Ok(lost);
            }
            lost = SlotSet(lost.0 | failed.0);
        }
    }

    /// Writes a record in which `bricks` vote too.
    pub(super) async fn add_voters(&self, bricks: &[BrickId]) -> Result<(), VolumeError> {
        let mut writing = self.members.writing.lock().await;
        let mut record = self.members.record();
        let known = record.voters.len();
        record.voters.extend(bricks.iter().filter(|brick| !self.members.record().voters.contains(brick)));
        record.voters.truncate(VOTERS_MAX);
        if record.voters.len() == known {
            return Ok(());
        }
        record.version = writing.next_version();
        self.members.heed_too(record.clone());
        let failed = self.store_record(&record, writing.back).await?;
        if !failed.is_empty() {
            return Err(VolumeError::Lost("a server went away meanwhile".into()));
        }
        self.adopt(record, SlotSet::default());
        Ok(())
    }

    /// The record with a change, of the same version, when that leaves enough members and voters.
    fn changed(&self, change: Change) -> Result<Membership, VolumeError> {
        let old = self.members.record();
        let reachable = self.reachable_voters(&old, change.lost);
        let others = self.members.others();
        let record = quorum::changed(&old, &others, change, self.checkpoints.completed(), &reachable);
        record.map_err(|shortage| shortage_words(&old, shortage))
    }

    fn reachable_voters(&self, old: &Membership, lost: SlotSet) -> Vec<BrickId> {
        let members = self.members.seats.iter().enumerate().filter(|(slot, _)| !lost.has(Slot(*slot as u8)));
        let seats = members.map(|(_, seat)| seat).chain(&self.members.spares);
        let reachable = seats.filter(|seat| seat.conn.is_up()).filter_map(|seat| seat.brick);
        reachable.filter(|brick| old.voters.contains(brick)).collect()
    }

    /// Writes the record to all its voters, to members that are back after all others: these could begin without them, by their
    /// old record, and nobody would know that who is back misses what they do. Returns members that failed meanwhile.
    async fn store_record(&self, record: &Membership, back: SlotSet) -> Result<SlotSet, VolumeError> {
        let voters = |seat: &&Seat| seat.brick.is_some_and(|brick| record.voters.contains(&brick));
        let seats = self.members.seats.iter().chain(&self.members.spares).filter(voters);
        let is_back = |seat: &&Seat| back.iter().any(|slot| seat.brick == self.members.seats[slot.index()].brick);
        let (last, first): (Vec<&Seat>, Vec<&Seat>) = seats.partition(is_back);
        let failed = self.store_record_on(record, &first).await?;
        if failed.is_empty() && !last.is_empty() { self.store_record_on(record, &last).await } else { Ok(failed) }
    }

    async fn store_record_on(&self, record: &Membership, seats: &[&Seat]) -> Result<SlotSet, VolumeError> {
        let request = Request::SetMembership { membership: record.clone() };
        let calls = seats.iter().map(|seat| seat.conn.call(&request, Vec::new(), Vec::new(), false));
        let answers = futures_util::future::join_all(calls).await;
        let mut failed = SlotSet::default();
        for (seat, answer) in seats.iter().zip(answers) {
            match answer {
                Ok(_) => {}
                Err(CallError::Fault(fault @ (Fault::StaleEpoch(_) | Fault::Held { .. }))) => {
                    self.members.note_taken_over(&fault);
                    return Err(VolumeError::Lost(fault.to_string()));
                }
                Err(error) => match seat.brick.and_then(|brick| record.slot_of(brick)) {
                    Some(slot) => failed = failed.with(slot),
                    // A spare that fails is no voter of the next attempt: its connection is down.
                    None => return Err(VolumeError::Lost(format!("spare {}: {error}", seat.conn.server()))),
                },
            }
        }
        Ok(failed)
    }

    fn adopt(&self, record: Membership, away: SlotSet) {
        self.members.stand(&record, away);
        *self.members.record.lock().unwrap_or_else(PoisonError::into_inner) = record;
        self.members.heed(Vec::new());
        self.check_online();
        self.members.changed.note();
    }

    /// Gives everything up cleanly.
    pub(super) async fn close(self: &Arc<Core>) {
        self.checkpoints.stop();
        self.nobody_away().await;
        if self.members.check_owned().is_ok() {
            match self.checkpoint().await {
                Ok(()) => self.hint_all(&Request::Disown).await,
                // A holder in the labels tells the next owner to look for what is not the same on all members.
                Err(error) => tracing::warn!(volume = self.config.name, %error, "the last checkpoint failed"),
            }
        }
        self.members.seats.iter().chain(&self.members.spares).for_each(|seat| seat.conn.close());
    }

    /// Asks all reachable members and spares, without caring for the answers.
    pub(super) async fn hint_all(&self, request: &Request) {
        let seats = self.members.seats.iter().chain(&self.members.spares).filter(|seat| seat.conn.is_up());
        let calls = seats.map(|seat| seat.conn.call(request, Vec::new(), Vec::new(), false));
        let all = futures_util::future::join_all(calls);
        let _ = tokio::time::timeout(self.config.stall.max(Duration::from_secs(1)), all).await;
    }
}

/// Says once when another client has taken the volume over. Bricks are asked for that too, since a client that
/// stood still for longer than its lease, and has nothing to write, would not hear of it.
async fn keep_ownership(core: std::sync::Weak<Core>) {
    let Some(mut seen) = core.upgrade().map(|core| core.members.watch()) else { return };
    loop {
        let asked = Instant::now();
        {
            let Some(core) = core.upgrade() else { return };
            if core.members.seats.iter().all(|seat| seat.conn.state() == LinkState::Closed) {
                return;
            }
            core.ask_whose().await;
            if let Some(fault) = core.members.taken_over.get() {
                core.log(None, &Event::TakenOver { reason: fault.clone() });
                return;
            }
        }
        let _ = timeout_at(asked + Duration::from_millis(RENEW_MS), seen.changed()).await;
    }
}

fn shortage_words(record: &Membership, shortage: Shortage) -> VolumeError {
    VolumeError::Lost(match shortage {
        Shortage::Members(current) => format!("{current} of {} necessary servers are left", record.members_needed()),
        Shortage::Voters => "too few servers are left to decide who is current".into(),
    })
}

async fn follow_one(core: std::sync::Weak<Core>, slot: Slot, mut states: watch::Receiver<LinkState>) {
    // The first state is known from assembly.
    states.mark_unchanged();
    while states.changed().await.is_ok() {
        let state = states.borrow_and_update().clone();
        let Some(core) = core.upgrade() else { return };
        if state == LinkState::Closed {
            return;
        }
        core.note_state(slot, &state).await;
        core.members.changed.note();
    }
}
