//! Truncate, punch, allocate: changes of a file's extent.

use std::sync::Arc;

use bytes::Bytes;
use net_raid_proto::ids::{Slot, Timestamp};
use net_raid_proto::layout::Level;
use net_raid_proto::message::{Change, Request, SetAttr};

use super::fanout::{ApplyError, Ask, Asks};
use super::{Core, File, VolumeError, WriteMeta};
use crate::layout::{BLOCK, UNIT, block_ceil};
use crate::locks::RangeGuard;

/// Zeros to write where a range is too small or too crooked for a hole.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// What one step writes of the zeros from `at` to `end`. Steps end with blocks: one that is interrupted leaves each block
/// old or new.
fn zeros(at: u64, end: u64) -> Bytes {
    Bytes::from_static(&ZEROS[..(end - at).min(ZEROS.len() as u64 - at % BLOCK) as usize])
}

impl Core {
    pub(super) async fn truncate(self: &Arc<Core>, file: &File, size: u64, meta: WriteMeta) -> Result<(), VolumeError> {
        self.with_log_room(|| self.truncate_to(file, size, meta)).await
    }

    async fn truncate_to(self: &Arc<Core>, file: &File, size: u64, meta: WriteMeta) -> Result<(), VolumeError> {
        self.settle(file).await?;
        let mut guard = self.lock_all(file).await?;
        let old = file.size();
        if size < old {
            guard = match self.clear_tail(file, size, old, guard).await {
                Ok(guard) => guard,
                Err(failed) => return Err(self.unsettle(file, old, failed).await),
            };
        }
        self.set_extent(file, size, meta, guard).await?;
        Ok(())
    }

    /// What stays of the last stripe of `size` bytes must have zeros, and parity of zeros, where bytes up to `old` are cut off.
    /// The zeros are durable everywhere when this returns, with all that was written before: a cut cannot be taken back, and
    /// what is left of a block in which it is made must not be either.
    pub(super) async fn clear_tail(
        self: &Arc<Core>,
        file: &File,
        size: u64,
        old: u64,
        mut guard: RangeGuard,
    ) -> Result<RangeGuard, ApplyError> {
        let stripe_end = size.next_multiple_of(file.geometry.stripe_bytes());
        let until = match file.geometry.level() {
            Level::Raid1 => block_ceil(size),
            _ => stripe_end,
        };
        let (mut at, end) = (size, until.min(old));
        while at < end {
            let step = zeros(at, end);
            let next = at + step.len() as u64;
            guard = self.write_over(file, old, at, step, WriteMeta::default(), guard).await?;
            at = next;
        }
        if size < end {
            self.request_all(Request::Fsync { id: file.id, data_only: true }).await?;
        }
        Ok(guard)
    }

    /// Tells all members the size and cuts their files.
    async fn set_extent(
        self: &Arc<Core>,
        file: &File,
        size: u64,
        meta: WriteMeta,
        guard: RangeGuard,
    ) -> Result<RangeGuard, VolumeError> {
        let change = |slot| Change::Truncate {
            id: file.id,
            size,
            brick_len: file.geometry.brick_len(size, slot),
            mtime: meta.mtime,
            mode: meta.mode,
        };
        let asks = self.asks_each(meta.now, change);
        file.void_cache();
        let guard = self.apply(asks, guard).await.map_err(|failed| failed.error)?;
        file.set_size(size);
        self.note_cut(file);
        Ok(guard)
    }

    /// Takes back what was written beyond `size`, the file's; `all` of it stays locked until no member will hear of that any
    /// more: a late one would cut off what was written since.
    pub(super) async fn cut(
        self: &Arc<Core>,
        file: &File,
        size: u64,
        all: RangeGuard,
    ) -> Result<RangeGuard, VolumeError> {
        let change = |slot| Change::Truncate {
            id: file.id,
            size,
            brick_len: file.geometry.brick_len(size, slot),
            mtime: None,
            mode: None,
        };
        file.void_cache();
        self.apply(self.asks_each(WriteMeta::default().now, change), all).await.map_err(|failed| failed.error)
    }

    fn asks_each(&self, now: Timestamp, change: impl Fn(Slot) -> Change) -> Asks {
        let transaction = self.transaction();
        let request = |slot| self.change(transaction, now, change(slot));
        let ask = |slot| Ask { slot, request: request(slot), payload: Vec::new() };
        let of = self.members.recipients();
        Asks { each: of.iter().map(ask).collect(), of }
    }

    async fn write_zeros(
        self: &Arc<Core>,
        file: &File,
        start: u64,
        end: u64,
        meta: WriteMeta,
        mut guard: RangeGuard,
    ) -> Result<RangeGuard, VolumeError> {
        let mut at = start;
        while at < end {
            let step = zeros(at, end);
            let next = at + step.len() as u64;
            guard = self.write_locked(file, at, step, meta, guard).await?;
            at = next;
        }
        Ok(guard)
    }

    pub(super) async fn zero(
        self: &Arc<Core>,
        file: &File,
        offset: u64,
        len: u64,
        keep_size: bool,
        meta: WriteMeta,
    ) -> Result<(), VolumeError> {
        self.with_log_room(|| self.zero_range(file, offset, len, keep_size, meta)).await
    }

    async fn zero_range(
        self: &Arc<Core>,
        file: &File,
        offset: u64,
        len: u64,
        keep_size: bool,
        meta: WriteMeta,
    ) -> Result<(), VolumeError> {
        self.settle(file).await?;
        let mut guard = self.lock_all(file).await?;
        let (size, wanted) = (file.size(), offset.saturating_add(len));
        let end = wanted.min(size);
        let stripe = file.geometry.stripe_bytes();
        let (first, mut last) = (offset.div_ceil(stripe), end / stripe);
        if end == size {
            // The rest of the last stripe is beyond the end: it has nothing else.
            last = last.max(end.div_ceil(stripe));
        }
        if offset < end {
            if first < last {
                guard = self.write_zeros(file, offset, first * stripe, meta, guard).await?;
                guard = self.punch(file, first, last - first, meta, guard).await?;
                guard = self.write_zeros(file, (last * stripe).min(end), end, meta, guard).await?;
            } else {
                guard = self.write_zeros(file, offset, end, meta, guard).await?;
            }
        }
        if !keep_size && wanted > size {
            self.set_extent(file, wanted, meta, guard).await?;
        } else if offset >= end && meta.mtime.is_some() {
            // Nothing to make zero, but it counts as a change.
            let set = SetAttr { mtime: meta.mtime, ..SetAttr::default() };
            self.change_all(Change::SetAttr { id: file.id, set }, Bytes::new(), meta.now).await?;
        }
        Ok(())
    }

    async fn punch(
        self: &Arc<Core>,
        file: &File,
        first: u64,
        count: u64,
        meta: WriteMeta,
        guard: RangeGuard,
    ) -> Result<RangeGuard, VolumeError> {
        let change = |_| Change::Punch { id: file.id, unit: first, count, mtime: meta.mtime };
        file.void_cache();
        let guard = self.apply(self.asks_each(meta.now, change), guard).await.map_err(|failed| failed.error)?;
        let stripe = file.geometry.stripe_bytes();
        self.note_written(file, first * stripe..first.saturating_add(count).saturating_mul(stripe));
        Ok(guard)
    }

    pub(super) async fn allocate(
        self: &Arc<Core>,
        file: &File,
        offset: u64,
        len: u64,
        keep_size: bool,
        now: Timestamp,
    ) -> Result<(), VolumeError> {
        self.settle(file).await?;
        let guard = self.lock_all(file).await?;
        let end = offset.saturating_add(len);
        let grown = (!keep_size && end > file.size()).then_some(end);
        let stripe = file.geometry.stripe_bytes();
        let change = |slot| {
            let (start, stop) = match file.geometry.level() {
                Level::Raid1 => (offset, end),
                _ => (offset / stripe * UNIT, file.geometry.brick_len(end, slot).max(offset / stripe * UNIT + 1)),
            };
            // Level 1: the brick's file is as long as the file. Others: it need not be.
            let keep_size = keep_size || file.geometry.level() != Level::Raid1;
            Change::Allocate { id: file.id, size: grown, offset: start, len: stop - start, keep_size }
        };
        match (self.apply(self.asks_each(now, change), guard).await, grown) {
            (Ok(_guard), Some(size)) => file.grow(size),
            (Ok(_guard), None) => {}
            (Err(failed), Some(size)) => return Err(self.unsettle(file, size, failed).await),
            (Err(failed), None) => return Err(failed.error),
        }
        Ok(())
    }
}
