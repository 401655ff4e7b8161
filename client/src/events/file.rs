//! The file behind a log: appended to line by line, found again after it was rotated.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;

/// How often at most the path is looked at, to see whether it still names the open file.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// An open log file and the state of writing to it.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// When the path was looked at last.
    checked: Option<SystemTime>,
    /// Whether the last look at the path failed, which has been reported.
    is_lost: bool,
    /// Whether the last write failed, which has been reported.
    is_failing: bool,
    /// Whether the file may end within a line, because a write was cut short.
    torn: bool,
}

impl LogFile {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = open_file(&path)?;
        Ok(Self { path, file, checked: None, is_lost: false, is_failing: false, torn: false })
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = open_file(&self.path)?;
        self.torn = false;
        Ok(())
    }

    /// Appends one line in one write, so that lines of several writers never mix.
    pub(super) fn append(&mut self, now: SystemTime, line: &str) {
        if self.is_check_due(now) {
            // A file that cannot be found again can still be written.
            let followed = self.follow_rotation();
            report_once(&mut self.is_lost, &self.path, followed);
        }
        let written = self.write(line);
        report_once(&mut self.is_failing, &self.path, written);
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let torn_line;
        let bytes = if self.torn {
            torn_line = format!("\n{line}");
            torn_line.as_bytes()
        } else {
            line.as_bytes()
        };
        let written = loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if written > 0 {
            self.torn = written < bytes.len();
        }
        if written < bytes.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    fn is_check_due(&mut self, now: SystemTime) -> bool {
        let is_recent = |checked: SystemTime| {
            // The clock may be set back, which must not end the checks.
            let age = now.duration_since(checked).unwrap_or_else(|error| error.duration());
            age < CHECK_INTERVAL
        };
        if self.checked.is_some_and(is_recent) {
            return false;
        }
        self.checked = Some(now);
        true
    }

    /// Opens the file anew if the path names another one by now, or none.
    fn follow_rotation(&mut self) -> io::Result<()> {
        let named = match std::fs::metadata(&self.path) {
            Ok(metadata) => Some((metadata.dev(), metadata.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let open = self.file.metadata()?;
        if named == Some((open.dev(), open.ino())) { Ok(()) } else { self.reopen() }
    }
}

/// A full disk is worth one message, not one for each event.
fn report_once(is_failing: &mut bool, path: &Path, result: io::Result<()>) {
    if let Err(error) = &result
        && !*is_failing
    {
        tracing::error!(path = ?path, %error, "errorlog cannot be written");
    }
    *is_failing = result.is_err();
}

/// Not blocking, so that a pipe without a reader is an error and a full one does not stop the volume.
fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}
