//! Pure: how the names of all members become equal.
//!
//! A *view* is what one member has of the directories that may differ. Places (a name in a directory) where the views
//! differ fall into groups that hang together: through an object that is at several of them, or through a directory
//! above them that moved itself. Each group becomes what it is in one view, its *source*; so a change that only some
//! members have made is there afterwards as a whole or not at all, whatever other changes were under way.
//!
//! A regular file that some member does not have cannot be served, and goes: it was being made, or being removed.
//! Everything else can be made anew from the source.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use net_raid_proto::ids::{Name, ObjectId, Slot};
use net_raid_proto::message::{Change, Entry, Kind};

/// A name in a directory.
pub(in crate::volume) type Place = (ObjectId, Name);

/// What one member has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::volume) struct View {
    /// Names of the directories that were read; names that are the same everywhere, of what nobody changed, may be left out.
    pub(super) dirs: BTreeMap<ObjectId, BTreeMap<Name, ObjectId>>,
    /// The root, all that is named in these directories, and what is detached.
    pub(super) objects: BTreeMap<ObjectId, Entry>,
    /// Objects that are kept outside of the tree.
    pub(super) detached: BTreeSet<ObjectId>,
}

/// One change of one member's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::volume) struct Step {
    pub(super) what: What,
    pub(super) place: Place,
    pub(super) id: ObjectId,
}

/// What a step does with the object and the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::volume) enum What {
    /// Takes the name away.
    Detach,
    /// Gives a detached object the name.
    Attach,
    /// Gives an object with other names one more.
    Link,
    /// Makes the object anew, as the source has it.
    Create,
}

/// What must be done, and what is true then.
#[derive(Debug, Default)]
pub(in crate::volume) struct Plan {
    /// In order, for each member.
    pub(super) steps: Vec<(Slot, Vec<Step>)>,
    /// The member whose attributes count, of objects whose names differ.
    pub(super) source: BTreeMap<ObjectId, Slot>,
    /// Objects that have no name any more.
    pub(super) gone: BTreeSet<ObjectId>,
}

impl Step {
    /// The request; `None` when the object must be made anew.
    pub(super) fn change(&self) -> Option<Change> {
        let (id, (parent, name)) = (self.id, self.place.clone());
        match self.what {
            What::Detach => Some(Change::Detach { parent, name, id }),
            What::Attach => Some(Change::Attach { id, parent, name }),
            What::Link => Some(Change::Link { id, parent, name }),
            What::Create => None,
        }
    }
}

fn is_dir(entry: &Entry) -> bool {
    entry.attr.kind == Kind::Directory
}

impl View {
    /// Notes names of a directory that was read, of those that may differ.
    pub(super) fn read(&mut self, dir: ObjectId, entries: impl IntoIterator<Item = (Name, Entry)>) {
        self.dirs.entry(dir).or_default();
        entries.into_iter().for_each(|(name, entry)| self.found(dir, name, entry));
    }

    /// Notes a name that was read.
    pub(super) fn found(&mut self, dir: ObjectId, name: Name, entry: Entry) {
        self.dirs.entry(dir).or_default().insert(name, entry.id);
        // It may have been found by its id before its directory was.
        self.detached.remove(&entry.id);
        self.objects.insert(entry.id, entry);
    }

    /// Notes an object that was found by its id only.
    pub(super) fn found_outside(&mut self, entry: Entry) {
        // Of other objects a name may be in a directory that was not read, because it is the same everywhere.
        if is_dir(&entry) || entry.attr.nlink == 0 {
            self.detached.insert(entry.id);
        }
        self.objects.insert(entry.id, entry);
    }

    pub(super) fn at(&self, (dir, name): &Place) -> Option<ObjectId> {
        self.dirs.get(dir)?.get(name).copied()
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (Place, ObjectId)> + '_ {
        let names = |(dir, names): (&ObjectId, &'_ BTreeMap<Name, ObjectId>)| {
            let dir = *dir;
            names.iter().map(|(name, id)| ((dir, name.clone()), *id)).collect::<Vec<_>>()
        };
        self.dirs.iter().flat_map(names)
    }

    /// One place of every object that has one.
    pub(super) fn parents(&self) -> BTreeMap<ObjectId, Place> {
        self.places().map(|(place, id)| (id, place)).collect()
    }

    /// Names that lead to an object, and where they begin: at the root, or at what is detached. `None` when it has no
    /// name in the directories that were read.
    pub(super) fn path(&self, id: ObjectId) -> Option<Vec<Place>> {
        let mut path = Vec::new();
        let mut at = id;
        while at != ObjectId::ROOT && !self.detached.contains(&at) {
            let place = self.places().find(|(_, named)| *named == at)?.0;
            at = place.0;
            path.push(place);
        }
        path.reverse();
        Some(path)
    }

    /// What the member has after a step; `made` is what a Create makes.
    pub(super) fn apply(&mut self, step: &Step, made: Option<&Entry>) {
        let (dir, name) = &step.place;
        if step.what == What::Create
            && let Some(made) = made
        {
            let mut entry = made.clone();
            entry.attr.nlink = 0;
            if is_dir(&entry) {
                self.dirs.entry(step.id).or_default();
            }
            self.objects.insert(step.id, entry);
        }
        let names = self.dirs.entry(*dir).or_default();
        let Some(entry) = self.objects.get_mut(&step.id) else { return };
        if step.what == What::Detach {
            names.remove(name);
            if is_dir(entry) || entry.attr.nlink <= 1 {
                self.detached.insert(step.id);
            }
            if !is_dir(entry) {
                entry.attr.nlink = entry.attr.nlink.saturating_sub(1);
            }
            return;
        }
        names.insert(name.clone(), step.id);
        self.detached.remove(&step.id);
        if !is_dir(entry) {
            entry.attr.nlink += 1;
        }
    }
}

/// Objects with names that some view does not show: these are in directories that are the same on all members, so that
/// all members have the object.
pub(super) fn hidden(views: &[(Slot, View)]) -> BTreeSet<ObjectId> {
    let more_links = |(_, view): &(Slot, View)| {
        let mut shown: BTreeMap<ObjectId, u32> = BTreeMap::new();
        view.places().for_each(|(_, id)| *shown.entry(id).or_default() += 1);
        let others = view.objects.values().filter(|entry| entry.attr.kind != Kind::Directory);
        let hidden = others.filter(|entry| entry.attr.nlink > shown.get(&entry.id).copied().unwrap_or(0));
        hidden.map(|entry| entry.id).collect::<Vec<_>>()
    };
    views.iter().flat_map(more_links).collect()
}

/// Plans the steps that make the names of all members equal.
pub(in crate::volume) fn plan(views: &[(Slot, View)]) -> Plan {
    let differing = differing(views);
    let mut plan = Plan::default();
    // What all views agree on, and of the rest what is chosen.
    let mut wanted: BTreeMap<Place, ObjectId> = match views.first() {
        Some((_, view)) => view.places().filter(|(place, _)| !differing.contains(place)).collect(),
        None => return plan,
    };
    for group in groups(views, &differing) {
        let (slot, view) = source(views, &group);
        plan.source.extend(group.objects.iter().map(|id| (*id, slot)));
        plan.gone.extend(&group.objects);
        let chosen = group.places.iter().filter_map(|place| Some((place.clone(), view.at(place)?)));
        wanted.extend(chosen.filter(|(_, id)| can_stay(views, view, *id)));
    }
    let named: BTreeSet<ObjectId> = wanted.values().copied().collect();
    let hidden = hidden(views);
    plan.gone.retain(|id| !named.contains(id) && !hidden.contains(id));
    // A directory that stays takes the times of a member that has done what is done now.
    for place in &differing {
        let slot = views.iter().find_map(|(_, view)| plan.source.get(&view.at(place)?).copied());
        if let Some(slot) = slot {
            plan.source.entry(place.0).or_insert(slot);
        }
    }
    for (slot, view) in views {
        let steps = steps(views, &plan.source, view, &differing, &wanted);
        plan.steps.push((*slot, steps));
    }
    plan
}

/// Places that do not name the same thing in all views.
fn differing(views: &[(Slot, View)]) -> BTreeSet<Place> {
    let mut found: BTreeMap<Place, (ObjectId, usize)> = BTreeMap::new();
    let mut differing = BTreeSet::new();
    for (place, id) in views.iter().flat_map(|(_, view)| view.places()) {
        let (first, count) = found.entry(place.clone()).or_insert((id, 0));
        *count += 1;
        if *first != id {
            differing.insert(place);
        }
    }
    let partly = found.into_iter().filter(|(_, (_, count))| *count != views.len()).map(|(place, _)| place);
    differing.extend(partly);
    differing
}

/// Places and objects that hang together.
#[derive(Debug, Default)]
struct Group {
    places: BTreeSet<Place>,
    objects: BTreeSet<ObjectId>,
}

fn groups(views: &[(Slot, View)], differing: &BTreeSet<Place>) -> Vec<Group> {
    let moving: BTreeSet<ObjectId> =
        differing.iter().flat_map(|place| views.iter().filter_map(|(_, view)| view.at(place))).collect();
    let parents: Vec<BTreeMap<ObjectId, Place>> = views.iter().map(|(_, view)| view.parents()).collect();
    let mut union = Union::default();
    for place in differing {
        let mut linked: BTreeSet<ObjectId> = views.iter().filter_map(|(_, view)| view.at(place)).collect();
        for parents in &parents {
            let above = std::iter::successors(Some(place.0), |dir| parents.get(dir).map(|(parent, _)| *parent));
            linked.extend(above.filter(|dir| moving.contains(dir)));
        }
        let mut linked = linked.into_iter();
        if let Some(first) = linked.next() {
            linked.for_each(|other| union.join(first, other));
        }
    }
    let mut groups: BTreeMap<ObjectId, Group> = BTreeMap::new();
    for place in differing {
        let Some(any) = views.iter().find_map(|(_, view)| view.at(place)) else { continue };
        groups.entry(union.root(any)).or_default().places.insert(place.clone());
    }
    for id in moving {
        groups.entry(union.root(id)).or_default().objects.insert(id);
    }
    groups.into_values().collect()
}

/// Which objects were joined: each points towards the one that stands for all of them.
#[derive(Default)]
struct Union(BTreeMap<ObjectId, ObjectId>);

impl Union {
    fn root(&mut self, id: ObjectId) -> ObjectId {
        let mut root = id;
        while let Some(next) = self.0.get(&root) {
            root = *next;
        }
        if root != id {
            self.0.insert(id, root);
        }
        root
    }

    fn join(&mut self, one: ObjectId, other: ObjectId) {
        let (one, other) = (self.root(one), self.root(other));
        if one != other {
            self.0.insert(one, other);
        }
    }
}

/// The view that a group follows: the one that loses least, the first of several.
fn source<'a>(views: &'a [(Slot, View)], group: &Group) -> (Slot, &'a View) {
    let loses = |view: &View| {
        // What is detached was put there by a recovery that was interrupted: elsewhere it has its place.
        let outside =
            group.objects.iter().filter(|id| view.detached.contains(id) && can_stay(views, view, **id)).count();
        let named: BTreeSet<ObjectId> = group.places.iter().filter_map(|place| view.at(place)).collect();
        (outside, named.iter().filter(|id| !can_stay(views, view, **id)).count())
    };
    let best = views.iter().min_by_key(|(_, view)| loses(view));
    let (slot, view) = best.expect("there are places, so there are views");
    (*slot, view)
}

/// Whether an object of `view` is on all members, or can be made there.
fn can_stay(views: &[(Slot, View)], view: &View, id: ObjectId) -> bool {
    let file = view.objects.get(&id).is_some_and(|entry| entry.attr.kind == Kind::File);
    !file || views.iter().all(|(_, view)| view.objects.contains_key(&id))
}

/// How many directories are above a place, by the places of directories; the deepest is at most as deep as there are
/// directories.
fn depth(dirs: &BTreeMap<ObjectId, ObjectId>, dir: ObjectId) -> usize {
    std::iter::successors(Some(dir), |dir| dirs.get(dir).copied()).take(dirs.len() + 1).count()
}

fn steps(
    views: &[(Slot, View)],
    source: &BTreeMap<ObjectId, Slot>,
    view: &View,
    differing: &BTreeSet<Place>,
    wanted: &BTreeMap<Place, ObjectId>,
) -> Vec<Step> {
    let mut now = view.clone();
    let mut steps = Vec::new();
    let above: BTreeMap<ObjectId, ObjectId> = view.parents().into_iter().map(|(id, (dir, _))| (id, dir)).collect();
    let wrong = |place: &&Place| view.at(place).is_some_and(|id| wanted.get(*place) != Some(&id));
    let mut going: Vec<&Place> = differing.iter().filter(wrong).collect();
    // From below: what is in a directory is sorted out before the directory goes.
    going.sort_by_key(|place| std::cmp::Reverse(depth(&above, place.0)));
    for place in going {
        let Some(id) = now.at(place) else { continue };
        let step = Step { what: What::Detach, place: place.clone(), id };
        now.apply(&step, None);
        steps.push(step);
    }
    let above: BTreeMap<ObjectId, ObjectId> = wanted.iter().map(|((dir, _), id)| (*id, *dir)).collect();
    let missing = |place: &&Place| wanted.contains_key(*place) && now.at(place).is_none();
    let mut coming: Vec<&Place> = differing.iter().filter(missing).collect();
    // From above: a directory is there before what is in it.
    coming.sort_by_key(|place| depth(&above, place.0));
    for place in coming {
        let id = wanted[place];
        let what = match now.objects.get(&id) {
            _ if now.detached.contains(&id) => What::Attach,
            Some(_) => What::Link,
            None => What::Create,
        };
        let step = Step { what, place: place.clone(), id };
        now.apply(&step, made(views, source, id));
        steps.push(step);
    }
    steps
}

/// An object as its source has it.
pub(super) fn made<'a>(
    views: &'a [(Slot, View)],
    source: &BTreeMap<ObjectId, Slot>,
    id: ObjectId,
) -> Option<&'a Entry> {
    let slot = source.get(&id)?;
    views.iter().find(|(view, _)| view == slot)?.1.objects.get(&id)
}
