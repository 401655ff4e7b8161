//! How long one server takes to answer, by kind of question.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use net_raid_proto::message::Request;

/// Questions that take about as long as each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A look at names or attributes, or a read of no more than a unit.
    Look,
    /// A longer read, or a page of a directory.
    Long,
    /// A change.
    Change,
    /// Whatever waits for the disk, or is rare.
    Other,
}

const CLASSES: usize = 4;
/// Reads of no more bytes than this are as quick as a look.
const LOOK_MAX: u64 = 64 * 1024;

impl Class {
    /// What a request is.
    pub fn of(request: &Request) -> Class {
        match request {
            Request::Read { parts, .. } if parts.iter().map(|part| u64::from(part.len)).sum::<u64>() > LOOK_MAX => {
                Class::Long
            }
            Request::Read { .. }
            | Request::Lookup { .. }
            | Request::GetAttr { .. }
            | Request::GetXattr { .. }
            | Request::ListXattr { .. }
            | Request::ReadLink { .. } => Class::Look,
            Request::ReadDir { .. } => Class::Long,
            Request::Change { .. } => Class::Change,
            _ => Class::Other,
        }
    }
}

/// Microseconds that the first bucket ends with, as a power of two.
const FIRST: u32 = 4;
/// Buckets of each doubling: a quantile is right to 19 %.
const PER_OCTAVE: u32 = 4;
/// From 16 microseconds to more than a minute.
const BUCKETS: usize = (PER_OCTAVE * 22) as usize;
/// When so many were counted, each count is halved: what is recent counts most.
const HALVED_AT: u32 = 1024;
/// Fewer than this say nothing.
const ENOUGH: u32 = 16;

/// A histogram of latencies, of which the recent ones count most.
struct Histogram {
    counts: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [const { AtomicU32::new(0) }; BUCKETS], total: AtomicU32::new(0) }
    }
}

/// The bucket of a latency: logarithmic, with `PER_OCTAVE` steps between powers of two.
fn bucket_of(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1 << FIRST);
    let octave = micros.ilog2();
    let within = (micros >> (octave - PER_OCTAVE.ilog2())) as u32 & (PER_OCTAVE - 1);
    (((octave - FIRST) * PER_OCTAVE + within) as usize).min(BUCKETS - 1)
}

/// Where a bucket ends.
fn end_of(bucket: usize) -> Duration {
    let (octave, within) = (bucket as u32 / PER_OCTAVE + FIRST, bucket as u32 % PER_OCTAVE);
    Duration::from_micros(u64::from(PER_OCTAVE + within + 1) << (octave - PER_OCTAVE.ilog2()))
}

impl Histogram {
    fn record(&self, latency: Duration) {
        self.counts[bucket_of(latency)].fetch_add(1, Relaxed);
        if self.total.fetch_add(1, Relaxed) + 1 < HALVED_AT {
            return;
        }
        let mut total = 0;
        for count in &self.counts {
            let half = count.load(Relaxed) / 2;
            count.store(half, Relaxed);
            total += half;
        }
        self.total.store(total, Relaxed);
    }

    fn quantile(&self, share: f64) -> Option<Duration> {
        let total = self.total.load(Relaxed);
        if total < ENOUGH {
            return None;
        }
        let wanted = (f64::from(total) * share).ceil() as u32;
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count.load(Relaxed);
            seen >= wanted
        });
        Some(end_of(found.unwrap_or(BUCKETS - 1)))
    }
}

/// The latencies of one server.
#[derive(Default)]
pub struct Latencies {
    classes: [Histogram; CLASSES],
}

impl Latencies {
    /// Counts an answer. One caller at a time: two could lose a count.
    pub(super) fn record(&self, class: Class, latency: Duration) {
        self.classes[class as usize].record(latency);
    }

    /// What a `share` (0 to 1) of the recent answers did not exceed; `None` when there were too few.
    pub fn quantile(&self, class: Class, share: f64) -> Option<Duration> {
        self.classes[class as usize].quantile(share)
    }
}

#[cfg(test)]
mod tests;
