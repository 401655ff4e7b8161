//! What a mount is asked for, as mount(2) and as `fusermount3` want to be told.

use std::os::fd::RawFd;

use super::SUBTYPE;

/// Bytes of one read request; the kernel asks for no more than its page limit allows (fs/fuse/inode.c).
pub(super) const MAX_READ: u32 = 1024 * 1024;
/// Where the administrator says what ordinary users may ask for.
const FUSE_CONF: &str = "/etc/fuse.conf";
/// The type of the root directory, in octal (`S_IFDIR`).
const ROOT_MODE: &str = "40000";

/// Options of one mount.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    volume: &'a str,
    allow_other: bool,
}

impl<'a> Options<'a> {
    pub(super) fn new(volume: &'a str, allow_other: bool) -> Self {
        Self { volume, allow_other }
    }

    pub(super) fn allow_other(&self) -> bool {
        self.allow_other
    }

    /// The data argument of mount(2); name and type are arguments of their own there.
    pub(super) fn for_kernel(&self, fd: RawFd, uid: u32, gid: u32) -> String {
        format!("fd={fd},rootmode={ROOT_MODE},user_id={uid},group_id={gid},{}", self.common())
    }

    /// The `-o` argument of `fusermount3`, which takes a comma behind a backslash for itself.
    pub(super) fn for_helper(&self) -> String {
        let name = self.volume.replace('\\', "\\\\").replace(',', "\\,");
        format!("rw,fsname={name},subtype={SUBTYPE},{}", self.common())
    }

    fn common(&self) -> String {
        let others = if self.allow_other { ",allow_other" } else { "" };
        format!("default_permissions,max_read={MAX_READ}{others}")
    }
}

/// Whether ordinary users may let others into their mounts.
pub(super) fn may_allow_other() -> bool {
    std::fs::read_to_string(FUSE_CONF).is_ok_and(|text| allows_other(&text))
}

pub(super) fn allows_other(fuse_conf: &str) -> bool {
    fuse_conf.lines().any(|line| line.trim() == "user_allow_other")
}
