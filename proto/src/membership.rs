//! The record of who is in a volume, and the label that every brick carries.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::ids::{BrickId, Epoch, Generation, ObjectId, Slot, VolumeId};
use crate::layout::Level;
use crate::limits::{FORMERS_MAX, MEMBERS_MAX, VOTERS_MAX};

/// Version of the brick format that this build writes; a newer one is refused.
pub const FORMAT_VERSION: u16 = 1;

/// Where the epoch stands in a version, and the count above it.
const EPOCH_SHIFT: u32 = 32;
const FORCED_SHIFT: u32 = 56;
const EPOCH_MAX: u64 = (1 << (FORCED_SHIFT - EPOCH_SHIFT)) - 1;
/// Members can be left out fewer times than this.
pub const FORCED_MAX: u64 = 1 << (u64::BITS - FORCED_SHIFT);

// An epoch that names objects fits.
const _: () = assert!(EPOCH_MAX >> (u64::BITS - ObjectId::COUNTER_BITS) == 0);

/// Whether the brick of a slot holds everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotState {
    /// It holds everything that was acknowledged.
    Current,
    /// It was dropped and misses changes made after this generation was complete.
    Stale {
        /// Last generation that it completed; 0 if nothing that it holds counts.
        since: Generation,
    },
}

/// One slot of the membership record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// The brick in this slot.
    pub brick: BrickId,
    /// Whether it is current.
    pub state: SlotState,
}

/// A brick that is no member any more, and what its files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Former {
    /// A spare has its slot, and was never current there: as long as that is so, it may have the slot again.
    Replaced {
        /// The brick.
        brick: BrickId,
        /// Its slot.
        slot: Slot,
        /// What it is known to have, as in [`SlotState::Stale`].
        since: Generation,
    },
    /// A spare that had a slot, and lost it before it was current: its files never counted, and are to be removed.
    Released {
        /// The brick.
        brick: BrickId,
    },
}

impl Former {
    /// Which brick.
    pub fn brick(&self) -> BrickId {
        match self {
            Former::Replaced { brick, .. } | Former::Released { brick } => *brick,
        }
    }

    /// The slot that it may have again.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Former::Replaced { slot, .. } => Some(*slot),
            Former::Released { .. } => None,
        }
    }
}

/// Who is in a volume: kept on every voter, the highest version wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Grows with each change of this record: 8 bits count how often an administrator left out members that may be newer
    /// (`--force`), 24 bits are the epoch of the owner that made it, or 0 in the first record, and 32 bits count. No version is used for
    /// two records, even where one of them reached a part of the voters only.
    pub version: u64,
    /// Redundancy of the volume.
    pub level: Level,
    /// One record a slot.
    pub slots: Vec<SlotRecord>,
    /// Bricks (members and spares) that hold this record and count at assembly.
    pub voters: Vec<BrickId>,
    /// Bricks that are no members any more.
    pub formers: Vec<Former>,
}

impl Membership {
    /// Whether the numbers are within their ranges and no brick or slot is named twice: what came from a wire or a
    /// disk is checked with this before anything else here is asked.
    pub fn is_valid(&self) -> bool {
        let members: HashSet<BrickId> = self.slots.iter().map(|record| record.brick).collect();
        let both: HashSet<BrickId> = members.iter().copied().chain(self.formers.iter().map(Former::brick)).collect();
        let replaced: Vec<Slot> = self.formers.iter().filter_map(Former::slot).collect();
        let slots: HashSet<Slot> = replaced.iter().copied().collect();
        let voters: HashSet<BrickId> = self.voters.iter().copied().collect();
        self.version >= 1
            && (self.level.members_min()..=MEMBERS_MAX).contains(&self.slots.len())
            && (1..=VOTERS_MAX).contains(&self.voters.len())
            && members.len() == self.slots.len()
            && voters.len() == self.voters.len()
            && self.formers.len() <= FORMERS_MAX
            && both.len() == members.len() + self.formers.len()
            && slots.len() == replaced.len()
            && replaced.iter().all(|slot| slot.index() < self.slots.len())
    }

    /// Half of the voters, rounded up: fewer than this many may be out of reach at assembly, and a
    /// drop may leave no fewer than this many.
    pub fn quorum(&self) -> usize {
        self.voters.len().div_ceil(2)
    }

    /// Fewest current members with which data is whole: N - f.
    pub fn members_needed(&self) -> usize {
        self.slots.len() - self.level.redundancy(self.slots.len())
    }

    /// Slots whose bricks hold everything.
    pub fn current_slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let current = |record: &SlotRecord| record.state == SlotState::Current;
        self.slots.iter().enumerate().filter(move |(_, r)| current(r)).map(|(i, _)| Slot(i as u8))
    }

    /// How often members that may be newer were left out.
    pub fn forced(&self) -> u64 {
        self.version >> FORCED_SHIFT
    }

    /// All versions of an owner are above this one, and above those of earlier owners, and above all of those whose members were left
    /// out less often. The latter must be below [`FORCED_MAX`].
    pub fn first_version(forced: u64, epoch: Epoch) -> u64 {
        forced << FORCED_SHIFT | (epoch.0 & EPOCH_MAX) << EPOCH_SHIFT
    }

    /// Whether the member in `slot` was left out, so that it may have a history of its own.
    pub fn is_left_out(&self, slot: Slot) -> bool {
        self.forced() > 0 && self.slots[slot.index()].state == SlotState::Stale { since: Generation(0) }
    }

    /// The brick that had a slot before a spare took it, which is not current yet; and what that brick is known to have.
    pub fn replaced_in(&self, slot: Slot) -> Option<(BrickId, Generation)> {
        self.formers.iter().find_map(|former| match former {
            Former::Replaced { brick, slot: its, since } if *its == slot => Some((*brick, *since)),
            _ => None,
        })
    }

    /// The slot that a brick may have again, and what it is known to have.
    pub fn may_return(&self, brick: BrickId) -> Option<(Slot, Generation)> {
        self.formers.iter().find_map(|former| match former {
            Former::Replaced { brick: its, slot, since } if *its == brick => Some((*slot, *since)),
            _ => None,
        })
    }

    /// Whether a brick is a spare with files that never counted.
    pub fn is_released(&self, brick: BrickId) -> bool {
        self.formers.contains(&Former::Released { brick })
    }

    /// The slot of a brick, when it is a member.
    pub fn slot_of(&self, brick: BrickId) -> Option<Slot> {
        self.slots.iter().position(|record| record.brick == brick).map(|i| Slot(i as u8))
    }
}

/// How a brick keeps owners, permissions and special files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ownership {
    /// Natively: the server runs as root.
    Native,
    /// In the object's xattr: the server runs as an ordinary user.
    Recorded,
}

/// What a brick says of itself; kept twice under `.net_raid/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The volume that the brick belongs to.
    pub volume: VolumeId,
    /// The volume's name (`diskname`) when it was formed: for messages only.
    pub name: String,
    /// The brick's own id.
    pub brick: BrickId,
    /// How owners and special files are kept.
    pub ownership: Ownership,
    /// Newest epoch accepted.
    pub epoch: Epoch,
    /// Newest generation that the brick completed.
    pub complete: Generation,
    /// Newest membership record that reached the brick.
    pub membership: Membership,
}
