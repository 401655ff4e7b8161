use super::*;
use net_raid_proto::layout::Level;

fn told(ctime: i64, mode: u32) -> Told {
    let time = |secs| Timestamp { secs, nanos: 0 };
    Told {
        id: ObjectId(9),
        kind: Kind::File,
        mode,
        owner: (0, 0),
        size: 5,
        layout: Some(Layout::new(Level::Raid6, 4)),
        mtime: time(1),
        ctime: time(ctime),
        extended: Digest([1; 16]),
    }
}

/// Members in order: what they have, its stamp, the stamp of the directory.
fn views(all: &[(Option<Told>, u64, u64)]) -> Vec<View> {
    let view = |(slot, (told, stamp, above)): (usize, &(Option<Told>, u64, u64))| View {
        slot: Slot(slot as u8),
        above: Generation(*above),
        there: told.clone().map(|told| There {
            stamp: Generation(*stamp),
            ctime: told.ctime,
            count: 1,
            sound: true,
            told,
        }),
    };
    all.iter().enumerate().map(view).collect()
}

fn wrong(source: u8, wrong: &[(u8, Wrong)]) -> Verdict {
    Verdict::Wrong { source: Slot(source), wrong: wrong.iter().map(|(slot, wrong)| (Slot(*slot), *wrong)).collect() }
}

#[test]
fn the_table() {
    let old = || Some(told(1, 0o644));
    let new = || Some(told(2, 0o600));
    let other = || Some(Told { id: ObjectId(8), ..told(9, 0o777) });
    let odd = || Some(told(2, 0o777));
    let removed = "it may have been removed, and a server with an older directory has it";
    let differs = "its attributes differ, and nothing says which are right";
    let different = "the name is that of different objects";
    let few = "too few servers have it";
    let undecided = Verdict::Undecided;
    for (what, all, (needed, losses), expected) in [
        ("nothing anywhere", vec![(None, 0, 1), (None, 0, 9)], (1, 1), Verdict::Agree),
        ("the same", vec![(new(), 4, 4), (new(), 4, 4)], (1, 1), Verdict::Agree),
        ("a stamp alone says nothing", vec![(new(), 9, 9), (new(), 4, 4)], (1, 1), Verdict::Agree),
        ("lost", vec![(None, 0, 4), (new(), 4, 4)], (1, 1), wrong(1, &[(0, Wrong::Missing)])),
        ("lost where more changed", vec![(None, 0, 5), (new(), 4, 4)], (1, 1), undecided(removed)),
        ("lost by one", vec![(None, 0, 5), (new(), 4, 4), (new(), 4, 4)], (2, 1), wrong(1, &[(0, Wrong::Missing)])),
        ("lost by two of four", vec![(None, 0, 4), (None, 0, 4), (new(), 4, 4), (new(), 4, 4)], (2, 2), {
            wrong(2, &[(0, Wrong::Missing), (1, Wrong::Missing)])
        }),
        ("lost by too many", vec![(None, 0, 4), (None, 0, 4), (new(), 4, 4)], (2, 1), undecided(few)),
        ("an older one", vec![(old(), 3, 4), (new(), 4, 4)], (1, 1), wrong(1, &[(0, Wrong::Older)])),
        ("two older ones", vec![(old(), 3, 4), (old(), 3, 4), (new(), 4, 4)], (1, 2), {
            wrong(2, &[(0, Wrong::Older), (1, Wrong::Older)])
        }),
        ("older within a generation", vec![(new(), 4, 4), (old(), 4, 4)], (1, 1), wrong(0, &[(1, Wrong::Older)])),
        ("one of two differs", vec![(new(), 4, 4), (odd(), 4, 4)], (1, 1), undecided(differs)),
        ("one of three", vec![(new(), 4, 4), (odd(), 4, 4), (new(), 4, 4)], (2, 1), wrong(0, &[(1, Wrong::Differs)])),
        ("another object", vec![(other(), 4, 4), (new(), 4, 4), (new(), 4, 4)], (2, 1), {
            wrong(1, &[(0, Wrong::Missing)])
        }),
        ("one of two objects", vec![(other(), 4, 4), (new(), 4, 4)], (1, 1), undecided(different)),
    ] {
        assert_eq!(judge(&views(&all), needed, losses), expected, "{what}");
    }
}

#[test]
fn what_has_lost_extended_attributes_gets_them_back() {
    let poor = Told { extended: Digest([0; 16]), ..told(2, 0o600) };
    let mut both = views(&[(Some(poor), 4, 4), (Some(told(2, 0o600)), 4, 4)]);
    both[0].there.as_mut().expect("there").count = 0;
    assert_eq!(judge(&both, 1, 1), wrong(1, &[(0, Wrong::Differs)]));
    // Of as many others neither is right.
    both[0].there.as_mut().expect("there").count = 1;
    assert!(matches!(judge(&both, 1, 1), Verdict::Undecided(_)));
    // And nothing is made up for another difference.
    let both = views(&[(Some(told(2, 0o600)), 4, 4), (Some(told(2, 0o601)), 4, 4)]);
    assert!(matches!(judge(&both, 1, 1), Verdict::Undecided(_)));
}

#[test]
fn times_of_directories_are_told_apart() {
    let dir = |ctime, mtime| {
        let mtime = Timestamp { secs: mtime, nanos: 0 };
        Some(Told { kind: Kind::Directory, size: 0, layout: None, mtime, ..told(ctime, 0o755) })
    };
    let both = views(&[(dir(2, 9), 4, 4), (dir(2, 1), 4, 4)]);
    assert_eq!(judge(&both, 1, 1), wrong(0, &[(1, Wrong::Times)]));
}

#[test]
fn a_file_that_ends_elsewhere_than_its_records_is_not_believed() {
    let cut = Told {
        size: 1,
        mtime: Timestamp { secs: 99, nanos: 0 },
        ctime: Timestamp { secs: 99, nanos: 0 },
        ..told(2, 0o600)
    };
    let mut both = views(&[(Some(cut), 4, 4), (Some(told(2, 0o600)), 4, 4)]);
    let there = both[0].there.as_mut().expect("there");
    (there.ctime, there.sound) = (Timestamp { secs: 2, nanos: 0 }, false);
    assert_eq!(judge(&both, 1, 1), wrong(1, &[(0, Wrong::Differs)]));
}

/// What members have that differ in their mtime alone, and in the ctime that follows it.
fn at(mtimes: &[i64]) -> Vec<View> {
    let time = |secs: i64| Timestamp { secs, nanos: 0 };
    let touched =
        |mtime: &i64| (Some(Told { mtime: time(*mtime), ctime: time(2.max(*mtime)), ..told(2, 0o600) }), 4, 4);
    let mut views = views(&mtimes.iter().map(touched).collect::<Vec<_>>());
    views.iter_mut().for_each(|view| view.there.as_mut().expect("there").ctime = time(2));
    views
}

#[test]
fn times_alone_make_no_version() {
    // One of three was touched, or lost a write that others have: most are right.
    assert_eq!(judge(&at(&[9, 1, 1]), 2, 1), wrong(1, &[(0, Wrong::Times)]));
    assert_eq!(judge(&at(&[9, 1, 9]), 2, 1), wrong(0, &[(1, Wrong::Times)]));
    // Of two the later one, as long as nothing more is known.
    assert_eq!(judge(&at(&[1, 9]), 1, 1), wrong(1, &[(0, Wrong::Times)]));
    // But not where something was found wrong in its bytes, or at its end.
    let mut both = at(&[1, 9]);
    both[1].there.as_mut().expect("there").sound = false;
    assert_eq!(judge(&both, 1, 1), wrong(0, &[(1, Wrong::Times)]));
    // Neither do they make a mode right that somebody set by hand: noted is a ctime of each change of it.
    let mut both = at(&[1, 9]);
    both[1].there.as_mut().expect("there").told.mode = 0o777;
    assert!(matches!(judge(&both, 1, 1), Verdict::Undecided(_)));
    let mut three = at(&[1, 9, 1]);
    three[1].there.as_mut().expect("there").told.mode = 0o777;
    assert_eq!(judge(&three, 1, 2), wrong(0, &[(1, Wrong::Differs)]));
}

#[test]
fn a_lost_write_of_the_same_generation_is_old() {
    // It noted a ctime that the other one is behind.
    let mut both = at(&[1, 1]);
    let there = both[1].there.as_mut().expect("there");
    there.ctime = Timestamp { secs: 3, nanos: 0 };
    there.told.ctime = there.ctime;
    assert_eq!(judge(&both, 1, 1), wrong(1, &[(0, Wrong::Older)]));
    // One that has the same ctime without having noted it is not older, whatever somebody did to the other one's mtime.
    let mut both = at(&[9, 5]);
    both[1].there.as_mut().expect("there").ctime = Timestamp { secs: 5, nanos: 0 };
    assert_eq!(judge(&both, 1, 1), wrong(0, &[(1, Wrong::Times)]));
    let mut both = at(&[5, 9]);
    both[1].there.as_mut().expect("there").ctime = Timestamp { secs: 5, nanos: 0 };
    assert_eq!(judge(&both, 1, 1), wrong(1, &[(0, Wrong::Times)]));
    // A later stamp tells, whatever the mtime is.
    let mut both = at(&[9, 1]);
    both[1].there.as_mut().expect("there").stamp = Generation(5);
    assert_eq!(judge(&both, 1, 1), wrong(1, &[(0, Wrong::Older)]));
    // It made the file longer: the end of both is sound, and the mtime tells.
    let mut both = at(&[1, 9]);
    both[1].there.as_mut().expect("there").told.size = 6;
    assert_eq!(judge(&both, 1, 1), wrong(1, &[(0, Wrong::Older)]));
    // What grew by hand is not sound.
    both[1].there.as_mut().expect("there").sound = false;
    assert_eq!(judge(&both, 1, 1), wrong(0, &[(1, Wrong::Differs)]));
}

#[test]
fn who_may_have_lost_a_write_is_suspected() {
    let slots = |slots: &[u8]| slots.iter().map(|slot| Slot(*slot)).collect::<SlotSet>();
    for (mtimes, losses, expected) in [
        (vec![1, 1], 1, slots(&[])),
        // As many as may be wrong have the earlier one: they may have lost a write.
        (vec![1, 9], 1, slots(&[0])),
        (vec![1, 9, 1], 2, slots(&[0, 2])),
        (vec![1, 1, 9, 9], 2, slots(&[0, 1])),
        // More have it than may be wrong, so it is right, and another one is not, later or not.
        (vec![1, 9, 1], 1, slots(&[1])),
        (vec![9, 1, 9], 1, slots(&[1])),
        (vec![1, 1, 9, 1], 2, slots(&[2])),
    ] {
        assert_eq!(suspects(&at(&mtimes), losses), expected, "{mtimes:?}");
    }
    let mut both = at(&[1, 9]);
    both[1].there.as_mut().expect("there").sound = false;
    assert_eq!(suspects(&both, 1), slots(&[1]), "where it ends is not where its records say");
}
