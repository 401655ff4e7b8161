//! Sums that tell sets of names apart without sending them: two bricks that hold the same names in a directory have the same sums.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Name, ObjectId};

#[cfg(test)]
mod tests;

/// Parts that the names of a directory are divided into, by a hash of the name.
pub const NAME_PARTS: u8 = 64;

/// Some of the parts that the names of a directory are divided into: one bit each, the lowest for part 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameParts(pub u64);

impl NameParts {
    /// All parts.
    pub const ALL: NameParts = NameParts(u64::MAX);

    /// Whether a name is in one of them.
    pub fn has(self, name: &Name) -> bool {
        self.0 >> part_of(name) & 1 == 1
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Tells sets of directory entries apart, in any order of these: what they name, and by which names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameSum {
    /// How many entries.
    pub count: u64,
    /// Sum over [`NameSum::of`] each, modulo 2^64.
    pub sum: u64,
}

impl NameSum {
    /// The sum of one entry: FNV-1a with 64 bits over the name and the bytes of the id, little-endian, and then the
    /// finalizer of splitmix64, so that sums of several entries do not meet.
    pub fn of(name: &Name, id: ObjectId) -> NameSum {
        let hash = fnv(fnv(FNV_BASIS, name.as_bytes()), &id.0.to_le_bytes());
        NameSum { count: 1, sum: finalize(hash) }
    }

    fn with(self, other: NameSum) -> NameSum {
        NameSum { count: self.count.wrapping_add(other.count), sum: self.sum.wrapping_add(other.sum) }
    }

    fn without(self, other: NameSum) -> NameSum {
        NameSum { count: self.count.wrapping_sub(other.count), sum: self.sum.wrapping_sub(other.sum) }
    }
}

/// A sum for each part of the names of a directory; those of no entry are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<u8, NameSum>", into = "BTreeMap<u8, NameSum>")]
pub struct NameSums(BTreeMap<u8, NameSum>);

impl NameSums {
    /// Counts an entry.
    pub fn add(&mut self, name: &Name, id: ObjectId) {
        self.update(part_of(name), |sum| sum.with(NameSum::of(name, id)));
    }

    /// Takes an entry out that is among these.
    pub fn remove(&mut self, name: &Name, id: ObjectId) {
        self.update(part_of(name), |sum| sum.without(NameSum::of(name, id)));
    }

    /// Counts the entries of another page.
    pub fn merge(&mut self, other: &NameSums) {
        for (part, more) in &other.0 {
            self.update(*part, |sum| sum.with(*more));
        }
    }

    /// The parts in which the two differ.
    pub fn differing(&self, other: &NameSums) -> NameParts {
        let differs = |part: &u8| self.0.get(part) != other.0.get(part);
        NameParts((0..NAME_PARTS).filter(differs).fold(0, |parts, part| parts | 1 << part))
    }

    fn update(&mut self, part: u8, new: impl Fn(NameSum) -> NameSum) {
        match new(self.0.get(&part).copied().unwrap_or_default()) {
            sum if sum == NameSum::default() => self.0.remove(&part),
            sum => self.0.insert(part, sum),
        };
    }
}

impl From<NameSums> for BTreeMap<u8, NameSum> {
    fn from(sums: NameSums) -> Self {
        sums.0
    }
}

impl TryFrom<BTreeMap<u8, NameSum>> for NameSums {
    type Error = &'static str;

    fn try_from(sums: BTreeMap<u8, NameSum>) -> Result<Self, Self::Error> {
        let fits = sums.iter().all(|(part, sum)| *part < NAME_PARTS && *sum != NameSum::default());
        fits.then_some(NameSums(sums)).ok_or("sums of parts of names that there are not")
    }
}

/// The part of a name: the six highest bits of its hash, which is that of [`NameSum::of`] without an id.
fn part_of(name: &Name) -> u8 {
    (finalize(fnv(FNV_BASIS, name.as_bytes())) >> (u64::BITS - NAME_PARTS.ilog2())) as u8
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn finalize(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}
