//! Bytes of files.

use std::sync::Arc;

use bytes::Bytes;
use net_raid_proto::ids::ObjectId;

use super::errno::Errno;
use super::inode::Inode;
use super::stat::size_max;
use super::{Fs, mode};
use crate::volume::WriteMeta;

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

impl Fs {
    /// Reads up to the end of the file; `quietly` (O_NOATIME) leaves the time of last access as it is.
    ///
    /// # Errors
    /// EIO beyond the redundancy, or when no copy of a block matches its digest.
    pub async fn read(&self, id: ObjectId, offset: u64, len: usize, quietly: bool) -> Result<Bytes, Errno> {
        let inode = self.inode(id).await?;
        let bytes = self.volume.read(inode.file()?, offset, len).await?;
        if !quietly {
            self.accessed(&inode);
        }
        Ok(bytes)
    }

    /// Writes all of `data`; its length.
    ///
    /// # Errors
    /// EFBIG beyond the largest size, ENOSPC, EIO.
    pub async fn write(
        &self,
        id: ObjectId,
        _handle: u64,
        offset: u64,
        data: Bytes,
        flags: WriteFlags,
    ) -> Result<usize, Errno> {
        let inode = self.inode(id).await?;
        let file = inode.file()?;
        let (len, old_size) = (data.len(), file.size());
        if len == 0 {
            return Ok(0);
        }
        check_end(&inode, if flags.append { old_size } else { offset }, len as u64)?;
        // Times of dirty pages come from the kernel, with a SETATTR of their own.
        let now = self.volume.now();
        let mtime = (!flags.from_cache).then_some(now);
        let killing = if flags.kill_suidgid { Some(self.begin_kill(&inode).await?) } else { None };
        let meta = WriteMeta { mtime, mode: killing.as_ref().and_then(|killing| killing.mode), now };
        let written = match flags.append {
            true => self.volume.append(file, data, meta).await,
            false => self.volume.write(file, offset, data, meta).await.map(|()| offset),
        };
        let offset = written.map_err(|error| {
            let errno = Errno::from(error);
            if flags.from_cache {
                // No program waits for this write.
                let failed = &mut inode.state().failed_writes;
                *failed = (failed.0 + 1, errno);
            }
            errno
        })?;
        inode.wrote(offset, len as u64, old_size, mtime);
        if let Some(mode) = meta.mode {
            let mut state = inode.state();
            state.change(now);
            state.attr.mode = mode;
        }
        Ok(len)
    }

    /// Reserves, punches or zeroes a range, as fallocate(2).
    ///
    /// # Errors
    /// EOPNOTSUPP for other modes than 0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE and ZERO_RANGE | KEEP_SIZE;
    /// EFBIG beyond the largest size; ENOSPC; EINVAL for an empty range.
    pub async fn fallocate(&self, id: ObjectId, _handle: u64, offset: u64, len: u64, mode: i32) -> Result<(), Errno> {
        let inode = self.inode(id).await?;
        let file = inode.file()?;
        let action = Allocation::from_mode(mode)?;
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        check_end(&inode, offset, len)?;
        let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let now = self.volume.now();
        match action {
            Allocation::Reserve => self.volume.allocate(file, offset, len, keep_size, now).await?,
            Allocation::Zero => {
                let meta = WriteMeta { mtime: Some(now), mode: None, now };
                self.volume.zero(file, offset, len, keep_size, meta).await?;
                inode.state().attr.mtime = now;
            }
        }
        let mut state = inode.state();
        (state.blocks_known, state.unsettled) = (false, true);
        state.change(now);
        Ok(())
    }

    /// Prepares a write that clears set-id bits and capabilities. The order against chmod(2) is only taken when there
    /// is something to clear: writers of other files, and of ordinary ones, never wait here.
    async fn begin_kill<'a>(&self, inode: &'a Arc<Inode>) -> Result<Killing<'a>, Errno> {
        let before = inode.state().attr.mode;
        let capable = self.has_capability(inode).await?;
        if mode::after_write(before) == before && !capable {
            return Ok(Killing { mode: None, _order: None });
        }
        let order = inode.changes.lock().await;
        if capable {
            self.remove_capability(inode).await?;
        }
        let before = inode.state().attr.mode;
        let after = mode::after_write(before);
        Ok(Killing { mode: (after != before).then_some(after), _order: Some(order) })
    }
}

/// What a write clears, with the order that it holds until it is done.
struct Killing<'a> {
    mode: Option<u32>,
    _order: Option<tokio::sync::MutexGuard<'a, ()>>,
}

/// What fallocate(2) asks for.
#[derive(Debug, PartialEq, Eq)]
enum Allocation {
    Reserve,
    Zero,
}

impl Allocation {
    fn from_mode(mode: i32) -> Result<Allocation, Errno> {
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        match mode {
            0 | libc::FALLOC_FL_KEEP_SIZE => Ok(Allocation::Reserve),
            PUNCH | libc::FALLOC_FL_ZERO_RANGE | ZERO_KEEP => Ok(Allocation::Zero),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }
}

/// Refuses what ends beyond the largest size.
fn check_end(inode: &Inode, offset: u64, len: u64) -> Result<(), Errno> {
    let fits = offset.checked_add(len).is_some_and(|end| end <= size_max(&inode.layout));
    if fits { Ok(()) } else { Err(Errno::EFBIG) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_fallocate() {
        for (mode, expected) in [
            (0, Ok(Allocation::Reserve)),
            (1, Ok(Allocation::Reserve)),
            (3, Ok(Allocation::Zero)),
            (0x10, Ok(Allocation::Zero)),
            (0x11, Ok(Allocation::Zero)),
            (2, Err(Errno::EOPNOTSUPP)),
            (0x08, Err(Errno::EOPNOTSUPP)),
            (0x20, Err(Errno::EOPNOTSUPP)),
            (0x40, Err(Errno::EOPNOTSUPP)),
        ] {
            assert_eq!(Allocation::from_mode(mode), expected, "{mode:#x}");
        }
    }
}
