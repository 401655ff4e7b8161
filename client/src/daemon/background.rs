//! Leaving a daemon behind.

use std::fs::OpenOptions;
use std::io::{self, PipeReader, PipeWriter, Read, Write};

use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::{EXIT_FAILED, complain};

/// The two processes after the fork.
pub(super) enum Side {
    /// The one that the user started.
    Parent(Waiting),
    /// The one that stays.
    Daemon(Verdict),
}

/// The parent's end of the pipe.
pub(super) struct Waiting(PipeReader);

/// The daemon's end of the pipe, or nothing in the foreground.
pub(super) struct Verdict(Option<PipeWriter>);

/// Splits the process in two; the daemon has its own session, no terminal, and the root directory.
///
/// # Errors
/// No pipe or no process could be made.
pub(super) fn split() -> io::Result<Side> {
    let (reader, writer) = io::pipe()?;
    match fork()? {
        ForkResult::Parent { .. } => Ok(Side::Parent(Waiting(reader))),
        ForkResult::Child => {
            // The parent notices if this fails, and there is nothing that could be done about it.
            let _ = setsid();
            let _ = std::env::set_current_dir("/");
            Ok(Side::Daemon(Verdict(Some(writer))))
        }
    }
}

/// fork(2).
#[expect(unsafe_code, reason = "nix has no safe fork")]
fn fork() -> nix::Result<ForkResult> {
    // SAFETY: `run` is called before the process has a second thread, whose locks the child could find held for ever.
    unsafe { nix::unistd::fork() }
}

impl Waiting {
    /// The daemon's verdict, an exit code. Blocks until there is one, or the daemon is gone.
    pub(super) fn wait(mut self) -> u8 {
        let mut code = [EXIT_FAILED];
        match self.0.read_exact(&mut code) {
            Ok(()) => code[0],
            Err(_) => complain(&"the daemon ended before the volumes were mounted", EXIT_FAILED),
        }
    }
}

impl Verdict {
    /// Nobody waits for it.
    pub(super) fn unheard() -> Self {
        Self(None)
    }

    /// Lets the parent exit with `code`. Before that this process lets go of its stdin, stdout and stderr, so that whoever
    /// reads the parent's output sees the end of it.
    ///
    /// # Errors
    /// The parent is gone, or the descriptors cannot be replaced.
    pub(super) fn give(self, code: u8) -> io::Result<()> {
        let Some(mut pipe) = self.0 else { return Ok(()) };
        // They stay open: fuser panics when /dev/fuse gets one of their numbers.
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        pipe.write_all(&[code])
    }
}
