use net_raid_proto::ids::Epoch;
use net_raid_proto::layout::Level;
use net_raid_proto::membership::{Former, SlotRecord};

use super::*;
use crate::volume::quorum;

fn brick(number: u8) -> BrickId {
    BrickId([number; 16])
}

fn record(level: Level, members: u8) -> Membership {
    let slot = |number| SlotRecord { brick: brick(number), state: SlotState::Current };
    let (slots, voters) = ((0..members).map(slot).collect(), (0..members).map(brick).collect());
    Membership { version: 7, level, slots, voters, formers: Vec::new() }
}

fn of(mask: u32, members: u8) -> Vec<BrickId> {
    (0..members).filter(|number| mask >> number & 1 == 1).map(brick).collect()
}

/// Whoever is left out: those that are here can begin by themselves afterwards, and those that are not cannot, once they know.
#[test]
fn one_side_can_begin_and_the_other_cannot() {
    for (level, members) in
        [(Level::Raid1, 2), (Level::Raid1, 3), (Level::Raid5, 3), (Level::Raid6, 4), (Level::Raid6, 6)]
    {
        let old = record(level, members);
        let all = SlotSet::all(members.into());
        for mask in 1..all.0 {
            let here = of(mask, members);
            let Ok(forced) = without(&old, SlotSet(all.0 & !mask), &here) else {
                assert!(here.len() < old.members_needed(), "{level} {mask:b}");
                continue;
            };
            assert!(forced.is_valid() && here.len() >= old.members_needed());
            let others = of(!mask, members);
            let may_begin = |here: &[BrickId]| quorum::has_members(&forced, here) && quorum::has_voters(&forced, here);
            assert!(may_begin(&here) && !may_begin(&others), "{level} {mask:b}");
            assert!(others.iter().all(|brick| !forced.voters.contains(brick)));
        }
    }
}

/// Members that were dropped before may have been members again for the others.
#[test]
fn of_those_that_are_left_out_nothing_counts() {
    let mut old = record(Level::Raid6, 4);
    old.slots[1].state = SlotState::Stale { since: Generation(3) };
    old.formers = vec![Former::Replaced { brick: brick(9), slot: Slot(1), since: Generation(2) }];
    let forced = without(&old, SlotSet(0b0110), &of(0b1001, 4)).unwrap();
    assert!(forced.formers.is_empty());
    let forced = Membership { version: Membership::first_version(1, Epoch(5)), ..forced };
    assert_eq!(forced.current_slots().collect::<Vec<_>>(), [Slot(0), Slot(3)]);
    assert!(forced.is_left_out(Slot(1)) && forced.is_left_out(Slot(2)) && !forced.is_left_out(Slot(3)));
    assert!(!old.is_left_out(Slot(1)));
}

#[test]
fn spares_that_are_here_go_on_voting() {
    let mut old = record(Level::Raid1, 2);
    old.voters.extend([brick(8), brick(9)]);
    let forced = without(&old, SlotSet(0b10), &[brick(9), brick(0)]).unwrap();
    assert_eq!(forced.voters, [brick(0), brick(9)]);
}

#[test]
fn epochs_are_ahead_of_all_that_others_begin() {
    for random in [[0; 16], [255; 16], [7; 16]] {
        assert!((EPOCHS_AHEAD..2 * EPOCHS_AHEAD).contains(&epochs_ahead(random)));
    }
}
