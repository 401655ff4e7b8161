//! What must be right before a directory is served, and a clear sentence when it is not.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Access, FlockOperation, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

/// Extended attribute that is set and removed to see whether that works.
const PROBE: &str = "user.net_raid.probe";

/// Why a directory cannot be served. Each text says what to do next.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve {}: {why}", path.display())]
pub struct Unserved {
    path: PathBuf,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("no such directory; create it first (mkdir), on the file system that is to hold the data")]
    Missing,
    #[error("not a directory; name the directory that is to hold the data")]
    NotDirectory,
    #[error("no permission to write there; change its owner (chown), or run as the user that owns it")]
    NotPermitted,
    #[error("the file system is mounted read-only; remount it writable")]
    ReadOnly,
    #[error("the file system has no user extended attributes; use one that has, such as ext4, xfs or btrfs")]
    NoXattrs,
    #[error("another net_raid_server serves it; stop that one, or name another directory")]
    Locked,
    #[error("{0}; check the disk and the system's log")]
    Other(#[from] Errno),
}

/// A directory that this process alone serves, as long as this lives.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

/// Checks that `path` can be a brick, and claims it.
///
/// The lock is one on the directory itself: an empty directory stays empty until it is formatted.
///
/// # Errors
/// [`Unserved`], in one clear sentence.
pub fn claim(path: &Path) -> Result<Claim, Unserved> {
    let refused = |why| Unserved { path: path.to_owned(), why };
    let directory = open(path).map_err(refused)?;
    probe(&directory).map_err(refused)?;
    match fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Claim { _lock: directory.into() }),
        Err(Errno::WOULDBLOCK) => Err(refused(Why::Locked)),
        Err(why) => Err(refused(Why::Other(why))),
    }
}

fn open(path: &Path) -> Result<OwnedFd, Why> {
    fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|why| match why {
        Errno::NOENT => Why::Missing,
        Errno::NOTDIR => Why::NotDirectory,
        Errno::ACCESS | Errno::PERM => Why::NotPermitted,
        why => Why::Other(why),
    })
}

/// Tries what a brick needs. Permission bits alone would not tell: root passes them on a disk mounted read-only.
fn probe(directory: &OwnedFd) -> Result<(), Why> {
    let failed = |why| match why {
        Errno::ACCESS | Errno::PERM => Why::NotPermitted,
        Errno::ROFS => Why::ReadOnly,
        Errno::OPNOTSUPP => Why::NoXattrs,
        why => Why::Other(why),
    };
    fs::accessat(directory, ".", Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK, fs::AtFlags::EACCESS)
        .map_err(failed)?;
    match fs::fsetxattr(directory, PROBE, b"1", XattrFlags::empty()) {
        // A full disk still serves what it has.
        Err(Errno::NOSPC | Errno::DQUOT) => Ok(()),
        Err(why) => Err(failed(why)),
        Ok(()) => fs::fremovexattr(directory, PROBE).map_err(failed),
    }
}

/// The address that a person writes: `127.0.0.1`, `::1` or `[::1]`.
///
/// # Errors
/// A clause that says what is wrong.
pub fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let parsed = match bare {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| "not an IP address; write one of this machine, such as 0.0.0.0 (all), 127.0.0.1 or ::1".into())
}

/// What to tell when listening failed.
pub fn listen_failed(address: SocketAddr, why: &io::Error) -> String {
    let advice = match why.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use; stop the program that has it (ss -ltnp), or choose another".into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "no such address on this machine; choose one of `ip address`, or 0.0.0.0".into()
        }
        io::ErrorKind::PermissionDenied => "no permission; choose a port from 1024 on".into(),
        _ => format!("{why}; choose another address or port"),
    };
    format!("cannot listen on {address}: {advice}")
}

/// Raises the limit of open files as far as an ordinary user may: a brick keeps files open.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(why) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%why, "cannot raise the limit of open files");
    }
}
