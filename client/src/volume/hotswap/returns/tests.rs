use net_raid_proto::ids::{ObjectId, VolumeId};

use super::*;

fn rebuild(passed: u64, all: u64, copied: u64) -> CatchUpProgress {
    CatchUpProgress {
        slot: Slot(0),
        files: (0, 9),
        bytes: (passed, all),
        copied,
        rate: 0,
        left_seconds: None,
        at: Some(ObjectId(7)),
    }
}

#[test]
fn who_has_more_than_half_keeps_the_slot() {
    for (rebuild, expected) in [
        (None, None),
        // Nothing is known before something was copied: it may come by what an earlier attempt has copied.
        (Some(rebuild(0, 0, 0)), None),
        (Some(rebuild(40, 100, 0)), None),
        (Some(rebuild(0, 100, 1)), Some(Nearer::Former)),
        (Some(rebuild(50, 100, 50)), Some(Nearer::Former)),
        (Some(rebuild(51, 100, 1)), Some(Nearer::Spare)),
        (Some(rebuild(51, 100, 0)), Some(Nearer::Spare)),
        (Some(rebuild(100, 100, 100)), Some(Nearer::Spare)),
    ] {
        assert_eq!(nearer(rebuild.as_ref()), expected, "{rebuild:?}");
    }
}

fn state() -> Arc<BrickState> {
    Arc::new(BrickState::Unusable { why: VolumeId([1; 16]).to_string() })
}

/// Once for each connection.
#[test]
fn a_return_is_settled_once() {
    let (first, second) = (state(), state());
    let mut returns = Returns::default();
    assert!(returns.note(2, Some(Arc::clone(&first))).is_some());
    assert!(returns.note(2, Some(Arc::clone(&first))).is_some());
    returns.settle(2);
    assert!(returns.note(2, Some(Arc::clone(&first))).is_none());
    assert!(returns.note(1, Some(first)).is_some());
    assert!(returns.note(2, None).is_none());
    assert!(returns.note(2, Some(second)).is_some());
}
