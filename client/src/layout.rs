//! Where the bytes of a file are: positions only, never bytes.
//!
//! A file is a sequence of stripes; a stripe has one unit on every member. Unit `s` of a brick's file
//! belongs to stripe `s`. Within a stripe the units have an *index*: data units first, then P, then Q
//! (level 1: every index is a copy of the one data unit). Parity rotates over the slots with the
//! stripe, and starts at a place that depends on the object, so that small files use every member.

use net_raid_proto::ids::{ObjectId, Slot};
use net_raid_proto::layout::{Layout, Level};
use net_raid_proto::limits::{BLOCK_SIZE, UNIT_SIZE};

/// Bytes of a unit, as file offsets count.
pub const UNIT: u64 = UNIT_SIZE as u64;
/// Bytes of a block, as file offsets count.
pub const BLOCK: u64 = BLOCK_SIZE as u64;

/// A set of slots, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SlotSet(pub u32);

impl SlotSet {
    /// None.
    pub const EMPTY: SlotSet = SlotSet(0);

    /// The slots below `width`.
    pub fn all(width: usize) -> SlotSet {
        SlotSet((1 << width) - 1)
    }

    /// Whether `slot` is in the set.
    pub fn has(self, slot: Slot) -> bool {
        self.0 >> slot.0 & 1 == 1
    }

    /// The set with `slot`.
    #[must_use]
    pub fn with(self, slot: Slot) -> SlotSet {
        SlotSet(self.0 | 1 << slot.0)
    }

    /// The set without `slot`.
    #[must_use]
    pub fn without(self, slot: Slot) -> SlotSet {
        SlotSet(self.0 & !(1 << slot.0))
    }

    /// The slots in both.
    #[must_use]
    pub fn and(self, other: SlotSet) -> SlotSet {
        SlotSet(self.0 & other.0)
    }

    /// How many.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The slots, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        (0..32).map(Slot).filter(move |slot| self.has(*slot))
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> SlotSet {
        slots.into_iter().fold(SlotSet::default(), SlotSet::with)
    }
}

/// A piece of one unit, blocks whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Stripe.
    pub stripe: u64,
    /// Index in the stripe.
    pub index: usize,
    /// First byte within the unit.
    pub start: usize,
    /// End (exclusive) within the unit.
    pub end: usize,
}

impl Piece {
    /// Bytes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// Positions of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    layout: Layout,
    rotation: u64,
}

impl Geometry {
    /// Positions of object `id` with its layout.
    pub fn new(layout: Layout, id: ObjectId) -> Geometry {
        Geometry { layout, rotation: id.0 % u64::from(layout.width) }
    }

    /// Units of a stripe.
    pub fn width(&self) -> usize {
        usize::from(self.layout.width)
    }

    /// Data units of a stripe.
    pub fn data_units(&self) -> usize {
        self.layout.data_units()
    }

    /// Redundancy level.
    pub fn level(&self) -> Level {
        self.layout.level
    }

    /// Logical bytes of a stripe.
    pub fn stripe_bytes(&self) -> u64 {
        self.data_units() as u64 * UNIT
    }

    /// All slots that hold units of this object.
    pub fn slots(&self) -> SlotSet {
        (0..self.width()).map(|position| Slot(self.layout.slot_at(position) as u8)).collect()
    }

    /// Position of index 0 in a stripe.
    fn first_position(&self, stripe: u64) -> usize {
        let width = u64::from(self.layout.width);
        let turn = (stripe % width + self.rotation) % width;
        let last_parity = (width - 1 - turn) as usize;
        match self.layout.level {
            // Copies do not rotate: index is position.
            Level::Raid1 => 0,
            // P, then the data after it.
            Level::Raid5 => (last_parity + 1) % self.width(),
            // P, Q, then the data after them.
            Level::Raid6 => (last_parity + 2) % self.width(),
        }
    }

    /// The slot that holds index `index` of a stripe.
    ///
    /// # Panics
    /// When `index` is not below the width.
    pub fn slot(&self, stripe: u64, index: usize) -> Slot {
        assert!(index < self.width());
        let position = (self.first_position(stripe) + index) % self.width();
        Slot(self.layout.slot_at(position) as u8)
    }

    /// The index that `slot` holds in a stripe; `None` when the object has no unit there.
    pub fn index_at(&self, stripe: u64, slot: Slot) -> Option<usize> {
        (0..self.width()).find(|&index| self.slot(stripe, index) == slot)
    }

    /// The data pieces of the logical range `start..end`, whose ends are multiples of a block.
    pub fn pieces(&self, start: u64, end: u64) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(((end - start) / UNIT) as usize + 2);
        let mut at = start;
        while at < end {
            let unit_end = (at / UNIT + 1) * UNIT;
            let stop = unit_end.min(end);
            let (unit, offset) = (at / UNIT, (at % UNIT) as usize);
            let data_units = self.data_units() as u64;
            let piece = Piece {
                stripe: unit / data_units,
                index: (unit % data_units) as usize,
                start: offset,
                end: offset + (stop - at) as usize,
            };
            pieces.push(piece);
            at = stop;
        }
        pieces
    }

    /// First logical byte of a data unit.
    pub fn logical(&self, stripe: u64, index: usize) -> u64 {
        stripe * self.stripe_bytes() + index as u64 * UNIT
    }

    /// Bytes of the brick's file in `slot` that a file of `size` bytes needs.
    pub fn brick_len(&self, size: u64, slot: Slot) -> u64 {
        if size == 0 {
            return 0;
        }
        let last = (size - 1) / self.stripe_bytes();
        let rest = size - last * self.stripe_bytes();
        let Some(index) = self.index_at(last, slot) else { return 0 };
        let before = if index < self.data_units() { index as u64 * UNIT } else { 0 };
        let before = if self.layout.level == Level::Raid1 { 0 } else { before };
        last * UNIT + rest.saturating_sub(before).min(UNIT)
    }
}

/// `at` rounded down to a whole block.
pub fn block_floor(at: u64) -> u64 {
    at / BLOCK * BLOCK
}

/// `at` rounded up to a whole block.
pub fn block_ceil(at: u64) -> u64 {
    at.div_ceil(BLOCK) * BLOCK
}

#[cfg(test)]
mod tests;
