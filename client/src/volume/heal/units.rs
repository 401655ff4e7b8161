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

impl Behind {
    /// A unit of which the records are not asked.
    pub(super) fn any(unit: u64) -> Behind {
        Behind { unit, source: Generation(u64::MAX), blank: false }
    }
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

/// A unit of which nothing can be said.
const UNKNOWN: u64 = u64::MAX;

/// The units below `end` that must be written anew on a member that has everything up to `since`. Runs tell of what was written up to
/// then as written in `since`.
///
/// What the member alone has in a later generation than all others an earlier attempt has copied, and nobody wrote to it since: the
/// copy was read when no change of an earlier generation was under way there. Nothing else leaves such a generation: writes that were
/// not decided are taken back before, and units in which a cut was made are made holes, of which the generation says nothing
/// ([`super::Attempt::settle_log`]).
pub(super) fn behind(since: Generation, sources: &[Vec<UnitRun>], target: &[UnitRun], end: u64) -> Vec<Behind> {
    // A hole of before is like the others' of before.
    let says = |run: &&UnitRun| !run.hole || run.generation <= since;
    let target: Vec<UnitRun> = target.iter().filter(says).copied().collect();
    differing(sources, &target, end, |source, own| match (source, own) {
        (0, _) | (_, 0 | UNKNOWN) => true,
        _ => source.max(own) > since.0 && source >= own,
    })
}

/// The units below `end` that were ever written on any side.
pub(super) fn written(sources: &[Vec<UnitRun>], target: &[UnitRun], end: u64) -> Vec<Behind> {
    differing(sources, target, end, |_, _| true)
}

/// The units of which `differs` says so, given what the others and the member say where not both say nothing.
fn differing(
    sources: &[Vec<UnitRun>],
    target: &[UnitRun],
    end: u64,
    differs: impl Fn(u64, u64) -> bool,
) -> Vec<Behind> {
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
        if (source, own) != (0, 0) && differs(source, own) {
            let unit = |unit| Behind { unit, source: Generation(source), blank: own == 0 };
            all.extend((*first..until).map(unit));
        }
    }
    all
}

#[cfg(test)]
mod tests;
