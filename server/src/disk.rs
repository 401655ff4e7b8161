//! World boundary: everything that a brick asks of the operating system's files.
//!
//! [`Disk`] is the brick's only seam: the real disk stands behind it, or a simulated one that loses
//! what was not synced, tears, fails and fills up. Calls are synchronous and take open handles plus
//! at most checked names, so no call can leave the brick's directory or follow a symbolic link.

mod real;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use real::{LockError, RealDisk, RealHandle, RootError};

use std::io;

use net_raid_proto::ids::{Name, Timestamp};
use net_raid_proto::message::{Kind, Space};

/// What a file system says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Local type.
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks.
    pub blocks: u64,
    /// Time of last access.
    pub atime: Timestamp,
    /// Time of last modification.
    pub mtime: Timestamp,
}

/// One entry of a directory; `.` and `..` are never among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirItem {
    /// Its name.
    pub name: Name,
    /// Cursor of the entry behind it.
    pub next: u64,
}

/// What a rename does with an object at its new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails with EEXIST.
    NoReplace,
    /// Moves it to the old name.
    Exchange,
}

/// What must be there before an extended attribute is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// Anything.
    Any,
    /// Nothing, else EEXIST.
    Create,
    /// A value, else ENODATA.
    Replace,
}

/// A write that ended early.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct ShortWrite {
    /// Bytes from the start that were written.
    pub written: usize,
    /// Why no more.
    pub source: io::Error,
}

/// A tree of files on one file system.
///
/// Every call repeats itself after EINTR and after short reads and writes. No call follows a
/// symbolic link, opens a FIFO, socket or device, or leaves the file system.
pub trait Disk: Send + Sync + 'static {
    /// An open object: a file for reading and writing, a directory, or a bare reference to anything else.
    type Handle: Send + Sync + 'static;

    /// The directory that is served.
    fn root(&self) -> io::Result<Self::Handle>;
    /// How many handles may be open at once.
    fn handles_max(&self) -> usize;

    /// Opens what `path` below `dir` names, `dir` itself when it is empty.
    fn open(&self, dir: &Self::Handle, path: &[&Name]) -> io::Result<(Self::Handle, Stat)>;
    /// Makes a regular file; EEXIST when the name is taken.
    fn create(&self, dir: &Self::Handle, name: &Name, mode: u32) -> io::Result<Self::Handle>;
    /// Makes a directory.
    fn mkdir(&self, dir: &Self::Handle, name: &Name, mode: u32) -> io::Result<()>;
    /// Makes a symbolic link.
    fn symlink(&self, dir: &Self::Handle, name: &Name, target: &[u8]) -> io::Result<()>;
    /// Makes a FIFO, socket or device.
    fn mknod(&self, dir: &Self::Handle, name: &Name, kind: &Kind, mode: u32) -> io::Result<()>;
    /// Gives an object that is no directory a second name.
    fn link(&self, dir: &Self::Handle, name: &Name, to: &Self::Handle, to_name: &Name) -> io::Result<()>;
    /// Removes a name of an object that is no directory.
    fn unlink(&self, dir: &Self::Handle, name: &Name) -> io::Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, dir: &Self::Handle, name: &Name) -> io::Result<()>;
    /// Renames.
    fn rename(
        &self,
        dir: &Self::Handle,
        name: &Name,
        to: &Self::Handle,
        to_name: &Name,
        mode: RenameMode,
    ) -> io::Result<()>;
    /// Entries from `cursor` (0 at first) on; none at the end.
    fn read_dir(&self, dir: &Self::Handle, cursor: u64) -> io::Result<Vec<DirItem>>;
    /// Target of a symbolic link.
    fn read_link(&self, link: &Self::Handle) -> io::Result<Vec<u8>>;

    /// Attributes.
    fn stat(&self, object: &Self::Handle) -> io::Result<Stat>;
    /// Attributes of what a name names.
    fn stat_at(&self, dir: &Self::Handle, name: &Name) -> io::Result<Stat>;
    /// Sets permission, set-id and sticky bits.
    fn set_mode(&self, object: &Self::Handle, mode: u32) -> io::Result<()>;
    /// Sets owner and group; may clear set-id bits.
    fn set_owner(&self, object: &Self::Handle, uid: Option<u32>, gid: Option<u32>) -> io::Result<()>;
    /// Sets times.
    fn set_times(&self, object: &Self::Handle, atime: Option<Timestamp>, mtime: Option<Timestamp>) -> io::Result<()>;

    /// Value of an extended attribute, `None` when there is none.
    fn get_xattr(&self, object: &Self::Handle, attr: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// The same of what a name names.
    fn get_xattr_at(&self, dir: &Self::Handle, name: &Name, attr: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// Sets an extended attribute.
    fn set_xattr(&self, object: &Self::Handle, attr: &[u8], value: &[u8], mode: XattrMode) -> io::Result<()>;
    /// Removes an extended attribute; ENODATA when there is none.
    fn remove_xattr(&self, object: &Self::Handle, attr: &[u8]) -> io::Result<()>;
    /// Names of the extended attributes, each ended by NUL.
    fn list_xattr(&self, object: &Self::Handle) -> io::Result<Vec<u8>>;

    /// Appends up to `len` bytes from `offset` on to `out`; fewer only at the end of the file.
    /// On an error `out` may have grown.
    fn read_at(&self, file: &Self::Handle, out: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<usize>;
    /// Writes all of `data`.
    fn write_at(&self, file: &Self::Handle, data: &[u8], offset: u64) -> Result<(), ShortWrite>;
    /// Whether a read would be answered from memory.
    fn is_cached(&self, file: &Self::Handle, len: usize, offset: u64) -> bool;
    /// Cuts or extends.
    fn truncate(&self, file: &Self::Handle, len: u64) -> io::Result<()>;
    /// Makes a range a hole; the length stays.
    fn punch(&self, file: &Self::Handle, offset: u64, len: u64) -> io::Result<()>;
    /// Reserves space.
    fn allocate(&self, file: &Self::Handle, offset: u64, len: u64, keep_size: bool) -> io::Result<()>;
    /// First range of data that ends behind `offset`, its start not before `offset`.
    fn next_data(&self, file: &Self::Handle, offset: u64) -> io::Result<Option<(u64, u64)>>;

    /// Has what was written to a file begin to go to the disk, without waiting for it. It makes nothing durable, and may do nothing.
    fn begin_write_back(&self, file: &Self::Handle);
    /// Makes content and length durable; extended attributes need [`Disk::sync_all`].
    fn sync_data(&self, file: &Self::Handle) -> io::Result<()>;
    /// Makes a file with its attributes, or a directory's names, durable.
    fn sync_all(&self, object: &Self::Handle) -> io::Result<()>;
    /// Makes everything durable.
    fn sync_fs(&self) -> io::Result<()>;
    /// Space and inodes.
    fn space(&self) -> io::Result<Space>;
}
