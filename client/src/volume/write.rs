//! Writes: data and parity of whole stripes as they come, partial stripes through what they change.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use net_raid_proto::ids::{Digest, Digests, Slot};
use net_raid_proto::layout::Level;
use net_raid_proto::limits::{BLOCK_SIZE, UNIT_SIZE};
use net_raid_proto::message::{Change, Part, WritePart};
use net_raid_raid::parity;

use super::fanout::{ApplyError, Ask, Asks};
use super::gather::{Gathered, Units};
use super::plan::StripeWrite;
use super::{Core, File, VolumeError, WriteMeta};
use crate::layout::{Piece, SlotSet, UNIT, block_ceil, block_floor};
use crate::locks::RangeGuard;

/// Longest write that is done at once.
const WRITE_MAX: u64 = 1024 * 1024;
/// Writes of partial stripes up to this many bytes leave their blocks in the cache, for the next one.
const CACHED_WRITE_MAX: usize = 64 * 1024;

/// A unit full of zeros.
static ZEROS: [u8; UNIT_SIZE] = [0; UNIT_SIZE];

/// One piece to write, data or parity.
struct Store {
    piece: Piece,
    bytes: Bytes,
}

impl Core {
    pub(super) async fn write(
        self: &Arc<Core>,
        file: &File,
        offset: u64,
        data: Bytes,
        meta: WriteMeta,
    ) -> Result<(), VolumeError> {
        self.with_log_room(|| self.write_pieces(file, offset, data.clone(), meta)).await
    }

    async fn write_pieces(
        self: &Arc<Core>,
        file: &File,
        offset: u64,
        data: Bytes,
        meta: WriteMeta,
    ) -> Result<(), VolumeError> {
        let mut at = 0;
        while at < data.len() {
            let start = offset + at as u64;
            // Pieces end where stripes may end, so that whole stripes stay whole.
            let stop = ((start / WRITE_MAX + 1) * WRITE_MAX).next_multiple_of(file.geometry.stripe_bytes());
            let len = (data.len() - at).min((stop - start) as usize);
            let piece = data.slice(at..at + len);
            let stripes =
                (start / file.geometry.stripe_bytes(), (start + len as u64 - 1) / file.geometry.stripe_bytes());
            self.settle(file).await?;
            let guard = self.lock(file, stripes.0, stripes.1, true).await?;
            self.write_locked(file, start, piece, meta, guard).await?;
            at += len;
        }
        Ok(())
    }

    pub(super) async fn append(
        self: &Arc<Core>,
        file: &File,
        data: Bytes,
        meta: WriteMeta,
    ) -> Result<u64, VolumeError> {
        if data.len() as u64 > WRITE_MAX {
            // What was appended before room ran out must not be appended again.
            return self.append_pieces(file, data, meta).await;
        }
        self.with_log_room(|| self.append_pieces(file, data.clone(), meta)).await
    }

    async fn append_pieces(self: &Arc<Core>, file: &File, data: Bytes, meta: WriteMeta) -> Result<u64, VolumeError> {
        self.settle(file).await?;
        let mut guard = self.lock_all(file).await?;
        let offset = file.size();
        let mut at = 0;
        while at < data.len() {
            let stop = data.len().min(at + WRITE_MAX as usize);
            guard = self.write_locked(file, offset + at as u64, data.slice(at..stop), meta, guard).await?;
            at = stop;
        }
        Ok(offset)
    }

    /// Writes within stripes that `guard` locks.
    pub(super) async fn write_locked(
        self: &Arc<Core>,
        file: &File,
        offset: u64,
        data: Bytes,
        meta: WriteMeta,
        guard: RangeGuard,
    ) -> Result<RangeGuard, VolumeError> {
        let (end, old_size) = (offset + data.len() as u64, file.size());
        match self.write_over(file, old_size, offset, data, meta, guard).await {
            Ok(guard) => {
                file.grow(end);
                self.note_written(file, offset..end);
                Ok(guard)
            }
            Err(failed) => {
                let unknown = matches!(failed.error, VolumeError::Lost(_));
                Err(if unknown || end > old_size { self.unsettle(file, end, failed).await } else { failed.error })
            }
        }
    }

    /// The same over a file that bricks may hold `old_size` bytes of, and without a word about its size.
    pub(super) async fn write_over(
        self: &Arc<Core>,
        file: &File,
        old_size: u64,
        offset: u64,
        data: Bytes,
        meta: WriteMeta,
        guard: RangeGuard,
    ) -> Result<RangeGuard, ApplyError> {
        let end = offset + data.len() as u64;
        let blocks = self.whole_blocks(file, offset, data).await?;
        // Parity is right only on those that it was planned for.
        let of = self.members.recipients();
        let stores = self.stores(file, block_floor(offset), &blocks, (old_size, of)).await?;
        let size = end.max(old_size);
        let asks = self.asks(file, &stores, (size, of), (end > old_size).then_some(end), meta);
        // Held here too: nobody may find blocks in the cache that a write which failed has changed nevertheless.
        let guard = Arc::new(guard);
        match self.apply(asks, Arc::clone(&guard)).await {
            Ok(done) => {
                drop(done);
                self.remember(file, &stores, of);
                Ok(Arc::into_inner(guard).expect("whoever carried it out has given it back"))
            }
            Err(failed) => {
                self.forget(file, &stores);
                drop(guard);
                Err(failed)
            }
        }
    }

    /// Locks stripes; gives up when the servers that the holder waits for stay away.
    pub(super) async fn lock(
        self: &Arc<Core>,
        file: &File,
        first: u64,
        last: u64,
        exclusive: bool,
    ) -> Result<RangeGuard, VolumeError> {
        self.patiently(file.locks.lock(first, last, exclusive)).await
    }

    pub(super) async fn lock_all(self: &Arc<Core>, file: &File) -> Result<RangeGuard, VolumeError> {
        self.lock(file, 0, u64::MAX, true).await
    }

    /// After a write whose outcome is not known: takes away what it may have left beyond the end, so that bytes there count
    /// as zeros again, in parity too.
    pub(super) async fn settle(self: &Arc<Core>, file: &File) -> Result<(), VolumeError> {
        if file.doubtful_end().is_none() {
            return Ok(());
        }
        let all = self.lock_all(file).await?;
        if let Some(end) = file.doubtful_end() {
            file.void_cache();
            let all = self.clear_tail(file, file.size(), end, all).await.map_err(|failed| failed.error)?;
            let _all = self.cut(file, file.size(), all).await?;
            file.trust();
        }
        Ok(())
    }

    /// A change that may have made a file longer failed: some members may have bytes beyond the size, or another size.
    pub(super) async fn unsettle(self: &Arc<Core>, file: &File, end: u64, failed: ApplyError) -> VolumeError {
        // Until the sizes are the same again, `failed` keeps its generation open.
        match failed.error {
            VolumeError::Errno(_) => {
                // The bytes were taken back; the size is still to be.
                file.doubt(file.size());
                self.settle(file).await.err().unwrap_or(failed.error)
            }
            VolumeError::Lost(_) => {
                // It may be carried out yet: whoever changes the file next sees to that.
                file.doubt(end);
                failed.error
            }
        }
    }

    /// The data with the rest of its first and last block around it.
    async fn whole_blocks(self: &Arc<Core>, file: &File, offset: u64, data: Bytes) -> Result<Bytes, VolumeError> {
        let end = offset + data.len() as u64;
        let (first, last) = (block_floor(offset), block_ceil(end));
        if first == offset && last == end {
            return Ok(data);
        }
        let mut blocks = BytesMut::zeroed((last - first) as usize);
        let size = file.size();
        if first < offset && first < size {
            self.old_block(file, first, &mut blocks[..BLOCK_SIZE]).await?;
        }
        let tail = last - BLOCK_SIZE as u64;
        let tail_is_new = tail == first && first < offset;
        if end < last && end < size && !tail_is_new {
            let at = (tail - first) as usize;
            self.old_block(file, tail, &mut blocks[at..]).await?;
        }
        let at = (offset - first) as usize;
        blocks[at..at + data.len()].copy_from_slice(&data);
        Ok(blocks.freeze())
    }

    async fn old_block(self: &Arc<Core>, file: &File, at: u64, out: &mut [u8]) -> Result<(), VolumeError> {
        let piece = file.geometry.pieces(at, at + BLOCK_SIZE as u64)[0];
        if self.cache.get(&file.key(piece.stripe, piece.index), piece.start, out) {
            return Ok(());
        }
        let mut need = self.need(file, piece.stripe);
        need.want(piece.index, piece.start..piece.end);
        let Gathered { stripes, damage } = self.gather(file, vec![need]).await?;
        self.repair_later(file, damage);
        let (range, bytes) = stripes[0][piece.index].as_ref().ok_or_else(super::query::nonsense)?;
        out.copy_from_slice(&bytes[piece.start - range.start..][..BLOCK_SIZE]);
        // The bytes beyond the end of a file count as zeros, whatever a brick has there.
        let kept = (file.size() - at).min(BLOCK_SIZE as u64) as usize;
        out[kept..].fill(0);
        Ok(())
    }

    /// All pieces that a write of whole blocks stores, parity included.
    async fn stores(
        self: &Arc<Core>,
        file: &File,
        start: u64,
        blocks: &Bytes,
        old: (u64, SlotSet),
    ) -> Result<Vec<Store>, VolumeError> {
        let pieces = file.geometry.pieces(start, start + blocks.len() as u64);
        let mut stores: Vec<Store> = Vec::with_capacity(pieces.len() * 2);
        let mut at = 0;
        for piece in pieces {
            stores.push(Store { piece, bytes: blocks.slice(at..at + piece.len()) });
            at += piece.len();
        }
        if file.geometry.level() == Level::Raid1 {
            return Ok(stores);
        }
        let mut parity = Vec::new();
        let stripes: Vec<&[Store]> = stores.chunk_by(|a, b| a.piece.stripe == b.piece.stripe).collect();
        let news = futures_util::future::join_all(stripes.iter().map(|new| self.parity(file, new, old))).await;
        for new in news {
            parity.extend(new?);
        }
        stores.extend(parity);
        Ok(stores)
    }

    /// The parity pieces of one stripe.
    async fn parity(
        self: &Arc<Core>,
        file: &File,
        new: &[Store],
        (old_size, of): (u64, SlotSet),
    ) -> Result<Vec<Store>, VolumeError> {
        let stripe = new[0].piece.stripe;
        let view = self.view(file, new, (old_size, of));
        let plan = view.plan();
        let old = self.old_units(file, stripe, &plan.read).await?;
        let rows = view.rows();
        let data_units = file.geometry.data_units();
        let parities = if plan.delta {
            parity_by_delta(new, &old, &rows, data_units, view.parity)
        } else {
            parity_of_all(new, &old, &rows, data_units, view.parity)
        };
        let store = |(i, bytes): (usize, BytesMut)| Store {
            piece: Piece { stripe, index: data_units + i, start: rows.start, end: rows.end },
            bytes: bytes.freeze(),
        };
        Ok(parities.into_iter().enumerate().map(store).collect())
    }

    /// What the planner needs to know of a stripe.
    fn view(&self, file: &File, new: &[Store], (old_size, of): (u64, SlotSet)) -> StripeWrite {
        let (stripe, data_units) = (new[0].piece.stripe, file.geometry.data_units());
        let mut ranges = vec![0..0; data_units];
        new.iter().for_each(|store| ranges[store.piece.index] = store.piece.start..store.piece.end);
        let old_end =
            |index| block_ceil(old_size).saturating_sub(file.geometry.logical(stripe, index)).min(UNIT) as usize;
        let gone = |index: &usize| !of.has(file.geometry.slot(stripe, *index));
        let mut view = StripeWrite {
            new: ranges,
            old_end: (0..data_units).map(old_end).collect(),
            parity: file.geometry.width() - data_units,
            gone: (0..file.geometry.width()).filter(gone).fold(0, |set, index| set | 1 << index),
            cached: 0,
        };
        let rows = view.rows();
        let mut scratch = vec![0; if rows.len() <= CACHED_WRITE_MAX / 4 { rows.len() } else { 0 }];
        if !scratch.is_empty() {
            let hit = |index: &usize| self.cache.get(&file.key(stripe, *index), rows.start, &mut scratch);
            view.cached = (0..file.geometry.width()).filter(hit).fold(0, |set, index| set | 1 << index);
        }
        view
    }

    /// Old bytes of a stripe: from the cache, the rest from members.
    async fn old_units(
        self: &Arc<Core>,
        file: &File,
        stripe: u64,
        read: &[Range<usize>],
    ) -> Result<Units, VolumeError> {
        let mut units: Units = vec![None; file.geometry.width()];
        let mut need = self.need(file, stripe);
        let mut missing = false;
        for (index, range) in read.iter().enumerate().filter(|(_, range)| !range.is_empty()) {
            let mut bytes = BytesMut::zeroed(range.len());
            if self.cache.get(&file.key(stripe, index), range.start, &mut bytes) {
                units[index] = Some((range.clone(), bytes.freeze()));
            } else {
                need.want(index, range.clone());
                missing = true;
            }
        }
        if !missing {
            return Ok(units);
        }
        let Gathered { mut stripes, damage } = self.gather(file, vec![need]).await?;
        self.repair_later(file, damage);
        for (unit, read) in units.iter_mut().zip(stripes.remove(0)) {
            if unit.is_none() {
                *unit = read;
            }
        }
        Ok(units)
    }

    /// The requests of a write: every member that stores a piece, and, when the file grows, all others too.
    fn asks(
        &self,
        file: &File,
        stores: &[Store],
        (size, of): (u64, SlotSet),
        grown: Option<u64>,
        meta: WriteMeta,
    ) -> Asks {
        let digests = all_digests(stores);
        let (transaction, now) = (self.transaction(), meta.now);
        let mut each = Vec::new();
        for slot in self.members.recipients().and(of).iter() {
            let mut here: Vec<(&Store, &Vec<Digest>)> =
                stores.iter().zip(&digests).filter(|(store, _)| stores_at(file, &store.piece, slot)).collect();
            here.sort_by_key(|(store, _)| (store.piece.stripe, store.piece.start));
            let parts: Vec<WritePart> =
                here.iter().map(|(store, digests)| write_part(file, slot, store, digests, size)).collect();
            let payload = here.iter().map(|(store, _)| store.bytes.clone()).collect();
            if parts.is_empty() && grown.is_none() && meta.mtime.is_none() && meta.mode.is_none() {
                continue;
            }
            let change = Change::Write { id: file.id, size: grown, mtime: meta.mtime, mode: meta.mode, parts };
            each.push(Ask { slot, request: self.change(transaction, now, change), payload });
        }
        Asks { each, of }
    }

    /// Small writes leave what the next one needs. Not parity that no member was to store: it was computed from nothing, and a member
    /// that catches up has another one.
    fn remember(&self, file: &File, stores: &[Store], of: SlotSet) {
        for store in stores {
            let (key, piece) = (file.key(store.piece.stripe, store.piece.index), &store.piece);
            let is_parity = file.geometry.level() != Level::Raid1 && piece.index >= file.geometry.data_units();
            let is_right = !is_parity || of.has(file.geometry.slot(piece.stripe, piece.index));
            if is_right && store.bytes.len() <= CACHED_WRITE_MAX / 4 {
                self.cache.put(key, piece.start, &store.bytes);
            } else {
                self.cache.forget(&key, piece.start, piece.end);
            }
        }
    }

    fn forget(&self, file: &File, stores: &[Store]) {
        for store in stores {
            self.cache.forget(&file.key(store.piece.stripe, store.piece.index), store.piece.start, store.piece.end);
        }
    }
}

/// Whether a piece is stored in `slot`; every copy of level 1 is.
fn stores_at(file: &File, piece: &Piece, slot: Slot) -> bool {
    file.geometry.level() == Level::Raid1 || file.geometry.slot(piece.stripe, piece.index) == slot
}

fn write_part(file: &File, slot: Slot, store: &Store, digests: &[Digest], size: u64) -> WritePart {
    let piece = &store.piece;
    let part = Part { unit: piece.stripe, offset: piece.start as u32, len: piece.len() as u32 };
    let in_unit = file.geometry.brick_len(size, slot).saturating_sub(piece.stripe * UNIT).min(UNIT) as usize;
    let stored = in_unit.saturating_sub(piece.start).min(piece.len());
    WritePart { part, stored: stored as u32, digests: Digests(digests.to_vec()) }
}

/// Digests of all pieces, in one batch.
fn all_digests(stores: &[Store]) -> Vec<Vec<Digest>> {
    let blocks: Vec<&[u8]> = stores.iter().flat_map(|store| store.bytes.chunks(BLOCK_SIZE)).collect();
    let mut digests = vec![[0; 16]; blocks.len()];
    net_raid_raid::digest::md5_many(&blocks, &mut digests);
    let mut digests = digests.into_iter().map(Digest);
    stores.iter().map(|store| digests.by_ref().take(store.bytes.len() / BLOCK_SIZE).collect()).collect()
}

/// Old bytes of an index over `range`: what was read, zeros where nothing was.
fn old_over(old: &Units, index: usize, range: &Range<usize>) -> BytesMut {
    let mut out = BytesMut::zeroed(range.len());
    if let Some((have, bytes)) = &old[index] {
        let (start, end) = (have.start.max(range.start), have.end.min(range.end));
        if start < end {
            out[start - range.start..end - range.start].copy_from_slice(&bytes[start - have.start..end - have.start]);
        }
    }
    out
}

/// Parity from all data of the rows: new bytes over old ones over zeros.
fn parity_of_all(new: &[Store], old: &Units, rows: &Range<usize>, data_units: usize, parities: usize) -> Vec<BytesMut> {
    let mut made: Vec<Option<BytesMut>> = vec![None; data_units];
    for (index, made) in made.iter_mut().enumerate() {
        let store = new.iter().find(|store| store.piece.index == index);
        let whole = store.is_some_and(|store| store.bytes.len() == rows.len());
        if whole || (store.is_none() && old[index].is_none()) {
            continue;
        }
        let mut bytes = old_over(old, index, rows);
        if let Some(store) = store {
            bytes[store.piece.start - rows.start..store.piece.end - rows.start].copy_from_slice(&store.bytes);
        }
        *made = Some(bytes);
    }
    let unit = |index: usize| -> &[u8] {
        match &made[index] {
            Some(bytes) => bytes,
            None => match new.iter().find(|store| store.piece.index == index) {
                Some(store) => &store.bytes,
                None => &ZEROS[..rows.len()],
            },
        }
    };
    let data: Vec<&[u8]> = (0..data_units).map(unit).collect();
    let mut out: Vec<BytesMut> = (0..parities).map(|_| BytesMut::zeroed(rows.len())).collect();
    match &mut out[..] {
        [p] => parity::generate_p(&data, p),
        [p, q] => parity::generate_pq(&data, p, q),
        _ => unreachable!("levels have one or two parity units"),
    }
    out
}

/// Parity from old parity and what changes.
fn parity_by_delta(
    new: &[Store],
    old: &Units,
    rows: &Range<usize>,
    data_units: usize,
    parities: usize,
) -> Vec<BytesMut> {
    let mut out: Vec<BytesMut> = (0..parities).map(|parity| old_over(old, data_units + parity, rows)).collect();
    for store in new {
        let range = store.piece.start..store.piece.end;
        let before = old_over(old, store.piece.index, &range);
        let at = range.start - rows.start..range.end - rows.start;
        match &mut out[..] {
            [p] => parity::update_p(&before, &store.bytes, &mut p[at]),
            [p, q] => {
                parity::update_pq(store.piece.index, &before, &store.bytes, &mut p[at.clone()], &mut q[at]);
            }
            _ => unreachable!("levels have one or two parity units"),
        }
    }
    out
}
