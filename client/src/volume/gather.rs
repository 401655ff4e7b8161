//! Reads units of stripes from as few members as needed, checks every block, and computes what is missing.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use net_raid_proto::ids::{Digest, Slot};
use net_raid_proto::layout::Level;
use net_raid_proto::limits::{BLOCK_SIZE, PARTS_MAX};
use net_raid_proto::message::{Fault, Part, PartRecord, Reply, Request};
use tokio::time::Instant;

use super::plan::{Step, StripeNeed};
use super::{Core, File, VolumeError};
use crate::conn::{CallError, Class};
use crate::layout::{Piece, SlotSet, UNIT};

/// Bytes of indices of one stripe: the range, and its bytes.
pub(super) type Units = Vec<Option<(Range<usize>, Bytes)>>;

/// A unit whose bytes did not match their digests.
#[derive(Debug, Clone)]
pub(super) struct Damage {
    pub(super) piece: Piece,
    pub(super) slot: Slot,
}

/// What was gathered: bytes of each stripe, and damage found on the way.
pub(super) struct Gathered {
    pub(super) stripes: Vec<Units>,
    pub(super) damage: Vec<Damage>,
}

/// A buffer of exactly `len` bytes' capacity: buffers are filled to their capacity.
pub(super) fn exact(len: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(len);
    drop(buffer.split_off(len));
    buffer
}

/// One piece to read from one slot.
struct Fetch {
    stripe: usize,
    piece: Piece,
    slot: Slot,
}

/// Why units were not gathered.
pub(super) enum Shortage {
    /// Too many of a stripe are bad on members that count, or of members that do not: nobody is waited for that could have them.
    Damaged,
    Failed(VolumeError),
}

/// How the read of a piece ended.
enum Got {
    Good(Bytes),
    Damaged,
    /// Its member is out of reach, or late.
    Lost,
}

impl Core {
    /// Fills every need, waiting for servers for at most `timeout` when too few answer. The caller has locked the stripes: what is bad on
    /// too many members is damaged beyond repair.
    pub(super) async fn gather(self: &Arc<Core>, file: &File, needs: Vec<StripeNeed>) -> Result<Gathered, VolumeError> {
        self.gather_some(file, needs, true).await.map_err(|shortage| match shortage {
            Shortage::Damaged => too_few(file),
            Shortage::Failed(error) => error,
        })
    }

    /// The same of stripes that may be written meanwhile, for a member that is healed: it waits only for servers that have what it lacks.
    pub(super) async fn gather_unlocked(
        self: &Arc<Core>,
        file: &File,
        needs: Vec<StripeNeed>,
    ) -> Result<Gathered, Shortage> {
        self.gather_some(file, needs, false).await
    }

    async fn gather_some(
        self: &Arc<Core>,
        file: &File,
        mut needs: Vec<StripeNeed>,
        is_locked: bool,
    ) -> Result<Gathered, Shortage> {
        let deadline = self.patience_ends();
        let mut seen = self.members.watch();
        let width = file.geometry.width();
        let mut stripes: Vec<Units> = needs.iter().map(|_| vec![None; width]).collect();
        let mut damage: Vec<Damage> = Vec::new();
        needs.iter_mut().for_each(|need| self.avoid_slow(file, need));
        // Who is late is waited for only where it is needed.
        let mut patient = false;
        loop {
            self.members.check_owned().map_err(Shortage::Failed)?;
            let mut fetches = Vec::new();
            let mut lost = false;
            for (at, need) in needs.iter().enumerate() {
                match need.step(file.geometry.level(), file.geometry.data_units()) {
                    Step::Fetch(ranges) => fetches.extend(self.fetches(file, at, need.stripe, ranges)),
                    Step::Whole | Step::Recover { .. } => {}
                    Step::Lost => lost = true,
                }
            }
            if lost {
                if std::mem::replace(&mut patient, true) {
                    self.reconsider(file, (&needs, &damage), is_locked, (&mut seen, deadline)).await?;
                }
                needs.iter_mut().for_each(|need| need.bad = self.bad_of(file, need.stripe, &damage));
                continue;
            }
            if fetches.is_empty() {
                break;
            }
            for (fetch, got) in self.fetch_all(file, fetches, patient).await {
                let need = &mut needs[fetch.stripe];
                let (index, range) = (fetch.piece.index, fetch.piece.start..fetch.piece.end);
                match got {
                    Got::Good(bytes) => {
                        need.have[index] = range.clone();
                        stripes[fetch.stripe][index] = Some((range, bytes));
                    }
                    Got::Damaged => {
                        need.bad |= 1 << index;
                        damage.push(Damage { piece: fetch.piece, slot: fetch.slot });
                    }
                    Got::Lost => need.bad |= 1 << index,
                }
            }
        }
        for (need, units) in needs.iter().zip(&mut stripes) {
            if let Step::Recover { from, over } = need.step(file.geometry.level(), file.geometry.data_units()) {
                recover(file, need, units, &from, &over);
            }
        }
        Ok(Gathered { stripes, damage })
    }

    fn fetches(&self, file: &File, at: usize, stripe: u64, ranges: Vec<(usize, Range<usize>)>) -> Vec<Fetch> {
        let fetch = |(index, range): (usize, Range<usize>)| Fetch {
            stripe: at,
            piece: Piece { stripe, index, start: range.start, end: range.end },
            slot: file.geometry.slot(stripe, index),
        };
        ranges.into_iter().map(fetch).collect()
    }

    /// Too much is bad: what is only out of reach may come back; damage stays.
    async fn reconsider(
        self: &Arc<Core>,
        file: &File,
        (needs, damage): (&[StripeNeed], &[Damage]),
        is_locked: bool,
        (seen, deadline): (&mut super::changes::Seen, Instant),
    ) -> Result<(), Shortage> {
        let mut beyond = false;
        for need in needs {
            let damaged: Vec<&Damage> = damage.iter().filter(|hurt| hurt.piece.stripe == need.stripe).collect();
            let mut best = need.clone();
            best.bad = damaged.iter().fold(0, |bad, hurt| bad | 1 << hurt.piece.index);
            if !is_locked {
                best.bad |= without(file, need.stripe, SlotSet(self.members.current().0 | self.members.away().0));
            }
            if best.step(file.geometry.level(), file.geometry.data_units()) != Step::Lost {
                continue;
            }
            beyond = true;
            if is_locked {
                self.note_bad(file, need.stripe, &damaged);
            }
        }
        if beyond {
            return Err(Shortage::Damaged);
        }
        // All are there, and one has not answered with its bytes.
        let is_vain = !is_locked && self.all_are_readable(file);
        if is_vain || !self.members.wait_change(seen, deadline).await {
            return Err(Shortage::Failed(too_few(file)));
        }
        Ok(())
    }

    /// Whether all that count are read for a file: who does not, by now, will not have what they lack.
    fn all_are_readable(&self, file: &File) -> bool {
        self.scrubs.doubts.believed(file.id, self.members.readable()) == self.members.current()
    }

    /// Indices of a stripe whose members cannot be read, or whose bytes are wrong.
    fn bad_of(&self, file: &File, stripe: u64, damage: &[Damage]) -> u32 {
        let damaged = damage.iter().filter(|d| d.piece.stripe == stripe).map(|d| d.piece.index);
        damaged.fold(self.unreadable(file, stripe), |bad, index| bad | 1 << index)
    }

    /// Indices of a stripe whose members cannot be read.
    pub(super) fn unreadable(&self, file: &File, stripe: u64) -> u32 {
        without(file, stripe, self.scrubs.doubts.believed(file.id, self.members.readable()))
    }

    /// Reads pieces, one request (or a few) to each member, all at once.
    async fn fetch_all(&self, file: &File, fetches: Vec<Fetch>, patient: bool) -> Vec<(Fetch, Got)> {
        let mut by_slot: Vec<Vec<Fetch>> = Vec::new();
        by_slot.resize_with(self.members.width(), Vec::new);
        for fetch in fetches {
            by_slot[fetch.slot.index()].push(fetch);
        }
        let mut batches: Vec<Vec<Fetch>> = Vec::new();
        for mut all in by_slot {
            while !all.is_empty() {
                let rest = all.split_off(all.len().min(PARTS_MAX / 2));
                batches.push(std::mem::replace(&mut all, rest));
            }
        }
        let reads = batches.into_iter().map(|batch| self.fetch_batch(file, batch, patient));
        futures_util::future::join_all(reads).await.into_iter().flatten().collect()
    }

    async fn fetch_batch(&self, file: &File, batch: Vec<Fetch>, patient: bool) -> Vec<(Fetch, Got)> {
        let pieces: Vec<Piece> = batch.iter().map(|fetch| fetch.piece).collect();
        let dest = pieces.iter().map(|piece| exact(piece.len())).collect();
        let slot = batch[0].slot;
        let read = self.read_pieces(file, slot, &pieces, dest);
        let len: usize = pieces.iter().map(Piece::len).sum();
        let class = if len as u64 <= UNIT { Class::Look } else { Class::Long };
        let read = if patient { Some(read.await) } else { self.in_good_time(slot, class, read).await };
        let got: Vec<Got> = match read {
            None => batch.iter().map(|_| Got::Lost).collect(),
            Some(Ok(parts)) => {
                parts.into_iter().map(|part| part.map_or(Got::Damaged, |b| Got::Good(b.freeze()))).collect()
            }
            Some(Err(error)) => {
                tracing::debug!(%slot, %error, "read");
                batch.iter().map(|_| Got::Lost).collect()
            }
        };
        batch.into_iter().zip(got).collect()
    }

    /// Reads pieces of one slot into `dest`; `None` for each whose bytes do not match their digests.
    pub(super) async fn read_pieces(
        &self,
        file: &File,
        slot: Slot,
        pieces: &[Piece],
        mut dest: Vec<BytesMut>,
    ) -> Result<Vec<Option<BytesMut>>, CallError> {
        let part = |p: &Piece| Part { unit: p.stripe, offset: p.start as u32, len: p.len() as u32 };
        let request = Request::Read { id: file.id, parts: pieces.iter().map(part).collect() };
        let response = loop {
            match self.members.conn(slot).call(&request, Vec::new(), dest, false).await {
                Err(CallError::Fault(Fault::Unresolved(id))) => {
                    self.resolve(slot, id).await?;
                    dest = pieces.iter().map(|piece| exact(piece.len())).collect();
                }
                other => break other?,
            }
        };
        let Reply::Read(records) = response.reply else {
            return Err(CallError::Lost("answers a read with nonsense".into()));
        };
        if records.len() != pieces.len() || response.dest.iter().zip(pieces).any(|(b, p)| b.len() != p.len()) {
            return Err(CallError::Lost("answers a read with other lengths than asked for".into()));
        }
        Ok(verify(response.dest, &records))
    }
}

/// Indices of a stripe whose members are none of these.
fn without(file: &File, stripe: u64, slots: SlotSet) -> u32 {
    let gone = |index: &usize| !slots.has(file.geometry.slot(stripe, *index));
    (0..file.geometry.width()).filter(gone).fold(0, |bad, index| bad | 1 << index)
}

fn too_few(file: &File) -> VolumeError {
    VolumeError::Lost(format!("object {}: too few good units are left", file.id))
}

/// Checks every block of every part against its digest; holes become zeros whatever was sent for them.
pub(super) fn verify(mut parts: Vec<BytesMut>, records: &[PartRecord]) -> Vec<Option<BytesMut>> {
    let mut good = vec![true; parts.len()];
    let mut blocks: Vec<&[u8]> = Vec::new();
    let mut expected: Vec<(usize, Digest)> = Vec::new();
    for (at, (part, record)) in parts.iter_mut().zip(records).enumerate() {
        if record.digests.0.len() * BLOCK_SIZE != part.len() {
            good[at] = false;
            continue;
        }
        for (block, digest) in part.chunks_exact_mut(BLOCK_SIZE).zip(&record.digests.0) {
            if *digest == Digest::HOLE {
                block.fill(0);
            } else {
                blocks.push(block);
                expected.push((at, *digest));
            }
        }
    }
    let mut digests = vec![[0; 16]; blocks.len()];
    net_raid_raid::digest::md5_many(&blocks, &mut digests);
    for ((at, expected), found) in expected.iter().zip(&digests) {
        good[*at] &= expected.0 == *found;
    }
    parts.into_iter().zip(good).map(|(part, good)| good.then_some(part)).collect()
}

/// Computes the bad wanted indices of a stripe from good ones.
fn recover(file: &File, need: &StripeNeed, units: &mut Units, from: &[usize], over: &Range<usize>) {
    let wanted: Vec<usize> = (0..units.len()).filter(|&i| need.is_bad(i) && !need.wanted[i].is_empty()).collect();
    if file.geometry.level() == Level::Raid1 {
        // Any copy is the data unit.
        units[0] = units[from[0]].clone();
        return;
    }
    let width = file.geometry.width();
    let mut buffers: Vec<Vec<u8>> = (0..width).map(|index| slice_of(units, index, over, from)).collect();
    let lost: Vec<usize> = (0..width).filter(|index| !from.contains(index)).collect();
    let mut slices: Vec<&mut [u8]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
    net_raid_raid::parity::recover(&mut slices, file.geometry.data_units(), &lost);
    for index in wanted {
        units[index] = Some((over.clone(), Bytes::from(std::mem::take(&mut buffers[index]))));
    }
}

/// The bytes of a good unit over a range; a buffer to compute into for another.
fn slice_of(units: &Units, index: usize, over: &Range<usize>, from: &[usize]) -> Vec<u8> {
    match &units[index] {
        Some((range, bytes)) if from.contains(&index) => {
            bytes[over.start - range.start..over.end - range.start].to_vec()
        }
        _ => vec![0; over.len()],
    }
}
