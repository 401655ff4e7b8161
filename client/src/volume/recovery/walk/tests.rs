//! The walk leaves most of the tree alone: what it saw must suffice for the rest, too.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::model::{Op, ROOT, after, check, check_tree, histories, kept_files, perform, tree};
use super::super::names::{made, plan};
use super::*;

/// Stamps an object and all above it, as a brick does before a change.
fn stamp(view: &mut View, id: ObjectId, generation: Generation) {
    let parents = view.parents();
    let chain: Vec<ObjectId> = std::iter::successors(Some(id), |at| parents.get(at).map(|place| place.0)).collect();
    for id in chain {
        if let Some(entry) = view.objects.get_mut(&id) {
            entry.stamp = entry.stamp.max(generation);
        }
    }
}

/// What an operation stamps: the directories before it, the objects whose names change themselves.
fn perform_stamped(view: &mut View, op: &Op, generation: Generation) {
    let mut tried = view.clone();
    if !perform(&mut tried, op) {
        return;
    }
    let (places, id) = match op {
        Op::Create(place, id, _) => (vec![place], Some(*id)),
        Op::Link(id, place) => (vec![place], Some(*id)),
        Op::Remove(place) => (vec![place], view.at(place)),
        Op::Rename(from, to) | Op::Exchange(from, to) => (vec![from, to], view.at(from)),
    };
    let ids: Vec<ObjectId> = id.into_iter().chain(places.iter().filter_map(|place| view.at(place))).collect();
    places.iter().for_each(|place| stamp(view, place.0, generation));
    if let Op::Link(id, _) = op {
        stamp(view, *id, generation);
    }
    perform(view, op);
    for id in ids {
        if let Some(entry) = view.objects.get_mut(&id) {
            entry.stamp = generation;
        }
    }
}

/// Walks over members in memory.
fn walk(members: &[(Slot, View)], complete: Generation) -> Vec<(Slot, View)> {
    let root = |(slot, member): &(Slot, View)| {
        let mut view = View::default();
        view.objects.insert(ROOT, member.objects[&ROOT].clone());
        (*slot, view)
    };
    let mut views: Vec<(Slot, View)> = members.iter().map(root).collect();
    let mut asked = BTreeSet::new();
    loop {
        match next(&views, &asked, complete) {
            Next::Read(dirs) => dirs.iter().for_each(|(slot, dir)| read(members, &mut views, *slot, *dir)),
            Next::Find(objects) => {
                // A brick that forgot where objects are finds only those outside of the tree, unless it searches.
                let hidden = hidden(&views);
                for (slot, id) in &objects {
                    let member = view_of(members, *slot).unwrap();
                    let found = member.detached.contains(id) || hidden.contains(id) && member.objects.contains_key(id);
                    if !found {
                        continue;
                    }
                    let entry = member.objects[id].clone();
                    views[slot.index()].1.found_outside(entry);
                }
                asked.extend(objects);
            }
            Next::Done => return views,
        }
    }
}

fn read(members: &[(Slot, View)], views: &mut [(Slot, View)], slot: Slot, dir: ObjectId) {
    let member = view_of(members, slot).unwrap();
    let view = &mut views[slot.index()].1;
    assert!(view.dirs.insert(dir, BTreeMap::new()).is_none(), "read twice");
    for (name, id) in &member.dirs[&dir] {
        view.found(dir, name.clone(), member.objects[id].clone());
    }
}

/// Recovers, but only so far on each member; whether the members are equal is for the caller to see.
fn recover(members: &mut [(Slot, View)], complete: Generation, limits: &[usize]) {
    let views = walk(members, complete);
    let plan = plan(&views);
    for (((_, member), (_, steps)), limit) in members.iter_mut().zip(&plan.steps).zip(limits) {
        for step in steps.iter().take(*limit) {
            stamp(member, step.place.0, Generation(9));
            check(member, step);
            member.apply(step, made(&views, &plan.source, step.id));
            member.objects.get_mut(&step.id).unwrap().stamp = Generation(9);
        }
    }
}

/// A tree that is complete in generation 1, and members that did some of the last operations in generation 3.
fn members(ops: &[Op], last: usize, done: &[u8]) -> Vec<(Slot, View)> {
    let (common, last) = ops.split_at(ops.len().saturating_sub(last));
    let member = |done: &u8| {
        let mut view = after(common);
        let some = last.iter().enumerate().filter(|(at, _)| done >> at & 1 == 1);
        some.for_each(|(_, op)| perform_stamped(&mut view, op, Generation(3)));
        view
    };
    (0..).map(Slot).zip(done.iter().map(member)).collect()
}

/// What members did of the last operations: the first so many.
fn first(done: [usize; 3]) -> [u8; 3] {
    done.map(|count| ((1u32 << count) - 1) as u8)
}

#[test]
fn what_was_in_a_directory_that_one_member_removed_is_found() {
    let file = (ObjectId(10), Name::new(b"f").unwrap());
    let place = |text: &[u8]| (ROOT, Name::new(text).unwrap());
    let ops = [
        Op::Create(place(b"d"), ObjectId(10), Kind::Directory),
        Op::Create(file.clone(), ObjectId(11), Kind::File),
        Op::Rename(file, place(b"f")),
        Op::Remove(place(b"d")),
    ];
    let mut members = members(&ops, 2, &[0b11, 0]);
    recover(&mut members, Generation(1), &[usize::MAX; 2]);
    let expected = BTreeMap::from([(place(b"f"), ObjectId(11))]);
    assert!(members.iter().all(|(_, member)| tree(member) == expected));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_was_walked_suffices(ops in histories(), done in prop::array::uniform3(0..8usize)) {
        let mut members = members(&ops, 8, &first(done));
        let keep = kept_files(&members);
        recover(&mut members, Generation(1), &[usize::MAX; 3]);
        let wanted = tree(&members[0].1);
        for (slot, member) in &members {
            prop_assert_eq!(&wanted, &tree(member), "slot {}", slot);
            check_tree(&wanted, member);
        }
        let named: BTreeSet<ObjectId> = wanted.into_values().collect();
        prop_assert!(keep.is_subset(&named));
    }

    #[test]
    fn what_an_interrupted_recovery_left_is_walked_again(
        ops in histories(),
        done in prop::array::uniform3(0..5usize),
        limits in prop::array::uniform3(0..12usize),
    ) {
        let mut members = members(&ops, 5, &first(done));
        let keep = kept_files(&members);
        recover(&mut members, Generation(1), &limits);
        recover(&mut members, Generation(1), &[usize::MAX; 3]);
        let wanted = tree(&members[0].1);
        for (slot, member) in &members {
            prop_assert_eq!(&wanted, &tree(member), "slot {}", slot);
        }
        let named: BTreeSet<ObjectId> = wanted.into_values().collect();
        prop_assert!(keep.is_subset(&named));
    }

    #[test]
    fn members_that_nobody_changed_are_not_walked(ops in histories()) {
        let views = walk(&members(&ops, 0, &[0; 3]), Generation(1));
        prop_assert!(views.iter().all(|(_, view)| view.dirs.is_empty()));
    }
}
