//! Records of units: generation of the last write and one digest a block. See docs/on-disk.md.

use net_raid_proto::ids::{Digest, Generation};
use net_raid_proto::limits::{BLOCK_SIZE, BLOCKS_PER_UNIT};

/// Bytes of a record in a side file.
pub(super) const RECORD_LEN: usize = 8 + 16 * BLOCKS_PER_UNIT;

/// Digest of a block whose record is damaged.
pub(super) const UNKNOWN: Digest = Digest::UNKNOWN;

/// What stands for one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Generation of its last write, 0 when it was never written.
    pub(super) generation: Generation,
    /// One digest a block.
    pub(super) digests: [Digest; BLOCKS_PER_UNIT],
}

impl Record {
    /// A unit that was never written.
    pub(super) const BLANK: Record = Record { generation: Generation(0), digests: [Digest::HOLE; BLOCKS_PER_UNIT] };

    /// A unit of holes, made so in `generation`.
    pub(super) fn hole(generation: Generation) -> Record {
        Record { generation, ..Record::BLANK }
    }

    /// A unit of which nobody knows what was written, with `len` bytes at most.
    pub(super) fn unknown(len: u64) -> Record {
        let mut record = Record::BLANK;
        let blocks = len.div_ceil(BLOCK_SIZE as u64).min(BLOCKS_PER_UNIT as u64) as usize;
        record.digests[..blocks].fill(UNKNOWN);
        record
    }

    pub(super) fn encode(&self) -> [u8; RECORD_LEN] {
        let mut out = [0; RECORD_LEN];
        out[4..8].copy_from_slice(&generation_bytes(self.generation));
        for (place, digest) in out[8..].chunks_exact_mut(16).zip(&self.digests) {
            place.copy_from_slice(&digest.0);
        }
        let crc = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a record; a torn one says so by [`UNKNOWN`] digests.
    pub(super) fn decode(bytes: &[u8; RECORD_LEN]) -> Record {
        if bytes.iter().all(|&byte| byte == 0) {
            return Record::BLANK;
        }
        if is_torn(bytes) {
            return Record { generation: Generation(0), digests: [UNKNOWN; BLOCKS_PER_UNIT] };
        }
        Record::as_it_stands(bytes)
    }

    /// A record that was torn while it was overwritten. What the old and the new one have in common is right in it, and of
    /// the rest nothing may be. `None` when it is whole.
    pub(super) fn decode_torn(bytes: &[u8; RECORD_LEN]) -> Option<Record> {
        is_torn(bytes).then(|| Record::as_it_stands(bytes))
    }

    fn as_it_stands(bytes: &[u8; RECORD_LEN]) -> Record {
        let generation = u32::from_le_bytes(bytes[4..8].try_into().expect("4 bytes"));
        let mut record = Record::hole(Generation(generation.into()));
        for (digest, place) in record.digests.iter_mut().zip(bytes[8..].chunks_exact(16)) {
            digest.0.copy_from_slice(place);
        }
        record
    }
}

fn is_torn(bytes: &[u8; RECORD_LEN]) -> bool {
    let crc = u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"));
    crc != crc32c::crc32c(&bytes[4..]) && bytes.iter().any(|&byte| byte != 0)
}

/// A generation as stored: 32 bits of checkpoints, half a minute each, last 4,000 years.
pub(super) fn generation_bytes(generation: Generation) -> [u8; 4] {
    u32::try_from(generation.0).unwrap_or(u32::MAX).to_le_bytes()
}
