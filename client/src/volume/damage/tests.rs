use super::*;

const NOW: Timestamp = Timestamp { secs: 7, nanos: 0 };

fn id(number: usize) -> ObjectId {
    ObjectId(number as u64 + 2)
}

fn unreadable(stripes: impl IntoIterator<Item = u64>) -> Stripes {
    stripes.into_iter().map(|stripe| (stripe, Wrong::Unreadable)).collect()
}

fn listed(damages: &Damages, number: usize) -> Vec<u64> {
    damages.stripes(id(number), 0..u64::MAX).into_keys().collect()
}

#[test]
fn the_list_is_bounded_and_says_so() {
    let damages = Damages::default();
    let add = |number: usize| damages.add(id(number), number.to_string(), &unreadable([1]), NOW, Finder::Read);
    assert!((0..DAMAGED_MAX).all(|number| add(number) == [1]));
    assert!(!damages.list().has_more);
    assert!(add(DAMAGED_MAX).is_empty() && damages.list().has_more && !damages.has(id(DAMAGED_MAX)));
    assert!(add(0).is_empty(), "it is listed");
    // There is room again, and the next scrub finds what was left out.
    damages.forget(id(0));
    damages.begin_scrub();
    assert_eq!(add(DAMAGED_MAX), [1]);
    assert!(!damages.list().has_more);
}

#[test]
fn stripes_of_an_object_are_bounded() {
    let damages = Damages::default();
    let many = unreadable(0..DAMAGED_STRIPES_MAX as u64 + 5);
    assert_eq!(damages.add(id(1), "/f".into(), &many, NOW, Finder::Read).len(), DAMAGED_STRIPES_MAX);
    assert_eq!(listed(&damages, 1).len(), DAMAGED_STRIPES_MAX);
}

#[test]
fn a_scrub_says_what_is_wrong_but_of_what_it_did_not_judge() {
    let damages = Damages::default();
    damages.scrubbed(id(1), || "/f".into(), (&unreadable([]), &[]), NOW);
    assert!(!damages.is_any() && !damages.has(id(1)));
    damages.add(id(1), "/f".into(), &unreadable([1, 5, 9]), NOW, Finder::Read);
    let later = Timestamp { secs: 8, nanos: 0 };
    damages.scrubbed(id(1), || "/g".into(), (&unreadable([5, 7]), &[8..9, 9..10]), later);
    assert_eq!(listed(&damages, 1), [5, 7, 9]);
    let list = damages.list();
    let Entry { path, since, found_by, .. } = &list.of[&id(1)];
    assert_eq!((path.as_str(), *since, *found_by), ("/g", NOW, Finder::Read));
    drop(list);
    damages.scrubbed(id(1), || "/g".into(), (&unreadable([]), &[]), later);
    assert!(!damages.has(id(1)) && !damages.is_any());
}

#[test]
fn an_object_is_listed_until_nothing_is_wrong_any_more() {
    let damages = Damages::default();
    damages.set_contradiction(id(1), "/f".into(), None, NOW);
    assert!(!damages.has(id(1)));
    damages.set_contradiction(id(1), "/f".into(), Some("two modes"), NOW);
    damages.add(id(1), "/f".into(), &unreadable([1, 2]), NOW, Finder::Read);
    damages.end_stripes(id(1), 2..u64::MAX);
    assert_eq!(listed(&damages, 1), [1]);
    damages.end_stripes(id(1), 0..2);
    assert!(damages.has(id(1)), "its name still contradicts itself");
    damages.set_contradiction(id(1), "/f".into(), None, NOW);
    assert!(!damages.has(id(1)) && !damages.is_any());
}
