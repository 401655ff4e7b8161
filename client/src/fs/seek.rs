//! SEEK_DATA and SEEK_HOLE.
//!
//! A write-back kernel sends FUSE_LSEEK as it is: `fuse_file_llseek` takes the inode's lock and nothing else, so dirty
//! pages, and a size that only the kernel knows, are in no brick. An answer from the bricks would make cp skip them. So
//! the kernel is made to write them back first.

use std::sync::Arc;

use net_raid_proto::ids::ObjectId;

use super::Fs;
use super::errno::Errno;
use super::inode::Life;
use crate::volume::Seek;

/// Has the kernel write the dirty pages of an object back; whether it did. It blocks, while other threads serve the
/// writes, and runs on a thread for blocking calls.
pub type WriteBack = Box<dyn Fn(ObjectId) -> bool + Send + Sync>;

impl Fs {
    /// Says how the kernel is made to write dirty pages back: FUSE_NOTIFY_INVAL_INODE over the whole file does so
    /// (`fuse_reverse_inval_inode` launders what it drops). To be set once, before requests are served. A front
    /// end without a cache says `true` at once.
    pub fn set_write_back(&self, write_back: WriteBack) {
        let _ = self.write_back.set(Arc::new(write_back));
    }

    /// SEEK_DATA and SEEK_HOLE of lseek(2).
    ///
    /// # Errors
    /// ENXIO beyond the end; EINVAL for another `whence`, and when dirty pages could not be written back: programs then
    /// read the file as one without holes, which is right.
    pub async fn lseek(&self, id: ObjectId, offset: i64, whence: i32) -> Result<u64, Errno> {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return Err(Errno::EINVAL),
        };
        let inode = self.inode(id).await?;
        let file = inode.file()?;
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        if inode.state().life == Life::Gone {
            return Err(Errno::ENOENT);
        }
        if inode.state().writers > 0 && !self.written_back(id).await {
            return Err(Errno::EINVAL);
        }
        Ok(self.volume.seek(file, offset, what).await?)
    }

    async fn written_back(&self, id: ObjectId) -> bool {
        let Some(write_back) = self.write_back.get().cloned() else { return false };
        let call = move || write_back(id);
        tokio::task::spawn_blocking(call).await.unwrap_or(false)
    }
}
