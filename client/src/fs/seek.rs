//! SEEK_DATA and SEEK_HOLE.
//!
//! A write-back kernel sends FUSE_LSEEK as it is: `fuse_file_llseek` takes the inode's lock and nothing else, so dirty
//! pages, and a size that only the kernel knows, are in no brick. An answer from the bricks would make cp skip them, and
//! no answer is right for all programs when even the size is not known. So it is the front end that has the
//! kernel write them back before it asks here.

use net_raid_proto::ids::ObjectId;

use super::Fs;
use super::errno::Errno;
use crate::volume::Seek;

impl Fs {
    /// SEEK_DATA and SEEK_HOLE of lseek(2), in what was written. A front end whose kernel may have dirty pages of the
    /// file has them written back first; when it cannot, it answers EINVAL itself, whereupon programs read the
    /// file as one without holes.
    ///
    /// # Errors
    /// ENXIO beyond the end; EINVAL for another `whence`.
    pub async fn lseek(&self, id: ObjectId, offset: i64, whence: i32) -> Result<u64, Errno> {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return Err(Errno::EINVAL),
        };
        let inode = self.inode(id).await?;
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        Ok(self.volume.seek(inode.file()?, offset, what).await?)
    }
}
