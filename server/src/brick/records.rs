//! Reading and writing the records of a file's units, wherever they are.

use std::sync::Arc;

use net_raid_proto::ids::{Digest, Generation};
use net_raid_proto::limits::{BLOCK_SIZE, UNIT_SIZE};
use net_raid_proto::message::WritePart;

use super::Brick;
use super::error::{Result, errno};
use super::node::{Node, State};
use super::object::{Meta, Records};
use super::record::{RECORD_LEN, Record};
use crate::disk::Disk;

/// Records that are read from a side file at once when all of them are wanted.
pub(super) const RECORDS_PER_READ: u64 = 1024;
/// Units of the longest file that a record file can describe.
const UNITS_MAX: u64 = i64::MAX as u64 / UNIT_SIZE as u64;

/// New records of consecutive units.
pub(super) struct RecordRun {
    pub(super) unit: u64,
    pub(super) records: Vec<Record>,
}

impl<D: Disk> Brick<D> {
    /// Records of `count` units from `unit` on.
    pub(super) fn load_records(&self, state: &State<D>, unit: u64, count: usize) -> Result<Vec<Record>> {
        let mut records = vec![Record::BLANK; count];
        match (&state.meta.records, &state.side) {
            (Records::Side, Some(side)) => {
                let have = state.side_units.saturating_sub(unit).min(count as u64) as usize;
                let mut bytes = Vec::new();
                self.disk.read_at(side, &mut bytes, have * RECORD_LEN, unit * RECORD_LEN as u64)?;
                for (record, bytes) in records.iter_mut().zip(bytes.as_chunks::<RECORD_LEN>().0) {
                    *record = Record::decode(bytes);
                }
            }
            _ if unit == 0 && count > 0 => records[0] = state.meta.inline(),
            _ => {}
        }
        Ok(records)
    }

    /// The record of one unit; the one written last is at hand.
    pub(super) fn load_record(&self, state: &State<D>, unit: u64) -> Result<Record> {
        if let Some((_, record)) = state.recent.as_ref().filter(|(recent, _)| *recent == unit) {
            return Ok(record.clone());
        }
        Ok(self.load_records(state, unit, 1)?.remove(0))
    }

    /// Takes the space that the records of `parts` need in a record file, where it may be lacking: bytes whose record
    /// found no room afterwards would match no digest.
    pub(super) fn reserve_records(&self, node: &Node<D>, state: &mut State<D>, parts: &[WritePart]) -> Result<()> {
        if state.meta.records != Records::Side {
            if parts.iter().all(|part| part.part.unit == 0) {
                return self.reserve_inline(node, state, parts);
            }
            self.move_aside(node, state)?;
        }
        let Some(side) = state.side.clone() else { return Err(errno(libc::EIO)) };
        for run in parts.chunk_by(|a, b| b.part.unit.wrapping_sub(a.part.unit) <= 1) {
            let units = run[0].part.unit..run[run.len() - 1].part.unit + 1;
            if state.reserved.start <= units.start && units.end <= state.reserved.end {
                continue;
            }
            let records = self.load_records(state, units.start, (units.end - units.start) as usize)?;
            if records.contains(&Record::BLANK) {
                // Up to the end of a page, which the local file system hands out whole.
                let end = units.end.saturating_mul(RECORD_LEN as u64).next_multiple_of(4096);
                let start = units.start * RECORD_LEN as u64;
                self.disk.allocate(&side, start, end - start, true)?;
                state.reserved = units.start..end / RECORD_LEN as u64;
            }
        }
        Ok(())
    }

    /// The same in the attribute: holes take as much space there as digests.
    fn reserve_inline(&self, node: &Node<D>, state: &mut State<D>, parts: &[WritePart]) -> Result<()> {
        let ends = parts.iter().map(|part| (part.part.offset + part.part.len) as usize / BLOCK_SIZE);
        let (generation, mut digests) = match &state.meta.records {
            Records::Inline { generation, digests } => (*generation, digests.clone()),
            _ => (Generation(0), Vec::new()),
        };
        let needed = ends.max().unwrap_or(0);
        if digests.len() >= needed {
            return Ok(());
        }
        digests.resize(needed, Digest::HOLE);
        let meta = Meta { records: Records::Inline { generation, digests }, ..state.meta.clone() };
        self.put_meta(node, state, meta)
    }

    /// Writes records. Inline ones go into `meta`, which the caller writes.
    pub(super) fn store_records(
        &self,
        node: &Node<D>,
        state: &mut State<D>,
        meta: &mut Meta,
        runs: &[RecordRun],
    ) -> Result<()> {
        let inline_fits = |run: &RecordRun| run.unit == 0 && run.records.len() == 1;
        if state.meta.records != Records::Side && runs.iter().all(inline_fits) {
            runs.iter().for_each(|run| meta.set_inline(&run.records[0]));
            return Ok(());
        }
        if state.meta.records != Records::Side {
            self.move_aside(node, state)?;
            meta.records = Records::Side;
        }
        runs.iter().try_for_each(|run| self.store_side(state, run))
    }

    fn store_side(&self, state: &mut State<D>, run: &RecordRun) -> Result<()> {
        let end = run.unit + run.records.len() as u64;
        if end > UNITS_MAX {
            return Err(errno(libc::EFBIG));
        }
        let side = state.side.clone().ok_or_else(|| errno(libc::EIO))?;
        let bytes: Vec<u8> = run.records.iter().flat_map(Record::encode).collect();
        self.disk.write_at(&side, &bytes, run.unit * RECORD_LEN as u64).map_err(|short| short.source)?;
        state.side_units = state.side_units.max(end);
        state.recent = run.records.last().map(|record| (end - 1, record.clone()));
        Ok(())
    }

    /// Makes a record whole that a crash tore while a change of `generation` was made in place, one that waits in the log. What
    /// that change leaves alone is the same in all parts of the record, and the rest follows from the log.
    pub(super) fn mend_record(&self, state: &mut State<D>, unit: u64, generation: Generation) -> Result<()> {
        let Some(side) = state.side.clone().filter(|_| unit < state.side_units) else { return Ok(()) };
        let mut bytes = Vec::new();
        self.disk.read_at(&side, &mut bytes, RECORD_LEN, unit * RECORD_LEN as u64)?;
        let torn = bytes.first_chunk().and_then(Record::decode_torn);
        let Some(mut record) = torn else { return Ok(()) };
        tracing::warn!(unit, "a record was torn by a crash");
        record.generation = record.generation.max(generation);
        self.store_side(state, &RecordRun { unit, records: vec![record] })
    }

    /// Moves inline records to a new record file: first the file, then the attribute that says so. The journal of the local
    /// file system may make the attribute durable long before the bytes, so what was durable inline is made durable there.
    fn move_aside(&self, node: &Node<D>, state: &mut State<D>) -> Result<()> {
        let inline = state.meta.inline();
        let side = self.make_side(node.id)?;
        if inline != Record::BLANK {
            self.disk.write_at(&side, &inline.encode(), 0).map_err(|short| short.source)?;
            self.disk.sync_all(&side).map_err(|error| self.sync_failed(error.into()))?;
        }
        let meta = Meta { records: Records::Side, ..state.meta.clone() };
        self.put_meta(node, state, meta)?;
        state.side = Some(Arc::new(side));
        state.side_units = u64::from(inline != Record::BLANK);
        state.reserved = 0..0;
        state.recent = None;
        state.side_new = true;
        Ok(())
    }

    /// Makes the units in `range` holes, of those that were ever written. Their records stay, with the
    /// generation: that a unit became a hole is a change too.
    pub(super) fn blank_units(
        &self,
        state: &mut State<D>,
        meta: &mut Meta,
        range: std::ops::Range<u64>,
        generation: Generation,
    ) -> Result<()> {
        if state.meta.records != Records::Side {
            if range.contains(&0) && meta.inline() != Record::BLANK {
                meta.set_inline(&Record::hole(generation));
            }
            return Ok(());
        }
        self.each_run(state, range, |brick, state, mut run| {
            let written = run.records.iter_mut().filter(|record| **record != Record::BLANK);
            written.for_each(|record| *record = Record::hole(generation));
            brick.store_side_sparse(state, run)
        })
    }

    /// Writes a run without its blank ends: a hole of the record file stays one.
    fn store_side_sparse(&self, state: &mut State<D>, mut run: RecordRun) -> Result<()> {
        let written = |record: &Record| *record != Record::BLANK;
        let Some(first) = run.records.iter().position(written) else { return Ok(()) };
        let last = run.records.iter().rposition(written).unwrap_or(first);
        run.records.truncate(last + 1);
        run.records.drain(..first);
        run.unit += first as u64;
        // Blank ones between stay blank: encoded they would claim to have been written.
        let blank = run.records.iter().any(|record| !written(record));
        if !blank {
            return self.store_side(state, &run);
        }
        for (index, record) in run.records.into_iter().enumerate().filter(|(_, record)| written(record)) {
            self.store_side(state, &RecordRun { unit: run.unit + index as u64, records: vec![record] })?;
        }
        Ok(())
    }

    /// Calls `visit` with all records in `range` that the record file holds, skipping its holes.
    pub(super) fn each_run<S: std::borrow::Borrow<State<D>>>(
        &self,
        mut state: S,
        range: std::ops::Range<u64>,
        mut visit: impl FnMut(&Self, &mut S, RecordRun) -> Result<()>,
    ) -> Result<()> {
        let Some(side) = state.borrow().side.clone() else { return Ok(()) };
        let end = range.end.min(state.borrow().side_units);
        let record_len = RECORD_LEN as u64;
        let mut next = range.start;
        while next < end {
            let Some((start, stop)) = self.disk.next_data(&side, next * record_len)? else { break };
            let stop = stop.div_ceil(record_len).min(end);
            next = next.max(start / record_len);
            while next < stop {
                let count = (stop - next).min(RECORDS_PER_READ);
                let records = self.load_records(state.borrow(), next, count as usize)?;
                visit(self, &mut state, RecordRun { unit: next, records })?;
                next += count;
            }
        }
        Ok(())
    }
}
