//! Pure: how fast the scrub in the background goes, so that a pass takes about as long as it should.
//!
//! ```text
//!   rate = what is left / the time that is left      but not slower than all / the time of a pass,
//!                                                    and as if an eighth of that time was left when it is late
//! ```
//!
//! Work is counted in bytes that are read on all members together, and so many more for each name on each member.

use std::time::Duration;

/// What a name costs, in bytes: about what a disk reads in the time of a seek.
pub(super) const NAME_WORK: u64 = 16 * 1024;
/// Even an empty volume has some.
const WORK_MIN: u64 = 1 << 20;
/// A pass that is late goes so many times as fast as one that is not, at most.
const HASTE_MAX: u32 = 8;
/// Users are given way for about as long as a step is away from the next one, within these.
const GIVE_WAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The place is noted this often, or more often where a pass is short.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// A pass goes on so long after a mount, or sooner where it is short.
const START_AFTER: Duration = Duration::from_secs(600);

/// A pass that takes `period`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace {
    pub(super) period: Duration,
    /// All of it, as far as is known.
    pub(super) work: u64,
}

impl Pace {
    pub(super) fn new(period: Duration, work: u64) -> Pace {
        Pace { period, work: work.max(WORK_MIN) }
    }

    /// How long a step takes that is `step` of the work, `done` of which is over, when the pass began `age` ago.
    pub(super) fn interval(&self, step: u64, done: u64, age: Duration) -> Duration {
        let left = self.period.saturating_sub(age).max(self.period / HASTE_MAX).as_secs_f64();
        let usual = self.work as f64 / self.period.as_secs_f64();
        let rate = (self.work.saturating_sub(done) as f64 / left).max(usual);
        Duration::try_from_secs_f64(step as f64 / rate).unwrap_or(self.period).min(self.period)
    }

    /// How long a step is put off while users work.
    pub(super) fn give_way(interval: Duration) -> Duration {
        interval.clamp(GIVE_WAY.0, GIVE_WAY.1)
    }

    pub(super) fn note_every(period: Duration) -> Duration {
        NOTE_EVERY.min(period / 60)
    }

    pub(super) fn start_after(period: Duration) -> Duration {
        START_AFTER.min(period / 60)
    }
}

#[cfg(test)]
mod tests;
