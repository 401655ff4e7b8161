//! After a write that some members had no room for: the stripes that it touched become whole again.
//!
//! A member lacks room only for a block that it does not have yet; what it has can be written in its place. Where a member
//! lacks a block, that block was zeros before, and is zeros again; all other blocks of the write get their new bytes, on all
//! members, and parity follows. Where the parity of a row (the same block of every unit) is what is lacking, the whole row
//! was zeros, and is again. So a write that fails with ENOSPC leaves old or new bytes in its range, zeros for none, and
//! nothing outside of it that parity does not agree with.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use net_raid_proto::ids::{Digest, Slot};
use net_raid_proto::limits::BLOCK_SIZE;
use net_raid_proto::message::Change;
use net_raid_raid::parity;

use super::fanout::Ask;
use super::gather::exact;
use super::read::digests_of;
use super::write::{Store, stores_at, write_part};
use super::{Core, File, VolumeError, WriteMeta};
use crate::layout::{Geometry, Piece};

/// Which blocks of a store one member lacks.
struct Lack {
    slot: Slot,
    store: usize,
    blocks: Vec<bool>,
}

impl Core {
    /// Makes stripes whole that a write of `stores` left unequal; their exclusive lock is held.
    ///
    /// # Errors
    /// Members are lost meanwhile, or have no room for what they have already.
    pub(super) async fn even_out(self: &Arc<Core>, file: &File, stores: &[Store]) -> Result<(), VolumeError> {
        let mut stripes: Vec<u64> = stores.iter().map(|store| store.piece.stripe).collect();
        stripes.sort_unstable();
        stripes.dedup();
        for stripe in stripes {
            let touched: Vec<&Store> = stores.iter().filter(|store| store.piece.stripe == stripe).collect();
            self.even_out_stripe(file, &touched).await?;
        }
        Ok(())
    }

    async fn even_out_stripe(self: &Arc<Core>, file: &File, touched: &[&Store]) -> Result<(), VolumeError> {
        let lacks = self.lacks(file, touched).await?;
        let absent: Vec<Vec<bool>> = (0..touched.len()).map(|at| absent_anywhere(touched[at], at, &lacks)).collect();
        let targets = targets(&file.geometry, file.size(), touched, &absent);
        let asks: Vec<Ask> = lacks
            .iter()
            .filter(|lack| lack.blocks.contains(&false))
            .map(|lack| self.ask_for_present(file, touched[lack.store].piece, &targets[lack.store], lack))
            .collect();
        if asks.is_empty() {
            return Ok(());
        }
        self.apply(asks, ()).await.map_err(|failed| failed.error)
    }

    /// What each current member lacks of what was to be stored there.
    async fn lacks(&self, file: &File, touched: &[&Store]) -> Result<Vec<Lack>, VolumeError> {
        let mut lacks = Vec::new();
        for slot in self.members.current().iter() {
            for (store, touched) in touched.iter().enumerate().filter(|(_, s)| stores_at(file, &s.piece, slot)) {
                let dest = vec![exact(touched.piece.len())];
                let read = self.read_unchecked(file, slot, &[touched.piece], dest).await;
                let (_, records) = read.map_err(|error| VolumeError::Lost(error.to_string()))?;
                let blocks = records[0].digests.0.iter().map(|digest| *digest == Digest::HOLE).collect();
                lacks.push(Lack { slot, store, blocks });
            }
        }
        Ok(lacks)
    }

    /// The write of a member's share of `target`, without the blocks that it lacks.
    fn ask_for_present(&self, file: &File, piece: Piece, target: &Bytes, lack: &Lack) -> Ask {
        let (mut parts, mut payload) = (Vec::new(), Vec::new());
        for run in present_runs(&lack.blocks) {
            let bytes = target.slice(run.clone());
            let store = Store {
                piece: Piece { start: piece.start + run.start, end: piece.start + run.end, ..piece },
                bytes: bytes.clone(),
            };
            parts.push(write_part(file, lack.slot, &store, &digests_of(&bytes).0, file.size()));
            payload.push(bytes);
        }
        let change = Change::Write { id: file.id, size: None, mtime: None, mode: None, parts };
        let now = WriteMeta::default().now;
        Ask { slot: lack.slot, request: self.numbered(now, change), payload }
    }
}

/// Blocks of a store that any of its members lacks: copies have several.
fn absent_anywhere(store: &Store, at: usize, lacks: &[Lack]) -> Vec<bool> {
    let mut absent = vec![false; store.bytes.len() / BLOCK_SIZE];
    for lack in lacks.iter().filter(|lack| lack.store == at) {
        absent.iter_mut().zip(&lack.blocks).for_each(|(any, lacks)| *any |= lacks);
    }
    absent
}

/// Ranges of bytes of the blocks that are there, next to each other as far as they are.
fn present_runs(lacking: &[bool]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (block, _) in lacking.iter().enumerate().filter(|(_, lacks)| !**lacks) {
        let bytes = block * BLOCK_SIZE..(block + 1) * BLOCK_SIZE;
        match runs.last_mut() {
            Some(last) if last.end == bytes.start => last.end = bytes.end,
            _ => runs.push(bytes),
        }
    }
    runs
}

/// What the stores of one stripe are to hold in a file of `size` bytes, where `absent` blocks can only be zeros.
fn targets(geometry: &Geometry, size: u64, touched: &[&Store], absent: &[Vec<bool>]) -> Vec<Bytes> {
    let is_parity = |store: &Store| store.piece.index >= geometry.data_units();
    let parities = || touched.iter().zip(absent).filter(|(store, _)| is_parity(store));
    let row_is_zero = |row: usize| {
        let lacks = |(store, absent): (&&Store, &Vec<bool>)| {
            (store.piece.start..store.piece.end).contains(&row) && absent[(row - store.piece.start) / BLOCK_SIZE]
        };
        parities().any(lacks)
    };
    let mut targets: Vec<BytesMut> = touched.iter().map(|store| BytesMut::from(&store.bytes[..])).collect();
    for at in (0..touched.len()).filter(|&at| !is_parity(touched[at])) {
        let (store, target, absent) = (touched[at], &mut targets[at], &absent[at]);
        let first = geometry.logical(store.piece.stripe, store.piece.index);
        for (block, bytes) in target.chunks_exact_mut(BLOCK_SIZE).enumerate() {
            let row = store.piece.start + block * BLOCK_SIZE;
            if absent[block] || row_is_zero(row) {
                bytes.fill(0);
            } else {
                // Bytes beyond the end count as zeros, in parity too.
                let kept = size.saturating_sub(first + row as u64).min(BLOCK_SIZE as u64) as usize;
                bytes[kept..].fill(0);
            }
        }
    }
    for at in (0..touched.len()).filter(|&at| is_parity(touched[at])) {
        let mut parity = std::mem::take(&mut targets[at]);
        follow(geometry, touched, &targets, touched[at].piece, &mut parity);
        for (block, bytes) in parity.chunks_exact_mut(BLOCK_SIZE).enumerate() {
            if row_is_zero(touched[at].piece.start + block * BLOCK_SIZE) {
                bytes.fill(0);
            }
        }
        targets[at] = parity;
    }
    targets.into_iter().map(BytesMut::freeze).collect()
}

/// Brings one parity of the new bytes up to date with what the data is to be instead.
fn follow(geometry: &Geometry, touched: &[&Store], targets: &[BytesMut], piece: Piece, parity: &mut [u8]) {
    let data = |(store, _): &(&&Store, &BytesMut)| store.piece.index < geometry.data_units();
    for (store, target) in touched.iter().zip(targets).filter(data) {
        let at = &mut parity[store.piece.start - piece.start..store.piece.end - piece.start];
        if piece.index == geometry.data_units() {
            parity::update_p(&store.bytes, target, at);
        } else {
            parity::update_q(store.piece.index, &store.bytes, target, at);
        }
    }
}

#[cfg(test)]
mod tests;
