//! `fusermount3`, which is set-uid root and mounts for ordinary users.

use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::MountError;
use super::options::Options;

const PROGRAM: &str = "fusermount3";
/// The environment variable with the number of the descriptor over which the helper sends the open device.
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// Mounts, and returns the device that the helper opened.
pub(super) fn mount(options: &Options<'_>, path: &Path) -> Result<OwnedFd, MountError> {
    if !options.allow_other() {
        tracing::warn!("other users cannot see the mount: /etc/fuse.conf has no line `user_allow_other`");
    }
    let io_error = |error: io::Error| MountError::Helper(error.to_string());
    let (ours, theirs) = UnixStream::pair().map_err(io_error)?;
    // As its standard input the socket is inherited without a moment in which another child could inherit it, too.
    let mut child = Command::new(PROGRAM)
        .args(["-o", &options.for_helper(), "--"])
        .arg(path)
        .env(SOCKET_VARIABLE, "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io_error)?;
    let mut message = String::new();
    let device = receive_device(&ours);
    if let Some(stderr) = &mut child.stderr {
        // Its complaint is for the user only; without one there is still the exit status.
        let _ = stderr.read_to_string(&mut message);
    }
    let status = child.wait().map_err(io_error)?;
    match device {
        Ok(Some(device)) if status.success() => Ok(device),
        Err(error) if status.success() => Err(io_error(error)),
        _ if message.trim().is_empty() => Err(MountError::Helper(status.to_string())),
        _ => Err(MountError::Helper(message.trim().trim_start_matches("fusermount3: ").to_owned())),
    }
}

/// The descriptor that the helper sends, or nothing if it ends without.
fn receive_device(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(descriptors.flatten().next())
}

/// Detaches, lazily.
pub(super) fn detach(path: &Path) -> io::Result<()> {
    let output = Command::new(PROGRAM).args(["-u", "-z", "--"]).arg(path).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
