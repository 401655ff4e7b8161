//! A page of a directory, filled while it is read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{FileAttr, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use net_raid_proto::ids::ObjectId;

use super::answer::Answer;
use super::capabilities::CACHE_TIME;
use super::convert::{self, GENERATION};
use crate::fs::{DirItem, Errno, Fs};

/// Where a reading goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) directory: ObjectId,
    /// Of the open directory.
    pub(super) handle: u64,
    pub(super) offset: u64,
}

fn is_dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

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
    fn add(&self, item: &DirItem) -> bool {
        self.lock().as_mut().is_some_and(|reply| reply.add(item))
    }

    /// Adds names, as many as fit.
    pub(super) async fn fill(&self, fs: &Fs, place: Place) -> Result<(), Errno> {
        fs.readdir(place.directory, place.handle, place.offset, false, &mut |item| self.add(&item)).await
    }

    /// Adds names with attributes, as many as fit.
    ///
    /// The kernel would take an entry without, but fuser cannot say that: it has one number for the inode and for the reference
    /// to it. So these are looked up, which cannot be outdated before the kernel has it: the kernel keeps the directory locked
    /// while it reads (fs/readdir.c, `iterate_dir`).
    pub(super) async fn fill_plus(&self, fs: &Fs, mut place: Place) -> Result<(), Errno> {
        let mut is_empty = true;
        loop {
            let mut bare = None;
            let mut add = |item: DirItem| {
                if item.stat.is_none() && !is_dots(&item.name) {
                    bare = Some(item);
                    return false;
                }
                let is_added = self.add(&item);
                is_empty &= !is_added;
                is_added
            };
            fs.readdir(place.directory, place.handle, place.offset, true, &mut add).await?;
            let Some(mut item) = bare else { return Ok(()) };
            match fs.lookup(place.directory, &item.name).await {
                Ok(stat) => {
                    let id = stat.id;
                    (item.id, item.kind, item.stat) = (id, stat.kind.clone(), Some(stat));
                    if !self.add(&item) {
                        fs.forget(id, 1);
                        return Ok(());
                    }
                    is_empty = false;
                }
                Err(Errno(libc::ENOENT)) => {}
                // What is on the page is right, and the error comes again with the next page.
                Err(_) if !is_empty => return Ok(()),
                Err(errno) => return Err(errno),
            }
            place.offset = item.next_offset;
        }
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
