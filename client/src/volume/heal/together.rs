//! Pure: what members that are healed at the same time read from the others once for all of them.
//!
//! Each goes through its files by itself, and takes what was read for it while another one did. All of that was begun to be read after
//! the member took what was behind, so that the look which it takes before it writes what it read itself is enough for this too: if no
//! change of the stripe is under way then, or was concluded since, the bytes are what the others have.
//!
//! Who began later goes where the one before it is, and sees to what that has passed in the end: so both want the same at the same
//! time, whenever the second one came. It waits for nothing but a read that is under way. Only before its first file a member waits for
//! those that are still about names, and for a moment.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use net_raid_proto::ids::{ObjectId, Slot};

use super::units::Behind;
use super::wanted::Wanted;

/// Units that are read, or were, for members that have not taken them yet, at most: 32 MiB.
const KEPT_MAX: usize = 512;

/// Consecutive units of a file.
pub(super) type Run = Vec<Behind>;
/// A stripe of a file.
pub(super) type Stripe = (ObjectId, u64);

/// All members that go through files at present, and what was read for some of them by another.
#[derive(Debug, Default)]
pub(super) struct Together {
    /// Members that have not come to any files yet.
    arriving: BTreeSet<Slot>,
    /// What users opened since a member is being healed.
    wanted: BTreeMap<Slot, Wanted>,
    passes: BTreeMap<Slot, Pass>,
    kept: BTreeMap<Stripe, BTreeMap<Slot, Kept>>,
    units: usize,
    /// Passes and reads are numbered.
    next: u64,
}

/// How far a member is with its files.
#[derive(Debug)]
struct Pass {
    number: u64,
    left: BTreeSet<ObjectId>,
    begun: BTreeMap<ObjectId, Course>,
    /// What users opened of these.
    first: BTreeSet<ObjectId>,
    last: ObjectId,
}

/// How far a member is within a file.
#[derive(Debug, Default)]
struct Course {
    /// By their first units; nothing is known of them in the beginning.
    left: Option<BTreeMap<u64, Run>>,
    /// Runs that are seen to, as first unit and length.
    begun: BTreeMap<u64, u64>,
    last: u64,
}

impl Course {
    fn wants(&self, unit: u64) -> bool {
        let Some(left) = &self.left else { return true };
        run_of(left, unit).is_some() || self.begun.range(..=unit).next_back().is_some_and(|(at, len)| unit < at + len)
    }
}

/// The run that a unit is in.
fn run_of(runs: &BTreeMap<u64, Run>, unit: u64) -> Option<u64> {
    runs.range(..=unit).next_back().filter(|(first, run)| unit < **first + run.len() as u64).map(|(first, _)| *first)
}

/// A unit that one member reads for another.
#[derive(Debug)]
enum Kept {
    /// It is being read, with this number.
    Reading(u64),
    Read(Bytes),
}

/// What a member is to do about a unit that it wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Here it is.
    Read(Bytes),
    /// Another one reads it just now.
    Reading,
    /// Read it, with units of the same stripe for these.
    Yours(Vec<Slot>),
}

impl Together {
    /// A member is being healed, and will go through files.
    pub(super) fn begin(&mut self, slot: Slot) {
        self.arriving.insert(slot);
        self.wanted.insert(slot, Wanted::default());
    }

    /// A member has come to its files.
    pub(super) fn arrive(&mut self, slot: Slot) {
        self.arriving.remove(&slot);
    }

    /// It is not any more.
    pub(super) fn end(&mut self, slot: Slot) {
        self.arrive(slot);
        self.wanted.remove(&slot);
        self.leave(slot);
    }

    /// Whether there are members that will go through files.
    pub(super) fn others_arrive(&self) -> bool {
        !self.arriving.is_empty()
    }

    /// A member begins to go through files. It has taken what was behind just before.
    pub(super) fn enter(&mut self, slot: Slot, files: impl Iterator<Item = ObjectId>) {
        self.leave(slot);
        let (number, left, last) = (self.number(), files.collect(), ObjectId(0));
        let pass = Pass { number, left, begun: BTreeMap::new(), first: BTreeSet::new(), last };
        self.passes.insert(slot, pass);
    }

    /// It has ended, one way or the other: whatever is read for it, or was, is of no use any more.
    pub(super) fn leave(&mut self, slot: Slot) {
        self.passes.remove(&slot);
        self.forget(slot, (ObjectId(0), 0), (ObjectId(u64::MAX), u64::MAX));
    }

    /// A number for a read.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A user opened a file: whoever is healed sees to it first.
    pub(super) fn want(&mut self, id: ObjectId) {
        self.wanted.values_mut().for_each(|wanted| wanted.note(id));
    }

    /// What users opened and a member did not see to yet.
    pub(super) fn wanted(&mut self, slot: Slot) -> Option<&mut Wanted> {
        self.wanted.get_mut(&slot)
    }

    /// A file that a member is to see to at once.
    pub(super) fn first_file(&mut self, slot: Slot) -> Option<ObjectId> {
        let (pass, wanted) = (self.passes.get_mut(&slot)?, self.wanted.get_mut(&slot)?);
        let id = wanted.next_of(&pass.left)?;
        pass.left.remove(&id);
        pass.begun.insert(id, Course::default());
        pass.first.insert(id);
        Some(id)
    }

    /// Whether a file is to wait for others that come first.
    pub(super) fn is_later(&self, slot: Slot, id: ObjectId) -> bool {
        self.passes.get(&slot).is_some_and(|pass| !pass.first.is_empty() && !pass.first.contains(&id))
    }

    /// The file that a member sees to next.
    pub(super) fn next_file(&mut self, slot: Slot) -> Option<ObjectId> {
        let pass = self.passes.get(&slot)?;
        let before = self.before(pass.number);
        let at_hand = || self.kept.iter().find(|((id, _), of)| pass.left.contains(id) && of.contains_key(&slot));
        let beside = || before?.begun.keys().find(|id| pass.left.contains(id));
        let after = |last| pass.left.range(last..).next().or_else(|| pass.left.first());
        let id = at_hand().map(|((id, _), _)| id).or_else(beside);
        let id = *id.or_else(|| after(before.map_or(pass.last, |before| before.last)))?;
        let pass = self.passes.get_mut(&slot)?;
        pass.left.remove(&id);
        pass.begun.insert(id, Course::default());
        pass.last = id;
        Some(id)
    }

    /// The pass that began before all others, if not that one itself.
    fn before(&self, number: u64) -> Option<&Pass> {
        self.passes.values().filter(|pass| pass.number < number).min_by_key(|pass| pass.number)
    }

    /// A file was seen to.
    pub(super) fn end_file(&mut self, slot: Slot, id: ObjectId) {
        let Some(pass) = self.passes.get_mut(&slot) else { return };
        pass.begun.remove(&id);
        pass.first.remove(&id);
        self.forget(slot, (id, 0), (id, u64::MAX));
    }

    /// These of the units of a file are to be written.
    pub(super) fn set_runs(&mut self, slot: Slot, id: ObjectId, runs: Vec<Run>) {
        let Some(course) = self.passes.get_mut(&slot).and_then(|pass| pass.begun.get_mut(&id)) else { return };
        let runs = runs.into_iter().filter_map(|run| Some((run.first()?.unit, run))).collect();
        let kept = self.kept.range((id, 0)..=(id, u64::MAX)).filter(|(_, of)| of.contains_key(&slot));
        let needless: Vec<Stripe> =
            kept.map(|(at, _)| *at).filter(|(_, unit)| run_of(&runs, *unit).is_none()).collect();
        course.left = Some(runs);
        needless.into_iter().for_each(|stripe| self.forget(slot, stripe, stripe));
    }

    /// The run that a member sees to next.
    pub(super) fn next_run(&mut self, slot: Slot, id: ObjectId) -> Option<Run> {
        let pass = self.passes.get(&slot)?;
        let course = pass.begun.get(&id)?;
        let left = course.left.as_ref()?;
        let kept = self.kept.range((id, 0)..=(id, u64::MAX)).filter(|(_, of)| of.contains_key(&slot));
        let at_hand = kept.filter_map(|((_, unit), _)| run_of(left, *unit)).next();
        let beside = || self.before(pass.number)?.begun.get(&id).map(|course| course.last);
        let first = at_hand.or_else(|| {
            let last = beside().unwrap_or(course.last);
            left.range(last..).next().or_else(|| left.first_key_value()).map(|(first, _)| *first)
        })?;
        let course = self.passes.get_mut(&slot)?.begun.get_mut(&id)?;
        let run = course.left.as_mut()?.remove(&first)?;
        course.begun.insert(first, run.len() as u64);
        course.last = first;
        Some(run)
    }

    /// A run was seen to, or cannot be now.
    pub(super) fn end_run(&mut self, slot: Slot, id: ObjectId, first: u64) {
        let course = self.passes.get_mut(&slot).and_then(|pass| pass.begun.get_mut(&id));
        let Some(len) = course.and_then(|course| course.begun.remove(&first)) else { return };
        self.forget(slot, (id, first), (id, first + len - 1));
    }

    /// A member wants `len` bytes of its unit of a stripe; if it has to read that, then as `number`.
    pub(super) fn claim(&mut self, slot: Slot, stripe: Stripe, len: usize, number: u64) -> Claim {
        match self.kept.get(&stripe).and_then(|of| of.get(&slot)) {
            Some(Kept::Reading(_)) => return Claim::Reading,
            Some(Kept::Read(bytes)) => {
                let bytes = bytes.clone();
                self.forget(slot, stripe, stripe);
                // The file was shorter when it was read for this one.
                if bytes.len() >= len {
                    return Claim::Read(bytes);
                }
            }
            None => {}
        }
        let (id, unit) = stripe;
        let wants = |pass: &Pass| pass.left.contains(&id) || pass.begun.get(&id).is_some_and(|file| file.wants(unit));
        let others = self.passes.iter().filter(|(other, pass)| **other != slot && wants(pass)).map(|(other, _)| *other);
        let has = |other: &Slot| self.kept.get(&stripe).is_some_and(|of| of.contains_key(other));
        let room = KEPT_MAX.saturating_sub(self.units);
        let others: Vec<Slot> = others.filter(|other| !has(other)).take(room).collect();
        for other in &others {
            self.kept.entry(stripe).or_default().insert(*other, Kept::Reading(number));
        }
        self.units += others.len();
        Claim::Yours(others)
    }

    /// A unit was read for another member; it may not want it any more.
    pub(super) fn hand_over(&mut self, slot: Slot, stripe: Stripe, number: u64, bytes: Bytes) {
        if let Some(kept @ Kept::Reading(_)) = self.kept.get_mut(&stripe).and_then(|of| of.get_mut(&slot))
            && matches!(kept, Kept::Reading(by) if *by == number)
        {
            *kept = Kept::Read(bytes);
        }
    }

    /// What was being read with this number and was not handed over is not to come.
    pub(super) fn give_up(&mut self, number: u64, stripes: impl Iterator<Item = Stripe>) {
        for stripe in stripes {
            let Some(of) = self.kept.get_mut(&stripe) else { continue };
            let before = of.len();
            of.retain(|_, kept| !matches!(kept, Kept::Reading(by) if *by == number));
            self.units -= before - of.len();
            if of.is_empty() {
                self.kept.remove(&stripe);
            }
        }
    }

    /// Forgets what is kept for a member of some stripes.
    fn forget(&mut self, slot: Slot, first: Stripe, last: Stripe) {
        let mut empty = Vec::new();
        for (stripe, of) in self.kept.range_mut(first..=last) {
            self.units -= usize::from(of.remove(&slot).is_some());
            if of.is_empty() {
                empty.push(*stripe);
            }
        }
        empty.iter().for_each(|stripe| drop(self.kept.remove(stripe)));
    }
}

#[cfg(test)]
mod tests;
