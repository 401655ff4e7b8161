use net_raid_proto::ids::Timestamp;
use net_raid_proto::message::SetAttr;

use super::*;

const SLOT: Slot = Slot(1);

fn id(number: u64) -> ObjectId {
    ObjectId(1 << 40 | number)
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

fn touched(change: &Change) -> Touched {
    let mut touched = Touched::default();
    touched.add_change(change);
    touched
}

fn rename() -> Change {
    Change::Rename {
        parent: id(1),
        name: name("a"),
        id: id(3),
        new_parent: id(2),
        new_name: name("b"),
        target: RenameTarget::Replace { id: id(4), keep: false },
    }
}

#[test]
fn a_change_is_under_way_until_it_ends_and_behind_then() {
    let mut frontier = Frontier::default();
    frontier.open(SLOT);
    let number = frontier.begin(touched(&rename()));
    assert!(frontier.is_empty(SLOT));
    assert!(frontier.has_name(SLOT, &(id(2), name("b")), None));
    assert!(frontier.has_name(SLOT, &(id(9), name("c")), Some(id(3))), "it may come from where nobody looked");
    assert!(!frontier.has_name(SLOT, &(id(9), name("c")), Some(id(9))));
    frontier.end(number);
    assert!(!frontier.is_empty(SLOT));
    let behind = frontier.take(SLOT);
    assert_eq!(behind.places, BTreeSet::from([(id(1), name("a")), (id(2), name("b"))]));
    assert_eq!(behind.objects, BTreeSet::from([id(1), id(2), id(3), id(4)]));
    assert!(frontier.is_empty(SLOT) && !frontier.is_moving(SLOT, id(3)));
}

#[test]
fn what_began_before_and_ends_after_the_rest_was_taken_is_behind_again() {
    let mut frontier = Frontier::default();
    frontier.open(SLOT);
    let set = SetAttr { mtime: Some(Timestamp::default()), ..SetAttr::default() };
    let number = frontier.begin(touched(&Change::SetAttr { id: id(3), set }));
    assert!(frontier.take(SLOT).is_empty());
    frontier.end(number);
    assert_eq!(frontier.take(SLOT).objects, BTreeSet::from([id(3)]));
}

#[test]
fn nothing_is_kept_for_who_is_not_healed() {
    let mut frontier = Frontier::default();
    let number = frontier.begin(touched(&rename()));
    frontier.end(number);
    frontier.open(SLOT);
    assert!(frontier.is_empty(SLOT));
    frontier.add(Slot(2), touched(&rename()));
    assert!(frontier.is_empty(SLOT) && frontier.is_empty(Slot(2)));
    frontier.add(SLOT, touched(&rename()));
    assert!(!frontier.is_empty(SLOT));
    frontier.close(SLOT);
    assert!(frontier.is_empty(SLOT));
}

#[test]
fn stripes_are_told_apart_until_a_cut_comes() {
    let mut frontier = Frontier::default();
    frontier.open(SLOT);
    let punch = |unit, count| touched(&Change::Punch { id: id(3), unit, count, mtime: None });
    frontier.add(SLOT, punch(4, 2));
    frontier.add(SLOT, punch(9, 1));
    let has = |frontier: &Frontier, stripes| frontier.has_data(SLOT, id(3), stripes);
    assert!(has(&frontier, (5, 5)) && has(&frontier, (0, 4)) && has(&frontier, (6, 9)));
    assert!(!has(&frontier, (6, 8)) && !has(&frontier, (0, 3)));
    let cut = Change::Truncate { id: id(3), size: 1, brick_len: 1, mtime: None, mode: None };
    frontier.add(SLOT, touched(&cut));
    assert!(has(&frontier, (6, 8)));
    assert_eq!(frontier.take(SLOT).data, BTreeMap::from([(id(3), Stripes::Any(BTreeSet::from([4, 5, 9])))]));
}

#[test]
fn where_objects_were_first_is_kept() {
    let mut all = Touched::default();
    for place in ["old", "new"] {
        let mut touched = touched(&rename());
        touched.locate(|of| (of == id(3)).then(|| (id(1), name(place))));
        all.add(touched);
    }
    assert_eq!(all.seen, BTreeMap::from([(id(3), (id(1), name("old")))]));
}
