//! Results of operations as replies to the kernel.

use bytes::Bytes;
use fuser::{
    FileAttr, FileHandle, FopenFlags, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};
use net_raid_proto::limits::{BLOCK_SIZE, NAME_MAX};
use net_raid_proto::message::Space;

use super::capabilities::CACHE_TIME;
use super::convert::{self, GENERATION};
use crate::fs::{Errno, Stat};

/// A reply that waits for the result of an operation.
pub(super) trait Answer: Send + 'static {
    /// What the operation returns.
    type Value: Send + 'static;

    /// Sends it to the kernel.
    fn send(self, result: Result<Self::Value, Errno>);
}

macro_rules! answers {
    ($($reply:ty, $value:ty: |$self:ident, $ok:pat_param| $send:expr;)*) => {
        $(impl Answer for $reply {
            type Value = $value;

            fn send($self, result: Result<$value, Errno>) {
                match result {
                    Ok($ok) => $send,
                    Err(errno) => $self.error(convert::errno(errno)),
                }
            }
        })*
    };
}

answers! {
    ReplyEmpty, (): |self, ()| self.ok();
    ReplyEntry, Stat: |self, stat| self.entry(&CACHE_TIME, &convert::attributes(&stat), GENERATION);
    ReplyAttr, Stat: |self, stat| self.attr(&CACHE_TIME, &convert::attributes(&stat));
    ReplyData, Bytes: |self, data| self.data(&data);
    ReplyOpen, (u64, FopenFlags): |self, (handle, flags)| self.opened(FileHandle(handle), flags);
    ReplyCreate, (Stat, u64): |self, (stat, handle)| {
        self.created(&CACHE_TIME, &convert::attributes(&stat), GENERATION, FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE)
    };
    // A request carries at most `capabilities::MAX_WRITE` bytes.
    ReplyWrite, usize: |self, written| self.written(written as u32);
    // The kernel asks for positions up to i64::MAX.
    ReplyLseek, u64: |self, offset| self.offset(offset as i64);
    ReplyStatfs, Space: |self, space| send_space(self, &space);
}

/// A name looked up: that it does not exist is remembered by the kernel, too.
pub(super) struct Lookup(pub(super) ReplyEntry);

impl Answer for Lookup {
    type Value = Stat;

    fn send(self, result: Result<Stat, Errno>) {
        match result {
            // Inode 0 is a negative entry with a time to live (fs/fuse/dir.c, `fuse_lookup_name`); ENOENT would have none.
            Err(Errno(libc::ENOENT)) => {
                let nothing = FileAttr { ino: INodeNo(0), ..convert::NO_ATTRIBUTES };
                self.0.entry(&CACHE_TIME, &nothing, GENERATION);
            }
            result => self.0.send(result),
        }
    }
}

/// An extended attribute, or the names of all, for a program with a buffer of this size.
pub(super) struct Xattr {
    pub(super) reply: ReplyXattr,
    /// 0 asks for the size only.
    pub(super) buffer_size: u32,
}

impl Answer for Xattr {
    type Value = Vec<u8>;

    fn send(self, result: Result<Vec<u8>, Errno>) {
        let reply = self.reply;
        match result {
            Ok(value) if self.buffer_size == 0 => reply.size(value.len() as u32),
            Ok(value) if value.len() > self.buffer_size as usize => reply.error(fuser::Errno::ERANGE),
            Ok(value) => reply.data(&value),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }
}

fn send_space(reply: ReplyStatfs, space: &Space) {
    let block = BLOCK_SIZE as u64;
    reply.statfs(
        space.total / block,
        space.free / block,
        space.available / block,
        space.inodes,
        space.inodes_free,
        BLOCK_SIZE as u32,
        NAME_MAX as u32,
        BLOCK_SIZE as u32,
    );
}
