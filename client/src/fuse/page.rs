//! A page of a directory, filled while it is read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{FileAttr, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::answer::Answer;
use super::capabilities::CACHE_TIME;
use super::convert::{self, GENERATION};
use crate::fs::{DirItem, Errno};

/// A reply that takes entries.
pub(super) trait Entries: Send + 'static {
    /// Adds an entry; `false` when it does not fit any more.
    fn add(&mut self, item: &DirItem) -> bool;
    /// Sends what was added, or the error.
    fn finish(self, result: Result<(), Errno>);
}

/// Entries that the operation adds, and the answer sends: shared, because an answer may not wait for its operation.
pub(super) struct Page<R>(Arc<Mutex<Option<R>>>);

impl<R: Entries> Page<R> {
    pub(super) fn new(reply: R) -> Self {
        Self(Arc::new(Mutex::new(Some(reply))))
    }

    pub(super) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Adds an entry; `false` when it does not fit, or the answer was sent already.
    pub(super) fn add(&self, item: &DirItem) -> bool {
        self.lock().as_mut().is_some_and(|reply| reply.add(item))
    }

    fn lock(&self) -> MutexGuard<'_, Option<R>> {
        // A reply is whole after every entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Entries> Answer for Page<R> {
    type Value = ();

    fn send(self, result: Result<(), Errno>) {
        let reply = self.lock().take();
        if let Some(reply) = reply {
            reply.finish(result);
        }
    }
}

impl Entries for ReplyDirectory {
    fn add(&mut self, item: &DirItem) -> bool {
        let (kind, _) = convert::file_type(&item.kind);
        !ReplyDirectory::add(self, INodeNo(item.id.0), item.next_offset, kind, OsStr::from_bytes(&item.name))
    }

    fn finish(self, result: Result<(), Errno>) {
        match result {
            Ok(()) => self.ok(),
            Err(errno) => self.error(convert::errno(errno)),
        }
    }
}

impl Entries for ReplyDirectoryPlus {
    fn add(&mut self, item: &DirItem) -> bool {
        // Only `.` and `..` come without: the kernel looks at their number and type alone (fs/fuse/readdir.c,
        // `fuse_direntplus_link`).
        let bare = || {
            let (kind, _) = convert::file_type(&item.kind);
            FileAttr { ino: INodeNo(item.id.0), kind, ..convert::NO_ATTRIBUTES }
        };
        let attributes = item.stat.as_ref().map_or_else(bare, convert::attributes);
        let (inode, name) = (INodeNo(item.id.0), OsStr::from_bytes(&item.name));
        !ReplyDirectoryPlus::add(self, inode, item.next_offset, name, &CACHE_TIME, &attributes, GENERATION)
    }

    fn finish(self, result: Result<(), Errno>) {
        match result {
            Ok(()) => self.ok(),
            Err(errno) => self.error(convert::errno(errno)),
        }
    }
}
