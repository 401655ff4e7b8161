//! The file system: POSIX semantics over a volume, without any FUSE type.
//!
//! `docs/semantics.md` says what a program can rely on, and why it is done so.
//!
//! What is relied on: the kernel serialises changes of names by the directory's `i_rwsem` (readers of names share it),
//! and changes of attributes by the object's. Two locks of the kernel are held around a rename, a link or an unlink. So
//! there is no lock for directories here. What the kernel does *not* order is ordered by [`inode::Inode::changes`]: times
//! that it flushes, writes that clear set-id bits, closing against unlinking.

mod absent;
mod acl;
mod attr;
mod caller;
mod create;
mod dir;
mod errno;
mod inode;
mod io;
mod lookup;
mod mode;
mod names;
mod open;
mod remove;
mod rename;
mod seek;
mod stat;
mod table;
mod tasks;
mod xattr;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::Space;

pub use self::attr::{SetAttrs, SetTime};
pub use self::caller::Caller;
pub use self::dir::DirItem;
pub use self::errno::Errno;
pub use self::io::WriteFlags;
pub use self::stat::Stat;
use crate::volume::Volume;

/// A mounted file system.
pub struct Fs {
    volume: Arc<Volume>,
    /// Shared with the volume, which asks it for paths; it refers to neither, so there is no cycle.
    table: Arc<table::Table>,
    directories: dir::Directories,
    next_handle: AtomicU64,
    told: open::Told,
    tasks: tasks::Tasks,
}

impl Fs {
    /// A file system over `volume`.
    ///
    /// # Panics
    /// Outside of a tokio runtime: closing a file may leave work for a task.
    pub fn new(volume: Arc<Volume>) -> Arc<Fs> {
        let table = Arc::new(table::Table::default());
        volume.set_paths(table.clone());
        Arc::new(Fs {
            volume,
            table,
            directories: dir::Directories::default(),
            next_handle: AtomicU64::new(1),
            told: open::Told::default(),
            tasks: tasks::Tasks::new(tokio::runtime::Handle::current()),
        })
    }

    /// Space of the whole volume, in logical bytes.
    ///
    /// # Errors
    /// EIO beyond the redundancy.
    pub async fn statfs(&self) -> Result<Space, Errno> {
        Ok(self.volume.stat_fs().await?)
    }

    /// Waits until another client has the volume: what is known here, or cached by a kernel, may be wrong from then on.
    pub async fn replaced(&self) {
        self.volume.replaced().await;
    }

    /// Objects that a kernel may have something cached of.
    pub fn known(&self) -> Vec<ObjectId> {
        self.table.ids(|_| true)
    }

    /// Has the volume scrubbed; does not wait.
    pub fn scrub(&self) {
        self.volume.scrub();
    }

    /// Makes everything durable and closes the volume. Objects that are open without a name stay on the bricks until the
    /// next mount.
    pub async fn close(&self) {
        self.send_unsent_times().await;
        self.tasks.finish().await;
        if let Err(error) = self.volume.sync_all().await {
            tracing::error!(%error, "not everything is durable");
        }
        self.volume.close().await;
    }
}
