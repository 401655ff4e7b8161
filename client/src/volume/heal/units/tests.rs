use super::*;

fn run(unit: u64, count: u64, generation: u64) -> UnitRun {
    UnitRun { unit, count, generation: Generation(generation), hole: false }
}

fn hole(unit: u64, count: u64, generation: u64) -> UnitRun {
    UnitRun { hole: true, ..run(unit, count, generation) }
}

fn check(sources: &[Vec<UnitRun>], target: &[UnitRun], end: u64, expected: &[u64]) {
    let found: Vec<u64> = behind(Generation(10), sources, target, end).into_iter().map(|behind| behind.unit).collect();
    assert_eq!(found, expected, "{sources:?} {target:?}");
}

#[test]
fn what_nobody_wrote_since_is_left_alone() {
    check(&[vec![run(0, 100, 10)]], &[run(0, 100, 10)], 100, &[]);
    check(&[vec![]], &[], 100, &[]);
}

#[test]
fn what_any_member_wrote_since_is_behind() {
    let old = run(0, 100, 10);
    check(&[vec![run(0, 7, 10), run(7, 1, 11), run(8, 92, 10)]], &[old], 100, &[7]);
    check(&[vec![old], vec![run(0, 3, 10), run(3, 2, 15), run(5, 95, 10)]], &[old], 100, &[3, 4]);
}

#[test]
fn what_only_one_side_has_is_behind() {
    check(&[vec![run(2, 3, 10)]], &[run(2, 1, 10)], 100, &[3, 4]);
    check(&[vec![run(2, 1, 10)]], &[run(1, 2, 10)], 100, &[1]);
}

#[test]
fn what_is_beyond_the_end_is_not_wanted() {
    check(&[vec![run(0, 10, 20)]], &[], 3, &[0, 1, 2]);
    check(&[vec![run(0, 10, 20)]], &[], 0, &[]);
}

#[test]
fn what_an_earlier_attempt_copied_is_not_copied_again() {
    check(&[vec![run(0, 4, 14)]], &[run(0, 4, 15)], 4, &[]);
    check(&[vec![run(0, 4, 10)]], &[run(0, 2, 15), run(2, 2, 10)], 4, &[]);
    check(&[vec![run(0, 4, 14)]], &[run(0, 2, 15)], 4, &[2, 3]);
}

#[test]
fn what_was_written_since_it_was_copied_is_behind() {
    check(&[vec![run(0, 1, 14), run(1, 1, 16), run(2, 2, 14)]], &[run(0, 4, 15)], 4, &[1]);
    // In the same generation: before or after.
    check(&[vec![run(0, 1, 14), run(1, 1, 15), run(2, 2, 14)]], &[run(0, 4, 15)], 4, &[1]);
    check(&[vec![run(0, 4, 14)], vec![run(0, 1, 16)]], &[run(0, 4, 15)], 4, &[0]);
    // Made a hole since, of which all that is told may be that it was.
    check(&[vec![run(0, 1, 14), hole(1, 1, 16), run(2, 2, 14)]], &[run(0, 4, 15)], 4, &[1]);
    check(&[vec![run(0, 1, 14), run(2, 2, 14)]], &[run(0, 4, 15)], 4, &[1]);
}

#[test]
fn what_was_made_a_hole_on_the_member_is_behind() {
    check(&[vec![run(0, 4, 14)]], &[run(0, 1, 15), hole(1, 1, 15), run(2, 2, 15)], 4, &[1]);
    check(&[vec![run(0, 4, 10)]], &[run(0, 1, 10), hole(1, 1, 11), run(2, 2, 10)], 4, &[1]);
    check(&[vec![run(0, 1, 10), hole(1, 1, 12), run(2, 2, 10)]], &[run(0, 4, 10)], 4, &[1]);
}

#[test]
fn what_was_a_hole_on_all_before_is_left_alone() {
    check(&[vec![hole(0, 99, 10), run(99, 1, 11)]], &[hole(0, 99, 10), run(99, 1, 10)], 100, &[99]);
}

#[test]
fn a_damaged_record_is_behind() {
    check(&[vec![run(0, 1, 11)]], &[run(0, 1, u64::MAX)], 1, &[0]);
    check(&[vec![run(0, 1, u64::MAX)]], &[run(0, 1, u64::MAX)], 1, &[0]);
    check(&[vec![run(0, 1, u64::MAX)]], &[run(0, 1, 12)], 1, &[0]);
}
