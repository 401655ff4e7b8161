//! Which units of a file were written, and when.

use std::collections::BTreeMap;

use net_raid_proto::ids::{Digest, Generation, ObjectId};
use net_raid_proto::message::{Reply, UnitRun};

use super::error::Result;
use super::node::State;
use super::object::Records;
use super::record::{RECORD_LEN, Record, UNKNOWN};
use super::sabotage::{Sabotage, is_chosen};
use super::{Brick, lock};
use crate::disk::Disk;

/// Units of one page at most, each in a run of its own at worst: 25 bytes, so that a body has room for all.
const PAGE_UNITS: u64 = 2048;

/// Runs of units, built up in ascending order.
#[derive(Default)]
struct Runs(Vec<UnitRun>);

impl Runs {
    fn push(&mut self, unit: u64, Told { generation, hole }: Told) {
        match self.0.last_mut() {
            Some(last) if last.unit + last.count == unit && (last.generation, last.hole) == (generation, hole) => {
                last.count += 1;
            }
            _ => self.0.push(UnitRun { unit, count: 1, generation, hole }),
        }
    }
}

/// What is told of a unit.
#[derive(Debug, Clone, Copy)]
struct Told {
    generation: Generation,
    hole: bool,
}

/// When a unit was written, as it is told; `None` when it never was.
fn told(record: &Record, since: Generation) -> Option<Told> {
    if *record == Record::BLANK {
        return None;
    }
    if record.digests.contains(&UNKNOWN) {
        return Some(Told { generation: Generation(u64::MAX), hole: false });
    }
    let written = if is_chosen(Sabotage::ForgetUnits) { since } else { record.generation };
    let hole = record.digests.iter().all(|digest| *digest == Digest::HOLE);
    Some(Told { generation: written.max(since), hole })
}

impl<D: Disk> Brick<D> {
    pub(super) fn read_units(&self, id: ObjectId, cursor: u64, since: Generation) -> Result<Reply> {
        let node = self.file(id)?;
        let state = node.state();
        self.check_side(&node, &state)?;
        let mut written = self.waiting_units(id, &state, cursor, since)?;
        let in_log = written.keys().next_back().copied();
        // What is a hole of the record file needs no page.
        let first_in_log = written.keys().next().copied();
        let first_in_place = self.first_record(&state, cursor)?;
        let first = [first_in_log, first_in_place].into_iter().flatten().min();
        let Some(first) = first else { return Ok(Reply::Units { runs: Vec::new(), next: None }) };
        let end = first.saturating_add(PAGE_UNITS);
        self.units_in_place(&state, first..end, since, &mut written)?;
        let mut runs = Runs::default();
        written
            .range(first..end)
            .filter_map(|(unit, of)| Some((*unit, (*of)?)))
            .for_each(|(unit, of)| runs.push(unit, of));
        let more = in_log.is_some_and(|last| last >= end) || self.first_record(&state, end)?.is_some();
        Ok(Reply::Units { runs: runs.0, next: more.then_some(end) })
    }

    /// Units from one on whose records wait in the log.
    fn waiting_units(
        &self,
        id: ObjectId,
        state: &State<D>,
        from: u64,
        since: Generation,
    ) -> Result<BTreeMap<u64, Option<Told>>> {
        let Some(waiting) = self.waiting(id) else { return Ok(BTreeMap::new()) };
        let mut waiting = lock(&waiting);
        let overlay = waiting.overlay(|unit| self.load_record(state, unit))?;
        Ok(overlay.records.range(from..).map(|(unit, record)| (*unit, told(record, since))).collect())
    }

    /// The first unit from one on that may have a record in place.
    fn first_record(&self, state: &State<D>, from: u64) -> Result<Option<u64>> {
        let Some(side) = &state.side else {
            return Ok((from == 0 && state.meta.inline() != Record::BLANK).then_some(0));
        };
        if from >= state.side_units {
            return Ok(None);
        }
        let len = RECORD_LEN as u64;
        let data = self.disk.next_data(side, from * len)?;
        Ok(data.map(|(start, _)| from.max(start / len)).filter(|first| *first < state.side_units))
    }

    /// Adds the units of a range that have a record in place, and none that is newer.
    fn units_in_place(
        &self,
        state: &State<D>,
        range: std::ops::Range<u64>,
        since: Generation,
        written: &mut BTreeMap<u64, Option<Told>>,
    ) -> Result<()> {
        if state.meta.records != Records::Side {
            if range.contains(&0) {
                written.entry(0).or_insert_with(|| told(&state.meta.inline(), since));
            }
            return Ok(());
        }
        self.each_run(state, range, |_, _, run| {
            for (unit, record) in (run.unit..).zip(&run.records) {
                written.entry(unit).or_insert_with(|| told(record, since));
            }
            Ok(())
        })
    }
}
