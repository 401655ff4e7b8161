//! Members in memory, and what programs do to them: for tests.

use std::collections::{BTreeMap, BTreeSet};

use net_raid_proto::ids::{Generation, Name, ObjectId, Slot, Timestamp};
use net_raid_proto::layout::{Layout, Level};
use net_raid_proto::message::{Attr, Entry, Kind};
use proptest::prelude::*;
use proptest::sample::Index;

use super::names::{Place, Step, View, What};

pub(super) const ROOT: ObjectId = ObjectId::ROOT;

pub(super) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

pub(super) fn entry(id: ObjectId, kind: Kind) -> Entry {
    let time = Timestamp::default();
    let attr = Attr {
        kind,
        mode: 0o644,
        nlink: 1,
        uid: 0,
        gid: 0,
        size: 0,
        brick_blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
    };
    Entry { id, stamp: Generation(1), layout: Layout::new(Level::Raid1, 2), attr }
}

/// Operations of programs, on a member that does each as a whole.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Create(Place, ObjectId, Kind),
    Link(ObjectId, Place),
    Remove(Place),
    Rename(Place, Place),
    Exchange(Place, Place),
}

pub(super) fn empty() -> View {
    let mut view = View::default();
    view.dirs.insert(ROOT, BTreeMap::new());
    view.objects.insert(ROOT, entry(ROOT, Kind::Directory));
    view
}

fn forget(view: &mut View, place: &Place) {
    let Some(id) = view.dirs.get_mut(&place.0).and_then(|names| names.remove(&place.1)) else { return };
    let Some(entry) = view.objects.get_mut(&id) else { return };
    entry.attr.nlink -= 1;
    if entry.attr.nlink == 0 {
        view.objects.remove(&id);
        view.dirs.remove(&id);
    }
}

fn is_empty_dir(view: &View, id: ObjectId) -> bool {
    view.dirs.get(&id).is_some_and(BTreeMap::is_empty)
}

fn is_above(view: &View, dir: ObjectId, below: ObjectId) -> bool {
    let parents = view.parents();
    std::iter::successors(Some(below), |at| parents.get(at).map(|place| place.0)).any(|at| at == dir)
}

fn put(view: &mut View, place: &Place, id: ObjectId) {
    view.dirs.get_mut(&place.0).expect("a directory").insert(place.1.clone(), id);
}

/// Does what the kernel would let through; whether it did.
pub(super) fn perform(view: &mut View, op: &Op) -> bool {
    let dir = |view: &View, place: &Place| view.dirs.contains_key(&place.0);
    match op {
        Op::Create(place, id, kind) => {
            let may = dir(view, place) && view.at(place).is_none();
            if may {
                view.found(place.0, place.1.clone(), entry(*id, kind.clone()));
                if *kind == Kind::Directory {
                    view.dirs.insert(*id, BTreeMap::new());
                }
            }
            may
        }
        Op::Link(id, place) => {
            let may = dir(view, place)
                && view.at(place).is_none()
                && view.objects.get(id).is_some_and(|entry| !is_dir(entry));
            if may {
                put(view, place, *id);
                view.objects.get_mut(id).expect("there").attr.nlink += 1;
            }
            may
        }
        Op::Remove(place) => {
            let Some(id) = view.at(place) else { return false };
            let may = !view.dirs.contains_key(&id) || is_empty_dir(view, id);
            if may {
                forget(view, place);
            }
            may
        }
        Op::Rename(from, to) => {
            let Some(id) = view.at(from) else { return false };
            let target = view.at(to);
            let directory = view.dirs.contains_key(&id);
            let fits = match target {
                None => true,
                Some(target) if target == id => false,
                Some(target) if directory => is_empty_dir(view, target),
                Some(target) => !view.dirs.contains_key(&target),
            };
            let may = dir(view, to) && fits && !(directory && is_above(view, id, to.0));
            if may {
                forget(view, to);
                view.dirs.get_mut(&from.0).expect("there").remove(&from.1);
                put(view, to, id);
            }
            may
        }
        Op::Exchange(from, to) => {
            let (Some(one), Some(other)) = (view.at(from), view.at(to)) else { return false };
            let may = one != other && !is_above(view, one, to.0) && !is_above(view, other, from.0);
            if may {
                put(view, to, one);
                put(view, from, other);
            }
            may
        }
    }
}

/// A history of operations on few names and directories, so that they meet.
pub(super) fn histories() -> impl Strategy<Value = Vec<Op>> {
    let raw = (0..12u8, any::<Index>(), 0..4usize, any::<Index>(), 0..4usize, any::<Index>());
    prop::collection::vec(raw, 4..40).prop_map(|raw| {
        let mut view = empty();
        let mut ops = Vec::new();
        for (next, (what, dir, text, to_dir, to_text, which)) in (10..).zip(raw) {
            let dirs: Vec<ObjectId> = view.dirs.keys().copied().collect();
            let place = |dir: &Index, text: usize| (*dir.get(&dirs), name(["a", "b", "c", "d"][text]));
            let (from, to) = (place(&dir, text), place(&to_dir, to_text));
            let ids: Vec<ObjectId> = view.objects.keys().copied().collect();
            let op = match what {
                0..=2 => Op::Create(from, ObjectId(next), Kind::File),
                3 | 4 => Op::Create(from, ObjectId(next), Kind::Directory),
                5 => Op::Create(from, ObjectId(next), Kind::Symlink),
                6 => Op::Link(*which.get(&ids), to),
                7 | 8 => Op::Remove(from),
                9 | 10 => Op::Rename(from, to),
                _ => Op::Exchange(from, to),
            };
            if perform(&mut view, &op) {
                ops.push(op);
            }
        }
        ops
    })
}

pub(super) fn after(ops: &[Op]) -> View {
    let mut view = empty();
    ops.iter().for_each(|op| assert!(perform(&mut view, op)));
    view
}

fn is_dir(entry: &Entry) -> bool {
    entry.attr.kind == Kind::Directory
}

/// What a brick would refuse.
#[track_caller]
pub(super) fn check(view: &View, step: &Step) {
    let present = view.at(&step.place);
    let reachable = |id| view.path(id).is_some();
    assert!(reachable(step.place.0), "{step:?}: its directory cannot be found");
    match step.what {
        What::Detach => assert_eq!(present, Some(step.id), "{step:?}"),
        What::Attach => assert!(present.is_none() && view.detached.contains(&step.id), "{step:?}"),
        What::Link => assert!(present.is_none() && reachable(step.id) && !is_dir(&view.objects[&step.id]), "{step:?}"),
        What::Create => {
            assert!(present.is_none() && !view.objects.contains_key(&step.id), "{step:?}");
        }
    }
    if let What::Create = step.what {
        assert!(view.dirs.contains_key(&step.place.0));
    }
}

pub(super) fn tree(view: &View) -> BTreeMap<Place, ObjectId> {
    let attached = |(dir, _): &Place| view.path(*dir).is_some_and(|path| path.first().map_or(*dir, |p| p.0) == ROOT);
    view.places().filter(|(place, _)| attached(place)).collect()
}

/// Every directory has one place, every other object as many as it has links, and all hang on the root.
pub(super) fn check_tree(tree: &BTreeMap<Place, ObjectId>, view: &View) {
    let mut names: BTreeMap<ObjectId, u32> = BTreeMap::new();
    tree.values().for_each(|id| *names.entry(*id).or_default() += 1);
    for (id, count) in names {
        let entry = &view.objects[&id];
        let links = if is_dir(entry) { 1 } else { entry.attr.nlink };
        assert_eq!(count, links, "object {id}");
        assert_eq!(is_dir(entry), view.dirs.contains_key(&id));
    }
}

pub(super) fn kept_files(views: &[(Slot, View)]) -> BTreeSet<ObjectId> {
    let files = |view: &View| -> BTreeSet<ObjectId> {
        let file = |id: &ObjectId| view.objects[id].attr.kind == Kind::File;
        tree(view).into_values().filter(file).collect()
    };
    views.iter().map(|(_, view)| files(view)).reduce(|one, other| &one & &other).unwrap_or_default()
}
