//! Who is in, who is out: drops, returns, and waiting for servers.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use net_raid_proto::ids::{BrickId, Epoch, Slot};
use net_raid_proto::limits::MEMBERS_MAX;
use net_raid_proto::membership::Membership;
use net_raid_proto::message::{Fault, Request};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::away::{Away, Passage};
use super::changes::{Changes, Seen};
use super::ownership::keep_ownership;
use super::record::Writing;
use super::{Core, VolumeError};
use crate::config::ServerAddr;
use crate::conn::{Conn, LinkState, Session};
use crate::events::Event;
use crate::layout::SlotSet;

/// Where sets of slots are in [`Members::standing`], and how wide they are.
const SLOTS: u32 = 0xffff;
const HEALING: u32 = 16;
const AWAY: u32 = 32;
const _: () = assert!(MEMBERS_MAX <= SLOTS.count_ones() as usize);

/// A member's or spare's connection and brick.
pub(super) struct Seat {
    pub(super) conn: Arc<Conn>,
    brick: Mutex<Option<BrickId>>,
    /// Its connection is followed.
    followed: AtomicBool,
    /// A spare has its slot: that is told when it is back.
    lost_slot: AtomicBool,
}

impl Seat {
    pub(super) fn new(conn: Arc<Conn>, brick: Option<BrickId>) -> Seat {
        let (followed, lost_slot) = (AtomicBool::new(false), AtomicBool::new(false));
        Seat { conn, brick: Mutex::new(brick), followed, lost_slot }
    }

    /// The brick that must be there, where it is known.
    pub(super) fn brick(&self) -> Option<BrickId> {
        *self.brick.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_brick(&self, brick: BrickId) {
        *self.brick.lock().unwrap_or_else(PoisonError::into_inner) = Some(brick);
    }

    /// Its directory was emptied: it is a spare of which nothing is known.
    pub(super) fn begin_anew(&self) {
        *self.brick.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.set_lost_slot(false);
    }

    /// Whether a spare has the slot that it had.
    pub(super) fn lost_slot(&self) -> bool {
        self.lost_slot.load(Ordering::Acquire)
    }

    pub(super) fn set_lost_slot(&self, lost: bool) {
        self.conn.set_may_be_new(lost);
        self.lost_slot.store(lost, Ordering::Release);
    }
}

/// The members of a volume, and its spares.
pub(super) struct Members {
    /// Of the members, in the order of the slots when the volume was assembled, then of the spares.
    seats: Vec<Seat>,
    /// Which of the seats each slot has; the others are spares.
    seated: Vec<AtomicUsize>,
    pub(super) session: Session,
    record: Mutex<Membership>,
    /// Other records that voters may go by, until the present one is known to be on all its voters.
    others: Mutex<Vec<Membership>>,
    /// Slots that the record calls current; 16 bits higher those that are being healed, 32 bits higher those that are away.
    standing: AtomicU64,
    pub(super) away: Away,
    pub(super) writing: tokio::sync::Mutex<Writing>,
    /// A drop was begun and could not be ended: nothing is acknowledged before it is.
    owes_drop: AtomicBool,
    /// Changes whenever a connection does.
    pub(super) changed: Changes,
    taken_over: OnceLock<String>,
    /// Since when too few current members answer.
    offline_since: Mutex<Option<Instant>>,
}

impl Members {
    pub(super) fn new(mut seats: Vec<Seat>, spares: Vec<Seat>, session: Session, record: Membership) -> Members {
        let current: SlotSet = record.current_slots().collect();
        let seated = (0..seats.len()).map(AtomicUsize::new).collect();
        seats.extend(spares);
        Members {
            seats,
            seated,
            standing: AtomicU64::new(current.0.into()),
            away: Away::default(),
            // Out of reach there may be records of former owners, of any version that these came to.
            writing: tokio::sync::Mutex::new(Writing {
                newest: record.version.max(Membership::first_version(record.forced(), session.epoch)),
                back: SlotSet::default(),
                owed: SlotSet::default(),
            }),
            owes_drop: AtomicBool::new(false),
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

    /// Number of slots.
    pub(super) fn width(&self) -> usize {
        self.seated.len()
    }

    /// All slots.
    pub(super) fn slots(&self) -> SlotSet {
        SlotSet::all(self.width())
    }

    pub(super) fn seat(&self, slot: Slot) -> &Seat {
        &self.seats[self.seated[slot.index()].load(Ordering::Acquire)]
    }

    /// Members and spares.
    pub(super) fn everybody(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter()
    }

    /// The slot that a seat has by now; spares have none.
    pub(super) fn slot_of(&self, seat: &Seat) -> Option<Slot> {
        self.slots().iter().find(|slot| std::ptr::eq(self.seat(*slot), seat))
    }

    /// A brick takes a slot; who had it stands by. The caller writes the record, and is the only one that does.
    pub(super) fn sit(&self, slot: Slot, seat: &Seat) {
        // What it loses with its machine counts no more.
        self.conn(slot).set_take_over(true);
        if let Some(index) = self.seats.iter().position(|other| std::ptr::eq(other, seat)) {
            self.seated[slot.index()].store(index, Ordering::Release);
        }
    }

    fn slot_with(&self, conn: &Arc<Conn>) -> Option<Slot> {
        self.slots().iter().find(|slot| Arc::ptr_eq(self.conn(*slot), conn))
    }

    pub(super) fn server(&self, slot: Slot) -> &ServerAddr {
        self.seat(slot).conn.server()
    }

    pub(super) fn conn(&self, slot: Slot) -> &Arc<Conn> {
        &self.seat(slot).conn
    }

    /// Members that hold everything.
    pub(super) fn current(&self) -> SlotSet {
        SlotSet(self.standing.load(Ordering::Acquire) as u32 & SLOTS)
    }

    /// Members that miss something and are being brought up to date: they are sent no changes, and never read.
    pub(super) fn healing(&self) -> SlotSet {
        SlotSet((self.standing.load(Ordering::SeqCst) >> HEALING) as u32 & SLOTS)
    }

    /// Members that were current a moment ago, and will be if they are back soon.
    pub(super) fn away(&self) -> SlotSet {
        SlotSet((self.standing.load(Ordering::Acquire) >> AWAY) as u32)
    }

    /// Members that every change is made for: those that are current, those that are away, and those that are being healed, which
    /// are sent no change until they have all that was before it.
    pub(super) fn recipients(&self) -> SlotSet {
        let standing = self.standing.load(Ordering::Acquire);
        SlotSet((standing | standing >> HEALING | standing >> AWAY) as u32 & SLOTS)
    }

    /// Lets a change begin: for as long as the passage is held, no member becomes current again.
    pub(super) async fn begin_change(&self) -> Passage {
        self.away.enter(!self.away().is_empty()).await
    }

    /// Whether some voters may have a record that drops members, and nobody knows whether all have.
    pub(super) fn owes_drop(&self) -> bool {
        self.owes_drop.load(Ordering::Acquire)
    }

    pub(super) fn set_owes_drop(&self, owes: bool) {
        self.owes_drop.store(owes, Ordering::Release);
    }

    /// A member that was away is out.
    pub(super) fn set_out(&self, slot: Slot) {
        self.standing.fetch_and(!(1 << (AWAY + u32::from(slot.0))), Ordering::AcqRel);
        self.changed.note();
    }

    /// A member is being healed from now on, or is not any more.
    pub(super) fn set_healing(&self, slot: Slot, healing: bool) {
        let bit = 1 << (HEALING + u32::from(slot.0));
        match healing {
            true => self.standing.fetch_or(bit, Ordering::SeqCst),
            false => self.standing.fetch_and(!bit, Ordering::SeqCst),
        };
    }

    /// A member that was healed has everything now; from here on it is kept what it misses, as for any that is away. The caller sees to
    /// it that nothing is changed meanwhile.
    pub(super) fn set_away(&self, slot: Slot) {
        self.away.begin(slot);
        self.standing.fetch_or(1 << (AWAY + u32::from(slot.0)), Ordering::AcqRel);
        self.set_healing(slot, false);
    }

    /// What the record says from now on. Members of `away` were dropped with it and may come back.
    fn stand(&self, record: &Membership, away: SlotSet) {
        let current: SlotSet = record.current_slots().collect();
        let stand = |before: u64| {
            let away = ((before >> AWAY) as u32 | away.0) & !current.0;
            let healing = (before >> HEALING) as u32 & SLOTS & !current.0;
            u64::from(away) << AWAY | u64::from(healing) << HEALING | u64::from(current.0)
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

    /// Goes by a record. Members of `away` were dropped with it and may come back.
    pub(super) fn adopt(&self, record: Membership, away: SlotSet) {
        self.stand(&record, away);
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = record;
        self.heed(Vec::new());
    }

    /// A record that is tried: voters may have it from now on, whatever becomes of it.
    pub(super) fn heed_too(&self, record: &Membership) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if others.iter().all(|other| other.voters != record.voters) {
            others.push(record.clone());
        }
    }

    pub(super) fn others(&self) -> Vec<Membership> {
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

    /// Why this client does not own the volume any more.
    pub(super) fn taken_over(&self) -> Option<&str> {
        self.taken_over.get().map(String::as_str)
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
        self.members.slots().iter().for_each(|slot| self.follow_seat(slot, self.members.conn(slot).watch()));
    }

    /// The same for one that has a slot, whenever it has one; what `states` shows now is known.
    pub(super) fn follow_seat(self: &Arc<Core>, slot: Slot, states: watch::Receiver<LinkState>) {
        let seat = self.members.seat(slot);
        if !seat.followed.swap(true, Ordering::AcqRel) {
            tokio::spawn(follow_one(Arc::downgrade(self), Arc::clone(&seat.conn), states));
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
                if !self.healing.was_reset(slot) && !self.tell_if_left_out(slot, brick).await {
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
    pub(super) fn check_online(&self) {
        let (readable, needed) = (self.members.readable().len(), self.members.record().members_needed());
        let offline = readable < needed;
        if offline {
            self.members.slots().iter().for_each(|slot| self.members.conn(slot).pardon());
        }
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

    /// Gives everything up cleanly.
    pub(super) async fn close(self: &Arc<Core>) {
        self.checkpoints.stop();
        self.healing.stop();
        self.scrubs.stop();
        self.nobody_away().await;
        if self.members.check_owned().is_ok() {
            match self.checkpoint().await {
                Ok(()) => self.hint_all(&Request::Disown).await,
                // A holder in the labels tells the next owner to look for what is not the same on all members.
                Err(error) => tracing::warn!(volume = self.config.name, %error, "the last checkpoint failed"),
            }
        }
        self.members.everybody().for_each(|seat| seat.conn.close());
    }

    /// Asks all reachable members and spares, without caring for the answers.
    pub(super) async fn hint_all(&self, request: &Request) {
        let seats = self.members.everybody().filter(|seat| seat.conn.is_up());
        let calls = seats.map(|seat| seat.conn.call(request, Vec::new(), Vec::new(), false));
        let all = futures_util::future::join_all(calls);
        let _ = tokio::time::timeout(self.config.stall.max(Duration::from_secs(1)), all).await;
    }
}

/// Says once when another client has taken the volume over. Bricks are asked for that too, since a client that
/// stood still for longer than its lease, and has nothing to write, would not hear of it.
async fn follow_one(core: std::sync::Weak<Core>, conn: Arc<Conn>, mut states: watch::Receiver<LinkState>) {
    while states.changed().await.is_ok() {
        let state = states.borrow_and_update().clone();
        let Some(core) = core.upgrade() else { return };
        if state == LinkState::Closed {
            return;
        }
        if let Some(slot) = core.members.slot_with(&conn) {
            core.note_state(slot, &state).await;
        }
        core.members.changed.note();
    }
}
