//! Who is in, who is out: drops, returns, and waiting for servers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use net_raid_proto::ids::{BrickId, Epoch, Slot};
use net_raid_proto::limits::VOTERS_MAX;
use net_raid_proto::membership::Membership;
use net_raid_proto::message::{Fault, Request};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::changes::{Changes, Seen};
use super::quorum::{self, Shortage};
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
    /// Slots that the record calls current.
    current: AtomicU32,
    /// One drop at a time; the newest version of a record that any voter may hold.
    dropping: tokio::sync::Mutex<u64>,
    /// Changes whenever a connection does.
    changed: Changes,
    taken_over: OnceLock<String>,
    /// Since when too few current members answer.
    offline_since: Mutex<Option<Instant>>,
}

impl Members {
    pub(super) fn new(seats: Vec<Seat>, spares: Vec<Seat>, session: Session, record: Membership) -> Members {
        let current: SlotSet = record.current_slots().collect();
        Members {
            seats,
            spares,
            current: AtomicU32::new(current.0),
            // Out of reach there may be records of former owners, of any version that these came to.
            dropping: tokio::sync::Mutex::new(record.version.max(session.epoch.0 << 32)),
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
        SlotSet(self.current.load(Ordering::Acquire))
    }

    /// Current members that can be asked now.
    pub(super) fn readable(&self) -> SlotSet {
        self.current().iter().filter(|slot| self.conn(*slot).is_up()).collect()
    }

    pub(super) fn record(&self) -> Membership {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            Some(why) => Err(VolumeError::Lost(why.clone())),
        }
    }

    pub(super) fn note_taken_over(&self, fault: &Fault) {
        if self.taken_over.set(format!("this client no longer owns the volume: {fault}")).is_ok() {
            // Whoever waits for servers waits in vain.
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
        for slot in 0..self.members.seats.len() {
            let slot = Slot(slot as u8);
            let states = self.members.conn(slot).watch();
            tokio::spawn(follow_one(Arc::downgrade(self), slot, states));
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
            LinkState::Up(_) => self.log(Some(slot), &Event::ServerBack),
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

    /// A member that was away while another one was dropped learns of that.
    async fn refresh_record(&self, slot: Slot) {
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
    pub(super) async fn drop_members(&self, lost: SlotSet, reason: &str) -> Result<(), VolumeError> {
        let mut newest = self.members.dropping.lock().await;
        let lost = lost.and(self.members.current());
        if lost.is_empty() { Ok(()) } else { self.store_without(&mut newest, lost, reason).await }
    }

    /// Writes the record anew. A former owner may have gone while it wrote it: some of its voters do not have it then,
    /// and could begin without the others.
    pub(super) async fn confirm_record(&self) -> Result<(), VolumeError> {
        let mut newest = self.members.dropping.lock().await;
        self.store_without(&mut newest, SlotSet::default(), "it failed when the volume was mounted").await
    }

    async fn store_without(&self, newest: &mut u64, mut lost: SlotSet, reason: &str) -> Result<(), VolumeError> {
        loop {
            let mut record = self.without(lost)?;
            // Some voters may hold what another member's failure broke off: a version says one thing only.
            *newest += 1;
            record.version = *newest;
            let failed = self.store_record(&record).await?;
            if failed.is_empty() {
                self.adopt(record);
                lost.iter().for_each(|slot| {
                    self.log(Some(slot), &Event::MemberDropped { slot: slot.0, reason: reason.to_string() });
                });
                return Ok(());
            }
            lost = SlotSet(lost.0 | failed.0);
        }
    }

    /// Writes a record in which `bricks` vote too.
    pub(super) async fn add_voters(&self, bricks: &[BrickId]) -> Result<(), VolumeError> {
        let mut newest = self.members.dropping.lock().await;
        let mut record = self.members.record();
        let known = record.voters.len();
        record.voters.extend(bricks.iter().filter(|brick| !self.members.record().voters.contains(brick)));
        record.voters.truncate(VOTERS_MAX);
        if record.voters.len() == known {
            return Ok(());
        }
        *newest += 1;
        record.version = *newest;
        let failed = self.store_record(&record).await?;
        if !failed.is_empty() {
            return Err(VolumeError::Lost("a server went away meanwhile".into()));
        }
        self.adopt(record);
        Ok(())
    }

    /// The record without `lost`, of the same version, when that leaves enough members and voters.
    fn without(&self, lost: SlotSet) -> Result<Membership, VolumeError> {
        let old = self.members.record();
        let reachable = self.reachable_voters(&old, lost);
        let others = self.members.others();
        quorum::without(&old, &others, lost, self.checkpoints.completed(), &reachable).map_err(|shortage| {
            VolumeError::Lost(match shortage {
                Shortage::Members(current) => {
                    format!("{current} of {} necessary servers are left", old.members_needed())
                }
                Shortage::Voters => "too few servers are left to decide who is current".into(),
            })
        })
    }

    fn reachable_voters(&self, old: &Membership, lost: SlotSet) -> Vec<BrickId> {
        let members = self.members.seats.iter().enumerate().filter(|(slot, _)| !lost.has(Slot(*slot as u8)));
        let seats = members.map(|(_, seat)| seat).chain(&self.members.spares);
        let reachable = seats.filter(|seat| seat.conn.is_up()).filter_map(|seat| seat.brick);
        reachable.filter(|brick| old.voters.contains(brick)).collect()
    }

    /// Writes the record to all its voters; returns members that failed meanwhile.
    async fn store_record(&self, record: &Membership) -> Result<SlotSet, VolumeError> {
        let voters = |seat: &&Seat| seat.brick.is_some_and(|brick| record.voters.contains(&brick));
        let seats: Vec<&Seat> = self.members.seats.iter().chain(&self.members.spares).filter(voters).collect();
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

    fn adopt(&self, record: Membership) {
        let current: SlotSet = record.current_slots().collect();
        *self.members.record.lock().unwrap_or_else(PoisonError::into_inner) = record;
        self.members.heed(Vec::new());
        self.members.current.store(current.0, Ordering::Release);
        self.members.changed.note();
    }

    /// Gives everything up cleanly.
    pub(super) async fn close(self: &Arc<Core>) {
        self.checkpoints.stop();
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
