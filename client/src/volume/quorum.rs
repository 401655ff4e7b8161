//! Pure: which bricks are enough to begin with, and to go on with.
//!
//! A record names its voters. Whoever changes it stores the change on all voters of the new record, which are at least half of
//! those of the old one; whoever begins has more than half of the voters, or all but fewer than half. So who begins meets a voter of the
//! newest record.

use net_raid_proto::ids::{BrickId, Generation, Slot};
use net_raid_proto::limits::{FORMERS_MAX, VOTERS_MAX};
use net_raid_proto::membership::{Former, Membership, SlotRecord, SlotState};

use crate::layout::SlotSet;

/// Everything was made after this generation: no owner begins with an earlier one than the third. 0 says that who is in the slot
/// was left out by force.
pub(super) const BEFORE_ALL: Generation = Generation(1);

/// What is to become different in a record.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Change {
    /// Members that are not current any more.
    pub(super) lost: SlotSet,
    /// A member that is current again, and votes.
    pub(super) back: Option<Slot>,
    /// A slot that is not current gets another brick, which votes.
    pub(super) taken: Option<Taken>,
}

/// A brick that gets a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) slot: Slot,
    pub(super) brick: BrickId,
    /// It has everything up to this generation: nothing, [`BEFORE_ALL`], or what it had when it lost the slot to a spare.
    pub(super) since: Generation,
}

/// Why a record cannot do without some members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// So many current members are left.
    Members(usize),
    /// Too few voters are left.
    Voters,
}

/// Whether the current members among the bricks that are `here` have all data.
pub(super) fn has_members(record: &Membership, here: &[BrickId]) -> bool {
    let current = record.current_slots().filter(|slot| here.contains(&record.slots[slot.index()].brick)).count();
    current >= record.members_needed()
}

/// Whether those that are not `here` are too few to have gone on alone, with a newer record.
pub(super) fn has_voters(record: &Membership, here: &[BrickId]) -> bool {
    let away = record.voters.iter().filter(|voter| !here.contains(voter)).count();
    away < record.quorum()
}

/// The record after `old`, of the same version, with a change; members that are lost have everything up to `since`. Of
/// the old voters those in `reachable` still vote.
///
/// `others` are records that some voters may go by: older ones, as until this one is stored nobody knows whether `old` ever was
/// on all its voters; and newer ones that not all their voters have. Who begins with one of these must meet a voter of the new
/// record too.
pub(super) fn changed(
    old: &Membership,
    others: &[Membership],
    change: Change,
    since: Generation,
    reachable: &[BrickId],
) -> Result<Membership, Shortage> {
    let mut record = old.clone();
    for slot in change.lost.iter() {
        record.slots[slot.index()].state = SlotState::Stale { since };
    }
    record.voters.retain(|voter| reachable.contains(voter));
    if let Some(taken) = change.taken {
        take(&mut record, taken);
    }
    if let Some(slot) = change.back {
        record.slots[slot.index()].state = SlotState::Current;
        // From now on the slot's brick is the one that has what counts.
        record.formers.retain(|former| former.slot() != Some(slot));
    }
    for slot in change.back.iter().chain(change.taken.iter().map(|taken| &taken.slot)) {
        let brick = record.slots[slot.index()].brick;
        if !record.voters.contains(&brick) && record.voters.len() < VOTERS_MAX {
            record.voters.push(brick);
        }
    }
    let current = record.current_slots().count();
    if current < record.members_needed() {
        return Err(Shortage::Members(current));
    }
    let enough = |base: &Membership| {
        let kept = base.voters.iter().filter(|voter| record.voters.contains(voter)).count();
        kept >= base.quorum()
    };
    if enough(old) && others.iter().all(enough) { Ok(record) } else { Err(Shortage::Voters) }
}

/// Gives a slot to a brick. Who had it may have it again as long as the brick was not current there; unless it was not current
/// itself since it took the slot.
fn take(record: &mut Membership, Taken { slot, brick, since }: Taken) {
    let state = SlotState::Stale { since };
    let before = std::mem::replace(&mut record.slots[slot.index()], SlotRecord { brick, state });
    let was_never_current = record.replaced_in(slot).is_some();
    record.formers.retain(|former| former.brick() != brick);
    let former = match before.state {
        _ if was_never_current => Former::Released { brick: before.brick },
        // What it holds may be another history.
        SlotState::Stale { since: Generation(0) } => return,
        SlotState::Stale { since } => Former::Replaced { brick: before.brick, slot, since },
        SlotState::Current => return,
    };
    if record.formers.len() == FORMERS_MAX {
        forget_one(&mut record.formers);
    }
    record.formers.push(former);
}

/// Makes room: of a spare that is forgotten the files have to be removed by hand.
fn forget_one(formers: &mut Vec<Former>) {
    if let Some(spare) = formers.iter().position(|former| former.slot().is_none()) {
        formers.remove(spare);
    }
}
