//! Attributes of real files. What is open with O_PATH only is reached through `/proc/self/fd`, whose
//! links lead to the object itself, symbolic links included, and are never followed further.

use std::fmt::Write as _;
use std::io;

use net_raid_proto::ids::{Name, Timestamp};
use net_raid_proto::message::Kind;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{RealHandle, Stat, XattrMode};

/// First try of a value's size: the brick's own attribute of any object fits.
const VALUE_GUESS: usize = 512;
/// Largest value or list of names (Linux XATTR_SIZE_MAX, XATTR_LIST_MAX).
const VALUE_MAX: usize = 64 * 1024;

pub(super) fn proc_path(fd: &OwnedFd) -> String {
    let mut path = String::with_capacity(32);
    write!(path, "/proc/self/fd/{}", fd.as_raw_fd()).expect("a string takes everything");
    path
}

/// The path of a name in an open directory, for calls that exist with paths only.
fn proc_path_at(dir: &OwnedFd, name: &Name) -> Vec<u8> {
    let mut path = proc_path(dir).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name.as_bytes());
    path
}

pub(super) fn node_type(kind: &Kind) -> io::Result<(FileType, u64)> {
    match *kind {
        Kind::Fifo => Ok((FileType::Fifo, 0)),
        Kind::Socket => Ok((FileType::Socket, 0)),
        Kind::CharDevice(device) => Ok((FileType::CharacterDevice, device)),
        Kind::BlockDevice(device) => Ok((FileType::BlockDevice, device)),
        Kind::File | Kind::Directory | Kind::Symlink => Err(Errno::INVAL.into()),
    }
}

pub(super) fn stat(fd: &OwnedFd) -> io::Result<Stat> {
    from_stat(&retry_on_intr(|| rustix::fs::fstat(fd))?)
}

pub(super) fn stat_at(dir: &OwnedFd, name: &Name) -> io::Result<Stat> {
    from_stat(&retry_on_intr(|| rustix::fs::statat(dir, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW))?)
}

fn from_stat(stat: &rustix::fs::Stat) -> io::Result<Stat> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice(stat.st_rdev),
        FileType::BlockDevice => Kind::BlockDevice(stat.st_rdev),
        _ => return Err(Errno::INVAL.into()),
    };
    Ok(Stat {
        kind,
        mode: stat.st_mode & 0o7777,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: Timestamp { secs: stat.st_atime, nanos: stat.st_atime_nsec as u32 },
        mtime: Timestamp { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
    })
}

pub(super) fn set_mode(object: &RealHandle, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    if object.path_only {
        return Ok(retry_on_intr(|| rustix::fs::chmod(proc_path(&object.fd).as_str(), mode))?);
    }
    Ok(retry_on_intr(|| rustix::fs::fchmod(&object.fd, mode))?)
}

pub(super) fn set_owner(object: &RealHandle, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    // Number -1 means "leave it" to the kernel: nobody can be that.
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Errno::INVAL.into());
    }
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    Ok(retry_on_intr(|| rustix::fs::chownat(&object.fd, c"", uid, gid, AtFlags::EMPTY_PATH))?)
}

pub(super) fn set_times(object: &RealHandle, atime: Option<Timestamp>, mtime: Option<Timestamp>) -> io::Result<()> {
    let spec = |time: Option<Timestamp>| match time {
        Some(time) => Timespec { tv_sec: time.secs, tv_nsec: i64::from(time.nanos) },
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    if [atime, mtime].iter().flatten().any(|time| time.nanos >= 1_000_000_000) {
        return Err(Errno::INVAL.into());
    }
    let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
    if object.path_only {
        return Ok(retry_on_intr(|| rustix::fs::utimensat(&object.fd, c"", &times, AtFlags::EMPTY_PATH))?);
    }
    Ok(retry_on_intr(|| rustix::fs::futimens(&object.fd, &times))?)
}

/// Calls `get` with a buffer that is large enough.
fn sized(mut get: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; VALUE_GUESS];
    loop {
        match get(&mut value) {
            Ok(len) => {
                value.truncate(len);
                return Ok(value);
            }
            Err(Errno::RANGE) if value.len() < VALUE_MAX => value.resize(VALUE_MAX, 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn optional(value: Result<Vec<u8>, Errno>) -> io::Result<Option<Vec<u8>>> {
    match value {
        Err(Errno::NODATA) => Ok(None),
        value => Ok(Some(value?)),
    }
}

pub(super) fn get_xattr(object: &RealHandle, attr: &[u8]) -> io::Result<Option<Vec<u8>>> {
    if object.path_only {
        let path = proc_path(&object.fd);
        return optional(sized(|buffer| rustix::fs::getxattr(path.as_str(), attr, buffer)));
    }
    optional(sized(|buffer| rustix::fs::fgetxattr(&object.fd, attr, buffer)))
}

pub(super) fn get_xattr_at(dir: &OwnedFd, name: &Name, attr: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let path = proc_path_at(dir, name);
    optional(sized(|buffer| rustix::fs::lgetxattr(&path[..], attr, buffer)))
}

pub(super) fn set_xattr(object: &RealHandle, attr: &[u8], value: &[u8], mode: XattrMode) -> io::Result<()> {
    let flags = match mode {
        XattrMode::Any => XattrFlags::empty(),
        XattrMode::Create => XattrFlags::CREATE,
        XattrMode::Replace => XattrFlags::REPLACE,
    };
    if object.path_only {
        let path = proc_path(&object.fd);
        return Ok(retry_on_intr(|| rustix::fs::setxattr(path.as_str(), attr, value, flags))?);
    }
    Ok(retry_on_intr(|| rustix::fs::fsetxattr(&object.fd, attr, value, flags))?)
}

pub(super) fn remove_xattr(object: &RealHandle, attr: &[u8]) -> io::Result<()> {
    if object.path_only {
        return Ok(retry_on_intr(|| rustix::fs::removexattr(proc_path(&object.fd).as_str(), attr))?);
    }
    Ok(retry_on_intr(|| rustix::fs::fremovexattr(&object.fd, attr))?)
}

pub(super) fn list_xattr(object: &RealHandle) -> io::Result<Vec<u8>> {
    if object.path_only {
        let path = proc_path(&object.fd);
        return Ok(sized(|buffer| rustix::fs::listxattr(path.as_str(), buffer))?);
    }
    Ok(sized(|buffer| rustix::fs::flistxattr(&object.fd, buffer))?)
}
