//! Reading directories.
//!
//! Each handle reads from a snapshot of the whole directory: an offset is an index into it. So a reading is stable while
//! entries come and go, and goes on when the member that it came from is lost.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::{DirEntry, Kind};

use super::errno::Errno;
use super::inode::{Inode, Life};
use super::stat::Stat;
use super::table::{Held, Since};
use super::{Fs, names};

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

/// Open directories.
#[derive(Default)]
pub(super) struct Directories {
    open: Mutex<HashMap<u64, Arc<Handle>>>,
}

/// An open directory. The lock makes readings of one handle follow each other, as the kernel's `f_pos` lock does.
#[derive(Default)]
struct Handle {
    snapshot: tokio::sync::Mutex<Option<Arc<Snapshot>>>,
}

/// A directory at one moment.
struct Snapshot {
    id: ObjectId,
    parent: ObjectId,
    entries: Vec<DirEntry>,
    /// Of the directory's names.
    version: u64,
    /// Of the entries' attributes.
    since: Since,
}

impl Directories {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<u64, Arc<Handle>>) -> T) -> T {
        f(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Fs {
    /// Opens a directory; the handle.
    ///
    /// # Errors
    /// ENOTDIR, and ENOENT for one that was removed.
    pub async fn opendir(&self, id: ObjectId) -> Result<u64, Errno> {
        self.directory(id).await?;
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.directories.with(|open| open.insert(handle, Arc::default()));
        Ok(handle)
    }

    /// Hands entries from `offset` on to `add` until it says `false`: full, that entry comes again. Offset 0 reads the
    /// directory anew. With `plus`, entries carry attributes where those are sure to be right; the kernel looks
    /// the others up when somebody asks.
    ///
    /// # Errors
    /// EBADF for an unknown handle; EIO beyond the redundancy.
    pub async fn readdir(
        &self,
        id: ObjectId,
        handle: u64,
        offset: u64,
        plus: bool,
        add: &mut (dyn FnMut(DirItem) -> bool + Send),
    ) -> Result<(), Errno> {
        let inode = self.inode(id).await?;
        let handle = self.directories.with(|open| open.get(&handle).cloned()).ok_or(Errno::EBADF)?;
        let snapshot = {
            let mut current = handle.snapshot.lock().await;
            match &*current {
                Some(snapshot) if offset > 0 => snapshot.clone(),
                _ => current.insert(Arc::new(self.snapshot(&inode, plus).await?)).clone(),
            }
        };
        self.hand_out(&snapshot, &inode, offset, plus, add);
        self.accessed(&inode);
        Ok(())
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: u64) {
        self.directories.with(|open| open.remove(&handle));
    }

    /// Makes a directory durable: its names and attributes.
    ///
    /// # Errors
    /// EIO when it is not on enough members.
    pub async fn fsyncdir(&self, id: ObjectId, data_only: bool) -> Result<(), Errno> {
        self.fsync(id, data_only).await
    }

    async fn snapshot(&self, inode: &Inode, plus: bool) -> Result<Snapshot, Errno> {
        let id = inode.id;
        let (version, life) = {
            let state = inode.state();
            (state.version, state.life)
        };
        let since = self.table.now();
        let mut entries = match life {
            Life::Gone => Vec::new(),
            _ => self.volume.read_dir(id, plus).await?,
        };
        entries.retain(|entry| !names::is_hidden(id, entry.name.as_bytes()));
        let parent = self.table.parent_of(id).unwrap_or(id);
        Ok(Snapshot { id, parent, entries, version, since })
    }

    fn hand_out(
        &self,
        snapshot: &Snapshot,
        inode: &Inode,
        offset: u64,
        plus: bool,
        add: &mut (dyn FnMut(DirItem) -> bool + Send),
    ) {
        let names_hold = inode.state().version == snapshot.version;
        for index in offset..snapshot.len() {
            let held = if plus { self.hold_entry(snapshot, index, names_hold) } else { None };
            let stat = held.as_ref().map(|held| held.inode.stat());
            if !add(snapshot.item(index, stat)) {
                return;
            }
            if let Some(held) = held {
                held.into_kernel();
            }
        }
    }

    /// The object of an entry, when the kernel may be told about it: names that came after the snapshot, or went, would
    /// otherwise be in its cache for long. What is in memory is newer than the snapshot.
    fn hold_entry(&self, snapshot: &Snapshot, index: u64, names_hold: bool) -> Option<Held<'_>> {
        let entry = snapshot.entry(index)?;
        let held = match self.table.child(snapshot.id, &entry.name) {
            Some(held) => held,
            None if names_hold && self.table.is_current(snapshot.since) => {
                self.table.hold(*entry.entry.clone()?, Some((snapshot.id, &entry.name)))
            }
            None => return None,
        };
        let right = held.inode.id == entry.id && held.inode.state().blocks_known;
        right.then_some(held)
    }
}

impl Snapshot {
    /// Entries with `.` and `..`.
    fn len(&self) -> u64 {
        self.entries.len() as u64 + 2
    }

    fn entry(&self, index: u64) -> Option<&DirEntry> {
        self.entries.get(usize::try_from(index).ok()?.checked_sub(2)?)
    }

    fn item(&self, index: u64, stat: Option<Stat>) -> DirItem {
        let (name, id, kind) = match (index, self.entry(index)) {
            (_, Some(entry)) => (entry.name.as_bytes(), entry.id, entry.kind.clone()),
            (0, None) => (&b"."[..], self.id, Kind::Directory),
            (_, None) => (&b".."[..], self.parent, Kind::Directory),
        };
        DirItem { name: name.to_vec(), id, kind, next_offset: index + 1, stat }
    }
}

#[cfg(test)]
mod tests;
