//! The arrays that the tests run on, and what each promises.

use std::fmt;

/// Bytes of one stripe on one brick.
pub const UNIT: u64 = 64 * 1024;

/// A RAID level with a number of bricks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    /// 1, 5 or 6.
    pub level: u8,
    /// Members, without spares.
    pub bricks: usize,
}

/// In which state a test finds the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Every server runs.
    Healthy,
    /// As many servers as the level allows were killed with -9 after the mount.
    Degraded,
}

impl Array {
    /// The smallest mirror.
    pub const RAID1: Array = Array { level: 1, bricks: 2 };
    /// The smallest array with one parity.
    pub const RAID5: Array = Array { level: 5, bricks: 3 };
    /// The smallest array with two parities: as many parity units as data units.
    pub const RAID6_NARROW: Array = Array { level: 6, bricks: 4 };
    /// The array of the quickstart: a stripe is wider than what most programs write at once.
    pub const RAID6: Array = Array { level: 6, bricks: 6 };

    /// Every array that the tests run on.
    pub const ALL: [Array; 4] = [Self::RAID1, Self::RAID5, Self::RAID6_NARROW, Self::RAID6];

    /// Servers that may be lost.
    pub fn losses(self) -> usize {
        match self.level {
            1 => self.bricks - 1,
            5 => 1,
            6 => 2,
            other => panic!("no RAID level {other}"),
        }
    }

    /// Bricks' worth of data that the array holds.
    pub fn data_bricks(self) -> usize {
        self.bricks - self.losses()
    }

    /// Bytes of data in one stripe; for a mirror one unit, which is as good a step as any.
    pub fn stripe_bytes(self) -> u64 {
        self.data_bricks() as u64 * UNIT
    }

    /// The bricks that a degraded test kills: the first, and others far from it.
    pub fn victims(self) -> Vec<usize> {
        let step = self.bricks.div_ceil(self.losses()).min(self.bricks - 1);
        (0..self.losses()).map(|i| i * step % self.bricks).collect()
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "raid{}x{}", self.level, self.bricks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn victims_are_different_bricks_and_exactly_as_many_as_may_be_lost() {
        for array in Array::ALL {
            let victims: BTreeSet<_> = array.victims().into_iter().collect();
            assert_eq!(victims.len(), array.losses(), "{array}");
            assert!(victims.iter().all(|&v| v < array.bricks), "{array}");
        }
    }
}
