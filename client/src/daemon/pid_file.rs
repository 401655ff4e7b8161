//! A file with the process id.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A pid file of this process; removed when dropped, unless it is another process's by then.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

/// Why a pid file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the pid file {} cannot be written: {error}", path.display())]
pub(super) struct PidFileError {
    path: PathBuf,
    error: io::Error,
}

impl PidFile {
    /// Writes it, so that whoever sees the file sees the whole number.
    pub(super) fn write(path: &Path) -> Result<Self, PidFileError> {
        let error = |error| PidFileError { path: path.to_owned(), error };
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        fs::write(&beside, content()).map_err(error)?;
        fs::rename(&beside, path).map_err(|failed| {
            // The first error is the one to tell.
            let _ = fs::remove_file(&beside);
            error(failed)
        })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if fs::read_to_string(&self.0).is_ok_and(|found| found == content()) {
            // A file that stays behind names a process that is gone.
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn content() -> String {
    format!("{}\n", std::process::id())
}
