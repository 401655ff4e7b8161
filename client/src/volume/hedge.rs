//! Reads are hedged: what a member does not answer in good time is had from the others.
//!
//! A server that lives but whose disk is slow, or one that froze a moment ago, is not dropped for that. A read that takes a few
//! times as long as reads from the other members usually do is made without it, and so are the next ones for a while: each
//! time it is tried again and is late again, for twice as long.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use net_raid_proto::ids::Slot;
use net_raid_proto::layout::Level;
use net_raid_proto::limits::MEMBERS_MAX;
use tokio::time::{Instant, timeout};

use super::plan::StripeNeed;
use super::{Core, File};
use crate::conn::Class;
use crate::layout::SlotSet;

/// How many times as long as the other members usually take is late.
const LATE: u32 = 4;
/// What counts as usual: nine of ten answers take no longer.
const USUAL: f64 = 0.9;
/// Nobody is late before this: a busy machine does not run a process for as long at times.
const LATE_MIN: Duration = Duration::from_millis(25);
/// And who is not late by this share of the stall, where it is not known what is usual, or much is.
const STALL_SHARE: u32 = 8;
/// Who was late is not read for so long, the first time and at most.
const AVOIDED: Duration = Duration::from_secs(1);
const AVOIDED_MAX: Duration = Duration::from_secs(32);

/// Who was late lately.
pub(super) struct Hedges {
    began: Instant,
    members: [Lateness; MEMBERS_MAX],
}

#[derive(Default)]
struct Lateness {
    /// Milliseconds since `began` until which it is not read.
    until: AtomicU64,
    /// Times that it was late, one after the other.
    times: AtomicU32,
}

impl Default for Hedges {
    fn default() -> Hedges {
        Hedges { began: Instant::now(), members: Default::default() }
    }
}

impl Hedges {
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Members that were late a moment ago.
    fn slow(&self) -> SlotSet {
        let until = |slot: &Slot| self.members[slot.index()].until.load(Relaxed);
        let late: SlotSet = SlotSet::all(MEMBERS_MAX).iter().filter(|slot| until(slot) > 0).collect();
        if late.is_empty() {
            return late;
        }
        let now = self.now();
        late.iter().filter(|slot| until(slot) > now).collect()
    }

    fn late(&self, slot: Slot) {
        let member = &self.members[slot.index()];
        let now = self.now();
        if member.until.load(Relaxed) > now {
            // It was asked before another read found it late.
            return;
        }
        let times = member.times.fetch_add(1, Relaxed);
        let avoided = AVOIDED.saturating_mul(1 << times.min(16)).min(AVOIDED_MAX);
        member.until.store(now + avoided.as_millis() as u64, Relaxed);
    }

    fn in_time(&self, slot: Slot) {
        let member = &self.members[slot.index()];
        if member.times.load(Relaxed) > 0 {
            member.times.store(0, Relaxed);
            member.until.store(0, Relaxed);
        }
    }
}

impl Core {
    /// Members to read from first.
    pub(super) fn prompt(&self) -> SlotSet {
        SlotSet(self.members.readable().0 & !self.hedges.slow().0)
    }

    /// What a member answers; `None` when it is late, and the others are enough.
    pub(super) async fn in_good_time<T>(&self, slot: Slot, class: Class, call: impl Future<Output = T>) -> Option<T> {
        let others = self.members.readable().without(slot);
        if others.len() < self.members_to_read() {
            return Some(call.await);
        }
        let Ok(answer) = timeout(self.late_after(others, class), call).await else {
            self.hedges.late(slot);
            tracing::debug!(%slot, ?class, "late: read from others");
            return None;
        };
        self.hedges.in_time(slot);
        Some(answer)
    }

    /// Half of the others, at least, usually answer much sooner.
    fn late_after(&self, others: SlotSet, class: Class) -> Duration {
        let usual = |slot: Slot| self.members.conn(slot).latencies().quantile(class, USUAL);
        let mut usual: Vec<Duration> = others.iter().filter_map(usual).collect();
        usual.sort_unstable();
        let most = self.config.stall / STALL_SHARE;
        usual.get(usual.len() / 2).map_or(most, |usual| (*usual * LATE).clamp(LATE_MIN.min(most), most))
    }

    /// Members that any byte can be read from.
    fn members_to_read(&self) -> usize {
        match self.layout.level {
            Level::Raid1 => 1,
            _ => self.layout.data_units(),
        }
    }

    /// Leaves members that are slow out of a stripe that can be had without them.
    pub(super) fn avoid_slow(&self, file: &File, need: &mut StripeNeed) {
        let slow = self.hedges.slow();
        if slow.is_empty() {
            return;
        }
        let width = file.geometry.width();
        let is_slow = |index: &usize| slow.has(file.geometry.slot(need.stripe, *index));
        let bad = (0..width).filter(is_slow).fold(need.bad, |bad, index| bad | 1 << index);
        let enough = if file.geometry.level() == Level::Raid1 { 1 } else { file.geometry.data_units() };
        if width - bad.count_ones() as usize >= enough {
            need.bad = bad;
        }
    }
}

#[cfg(test)]
mod tests;
