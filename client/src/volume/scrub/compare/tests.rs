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
