//! How an object is laid out over the members of its volume, as written with the object.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{MEMBERS_MAX, UNIT_SIZE};

/// Redundancy of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Level {
    /// Every member holds every file.
    Raid1,
    /// One parity unit (P) a stripe.
    Raid5,
    /// Two parity units (P and Q) a stripe.
    Raid6,
}

impl Level {
    /// The number that people write: 1, 5 or 6.
    pub fn number(self) -> u8 {
        match self {
            Level::Raid1 => 1,
            Level::Raid5 => 5,
            Level::Raid6 => 6,
        }
    }

    /// The level that `number` names.
    pub fn from_number(number: u8) -> Option<Level> {
        match number {
            1 => Some(Level::Raid1),
            5 => Some(Level::Raid5),
            6 => Some(Level::Raid6),
            _ => None,
        }
    }

    /// Fewest members of a volume of this level.
    pub fn members_min(self) -> usize {
        match self {
            Level::Raid1 => 2,
            Level::Raid5 => 3,
            Level::Raid6 => 4,
        }
    }

    /// Members, of `members`, that may be lost without losing data.
    pub fn redundancy(self, members: usize) -> usize {
        match self {
            Level::Raid1 => members - 1,
            Level::Raid5 => 1,
            Level::Raid6 => 2,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RAID-{}", self.number())
    }
}

/// The layout of one object: level, unit size and the slots over which it is spread.
///
/// `slots` names the slot of each position, four bits each, position 0 lowest, so that objects of
/// older widths can live beside newer ones when a volume grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layout {
    /// Redundancy.
    pub level: Level,
    /// Base-2 logarithm of the unit's bytes.
    pub unit_log2: u8,
    /// Positions in use.
    pub width: u8,
    /// Slot of each position, four bits each.
    pub slots: u64,
}

/// `slots` of a layout in which position i is slot i.
pub const IDENTITY_SLOTS: u64 = 0xfedc_ba98_7654_3210;

impl Layout {
    /// The layout of a new object on a volume of `width` members.
    ///
    /// # Panics
    /// When `width` is not within the level's range: the caller checked the configuration.
    pub fn new(level: Level, width: usize) -> Layout {
        assert!((level.members_min()..=MEMBERS_MAX).contains(&width));
        let mask = if width == 16 { u64::MAX } else { (1 << (4 * width)) - 1 };
        Layout { level, unit_log2: UNIT_SIZE.trailing_zeros() as u8, width: width as u8, slots: IDENTITY_SLOTS & mask }
    }

    /// Whether the numbers are within their ranges: what came from a wire or a disk is checked with this.
    pub fn is_valid(&self) -> bool {
        let width = usize::from(self.width);
        if self.unit_log2 as u32 != UNIT_SIZE.trailing_zeros() {
            return false;
        }
        if !(self.level.members_min()..=MEMBERS_MAX).contains(&width) {
            return false;
        }
        let mut seen = 0u16;
        (0..width).for_each(|position| seen |= 1 << self.slot_at(position));
        seen.count_ones() as usize == width
    }

    /// Slot of a position.
    pub fn slot_at(&self, position: usize) -> usize {
        (self.slots >> (4 * position) & 0xf) as usize
    }

    /// Data units of a stripe; the whole width less parity, 1 where every member holds the same.
    pub fn data_units(&self) -> usize {
        match self.level {
            Level::Raid1 => 1,
            Level::Raid5 => usize::from(self.width) - 1,
            Level::Raid6 => usize::from(self.width) - 2,
        }
    }
}
