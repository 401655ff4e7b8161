//! Our types and fuser's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, Generation, INodeNo, Request, TimeOrNow};
use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::limits::BLOCK_SIZE;
use net_raid_proto::message::Kind;

use crate::fs::{Caller, Errno, SetTime, Stat};

/// Ids are never given twice, so every inode is its number's first.
pub(super) const GENERATION: Generation = Generation(0);

/// Attributes of nothing.
pub(super) const NO_ATTRIBUTES: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 0,
    flags: 0,
};

/// Bits of a mode that are not its type.
const PERMISSIONS: u32 = 0o7777;

pub(super) fn id(inode: INodeNo) -> ObjectId {
    ObjectId(inode.0)
}

pub(super) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

/// An errno that is none becomes EIO.
pub(super) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(if errno.0 > 0 { errno.0 } else { libc::EIO })
}

pub(super) fn attributes(stat: &Stat) -> FileAttr {
    let (kind, device) = file_type(&stat.kind);
    FileAttr {
        ino: INodeNo(stat.id.0),
        size: stat.size,
        blocks: stat.blocks,
        atime: system_time(stat.atime),
        mtime: system_time(stat.mtime),
        ctime: system_time(stat.ctime),
        kind,
        perm: (stat.mode & PERMISSIONS) as u16,
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        // The kernel's 12 + 20 bits (include/linux/kdev_t.h, `new_encode_dev`) are the low half of glibc's number.
        rdev: device as u32,
        blksize: BLOCK_SIZE as u32,
        ..NO_ATTRIBUTES
    }
}

pub(super) fn file_type(kind: &Kind) -> (FileType, u64) {
    match kind {
        Kind::File => (FileType::RegularFile, 0),
        Kind::Directory => (FileType::Directory, 0),
        Kind::Symlink => (FileType::Symlink, 0),
        Kind::Fifo => (FileType::NamedPipe, 0),
        Kind::Socket => (FileType::Socket, 0),
        Kind::CharDevice(device) => (FileType::CharDevice, *device),
        Kind::BlockDevice(device) => (FileType::BlockDevice, *device),
    }
}

/// What mknod(2) asks for.
///
/// # Errors
/// EINVAL for a type that it cannot make.
pub(super) fn kind(mode: u32, device: u32) -> Result<Kind, Errno> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Ok(Kind::File),
        libc::S_IFIFO => Ok(Kind::Fifo),
        libc::S_IFSOCK => Ok(Kind::Socket),
        libc::S_IFCHR => Ok(Kind::CharDevice(device.into())),
        libc::S_IFBLK => Ok(Kind::BlockDevice(device.into())),
        _ => Err(Errno(libc::EINVAL)),
    }
}

pub(super) fn permissions(mode: u32) -> u32 {
    mode & PERMISSIONS
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(timestamp(time)),
    }
}

/// A time that the kernel sent, out of fuser's hands.
///
/// Before 1970 the kernel means `-secs + nanos`, but fuser subtracts both (its `time.rs`, `system_time_from_time`): take the
/// two apart in the same wrong way.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => {
            Timestamp { secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos: after.subsec_nanos() }
        }
        Err(error) => {
            let before = error.duration();
            Timestamp { secs: 0_i64.saturating_sub_unsigned(before.as_secs()), nanos: before.subsec_nanos() }
        }
    }
}

/// A time for the kernel; fuser takes this direction right. What no clock can show becomes 1970.
fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let seconds = if time.secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    seconds.and_then(|seconds| seconds.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}
