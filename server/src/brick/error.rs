//! Why an operation failed, inside the brick.

use std::io;

use net_raid_proto::message::Fault;

/// What the operating system said, or what the client is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// From the disk.
    #[error(transparent)]
    Os(#[from] io::Error),
    /// Ready for the client.
    #[error(transparent)]
    Fault(#[from] Fault),
}

pub(super) type Result<T> = std::result::Result<T, Error>;

/// A Linux errno as an error.
pub(super) fn errno(number: i32) -> Error {
    Error::Fault(Fault::Errno(number))
}

impl Error {
    /// The errno that it carries.
    pub(super) fn number(&self) -> Option<i32> {
        match self {
            Error::Os(error) => error.raw_os_error(),
            Error::Fault(Fault::Errno(number)) => Some(*number),
            Error::Fault(_) => None,
        }
    }
}

/// Whether the disk itself failed: what was written before may be lost too, so the brick must stop.
pub(super) fn is_disk_failure(error: &io::Error) -> bool {
    let Some(number) = error.raw_os_error() else { return true };
    // A file system that found itself damaged turns read-only; a device that is gone says ENODEV or ENXIO.
    matches!(number, libc::EIO | libc::EROFS | libc::EUCLEAN | libc::ENODEV | libc::ENXIO | libc::ESHUTDOWN)
}
