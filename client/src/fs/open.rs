//! Open files.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::message::{Change, SetAttr};

use super::Fs;
use super::errno::Errno;
use super::inode::{Inode, Life, State};
use crate::volume::Volume;

/// The bit of a handle that says that it may write; the others count.
const WRITABLE: u64 = 1;

impl Fs {
    /// Opens a regular file; the handle. O_TRUNC is obeyed, for a kernel that leaves it to us (FUSE_ATOMIC_O_TRUNC).
    ///
    /// # Errors
    /// EISDIR, ELOOP and EINVAL for what is no regular file; ENOENT for what is being removed.
    pub async fn open(&self, id: ObjectId, flags: i32) -> Result<u64, Errno> {
        let inode = self.inode(id).await?;
        inode.file()?;
        let handle = self.new_handle(&inode, flags)?;
        if flags & libc::O_TRUNC == 0 {
            return Ok(handle);
        }
        let truncated = self.truncate_open(&inode).await;
        if truncated.is_err() {
            self.release(id, handle);
        }
        truncated.map(|()| handle)
    }

    /// A descriptor of an open file is closed. The kernel has sent all dirty pages and times before it asks, and
    /// bricks acknowledged them, so nothing is left to do: they survive kill -9 of everything.
    ///
    /// # Errors
    /// None so far.
    pub async fn flush(&self, id: ObjectId, _handle: u64) -> Result<(), Errno> {
        if let Some(inode) = self.table.get(id) {
            let mut state = inode.state();
            state.unflushed &= state.writers > 1;
        }
        Ok(())
    }

    /// The last descriptor of an open file is closed.
    pub fn release(&self, id: ObjectId, handle: u64) {
        let Some(inode) = self.table.get(id) else { return };
        if inode.closed(handle & WRITABLE != 0) {
            self.purge(id);
        } else if inode.state().opens == 0 {
            self.volume.release(id);
        }
        drop(inode);
        self.table.settle(id);
    }

    /// Makes a file durable: its bytes, attributes and name.
    ///
    /// # Errors
    /// EIO when it is not on enough members.
    pub async fn fsync(&self, id: ObjectId, data_only: bool) -> Result<(), Errno> {
        let inode = self.inode(id).await?;
        if inode.state().life == Life::Gone {
            return Ok(());
        }
        if !data_only {
            let _order = inode.changes.lock().await;
            send_time(&self.volume, &inode).await?;
        }
        Ok(self.volume.fsync(id, data_only).await?)
    }

    /// Counts an open file.
    pub(super) fn new_handle(&self, inode: &Inode, flags: i32) -> Result<u64, Errno> {
        let writable = flags & libc::O_ACCMODE != libc::O_RDONLY;
        inode.opened(writable)?;
        Ok(self.next_handle.fetch_add(1, Ordering::Relaxed) << 1 | if writable { WRITABLE } else { 0 })
    }

    /// Sends a ctime that bricks do not have before the object is forgotten; not when very many wait, since only the
    /// microseconds between the kernel's clock and ours are lost.
    pub(super) fn send_time_before_drop(&self, id: ObjectId) {
        let Some(inode) = self.table.get(id) else { return };
        if !inode.state().has_unsent_time() || !self.tasks.has_room() {
            return;
        }
        let Some(held) = self.table.held(id) else { return };
        let inode = held.into_kernel();
        let (volume, table) = (self.volume.clone(), self.table.clone());
        self.tasks.spawn(async move {
            send_time_quietly(&volume, &inode).await;
            table.forget(id, 1);
        });
    }

    /// Sends all that [`Fs::send_time_before_drop`] would.
    pub(super) async fn send_unsent_times(&self) {
        for id in self.table.ids(State::has_unsent_time) {
            if let Some(inode) = self.table.get(id) {
                send_time_quietly(&self.volume, &inode).await;
            }
        }
    }
}

async fn send_time_quietly(volume: &Arc<Volume>, inode: &Inode) {
    let _order = inode.changes.lock().await;
    if let Err(error) = send_time(volume, inode).await {
        tracing::debug!(id = %inode.id, %error, "a ctime was not sent");
    }
}

/// Sends the ctime that the kernel gave, if it was kept back; the caller holds `changes`.
async fn send_time(volume: &Arc<Volume>, inode: &Inode) -> Result<(), Errno> {
    let Some(ctime) = inode.state().unsent_time() else { return Ok(()) };
    let change = Change::SetAttr { id: inode.id, set: SetAttr::default() };
    volume.change(change, Bytes::new(), ctime).await?;
    inode.state().ctime_unsent = false;
    Ok(())
}

impl State {
    fn has_unsent_time(&self) -> bool {
        self.unsent_time().is_some()
    }

    fn unsent_time(&self) -> Option<Timestamp> {
        (self.ctime_unsent && self.life == Life::Named).then_some(self.attr.ctime)
    }
}
