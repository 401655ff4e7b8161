//! The file system: POSIX semantics over a volume, without any FUSE type.
//!
//! `docs/semantics.md` says what a program can rely on, and why it is done so.

use std::sync::Arc;

use bytes::Bytes;
use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::message::{Kind, Space};

use crate::volume::{Volume, VolumeError};

/// Who asks: as the kernel says (file system ids), with the process for its other groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Process; 0 when it is not visible here.
    pub pid: u32,
}

/// A Linux errno, positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl From<VolumeError> for Errno {
    fn from(error: VolumeError) -> Errno {
        Errno(error.errno())
    }
}

/// Attributes as a program sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The object, also its inode number.
    pub id: ObjectId,
    /// Type.
    pub kind: Kind,
    /// Permission, set-id and sticky bits (0o7777).
    pub mode: u32,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Time of last access.
    pub atime: Timestamp,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Time of last change.
    pub ctime: Timestamp,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the change.
    Now,
    /// This time.
    At(Timestamp),
}

/// Attributes to set; those that are `None` stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttrs {
    /// Permission, set-id and sticky bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Time of last access.
    pub atime: Option<SetTime>,
    /// Time of last modification.
    pub mtime: Option<SetTime>,
    /// Time of change, from a kernel that keeps it (write-back).
    pub ctime: Option<Timestamp>,
    /// Clear set-id bits and capabilities (FATTR_KILL_SUIDGID).
    pub kill_suidgid: bool,
    /// The open file through which it is done.
    pub handle: Option<u64>,
}

/// How a write is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteFlags {
    /// Dirty pages of the kernel's cache, whose times it sends later (FUSE_WRITE_CACHE).
    pub from_cache: bool,
    /// Clear set-id bits and capabilities (FUSE_WRITE_KILL_SUIDGID).
    pub kill_suidgid: bool,
    /// Write at the end of the file, wherever it is then: for front ends without a kernel in between.
    pub append: bool,
}

/// One entry of a directory, as handed to the front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirItem {
    /// Its name, also `.` and `..`.
    pub name: Vec<u8>,
    /// Its inode number.
    pub id: ObjectId,
    /// Its type.
    pub kind: Kind,
    /// Offset from which a reading goes on behind this entry.
    pub next_offset: u64,
    /// Its attributes, when asked for with `plus`. An item with attributes that was accepted counts one
    /// kernel reference; `.` and `..` never do and come without.
    pub stat: Option<Stat>,
}

/// A mounted file system.
pub struct Fs {
    #[expect(dead_code, reason = "bodies follow")]
    volume: Arc<Volume>,
}

#[expect(unused_variables, reason = "bodies follow")]
impl Fs {
    /// A file system over `volume`. To be called within a tokio runtime.
    pub fn new(volume: Arc<Volume>) -> Arc<Fs> {
        Arc::new(Fs { volume })
    }
    /// Finds a name; counts one kernel reference.
    pub async fn lookup(&self, parent: ObjectId, name: &[u8]) -> Result<Stat, Errno> {
        todo!()
    }
    /// Takes back kernel references.
    pub fn forget(&self, id: ObjectId, count: u64) {
        todo!()
    }
    /// Attributes.
    pub async fn getattr(&self, id: ObjectId) -> Result<Stat, Errno> {
        todo!()
    }
    /// Sets attributes.
    pub async fn setattr(&self, caller: &Caller, id: ObjectId, set: SetAttrs) -> Result<Stat, Errno> {
        todo!()
    }
    /// Target of a symbolic link.
    pub async fn readlink(&self, id: ObjectId) -> Result<Vec<u8>, Errno> {
        todo!()
    }
    /// Makes a file, fifo, socket or device; counts one kernel reference.
    pub async fn mknod(
        &self,
        caller: &Caller,
        parent: ObjectId,
        name: &[u8],
        kind: Kind,
        mode: u32,
        umask: u32,
    ) -> Result<Stat, Errno> {
        todo!()
    }
    /// Makes a directory; counts one kernel reference.
    pub async fn mkdir(
        &self,
        caller: &Caller,
        parent: ObjectId,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> Result<Stat, Errno> {
        todo!()
    }
    /// Makes a symbolic link; counts one kernel reference.
    pub async fn symlink(
        &self,
        caller: &Caller,
        parent: ObjectId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Stat, Errno> {
        todo!()
    }
    /// Adds a name; counts one kernel reference.
    pub async fn link(&self, id: ObjectId, parent: ObjectId, name: &[u8]) -> Result<Stat, Errno> {
        todo!()
    }
    /// Removes a name.
    pub async fn unlink(&self, parent: ObjectId, name: &[u8]) -> Result<(), Errno> {
        todo!()
    }
    /// Removes an empty directory.
    pub async fn rmdir(&self, parent: ObjectId, name: &[u8]) -> Result<(), Errno> {
        todo!()
    }
    /// Renames; `flags` as renameat2(2).
    pub async fn rename(
        &self,
        parent: ObjectId,
        name: &[u8],
        new_parent: ObjectId,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        todo!()
    }
    /// Opens a regular file; the handle.
    pub async fn open(&self, id: ObjectId, flags: i32) -> Result<u64, Errno> {
        todo!()
    }
    /// Makes a regular file and opens it; counts one kernel reference.
    pub async fn create(
        &self,
        caller: &Caller,
        parent: ObjectId,
        name: &[u8],
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> Result<(Stat, u64), Errno> {
        todo!()
    }
    /// Reads up to the end of the file.
    pub async fn read(&self, id: ObjectId, offset: u64, len: usize) -> Result<Bytes, Errno> {
        todo!()
    }
    /// Writes all of `data`.
    pub async fn write(
        &self,
        id: ObjectId,
        handle: u64,
        offset: u64,
        data: Bytes,
        flags: WriteFlags,
    ) -> Result<usize, Errno> {
        todo!()
    }
    /// A descriptor of an open file is closed.
    pub async fn flush(&self, id: ObjectId, handle: u64) -> Result<(), Errno> {
        todo!()
    }
    /// The last descriptor of an open file is closed.
    pub fn release(&self, id: ObjectId, handle: u64) {
        todo!()
    }
    /// Makes a file durable.
    pub async fn fsync(&self, id: ObjectId, data_only: bool) -> Result<(), Errno> {
        todo!()
    }
    /// Opens a directory; the handle.
    pub async fn opendir(&self, id: ObjectId) -> Result<u64, Errno> {
        todo!()
    }
    /// Hands entries from `offset` on to `add` until it says `false` (full; that entry comes again).
    pub async fn readdir(
        &self,
        id: ObjectId,
        handle: u64,
        offset: u64,
        plus: bool,
        add: &mut (dyn FnMut(DirItem) -> bool + Send),
    ) -> Result<(), Errno> {
        todo!()
    }
    /// Closes a directory.
    pub fn releasedir(&self, handle: u64) {
        todo!()
    }
    /// Makes a directory durable.
    pub async fn fsyncdir(&self, id: ObjectId, data_only: bool) -> Result<(), Errno> {
        todo!()
    }
    /// Space.
    pub async fn statfs(&self) -> Result<Space, Errno> {
        todo!()
    }
    /// Sets an extended attribute; `flags` as setxattr(2).
    pub async fn setxattr(
        &self,
        caller: &Caller,
        id: ObjectId,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        todo!()
    }
    /// Value of an extended attribute.
    pub async fn getxattr(&self, id: ObjectId, name: &[u8]) -> Result<Vec<u8>, Errno> {
        todo!()
    }
    /// Names of extended attributes, each ended by NUL.
    pub async fn listxattr(&self, id: ObjectId) -> Result<Vec<u8>, Errno> {
        todo!()
    }
    /// Removes an extended attribute.
    pub async fn removexattr(&self, id: ObjectId, name: &[u8]) -> Result<(), Errno> {
        todo!()
    }
    /// fallocate(2).
    pub async fn fallocate(&self, id: ObjectId, handle: u64, offset: u64, len: u64, mode: i32) -> Result<(), Errno> {
        todo!()
    }
    /// SEEK_DATA and SEEK_HOLE of lseek(2).
    pub async fn lseek(&self, id: ObjectId, offset: i64, whence: i32) -> Result<u64, Errno> {
        todo!()
    }
    /// Makes everything durable and closes the volume.
    pub async fn close(&self) {
        todo!()
    }
}
