//! Which files are open for writing: only those can have dirty pages in the kernel's cache.
//!
//! The kernel writes them before it releases a file (fs/fuse/file.c, `fuse_flush` and `fuse_release` call
//! `write_inode_now`), mappings included, since a mapping holds its file open.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use net_raid_proto::ids::ObjectId;

/// Counts handles that may write.
#[derive(Debug, Default)]
pub(super) struct Writers(Mutex<HashMap<ObjectId, u64>>);

impl Writers {
    /// A file was opened with these open(2) flags.
    pub(super) fn opened(&self, id: ObjectId, flags: i32) {
        if may_write(flags) {
            *self.lock().entry(id).or_default() += 1;
        }
    }

    /// The kernel released what was opened with these flags.
    pub(super) fn released(&self, id: ObjectId, flags: i32) {
        let mut counts = self.lock();
        if let Some(count) = counts.get_mut(&id).filter(|_| may_write(flags)) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&id);
            }
        }
    }

    /// Whether the kernel may have bytes of the file that it has not written yet.
    pub(super) fn may_be_dirty(&self, id: ObjectId) -> bool {
        self.lock().contains_key(&id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectId, u64>> {
        // Counts are right after every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn may_write(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY
}
