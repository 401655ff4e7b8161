//! Bytes: units that may be behind are read from the others, or computed, and written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use net_raid_proto::ids::{Digest, ObjectId, Slot};
use net_raid_proto::message::{Change, Entry, Kind, Part, Reply, Request, WritePart};
use tokio::time::{Instant, sleep};

use super::behind::{Stripes, Touched};
use super::peer::{Found, Side, is_gone};
use super::read::Left;
use super::read::Pass;
use super::together::Run;
use super::units::{self, Behind};
use super::{Attempt, Halt, Result, lock};
use crate::layout::UNIT;
use crate::volume::File;
use crate::volume::read::digests_of;

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
        let mut opened = self.core.healing.opened.watch();
        let pass = self.pass(files.keys().copied());
        let mut under_way = FuturesUnordered::new();
        loop {
            while let Some(id) = pass.next_file(under_way.len()) {
                under_way.push(self.equal_in_pass(&pass, id, &files[&id], until));
            }
            tokio::select! {
                biased;
                left = under_way.next() => match left {
                    Some(left) => again.add(left?),
                    None => return Ok(again),
                },
                () = opened.changed() => {}
            }
        }
    }

    async fn equal_in_pass(
        &self,
        pass: &Pass<'_>,
        id: ObjectId,
        stripes: &Stripes,
        until: Option<Instant>,
    ) -> Result<Touched> {
        let mut left = Touched::default();
        if until.is_some_and(|until| Instant::now() > until) {
            left.add_data(id, stripes.clone());
        } else {
            self.check_open()?;
            left = self.equal_file(id, stripes).await?;
            if !matches!(stripes, Stripes::Some(_)) && left.is_empty() {
                self.note_equal(id, |equal| equal.data = true);
            }
        }
        pass.end_file(id);
        Ok(left)
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
        let runs: Vec<Run> = consecutive.flat_map(|run| run.chunks(RUN)).map(<[Behind]>::to_vec).collect();
        lock(&self.core.healing.together).set_runs(self.slot, id, runs);
        let to_copy: u64 = units.iter().map(|behind| self.stored(&file, behind.unit)).sum();
        self.progress.passed(len.saturating_sub(to_copy));
        let next_run = || lock(&self.core.healing.together).next_run(self.slot, id);
        let mut copies = stream::iter(std::iter::from_fn(next_run))
            .map(async |run| Ok::<_, Halt>((self.copy(&file, &run).await?, run)))
            .buffer_unordered(RUNS);
        let mut left = BTreeSet::new();
        while let Some((copied, run)) = copies.try_next().await? {
            self.progress.passed(run.iter().map(|behind| self.stored(&file, behind.unit)).sum());
            lock(&self.core.healing.together).end_run(self.slot, id, run[0].unit);
            if !copied {
                left.extend(run.iter().map(|behind| behind.unit));
            }
        }
        if !left.is_empty() {
            again.add_data(id, Stripes::Some(left));
        }
        if !units.is_empty() || !matches!(stripes, Stripes::Some(_)) {
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
            return Ok(Some(units.range(..end).map(|unit| Behind::any(*unit)).collect()));
        }
        let Some(target) = self.units_of(Side::Target, entry.id).await? else { return Ok(None) };
        let mut sources = Vec::new();
        for slot in self.sources()? {
            // It was there a moment ago.
            let Some(runs) = self.units_of(Side::Source(slot), entry.id).await? else { return Ok(None) };
            sources.push(runs);
        }
        let behind = match stripes {
            Stripes::All => units::written(&sources, &target, end),
            Stripes::Any(more) | Stripes::Some(more) => {
                let told = units::behind(self.since, &sources, &target, end);
                let mut all: BTreeMap<u64, Behind> =
                    more.range(..end).map(|unit| (*unit, Behind::any(*unit))).collect();
                all.extend(told.into_iter().map(|behind| (behind.unit, behind)));
                all.into_values().collect()
            }
        };
        tracing::debug!(slot = %self.slot, id = %entry.id, ?target, ?sources, end, ?behind, "units");
        Ok(Some(behind))
    }

    /// Copies consecutive units. `false` when they are being changed just now.
    async fn copy(&self, file: &File, run: &[Behind]) -> Result<bool> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(true) };
        self.after_wanted(file.id).await;
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
        let units = tokio::select! {
            biased;
            () = self.is_touched(file.id, stripes) => return Ok(false),
            units = self.read_what_is_left(file, run) => units?,
        };
        // A write that came by may have been read in part.
        if self.has_data(file.id, stripes) {
            return Ok(false);
        }
        let mut parts = Vec::new();
        let mut payload = Vec::new();
        let mut holes = Vec::new();
        for (behind, Left { bytes, lost }) in run.iter().zip(units) {
            let len = self.stored(file, behind.unit);
            if bytes.is_empty() {
                continue;
            }
            if !lost.is_empty() {
                self.core.note_unreadable(file, behind.unit);
            } else if bytes.iter().all(|byte| *byte == 0) {
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
            let mut digests = digests_of(&bytes);
            lost.iter().for_each(|block| digests.0[*block] = Digest::UNKNOWN);
            parts.push(WritePart { part, stored: len as u32, digests });
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
        stored(file, self.slot, unit)
    }
}

/// Bytes of a unit that a member's file has.
pub(super) fn stored(file: &File, slot: Slot, unit: u64) -> u64 {
    file.geometry.brick_len(file.size(), slot).saturating_sub(unit * UNIT).min(UNIT)
}
