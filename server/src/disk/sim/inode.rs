//! What the simulated file system keeps of an object. Inodes are values: a change makes a new one, and the journal is
//! a list of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use net_raid_proto::ids::{Name, Timestamp};
use net_raid_proto::message::Kind;

use crate::disk::Stat;

/// Bytes of attributes that fit into an inode of ext4; more take a block.
const XATTR_INLINE: usize = 88;
/// Names that fit into a block of a directory.
const NAMES_PER_BLOCK: u64 = 64;

/// Names an inode for ever.
pub(super) type Ino = u64;
/// Names a block of the device for ever: it is never given to another file, so nobody can read stale bytes.
pub(super) type BlockId = u64;

/// How far a block of a file is known to the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allocation {
    /// Written in memory, and no journal record says where it is (delayed allocation): a power loss may leave a hole.
    Delayed,
    /// Reserved: reads as zeros.
    Unwritten,
    /// Reserved, and written in memory: a power loss may leave it unwritten.
    Converting,
    /// Where it is, and that it has content, is in the journal.
    Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) block: BlockId,
    pub(super) allocation: Allocation,
}

/// A name of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) ino: Ino,
    /// Place in the order of listing, from 1.
    pub(super) cookie: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// The size without what delayed blocks add to it.
    pub(super) size_journaled: u64,
    pub(super) atime: Timestamp,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: Arc<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Of a symbolic link.
    pub(super) target: Arc<[u8]>,
    /// Of a directory.
    pub(super) names: Arc<BTreeMap<Name, Entry>>,
    pub(super) parent: Ino,
    pub(super) cookie_next: u64,
    /// Of a file, by number of the block within it.
    pub(super) extents: Arc<BTreeMap<u64, Extent>>,
}

impl Inode {
    pub(super) fn new(kind: Kind, mode: u32, (uid, gid): (u32, u32), now: Timestamp) -> Inode {
        let nlink = if kind == Kind::Directory { 2 } else { 1 };
        Inode {
            kind,
            mode,
            nlink,
            uid,
            gid,
            size: 0,
            size_journaled: 0,
            atime: now,
            mtime: now,
            xattrs: Arc::default(),
            target: Arc::from([]),
            names: Arc::default(),
            parent: 0,
            cookie_next: 1,
            extents: Arc::default(),
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    pub(super) fn stat(&self, block_len: usize) -> Stat {
        Stat {
            kind: self.kind.clone(),
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            blocks: self.extents.len() as u64 * block_len as u64 / 512,
            atime: self.atime,
            mtime: self.mtime,
        }
    }

    /// Blocks of the device that the object takes.
    pub(super) fn cost(&self, block_len: usize) -> u64 {
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| 16 + name.len() + value.len()).sum();
        let outside = if xattrs > XATTR_INLINE { xattrs.div_ceil(block_len) as u64 } else { 0 };
        let names = if self.is_directory() { 1 + self.names.len() as u64 / NAMES_PER_BLOCK } else { 0 };
        self.extents.len() as u64 + outside + names
    }

    pub(super) fn add_name(&mut self, name: &Name, ino: Ino) {
        Arc::make_mut(&mut self.names).insert(name.clone(), Entry { ino, cookie: self.cookie_next });
        self.cookie_next += 1;
    }

    pub(super) fn remove_name(&mut self, name: &Name) {
        Arc::make_mut(&mut self.names).remove(name);
    }

    /// Whether the journal does not know all of where the content is.
    pub(super) fn is_delayed(&self) -> bool {
        let delayed = |extent: &Extent| matches!(extent.allocation, Allocation::Delayed | Allocation::Converting);
        self.size != self.size_journaled || self.extents.values().any(delayed)
    }

    /// All that was delayed gets its place.
    pub(super) fn settle(&mut self) {
        self.size_journaled = self.size;
        for extent in Arc::make_mut(&mut self.extents).values_mut() {
            if extent.allocation != Allocation::Unwritten {
                extent.allocation = Allocation::Written;
            }
        }
    }
}
