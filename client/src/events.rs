//! The errorlog: one line for everything that happens to a volume, for people and for scripts.
//!
//! ```text
//! 2026-11-21T01:50:00.123Z STORAGE1 127.0.0.1:10001 server lost: connection reset
//! time, UTC                volume   server or -     the event
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::config::ServerAddr;

mod event;
mod file;
mod line;

#[cfg(test)]
mod tests;

pub use event::Event;

use file::LogFile;

/// Tells the time; simulations bring their own.
pub type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

/// Where events go: to the errorlog, if there is one, and to tracing.
///
/// Share it behind an `Arc`. Several logs may append to one file.
pub struct EventLog {
    clock: Clock,
    /// Held while a line is written; nothing else is locked meanwhile.
    file: Option<Mutex<LogFile>>,
}

impl EventLog {
    /// A log that appends to the file at `path`, created if need be, and has the time from the system.
    ///
    /// The file should be local: a write is not waited for elsewhere, but as long as the file's file system takes.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        Self::with_clock(path, Box::new(SystemTime::now))
    }

    /// As [`EventLog::open`], with the time from `clock`.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn with_clock(path: Option<&Path>, clock: Clock) -> io::Result<Self> {
        let file = path.map(|path| LogFile::open(PathBuf::from(path))).transpose()?;
        Ok(Self { clock, file: file.map(Mutex::new) })
    }

    /// Logs an event of a volume, and of one of its servers if it is about one.
    ///
    /// Never fails: what cannot be written is reported through tracing, once until writing works again.
    pub fn log(&self, volume: &str, server: Option<&ServerAddr>, event: &Event) {
        event.trace(volume, server);
        if let Some(mut file) = self.locked() {
            let now = (self.clock)();
            file.append(now, &line::format(now, volume, server, event));
        }
    }

    /// Opens the file by its name again, as after SIGHUP. Without that a renamed or deleted file is noticed within a second.
    ///
    /// # Errors
    /// The file cannot be opened; then the old one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.locked().map_or(Ok(()), |mut file| file.reopen())
    }

    fn locked(&self) -> Option<MutexGuard<'_, LogFile>> {
        // A log file is whole after every step, so a panic elsewhere is no reason to stop logging.
        self.file.as_ref().map(|file| file.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
