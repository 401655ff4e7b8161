use super::*;

const BLOCKS: usize = 3;

fn bytes(seed: u8) -> Bytes {
    (0..BLOCKS * BLOCK_LEN).map(|at| (at as u8).wrapping_mul(31).wrapping_add(at as u8 >> 3) ^ seed).collect()
}

fn unit(bytes: Bytes, generation: u64) -> Option<Unit> {
    Some(Unit { generation: Generation(generation), bytes, bad: 0 })
}

/// A stripe as it should be.
fn stripe(level: Level, width: usize) -> (usize, Vec<Option<Unit>>) {
    if level == Level::Raid1 {
        return (1, vec![unit(bytes(1), 5); width]);
    }
    let data = width - if level == Level::Raid5 { 1 } else { 2 };
    let mut all: Vec<Vec<u8>> = (0..data).map(|index| bytes(index as u8 * 7 + 1).to_vec()).collect();
    all.resize(width, vec![0; BLOCKS * BLOCK_LEN]);
    let lost: Vec<usize> = (data..width).collect();
    let mut slices: Vec<&mut [u8]> = all.iter_mut().map(Vec::as_mut_slice).collect();
    net_raid_raid::parity::recover(&mut slices, data, &lost);
    (data, all.into_iter().map(|bytes| unit(bytes.into(), 5)).collect())
}

const ARRAYS: [(Level, usize, usize); 5] =
    [(Level::Raid1, 2, 1), (Level::Raid1, 3, 2), (Level::Raid5, 3, 1), (Level::Raid6, 4, 2), (Level::Raid6, 6, 2)];

fn block(unit: &Option<Unit>, block: usize) -> Bytes {
    unit.as_ref().expect("it is there").bytes.slice(block * BLOCK_LEN..(block + 1) * BLOCK_LEN)
}

/// Other bytes in block 1, with a digest that matches them.
fn change(unit: &mut Option<Unit>, generation: u64) {
    let unit = unit.as_mut().expect("it is there");
    let mut bytes = unit.bytes.to_vec();
    bytes[BLOCK_LEN..2 * BLOCK_LEN].iter_mut().for_each(|byte| *byte ^= 0x55);
    (unit.bytes, unit.generation) = (bytes.into(), Generation(generation));
}

fn mend(whole: &[Option<Unit>], index: usize, why: Why) -> Mend {
    Mend { index, block: 1, bytes: block(&whole[index], 1), why }
}

#[test]
fn what_is_whole_is_left_alone() {
    for (level, width, losses) in ARRAYS {
        let (data, mut units) = stripe(level, width);
        assert!(judge(level, data, &units, 0).is_clean(), "{level:?}");
        // Also in part: who is out of reach is not mended.
        (0..losses).for_each(|index| units[index] = None);
        assert!(judge(level, data, &units, 0).is_clean(), "{level:?} without {losses}");
        units[losses] = None;
        assert!(judge(level, data, &units, 0).is_clean(), "nothing can be said");
        assert!(judge(level, data, &vec![unit(Bytes::new(), 0); width], 0).is_clean());
    }
}

#[test]
fn bad_blocks_are_computed_up_to_the_redundancy() {
    for (level, width, losses) in ARRAYS {
        let (data, whole) = stripe(level, width);
        for first in 0..width {
            let bad: Vec<usize> = (0..losses).map(|i| (first + i) % width).collect();
            let mut units = whole.clone();
            bad.iter().for_each(|index| units[*index].as_mut().expect("there").bad = 1 << 1);
            let verdict = judge(level, data, &units, 0);
            let mut wanted: Vec<Mend> = bad.iter().map(|index| mend(&whole, *index, Why::Digest)).collect();
            wanted.sort_by_key(|mend| mend.index);
            assert_eq!(verdict, Verdict { mends: wanted, beyond: None }, "{level:?} {width} {bad:?}");
            // One more is too many, and nothing is written.
            units[(first + losses) % width].as_mut().expect("there").bad = 1 << 1;
            let verdict = judge(level, data, &units, 0);
            assert_eq!(verdict, Verdict { mends: Vec::new(), beyond: Some(Beyond::TooFew) }, "{level:?} {width}");
        }
    }
}

#[test]
fn the_newest_copy_counts_and_not_the_most() {
    let (data, whole) = stripe(Level::Raid1, 3);
    let mut units = whole.clone();
    change(&mut units[0], 4);
    assert_eq!(judge(Level::Raid1, data, &units, 0).mends, vec![mend(&whole, 0, Why::Older)]);
    change(&mut units[1], 4);
    let older = vec![mend(&whole, 0, Why::Older), mend(&whole, 1, Why::Older)];
    assert_eq!(judge(Level::Raid1, data, &units, 0).mends, older);
    // Of the same generation more than half count, and of two neither.
    let mut units = whole.clone();
    change(&mut units[0], 5);
    assert_eq!(judge(Level::Raid1, data, &units, 0).mends, vec![mend(&whole, 0, Why::Older)]);
    let verdict = judge(Level::Raid1, data, &units[..2], 0);
    assert_eq!(verdict, Verdict { mends: Vec::new(), beyond: Some(Beyond::Undecided) });
    // Unless one is known to be of an older version.
    assert_eq!(judge(Level::Raid1, data, &units[..2], 1).mends, vec![mend(&whole, 0, Why::Older)]);
}

#[test]
fn a_bad_block_is_no_source() {
    let (data, whole) = stripe(Level::Raid1, 2);
    let mut units = whole.clone();
    change(&mut units[0], 9);
    units[0].as_mut().expect("there").bad = 1 << 1;
    assert_eq!(judge(Level::Raid1, data, &units, 0).mends, vec![mend(&whole, 0, Why::Digest)]);
}

#[test]
fn p_and_q_locate_the_one_that_is_wrong() {
    for (level, width, _) in ARRAYS.into_iter().filter(|(level, ..)| *level != Level::Raid1) {
        let (data, whole) = stripe(level, width);
        for wrong in 0..width {
            let mut units = whole.clone();
            change(&mut units[wrong], 5);
            let verdict = judge(level, data, &units, 0);
            let located = Verdict { mends: vec![mend(&whole, wrong, Why::Parity)], beyond: None };
            let undecided = Verdict { mends: Vec::new(), beyond: Some(Beyond::Undecided) };
            assert_eq!(verdict, if level == Level::Raid6 { located } else { undecided }, "{level:?} {wrong}");
            // Known to be of an older version, it is mended in RAID-5 too.
            let verdict = judge(level, data, &units, 1 << wrong);
            assert_eq!(verdict.mends.len(), 1, "{level:?} {wrong}");
            assert_eq!(verdict.mends[0].bytes, block(&whole[wrong], 1));
        }
    }
}

#[test]
fn with_a_bad_block_the_rest_must_agree() {
    let (data, whole) = stripe(Level::Raid6, 4);
    let mut units = whole.clone();
    units[0].as_mut().expect("there").bad = 1 << 1;
    change(&mut units[1], 5);
    // One is bad and another does not agree: nobody knows which.
    let verdict = judge(Level::Raid6, data, &units, 0);
    assert_eq!(verdict, Verdict { mends: Vec::new(), beyond: Some(Beyond::Undecided) });
}

#[test]
fn units_of_a_last_stripe_end_early() {
    let (data, mut units) = stripe(Level::Raid5, 3);
    // The second data unit has nothing: parity is the first one.
    let first = units[0].as_ref().expect("there").bytes.clone();
    units[1] = unit(Bytes::new(), 0);
    units[2] = unit(first, 5);
    assert!(judge(Level::Raid5, data, &units, 0).is_clean());
    let whole = units.clone();
    units[2].as_mut().expect("there").bad = 1 << 1;
    assert_eq!(judge(Level::Raid5, data, &units, 0).mends, vec![mend(&whole, 2, Why::Digest)]);
}
