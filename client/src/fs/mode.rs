//! Rules of permission bits: pure functions of modes.

use net_raid_proto::message::{Attr, Kind};

/// All bits that chmod(2) sets.
pub(super) const MODE_BITS: u32 = 0o7777;
/// Set-user-id.
pub(super) const SETUID: u32 = libc::S_ISUID;
/// Set-group-id.
pub(super) const SETGID: u32 = libc::S_ISGID;
/// Execution by the group.
const GROUP_EXECUTE: u32 = libc::S_IXGRP;

/// The group and mode of a new object before umask and ACLs, as the kernel's `inode_init_owner`: a set-group-id
/// directory passes its group on, and the bit itself to directories.
///
/// The bit of other objects stays: since Linux 6.0 the kernel strips it (`mode_strip_sgid`, for callers outside
/// the group) before it asks a file system.
pub(super) fn inherit(parent: &Attr, kind: &Kind, mode: u32, caller_gid: u32) -> (u32, u32) {
    let mode = mode & MODE_BITS;
    if parent.mode & SETGID == 0 {
        return (caller_gid, mode);
    }
    let mode = if *kind == Kind::Directory { mode | SETGID } else { mode };
    (parent.gid, mode)
}

/// What is left of `mode` after a write or truncate by somebody without CAP_FSETID (the kernel's
/// `setattr_should_drop_suidgid`): set-user-id goes, set-group-id too where it means execution.
pub(super) fn after_write(mode: u32) -> u32 {
    let cleared = if mode & GROUP_EXECUTE == 0 { SETUID } else { SETUID | SETGID };
    mode & !cleared
}

/// What is left of `mode` after chown(2), by anybody: as after a write, and set-group-id without execution goes
/// unless the caller is in the group that the file had (`setattr_should_drop_sgid`).
pub(super) fn after_chown(mode: u32, keeps_setgid: impl FnOnce() -> bool) -> u32 {
    let left = after_write(mode);
    if left & SETGID == 0 || keeps_setgid() { left } else { left & !SETGID }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_raid_proto::ids::Timestamp;

    fn parent(mode: u32) -> Attr {
        let time = Timestamp::default();
        Attr {
            kind: Kind::Directory,
            mode,
            nlink: 2,
            uid: 0,
            gid: 77,
            size: 4096,
            brick_blocks: 8,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }

    #[test]
    fn a_plain_directory_passes_nothing_on() {
        assert_eq!(inherit(&parent(0o755), &Kind::Directory, 0o777, 5), (5, 0o777));
        assert_eq!(inherit(&parent(0o1777), &Kind::File, 0o2755, 5), (5, 0o2755));
    }

    #[test]
    fn a_setgid_directory_passes_its_group_on() {
        assert_eq!(inherit(&parent(0o2755), &Kind::Directory, 0o700, 5), (77, 0o2700));
        assert_eq!(inherit(&parent(0o2755), &Kind::File, 0o644, 5), (77, 0o644));
        assert_eq!(inherit(&parent(0o2755), &Kind::Fifo, 0o2755, 5), (77, 0o2755));
    }

    #[test]
    fn set_id_bits_after_a_write() {
        for (before, after) in [(0o6755, 0o755), (0o6745, 0o2745), (0o4700, 0o700), (0o2710, 0o710), (0o1777, 0o1777)] {
            assert_eq!(after_write(before), after, "{before:o}");
        }
    }

    #[test]
    fn set_id_bits_after_chown() {
        for (before, member, after) in [(0o6755, true, 0o755), (0o6745, true, 0o2745), (0o6745, false, 0o745)] {
            assert_eq!(after_chown(before, || member), after, "{before:o} {member}");
        }
        after_chown(0o4755, || panic!("asked although there is no such bit"));
    }
}
