//! One program that works on the volume: a thread with files of its own.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::grown::Grown;
use super::names::Names;
use super::overwritten::Overwritten;
use super::report::Tally;
use super::signs::Signs;
use crate::deadline::reached;
use crate::random::Random;

/// After an operation that failed.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Between two looks of one that is held.
const HELD_WITHIN: Duration = Duration::from_secs(1);

/// The files of a writer, with their records.
#[derive(Debug)]
pub(super) struct Writer {
    overwritten: [Overwritten; 2],
    grown: Grown,
    names: Names,
    random: Random,
    tally: Tally,
    clean: bool,
}

impl Writer {
    /// Makes the files of writer number `number`.
    pub(super) fn create(root: &Path, number: u32, seed: u64) -> io::Result<Writer> {
        let first = number * 10;
        Ok(Writer {
            overwritten: [Overwritten::create(root, first + 1)?, Overwritten::create(root, first + 2)?],
            grown: Grown::create(root, first + 3)?,
            names: Names::create(root, first + 4)?,
            random: Random::new(seed),
            tally: Tally::default(),
            clean: true,
        })
    }

    /// Works until it is to stop, and makes everything safe then; or until the mount is dead.
    pub(super) fn run(&mut self, root: &Path, signs: &Signs) {
        self.clean = true;
        while !signs.is_stop() {
            if signs.is_held() {
                reached(HELD_WITHIN, || signs.is_stop() || !signs.is_held());
                continue;
            }
            let begin = Instant::now();
            match self.step(root, signs) {
                Ok(()) => self.tally.add(Tally { operations: 1, longest: begin.elapsed(), ..Tally::default() }),
                Err(error) => {
                    self.failed(&error, signs);
                    if is_dead(&error) {
                        return self.abandon();
                    }
                    reached(AGAIN_AFTER, || signs.is_stop());
                }
            }
        }
        self.settle(root, signs);
    }

    fn step(&mut self, root: &Path, signs: &Signs) -> io::Result<()> {
        let Writer { overwritten, grown, names, random, tally, .. } = self;
        match random.below(100) {
            which @ 0..70 => overwritten[which as usize % 2].step(root, random, signs, tally),
            70..85 => grown.step(root, random, tally),
            _ => names.step(root, random, tally),
        }
    }

    fn failed(&mut self, error: &io::Error, signs: &Signs) {
        let may_fail = signs.may_fail();
        assert!(may_fail, "an operation failed although enough servers were there: {error}");
        self.tally.failed += 1;
        self.clean = false;
    }

    fn settle(&mut self, root: &Path, signs: &Signs) {
        let Writer { overwritten, grown, tally, .. } = self;
        let [first, second] = overwritten;
        let done = [first.settle(root, tally), second.settle(root, tally), grown.settle(tally)];
        done.into_iter().filter_map(Result::err).for_each(|error| self.failed(&error, signs));
    }

    fn abandon(&mut self) {
        self.overwritten.iter_mut().for_each(Overwritten::abandon);
        self.grown.abandon();
    }

    /// Whether nothing failed in the last run: what the kernel shows is what the volume holds.
    pub(super) fn is_clean(&self) -> bool {
        self.clean
    }

    /// What was done since this was asked last.
    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Compares what the volume holds with the records, and returns how many bytes that were.
    ///
    /// # Errors
    /// What is lost, in words.
    pub(super) fn verify(&mut self, root: &Path) -> Result<u64, String> {
        let [first, second] = &mut self.overwritten;
        Ok(first.verify(root)? + second.verify(root)? + self.grown.verify(root)? + self.names.verify(root)?)
    }

    /// Claims that something was acknowledged that was not.
    pub(super) fn lie(&mut self) {
        self.overwritten[0].lie();
    }
}

/// What every call says on a mount whose daemon is gone.
fn is_dead(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOTCONN | Errno::CONNABORTED))
}
