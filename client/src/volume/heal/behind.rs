//! Pure: what of a member may not be as on the others.
//!
//! A member that is being healed is sent no changes. What each of them touches is *under way* while it is made, and *behind* as
//! soon as it is concluded. What is neither is the same on the member as on the current ones.

use std::collections::{BTreeMap, BTreeSet};

use net_raid_proto::ids::{Name, ObjectId, Slot};
use net_raid_proto::message::{Change, RenameTarget};

/// A name in a directory.
pub(in crate::volume) type Place = (ObjectId, Name);

/// Stripes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::volume) enum Stripes {
    /// These.
    Some(BTreeSet<u64>),
    /// Any that the records tell of, and these, of which they do not.
    Any(BTreeSet<u64>),
    /// All that were ever written.
    All,
}

impl Stripes {
    /// Any that the records tell of.
    pub(super) fn any() -> Stripes {
        Stripes::Any(BTreeSet::new())
    }

    pub(super) fn add(&mut self, more: Stripes) {
        let one = std::mem::replace(self, Stripes::All);
        *self = match (one, more) {
            (Stripes::All, _) | (_, Stripes::All) => Stripes::All,
            (Stripes::Some(mut all), Stripes::Some(more)) => {
                all.extend(more);
                Stripes::Some(all)
            }
            (Stripes::Any(mut all) | Stripes::Some(mut all), Stripes::Any(more) | Stripes::Some(more)) => {
                all.extend(more);
                Stripes::Any(all)
            }
        };
    }

    fn touches(&self, first: u64, last: u64) -> bool {
        match self {
            Stripes::Some(all) => all.range(first..=last).next().is_some(),
            Stripes::Any(_) | Stripes::All => true,
        }
    }
}

/// What may differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::volume) struct Touched {
    /// Names that may name something else.
    pub(super) places: BTreeSet<Place>,
    /// Objects that may have other names.
    pub(super) renamed: BTreeSet<ObjectId>,
    /// Objects whose attributes may be others.
    pub(super) objects: BTreeSet<ObjectId>,
    /// Bytes of files.
    pub(super) data: BTreeMap<ObjectId, Stripes>,
    /// Objects that were made, so that they were nowhere before.
    pub(super) born: BTreeSet<ObjectId>,
    /// Objects that may have gone for ever.
    pub(super) gone: BTreeSet<ObjectId>,
    /// Where these objects were just before, and what is above them.
    pub(super) seen: BTreeMap<ObjectId, Place>,
}

/// Longest range of stripes that is kept one by one.
const ONE_BY_ONE: u64 = 4096;

impl Touched {
    /// Adds what a change touches, on whichever member.
    pub(super) fn add_change(&mut self, change: &Change) {
        match change {
            Change::Create { parent, name, id, .. } => {
                self.name(*parent, name, *id);
                self.born.insert(*id);
            }
            Change::Link { id, parent, name }
            | Change::Attach { id, parent, name }
            | Change::Detach { parent, name, id } => self.name(*parent, name, *id),
            // Whether it was the last name is told by who knows them.
            Change::Unlink { parent, name, id, .. } | Change::Rmdir { parent, name, id } => {
                self.name(*parent, name, *id);
                self.gone.insert(*id);
            }
            Change::Rename { parent, name, id, new_parent, new_name, target } => {
                self.name(*parent, name, *id);
                self.name(*new_parent, new_name, *id);
                match target {
                    RenameTarget::Absent => {}
                    RenameTarget::Replace { id, .. } => {
                        self.touch(*id);
                        self.gone.insert(*id);
                    }
                    RenameTarget::Exchange { id } => self.touch(*id),
                }
            }
            Change::Purge { id } => {
                self.touch(*id);
                self.gone.insert(*id);
            }
            Change::SetAttr { id, .. }
            | Change::SetXattr { id, .. }
            | Change::RemoveXattr { id, .. }
            | Change::Allocate { id, .. } => {
                self.objects.insert(*id);
            }
            Change::Write { id, parts, .. } => {
                self.objects.insert(*id);
                let units = parts.iter().map(|part| part.part.unit).collect();
                self.add_data(*id, Stripes::Some(units));
            }
            Change::Truncate { id, .. } => {
                self.objects.insert(*id);
                self.add_data(*id, Stripes::any());
            }
            Change::Punch { id, unit, count, .. } => {
                self.objects.insert(*id);
                let stripes = if *count > ONE_BY_ONE {
                    Stripes::any()
                } else {
                    Stripes::Some((*unit..unit.saturating_add(*count)).collect())
                };
                self.add_data(*id, stripes);
            }
        }
    }

    fn name(&mut self, parent: ObjectId, name: &Name, id: ObjectId) {
        self.places.insert((parent, name.clone()));
        self.objects.insert(parent);
        self.touch(id);
    }

    fn touch(&mut self, id: ObjectId) {
        self.renamed.insert(id);
        self.objects.insert(id);
    }

    pub(super) fn add_data(&mut self, id: ObjectId, stripes: Stripes) {
        match self.data.get_mut(&id) {
            Some(all) => all.add(stripes),
            None => drop(self.data.insert(id, stripes)),
        }
    }

    pub(in crate::volume) fn add(&mut self, more: Touched) {
        self.places.extend(more.places);
        self.renamed.extend(more.renamed);
        self.objects.extend(more.objects);
        self.born.extend(more.born);
        self.gone.extend(more.gone);
        // What was seen first is where a member may have it that misses all.
        more.seen.into_iter().for_each(|(id, place)| {
            self.seen.entry(id).or_insert(place);
        });
        more.data.into_iter().for_each(|(id, stripes)| self.add_data(id, stripes));
    }

    /// Notes where all that is touched is now, by what `place_of` knows.
    pub(super) fn locate(&mut self, place_of: impl Fn(ObjectId) -> Option<Place>) {
        for id in self.objects.clone() {
            let mut at = id;
            while at != ObjectId::ROOT && !self.seen.contains_key(&at) {
                let Some(place) = place_of(at) else { break };
                at = self.seen.entry(at).or_insert(place).0;
            }
        }
    }

    /// Makes of what changes touched what a member may lack that has done some of them, and has everything else that was done until now:
    /// the generations of its records say nothing of these changes, and what was made it may have.
    pub(super) fn missed(mut self) -> Touched {
        self.renamed.clear();
        self.born.clear();
        let any = self.data.values_mut().filter(|stripes| matches!(stripes, Stripes::Any(_)));
        any.for_each(|stripes| *stripes = Stripes::All);
        self
    }

    /// Whether nothing differs.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.objects.is_empty() && self.data.is_empty()
    }

    /// How much there is to do, roughly in requests.
    pub(super) fn len(&self) -> usize {
        let stripes = |stripes: &Stripes| match stripes {
            Stripes::Some(all) => all.len(),
            Stripes::Any(_) | Stripes::All => 64,
        };
        self.places.len() + self.objects.len() + self.data.values().map(stripes).sum::<usize>()
    }

    fn touches_name(&self, place: &Place, id: Option<ObjectId>) -> bool {
        self.places.contains(place) || id.is_some_and(|id| self.renamed.contains(&id))
    }

    fn touches_data(&self, id: ObjectId, (first, last): (u64, u64)) -> bool {
        self.data.get(&id).is_some_and(|stripes| stripes.touches(first, last))
    }
}

/// What is under way, and what is behind on each member that is being healed.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    next: u64,
    under_way: BTreeMap<u64, Touched>,
    behind: BTreeMap<Slot, Touched>,
}

impl Frontier {
    /// From now on it is kept what changes touch that end.
    pub(super) fn open(&mut self, slot: Slot) {
        self.behind.insert(slot, Touched::default());
    }

    /// Nothing is kept any more.
    pub(super) fn close(&mut self, slot: Slot) {
        self.behind.remove(&slot);
    }

    /// A change begins; returns its number.
    pub(super) fn begin(&mut self, touched: Touched) -> u64 {
        self.next += 1;
        self.under_way.insert(self.next, touched);
        self.next
    }

    /// A change is concluded, one way or the other.
    pub(super) fn end(&mut self, number: u64) {
        let Some(touched) = self.under_way.remove(&number) else { return };
        self.behind.values_mut().for_each(|behind| behind.add(touched.clone()));
    }

    /// More may differ on a member.
    pub(super) fn add(&mut self, slot: Slot, touched: Touched) {
        if let Some(behind) = self.behind.get_mut(&slot) {
            behind.add(touched);
        }
    }

    /// What is behind on a member: the caller sees to it, or adds it again.
    pub(super) fn take(&mut self, slot: Slot) -> Touched {
        self.behind.get_mut(&slot).map(std::mem::take).unwrap_or_default()
    }

    /// How much is behind.
    pub(super) fn len(&self, slot: Slot) -> usize {
        self.behind.get(&slot).map_or(0, Touched::len)
    }

    pub(super) fn is_empty(&self, slot: Slot) -> bool {
        self.behind.get(&slot).is_none_or(Touched::is_empty)
    }

    fn any(&self, slot: Slot, touches: impl Fn(&Touched) -> bool) -> bool {
        self.behind.get(&slot).is_some_and(&touches) || self.under_way.values().any(touches)
    }

    /// Whether a name, or the names of what it names, may have changed since what was behind was taken.
    pub(super) fn has_name(&self, slot: Slot, place: &Place, id: Option<ObjectId>) -> bool {
        self.any(slot, |touched| touched.touches_name(place, id))
    }

    /// The same for stripes of a file.
    pub(super) fn has_data(&self, slot: Slot, id: ObjectId, stripes: (u64, u64)) -> bool {
        self.any(slot, |touched| touched.touches_data(id, stripes))
    }

    /// Whether the names of an object may have changed.
    pub(super) fn is_moving(&self, slot: Slot, id: ObjectId) -> bool {
        self.any(slot, |touched| touched.renamed.contains(&id))
    }

    /// Objects that have moved since the member is being healed, or are moving, and were somewhere before; and where they were.
    pub(super) fn moved(&self, slot: Slot) -> (BTreeSet<ObjectId>, BTreeMap<ObjectId, Place>) {
        let (mut moved, mut seen) = (BTreeSet::new(), BTreeMap::new());
        let mut born: BTreeSet<ObjectId> = BTreeSet::new();
        for touched in self.behind.get(&slot).into_iter().chain(self.under_way.values()) {
            moved.extend(&touched.renamed);
            born.extend(&touched.born);
            seen.extend(touched.seen.iter().map(|(id, place)| (*id, place.clone())));
        }
        moved.retain(|id| !born.contains(id));
        (moved, seen)
    }

    /// Whether an object was removed, or may have been, since the member is being healed.
    pub(super) fn may_be_gone(&self, slot: Slot, id: ObjectId) -> bool {
        self.any(slot, |touched| touched.gone.contains(&id))
    }
}

#[cfg(test)]
mod tests;
