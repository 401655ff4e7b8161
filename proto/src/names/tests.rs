use super::*;

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

fn sums(entries: &[(&str, u64)]) -> NameSums {
    let mut sums = NameSums::default();
    entries.iter().for_each(|(text, id)| sums.add(&name(text), ObjectId(*id)));
    sums
}

/// Sets of entries are told apart, whatever their order is, and one can be taken out.
#[test]
fn sums_tell_sets_apart() {
    let all = sums(&[("a", 1), ("b", 2), ("ab", 3)]);
    assert_eq!(sums(&[("ab", 3), ("a", 1), ("b", 2)]), all);
    let mut some = all.clone();
    some.remove(&name("b"), ObjectId(2));
    assert_eq!(some, sums(&[("a", 1), ("ab", 3)]));
    // Exchanged ids, and one that is missing.
    assert_ne!(sums(&[("a", 2), ("b", 1)]), sums(&[("a", 1), ("b", 2)]));
    assert_ne!(sums(&[("a", 1), ("b", 2)]), sums(&[("a", 1), ("ab", 3)]));
    assert_eq!(NameSum::of(&name("a"), ObjectId(1)), NameSum { count: 1, sum: 17_150_548_967_464_331_217 });
}

/// What differs is in the parts that are said to differ, and these are few.
#[test]
fn differences_are_in_few_parts() {
    let names: Vec<String> = (0..10_000).map(|number| format!("file{number}")).collect();
    let all: Vec<(&str, u64)> = names.iter().zip(10..).map(|(name, id)| (name.as_str(), id)).collect();
    let (whole, mut other) = (sums(&all), sums(&all));
    assert!(whole.differing(&other).is_empty());
    other.remove(&name("file77"), ObjectId(87));
    other.remove(&name("file78"), ObjectId(88));
    other.add(&name("file78"), ObjectId(5));
    other.add(&name("new"), ObjectId(6));
    let parts = whole.differing(&other);
    assert!(["file77", "file78", "new"].into_iter().all(|text| parts.has(&name(text))), "{parts:?}");
    assert!((1..=3).contains(&parts.0.count_ones()), "{parts:?}");
    // The names are spread over the parts: of 156 on the average there are not many more in one.
    for part in 0..NAME_PARTS {
        let found = names.iter().filter(|text| NameParts(1 << part).has(&name(text))).count();
        assert!((100..=220).contains(&found), "{found} names in part {part}");
    }
}

/// Pages are counted together; what two of them have of a part is added.
#[test]
fn pages_are_merged() {
    let (mut first, second) = (sums(&[("a", 1), ("b", 2)]), sums(&[("c", 3), ("d", 4)]));
    first.merge(&second);
    assert_eq!(first, sums(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]));
}

/// A peer may send anything.
#[test]
fn parts_that_there_are_not_are_refused() {
    let sum = NameSum { count: 1, sum: 1 };
    assert!(NameSums::try_from(BTreeMap::from([(NAME_PARTS - 1, sum)])).is_ok());
    assert!(NameSums::try_from(BTreeMap::from([(NAME_PARTS, sum)])).is_err());
    assert!(NameSums::try_from(BTreeMap::from([(0, NameSum::default())])).is_err());
}
