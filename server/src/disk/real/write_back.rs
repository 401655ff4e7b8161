//! Bytes of large files go to the disk while more of them come: who syncs in the end waits for the rest only.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Files that wait. Who comes when there are so many is left to the kernel, which begins by itself after a while.
const WAITING_MAX: usize = 16;

/// A thread of its own: a disk that is busy holds up whoever begins a write.
#[derive(Debug)]
pub(super) struct WriteBack(Option<SyncSender<OwnedFd>>);

impl WriteBack {
    /// Where no thread can be had nothing is begun.
    pub(super) fn start() -> WriteBack {
        let (sender, files) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("write-back".into()).spawn(move || begin_all(&files));
        WriteBack(thread.is_ok().then_some(sender))
    }

    pub(super) fn begin(&self, file: &OwnedFd) {
        let Some(sender) = &self.0 else { return };
        if let Ok(file) = file.try_clone() {
            let _ = sender.try_send(file);
        }
    }
}

/// Ends with the disk.
fn begin_all(files: &Receiver<OwnedFd>) {
    for file in files {
        write_back(&file);
    }
}

/// Errors are told by the sync that follows: a write that is begun and not waited for takes none away (Linux, fs/sync.c).
#[expect(unsafe_code, reason = "no library has a safe sync_file_range(2)")]
fn write_back(file: &OwnedFd) {
    // SAFETY: the descriptor is open, and the call takes numbers only.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
