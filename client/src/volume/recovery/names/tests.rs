use proptest::prelude::*;

use super::super::model::{Op, ROOT, after, check, check_tree, histories, kept_files, name, perform, tree};
use super::*;

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
    fn members_that_did_different_things_become_equal(
        ops in histories(),
        last in 0..8usize,
        done in prop::array::uniform3(any::<u8>()),
    ) {
        // Of the last operations each member has done some; what then cannot be done is left out there.
        let (common, last) = ops.split_at(ops.len().saturating_sub(last));
        let member = |done: u8| {
            let mut view = after(common);
            let some = last.iter().enumerate().filter(|(at, _)| done >> at & 1 == 1);
            some.for_each(|(_, op)| {
                perform(&mut view, op);
            });
            view
        };
        let mut views: Vec<(Slot, View)> = (0..).map(Slot).zip(done.map(member)).collect();
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

/// What it has of attributes is made equal too: taking a name away changed its times.
#[test]
fn a_file_that_loses_one_name_and_keeps_one_that_nobody_read_is_not_gone() {
    let mut views = views(&[file("f", 10)], &[1, 1]);
    for (_, view) in &mut views {
        view.objects.get_mut(&ObjectId(10)).unwrap().attr.nlink = 2;
    }
    let (_, second) = &mut views[1];
    second.dirs.get_mut(&ROOT).unwrap().clear();
    second.objects.get_mut(&ObjectId(10)).unwrap().attr.nlink = 1;
    views.swap(0, 1);
    let plan = plan(&views);
    assert_eq!(plan.gone, BTreeSet::new());
    let detach = Step { what: What::Detach, place: root("f"), id: ObjectId(10) };
    assert_eq!(plan.steps, [(Slot(1), vec![]), (Slot(0), vec![detach])]);
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
