//! The file system towards the kernel: FUSE requests in, answers out, no policy.
//!
//! The only module that knows fuser. Each operation is handed to [`Runner`], which polls it on the thread that read the
//! request. What is left here beside translation is what only the kernel's side can know: see `capabilities` for what is asked
//! of the kernel and why, and `writers` for its dirty pages.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{Config, INodeNo, Notifier, Session, SessionACL};
use net_raid_proto::ids::ObjectId;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::fs::{Errno, Fs};

mod answer;
mod capabilities;
mod convert;
mod operations;
mod page;
mod run;
mod writers;

#[cfg(test)]
mod tests;

use run::{Patience, Runner};
use writers::Writers;

/// Threads that read requests at least: with one, a copy of 1 MiB keeps all other requests waiting.
const THREADS_MIN: usize = 2;
/// Threads that read requests at most: they only start operations.
const THREADS_MAX: usize = 4;

/// A file system as fuser wants it.
struct Adapter {
    fs: Arc<Fs>,
    runner: Runner,
    writers: Arc<Writers>,
    notifier: Arc<OnceLock<Notifier>>,
}

/// A mounted file system that is ready to serve.
pub struct Server {
    session: Session<Adapter>,
    /// Waits until another client has the volume.
    forgetting: AbortHandle,
}

impl Server {
    /// Agrees with the kernel behind `device` on how to work together. Blocks until the kernel has asked for that, which it
    /// does when it mounts.
    ///
    /// Operations run on `runtime`; `timeout` is how long one of them may take because of servers.
    ///
    /// # Errors
    /// The mount is gone already, or the kernel is too old.
    pub fn new(volume: &str, fs: Arc<Fs>, device: OwnedFd, runtime: Handle, timeout: Duration) -> io::Result<Self> {
        let (notifier, replaced) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
        let forgetting = runtime.spawn(forget(Arc::clone(&fs), Arc::clone(&notifier), Arc::clone(&replaced)));
        let adapter = Adapter {
            fs,
            runner: Runner::new(volume, runtime, Patience::new(timeout), replaced),
            writers: Arc::default(),
            notifier: Arc::clone(&notifier),
        };
        // The kernel knows who may use the mount (allow_other); fuser would also refuse the kernel's own write-back threads.
        let session = Session::from_fd(adapter, device, SessionACL::All, config());
        let forgetting = forgetting.abort_handle();
        let session = session.inspect_err(|_| forgetting.abort())?;
        // Nobody else has it, so it is not set yet.
        let _ = notifier.set(session.notifier());
        Ok(Self { session, forgetting })
    }

    /// Serves until the mount is gone and no program uses it any more. Blocks.
    ///
    /// # Errors
    /// The kernel's requests could not be read.
    pub fn run(self) -> io::Result<()> {
        let ran = self.session.run();
        self.forgetting.abort();
        ran
    }
}

/// When another client has the volume: answers nothing from memory any more, and has the kernel forget what it cached. Pages that it
/// has not written yet fail then.
async fn forget(fs: Arc<Fs>, notifier: Arc<OnceLock<Notifier>>, replaced: Arc<AtomicBool>) {
    fs.replaced().await;
    replaced.store(true, Ordering::Relaxed);
    // On a thread of its own: the kernel asks to write dirty pages before it forgets them.
    let forgotten = tokio::task::spawn_blocking(move || {
        let Some(notifier) = notifier.get() else { return };
        for id in fs.known() {
            // The kernel may have forgotten it by itself.
            let _ = notifier.inval_inode(INodeNo(id.0), 0, 0);
        }
    });
    // It ends early only together with the runtime.
    let _ = forgotten.await;
}

fn config() -> Config {
    let cpus = std::thread::available_parallelism().map_or(THREADS_MIN, usize::from);
    let mut config = Config::default();
    config.n_threads = Some(cpus.clamp(THREADS_MIN, THREADS_MAX));
    // Each thread opens the device again for its own queue, which an ordinary user may not be allowed to.
    config.clone_fd = OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    config
}

impl Adapter {
    /// Has the kernel write the dirty pages of a file at and behind `offset`, so that `fs` knows what is in it.
    ///
    /// The kernel answers SEEK_DATA and SEEK_HOLE from here without writing them first (fs/fuse/file.c, `fuse_lseek`). The only
    /// way to ask for it is to invalidate them (fs/fuse/inode.c, `fuse_reverse_inval_inode`), which launders dirty ones.
    ///
    /// # Errors
    /// EINVAL if it did not: programs then read the file as one without holes.
    async fn write_back(notifier: Arc<OnceLock<Notifier>>, id: ObjectId, offset: i64) -> Result<(), Errno> {
        // On a thread of its own: the call returns when FUSE threads have answered the writes.
        let written = tokio::task::spawn_blocking(move || {
            notifier.get().is_some_and(|notifier| notifier.inval_inode(INodeNo(id.0), offset.max(0), 0).is_ok())
        });
        if written.await.unwrap_or(false) { Ok(()) } else { Err(Errno(libc::EINVAL)) }
    }
}
