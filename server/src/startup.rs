//! What must be right before a directory is served, and a clear sentence when it is not.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::disk::{LockError, RealDisk, RootError};

/// Why a directory cannot be served. Each text is one line and says what to do next.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve {}: {why}", path.display())]
pub struct Unserved {
    path: PathBuf,
    why: String,
}

/// Opens a directory that can be a brick, for this process alone.
///
/// # Errors
/// [`Unserved`], in one clear sentence.
pub fn open_disk(path: &Path) -> Result<RealDisk, Unserved> {
    let refused = |why| Unserved { path: path.to_owned(), why };
    let disk = RealDisk::open(path).map_err(|why| refused(root_advice(&why)))?;
    disk.lock().map_err(|why| refused(lock_advice(&why)))?;
    Ok(disk)
}

fn root_advice(why: &RootError) -> String {
    match why {
        RootError::Open { source, .. } | RootError::NotWritable { source, .. } => match source.kind() {
            io::ErrorKind::NotFound => {
                "no such directory; create it first (mkdir), on the file system that is to hold the data".into()
            }
            io::ErrorKind::PermissionDenied => {
                "no permission to write there; change its owner (chown), or run as the user that owns it".into()
            }
            io::ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only; remount it writable".into(),
            _ => format!("{source}; check the disk and the system's log"),
        },
        RootError::NotADirectory(_) => "not a directory; name the directory that is to hold the data".into(),
        RootError::NoXattrs { .. } => {
            "its file system has no user xattrs; use one that has, such as ext4 or xfs".into()
        }
    }
}

fn lock_advice(why: &LockError) -> String {
    match why {
        LockError::Busy => "another net_raid_server serves it; stop that one, or name another directory".into(),
        LockError::Os(source) => format!("cannot lock it: {source}; use a local file system"),
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
