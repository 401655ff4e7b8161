//! Redundancy: one volume over its members. (Stub: bodies follow.)

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use net_raid_proto::ids::{Name, ObjectId, Timestamp};
use net_raid_proto::layout::Layout;
use net_raid_proto::message::{Change, DirEntry, Entry, Space};

/// Why an operation of the volume failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VolumeError {
    /// What a program gets: a Linux errno that the bricks agree on.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Errno(i32),
    /// Beyond the redundancy, damaged beyond repair, or taken over: EIO.
    #[error("{0}")]
    Lost(String),
}

impl VolumeError {
    /// The errno for a program.
    pub fn errno(&self) -> i32 {
        match self {
            VolumeError::Errno(errno) => *errno,
            VolumeError::Lost(_) => libc::EIO,
        }
    }
}

/// Tells where objects are, for bricks that forgot.
pub trait PathSource: Send + Sync {
    /// Names from the root to the object; `None` when it has none (any more).
    fn path_of(&self, id: ObjectId) -> Option<Vec<Name>>;
}

/// A regular file as the volume sees it: shared by everything that reads and writes it.
pub struct File {
    /// Its id.
    pub id: ObjectId,
    /// Its layout.
    pub layout: Layout,
    /// Logical size; the volume keeps it right.
    size: AtomicU64,
}

impl File {
    /// A file of `size` bytes.
    pub fn new(id: ObjectId, layout: Layout, size: u64) -> File {
        File { id, layout, size: AtomicU64::new(size) }
    }

    /// Logical size.
    pub fn size(&self) -> u64 {
        self.size.load(std::sync::atomic::Ordering::Acquire)
    }
}

/// What a write changes beside bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteMeta {
    /// New mtime; `None` when the kernel sets it later.
    pub mtime: Option<Timestamp>,
    /// New permission bits, when set-id bits go.
    pub mode: Option<u32>,
}

/// What to seek.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE.
    Hole,
}

/// A mounted volume.
pub struct Volume {}

#[allow(unused_variables)]
impl Volume {
    /// Sets where paths of objects are found.
    pub fn set_paths(&self, paths: Arc<dyn PathSource>) {
        todo!()
    }
    /// Time of day, for times of changes.
    pub fn now(&self) -> Timestamp {
        todo!()
    }
    /// A new object id.
    pub fn new_id(&self) -> Result<ObjectId, VolumeError> {
        todo!()
    }
    /// Layout of new files.
    pub fn layout(&self) -> Layout {
        todo!()
    }
    /// Finds a name (from one member).
    pub async fn lookup(&self, parent: ObjectId, name: &Name) -> Result<Entry, VolumeError> {
        todo!()
    }
    /// Attributes as the bricks have them.
    pub async fn getattr(&self, id: ObjectId) -> Result<Entry, VolumeError> {
        todo!()
    }
    /// A whole directory, in no order, without `.` and `..`.
    pub async fn read_dir(&self, id: ObjectId, attributes: bool) -> Result<Vec<DirEntry>, VolumeError> {
        todo!()
    }
    /// Target of a symbolic link.
    pub async fn read_link(&self, id: ObjectId) -> Result<Vec<u8>, VolumeError> {
        todo!()
    }
    /// Value of an extended attribute; ENODATA.
    pub async fn get_xattr(&self, id: ObjectId, name: &[u8]) -> Result<Vec<u8>, VolumeError> {
        todo!()
    }
    /// Names of extended attributes, each ended by NUL.
    pub async fn list_xattr(&self, id: ObjectId) -> Result<Vec<u8>, VolumeError> {
        todo!()
    }
    /// Space as a program sees it (logical bytes).
    pub async fn stat_fs(&self) -> Result<Space, VolumeError> {
        todo!()
    }
    /// A change of names or attributes on all members: everything but Write, Truncate, Punch, Allocate.
    /// Acknowledged by all current members when it returns. `now` becomes the ctime.
    pub async fn change(&self, change: Change, payload: Bytes, now: Timestamp) -> Result<(), VolumeError> {
        todo!()
    }
    /// Reads up to the logical size; every byte verified.
    pub async fn read(&self, file: &File, offset: u64, len: usize) -> Result<Bytes, VolumeError> {
        todo!()
    }
    /// Writes; extends the logical size when it ends beyond it.
    pub async fn write(&self, file: &File, offset: u64, data: Bytes, meta: WriteMeta) -> Result<(), VolumeError> {
        todo!()
    }
    /// Appends at the logical size, whatever it is then; returns the offset.
    pub async fn append(&self, file: &File, data: Bytes, meta: WriteMeta) -> Result<u64, VolumeError> {
        todo!()
    }
    /// Sets the logical size.
    pub async fn truncate(&self, file: &File, size: u64, meta: WriteMeta) -> Result<(), VolumeError> {
        todo!()
    }
    /// Makes a range read as zeros and frees whole units; extends the size unless `keep_size`.
    pub async fn zero(
        &self,
        file: &File,
        offset: u64,
        len: u64,
        keep_size: bool,
        meta: WriteMeta,
    ) -> Result<(), VolumeError> {
        todo!()
    }
    /// Reserves space; extends the size unless `keep_size`.
    pub async fn allocate(&self, file: &File, offset: u64, len: u64, keep_size: bool) -> Result<(), VolumeError> {
        todo!()
    }
    /// Next data or hole at or after `offset`; ENXIO beyond the end.
    pub async fn seek(&self, file: &File, offset: u64, what: Seek) -> Result<u64, VolumeError> {
        todo!()
    }
    /// Makes an object durable on all members.
    pub async fn fsync(&self, id: ObjectId, data_only: bool) -> Result<(), VolumeError> {
        todo!()
    }
    /// Makes everything durable on all members.
    pub async fn sync_all(&self) -> Result<(), VolumeError> {
        todo!()
    }
    /// The last handle of an object is closed; does not wait.
    pub fn release(&self, id: ObjectId) {
        todo!()
    }
    /// Everything durable, ownership given up, connections closed.
    pub async fn close(&self) {
        todo!()
    }
}
