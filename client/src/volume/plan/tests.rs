use super::*;

fn masks(width: usize) -> impl Iterator<Item = u32> {
    0..1 << width
}

/// Carries out the steps of a need; returns the last one.
fn run(need: &mut StripeNeed, level: Level, data_units: usize) -> Step {
    for _ in 0..8 {
        match need.step(level, data_units) {
            Step::Fetch(fetches) => {
                assert!(!fetches.is_empty());
                for (index, range) in fetches {
                    assert!(!need.is_bad(index), "fetches a bad index");
                    assert!(!range.is_empty() && !covers(&need.have[index], &range), "fetches what it has");
                    need.have[index] = range;
                }
            }
            last => return last,
        }
    }
    panic!("no end: {need:?}");
}

fn check_end(need: &StripeNeed, last: &Step, data_units: usize) {
    let good_are_had = (0..need.wanted.len()).all(|i| need.is_bad(i) || covers(&need.have[i], &need.wanted[i]));
    assert!(good_are_had, "{need:?}");
    let bad_wanted: Vec<usize> =
        (0..need.wanted.len()).filter(|&i| need.is_bad(i) && !need.wanted[i].is_empty()).collect();
    match last {
        Step::Whole => assert!(bad_wanted.is_empty()),
        Step::Recover { from, over } => {
            assert_eq!(from.len(), data_units);
            assert!(from.iter().all(|&i| !need.is_bad(i) && covers(&need.have[i], over)));
            assert!(bad_wanted.iter().all(|&i| covers(over, &need.wanted[i])));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_bad_set_within_the_redundancy_is_recovered_and_none_beyond() {
    for (level, parity) in [(Level::Raid5, 1), (Level::Raid6, 2)] {
        for width in parity + 2..=8 {
            let data_units = width - parity;
            for bad in masks(width) {
                for wanted in masks(width).filter(|wanted| *wanted != 0) {
                    let mut need = StripeNeed::new(0, width, bad, 0);
                    (0..width).filter(|i| wanted >> i & 1 == 1).for_each(|i| need.want(i, i * 4..i * 4 + 8));
                    let last = run(&mut need, level, data_units);
                    let hopeless = bad.count_ones() as usize > parity && bad & wanted != 0;
                    assert_eq!(last == Step::Lost, hopeless, "{level} width {width} bad {bad:b} wanted {wanted:b}");
                    if !hopeless {
                        check_end(&need, &last, data_units);
                    }
                }
            }
        }
    }
}

#[test]
fn any_good_copy_will_do() {
    for width in 2..=6 {
        for bad in masks(width) {
            for prefer in 0..width {
                let mut need = StripeNeed::new(0, width, bad, prefer);
                need.want(0, 8..24);
                match run(&mut need, Level::Raid1, 1) {
                    Step::Lost => assert_eq!(bad.count_ones() as usize, width),
                    Step::Recover { from, over } => {
                        assert!(from.len() == 1 && !need.is_bad(from[0]) && over == (8..24));
                        assert!(need.is_bad(prefer) || from[0] == prefer);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_unit_that_turns_out_bad_is_replanned() {
    let mut need = StripeNeed::new(0, 4, 0, 0);
    need.want(0, 0..16);
    assert_eq!(need.step(Level::Raid6, 2), Step::Fetch(vec![(0, 0..16)]));
    need.bad |= 1;
    assert_eq!(need.step(Level::Raid6, 2), Step::Fetch(vec![(1, 0..16), (2, 0..16)]));
    need.have[1] = 0..16;
    need.bad |= 1 << 2;
    assert_eq!(need.step(Level::Raid6, 2), Step::Fetch(vec![(3, 0..16)]));
    need.bad |= 1 << 3;
    assert_eq!(need.step(Level::Raid6, 2), Step::Lost);
}

/// Bytes of a unit in the parity tests: a row is a byte.
const ROWS: usize = 6;

/// XOR parity found as a plan says, from nothing but what it reads.
fn parity_by_plan(view: &StripeWrite, plan: &ParityPlan, old: &[[u8; ROWS]], new: &[[u8; ROWS]]) -> Vec<u8> {
    let read = |index: usize, row: usize| if plan.read[index].contains(&row) { old[index][row] } else { 0 };
    let data = view.new.len();
    let of_row = |row: usize| {
        let written = |index: usize| view.new[index].contains(&row);
        if plan.delta {
            (0..data).filter(|&i| written(i)).fold(read(data, row), |parity, i| parity ^ read(i, row) ^ new[i][row])
        } else {
            (0..data).fold(0, |parity, i| parity ^ if written(i) { new[i][row] } else { read(i, row) })
        }
    };
    view.rows().map(of_row).collect()
}

fn check_parity(view: &StripeWrite, old: &[[u8; ROWS]], new: &[[u8; ROWS]]) {
    let plan = view.plan();
    let data = view.new.len();
    let touches_gone = (0..data).any(|i| view.gone >> i & 1 == 1 && !view.new[i].is_empty());
    assert!(!(plan.delta && touches_gone), "a delta needs the old bytes of what it changes: {view:?}");
    if plan.delta && view.gone >> data & 1 == 1 {
        // Parity that is gone is not kept up to date either.
        return;
    }
    let expected: Vec<u8> = view
        .rows()
        .map(|row| (0..data).fold(0, |p, i| p ^ if view.new[i].contains(&row) { new[i][row] } else { old[i][row] }))
        .collect();
    assert_eq!(parity_by_plan(view, &plan, old, new), expected, "{view:?} {plan:?}");
}

#[test]
fn planned_parity_equals_parity_of_the_result() {
    let ranges = || (0..ROWS).flat_map(|start| (start..=ROWS).map(move |end| start..end));
    for first in ranges() {
        for second in ranges() {
            for old_end in [[0; 3], [ROWS; 3], [ROWS, 4, 0], [2, 0, 0]] {
                for gone in masks(4).filter(|gone| gone.count_ones() <= 1) {
                    let mut old = [[0; ROWS]; 4];
                    let new: Vec<[u8; ROWS]> =
                        (0..3).map(|i| std::array::from_fn(|row| (i * 37 + row * 11 + 1) as u8)).collect();
                    for (i, end) in old_end.iter().enumerate() {
                        (0..*end).for_each(|row| old[i][row] = (i * 71 + row * 5 + 9) as u8);
                    }
                    (0..ROWS).for_each(|row| old[3][row] = old[0][row] ^ old[1][row] ^ old[2][row]);
                    let view = StripeWrite {
                        new: vec![first.clone(), second.clone(), 0..0],
                        old_end: old_end.to_vec(),
                        parity: 1,
                        gone,
                        cached: 0,
                    };
                    check_parity(&view, &old, &new);
                }
            }
        }
    }
}

#[test]
fn new_data_is_never_read_back() {
    let view =
        |new: Vec<Range<usize>>, old_end: Vec<usize>| StripeWrite { new, old_end, parity: 2, gone: 0, cached: 0 };
    let nothing = vec![0..0; 6];
    let full = view(vec![0..16; 4], vec![16; 4]).plan();
    assert_eq!(full, ParityPlan { delta: false, read: nothing.clone() });
    let appended = view(vec![0..0, 4..16, 0..16, 0..0], vec![0, 4, 0, 0]).plan();
    assert!(appended.read.iter().all(|range| range.is_empty() || range.end <= 4), "{appended:?}");
    let small_new = view(vec![0..4, 0..0, 0..0, 0..0], vec![0; 4]).plan();
    assert_eq!(small_new, ParityPlan { delta: false, read: nothing });
}

#[test]
fn a_small_overwrite_reads_itself_and_parity() {
    let view = StripeWrite {
        new: vec![4..8, 0..0, 0..0, 0..0, 0..0, 0..0],
        old_end: vec![16; 6],
        parity: 2,
        gone: 0,
        cached: 0,
    };
    let plan = view.plan();
    assert!(plan.delta);
    assert_eq!(plan.read, vec![4..8, 0..0, 0..0, 0..0, 0..0, 0..0, 4..8, 4..8]);
}
