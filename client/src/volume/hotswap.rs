//! Hot swap: a spare takes the slot of a member that has been out of reach for `timeout`.
//!
//! The record says so first, durably: the spare has the slot and holds nothing that counts. From then on it is a member that is behind
//! by everything, and is caught up like any other.
//!
//! The brick that had the slot may have it again as long as the spare is not current ([`returns`]); the spare is emptied then, and stands by
//! ([`release`]). Afterwards it is a stranger to the volume when it returns.

mod release;
mod returns;

use std::sync::{Arc, Weak};
use std::time::Duration;

use net_raid_proto::ids::{BrickId, Epoch, Generation, ObjectId, Slot};
use net_raid_proto::membership::{Label, Ownership};
use net_raid_proto::message::{BrickState, Reply, Request};
use tokio::time::{Instant, sleep, timeout};

use super::members::Seat;
use super::query::nonsense;
use super::quorum::{BEFORE_ALL, Taken};
use super::{Core, VolumeError};
use crate::conn::{CallError, LinkState, Session};
use crate::events::Event;
use crate::layout::SlotSet;
use release::Releases;
use returns::Returns;

/// How often it is looked who is out of reach, as a part of `timeout`, and at most.
const LOOKS: u32 = 10;
const LOOK_MAX: Duration = Duration::from_secs(1);
/// What is asked of a spare is answered within this time.
const SPARE_ANSWERS: Duration = Duration::from_secs(10);

/// Since when members are out of reach.
struct Absences(Vec<Option<Instant>>);

/// Spares that cannot be had, and why, as far as that was told.
type Refused = Vec<(BrickId, String)>;

impl Absences {
    /// Takes note of who is out of reach now; returns who has been for `patience`, but nobody while another one will have been within
    /// `soon`: spares that begin together share what they read.
    fn note(&mut self, gone: SlotSet, patience: Duration, soon: Duration) -> SlotSet {
        let now = Instant::now();
        for (since, slot) in self.0.iter_mut().zip(0..) {
            *since = gone.has(Slot(slot)).then(|| since.unwrap_or(now));
        }
        let due = self.due(now, patience);
        if self.due(now + soon, patience) == due { due } else { SlotSet::EMPTY }
    }

    /// All that were out of reach count anew.
    fn forget(&mut self) {
        self.0.fill(None);
    }

    fn due(&self, now: Instant, patience: Duration) -> SlotSet {
        let slots = self.0.iter().zip(0..).map(|(since, slot)| (since, Slot(slot)));
        slots.filter(|(since, _)| since.is_some_and(|since| now - since >= patience)).map(|(_, slot)| slot).collect()
    }
}

impl Core {
    /// Has spares take the slots of members that are gone, for as long as the volume is there and open.
    pub(super) fn keep_seats_filled(self: &Arc<Core>) {
        if self.config.spares.is_empty() {
            return;
        }
        let absences = Absences(vec![None; self.members.width()]);
        tokio::spawn(keep(Arc::downgrade(self), absences, (self.timeout() / LOOKS).min(LOOK_MAX)));
    }

    fn gone(&self) -> SlotSet {
        self.members.slots().iter().filter(|slot| !self.members.conn(*slot).is_up()).collect()
    }

    /// Puts a spare into each slot that is due, where there is one.
    async fn fill_seats(self: &Arc<Core>, due: SlotSet, refused: &mut Refused) {
        // A volume that says nothing by itself has not dropped who is gone.
        let current = due.and(self.members.current());
        if !current.is_empty() && self.drop_members(current, "it was out of reach").await.is_err() {
            return;
        }
        let mut found: Vec<(Slot, &Seat, BrickId)> = Vec::new();
        for slot in due.iter() {
            // Who had the slot has more than any spare.
            if self.give_back_to_former(slot).await {
                continue;
            }
            let Some((spare, brick)) = self.find_spare(&found, refused).await else { break };
            found.push((slot, spare, brick));
        }
        let mut begun = Vec::new();
        for (slot, spare, brick) in found {
            if self.members.conn(slot).is_up() || self.members.healing().has(slot) {
                continue;
            }
            // Before anybody else can do anything with it.
            let states = spare.conn.watch();
            let taken = Taken { slot, brick, since: BEFORE_ALL };
            let replaced = match self.stop_healing(slot).await {
                Ok(nobody_heals) => self.replace(taken, spare, &nobody_heals).await,
                Err(why) => Err(VolumeError::Lost(why)),
            };
            match replaced {
                Ok(()) => begun.push((slot, states)),
                Err(error) => tracing::warn!(volume = self.config.name, %slot, %error, "no spare takes the slot"),
            }
        }
        for (slot, states) in begun {
            self.follow_seat(slot, states);
            self.log(Some(slot), &Event::RebuildStarted { slot: slot.0 });
            self.members.changed.note();
        }
    }

    /// The first spare that can be had, but for those that were `found`; others are told of, once.
    async fn find_spare(&self, found: &[(Slot, &Seat, BrickId)], refused: &mut Refused) -> Option<(&Seat, BrickId)> {
        let is_found = |seat: &Seat| found.iter().any(|(_, found, _)| std::ptr::eq(*found, seat));
        let spares = self.members.everybody().filter(|seat| self.members.slot_of(seat).is_none() && !is_found(seat));
        for seat in spares {
            let LinkState::Up(state) = seat.conn.state() else { continue };
            let prepared = timeout(SPARE_ANSWERS, self.prepare(seat, &state)).await;
            let (brick, why) = match prepared {
                Ok(Ok(brick)) => return Some((seat, brick)),
                Ok(Err((brick, why))) => (brick, why),
                Err(_) => (BrickId::default(), "it does not answer".into()),
            };
            self.tell_refused(seat, (brick, why), refused);
        }
        None
    }

    fn tell_refused(&self, seat: &Seat, why: (BrickId, String), refused: &mut Refused) {
        if !refused.contains(&why) {
            let event = Event::SpareUnreachable { reason: why.1.clone() };
            self.events.log(&self.config.name, Some(seat.conn.server()), &event);
            refused.push(why);
        }
    }

    /// Makes sure that a spare is empty, knows the volume, and is ours.
    async fn prepare(&self, seat: &Seat, state: &BrickState) -> Result<BrickId, (BrickId, String)> {
        let session = &self.members.session;
        // What it has had since it said who it is, is newer.
        let brick = match (seat.brick(), state) {
            (Some(brick), _) => brick,
            (None, BrickState::Empty { brick }) => {
                let request = Request::Format { label: Box::new(self.label_of(*brick)) };
                let formatted = seat.conn.call(&request, Vec::new(), Vec::new(), false).await;
                formatted.map_err(|error| (*brick, format!("cannot be formatted: {error}")))?;
                *brick
            }
            (None, BrickState::Labelled { label, .. }) if label.volume == session.volume => label.brick,
            (None, BrickState::Labelled { label, .. }) => {
                return Err((label.brick, format!("it belongs to volume {}", label.name)));
            }
            (None, BrickState::Unusable { why }) => return Err((BrickId::default(), why.clone())),
        };
        if self.members.record().slot_of(brick).is_some() {
            return Err((brick, "it is a member of the volume already".into()));
        }
        if self.members.record().is_released(brick) {
            return Err((brick, "it is still to be emptied".into()));
        }
        let owned = self.own_spare(seat, brick).await;
        owned.map_err(|error| (brick, error.to_string()))?;
        match self.is_bare(seat).await {
            Ok(true) => {}
            Ok(false) => {
                return Err((
                    brick,
                    "it holds files of the volume, of when it was a member: empty its directory".into(),
                ));
            }
            Err(error) => return Err((brick, error.to_string())),
        }
        seat.set_brick(brick);
        seat.conn.set_session(Session { brick: Some(brick), ..session.clone() });
        Ok(brick)
    }

    fn label_of(&self, brick: BrickId) -> Label {
        Label {
            volume: self.members.session.volume,
            name: self.config.name.clone(),
            brick,
            // The brick knows better what it can do.
            ownership: Ownership::Recorded,
            epoch: Epoch(0),
            complete: Generation(0),
            membership: self.members.record(),
        }
    }

    /// Makes a brick ours that has no slot; returns its label.
    async fn own_spare(&self, seat: &Seat, brick: BrickId) -> Result<Label, CallError> {
        let session = Session { brick: Some(brick), ..self.members.session.clone() };
        let Session { volume, epoch, holder, .. } = session.clone();
        let generation = self.checkpoints.generations.now();
        // Frames carry the epoch of the session.
        seat.conn.set_session(Session { generation, ..session });
        let own = Request::Own { volume, epoch, generation, holder, take_over: false };
        match seat.conn.call(&own, Vec::new(), Vec::new(), false).await?.reply {
            Reply::Owned { label, .. } if label.brick == brick => Ok(*label),
            _ => Err(CallError::Lost(nonsense().to_string().into())),
        }
    }

    /// Whether a brick of the volume has no files.
    async fn is_bare(&self, seat: &Seat) -> Result<bool, CallError> {
        let mut cursor = 0;
        loop {
            let request = Request::ReadDir { id: ObjectId::ROOT, cursor, attributes: false };
            match seat.conn.call(&request, Vec::new(), Vec::new(), false).await?.reply {
                Reply::Page { entries, .. } if !entries.is_empty() => return Ok(false),
                Reply::Page { next: None, .. } => return Ok(true),
                Reply::Page { next: Some(next), .. } => cursor = next,
                _ => return Err(CallError::Lost(nonsense().to_string().into())),
            }
        }
    }
}

async fn keep(core: Weak<Core>, mut absences: Absences, every: Duration) {
    let (mut refused, mut returns, mut releases) = (Refused::new(), Returns::default(), Releases::default());
    loop {
        sleep(every).await;
        let Some(core) = core.upgrade() else { return };
        if core.members.everybody().all(|seat| seat.conn.state() == LinkState::Closed)
            || core.members.check_owned().is_err()
        {
            return;
        }
        // Who can be reached when too few can is no reason to replace the others, also when enough are back: whatever kept
        // all away is ending for the others too.
        if core.members.is_offline() {
            absences.forget();
            continue;
        }
        core.welcome_back(&mut returns).await;
        core.empty_released(&mut releases, &mut refused).await;
        let due = absences.note(core.gone(), core.timeout(), every);
        if !due.is_empty() {
            core.fill_seats(due, &mut refused).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has been gone for nearly as long is waited for, so that both spares begin at once; nobody else is.
    #[tokio::test(start_paused = true)]
    async fn who_is_due_soon_is_waited_for() {
        let (patience, soon, second) = (Duration::from_secs(60), Duration::from_secs(1), Duration::from_secs(1));
        let slots = |numbers: &[u8]| -> SlotSet { numbers.iter().map(|number| Slot(*number)).collect() };
        let mut absences = Absences(vec![None; 5]);
        let mut note = async |gone: &[u8], after: Duration| {
            tokio::time::advance(after).await;
            absences.note(slots(gone), patience, soon)
        };
        assert_eq!(note(&[1], Duration::ZERO).await, slots(&[]));
        assert_eq!(note(&[1, 3], second).await, slots(&[]));
        assert_eq!(note(&[1, 2, 3], second).await, slots(&[]));
        // Slot 2 is back meanwhile, slot 4 goes much later.
        assert_eq!(note(&[1, 3], second).await, slots(&[]));
        assert_eq!(note(&[1, 3, 4], second * 20).await, slots(&[]));
        assert_eq!(note(&[1, 3, 4], second * 37).await, slots(&[]));
        assert_eq!(note(&[1, 3, 4], second).await, slots(&[1, 3]));
    }
}
