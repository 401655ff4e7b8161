//! Properties of the process that serves.

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, configure_io_flusher_behavior, getrlimit, setrlimit, umask};

/// Open files are connections and mounts; a kernel default of 1024 is too few for many volumes.
const OPEN_FILES: u64 = 65_536;

/// Sets what all threads inherit. What is not permitted stays as it is.
pub(super) fn prepare() {
    // Modes come from the programs that use the mount.
    umask(Mode::empty());
    raise_open_files();
    // The kernel must not wait for this process to write dirty pages when it is this process that needs memory for that
    // (prctl(2), PR_SET_IO_FLUSHER, meant for FUSE daemons).
    if let Err(error) = configure_io_flusher_behavior(true) {
        tracing::debug!(%error, "not an I/O flusher");
    }
}

fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if current.is_some_and(|current| current < wanted) {
        let limit = Rlimit { current: Some(wanted), maximum };
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
}
