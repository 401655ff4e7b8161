//! The record of who is in a volume, and the label that every brick carries.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::ids::{BrickId, Epoch, Generation, Slot, VolumeId};
use crate::layout::Level;
use crate::limits::{MEMBERS_MAX, VOTERS_MAX};

/// Version of the brick format that this build writes; a newer one is refused.
pub const FORMAT_VERSION: u16 = 1;

/// Whether the brick of a slot holds everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotState {
    /// It holds everything that was acknowledged.
    Current,
    /// It was dropped and misses changes made after this generation was complete.
    Stale {
        /// Last generation that it completed.
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

/// Who is in a volume: kept on every voter, the highest version wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Grows with each change of this record; the upper 32 bits are the epoch of the owner that made it, or 0 in the first
    /// record. No version is used for two records, even where one of them reached a part of the voters only.
    pub version: u64,
    /// Redundancy of the volume.
    pub level: Level,
    /// One record a slot.
    pub slots: Vec<SlotRecord>,
    /// Bricks (members and spares) that hold this record and count at assembly.
    pub voters: Vec<BrickId>,
}

impl Membership {
    /// Whether the numbers are within their ranges and no brick is named twice: what came from a wire or a
    /// disk is checked with this before anything else here is asked.
    pub fn is_valid(&self) -> bool {
        let members: HashSet<BrickId> = self.slots.iter().map(|record| record.brick).collect();
        let voters: HashSet<BrickId> = self.voters.iter().copied().collect();
        self.version >= 1
            && (self.level.members_min()..=MEMBERS_MAX).contains(&self.slots.len())
            && (1..=VOTERS_MAX).contains(&self.voters.len())
            && members.len() == self.slots.len()
            && voters.len() == self.voters.len()
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
