//! Open files.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::message::{Change, SetAttr};

use super::Fs;
use super::errno::Errno;
use super::inode::{Inode, Life, State};
use crate::volume::Volume;

/// The bit of a handle that says that it may write; the others count.
const WRITABLE: u64 = 1;
/// Objects whose times are sent at the same time when the file system ends.
const SENT_AT_ONCE: usize = 64;

/// Failed writes of dirty pages that open files were told of: by handle, of those that may write.
///
/// A kernel says to one close(2) or fsync(2) that pages were lost, and forgets it; but everybody who may have written them
/// has to hear of that.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<u64, u64>>);

impl Told {
    fn all(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so many failures are news to the file.
    fn is_news(&self, handle: u64, failed: u64) -> bool {
        self.all().get_mut(&handle).is_some_and(|told| std::mem::replace(told, failed) != failed)
    }
}

impl Fs {
    /// Opens a regular file; the handle. O_TRUNC is obeyed, for a kernel that leaves it to us (FUSE_ATOMIC_O_TRUNC).
    ///
    /// # Errors
    /// EISDIR, ELOOP and EINVAL for what is no regular file; ENOENT for what is being removed.
    pub async fn open(&self, id: ObjectId, flags: i32) -> Result<u64, Errno> {
        let inode = self.inode(id).await?;
        inode.file()?;
        let handle = self.new_handle(&inode, flags)?;
        self.volume.opened(id);
        if flags & libc::O_TRUNC == 0 {
            return Ok(handle);
        }
        let truncated = self.truncate_open(&inode).await;
        if truncated.is_err() {
            self.release(id, handle);
        }
        truncated.map(|()| handle)
    }

    /// A descriptor of an open file is closed. The kernel has sent all dirty pages and times before it asks, and bricks
    /// acknowledged them, so nothing is left to do: they survive kill -9 of everything.
    ///
    /// # Errors
    /// Once an open file, when dirty pages could not be written since it was opened: why the last one could not.
    pub async fn flush(&self, id: ObjectId, handle: u64) -> Result<(), Errno> {
        let Some(inode) = self.table.get(id) else { return Ok(()) };
        let (failed, errno) = {
            let mut state = inode.state();
            state.unflushed &= state.writers > 1;
            state.failed_writes
        };
        if self.told.is_news(handle, failed) { Err(errno) } else { Ok(()) }
    }

    /// The last descriptor of an open file is closed.
    pub fn release(&self, id: ObjectId, handle: u64) {
        self.told.all().remove(&handle);
        let Some(inode) = self.table.get(id) else { return };
        if inode.closed(handle & WRITABLE != 0) {
            self.purge(id);
        } else if inode.begin_settling() {
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
        let unsent = inode.state().ctime_unsent;
        if unsent && !data_only {
            let _order = inode.changes.lock().await;
            send_times(&self.volume, &inode).await?;
        }
        Ok(self.volume.fsync(id, data_only).await?)
    }

    /// Counts an open file.
    pub(super) fn new_handle(&self, inode: &Inode, flags: i32) -> Result<u64, Errno> {
        let writable = flags & libc::O_ACCMODE != libc::O_RDONLY;
        inode.opened(writable)?;
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed) << 1;
        if !writable {
            return Ok(number);
        }
        let handle = number | WRITABLE;
        self.told.all().insert(handle, inode.state().failed_writes.0);
        Ok(handle)
    }

    /// Notes that an object was read.
    pub(super) fn accessed(&self, inode: &Inode) {
        inode.state().access(self.volume.now());
    }

    /// Sends times that bricks do not have before the object is forgotten; not when very many wait, since only an atime, or the
    /// microseconds between the kernel's clock and ours, are lost.
    pub(super) fn send_times_before_drop(&self, id: ObjectId) {
        let Some(inode) = self.table.get(id) else { return };
        if !inode.state().has_unsent_times() || !self.tasks.has_room() {
            return;
        }
        let Some(held) = self.table.held(id) else { return };
        let inode = held.into_kernel();
        let (volume, table) = (self.volume.clone(), self.table.clone());
        self.tasks.spawn(async move {
            send_times_quietly(&volume, &inode).await;
            table.forget(id, 1);
        });
    }

    /// Sends all that [`Fs::send_times_before_drop`] would.
    pub(super) async fn send_unsent_times(&self) {
        let inodes = self.table.ids(State::has_unsent_times).into_iter().filter_map(|id| self.table.get(id));
        let send = |inode: Arc<Inode>| async move { send_times_quietly(&self.volume, &inode).await };
        futures_util::stream::iter(inodes).for_each_concurrent(SENT_AT_ONCE, send).await;
    }
}

async fn send_times_quietly(volume: &Arc<Volume>, inode: &Inode) {
    let _order = inode.changes.lock().await;
    if let Err(error) = send_times(volume, inode).await {
        tracing::debug!(id = %inode.id, %error, "times were not sent");
    }
}

/// Sends the times that were kept back; the caller holds `changes`.
async fn send_times(volume: &Arc<Volume>, inode: &Inode) -> Result<(), Errno> {
    let Some((set, ctime)) = inode.state().unsent_times() else { return Ok(()) };
    volume.change(Change::SetAttr { id: inode.id, set }, Bytes::new(), ctime).await?;
    let mut state = inode.state();
    state.ctime_unsent &= ctime != state.attr.ctime;
    state.atime_unsent &= set.atime != Some(state.attr.atime);
    Ok(())
}

impl State {
    fn has_unsent_times(&self) -> bool {
        self.unsent_times().is_some()
    }

    /// What a change has to carry, and its own time.
    fn unsent_times(&self) -> Option<(SetAttr, Timestamp)> {
        let atime = self.atime_unsent.then_some(self.attr.atime);
        let wanted = (self.ctime_unsent || self.atime_unsent) && self.life == Life::Named;
        wanted.then_some((SetAttr { atime, ..SetAttr::default() }, self.attr.ctime))
    }
}
