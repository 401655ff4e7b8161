//! What units are to hold is read from the others, or computed, once for all members that are healed and want a stripe at about the
//! same time ([`super::together`]).

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use net_raid_proto::ids::{ObjectId, Slot};
use net_raid_proto::layout::Level;
use tokio::time::timeout;

use super::data::stored;
use super::healing::Healing;
use super::peer::Side;
use super::together::Claim;
use super::units::Behind;
use super::{Attempt, Result, lock};
use crate::layout::BLOCK;
use crate::volume::File;
use crate::volume::gather::{Gathered, Shortage, Units};
use crate::volume::plan::StripeNeed;

/// Files that are seen to at the same time, and as many again of those that users opened.
const FILES: usize = 8;
/// Before the first file a member waits for others for as long as it took to come here, but no longer than this.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What a unit is to hold.
pub(super) struct Left {
    /// Whole blocks.
    pub(super) bytes: Bytes,
    /// Those of them that nobody has: zeros stand for them.
    pub(super) lost: Vec<usize>,
}

/// A pass of a member over files, until it is dropped.
pub(super) struct Pass<'a> {
    healing: &'a Healing,
    slot: Slot,
}

impl Pass<'_> {
    /// The file to see to next, while so many are under way. What users opened waits for none of them.
    pub(super) fn next_file(&self, under_way: usize) -> Option<ObjectId> {
        let mut together = lock(&self.healing.together);
        let first = if under_way < 2 * FILES { together.first_file(self.slot) } else { None };
        first.or_else(|| if under_way < FILES { together.next_file(self.slot) } else { None })
    }

    pub(super) fn end_file(&self, id: ObjectId) {
        lock(&self.healing.together).end_file(self.slot, id);
        self.healing.handed_over.note();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        lock(&self.healing.together).leave(self.slot);
    }
}

/// A unit that is to be read.
struct Wanted {
    /// Which of the run.
    at: usize,
    unit: u64,
    /// Members that want theirs of the same stripe.
    others: Vec<Slot>,
}

/// Units that are being read. Others do not wait for them any more when this is dropped.
struct Reading<'a> {
    healing: &'a Healing,
    id: ObjectId,
    number: u64,
    wanted: Vec<Wanted>,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.wanted.iter().all(|wanted| wanted.others.is_empty()) {
            return;
        }
        let stripes = self.wanted.iter().map(|wanted| (self.id, wanted.unit));
        lock(&self.healing.together).give_up(self.number, stripes);
        self.healing.handed_over.note();
    }
}

impl Healing {
    /// Waits until all who are healed have come to their files.
    async fn all_arrived(&self) {
        let mut seen = self.handed_over.watch();
        while lock(&self.together).others_arrive() {
            seen.changed().await;
        }
    }
}

impl Attempt<'_> {
    /// Has come to files, and waits a little, the first time, for who comes soon.
    pub(super) async fn arrive(&self) {
        let healing = &self.core.healing;
        lock(&healing.together).arrive(self.slot);
        healing.handed_over.note();
        if !self.arrived.swap(true, Ordering::Relaxed) {
            let _ = timeout(self.begun.elapsed().min(WAIT_MAX), healing.all_arrived()).await;
        }
    }

    /// Begins to go through files. What is behind was taken before.
    pub(super) fn pass(&self, files: impl Iterator<Item = ObjectId>) -> Pass<'_> {
        lock(&self.core.healing.together).enter(self.slot, files);
        Pass { healing: &self.core.healing, slot: self.slot }
    }

    /// Waits until files that users opened were seen to, if this is none of them.
    pub(super) async fn after_wanted(&self, id: ObjectId) {
        let mut seen = self.core.healing.handed_over.watch();
        while lock(&self.core.healing.together).is_later(self.slot, id) {
            seen.changed().await;
        }
    }

    /// The same as [`Attempt::read`], but for blocks that nobody has any more: the rest of the volume is not to wait for these for ever.
    pub(super) async fn read_what_is_left(&self, file: &File, run: &[Behind]) -> Result<Vec<Left>> {
        if let Some(units) = self.read(file, run).await? {
            return Ok(units.into_iter().map(|bytes| Left { bytes, lost: Vec::new() }).collect());
        }
        let mut all = Vec::new();
        for behind in run {
            let range = range_of(file, self.slot, behind.unit);
            let mut left = Left { bytes: Bytes::new(), lost: Vec::new() };
            let mut bytes = BytesMut::with_capacity(range.len());
            for (block, start) in range.step_by(BLOCK as usize).enumerate() {
                match self.read_block(file, behind.unit, start).await? {
                    Some(read) => bytes.extend_from_slice(&read),
                    None => {
                        left.lost.push(block);
                        bytes.resize(bytes.len() + BLOCK as usize, 0);
                    }
                }
            }
            left.bytes = bytes.freeze();
            all.push(left);
        }
        Ok(all)
    }

    /// One block of the member's unit; `None` when too few of the others have theirs.
    async fn read_block(&self, file: &File, unit: u64, start: usize) -> Result<Option<Bytes>> {
        let Some(index) = index_of(file, self.slot, unit) else { return Ok(None) };
        let mut need = self.core.need(file, unit);
        need.want(index, start..start + BLOCK as usize);
        let stripes = self.gather(file, vec![need]).await?;
        let of = |(range, bytes): &(Range<usize>, Bytes)| {
            bytes.slice(start - range.start..start - range.start + BLOCK as usize)
        };
        Ok(stripes.and_then(|stripes| stripes[0][index].as_ref().map(of)))
    }

    /// Units from the others; `None` when too many of theirs are bad.
    async fn gather(&self, file: &File, needs: Vec<StripeNeed>) -> Result<Option<Vec<Units>>> {
        let mut are_shown = false;
        loop {
            match self.core.gather_unlocked(file, needs.clone()).await {
                Ok(Gathered { stripes, damage }) => {
                    self.core.repair_later(file, damage);
                    return Ok(Some(stripes));
                }
                Err(Shortage::Damaged) => return Ok(None),
                Err(Shortage::Failed(error)) if are_shown => return Err(self.halt(Side::Target, &error.to_string())),
                Err(Shortage::Failed(_)) => {}
            }
            // Who was restarted has forgotten where the file is; no program needs to have it open.
            for slot in self.sources()? {
                self.find_object(Side::Source(slot), file.id).await?;
            }
            are_shown = true;
        }
    }

    /// What the member's units of a run are to hold, whole blocks; nothing where its file ends before. `None` when some of it is lost.
    async fn read(&self, file: &File, run: &[Behind]) -> Result<Option<Vec<Bytes>>> {
        let mut units: Vec<Option<Bytes>> = vec![None; run.len()];
        let mut seen = self.core.healing.handed_over.watch();
        loop {
            let reading = self.claim(file, run, &mut units);
            if !reading.wanted.is_empty() {
                if !self.read_for_all(file, &reading, &mut units).await? {
                    return Ok(None);
                }
            } else if units.iter().all(Option::is_some) {
                return Ok(Some(units.into_iter().flatten().collect()));
            } else {
                // Whoever reads it ends, or is ended, within `timeout`.
                seen.changed().await;
            }
        }
    }

    /// Takes what is there of a run, and returns what nobody else reads.
    fn claim(&self, file: &File, run: &[Behind], units: &mut [Option<Bytes>]) -> Reading<'_> {
        let healing = &*self.core.healing;
        let mut together = lock(&healing.together);
        let mut reading = Reading { healing, id: file.id, number: together.number(), wanted: Vec::new() };
        for (at, behind) in run.iter().enumerate().filter(|(at, _)| units[*at].is_none()).collect::<Vec<_>>() {
            let range = range_of(file, self.slot, behind.unit);
            if range.is_empty() {
                units[at] = Some(Bytes::new());
                continue;
            }
            match together.claim(self.slot, (file.id, behind.unit), range.len(), reading.number) {
                Claim::Read(bytes) => units[at] = Some(bytes.slice(range)),
                Claim::Reading => {}
                Claim::Yours(others) => reading.wanted.push(Wanted { at, unit: behind.unit, others }),
            }
        }
        reading
    }

    /// `false` when some of it is lost.
    async fn read_for_all(&self, file: &File, reading: &Reading<'_>, units: &mut [Option<Bytes>]) -> Result<bool> {
        let need = |wanted: &Wanted| {
            let mut need = self.core.need(file, wanted.unit);
            want(file, &mut need, self.slot);
            wanted.others.iter().for_each(|slot| want(file, &mut need, *slot));
            need
        };
        let needs = reading.wanted.iter().map(need).collect();
        let Some(stripes) = self.gather(file, needs).await? else { return Ok(false) };
        let mut together = lock(&self.core.healing.together);
        for (wanted, stripe) in reading.wanted.iter().zip(stripes) {
            let of = |slot| {
                let (_, bytes) = stripe[index_of(file, slot, wanted.unit)?].as_ref()?;
                let range = range_of(file, slot, wanted.unit);
                Some(bytes.slice(range.start..range.end.min(bytes.len())))
            };
            units[wanted.at] = Some(of(self.slot).unwrap_or_default());
            for slot in &wanted.others {
                if let Some(bytes) = of(*slot) {
                    together.hand_over(*slot, (file.id, wanted.unit), reading.number, bytes);
                }
            }
        }
        Ok(true)
    }
}

/// Whole blocks of a unit that a member's file has.
fn range_of(file: &File, slot: Slot, unit: u64) -> Range<usize> {
    0..stored(file, slot, unit).next_multiple_of(BLOCK) as usize
}

/// What is read for a member's unit: of level 1 every copy is the data unit. `None` where it has none of the file.
fn index_of(file: &File, slot: Slot, unit: u64) -> Option<usize> {
    let index = file.geometry.index_at(unit, slot)?;
    Some(if file.geometry.level() == Level::Raid1 { 0 } else { index })
}

fn want(file: &File, need: &mut StripeNeed, slot: Slot) {
    if let Some(index) = index_of(file, slot, need.stripe) {
        need.want(index, range_of(file, slot, need.stripe));
    }
}
