//! The one table of error numbers: whatever fails below or is refused here becomes an [`Errno`].

use net_raid_proto::ids::BadName;

use crate::volume::VolumeError;

/// A Linux errno, positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident),* $(,)?) => {
        #[allow(missing_docs)]
        impl Errno {
            $(pub const $name: Errno = Errno(libc::$name);)*
        }
    };
}

errnos!(
    EPERM,
    ENOENT,
    EIO,
    EBADF,
    EACCES,
    EEXIST,
    ENOTDIR,
    EISDIR,
    EINVAL,
    EFBIG,
    EMLINK,
    ENAMETOOLONG,
    ENOTEMPTY,
    ELOOP,
    ENODATA,
    ENXIO,
    EOPNOTSUPP,
    ERANGE,
    E2BIG,
    ENOSPC,
    ESTALE,
);

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

impl std::error::Error for Errno {}

impl From<VolumeError> for Errno {
    fn from(error: VolumeError) -> Errno {
        Errno(error.errno())
    }
}

impl From<BadName> for Errno {
    fn from(error: BadName) -> Errno {
        match error {
            BadName::TooLong => Errno::ENAMETOOLONG,
            BadName::Component => Errno::EINVAL,
        }
    }
}
