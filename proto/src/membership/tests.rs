//! How many are enough.

use super::*;

fn record(level: Level, states: &[SlotState], voters: usize) -> Membership {
    let slot = |(i, &state): (usize, &SlotState)| SlotRecord { brick: BrickId([i as u8; 16]), state };
    let slots = states.iter().enumerate().map(slot).collect();
    let voters = (0..voters).map(|i| BrickId([i as u8; 16])).collect();
    Membership { version: 1, level, slots, voters, formers: Vec::new() }
}

/// Half, rounded up: two halves of a volume can never both go on.
#[test]
fn quorum() {
    for (voters, quorum) in [(2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4), (16, 8), (17, 9)] {
        let membership = record(Level::Raid1, &[SlotState::Current; 2], voters);
        assert_eq!(membership.quorum(), quorum);
        // Assembly: fewer than `quorum` out of reach. Any drop left at least `quorum` that hold the
        // newer record, so one of these is within reach of whoever assembles.
        assert!((quorum - 1) + quorum <= voters);
    }
}

#[test]
fn members_needed() {
    for (level, members, needed) in
        [(Level::Raid1, 2, 1), (Level::Raid1, 5, 1), (Level::Raid5, 3, 2), (Level::Raid6, 4, 2), (Level::Raid6, 16, 14)]
    {
        assert_eq!(record(level, &vec![SlotState::Current; members], members).members_needed(), needed);
    }
}

#[test]
fn slots() {
    let stale = SlotState::Stale { since: Generation(3) };
    let membership = record(Level::Raid5, &[SlotState::Current, stale, SlotState::Current], 3);
    assert_eq!(membership.current_slots().collect::<Vec<_>>(), [Slot(0), Slot(2)]);
    assert_eq!(membership.slot_of(BrickId([1; 16])), Some(Slot(1)));
    assert_eq!(membership.slot_of(BrickId([9; 16])), None);
}

/// Each rule once, at its edges: what is let through divides, subtracts and indexes without a panic.
#[test]
fn only_sound_records_are_valid() {
    let good = record(Level::Raid6, &[SlotState::Current; 4], 4);
    assert!(good.is_valid());
    assert!(record(Level::Raid1, &[SlotState::Current; MEMBERS_MAX], VOTERS_MAX).is_valid());
    let twice = |bricks: &[BrickId]| [bricks, &bricks[..1]].concat();
    let replaced =
        |brick, slot| Former::Replaced { brick: BrickId([brick; 16]), slot: Slot(slot), since: Generation(7) };
    let released = |brick| Former::Released { brick: BrickId([brick; 16]) };
    let with = |formers: Vec<Former>| Membership { formers, ..good.clone() };
    assert!(with(vec![replaced(8, 0), released(9), replaced(10, 3)]).is_valid());
    assert!(with((0..FORMERS_MAX as u8).map(|brick| released(100 + brick)).collect()).is_valid());
    let bad = [
        Membership { version: 0, ..good.clone() },
        Membership { slots: Vec::new(), ..good.clone() },
        Membership { slots: good.slots[..3].to_vec(), ..good.clone() },
        Membership { slots: [&good.slots[..], &good.slots[..1]].concat(), ..good.clone() },
        Membership { voters: Vec::new(), ..good.clone() },
        Membership { voters: twice(&good.voters), ..good.clone() },
        record(Level::Raid5, &[SlotState::Current; 2], 2),
        record(Level::Raid1, &[SlotState::Current; 1], 1),
        record(Level::Raid1, &[SlotState::Current; MEMBERS_MAX + 1], 1),
        record(Level::Raid1, &[SlotState::Current; 2], VOTERS_MAX + 1),
        with(vec![replaced(8, 4)]),
        with(vec![replaced(8, 0), replaced(9, 0)]),
        with(vec![replaced(8, 0), released(8)]),
        with(vec![replaced(3, 0)]),
        with(vec![released(3)]),
        with((0..=FORMERS_MAX as u8).map(|brick| released(100 + brick)).collect()),
    ];
    for membership in bad {
        assert!(!membership.is_valid(), "{membership:?}");
    }
}

#[test]
fn formers() {
    let (replaced, released) = (BrickId([8; 16]), BrickId([9; 16]));
    let mut membership = record(Level::Raid5, &[SlotState::Current; 3], 3);
    membership.formers = vec![
        Former::Released { brick: released },
        Former::Replaced { brick: replaced, slot: Slot(1), since: Generation(4) },
    ];
    assert_eq!(membership.replaced_in(Slot(1)), Some((replaced, Generation(4))));
    assert_eq!(membership.replaced_in(Slot(2)), None);
    assert_eq!(membership.may_return(replaced), Some((Slot(1), Generation(4))));
    assert_eq!(membership.may_return(released), None);
    assert!(membership.is_released(released) && !membership.is_released(replaced));
}

/// A record that was forced beats all that those who were left out write, and its owners come one after the other.
#[test]
fn versions_grow_by_force_then_by_owner() {
    let of = |forced, epoch, count: u64| Membership::first_version(forced, Epoch(epoch)) + count;
    let newest_epoch = (1 << 24) - 1;
    let versions = [
        1,
        of(0, 1, 1),
        of(0, 1, u32::MAX.into()),
        of(0, 2, 1),
        of(0, newest_epoch, u32::MAX.into()),
        of(1, 3, 1),
        of(1, 4, 1),
        of(FORCED_MAX - 1, newest_epoch, u32::MAX.into()),
    ];
    assert!(versions.is_sorted_by(|one, next| one < next));
    assert_eq!(versions[7], u64::MAX);
    let forced = versions.map(|version| Membership { version, ..record(Level::Raid1, &[], 1) }.forced());
    assert_eq!(forced, [0, 0, 0, 0, 0, 1, 1, 255]);
}
