//! A regular file as the volume sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::layout::Layout;

use crate::cache::UnitKey;
use crate::layout::Geometry;
use crate::locks::RangeLocks;

/// A regular file: shared by everything that reads and writes it.
pub struct File {
    /// Its id.
    pub id: ObjectId,
    /// Its layout.
    pub layout: Layout,
    pub(super) geometry: Geometry,
    /// Held shared by reads that compare members, exclusively by writes.
    pub(super) locks: RangeLocks,
    size: Arc<AtomicU64>,
    cache_tag: Arc<AtomicU64>,
    /// A write failed without a known outcome: bricks may hold bytes beyond the size, up to here. 0 without any doubt.
    doubtful: Arc<AtomicU64>,
}

/// Tags of cached files are unique within the process, so that no old block is taken for a new one.
static NEXT_TAG: AtomicU64 = AtomicU64::new(1);

impl File {
    /// A file of `size` bytes.
    pub fn new(id: ObjectId, layout: Layout, size: u64) -> File {
        File {
            id,
            layout,
            geometry: Geometry::new(layout, id),
            locks: RangeLocks::default(),
            size: Arc::new(AtomicU64::new(size)),
            cache_tag: Arc::new(AtomicU64::new(NEXT_TAG.fetch_add(1, Ordering::Relaxed))),
            doubtful: Arc::default(),
        }
    }

    /// The same file for a task that outlives the caller: size, locks and cache are shared.
    pub(crate) fn share(&self) -> File {
        File {
            id: self.id,
            layout: self.layout,
            geometry: self.geometry,
            locks: self.locks.clone(),
            size: Arc::clone(&self.size),
            cache_tag: Arc::clone(&self.cache_tag),
            doubtful: Arc::clone(&self.doubtful),
        }
    }

    /// Whether anything goes on with the file: a lock is held, or a task (a repair, a write that waits for servers) has it.
    /// As long as that is so, nobody may make another `File` of the same object: its locks would not be these.
    pub fn is_busy(&self) -> bool {
        self.locks.is_shared()
    }

    /// Logical size.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The size after a write that ends at `end`.
    pub(super) fn grow(&self, end: u64) {
        self.size.fetch_max(end, Ordering::AcqRel);
    }

    /// The size after a truncate; the whole file is locked.
    pub(super) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// Voids what is cached of the file.
    pub(super) fn void_cache(&self) {
        self.cache_tag.store(NEXT_TAG.fetch_add(1, Ordering::Relaxed), Ordering::Release);
    }

    /// Bricks may hold bytes up to `end`, or another size.
    pub(super) fn doubt(&self, end: u64) {
        self.doubtful.fetch_max(end.max(1), Ordering::AcqRel);
    }

    /// Up to where bricks may hold bytes that are none of the file, since an outcome is not known.
    pub(super) fn doubtful_end(&self) -> Option<u64> {
        Some(self.doubtful.load(Ordering::Acquire)).filter(|end| *end > 0)
    }

    pub(super) fn trust(&self) {
        self.doubtful.store(0, Ordering::Release);
    }

    pub(super) fn key(&self, stripe: u64, index: usize) -> UnitKey {
        UnitKey { file: self.cache_tag.load(Ordering::Acquire), stripe, index }
    }
}

/// What a write changes beside bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteMeta {
    /// New mtime; `None` when the kernel sets it later.
    pub mtime: Option<Timestamp>,
    /// New permission bits, when set-id bits go.
    pub mode: Option<u32>,
    /// New ctime, when one of the others is set; otherwise it stays.
    pub now: Timestamp,
}

/// What to seek.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE.
    Hole,
}
