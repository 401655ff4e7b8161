//! Why an operation of a volume failed.

/// Why an operation of the volume failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// What a program gets: a Linux errno that the bricks agree on.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Errno(i32),
    /// Beyond the redundancy, damaged beyond repair, or taken over: EIO.
    #[error("{0}")]
    Lost(String),
}

impl VolumeError {
    /// The errno for a program.
    pub fn errno(&self) -> i32 {
        match self {
            VolumeError::Errno(errno) => *errno,
            VolumeError::Lost(_) => libc::EIO,
        }
    }
}
