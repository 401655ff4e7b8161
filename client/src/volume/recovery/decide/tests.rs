use net_raid_proto::message::Part;
use proptest::prelude::*;

use super::*;

const FILE: ObjectId = ObjectId(7);

fn entry(transaction: u64, generation: u64, participants: u16, what: Logged) -> LogEntry {
    let (transaction, generation) = (Transaction(transaction), Generation(generation));
    LogEntry { transaction, generation, participants, id: FILE, what, whole: true }
}

fn stripes(stripes: &[u64]) -> Logged {
    let part = |unit: &u64| Part { unit: *unit, offset: 0, len: 4096 };
    Logged::Write { parts: stripes.iter().map(part).collect() }
}

/// A write of generation 3 to some stripes.
fn write(transaction: u64, participants: u16, on: &[u64]) -> LogEntry {
    entry(transaction, 3, participants, stripes(on))
}

fn torn(entry: LogEntry) -> LogEntry {
    LogEntry { whole: false, ..entry }
}

fn logs<const N: usize>(logs: [Vec<LogEntry>; N]) -> Vec<(Slot, Vec<LogEntry>)> {
    logs.into_iter().enumerate().map(|(slot, log)| (Slot(slot as u8), log)).collect()
}

#[track_caller]
fn drops<const N: usize>(all: [Vec<LogEntry>; N], complete: u64, expected: &[u64]) {
    let decision = decide(&logs(all), Generation(complete));
    assert_eq!(decision.dropped, expected.iter().copied().map(Transaction).collect::<Vec<_>>());
}

#[test]
fn a_write_counts_when_all_that_were_asked_have_it_whole() {
    drops([vec![], vec![]], 2, &[]);
    drops([vec![write(1, 0b11, &[0])], vec![write(1, 0b11, &[0])]], 2, &[]);
    drops([vec![write(1, 0b11, &[0])], vec![]], 2, &[1]);
    drops([vec![write(1, 0b11, &[0])], vec![torn(write(1, 0b11, &[0]))]], 2, &[1]);
    // Only one was asked.
    drops([vec![write(1, 0b01, &[0])], vec![]], 2, &[]);
    // The third was dropped since.
    drops([vec![write(1, 0b111, &[0])], vec![write(1, 0b111, &[0])]], 2, &[]);
}

#[test]
fn complete_generations_are_not_touched() {
    drops([vec![write(1, 0b11, &[0])], vec![]], 3, &[]);
    drops([vec![write(1, 0b11, &[0]), entry(2, 4, 0b11, stripes(&[0]))], vec![]], 3, &[2]);
}

#[test]
fn what_was_written_over_a_dropped_write_is_dropped_in_waves() {
    let kept = |transaction, on: &[u64]| write(transaction, 0b11, on);
    let tail = || vec![kept(2, &[0, 1]), kept(3, &[1, 2]), kept(4, &[3]), kept(5, &[2])];
    let mut first = vec![write(1, 0b11, &[0])];
    first.extend(tail());
    drops([first, tail()], 2, &[1, 2, 3, 5]);
    // An earlier one stays, also when a later one goes.
    drops([vec![kept(1, &[0]), kept(2, &[0])], vec![kept(1, &[0])]], 2, &[2]);
    // Another object's stripe of the same number is another one.
    let other = LogEntry { id: ObjectId(8), ..kept(2, &[0]) };
    drops([vec![kept(1, &[0]), other.clone()], vec![other]], 2, &[1]);
}

#[test]
fn a_stripe_counts_wherever_it_is_touched() {
    // Each member is sent other stripes: the later write shares stripe 1 with the lost one on member 1 only.
    let lost = [write(1, 0b111, &[0]), write(1, 0b111, &[1])];
    let later = || write(2, 0b010, &[1]);
    drops([vec![lost[0].clone()], vec![lost[1].clone(), later()], vec![]], 2, &[1, 2]);
}

#[test]
fn the_last_cut_is_repeated_where_it_is_missing() {
    let truncate = |transaction| entry(transaction, 3, 0b111, Logged::Truncate { size: 5, brick_len: 5 });
    let punch = |transaction| entry(transaction, 3, 0b111, Logged::Punch { unit: 1, count: 2 });
    let all = logs([vec![write(1, 0b111, &[0]), truncate(2)], vec![truncate(2)], vec![write(1, 0b111, &[0])]]);
    let repeated = |logs: &[(Slot, Vec<LogEntry>)], complete| {
        let cuts = decide(logs, Generation(complete)).cuts;
        cuts.iter().map(|(slot, cut)| (slot.0, cut.transaction.0)).collect::<Vec<_>>()
    };
    assert_eq!(repeated(&all, 2), [(2, 2)]);
    assert_eq!(decide(&all, Generation(2)).cuts[0].1.what, Logged::Truncate { size: 5, brick_len: 5 });
    assert_eq!(repeated(&all, 3), []);
    // What happened later happened after all had the cut, on whichever member it left a trace.
    for later in [punch(4), truncate(4)] {
        let mut all = all.clone();
        all[0].1.insert(0, later);
        assert_eq!(repeated(&all, 2), [(1, 4), (2, 4)]);
    }
    for member in 0..3 {
        let mut all = all.clone();
        all[member].1.push(write(4, 1 << member, &[3]));
        assert_eq!(repeated(&all, 2), []);
        // Another object's changes say nothing.
        all[member].1.last_mut().unwrap().id = ObjectId(8);
        assert_eq!(repeated(&all, 2), [(2, 2)]);
    }
}

/// What each of three members has of writes 1.. and cuts: absent, torn, whole; generations never fall.
fn histories() -> impl Strategy<Value = Vec<(Slot, Vec<LogEntry>)>> {
    let one = (0..3u64, prop::collection::vec(0..4u64, 1..3), 1..8u16, prop::array::uniform3(0..8u8), 0..8u8);
    prop::collection::vec(one, 0..12).prop_map(|all| {
        let mut logs: Vec<(Slot, Vec<LogEntry>)> = (0..3).map(|slot| (Slot(slot), Vec::new())).collect();
        let mut generation = 1;
        for (transaction, (step, on, participants, has, cut)) in (1..).zip(all) {
            generation += step / 2;
            for (slot, has) in has.into_iter().enumerate().filter(|(slot, _)| participants >> slot & 1 == 1) {
                let what = if cut == 0 { Logged::Punch { unit: on[0], count: 1 } } else { stripes(&on) };
                let entry = entry(transaction, generation, participants, what);
                match has {
                    0 => {}
                    1 if cut != 0 => logs[slot].1.push(torn(entry)),
                    _ => logs[slot].1.push(entry),
                }
            }
        }
        logs
    })
}

proptest! {
    #[test]
    fn decisions_hold_together(logs in histories(), complete in 0..4u64) {
        let complete = Generation(complete);
        let decision = decide(&logs, complete);
        let dropped: BTreeSet<Transaction> = decision.dropped.iter().copied().collect();
        let current: SlotSet = logs.iter().map(|(slot, _)| *slot).collect();
        let writes = writes(&logs, current, &decision.cuts);
        for (transaction, write) in &writes {
            let kept = !dropped.contains(transaction);
            let earlier = |spoilt: &BTreeSet<(ObjectId, u64)>| !write.stripes.is_disjoint(spoilt);
            let spoilt = dropped.range(..transaction).any(|earliest| earlier(&writes[earliest].stripes));
            let held = write.asked.and(write.whole) == write.asked;
            // No kept write follows a dropped one on any stripe, and nothing goes without a reason.
            prop_assert_eq!(kept, write.generation <= complete || held && !spoilt);
        }
        for (slot, cut) in &decision.cuts {
            let log = &logs[slot.index()].1;
            prop_assert!(log.iter().all(|entry| entry.transaction != cut.transaction));
        }
        // With the cuts repeated and the dropped writes gone there is nothing left to decide.
        let mut after = logs.clone();
        after.iter_mut().for_each(|(_, log)| log.retain(|entry| !dropped.contains(&entry.transaction)));
        for (slot, cut) in &decision.cuts {
            let like = logs.iter().flat_map(|(_, log)| log).find(|entry| entry.transaction == cut.transaction);
            after[slot.index()].1.push(like.expect("some member has it").clone());
        }
        let again = decide(&after, complete);
        prop_assert_eq!(again.dropped, []);
        // A cut that only dropped writes followed destroys nothing when it is made once more.
        prop_assert!(again.cuts.iter().all(|(_, cut)| dropped.range(cut.transaction..).next().is_some()));
    }

    #[test]
    fn more_bytes_never_drop_more(logs in histories(), which in any::<prop::sample::Index>(), complete in 0..4u64) {
        let before = decide(&logs, Generation(complete)).dropped;
        let mut more = logs.clone();
        let mut torn: Vec<&mut LogEntry> = more.iter_mut().flat_map(|(_, log)| log).filter(|e| !e.whole).collect();
        if !torn.is_empty() {
            let at = which.index(torn.len());
            torn[at].whole = true;
        }
        let after = decide(&more, Generation(complete)).dropped;
        prop_assert!(after.iter().all(|transaction| before.contains(transaction)));
    }

    #[test]
    fn the_order_of_members_and_of_their_logs_means_nothing(logs in histories(), complete in 0..4u64) {
        let mut turned = logs.clone();
        turned.reverse();
        turned.iter_mut().for_each(|(_, log)| log.reverse());
        let one = decide(&logs, Generation(complete));
        let mut other = decide(&turned, Generation(complete));
        other.cuts.sort_by_key(|(slot, cut)| (cut.transaction, *slot));
        prop_assert_eq!(one, other);
    }
}
