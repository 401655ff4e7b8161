//! Plans, as pure functions: what to read, what to compute, what is lost.

use std::ops::Range;

use net_raid_proto::layout::Level;

/// What is wanted of, known about and read of one stripe.
///
/// Ranges are bytes within a unit, blocks whole. Indices are data units, then parity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripeNeed {
    /// The stripe.
    pub stripe: u64,
    /// Wanted range of each index; empty where nothing is wanted.
    pub wanted: Vec<Range<usize>>,
    /// Indices that cannot be read: their member is gone, or their bytes are wrong.
    pub bad: u32,
    /// What was read: range of each index, empty where nothing was.
    pub have: Vec<Range<usize>>,
    /// Level 1: the copy to begin with.
    pub prefer: usize,
}

/// What to do next for a stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read these ranges.
    Fetch(Vec<(usize, Range<usize>)>),
    /// Everything wanted was read.
    Whole,
    /// Compute the bad indices from these, over this range.
    Recover {
        /// As many good indices as there are data units.
        from: Vec<usize>,
        /// The range.
        over: Range<usize>,
    },
    /// More is bad than the redundancy covers.
    Lost,
}

/// The smallest range that covers both.
pub fn hull(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    if a.is_empty() {
        b.clone()
    } else if b.is_empty() {
        a.clone()
    } else {
        a.start.min(b.start)..a.end.max(b.end)
    }
}

fn covers(have: &Range<usize>, wanted: &Range<usize>) -> bool {
    wanted.is_empty() || (have.start <= wanted.start && wanted.end <= have.end)
}

impl StripeNeed {
    /// Nothing wanted yet of a stripe of `width` units.
    pub fn new(stripe: u64, width: usize, bad: u32, prefer: usize) -> StripeNeed {
        StripeNeed { stripe, wanted: vec![0..0; width], bad, have: vec![0..0; width], prefer }
    }

    /// Wants a range of an index, together with what was wanted of it before.
    pub fn want(&mut self, index: usize, range: Range<usize>) {
        self.wanted[index] = hull(&self.wanted[index], &range);
    }

    /// Whether an index cannot be read.
    pub fn is_bad(&self, index: usize) -> bool {
        self.bad >> index & 1 == 1
    }

    /// What to do next.
    pub fn step(&self, level: Level, data_units: usize) -> Step {
        if level == Level::Raid1 { self.step_copies() } else { self.step_parity(data_units) }
    }

    /// Level 1: any good copy will do.
    fn step_copies(&self) -> Step {
        let wanted = self.wanted.iter().fold(0..0, |all, range| hull(&all, range));
        let width = self.wanted.len();
        let good = (0..width).map(|i| (i + self.prefer) % width).find(|&index| !self.is_bad(index));
        match good {
            None => Step::Lost,
            Some(index) if covers(&self.have[index], &wanted) => Step::Recover { from: vec![index], over: wanted },
            Some(index) => Step::Fetch(vec![(index, wanted)]),
        }
    }

    fn step_parity(&self, data_units: usize) -> Step {
        let missing = |index: &usize| self.is_bad(*index) && !self.wanted[*index].is_empty();
        let over = (0..self.wanted.len()).filter(missing).fold(0..0, |all, index| hull(&all, &self.wanted[index]));
        let mut needed = self.wanted.clone();
        let mut from = Vec::new();
        if !over.is_empty() {
            let good = (0..self.wanted.len()).filter(|&index| !self.is_bad(index));
            from.extend(good.take(data_units));
            if from.len() < data_units {
                return Step::Lost;
            }
            from.iter().for_each(|&index| needed[index] = hull(&needed[index], &over));
        }
        let fetch: Vec<(usize, Range<usize>)> = needed
            .into_iter()
            .enumerate()
            .filter(|(index, range)| !self.is_bad(*index) && !covers(&self.have[*index], range))
            .collect();
        match (fetch.is_empty(), over.is_empty()) {
            (false, _) => Step::Fetch(fetch),
            (true, true) => Step::Whole,
            (true, false) => Step::Recover { from, over },
        }
    }
}

/// How the parity of a partly written stripe is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParityPlan {
    /// From old data and old parity (else from all data).
    pub delta: bool,
    /// Old bytes to read: range of each index, empty where none.
    pub read: Vec<Range<usize>>,
}

/// What the planner of a write knows of a stripe.
#[derive(Debug, Clone)]
pub struct StripeWrite {
    /// New bytes of each data index; empty where none.
    pub new: Vec<Range<usize>>,
    /// Bytes of each data index that may be other than zero before the write: `0..end`.
    pub old_end: Vec<usize>,
    /// Parity units.
    pub parity: usize,
    /// Indices (data, then parity) whose members are gone.
    pub gone: u32,
    /// Indices of which everything that could be wanted is cached.
    pub cached: u32,
}

impl StripeWrite {
    /// The rows of the parity units that change.
    pub fn rows(&self) -> Range<usize> {
        self.new.iter().fold(0..0, |all, range| hull(&all, range))
    }

    /// The cheaper way to new parity.
    pub fn plan(&self) -> ParityPlan {
        let whole = self.reads_for_whole();
        let whole_cost = self.cost(&whole);
        if whole_cost == 0 || self.touches_gone() {
            return ParityPlan { delta: false, read: whole };
        }
        let delta = self.reads_for_delta();
        if self.cost(&delta) < whole_cost {
            ParityPlan { delta: true, read: delta }
        } else {
            ParityPlan { delta: false, read: whole }
        }
    }

    fn touches_gone(&self) -> bool {
        (0..self.new.len()).any(|index| self.gone >> index & 1 == 1 && !self.new[index].is_empty())
    }

    fn cost(&self, read: &[Range<usize>]) -> usize {
        read.iter().enumerate().filter(|(index, range)| !range.is_empty() && self.cached >> index & 1 == 0).count()
    }

    /// Old bytes of all data units in the rows, where they are not overwritten.
    fn reads_for_whole(&self) -> Vec<Range<usize>> {
        let rows = self.rows();
        let mut read: Vec<Range<usize>> = Vec::with_capacity(self.new.len() + self.parity);
        for (new, &old_end) in self.new.iter().zip(&self.old_end) {
            let old = rows.start..rows.end.min(old_end.max(rows.start));
            read.push(uncovered(&old, new));
        }
        read.resize(self.new.len() + self.parity, 0..0);
        read
    }

    /// Old bytes of what is overwritten, and old parity of the rows.
    fn reads_for_delta(&self) -> Vec<Range<usize>> {
        let rows = self.rows();
        let mut read: Vec<Range<usize>> = Vec::with_capacity(self.new.len() + self.parity);
        for (new, &old_end) in self.new.iter().zip(&self.old_end) {
            read.push(new.start..new.end.min(old_end.max(new.start)));
        }
        let parity_end = rows.end.min(self.old_end.iter().copied().max().unwrap_or(0).max(rows.start));
        for parity in 0..self.parity {
            let gone = self.gone >> (self.new.len() + parity) & 1 == 1;
            read.push(if gone { 0..0 } else { rows.start..parity_end });
        }
        read
    }
}

/// The smallest range that holds what of `old` is not in `new`.
fn uncovered(old: &Range<usize>, new: &Range<usize>) -> Range<usize> {
    if new.is_empty() || new.end <= old.start || old.end <= new.start {
        return old.clone();
    }
    match (old.start < new.start, new.end < old.end) {
        (false, false) => 0..0,
        (true, false) => old.start..new.start,
        (false, true) => new.end..old.end,
        (true, true) => old.clone(),
    }
}

#[cfg(test)]
mod tests;
