//! `--force`: an administrator goes on with members that are not enough to be sure that nothing newer is elsewhere.
//!
//! Those that are left out may have gone on without us, may still do so, and may be found again. The record that is written
//! here beats any of theirs, whatever they write, and to it nothing that they hold counts.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use net_raid_proto::ids::{BrickId, Generation, Slot};
use net_raid_proto::limits::VOTERS_MAX;
use net_raid_proto::membership::{Membership, SlotState};
use net_raid_proto::message::BrickState;

use super::quorum::Shortage;
use super::{Core, VolumeError};
use crate::conn::LinkState;
use crate::events::Event;
use crate::layout::SlotSet;

/// Epochs that the others may have begun without us. Beyond them, their owner and what it names are told from ours.
const EPOCHS_AHEAD: u64 = 1 << 12;

/// How much an epoch must be newer than all that are here. By chance, since the same may be done to two halves of a volume,
/// and one of them has to be the newer one.
pub(super) fn epochs_ahead(random: [u8; 16]) -> u64 {
    let [low, high, ..] = random;
    EPOCHS_AHEAD + u64::from(u16::from_le_bytes([low, high])) % EPOCHS_AHEAD
}

/// The record after `old`, of the same version, without the members in `absent` and with the voters that are `here`.
fn without(old: &Membership, absent: SlotSet, here: &[BrickId]) -> Result<Membership, Shortage> {
    let mut record = old.clone();
    for slot in absent.iter() {
        record.slots[slot.index()].state = SlotState::Stale { since: Generation(0) };
    }
    let current: Vec<BrickId> = record.current_slots().map(|slot| record.slots[slot.index()].brick).collect();
    if current.len() < record.members_needed() {
        return Err(Shortage::Members(current.len()));
    }
    record.voters.retain(|voter| here.contains(voter) && !current.contains(voter));
    record.voters.splice(0..0, current);
    record.voters.truncate(VOTERS_MAX);
    // Those that are away may have made members of them.
    record.formers.clear();
    Ok(record)
}

impl Core {
    /// Goes on without the members in `absent`, for good, whatever they hold.
    ///
    /// # Errors
    /// When more members fail meanwhile than the redundancy allows.
    pub(super) async fn leave_out(self: &Arc<Core>, absent: SlotSet) -> Result<(), VolumeError> {
        let left_out = self.store_forced(absent, without).await?;
        let names: Vec<String> = left_out.iter().map(|slot| self.members.server(slot).to_string()).collect();
        let reason = format!(
            "without {}; what was acknowledged while only these were there is lost, and what they hold does not count any more",
            names.join(", ")
        );
        self.log(None, &Event::Forced { reason });
        Ok(())
    }

    /// Tells members that answer, and do not know it, that they were left out: so that they begin nothing by themselves.
    pub(super) async fn tell_left_out(&self) {
        for slot in self.members.slots().iter() {
            if let LinkState::Up(brick) = self.members.conn(slot).state() {
                self.tell_if_left_out(slot, &brick).await;
            }
        }
    }

    /// The same for one; whether that was so.
    pub(super) async fn tell_if_left_out(&self, slot: Slot, brick: &BrickState) -> bool {
        let record = self.members.record();
        let BrickState::Labelled { label, .. } = brick else { return false };
        let its_own = &label.membership;
        let knows = its_own.slot_of(label.brick).is_some_and(|slot| its_own.is_left_out(slot));
        if knows || !record.is_left_out(slot) {
            return false;
        }
        self.refresh_record(slot).await;
        self.log(Some(slot), &Event::ServerLeftOut);
        true
    }
}
