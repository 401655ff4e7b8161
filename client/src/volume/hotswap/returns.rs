//! Who had a slot before a spare took it is back: it has the slot again if it is nearer to being current than the spare.
//!
//! That is decided once for each return, so the slot does not go to and fro; and a spare takes a slot only after `timeout`.

use std::sync::Arc;
use std::time::Duration;

use net_raid_proto::ids::{BrickId, Generation, Slot};
use net_raid_proto::message::BrickState;
use tokio::time::{Instant, timeout};

use super::SPARE_ANSWERS;
use crate::conn::LinkState;
use crate::events::Event;
use crate::volume::Core;
use crate::volume::heal::CatchUpProgress;
use crate::volume::members::Seat;
use crate::volume::quorum::Taken;

/// A rebuild that has said nothing for this long has not come far.
const UNDECIDED_MAX: Duration = Duration::from_secs(10);

/// Who is back, by seats.
#[derive(Default)]
pub(super) struct Returns(Vec<Option<Return>>);

/// A connection of a brick that has no slot.
struct Return {
    state: Arc<BrickState>,
    at: Instant,
    /// It was decided what becomes of it.
    is_settled: bool,
}

impl Returns {
    /// Takes note of what a seat's connection is; returns since when it is so, unless all is settled.
    fn note(&mut self, seat: usize, state: Option<Arc<BrickState>>) -> Option<Instant> {
        if self.0.len() <= seat {
            self.0.resize_with(seat + 1, || None);
        }
        let known = &mut self.0[seat];
        match (known.as_ref(), state) {
            (_, None) => *known = None,
            (Some(known), Some(state)) if Arc::ptr_eq(&known.state, &state) => {}
            (_, Some(state)) => *known = Some(Return { state, at: Instant::now(), is_settled: false }),
        }
        known.as_ref().filter(|known| !known.is_settled).map(|known| known.at)
    }

    fn settle(&mut self, seat: usize) {
        if let Some(Some(known)) = self.0.get_mut(seat) {
            known.is_settled = true;
        }
    }
}

/// Who is to have a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nearer {
    Former,
    Spare,
}

/// Who is nearer to being current, from how far the rebuild is that is under way: the spare, once it has more than half of all bytes. `None`
/// as long as it only comes by what it has from before.
///
/// Nobody knows how much the former member misses before it was compared; but either way less than half of a rebuild is done in
/// vain, or too much.
fn nearer(rebuild: Option<&CatchUpProgress>) -> Option<Nearer> {
    let CatchUpProgress { bytes: (passed, all), copied, .. } = rebuild?;
    match () {
        () if *passed > all / 2 => Some(Nearer::Spare),
        () if *copied > 0 => Some(Nearer::Former),
        () => None,
    }
}

/// Why a slot is not given back.
enum Refusal {
    /// It is tried again.
    NotYet(String),
    /// For as long as it is connected.
    Final(String),
}

impl Core {
    /// Gives slots back to members that had them, are back, and are nearer to being current than the spares. Others are told of.
    pub(super) async fn welcome_back(self: &Arc<Core>, returns: &mut Returns) {
        for (at, seat) in self.members.everybody().enumerate() {
            let state = match seat.conn.state() {
                LinkState::Up(state) if self.members.slot_of(seat).is_none() => Some(state),
                _ => None,
            };
            let Some(since) = returns.note(at, state.clone()) else { continue };
            if seat.lost_slot() && matches!(state.as_deref(), Some(BrickState::Empty { .. })) {
                seat.begin_anew();
            }
            let brick = state.as_deref().and_then(|state| brick_of(seat, state));
            if self.is_settled(seat, brick, since).await {
                returns.settle(at);
                if seat.lost_slot() {
                    self.events.log(&self.config.name, Some(seat.conn.server()), &Event::Replaced);
                }
            }
        }
    }

    /// Decides about one that is back since `at`; whether that needs no second look.
    async fn is_settled(self: &Arc<Core>, seat: &Seat, brick: Option<BrickId>, at: Instant) -> bool {
        let may_return = brick.and_then(|brick| Some((brick, self.members.record().may_return(brick)?)));
        let Some((brick, (slot, since))) = may_return else { return true };
        seat.set_lost_slot(true);
        match self.nearer_in(slot, at) {
            None => false,
            Some(Nearer::Spare) => true,
            Some(Nearer::Former) => match self.give_back(Taken { slot, brick, since }, seat).await {
                Ok(()) => true,
                Err(Refusal::NotYet(why)) => {
                    tracing::debug!(%slot, why, "not given back yet");
                    false
                }
                Err(Refusal::Final(why)) => {
                    tracing::warn!(volume = self.config.name, %slot, why, "who had the slot does not get it back");
                    true
                }
            },
        }
    }

    fn nearer_in(&self, slot: Slot, at: Instant) -> Option<Nearer> {
        if !self.members.conn(slot).is_up() {
            return Some(Nearer::Former);
        }
        // It has everything but what came since.
        if self.members.away().has(slot) {
            return Some(Nearer::Spare);
        }
        let rebuild = self.healing.progress().into_iter().find(|progress| progress.slot == slot);
        nearer(rebuild.as_ref()).or_else(|| (at.elapsed() > UNDECIDED_MAX).then_some(Nearer::Former))
    }

    /// The same for a slot whose spare is gone; whether it was given back.
    pub(super) async fn give_back_to_former(self: &Arc<Core>, slot: Slot) -> bool {
        let Some((brick, since)) = self.members.record().replaced_in(slot) else { return false };
        let is_it = |seat: &&Seat| match seat.conn.state() {
            LinkState::Up(state) => self.members.slot_of(seat).is_none() && brick_of(seat, &state) == Some(brick),
            _ => false,
        };
        match self.members.everybody().find(is_it) {
            Some(seat) => self.give_back(Taken { slot, brick, since }, seat).await.is_ok(),
            None => false,
        }
    }

    /// Gives a slot back; `taken` says what the record knows that the brick has.
    async fn give_back(self: &Arc<Core>, taken: Taken, seat: &Seat) -> Result<(), Refusal> {
        let Taken { slot, brick, since } = taken;
        let label = match timeout(SPARE_ANSWERS, self.own_spare(seat, brick)).await {
            Ok(Ok(label)) => label,
            Ok(Err(error)) => return Err(Refusal::NotYet(error.to_string())),
            Err(_) => return Err(Refusal::NotYet("it does not answer".into())),
        };
        // What it has lost with its machine it gets again.
        seat.conn.set_take_over(true);
        self.recognise(since, &label).map_err(Refusal::Final)?;
        // Whatever it says, it has no more than when it was dropped; and it may have been stopped before it noted the last of that.
        let since: Generation = since.min(label.complete);
        let states = seat.conn.watch();
        let nobody_heals = self.stop_healing(slot).await.map_err(Refusal::NotYet)?;
        seat.set_brick(brick);
        let taken = Taken { slot, brick, since };
        self.replace(taken, seat, &nobody_heals).await.map_err(|error| Refusal::Final(error.to_string()))?;
        self.healing.was_reset(slot);
        self.follow_seat(slot, states);
        self.log(Some(slot), &Event::SlotGivenBack { slot: slot.0 });
        Ok(())
    }
}

/// The brick behind a connection.
pub(super) fn brick_of(seat: &Seat, state: &BrickState) -> Option<BrickId> {
    let said = match state {
        BrickState::Labelled { label, .. } => Some(label.brick),
        _ => None,
    };
    seat.brick().or(said)
}

#[cfg(test)]
mod tests;
