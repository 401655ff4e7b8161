//! Bytes: units that may be behind are read from the others, or computed, and written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use net_raid_proto::ids::{Generation, ObjectId};
use net_raid_proto::layout::Level;
use net_raid_proto::message::{Change, Entry, Kind, Part, Reply, Request, WritePart};
use tokio::time::{Instant, sleep};

use super::behind::{Stripes, Touched};
use super::peer::{Found, Side, is_gone};
use super::units::{self, Behind};
use super::{Attempt, Halt, Result};
use crate::layout::{BLOCK, UNIT};
use crate::volume::File;
use crate::volume::gather::Gathered;
use crate::volume::plan::StripeNeed;
use crate::volume::read::digests_of;

/// Files that are seen to at the same time.
const FILES: usize = 8;
/// Units that are written with one request, few because what users ask for waits behind them, and requests of one file at the
/// same time.
const RUN: usize = 4;
const RUNS: usize = 16;
/// A log with more bytes than this is emptied before more is written.
const LOG_FULL: u64 = 128 << 20;
/// Between two looks whether what is read is still to be read.
const TOUCHED_AGAIN: Duration = Duration::from_millis(20);

impl Attempt<'_> {
    /// Makes the bytes of files equal. Returns what has to be seen to again.
    pub(super) async fn equal_data(
        &self,
        files: BTreeMap<ObjectId, Stripes>,
        until: Option<Instant>,
    ) -> Result<Touched> {
        let mut again = Touched::default();
        let mut done = stream::iter(files)
            .map(async |(id, stripes)| {
                if until.is_some_and(|until| Instant::now() > until) {
                    let mut again = Touched::default();
                    again.add_data(id, stripes);
                    return Ok(again);
                }
                self.check_open()?;
                let left = self.equal_file(id, &stripes).await?;
                if stripes == Stripes::Any && left.is_empty() {
                    self.note_equal(id, |equal| equal.data = true);
                }
                Ok(left)
            })
            .buffer_unordered(FILES);
        while let Some(left) = done.try_next().await? {
            again.add(left);
        }
        Ok(again)
    }

    async fn equal_file(&self, id: ObjectId, stripes: &Stripes) -> Result<Touched> {
        let mut again = Touched::default();
        let source = Side::Source(self.source()?);
        let entry = match self.find_object(source, id).await? {
            Found::There(entry) if entry.attr.kind == Kind::File => entry,
            Found::There(_) | Found::Gone => return Ok(again),
            Found::Unsure => {
                again.add_data(id, stripes.clone());
                return Ok(again);
            }
        };
        let file = File::new(id, entry.layout, entry.attr.size);
        if !file.geometry.slots().has(self.slot) {
            return Ok(again);
        }
        let len = file.geometry.brick_len(entry.attr.size, self.slot);
        let end = len.div_ceil(UNIT);
        self.progress.expect(id, len);
        self.progress.begin(id);
        let Some(units) = self.behind_in(&entry, stripes, end).await? else {
            again.add_data(id, stripes.clone());
            return Ok(again);
        };
        let consecutive = units.chunk_by(|one, next| one.unit + 1 == next.unit);
        let runs: Vec<Vec<Behind>> = consecutive.flat_map(|run| run.chunks(RUN)).map(<[Behind]>::to_vec).collect();
        let to_copy: u64 = units.iter().map(|behind| self.stored(&file, behind.unit)).sum();
        self.progress.passed(len.saturating_sub(to_copy));
        let mut copies = stream::iter(runs)
            .map(async |run| Ok::<_, Halt>((self.copy(&file, &run).await?, run)))
            .buffer_unordered(RUNS);
        let mut left = BTreeSet::new();
        while let Some((copied, run)) = copies.try_next().await? {
            self.progress.passed(run.iter().map(|behind| self.stored(&file, behind.unit)).sum());
            if !copied {
                left.extend(run.iter().map(|behind| behind.unit));
            }
        }
        if !left.is_empty() {
            again.add_data(id, Stripes::Some(left));
        }
        if !units.is_empty() || *stripes == Stripes::Any {
            // The brick brings the digest of the file up to date, also where an earlier attempt wrote it.
            self.ask(Side::Target, &Request::Release { id }, &[]).await?.ok();
        }
        if !units.is_empty() {
            self.progress.files_copied.fetch_add(1, Ordering::Relaxed);
        }
        self.progress.end();
        Ok(again)
    }

    /// `None` when the member does not have the file yet.
    async fn behind_in(&self, entry: &Entry, stripes: &Stripes, end: u64) -> Result<Option<Vec<Behind>>> {
        if let Stripes::Some(units) = stripes {
            let newest = Generation(u64::MAX);
            let behind = |unit: &u64| Behind { unit: *unit, source: newest, blank: false };
            return Ok(Some(units.range(..end).map(behind).collect()));
        }
        let Some(target) = self.units_of(Side::Target, entry.id).await? else { return Ok(None) };
        let mut sources = Vec::new();
        for slot in self.sources()? {
            // It was there a moment ago.
            let Some(runs) = self.units_of(Side::Source(slot), entry.id).await? else { return Ok(None) };
            sources.push(runs);
        }
        let behind = units::behind(self.since, &sources, &target, end);
        tracing::debug!(slot = %self.slot, id = %entry.id, ?target, ?sources, end, ?behind, "units");
        Ok(Some(behind))
    }

    /// Copies consecutive units. `false` when they are being changed just now.
    async fn copy(&self, file: &File, run: &[Behind]) -> Result<bool> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(true) };
        // Who waits for the end of it waits for nothing else.
        let in_haste = self.is_paused() || self.core.healing.holds_back() || self.core.config.fast;
        let _copying = match in_haste {
            true => self.core.users.admit_at_once(),
            false => self.core.users.admit(run.iter().map(|behind| self.stored(file, behind.unit)).sum()).await,
        };
        let stripes = (first.unit, last.unit);
        // What is written in a later generation than this counts as not copied.
        let ticket = self.ticket().await?;
        if self.has_data(file.id, stripes) {
            return Ok(false);
        }
        let needs: Vec<StripeNeed> = run.iter().map(|behind| self.need(file, behind.unit)).collect();
        let gathered = tokio::select! {
            biased;
            () = self.is_touched(file.id, stripes) => return Ok(false),
            gathered = self.core.gather_unlocked(file, needs) => gathered,
        };
        let Gathered { stripes: units, damage } =
            gathered.map_err(|error| self.halt(Side::Target, &error.to_string()))?;
        self.core.repair_later(file, damage);
        // A write that came by may have been read in part.
        if self.has_data(file.id, stripes) {
            return Ok(false);
        }
        let mut parts = Vec::new();
        let mut payload = Vec::new();
        let mut holes = Vec::new();
        for (behind, units) in run.iter().zip(units) {
            let len = self.stored(file, behind.unit);
            let Some((_, bytes)) = &units[self.wanted(file, behind.unit)] else { continue };
            let bytes = bytes.slice(..(len.next_multiple_of(BLOCK) as usize).min(bytes.len()));
            if bytes.iter().all(|byte| *byte == 0) {
                if behind.blank {
                    continue;
                }
                // Durable zeros only: a hole cannot be taken back.
                if behind.source <= self.core.checkpoints.completed() {
                    holes.push(behind.unit);
                    continue;
                }
            }
            let part = Part { unit: behind.unit, offset: 0, len: bytes.len() as u32 };
            parts.push(WritePart { part, stored: len as u32, digests: digests_of(&bytes) });
            payload.push(bytes);
        }
        for unit in holes {
            let change = Change::Punch { id: file.id, unit, count: 1, mtime: None };
            if !self.done(self.change_with(&ticket, change, Vec::new()).await?)? {
                return Ok(false);
            }
        }
        if parts.is_empty() {
            return Ok(true);
        }
        let copied: usize = payload.iter().map(Bytes::len).sum();
        let change = Change::Write { id: file.id, size: None, mtime: None, mode: None, parts };
        tracing::debug!(slot = %self.slot, id = %file.id, ?stripes, generation = %ticket.generation(), "copy");
        let answer = self.change_with(&ticket, change, payload).await?;
        drop(ticket);
        if let Ok(Reply::Written { logged }) = answer {
            self.core.checkpoints.note_logged(logged);
            self.progress.bytes_copied.fetch_add(copied as u64, Ordering::Relaxed);
            if logged > LOG_FULL {
                self.empty_log().await?;
            }
        }
        self.done(answer)
    }

    /// Waits until a file is being changed there, or its names are: if it is gone, who reads it waits for servers that have it.
    async fn is_touched(&self, id: ObjectId, stripes: (u64, u64)) {
        while !self.has_data(id, stripes) && !self.is_moving(id) {
            sleep(TOUCHED_AGAIN).await;
        }
    }

    /// Whether a change of a file was made; not if the file is not there yet.
    fn done(&self, answer: std::result::Result<Reply, i32>) -> Result<bool> {
        match answer {
            Ok(_) => Ok(true),
            Err(errno) if is_gone(errno) => Ok(false),
            Err(errno) => Err(self.refused(Side::Target, "writing", errno)),
        }
    }

    /// Bytes of a unit that the member's file has.
    fn stored(&self, file: &File, unit: u64) -> u64 {
        file.geometry.brick_len(file.size(), self.slot).saturating_sub(unit * UNIT).min(UNIT)
    }

    /// What is read for the member's unit: of level 1 every copy is the data unit.
    fn wanted(&self, file: &File, unit: u64) -> usize {
        match file.geometry.level() {
            Level::Raid1 => 0,
            _ => file.geometry.index_at(unit, self.slot).unwrap_or(0),
        }
    }

    fn need(&self, file: &File, unit: u64) -> StripeNeed {
        let mut need = self.core.need(file, unit);
        need.want(self.wanted(file, unit), 0..self.stored(file, unit).next_multiple_of(BLOCK) as usize);
        need
    }
}
