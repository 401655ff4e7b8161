use net_raid_proto::ids::Generation;

use super::*;

const SLOT: Slot = Slot(1);

fn ask(request: Request, payload: usize) -> Ask {
    Ask { slot: SLOT, request, payload: vec![Bytes::from(vec![0; payload])] }
}

fn push(away: &Away, ask: Ask, resend: bool) -> Result<(), Slot> {
    away.push(Missed { ask, resend, paths: Vec::new(), touched: Touched::default() })
}

fn sync(id: u64) -> Request {
    Request::Fsync { id: ObjectId(id), data_only: false }
}

fn checkpoint(generation: u64) -> Request {
    Request::Checkpoint { generation: Generation(generation) }
}

fn rest(away: &Away) -> Vec<(Request, bool)> {
    std::iter::from_fn(|| away.pop(SLOT)).map(|missed| (missed.ask.request, missed.resend)).collect()
}

#[test]
fn what_was_missed_is_done_in_its_order() {
    let away = Away::default();
    assert_eq!(push(&away, ask(checkpoint(1), 0), false), Ok(()));
    assert!(rest(&away).is_empty(), "kept for somebody who is not away");
    away.begin(SLOT);
    for generation in 2..5 {
        assert_eq!(push(&away, ask(checkpoint(generation), 0), generation == 2), Ok(()));
    }
    let first = away.pop(SLOT).expect("three are left");
    away.put_back(SLOT, first);
    assert_eq!(rest(&away), [(checkpoint(2), true), (checkpoint(3), false), (checkpoint(4), false)]);
    assert_eq!((away.end(SLOT), away.end(SLOT)), (Some(Ended::Staying), None));
}

#[test]
fn the_last_sync_of_an_object_does_for_all() {
    let away = Away::default();
    away.begin(SLOT);
    for request in [sync(7), checkpoint(1), sync(7), sync(8), sync(7)] {
        assert_eq!(push(&away, ask(request, 0), false), Ok(()));
    }
    let first = away.pop(SLOT).expect("something was missed").ask.request;
    assert_eq!(first, checkpoint(1));
    assert_eq!(rest(&away), [(sync(8), false), (sync(7), false)]);
}

#[test]
fn nobody_misses_more_than_there_is_memory_for() {
    let away = Away::default();
    away.begin(SLOT);
    let piece = Bytes::from(vec![0; 1 << 20]);
    let large = || Ask { slot: SLOT, request: checkpoint(1), payload: vec![piece.clone(); 64] };
    for _ in 0..MISSED_MAX / (64 << 20) - 1 {
        assert_eq!(push(&away, large(), false), Ok(()));
    }
    assert_eq!(push(&away, large(), false), Err(SLOT));
    // What was done does not count any more.
    assert!(away.pop(SLOT).is_some() && away.pop(SLOT).is_some());
    assert_eq!(push(&away, large(), false), Ok(()));
}

#[test]
fn who_leaves_keeps_no_bytes() {
    let away = Away::default();
    away.begin(SLOT);
    let bytes = Bytes::from(vec![0; 1 << 20]);
    let large = || Ask { slot: SLOT, request: checkpoint(1), payload: vec![bytes.clone(); MISSED_MAX >> 20] };
    assert_eq!(push(&away, large(), false), Err(SLOT), "that much waits in memory");
    away.leave(SLOT);
    assert_eq!(push(&away, large(), false), Ok(()), "of these nothing waits");
    assert!(away.pop(SLOT).is_none());
    assert_eq!(away.end_leaving(SLOT), Some(Touched::default()));
}
