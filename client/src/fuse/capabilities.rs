//! What is asked of the kernel when a mount begins, and what is not.
//!
//! | capability | |
//! |---|---|
//! | ASYNC_READ, BIG_WRITES, MAX_PAGES | fuser asks for these |
//! | WRITEBACK_CACHE | small writes are merged; right because a volume has one owner |
//! | POSIX_ACL, DONT_MASK | the kernel checks ACLs; the umask is ours to apply, because a default ACL replaces it |
//! | HANDLE_KILLPRIV_V2 | set-id bits are ours to clear; else the kernel asks for `security.capability` before each write |
//! | DO_READDIRPLUS, READDIRPLUS_AUTO | `ls -l` costs no request for each file, `ls` no attributes |
//! | PARALLEL_DIROPS, ASYNC_DIO | requests of one directory, and of one O_DIRECT call, are sent at the same time |
//! | CACHE_SYMLINKS | targets never change |
//! | EXPLICIT_INVAL_DATA | cached pages stay when times change: nobody else writes |
//!
//! Not asked for:
//!
//! - ATOMIC_O_TRUNC: fuser 0.18 does not pass on FUSE_OPEN_KILL_SUIDGID, so nobody would clear set-id bits. The kernel sends
//!   the truncation as a setattr of its own.
//! - FLOCK_LOCKS, POSIX_LOCKS: without them the kernel keeps locks by itself (fs/fuse/file.c, `fc->no_lock`), which is right
//!   with one owner.
//! - AUTO_INVAL_DATA: it would drop pages that are right.
//! - EXPORT_SUPPORT: handles of forgotten inodes (NFS) are not supported.
//! - FOPEN_CACHE_DIR: the kernel finds its place in a cached directory by offset (fs/fuse/readdir.c, `fuse_readdir_cached`) also
//!   for a reader that began before another one filled the cache. Our offsets are places in one reader's snapshot.
//! - SPLICE_*, OVER_IO_URING, SETXATTR_EXT, HAS_RESEND, REQUEST_TIMEOUT, ALLOW_IDMAP, PASSTHROUGH: fuser 0.18 cannot.

use std::io;
use std::time::Duration;

use fuser::{InitFlags, KernelConfig};

/// How long the kernel may trust attributes and names, also those that do not exist: nobody else changes them.
pub(super) const CACHE_TIME: Duration = Duration::from_secs(3600);
/// Bytes of one write request: whole stripes of every level, and the kernel's usual limit of 256 pages.
pub(super) const MAX_WRITE: u32 = 1024 * 1024;
/// Requests for read-ahead and write-back that the kernel sends before it waits.
const MAX_BACKGROUND: u16 = 128;
/// Of these, as many make it think that the device is congested.
const CONGESTION_THRESHOLD: u16 = 96;
/// The clock's resolution.
const TIME_GRANULARITY: Duration = Duration::from_nanos(1);

/// Without these the file system would be wrong.
const NEEDED: [(InitFlags, &str); 2] =
    [(InitFlags::FUSE_WRITEBACK_CACHE, "FUSE_WRITEBACK_CACHE"), (InitFlags::FUSE_DONT_MASK, "FUSE_DONT_MASK")];

/// Without these it is slower, or lacks something. Each is asked for by itself: `add_capabilities` is all or nothing.
const WANTED: [InitFlags; 8] = [
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
];

/// Agrees with the kernel.
///
/// # Errors
/// The kernel is older than the capabilities that are needed (Linux 3.15).
pub(super) fn negotiate(config: &mut KernelConfig) -> io::Result<()> {
    for (flag, name) in NEEDED {
        config.add_capabilities(flag).map_err(|_| {
            io::Error::new(io::ErrorKind::Unsupported, format!("this kernel's FUSE is too old: it has no {name}"))
        })?;
    }
    for flag in WANTED {
        if config.add_capabilities(flag).is_err() {
            tracing::debug!(?flag, "the kernel has not all that FUSE can do");
        }
    }
    // These are constants within what fuser accepts.
    let refused = || io::Error::from(io::ErrorKind::InvalidInput);
    config.set_max_write(MAX_WRITE).map_err(|_| refused())?;
    config.set_max_background(MAX_BACKGROUND).map_err(|_| refused())?;
    config.set_congestion_threshold(CONGESTION_THRESHOLD).map_err(|_| refused())?;
    config.set_time_granularity(TIME_GRANULARITY).map_err(|_| refused())?;
    Ok(())
}

const _: () = assert!(CONGESTION_THRESHOLD < MAX_BACKGROUND);
const _: () = assert!(MAX_WRITE as usize <= net_raid_proto::limits::PAYLOAD_MAX);
