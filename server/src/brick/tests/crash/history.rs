//! Histories: some that were thought of, and random ones.

use super::*;
use crate::disk::sim::Random;

/// Files that a random history has at a time.
const FILES: usize = 3;
const STEPS: usize = 40;

fn check(ownership: Ownership, steps: &[Step], effort: &Effort) {
    let mut left = steps.iter().cloned();
    let tried = run(ownership, |_| left.next(), effort);
    assert!(tried >= steps.len());
}

fn both(steps: &[Step]) {
    for ownership in [Ownership::Recorded, Ownership::Native] {
        check(ownership, steps, &Effort { power_losses: 4, deep_one_in: 4, lying: None });
    }
}

fn create(path: &'static str, file: u64, level: Level) -> Step {
    Step::Create { path, file, level }
}

fn write(block: usize, len: usize, seed: u64) -> Step {
    Step::Write { file: 10, block, len, seed }
}

#[test]
fn a_new_file_is_synced() {
    both(&[create("d/a", 10, Level::Raid1), write(0, 100, 1), Step::Fsync { file: 10 }, write(0, 200, 2)]);
}

#[test]
fn blocks_are_fresh_and_then_overwritten() {
    for level in [Level::Raid1, Level::Raid5] {
        both(&[
            create("a", 10, level),
            write(0, 3 * BLOCK_SIZE, 1),
            Step::Fsync { file: 10 },
            write(1, 4 * BLOCK_SIZE, 2),
            write(2, BLOCK_SIZE, 3),
            Step::Checkpoint,
            write(2, BLOCK_SIZE, 4),
            Step::Complete,
            write(14, 5 * BLOCK_SIZE, 5),
            Step::Fsync { file: 10 },
            write(15, 2 * BLOCK_SIZE, 6),
        ]);
    }
}

#[test]
fn files_are_appended_to_in_small_pieces() {
    let mut steps = vec![create("a", 10, Level::Raid5)];
    steps.extend(
        (1..8).map(|piece| write(0, 700 * piece, piece as u64)).flat_map(|step| [step, Step::Fsync { file: 10 }]),
    );
    both(&steps);
}

#[test]
fn files_are_cut_and_grow_again() {
    both(&[
        create("a", 10, Level::Raid1),
        write(0, 20 * BLOCK_SIZE, 1),
        Step::Checkpoint,
        Step::Complete,
        Step::Truncate { file: 10, blocks: 3 },
        write(5, BLOCK_SIZE, 2),
        Step::Punch { file: 10, unit: 0 },
        write(0, 2 * BLOCK_SIZE, 3),
        Step::Fsync { file: 10 },
        Step::Truncate { file: 10, blocks: 0 },
        write(0, 17 * BLOCK_SIZE, 4),
        Step::Punch { file: 10, unit: 1 },
        Step::Truncate { file: 10, blocks: 22 },
        Step::Fsync { file: 10 },
        Step::Truncate { file: 10, blocks: 1 },
        Step::Allocate { file: 10, blocks: 8 },
        Step::Fsync { file: 10 },
    ]);
}

#[test]
fn a_punched_end_keeps_the_length() {
    both(&[
        create("a", 10, Level::Raid1),
        write(0, 20 * BLOCK_SIZE, 1),
        Step::Checkpoint,
        Step::Complete,
        Step::Truncate { file: 10, blocks: 18 },
        write(20, BLOCK_SIZE, 2),
        Step::Punch { file: 10, unit: 1 },
        Step::Fsync { file: 10 },
        Step::Unlink { path: "a", keep: true },
    ]);
}

#[test]
fn names_move_replace_and_go() {
    let level = Level::Raid1;
    both(&[
        create("a", 10, level),
        write(0, BLOCK_SIZE, 1),
        Step::Fsync { file: 10 },
        create("d/a", 11, level),
        Step::Rename { from: "a", to: "d/a", keep: false },
        Step::Link { file: 10, path: "b" },
        Step::Unlink { path: "d/a", keep: false },
        create("c", 12, level),
        Step::Fsync { file: 12 },
        Step::Rename { from: "c", to: "b", keep: true },
        Step::Unlink { path: "b", keep: true },
    ]);
}

/// The removal is not durable when the log is emptied of what the file had there.
#[test]
fn a_removed_file_comes_back_whole_or_not_at_all() {
    both(&[
        create("a", 10, Level::Raid1),
        write(0, 4 * BLOCK_SIZE, 1),
        Step::Checkpoint,
        Step::Unlink { path: "a", keep: false },
        Step::Complete,
        create("b", 11, Level::Raid1),
    ]);
}

/// A machine that breaks its word is noticed: else the histories would prove nothing.
#[test]
fn syncs_that_do_nothing_are_noticed() {
    let steps = [
        create("a", 10, Level::Raid5),
        write(0, 8 * BLOCK_SIZE, 1),
        Step::Fsync { file: 10 },
        write(1, 6 * BLOCK_SIZE, 2),
        Step::Fsync { file: 10 },
        Step::Checkpoint,
        Step::Complete,
        write(2, 2 * BLOCK_SIZE, 3),
        Step::Fsync { file: 10 },
        create("b", 11, Level::Raid5),
    ];
    let survives = |lying| {
        let effort = Effort { power_losses: 8, deep_one_in: 1000, lying };
        std::panic::catch_unwind(|| check(Ownership::Recorded, &steps, &effort)).is_ok()
    };
    assert!(survives(None));
    for file in ["log.0", "log.1"] {
        assert!(!survives(Some(file)), "nobody noticed that {file} was never synced");
    }
}

#[test]
fn writes_are_taken_back() {
    both(&[
        create("a", 10, Level::Raid5),
        write(0, 3 * BLOCK_SIZE, 1),
        Step::Fsync { file: 10 },
        write(1, 4 * BLOCK_SIZE, 2),
        Step::Abort,
        write(1, 2 * BLOCK_SIZE, 3),
        Step::Fsync { file: 10 },
        Step::Checkpoint,
        Step::Complete,
    ]);
}

/// The cut is durable with the other file, and what was written before is not. It took none of that.
#[test]
fn what_a_failed_write_left_beyond_the_end_is_cut_off() {
    for level in [Level::Raid1, Level::Raid5] {
        for len in [100, 19_000] {
            both(&[
                create("b", 11, level),
                create("a", 10, level),
                write(0, 3229, 1),
                write(0, len, 2),
                Step::Abort,
                Step::EndAgain { file: 10, len: 3229 },
                Step::Fsync { file: 11 },
                write(0, 6000, 3),
            ]);
        }
    }
}

/// What a client could ask next.
fn next(random: &mut Random, model: &Model, fresh: &mut u64) -> Step {
    *fresh += 1;
    if let Some((file, len)) = model.taken_back.filter(|_| random.chance(6)) {
        return Step::EndAgain { file, len };
    }
    let named: Vec<(&'static str, u64)> = model.names().iter().map(|(path, file)| (*path, *file)).collect();
    let free: Vec<&'static str> = PATHS.iter().copied().filter(|path| !model.names().contains_key(path)).collect();
    if named.len() < FILES && random.chance(if named.is_empty() { 8 } else { 2 }) {
        let level = if random.chance(4) { Level::Raid1 } else { Level::Raid6 };
        return create(free[random.below(free.len() as u64) as usize], *fresh, level);
    }
    let (path, file) = named[random.below(named.len() as u64) as usize];
    match random.below(17) {
        0..=5 => some_write(random, &model.files[&file], file, *fresh),
        6 => Step::Truncate { file, blocks: random.below(BLOCKS as u64) as usize },
        7 => Step::Punch { file, unit: random.below(2) },
        16 => Step::Allocate { file, blocks: random.below(BLOCKS as u64) as usize + 1 },
        8 | 9 => Step::Fsync { file },
        10 if !free.is_empty() => Step::Link { file, path: free[0] },
        11 => {
            let to = PATHS[random.below(PATHS.len() as u64) as usize];
            let other = model.names().get(to) != Some(&file);
            if other { Step::Rename { from: path, to, keep: random.chance(4) } } else { Step::Fsync { file } }
        }
        12 => Step::Unlink { path, keep: random.chance(4) },
        13 if model.last_write.as_ref().is_some_and(|last| model.files.contains_key(&last.file)) => Step::Abort,
        _ if model.pending => Step::Complete,
        _ => Step::Checkpoint,
    }
}

/// A client writes whole blocks, except at the end of a file.
fn some_write(random: &mut Random, now: &File, file: u64, seed: u64) -> Step {
    let block = random.below(BLOCKS as u64 - 1) as usize;
    let len = random.below(((BLOCKS - block) * BLOCK_SIZE) as u64) as usize + 1;
    let len = if random.chance(5) { len.min(3 * BLOCK_SIZE) } else { len };
    let inside = ((block * BLOCK_SIZE + len) as u64) < now.len();
    Step::Write { file, block, len: if inside { len.next_multiple_of(BLOCK_SIZE) } else { len }, seed }
}

#[test]
fn random_histories_survive_crashes_at_every_call() {
    for seed in 1..6 {
        println!("seed {seed}");
        let (mut random, mut fresh, mut left) = (Random::new(seed), 100, STEPS);
        let steps = |model: &Model| {
            left = left.checked_sub(1)?;
            Some(next(&mut random, model, &mut fresh))
        };
        let ownership = if seed % 2 == 0 { Ownership::Native } else { Ownership::Recorded };
        run(ownership, steps, &Effort { power_losses: 2, deep_one_in: 9, lying: None });
    }
}
