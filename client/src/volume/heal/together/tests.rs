use net_raid_proto::ids::Generation;

use super::*;

const ONE: Slot = Slot(1);
const TWO: Slot = Slot(2);
const LEN: usize = 65_536;

fn id(number: u64) -> ObjectId {
    ObjectId(1 << 40 | number)
}

fn unit(unit: u64) -> Behind {
    Behind { unit, source: Generation(1), blank: false }
}

/// Runs of four units, from 0 on.
fn runs(count: u64) -> Vec<Run> {
    (0..count).map(|run| (run * 4..run * 4 + 4).map(unit).collect()).collect()
}

fn firsts(together: &mut Together, slot: Slot, file: ObjectId, count: usize) -> Vec<u64> {
    (0..count).filter_map(|_| together.next_run(slot, file)).map(|run| run[0].unit).collect()
}

fn files(together: &mut Together, slot: Slot, count: usize) -> Vec<u64> {
    (0..count).filter_map(|_| together.next_file(slot)).map(|id| id.0 & 0xff).collect()
}

/// Both go through these files.
fn both(numbers: std::ops::Range<u64>) -> Together {
    let mut together = Together::default();
    together.enter(ONE, numbers.clone().map(id));
    together.enter(TWO, numbers.map(id));
    together
}

/// What the first one reads of a stripe for the second one, which takes it; once.
#[test]
fn a_stripe_is_read_once_for_two() {
    let mut together = both(0..3);
    let stripe = (id(0), 5);
    assert_eq!(together.claim(ONE, stripe, LEN, 7), Claim::Yours(vec![TWO]));
    assert_eq!(together.claim(TWO, stripe, LEN, 8), Claim::Reading);
    together.hand_over(TWO, stripe, 7, Bytes::from(vec![1; LEN]));
    together.give_up(7, [stripe].into_iter());
    assert_eq!(together.claim(TWO, stripe, LEN, 9), Claim::Read(Bytes::from(vec![1; LEN])));
    assert_eq!(together.claim(TWO, stripe, LEN, 10), Claim::Yours(vec![ONE]));
    assert_eq!(together.units, 1);
}

#[test]
fn a_read_that_was_given_up_is_made_by_who_waits() {
    let mut together = both(0..3);
    let stripe = (id(0), 5);
    assert_eq!(together.claim(ONE, stripe, LEN, 7), Claim::Yours(vec![TWO]));
    together.give_up(7, [stripe].into_iter());
    assert_eq!(together.units, 0);
    assert_eq!(together.claim(TWO, stripe, LEN, 8), Claim::Yours(vec![ONE]));
    // The first one has come to its end too late.
    together.hand_over(TWO, stripe, 7, Bytes::from(vec![1; LEN]));
    assert_eq!(together.claim(ONE, stripe, LEN, 9), Claim::Reading);
}

/// What was begun to be read before a member took what was behind is not for it: it would not know what changed meanwhile.
#[test]
fn what_was_read_before_a_pass_is_not_for_it() {
    for handed_over_late in [false, true] {
        let mut together = both(0..3);
        let stripe = (id(0), 5);
        assert_eq!(together.claim(ONE, stripe, LEN, 7), Claim::Yours(vec![TWO]));
        let bytes = Bytes::from(vec![1; LEN]);
        if !handed_over_late {
            together.hand_over(TWO, stripe, 7, bytes.clone());
        }
        together.leave(TWO);
        together.enter(TWO, [id(0)].into_iter());
        if handed_over_late {
            together.hand_over(TWO, stripe, 7, bytes);
        }
        assert_eq!(together.claim(TWO, stripe, LEN, 8), Claim::Yours(vec![ONE]));
    }
}

#[test]
fn who_has_gone_is_not_read_for_and_delays_nobody() {
    let mut together = both(0..3);
    assert_eq!(together.claim(ONE, (id(0), 0), LEN, 7), Claim::Yours(vec![TWO]));
    together.leave(TWO);
    assert_eq!(together.units, 0);
    assert_eq!(together.claim(ONE, (id(0), 1), LEN, 8), Claim::Yours(vec![]));
    assert_eq!(files(&mut together, ONE, 9), [0, 1, 2]);
}

#[test]
fn what_a_member_has_or_does_not_want_is_not_read_for_it() {
    let mut together = both(0..3);
    assert_eq!(files(&mut together, TWO, 1), [0]);
    // Before it is known what it wants of the file.
    assert_eq!(together.claim(ONE, (id(0), 1), LEN, 7), Claim::Yours(vec![TWO]));
    assert_eq!(together.claim(ONE, (id(0), 9), LEN, 7), Claim::Yours(vec![TWO]));
    together.set_runs(TWO, id(0), runs(2));
    assert_eq!(together.units, 1, "nothing is kept that it does not want");
    assert_eq!(together.claim(ONE, (id(0), 9), LEN, 8), Claim::Yours(vec![]));
    // While it is at it, and when it has it.
    assert_eq!(firsts(&mut together, TWO, id(0), 2), [0, 4]);
    assert_eq!(together.claim(ONE, (id(0), 6), LEN, 9), Claim::Yours(vec![TWO]));
    together.end_run(TWO, id(0), 4);
    assert_eq!(together.units, 1);
    assert_eq!(together.claim(ONE, (id(0), 6), LEN, 10), Claim::Yours(vec![]));
    together.end_file(TWO, id(0));
    assert_eq!(together.units, 0);
    assert_eq!(together.claim(ONE, (id(0), 2), LEN, 11), Claim::Yours(vec![]));
}

#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let mut together = both(0..3);
    let claims = (0..KEPT_MAX as u64 + 2).map(|unit| together.claim(ONE, (id(0), unit), LEN, unit));
    let shared = claims.filter(|claim| *claim == Claim::Yours(vec![TWO])).count();
    assert_eq!((shared, together.units), (KEPT_MAX, KEPT_MAX));
    together.leave(TWO);
    assert_eq!(together.units, 0);
}

/// The file has become longer since.
#[test]
fn what_is_too_short_is_read_again() {
    let mut together = both(0..3);
    let stripe = (id(0), 5);
    assert_eq!(together.claim(ONE, stripe, 4096, 7), Claim::Yours(vec![TWO]));
    together.hand_over(TWO, stripe, 7, Bytes::from(vec![1; 4096]));
    assert_eq!(together.claim(TWO, stripe, 8192, 8), Claim::Yours(vec![ONE]));
    assert_eq!(together.units, 1);
}

/// The second one goes where the first one is, and sees to what that has passed in the end.
#[test]
fn who_comes_later_goes_where_the_first_one_is() {
    let mut together = Together::default();
    together.enter(ONE, (0..9).map(id));
    assert_eq!(files(&mut together, ONE, 6), [0, 1, 2, 3, 4, 5]);
    [0, 2, 3, 4].into_iter().for_each(|number| together.end_file(ONE, id(number)));
    together.enter(TWO, (0..9).map(id));
    assert_eq!(files(&mut together, TWO, 2), [1, 5], "what the first one is in");
    assert_eq!(files(&mut together, ONE, 2), [6, 7]);
    // The same within a file.
    together.set_runs(ONE, id(6), runs(8));
    assert_eq!(firsts(&mut together, ONE, id(6), 4), [0, 4, 8, 12]);
    assert_eq!(files(&mut together, TWO, 1), [6]);
    together.set_runs(TWO, id(6), runs(8));
    assert_eq!(firsts(&mut together, TWO, id(6), 2), [12, 16]);
    assert_eq!(firsts(&mut together, ONE, id(6), 9), [16, 20, 24, 28]);
    assert_eq!(firsts(&mut together, TWO, id(6), 9), [28, 0, 4, 8, 20, 24]);
    assert_eq!(files(&mut together, ONE, 9), [8]);
    assert_eq!(files(&mut together, TWO, 9), [7, 8, 0, 2, 3, 4]);
}

/// What was read for it comes first.
#[test]
fn what_is_at_hand_is_taken_first() {
    let mut together = both(0..9);
    assert_eq!(files(&mut together, ONE, 4), [0, 1, 2, 3]);
    assert_eq!(together.claim(ONE, (id(2), 6), LEN, 7), Claim::Yours(vec![TWO]));
    together.end_file(ONE, id(2));
    assert_eq!(files(&mut together, TWO, 2), [2, 0]);
    together.set_runs(TWO, id(2), runs(3));
    assert_eq!(firsts(&mut together, TWO, id(2), 9), [4, 8, 0]);
}

#[test]
fn who_has_not_come_to_files_yet_is_known() {
    let mut together = Together::default();
    together.begin(ONE);
    together.begin(TWO);
    together.arrive(ONE);
    assert!(together.others_arrive());
    together.arrive(TWO);
    assert!(!together.others_arrive());
    // One that goes before.
    together.begin(TWO);
    together.end(TWO);
    assert!(!together.others_arrive());
}

/// Before all else, and what is under way waits for it.
#[test]
fn what_a_user_opens_comes_first() {
    let mut together = Together::default();
    together.want(id(4));
    together.begin(ONE);
    together.enter(ONE, (0..9).map(id));
    assert_eq!(together.first_file(ONE), None, "nobody was healed then");
    assert_eq!(files(&mut together, ONE, 2), [0, 1]);
    [1, 7, 99, 7].into_iter().for_each(|number| together.want(id(number)));
    assert_eq!(together.first_file(ONE), Some(id(7)), "what is under way, or is none of these, is left alone");
    assert_eq!(together.first_file(ONE), None);
    assert!(together.is_later(ONE, id(0)) && !together.is_later(ONE, id(7)));
    together.end_file(ONE, id(7));
    assert!(!together.is_later(ONE, id(0)));
    assert_eq!(files(&mut together, ONE, 9), [2, 3, 4, 5, 6, 8]);
}

/// The latest ones are remembered; one that was forgotten may be opened again.
#[test]
fn users_who_open_many_files_are_not_all_remembered() {
    let mut together = Together::default();
    together.begin(ONE);
    together.enter(ONE, (0..200).map(id));
    (0..70).chain([69, 0]).for_each(|number| together.want(id(number)));
    let first: Vec<u64> = std::iter::from_fn(|| together.first_file(ONE)).map(|id| id.0 & 0xff).collect();
    let expected: Vec<u64> = (7..70).chain([0]).collect();
    assert_eq!(first, expected);
    together.end(ONE);
    together.want(id(99));
    together.begin(ONE);
    together.enter(ONE, (0..200).map(id));
    assert_eq!(together.first_file(ONE), None, "it is another attempt");
}
