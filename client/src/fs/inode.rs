//! One object in memory: its attributes, which are newer than any brick's while a kernel or a handle holds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::layout::Layout;
use net_raid_proto::message::{Attr, Entry, Kind};

use super::absent::Absent;
use super::errno::Errno;
use super::stat::{BLOCK_SECTORS, Stat, dense_blocks};
use super::xattr::Xattrs;
use crate::volume::File;

/// An object that the kernel, a handle or an operation refers to.
pub(super) struct Inode {
    pub id: ObjectId,
    pub layout: Layout,
    /// The bytes, of a regular file.
    pub file: Option<Arc<File>>,
    /// Orders changes of this object's attributes, which read, ask the bricks, then set: held across awaits, and
    /// taken before any other lock. Reads and writes of bytes do not take it.
    pub changes: tokio::sync::Mutex<()>,
    /// A leaf: never held across an await, nothing is locked under it.
    state: Mutex<State>,
}

/// Where an object is between its first name and its end.
///
/// ```text
/// Named --last unlink, open--> Orphan --last close--> Gone
///   |  ^
///   |  `--- unlink failed ---.
///   `--last unlink, closed--> Leaving --unlink done--> Gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It has a name.
    Named,
    /// The bricks are removing it: it cannot be opened any more.
    Leaving,
    /// It has no name, and bricks keep it because it is open.
    Orphan,
    /// No brick has it; the kernel may still refer to it (a working directory, an O_PATH descriptor).
    Gone,
}

/// What changes.
pub(super) struct State {
    /// Attributes; the size of a regular file is the one of [`File`].
    pub attr: Attr,
    pub life: Life,
    /// Open handles.
    pub opens: u32,
    /// Open handles that may write.
    pub writers: u32,
    /// The kernel may have dirty pages that were never sent.
    pub unflushed: bool,
    /// How many writes of dirty pages failed, and why the last one did.
    pub failed_writes: (u64, Errno),
    /// `attr.brick_blocks` holds; otherwise a brick has to be asked.
    pub blocks_known: bool,
    /// The kernel sent a ctime that the bricks do not have yet.
    pub ctime_unsent: bool,
    /// A read moved the atime, and the bricks do not have it yet.
    pub atime_unsent: bool,
    /// Changed since a brick told the attributes.
    pub changed: bool,
    /// The bytes changed since bricks were told that nobody has it open.
    pub unsettled: bool,
    /// Counts changes of a directory's names.
    pub version: u64,
    /// Of a directory, names that it does not have.
    pub absent: Absent,
    pub xattrs: Xattrs,
}

impl Inode {
    /// The object that a brick described.
    pub(super) fn new(entry: Entry) -> Inode {
        let file =
            (entry.attr.kind == Kind::File).then(|| Arc::new(File::new(entry.id, entry.layout, entry.attr.size)));
        let state = State {
            attr: entry.attr,
            life: Life::Named,
            opens: 0,
            writers: 0,
            unflushed: false,
            failed_writes: (0, Errno::EIO),
            blocks_known: true,
            ctime_unsent: false,
            atime_unsent: false,
            changed: false,
            unsettled: false,
            version: 0,
            absent: Absent::default(),
            xattrs: Xattrs::default(),
        };
        Inode {
            id: entry.id,
            layout: entry.layout,
            file,
            changes: tokio::sync::Mutex::new(()),
            state: Mutex::new(state),
        }
    }

    /// The state. A panic under this lock leaves plain numbers that are still good.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes.
    ///
    /// # Errors
    /// EISDIR and EINVAL for what has none.
    pub(super) fn file(&self) -> Result<&File, Errno> {
        self.file.as_deref().ok_or_else(|| if self.is_directory() { Errno::EISDIR } else { Errno::EINVAL })
    }

    pub(super) fn is_directory(&self) -> bool {
        self.state().attr.kind == Kind::Directory
    }

    /// Present attributes.
    pub(super) fn attr(&self) -> Attr {
        self.attr_of(&self.state())
    }

    /// Present attributes, from a state that the caller has locked.
    pub(super) fn attr_of(&self, state: &State) -> Attr {
        let mut attr = state.attr.clone();
        if let Some(file) = &self.file {
            attr.size = file.size();
        }
        attr
    }

    /// Present attributes for a program.
    ///
    /// Dirty pages of the kernel are in no brick: a file that may have some never shows 0 blocks, because
    /// `tar --sparse` takes that for "all hole". For the same reason one whose blocks are not known counts as one
    /// without holes.
    pub(super) fn stat(&self) -> Stat {
        let state = self.state();
        let mut stat = Stat::new(self.id, &self.layout, &self.attr_of(&state));
        if !state.blocks_known {
            stat.blocks = stat.blocks.max(dense_blocks(stat.size));
        }
        if state.writers > 0 && state.unflushed {
            stat.blocks = stat.blocks.max(BLOCK_SECTORS);
        }
        stat
    }

    /// Notes a change at `now`.
    pub(super) fn changed(&self, now: Timestamp) {
        self.state().change(now);
    }

    /// Notes that a name in this directory came, went or was replaced; `links` is the change of its subdirectories.
    pub(super) fn names_changed(&self, now: Timestamp, links: i64) {
        let mut state = self.state();
        state.change(now);
        state.attr.mtime = now;
        state.attr.nlink = state.attr.nlink.saturating_add_signed(links as i32);
        state.version += 1;
        state.absent.changed();
    }

    /// Notes one more name.
    pub(super) fn linked(&self, now: Timestamp) {
        let mut state = self.state();
        state.attr.nlink += 1;
        state.change(now);
    }

    /// Begins to take a name away; whether bricks have to keep the object because it is open.
    pub(super) fn begin_unlink(&self) -> bool {
        let mut state = self.state();
        let last = state.attr.nlink <= 1 || state.attr.kind == Kind::Directory;
        let keep = last && state.opens > 0;
        if last && !keep {
            state.life = Life::Leaving;
        }
        keep
    }

    /// The name stayed.
    pub(super) fn cancel_unlink(&self) {
        let mut state = self.state();
        if state.life == Life::Leaving {
            state.life = Life::Named;
        }
    }

    /// The name is gone; whether the object was kept for handles that are all closed by now.
    pub(super) fn finish_unlink(&self, now: Timestamp, kept: bool) -> bool {
        let mut state = self.state();
        state.change(now);
        let directory = state.attr.kind == Kind::Directory;
        state.attr.nlink = if directory { 0 } else { state.attr.nlink.saturating_sub(1) };
        if state.attr.nlink > 0 {
            return false;
        }
        state.life = if kept && state.opens > 0 { Life::Orphan } else { Life::Gone };
        kept && state.life == Life::Gone
    }

    /// Counts a handle.
    ///
    /// # Errors
    /// ENOENT when no brick has the object, or will have it in a moment.
    pub(super) fn opened(&self, writable: bool) -> Result<(), Errno> {
        let mut state = self.state();
        if matches!(state.life, Life::Leaving | Life::Gone) {
            return Err(Errno::ENOENT);
        }
        state.opens += 1;
        state.writers += u32::from(writable);
        state.unflushed |= writable;
        Ok(())
    }

    /// Takes back a handle; whether the bricks may now remove the object.
    pub(super) fn closed(&self, writable: bool) -> bool {
        let mut state = self.state();
        state.opens = state.opens.saturating_sub(1);
        state.writers = state.writers.saturating_sub(u32::from(writable));
        let purge = state.opens == 0 && state.life == Life::Orphan;
        if purge {
            state.life = Life::Gone;
        }
        purge
    }

    /// Whether bricks are to be told now that nobody has the object open: there is something for them to do.
    pub(super) fn begin_settling(&self) -> bool {
        let mut state = self.state();
        state.opens == 0 && std::mem::take(&mut state.unsettled)
    }

    /// Notes that bytes were written to a file that had `old_size`.
    ///
    /// A file without holes that grows at its end, as nearly all do, is known to take what its size says, without
    /// asking a brick at the next stat(2).
    pub(super) fn wrote(&self, offset: u64, len: u64, old_size: u64, mtime: Option<Timestamp>) {
        let mut state = self.state();
        (state.changed, state.unsettled) = (true, true);
        if let Some(mtime) = mtime {
            state.attr.mtime = mtime;
            state.attr.ctime = mtime;
        }
        let dense = state.blocks_known && self.is_dense(&state, old_size);
        let end = offset.saturating_add(len);
        if !dense || offset > old_size {
            state.blocks_known = false;
        } else if end > old_size {
            state.attr.brick_blocks = state.attr.brick_blocks.max(self.dense_brick_blocks(end));
        }
    }

    /// Notes a new size after truncate(2).
    pub(super) fn truncated(&self, old_size: u64, size: u64) {
        let mut state = self.state();
        (state.changed, state.unsettled) = (true, true);
        if size < old_size {
            state.blocks_known &= self.is_dense(&state, old_size);
            state.attr.brick_blocks = state.attr.brick_blocks.min(self.dense_brick_blocks(size));
        }
    }

    fn is_dense(&self, state: &State, size: u64) -> bool {
        state.attr.brick_blocks >= self.dense_brick_blocks(size)
    }

    /// Sectors of a brick's file when the whole has `size` bytes and no holes.
    fn dense_brick_blocks(&self, size: u64) -> u64 {
        dense_blocks(size).div_ceil(self.layout.data_units() as u64)
    }
}

/// An atime that is older is moved by every read.
const ATIME_AGE_SECS: i64 = 24 * 3600;

impl State {
    /// Notes a read at `now`, as the kernel's `relatime_need_update` would for ext4: the first one after a change, and
    /// one a day. It is kept in memory, as with ext4's `lazytime`, because it would cost a request to every member.
    pub(super) fn access(&mut self, now: Timestamp) {
        let atime = self.attr.atime;
        let old = atime <= self.attr.mtime || atime <= self.attr.ctime || now.secs - atime.secs >= ATIME_AGE_SECS;
        if old && atime != now {
            self.attr.atime = now;
            self.atime_unsent = true;
            self.changed = true;
        }
    }

    /// Notes a change at `now`.
    pub(super) fn change(&mut self, now: Timestamp) {
        self.attr.ctime = now;
        self.ctime_unsent = false;
        self.changed = true;
    }
}

#[cfg(test)]
mod tests;
