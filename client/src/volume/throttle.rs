//! Pure: how fast members are healed beside users.
//!
//! What the slowest hundredth of operations of a kind takes while nothing is copied is *usual*. While something is, an operation is
//! *slow* when it takes more than half as long again. A slow one makes copying slower by a large step, any other one makes it faster by
//! a 99th of that: it comes to rest where one of a hundred is slow, which is where the 99th percentile has grown by a half. It may
//! double: the rest is for what is not measured here, between a program and the volume, and for swings. The usual is found in the same way (stochastic approximation of a quantile, Robbins and Monro 1951). From time to time nothing is copied for a
//! moment, so that the usual stays known.

use std::time::Duration;

/// Of a hundred operations so many may be slow.
const SHARE: f64 = 0.01;
/// How many times as long as usual is slow.
const SLOW: f64 = 1.5;
/// And by how much longer at least: nobody feels less.
const FELT: Duration = Duration::from_micros(500);
/// Steps of the usual and of the rate, as logarithms, for what is slow; for all else a 99th.
const USUAL_STEP: f64 = 0.5;
const RATE_STEP: f64 = 0.3;
/// Operations that are slow together, because of one cause, count once.
const ONE_CAUSE: Duration = Duration::from_millis(20);
/// Bytes a second: it must end some day, and with this much it does not matter any more.
const RATE_MIN: f64 = 32e6;
const RATE_MAX: f64 = 4e9;
/// And where it begins.
const RATE_FIRST: f64 = 64e6;
/// What a file costs beside its bytes.
const FILE_COST: u64 = 64 * 1024;
/// In each such period nothing is copied for a moment.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE: Duration = Duration::from_millis(100);

/// What users ask for; some takes longer than other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// At names and attributes.
    Look,
    Read,
    /// Of names and attributes.
    Change,
    Write,
    Sync,
}

const KINDS: usize = 5;

/// Times are since any moment, the same for all.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Microseconds; 0 before it is known.
    usual: [f64; KINDS],
    rate: f64,
    /// When the next copy may begin.
    free: Duration,
    slower: Duration,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle { usual: [0.0; KINDS], rate: RATE_FIRST, free: Duration::ZERO, slower: Duration::ZERO }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// One step of an approximation: up by `step` of the logarithm for one of a hundred.
fn step(of: f64, step: f64, is_above: bool) -> f64 {
    of * if is_above { step * (1.0 - SHARE) } else { -step * SHARE }.exp()
}

impl Throttle {
    /// An operation took so long while nothing was copied.
    pub(super) fn note_alone(&mut self, kind: Kind, took: Duration) {
        let (usual, took) = (&mut self.usual[kind as usize], micros(took).max(1.0));
        *usual = if *usual == 0.0 { took } else { step(*usual, USUAL_STEP, took > *usual) };
    }

    /// An operation took so long while something was.
    pub(super) fn note_beside(&mut self, kind: Kind, took: Duration, now: Duration) {
        let usual = self.usual[kind as usize];
        if usual == 0.0 {
            return;
        }
        let is_slow = micros(took) > (usual * SLOW).max(usual + micros(FELT));
        if is_slow {
            if now < self.slower + ONE_CAUSE {
                return;
            }
            self.slower = now;
        }
        // The other way round: what is slow makes it less.
        self.rate = (1.0 / step(1.0 / self.rate, RATE_STEP, is_slow)).clamp(RATE_MIN, RATE_MAX);
    }

    /// When a copy may begin.
    pub(super) fn admit(&mut self, bytes: u64, now: Duration) -> Duration {
        let mut start = self.free.max(now);
        let into = Duration::from_nanos((start.as_nanos() % PROBE_EVERY.as_nanos()) as u64);
        if into < PROBE {
            start += PROBE - into;
        }
        let takes = Duration::from_secs_f64(bytes.max(FILE_COST) as f64 / self.rate);
        self.free = start + takes;
        start
    }

    /// Nobody works: what is copied now does not count.
    pub(super) fn forgive(&mut self, now: Duration) {
        self.free = self.free.min(now);
    }
}

#[cfg(test)]
mod tests;
