//! Reads: straight into place when all is well, through [`super::gather`] when not; damage is repaired.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use net_raid_proto::ids::{Digest, Digests, ObjectId, Slot};
use net_raid_proto::layout::Level;
use net_raid_proto::limits::BLOCK_SIZE;
use net_raid_proto::message::{Change, Part, SetAttr, WritePart};

use super::fanout::{Ask, Asks};
use super::gather::{Damage, Gathered, exact};
use super::plan::StripeNeed;
use super::{Core, File, VolumeError, WriteMeta};
use crate::conn::Class;
use crate::events::Event;
use crate::layout::{Piece, SlotSet, block_ceil, block_floor};

/// Longest read that looks into the block cache and leaves its blocks there; longer ones stream by.
const CACHED_READ_MAX: u64 = 64 * 1024;
/// Longest read that is done at once: the buffers in flight for one caller.
const READ_MAX: u64 = 2 * 1024 * 1024;
/// Level 1: bytes of a file that go to one member before the next one's turn.
const COPY_TURN: u64 = 1024 * 1024;

impl Core {
    pub(super) async fn read(self: &Arc<Core>, file: &File, offset: u64, len: usize) -> Result<Bytes, VolumeError> {
        // What the cache holds is as old as the ownership.
        self.members.check_owned()?;
        let end = offset.saturating_add(len as u64).min(file.size());
        if offset >= end {
            return Ok(Bytes::new());
        }
        if end - offset <= READ_MAX {
            return self.read_blocks(file, offset, end).await;
        }
        let mut all = BytesMut::with_capacity((end - offset) as usize);
        let mut at = offset;
        while at < end {
            let stop = (at / READ_MAX + 1).saturating_mul(READ_MAX).min(end);
            all.extend_from_slice(&self.read_blocks(file, at, stop).await?);
            at = stop;
        }
        Ok(all.freeze())
    }

    async fn read_blocks(self: &Arc<Core>, file: &File, offset: u64, end: u64) -> Result<Bytes, VolumeError> {
        let (first, last) = (block_floor(offset), block_ceil(end));
        let pieces = file.geometry.pieces(first, last);
        let len = (last - first) as usize;
        let blocks = if last - first <= CACHED_READ_MAX {
            self.read_small(file, &pieces, len).await?
        } else {
            match self.read_direct(file, &pieces, len).await {
                Ok(blocks) => blocks,
                Err(suspects) => self.read_carefully(file, &pieces, suspects).await?,
            }
        };
        Ok(blocks.slice((offset - first) as usize..(end - first) as usize))
    }

    /// Through the cache. The stripes are locked, so that no write is overtaken on its way into the cache.
    async fn read_small(self: &Arc<Core>, file: &File, pieces: &[Piece], len: usize) -> Result<Bytes, VolumeError> {
        let (first, last) = stripes_of(pieces);
        let locked = self.lock(file, first, last, false).await?;
        if let Some(blocks) = self.read_cached(file, pieces, len) {
            return Ok(blocks);
        }
        match self.read_direct(file, pieces, len).await {
            Ok(blocks) => {
                let mut at = 0;
                for piece in pieces {
                    self.cache.put(file.key(piece.stripe, piece.index), piece.start, &blocks[at..at + piece.len()]);
                    at += piece.len();
                }
                Ok(blocks)
            }
            Err(suspects) => {
                drop(locked);
                self.read_carefully(file, pieces, suspects).await
            }
        }
    }

    fn read_cached(&self, file: &File, pieces: &[Piece], len: usize) -> Option<Bytes> {
        let mut out = BytesMut::zeroed(len);
        let mut at = 0;
        for piece in pieces {
            let key = file.key(piece.stripe, piece.index);
            if !self.cache.get(&key, piece.start, &mut out[at..at + piece.len()]) {
                return None;
            }
            at += piece.len();
        }
        Some(out.freeze())
    }

    /// The common case: every piece from its own member, received in its place; when anything is
    /// amiss, the pieces that look damaged.
    async fn read_direct(&self, file: &File, pieces: &[Piece], len: usize) -> Result<Bytes, Vec<Damage>> {
        let prompt = self.scrubs.doubts.believed(file.id, self.prompt());
        let mut by_slot: Vec<Vec<(usize, Piece, BytesMut)>> = Vec::new();
        by_slot.resize_with(self.members.width(), Vec::new);
        let mut rest = exact(len);
        for (at, piece) in pieces.iter().enumerate() {
            let slot = match file.geometry.level() {
                Level::Raid1 => self.copy_of(file, piece, prompt),
                _ => Some(file.geometry.slot(piece.stripe, piece.index)).filter(|slot| prompt.has(*slot)),
            };
            let Some(slot) = slot else { return Err(Vec::new()) };
            let tail = rest.split_off(piece.len());
            let place = std::mem::replace(&mut rest, tail);
            by_slot[slot.index()].push((at, *piece, place));
        }
        let class = if len as u64 <= CACHED_READ_MAX { Class::Look } else { Class::Long };
        let reads = by_slot.into_iter().enumerate().filter(|(_, all)| !all.is_empty()).map(|(slot, all)| async move {
            let order: Vec<usize> = all.iter().map(|(at, _, _)| *at).collect();
            let pieces: Vec<Piece> = all.iter().map(|(_, piece, _)| *piece).collect();
            let places = all.into_iter().map(|(_, _, place)| place).collect();
            let slot = Slot(slot as u8);
            let read = self.read_pieces(file, slot, &pieces, places);
            let read = self.in_good_time(slot, class, read).await?.ok()?;
            Some((slot, order, read))
        });
        let mut parts: Vec<Option<BytesMut>> = vec![None; pieces.len()];
        let mut suspects = Vec::new();
        for read in futures_util::future::join_all(reads).await {
            let Some((slot, order, read)) = read else { return Err(suspects) };
            for (at, part) in order.into_iter().zip(read) {
                if part.is_none() {
                    suspects.push(suspect(file, pieces[at], slot));
                }
                parts[at] = part;
            }
        }
        join(parts, len).ok_or(suspects)
    }

    /// Level 1: the copy to read a piece from.
    fn copy_of(&self, file: &File, piece: &Piece, prompt: SlotSet) -> Option<Slot> {
        let copies = prompt.and(file.geometry.slots());
        let turn = file.geometry.logical(piece.stripe, 0) / COPY_TURN + file.id.0;
        copies.iter().nth((turn % copies.len().max(1) as u64) as usize)
    }

    /// Under the stripes' locks, so that what differs is damage and no write in flight.
    pub(super) async fn read_carefully(
        self: &Arc<Core>,
        file: &File,
        pieces: &[Piece],
        suspects: Vec<Damage>,
    ) -> Result<Bytes, VolumeError> {
        let (first, last) = stripes_of(pieces);
        let _shared = self.lock(file, first, last, false).await?;
        let mut needs: Vec<StripeNeed> = Vec::new();
        for piece in pieces {
            if needs.last().is_none_or(|need| need.stripe != piece.stripe) {
                needs.push(self.need(file, piece.stripe));
            }
            if let Some(need) = needs.last_mut() {
                need.want(piece.index, piece.start..piece.end);
            }
        }
        let Gathered { stripes, mut damage } = self.gather(file, needs).await?;
        damage.extend(suspects);
        let len = pieces.iter().map(Piece::len).sum();
        let mut out = BytesMut::with_capacity(len);
        for piece in pieces {
            let units = &stripes[(piece.stripe - first) as usize];
            let (range, bytes) = units[piece.index].as_ref().expect("gather fills what is wanted");
            out.extend_from_slice(&bytes[piece.start - range.start..piece.end - range.start]);
        }
        self.repair_later(file, damage);
        Ok(out.freeze())
    }

    pub(super) fn need(&self, file: &File, stripe: u64) -> StripeNeed {
        let prefer = (stripe + file.id.0) as usize % file.geometry.width();
        StripeNeed::new(stripe, file.geometry.width(), self.unreadable(file, stripe), prefer)
    }

    /// Writes damaged blocks anew, in the background.
    pub(super) fn repair_later(self: &Arc<Core>, file: &File, damage: Vec<Damage>) {
        if damage.is_empty() {
            return;
        }
        let (core, file) = (Arc::clone(self), file.share());
        tokio::spawn(async move {
            for hurt in damage {
                core.repair(&file, &hurt).await;
            }
        });
    }

    async fn repair(self: &Arc<Core>, file: &File, hurt: &Damage) {
        let piece = hurt.piece;
        let Ok(_exclusive) = self.lock(file, piece.stripe, piece.stripe, true).await else { return };
        let again = self.read_pieces(file, hurt.slot, &[piece], vec![exact(piece.len())]).await;
        match again {
            Ok(parts) if parts[0].is_none() => {}
            // Right by now, or out of reach: nothing to repair.
            _ => return,
        }
        let object = self.describe(file);
        let what = format!(
            "stripe {}, bytes {} to {} of its unit do not match their digests",
            piece.stripe, piece.start, piece.end
        );
        self.log(Some(hurt.slot), &Event::Inconsistency { object: object.clone(), what: what.clone() });
        if let Err(error) = self.rewrite(file, hurt).await {
            self.log(Some(hurt.slot), &Event::Inconsistency { object, what: format!("not repaired: {error}") });
            return;
        }
        self.stamp_all(file).await;
        let sources = self.members.readable().without(hurt.slot);
        let from = sources.iter().map(|slot| self.members.server(slot).clone()).collect();
        let to = self.members.server(hurt.slot).clone();
        let what = format!("stripe {}", piece.stripe);
        self.log(Some(hurt.slot), &Event::Repaired { object, what, from, to });
        self.note_repaired(file, piece.stripe);
    }

    async fn rewrite(self: &Arc<Core>, file: &File, hurt: &Damage) -> Result<(), VolumeError> {
        let piece = hurt.piece;
        let mut need = self.need(file, piece.stripe);
        need.bad |= 1 << piece.index;
        // Level 1: every copy is the data unit.
        let index = if file.geometry.level() == Level::Raid1 { 0 } else { piece.index };
        need.want(index, piece.start..piece.end);
        let Gathered { stripes, .. } = self.gather(file, vec![need]).await?;
        let Some((range, bytes)) = &stripes[0][index] else { return Err(super::query::nonsense()) };
        let bytes = bytes.slice(piece.start - range.start..piece.end - range.start);
        let stored = file.geometry.brick_len(file.size(), hurt.slot).saturating_sub(piece.stripe * crate::layout::UNIT);
        let stored = (stored as usize).saturating_sub(piece.start).min(piece.len());
        let part = Part { unit: piece.stripe, offset: piece.start as u32, len: piece.len() as u32 };
        let part = WritePart { part, stored: stored as u32, digests: digests_of(&bytes) };
        let change = Change::Write { id: file.id, size: None, mtime: None, mode: None, parts: vec![part] };
        let request = self.numbered(WriteMeta::default().now, change);
        let ask = Ask { slot: hurt.slot, request, payload: vec![bytes] };
        self.apply(Asks { each: vec![ask], of: SlotSet(u32::MAX) }, ()).await.map_err(|failed| failed.error)
    }

    /// Gives a file the same stamp on all members, by a change that changes nothing: else it looks newer where it was repaired. Each by
    /// itself, because a file that is removed meanwhile is gone from some before others, which matters to nobody here.
    async fn stamp_all(self: &Arc<Core>, file: &File) {
        for slot in self.members.readable().iter() {
            let change = Change::SetAttr { id: file.id, set: SetAttr::default() };
            let ask = Ask { slot, request: self.numbered(WriteMeta::default().now, change), payload: Vec::new() };
            let stamped = self.apply(Asks { each: vec![ask], of: SlotSet(u32::MAX) }, ()).await;
            if let Err(failed) = stamped {
                tracing::debug!(%slot, error = %failed.error, "not stamped after a repair");
            }
        }
    }

    /// An object in words: its path where it is known.
    pub(super) fn describe(&self, file: &File) -> String {
        self.path_in_words(file.id).unwrap_or_else(|| format!("object {:x}", file.id.0))
    }

    /// The path of an object, where it is known.
    pub(super) fn path_in_words(&self, id: ObjectId) -> Option<String> {
        let names = self.paths.get()?.path_of(id)?;
        Some(if names.is_empty() { "/".into() } else { names.iter().map(|name| format!("/{name}")).collect() })
    }
}

fn stripes_of(pieces: &[Piece]) -> (u64, u64) {
    (pieces.first().map_or(0, |p| p.stripe), pieces.last().map_or(0, |p| p.stripe))
}

/// A piece of `slot` that did not match its digests; level 1 asked for the data unit, whichever copy it was.
fn suspect(file: &File, piece: Piece, slot: Slot) -> Damage {
    let index = file.geometry.index_at(piece.stripe, slot).unwrap_or(piece.index);
    Damage { piece: Piece { index, ..piece }, slot }
}

/// Digests of the blocks of `bytes`, holes included: a block of zeros has the digest of its zeros.
pub(super) fn digests_of(bytes: &[u8]) -> Digests {
    let blocks: Vec<&[u8]> = bytes.chunks(BLOCK_SIZE).collect();
    let mut digests = vec![[0; 16]; blocks.len()];
    net_raid_raid::digest::md5_many(&blocks, &mut digests);
    Digests(digests.into_iter().map(Digest).collect())
}

/// Parts of one buffer, put together again without a copy.
fn join(parts: Vec<Option<BytesMut>>, len: usize) -> Option<Bytes> {
    let mut parts = parts.into_iter();
    let mut all = parts.next()??;
    for part in parts {
        all.unsplit(part?);
    }
    debug_assert_eq!(all.len(), len);
    Some(all.freeze())
}
