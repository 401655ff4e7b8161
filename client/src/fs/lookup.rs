//! Finding objects: by id in memory, by name in memory or on a brick.

use std::sync::Arc;

use net_raid_proto::ids::{Name, ObjectId};
use net_raid_proto::message::Entry;

use super::errno::Errno;
use super::inode::{Inode, Life};
use super::stat::Stat;
use super::table::Held;
use super::{Fs, names};

/// Times that a look-up is repeated because an object of several names may have changed and been dropped meanwhile.
const LOOKUPS_MAX: usize = 8;

impl Fs {
    /// Finds a name; counts one kernel reference. `.` and `..` may be asked for.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ENAMETOOLONG; EIO beyond the redundancy.
    pub async fn lookup(&self, parent: ObjectId, name: &[u8]) -> Result<Stat, Errno> {
        let directory = self.inode(parent).await?;
        let held = match name {
            b"." => self.hold(parent).await?,
            b".." => self.hold(self.table.parent_of(parent).unwrap_or(parent)).await?,
            _ => self.find(&directory, &names::existing(parent, name)?).await?,
        };
        self.refresh(&held.inode).await;
        Ok(held.into_kernel().stat())
    }

    /// Takes back kernel references.
    pub fn forget(&self, id: ObjectId, count: u64) {
        self.send_times_before_drop(id);
        self.table.forget(id, count);
    }

    /// The object of an id that the kernel has from here.
    ///
    /// # Errors
    /// ESTALE for one that it has not. The root, which it never looks up, is fetched when it is first used.
    pub(super) async fn inode(&self, id: ObjectId) -> Result<Arc<Inode>, Errno> {
        match self.table.get(id) {
            Some(inode) => Ok(inode),
            None if id == ObjectId::ROOT => Ok(self.hold(id).await?.inode.clone()),
            None => Err(Errno::ESTALE),
        }
    }

    async fn hold(&self, id: ObjectId) -> Result<Held<'_>, Errno> {
        if let Some(held) = self.table.held(id) {
            return Ok(held);
        }
        let entry = self.volume.getattr(id).await?;
        Ok(self.table.hold(entry, None))
    }

    /// A directory in which names can be found and made.
    ///
    /// # Errors
    /// ENOTDIR, and ENOENT for one that was removed.
    pub(super) async fn directory(&self, id: ObjectId) -> Result<Arc<Inode>, Errno> {
        let inode = self.inode(id).await?;
        check_directory(&inode)?;
        Ok(inode)
    }

    /// What a name names: from memory, which is right because nobody else changes the volume, or from a brick.
    ///
    /// # Errors
    /// As [`Fs::lookup`].
    pub(super) async fn find(&self, directory: &Inode, name: &Name) -> Result<Held<'_>, Errno> {
        check_directory(directory)?;
        for attempt in 1.. {
            if let Some(held) = self.table.child(directory.id, name) {
                return Ok(held);
            }
            let since = self.table.now();
            let entry = self.ask_for(directory, name).await?;
            // Under another name the object may have been changed and dropped while the brick's answer was on
            // its way. Objects of one name cannot: the kernel waits for one look-up of a name before the next.
            if entry.attr.nlink < 2 || attempt == LOOKUPS_MAX || self.table.is_current(since) {
                return Ok(self.table.hold(entry, Some((directory.id, name))));
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Asks bricks for a name that is not in memory, if it can be there.
    async fn ask_for(&self, directory: &Inode, name: &Name) -> Result<Entry, Errno> {
        let moment = {
            let state = directory.state();
            if state.absent.has_not(name) {
                return Err(Errno::ENOENT);
            }
            state.absent.now()
        };
        let found = self.volume.lookup(directory.id, name).await.map_err(Errno::from);
        if let Err(Errno::ENOENT) = found {
            directory.state().absent.not_found(name, moment);
        }
        found
    }

    /// As [`Fs::find`], `None` when there is nothing.
    pub(super) async fn find_optional(&self, directory: &Inode, name: &Name) -> Result<Option<Held<'_>>, Errno> {
        match self.find(directory, name).await {
            Ok(held) => Ok(Some(held)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn check_directory(inode: &Inode) -> Result<(), Errno> {
    if !inode.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if inode.state().life == Life::Gone { Err(Errno::ENOENT) } else { Ok(()) }
}
