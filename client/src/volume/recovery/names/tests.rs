use net_raid_proto::ids::{Generation, Timestamp};
use net_raid_proto::layout::{Layout, Level};
use net_raid_proto::message::Attr;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const ROOT: ObjectId = ObjectId::ROOT;

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

fn entry(id: ObjectId, kind: Kind) -> Entry {
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
enum Op {
    Create(Place, ObjectId, Kind),
    Link(ObjectId, Place),
    Remove(Place),
    Rename(Place, Place),
    Exchange(Place, Place),
}

fn empty() -> View {
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
fn perform(view: &mut View, op: &Op) -> bool {
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
fn histories() -> impl Strategy<Value = Vec<Op>> {
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

fn after(ops: &[Op]) -> View {
    let mut view = empty();
    ops.iter().for_each(|op| assert!(perform(&mut view, op)));
    view
}

/// What a new walk finds: also what is detached is asked for, where another member has it.
fn seen_again(views: &[(Slot, View)]) -> Vec<(Slot, View)> {
    let all: BTreeSet<ObjectId> = views.iter().flat_map(|(_, view)| view.parents().into_keys()).collect();
    let mut again = views.to_vec();
    for (_, view) in &mut again {
        let reached: BTreeSet<ObjectId> = view.objects.keys().copied().filter(|id| reaches(view, &all, *id)).collect();
        view.detached.retain(|id| all.contains(id) || reached.contains(id));
        view.objects.retain(|id, _| reached.contains(id));
        view.dirs.retain(|id, _| reached.contains(id));
    }
    again
}

fn reaches(view: &View, all: &BTreeSet<ObjectId>, id: ObjectId) -> bool {
    let parents = view.parents();
    let top = std::iter::successors(Some(id), |at| parents.get(at).map(|place| place.0)).last();
    top.is_some_and(|top| top == ROOT || all.contains(&top))
}

fn run(views: &mut [(Slot, View)], plan: &Plan, limits: &[usize]) {
    let before = views.to_vec();
    for (((_, view), (_, steps)), limit) in views.iter_mut().zip(&plan.steps).zip(limits) {
        for step in steps.iter().take(*limit) {
            check(view, step);
            view.apply(step, made(&before, &plan.source, step.id));
        }
    }
}

/// What a brick would refuse.
#[track_caller]
fn check(view: &View, step: &Step) {
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

fn tree(view: &View) -> BTreeMap<Place, ObjectId> {
    let attached = |(dir, _): &Place| view.path(*dir).is_some_and(|path| path.first().map_or(*dir, |p| p.0) == ROOT);
    view.places().filter(|(place, _)| attached(place)).collect()
}

/// Every directory has one place, every other object as many as it has links, and all hang on the root.
fn check_tree(tree: &BTreeMap<Place, ObjectId>, view: &View) {
    let mut names: BTreeMap<ObjectId, u32> = BTreeMap::new();
    tree.values().for_each(|id| *names.entry(*id).or_default() += 1);
    for (id, count) in names {
        let entry = &view.objects[&id];
        let links = if is_dir(entry) { 1 } else { entry.attr.nlink };
        assert_eq!(count, links, "object {id}");
        assert_eq!(is_dir(entry), view.dirs.contains_key(&id));
    }
}

fn kept_files(views: &[(Slot, View)]) -> BTreeSet<ObjectId> {
    let files = |view: &View| -> BTreeSet<ObjectId> {
        let file = |id: &ObjectId| view.objects[id].attr.kind == Kind::File;
        tree(view).into_values().filter(file).collect()
    };
    views.iter().map(|(_, view)| files(view)).reduce(|one, other| &one & &other).unwrap_or_default()
}

/// Plans until the end, and looks at what came of it.
fn finish(views: &mut [(Slot, View)], keep: &BTreeSet<ObjectId>) {
    let plan = plan(views);
    run(views, &plan, &[usize::MAX; 4]);
    let first = tree(&views[0].1);
    for (slot, view) in views.iter() {
        assert_eq!(first, tree(view), "slot {slot}");
        check_tree(&first, view);
        assert!(plan.gone.iter().all(|id| !first.values().any(|named| named == id)));
    }
    let named: BTreeSet<ObjectId> = first.into_values().collect();
    assert!(keep.is_subset(&named), "lost: {:?}", keep - &named);
}

fn views(ops: &[Op], lens: &[usize]) -> Vec<(Slot, View)> {
    (0..).map(Slot).zip(lens.iter().map(|len| after(&ops[..*len]))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn members_that_are_behind_become_equal(ops in histories(), behind in prop::collection::vec(0..6usize, 1..5)) {
        let lens: Vec<usize> = behind.iter().map(|behind| ops.len().saturating_sub(*behind)).collect();
        let mut views = views(&ops, &lens);
        let keep = kept_files(&views);
        finish(&mut views, &keep);
    }

    #[test]
    fn a_recovery_that_was_interrupted_is_repeated_without_loss(
        ops in histories(),
        behind in prop::array::uniform3(0..5usize),
        limits in prop::array::uniform3(0..12usize),
    ) {
        let lens = behind.map(|behind| ops.len().saturating_sub(behind));
        let mut views = views(&ops, &lens);
        let first = plan(&views);
        // What a file that goes had is nobody's; all others must be there in the end.
        let keep: BTreeSet<ObjectId> = &kept_files(&views) - &first.gone;
        run(&mut views, &first, &limits);
        let mut views = seen_again(&views);
        finish(&mut views, &keep);
    }

    #[test]
    fn equal_members_need_nothing(ops in histories()) {
        let views = views(&ops, &[ops.len(); 3]);
        let plan = plan(&views);
        prop_assert!(plan.steps.iter().all(|(_, steps)| steps.is_empty()) && plan.source.is_empty());
    }
}

fn root(text: &str) -> Place {
    (ROOT, name(text))
}

fn file(text: &str, id: u64) -> Op {
    Op::Create(root(text), ObjectId(id), Kind::File)
}

#[test]
fn a_file_that_one_member_lacks_goes_and_a_directory_is_made() {
    let dir = Op::Create(root("d"), ObjectId(11), Kind::Directory);
    let link = Op::Create((ObjectId(11), name("s")), ObjectId(12), Kind::Symlink);
    let mut views = views(&[file("f", 10), dir, link], &[3, 0]);
    let plan = plan(&views);
    assert_eq!(plan.gone, BTreeSet::from([ObjectId(10)]));
    run(&mut views, &plan, &[9, 9]);
    assert_eq!(tree(&views[1].1), tree(&views[0].1));
    let expected = BTreeMap::from([(root("d"), ObjectId(11)), ((ObjectId(11), name("s")), ObjectId(12))]);
    assert_eq!(tree(&views[1].1), expected);
}

#[test]
fn changes_that_have_nothing_to_do_with_each_other_are_judged_apart() {
    // The first has replaced, the second has removed; neither has done what the other did.
    let start = [file("x", 10), file("y", 11), file("z", 12)];
    let replace = Op::Rename(root("x"), root("y"));
    let remove = Op::Remove(root("z"));
    let with = |op: &Op| after(&[&start[..], std::slice::from_ref(op)].concat());
    let mut views = vec![(Slot(0), with(&replace)), (Slot(1), with(&remove))];
    let keep = BTreeSet::from([ObjectId(10)]);
    finish(&mut views, &keep);
    assert_eq!(tree(&views[0].1), BTreeMap::from([(root("y"), ObjectId(10))]));
}

#[test]
fn directories_that_moved_into_each_other_follow_one_member() {
    let start = [
        Op::Create(root("a"), ObjectId(10), Kind::Directory),
        Op::Create(root("b"), ObjectId(11), Kind::Directory),
        Op::Create((ObjectId(10), name("f")), ObjectId(12), Kind::File),
    ];
    let with = |op: Op| after(&[&start[..], &[op]].concat());
    let one = with(Op::Rename(root("a"), (ObjectId(11), name("a"))));
    let other = with(Op::Rename(root("b"), (ObjectId(10), name("b"))));
    let mut views = vec![(Slot(0), one.clone()), (Slot(1), other)];
    finish(&mut views, &BTreeSet::from([ObjectId(12)]));
    assert_eq!(tree(&views[1].1), tree(&one));
}
