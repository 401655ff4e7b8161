//! Pure: which units of the member's file may not be as they should, from what the records say on all sides.

use std::collections::BTreeMap;

use net_raid_proto::ids::Generation;
use net_raid_proto::message::UnitRun;

/// A unit to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Behind {
    pub(super) unit: u64,
    /// The newest generation in which another member wrote to the stripe; 0 if none did.
    pub(super) source: Generation,
    /// The member has nothing there.
    pub(super) blank: bool,
}

/// Boundaries of runs: from a unit on, the generation; 0 where nothing was written.
fn steps(runs: &[UnitRun]) -> BTreeMap<u64, u64> {
    let mut steps = BTreeMap::from([(0, 0)]);
    for run in runs {
        steps.insert(run.unit, run.generation.0);
        steps.entry(run.unit.saturating_add(run.count)).or_insert(0);
    }
    steps
}

fn at(steps: &BTreeMap<u64, u64>, unit: u64) -> u64 {
    steps.range(..=unit).next_back().map_or(0, |(_, generation)| *generation)
}

/// The units below `end` that must be written anew on a member that has everything up to `since`. Runs tell of what was written up to
/// then as written in `since`.
///
/// What an earlier attempt has written is written again: a later generation on the member alone may be that of a cut, which says
/// nothing of the bytes that it left.
pub(super) fn behind(since: Generation, sources: &[Vec<UnitRun>], target: &[UnitRun], end: u64) -> Vec<Behind> {
    let sources: Vec<BTreeMap<u64, u64>> = sources.iter().map(|runs| steps(runs)).collect();
    let target = steps(target);
    let mut bounds: Vec<u64> = sources.iter().chain([&target]).flat_map(|steps| steps.keys().copied()).collect();
    bounds.retain(|bound| *bound < end);
    bounds.sort_unstable();
    bounds.dedup();
    let mut all = Vec::new();
    for (index, first) in bounds.iter().enumerate() {
        let until = bounds.get(index + 1).copied().unwrap_or(end);
        let source = sources.iter().map(|steps| at(steps, *first)).max().unwrap_or(0);
        let own = at(&target, *first);
        let changed = source.max(own) > since.0;
        if changed || (source == 0) != (own == 0) {
            let unit = |unit| Behind { unit, source: Generation(source), blank: own == 0 };
            all.extend((*first..until).map(unit));
        }
    }
    all
}

#[cfg(test)]
mod tests;
