//! Bytes of files: all units of all stripes are read and compared, and what is wrong is written anew.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures_util::future::join_all;
use net_raid_proto::ids::{Digest, Slot, Timestamp};
use net_raid_proto::message::{Change, Entry, Part, Reply, Request, WritePart};

use super::note::Place;
use super::peer::{Answer, Spot, Trouble};
use super::stripe::{Beyond, Mend, Unit, Verdict, Why, judge};
use super::{Halt, Pass};
use crate::events::Event;
use crate::layout::{BLOCK, SlotSet, UNIT};
use crate::volume::File;
use crate::volume::damage::{self, Wrong};
use crate::volume::query::nonsense;
use crate::volume::read::digests_of;

/// Stripes that are looked at together.
const RUN: u64 = 8;
/// The same in the background.
const A_FEW: u64 = 2;

/// What was found in one file.
#[derive(Default)]
struct Findings {
    /// By member and reason: how many blocks were written, and the first stripe.
    mended: BTreeMap<(Slot, Why), (u64, u64)>,
    /// Why a member could not be written to.
    refused: BTreeMap<Slot, String>,
    /// By reason: how many stripes cannot be had whole, and the first.
    beyond: BTreeMap<Beyond, (u64, u64)>,
    /// The same, stripe by stripe, for the list of what is damaged.
    wrong: damage::Stripes,
    /// Stripes that were not judged.
    unknown: Vec<Range<u64>>,
}

/// How a look at a file ended.
#[derive(Default)]
pub(super) struct Looked {
    /// All that differed was looked at again, and put right where that can be.
    pub(super) is_done: bool,
    /// Members that something was written on.
    pub(super) mended: SlotSet,
}

/// A stripe as all members have it, by index.
type Units = Vec<Option<Unit>>;

/// Stripes that a file has.
fn stripes_of(file: &File) -> u64 {
    file.size().div_ceil(file.geometry.stripe_bytes())
}

/// Bytes of a unit that a member's file has, in whole blocks.
fn blocks_of(file: &File, stripe: u64, slot: Slot) -> usize {
    (stored_of(file, stripe, slot).next_multiple_of(BLOCK)) as usize
}

fn stored_of(file: &File, stripe: u64, slot: Slot) -> u64 {
    file.geometry.brick_len(file.size(), slot).saturating_sub(stripe * UNIT).min(UNIT)
}

fn judge_stripe(file: &File, stripe: u64, units: &Units, outdated: SlotSet) -> Verdict {
    let old = (0..units.len()).filter(|index| outdated.has(file.geometry.slot(stripe, *index)));
    let old = old.fold(0, |old, index| old | 1 << index);
    judge(file.geometry.level(), file.geometry.data_units(), units, old)
}

impl Pass<'_> {
    /// Looks at all stripes of a file. `outdated` are members that may have an older version of it.
    pub(super) async fn scrub_data(&self, spot: &Spot, entry: &Entry, outdated: SlotSet) -> Result<Looked, Halt> {
        let mut is_done = true;
        let file = File::new(entry.id, entry.layout, entry.attr.size);
        let end = stripes_of(&file);
        let mut findings = Findings::default();
        let first = self.first_of(spot.id);
        findings.unknown.extend(first.map(|first| 0..first));
        self.counts.files.fetch_add(u64::from(first.is_none()), Relaxed);
        let mut from = Some(first.unwrap_or_default());
        while let Some(first) = from.filter(|first| *first < end) {
            let (runs, next) = self.written(spot, first, end).await;
            for run in runs {
                self.step(|| Place { path: spot.path.clone(), id: spot.id.0, stripe: run.start }).await?;
                let found = self.look(spot, &file, run.clone()).await;
                let clean = |(stripe, units)| judge_stripe(&file, stripe, units, outdated).is_clean();
                if !run.clone().zip(&found).all(clean) {
                    let is_judged = self.mend_run(spot, run.clone(), outdated, &mut findings).await?;
                    findings.unknown.extend((!is_judged).then_some(run));
                    is_done &= is_judged;
                }
            }
            from = next;
        }
        self.report(spot, &findings);
        let mended = findings.mended.keys().map(|(slot, _)| *slot).collect();
        Ok(Looked { is_done: is_done && findings.refused.is_empty(), mended })
    }

    /// Stripes from one on that any member says were written, in pieces that are looked at together; and where to go on.
    async fn written(&self, spot: &Spot, first: u64, end: u64) -> (Vec<Range<u64>>, Option<u64>) {
        let asked = self.members();
        let pages = join_all(asked.iter().map(|slot| self.units(slot, spot, first))).await;
        let pages: Vec<_> = pages.into_iter().flatten().collect();
        let next = pages.iter().filter_map(|(_, next)| *next).min();
        let stop = next.unwrap_or(end).min(end);
        let of_page = pages.iter().flat_map(|(runs, _)| runs);
        let mut ranges: Vec<Range<u64>> = of_page
            .map(|run| run.unit.max(first)..run.unit.saturating_add(run.count).min(stop))
            .filter(|range| !range.is_empty())
            .collect();
        ranges.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        let together = if self.background.is_some() { A_FEW } else { RUN };
        let cut = |range: Range<u64>| {
            let end = range.end;
            range.step_by(together as usize).map(move |start| start..(start + together).min(end))
        };
        (merged.into_iter().flat_map(cut).collect(), next)
    }

    /// Reads all units of some stripes from all members that answer.
    async fn look(&self, spot: &Spot, file: &File, run: Range<u64>) -> Vec<Units> {
        let slots = self.members().and(file.geometry.slots());
        let reads = slots.iter().map(|slot| self.read_units(slot, spot, file, run.clone()));
        let mut found: Vec<Units> = run.clone().map(|_| vec![None; file.geometry.width()]).collect();
        for (slot, units) in slots.iter().zip(join_all(reads).await) {
            let Ok(units) = units.inspect_err(|why| tracing::debug!(%slot, %why, "scrub")) else { continue };
            for ((stripe, unit), found) in run.clone().zip(units).zip(&mut found) {
                if let Some(index) = file.geometry.index_at(stripe, slot) {
                    found[index] = Some(unit);
                }
            }
        }
        found
    }

    async fn read_units(&self, slot: Slot, spot: &Spot, file: &File, run: Range<u64>) -> Answer<Vec<Unit>> {
        let lens: Vec<usize> = run.clone().map(|stripe| blocks_of(file, stripe, slot)).collect();
        let part = |(unit, len): (u64, &usize)| Part { unit, offset: 0, len: *len as u32 };
        let parts: Vec<Part> = run.zip(&lens).map(part).filter(|part| part.len > 0).collect();
        let blank = || Unit { generation: Default::default(), bytes: Bytes::new(), bad: 0 };
        if parts.is_empty() {
            return Ok(lens.iter().map(|_| blank()).collect());
        }
        let wanted: Vec<usize> = lens.iter().copied().filter(|len| *len > 0).collect();
        let request = Request::Read { id: spot.id, parts };
        let response = self.ask(slot, spot, &request, &[], &wanted).await?;
        let nonsense = || Trouble::Lost(nonsense().to_string());
        let Reply::Read(records) = response.reply else { return Err(nonsense()) };
        if records.len() != wanted.len() || response.dest.len() != wanted.len() {
            return Err(nonsense());
        }
        let mut read = records.into_iter().zip(response.dest);
        let mut units = Vec::new();
        for len in lens {
            let Some((record, bytes)) = (if len == 0 { None } else { read.next() }) else {
                units.push(blank());
                continue;
            };
            if bytes.len() != len || record.digests.0.len() != len / BLOCK as usize {
                return Err(nonsense());
            }
            self.counts.bytes.fetch_add(len as u64, Relaxed);
            self.counts.work.fetch_add(len as u64, Relaxed);
            units.push(Unit {
                generation: record.generation,
                bad: bad_blocks(&bytes, &record.digests.0),
                bytes: bytes.freeze(),
            });
        }
        Ok(units)
    }

    /// Looks at stripes again while nothing changes, and writes what is wrong; `false` where that could not be.
    async fn mend_run(
        &self,
        spot: &Spot,
        run: Range<u64>,
        outdated: SlotSet,
        findings: &mut Findings,
    ) -> Result<bool, Halt> {
        let Some(_nothing_changes) = self.pause().await? else { return Ok(false) };
        // Its size may have changed since.
        let Some(entry) = self.present(spot, outdated).await else { return Ok(false) };
        let file = File::new(entry.id, entry.layout, entry.attr.size);
        let run = run.start..run.end.min(stripes_of(&file));
        let found = self.look(spot, &file, run.clone()).await;
        let mut is_stamped = false;
        for (stripe, units) in run.zip(&found) {
            let verdict = judge_stripe(&file, stripe, units, outdated);
            if let Some(beyond) = verdict.beyond {
                findings.beyond.entry(beyond).or_insert((0, stripe)).0 += 1;
                let wrong = match beyond {
                    Beyond::TooFew => Wrong::Unreadable,
                    Beyond::Undecided => Wrong::Contradictory,
                };
                findings.wrong.insert(stripe, wrong);
            }
            let mut by_index: BTreeMap<usize, Vec<Mend>> = BTreeMap::new();
            verdict.mends.into_iter().for_each(|mend| by_index.entry(mend.index).or_default().push(mend));
            for (index, mends) in by_index {
                let slot = file.geometry.slot(stripe, index);
                match self.write(spot, &file, (stripe, slot), &mends).await {
                    Ok(()) => mends.iter().for_each(|mend| {
                        findings.mended.entry((slot, mend.why)).or_insert((0, stripe)).0 += 1;
                    }),
                    Err(trouble) => drop(findings.refused.insert(slot, trouble.to_string())),
                }
                is_stamped = true;
            }
        }
        if is_stamped {
            // Who was mended looks newer else.
            self.stamp_all(spot, &entry).await;
        }
        Ok(true)
    }

    /// The attributes of an object on a member that is believed.
    async fn present(&self, spot: &Spot, outdated: SlotSet) -> Option<Entry> {
        for slot in self.members().iter().filter(|slot| !outdated.has(*slot)) {
            if let Ok(entry) = self.entry(slot, spot).await {
                return Some(entry);
            }
        }
        None
    }

    /// Writes blocks of one unit.
    async fn write(&self, spot: &Spot, file: &File, (stripe, slot): (u64, Slot), mends: &[Mend]) -> Answer<()> {
        let part = |mend: &Mend| {
            let (start, len) = (mend.block as u64 * BLOCK, mend.bytes.len() as u64);
            let stored = stored_of(file, stripe, slot).saturating_sub(start).min(len) as u32;
            let part = Part { unit: stripe, offset: start as u32, len: len as u32 };
            WritePart { part, stored, digests: digests_of(&mend.bytes) }
        };
        let parts = mends.iter().map(part).collect();
        let change = Change::Write { id: spot.id, size: None, mtime: None, mode: None, parts };
        let payload: Vec<Bytes> = mends.iter().map(|mend| mend.bytes.clone()).collect();
        self.change(slot, spot, (Timestamp::default(), change), &payload).await
    }

    fn report(&self, spot: &Spot, findings: &Findings) {
        let (found, now) = ((&findings.wrong, &findings.unknown[..]), self.core.world.clock.now());
        self.core.damages.scrubbed(spot.id, || spot.words(), found, now);
        for ((slot, why), (blocks, stripe)) in &findings.mended {
            let what = match why {
                Why::Digest => "do not match their digests",
                Why::Older => "are older than those of other servers",
                Why::Parity => "are not what parity says",
            };
            let what = format!("{blocks} blocks of its file {what}, the first in stripe {stripe}");
            self.mended(*slot, spot, what, format!("{blocks} blocks"));
        }
        for (slot, why) in &findings.refused {
            let what = format!("not repaired: {why}");
            self.core.log(Some(*slot), &Event::Inconsistency { object: spot.words(), what });
        }
        for (beyond, (stripes, first)) in &findings.beyond {
            let what = match beyond {
                Beyond::TooFew => "too few good units are left",
                Beyond::Undecided => "its units contradict each other, and nothing says which are right",
            };
            self.damaged(spot, format!("{what}: {stripes} stripes, the first is stripe {first}"));
        }
    }
}

/// Blocks that do not match their digests; those without one are zeros, whatever was sent for them.
fn bad_blocks(bytes: &[u8], digests: &[Digest]) -> u32 {
    let found = digests_of(bytes);
    let zeros = |block: usize| bytes[block * BLOCK as usize..][..BLOCK as usize].iter().all(|byte| *byte == 0);
    let is_bad = |(block, (digest, found)): &(usize, (&Digest, &Digest))| match **digest {
        Digest::HOLE => !zeros(*block),
        digest => digest != **found,
    };
    let bad = digests.iter().zip(&found.0).enumerate().filter(is_bad);
    bad.fold(0, |bad, (block, _)| bad | 1 << block)
}
