//! Mounts of our own: made, tuned, watched and taken away again.
//!
//! fuser can mount by itself, but its teardown may unmount a *new* mount on the same path (`is_mounted` in its `mnt/mod.rs`
//! is inverted), and waits for programs that hold files open. So a mount is made here, and its descriptor given to fuser.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount as mount_syscall, umount2};
use nix::unistd::{Gid, Uid};

mod helper;
mod options;
mod table;
mod tuning;

#[cfg(test)]
mod tests;

use options::Options;
use table::{DeviceNumber, Table};

/// The device through which the kernel asks.
const FUSE_DEVICE: &str = "/dev/fuse";
/// What mount tables show as the type, after `fuse.`.
const SUBTYPE: &str = "net_raid";
/// Dead mounts that may lie on each other on one mountpoint.
const LEFTOVERS_MAX: usize = 16;

/// Why a mountpoint could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel or its FUSE module.
    #[error("{FUSE_DEVICE} cannot be opened: {0}")]
    Device(io::Error),
    /// The mountpoint.
    #[error("{} cannot be used as a mountpoint: {error}", path.display())]
    Point {
        /// As it was given.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What a dead daemon left there cannot be detached.
    #[error("a dead mount on {} cannot be detached: {error}", path.display())]
    Leftover {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// mount(2) refused.
    #[error("{} cannot be mounted: {error}", path.display())]
    Refused {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// `fusermount3` refused.
    #[error("fusermount3: {0}")]
    Helper(String),
}

/// A mount that this process made. Dropping it changes nothing.
#[derive(Debug)]
pub struct Mount {
    /// Without symlinks, as the mount table has it.
    path: PathBuf,
    /// Tells this mount from a later one on the same path; unknown without /proc.
    device: Option<DeviceNumber>,
}

/// Mounts on `path` and returns the descriptor that the kernel's requests come from.
///
/// Blocks only as long as the kernel takes; what a dead daemon left on `path` is detached first.
///
/// # Errors
/// See [`MountError`].
pub fn mount(volume: &str, path: &Path) -> Result<(OwnedFd, Mount), MountError> {
    detach_leftovers(path)?;
    let point = |error| MountError::Point { path: path.to_owned(), error };
    let path = path.canonicalize().map_err(point)?;
    if Uid::effective().is_root() {
        tuning::raise_request_size();
    }
    let fd = mount_directly(volume, &path).or_else(|error| match error {
        // Neither root nor allowed to mount in its namespace: the set-uid helper may.
        MountError::Device(_) | MountError::Refused { .. } if is_permission(&error) => {
            helper::mount(&Options::new(volume, options::may_allow_other()), &path)
        }
        error => Err(error),
    })?;
    let device = Table::read().ok().and_then(|table| table.top(&path).map(|entry| entry.device));
    Ok((fd, Mount { path, device }))
}

/// mount(2) by ourselves. Neither nosuid nor nodev: what root mounts behaves as ext4 does.
fn mount_directly(volume: &str, path: &Path) -> Result<OwnedFd, MountError> {
    let device = OpenOptions::new().read(true).write(true).open(FUSE_DEVICE).map_err(MountError::Device)?;
    let options = Options::new(volume, true);
    let data = options.for_kernel(device.as_raw_fd(), Uid::effective().as_raw(), Gid::effective().as_raw());
    let fs_type = format!("fuse.{SUBTYPE}");
    mount_syscall(Some(volume), path, Some(fs_type.as_str()), MsFlags::empty(), Some(data.as_str()))
        .map_err(|errno| MountError::Refused { path: path.to_owned(), error: errno.into() })?;
    Ok(device.into())
}

fn is_permission(error: &MountError) -> bool {
    let (MountError::Device(error) | MountError::Refused { error, .. }) = error else { return false };
    error.kind() == io::ErrorKind::PermissionDenied
}

impl Mount {
    /// Where it is mounted, without symlinks.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets what can only be set once the kernel has got its answer to FUSE_INIT, which resets it.
    pub fn tune(&self) {
        if let Some(device) = self.device {
            tuning::raise_read_ahead(device);
        }
    }

    /// Whether this very mount is what the path leads to.
    pub fn is_on_top(&self) -> bool {
        let Ok(table) = Table::read() else { return false };
        self.device.is_some() && table.top(&self.path).map(|entry| entry.device) == self.device
    }

    /// Has the kernel write its dirty pages. Blocks until the file system, which must be served meanwhile, has taken them.
    ///
    /// Another process asks for that (`sync -f`): whoever waits in syncfs(2) cannot be killed (fs/fs-writeback.c,
    /// `wb_wait_for_completion`), and a daemon that is killed then would keep its device open, so that the kernel would wait for its answers
    /// for ever, and with it every program that uses the mount.
    ///
    /// # Errors
    /// Bytes could not be written.
    pub fn sync(&self) -> io::Result<()> {
        if !self.is_on_top() {
            return Ok(());
        }
        // What a terminal sends to us is not for it.
        let sync = Command::new("sync").arg("-f").arg(&self.path).stdin(Stdio::null()).process_group(0).output();
        match sync {
            Ok(output) if output.status.success() => Ok(()),
            // One that was killed says nothing.
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(io::Error::other(format!("{}: {}", output.status, said.trim())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(rustix::fs::syncfs(std::fs::File::open(&self.path)?)?)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the mount out of the tree, at once, although programs may hold files open; another mount on the path stays.
    ///
    /// # Errors
    /// The kernel or `fusermount3` refused.
    pub fn detach(&self) -> io::Result<()> {
        if self.is_on_top() { detach(&self.path) } else { Ok(()) }
    }
}

/// Detaches whatever is mounted on top of `path`.
fn detach(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EPERM) => helper::detach(path),
        result => Ok(result?),
    }
}

/// Detaches FUSE mounts on `path` whose daemons are dead ("Transport endpoint is not connected").
fn detach_leftovers(path: &Path) -> Result<(), MountError> {
    let Some(real) = real_path(path) else { return Ok(()) };
    for _ in 0..LEFTOVERS_MAX {
        let is_fuse = Table::read().is_ok_and(|table| table.top(&real).is_some_and(table::Entry::is_fuse));
        if !is_fuse || !is_dead(&real) {
            break;
        }
        detach(&real).map_err(|error| MountError::Leftover { path: real.clone(), error })?;
        tracing::warn!(path = %real.display(), "detached what a dead daemon left mounted");
    }
    Ok(())
}

/// The path without symlinks, also of a dead mount.
fn real_path(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().or_else(|| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?)))
}

/// Whether nobody serves the FUSE mount on `path`.
///
/// Opens the directory, because attributes may still be in the kernel's cache (fs/fuse/dir.c, `fuse_update_get_attr`) long
/// after the connection was aborted.
fn is_dead(path: &Path) -> bool {
    let dead = [Errno::ENOTCONN as i32, Errno::ECONNABORTED as i32];
    std::fs::read_dir(path).is_err_and(|error| error.raw_os_error().is_some_and(|errno| dead.contains(&errno)))
}
