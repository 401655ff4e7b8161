//! Redundancy: one volume over its members.
//!
//! Reads go to as few members as they need and are checked against digests; changes go to all current
//! members at once. A member that misses a change is dropped, durably on the others, before the change
//! is acknowledged. Plans are pure ([`plan`]); the rest of the module carries them out.

mod assembly;
mod away;
mod changes;
mod checkpoint;
mod damage;
mod error;
mod even;
mod fanout;
mod file;
mod force;
mod gather;
mod generation;
mod heal;
mod hedge;
mod hotswap;
mod members;
mod ownership;
mod patience;
pub mod plan;
mod query;
mod quorum;
mod read;
mod record;
mod recovery;
mod resize;
mod scrub;
mod seek;
#[cfg(test)]
mod tests;
mod throttle;
mod users;
mod write;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use net_raid_proto::ids::{Generation, Name, ObjectId, Timestamp, Transaction};
use net_raid_proto::layout::Layout;
use net_raid_proto::message::{Change, DirEntry, Entry, Request, Space};

pub use assembly::{AssemblyError, open};
pub use damage::{DAMAGED_MAX, DAMAGED_STRIPES_MAX, Damaged, DamagedObject, Finder};
pub use error::VolumeError;
pub use file::{File, Seek, WriteMeta};
pub use heal::CatchUpProgress;
pub use scrub::{ScrubProgress, Sums as ScrubSums};

use crate::cache::BlockCache;
use crate::config::VolumeConfig;
use crate::events::{Event, EventLog};
use crate::world::World;
use checkpoint::Checkpoints;
use damage::Damages;
use heal::Healing;
use hedge::Hedges;
use members::Members;
use patience::Overdue;
use scrub::Scrubs;
use throttle::Kind;
use users::Users;

/// Tells where objects are, for bricks that forgot.
pub trait PathSource: Send + Sync {
    /// Names from the root to the object; `None` when it has none (any more).
    fn path_of(&self, id: ObjectId) -> Option<Vec<Name>>;

    /// One of the names of an object, and its directory, where they are known.
    fn place_of(&self, _id: ObjectId) -> Option<(ObjectId, Name)> {
        None
    }

    /// Whether an object is gone when it loses a name.
    fn has_one_name(&self, _id: ObjectId) -> bool {
        false
    }

    /// Whether an object without a known path has a name all the same, which nobody asked for yet.
    fn has_unknown_name(&self, _id: ObjectId) -> bool {
        false
    }
}

/// A mounted volume.
pub struct Volume {
    core: Arc<Core>,
}

/// What all parts of a volume share.
struct Core {
    config: VolumeConfig,
    layout: Layout,
    world: World,
    events: Arc<EventLog>,
    members: Members,
    checkpoints: Checkpoints,
    overdue: Overdue,
    healing: Arc<Healing>,
    paths: OnceLock<Arc<dyn PathSource>>,
    next_object: AtomicU64,
    next_transaction: AtomicU64,
    cache: BlockCache,
    hedges: Hedges,
    scrubs: Scrubs,
    damages: Damages,
    users: Users,
}

impl Core {
    fn timeout(&self) -> Duration {
        self.config.timeout
    }

    fn transaction(&self) -> Transaction {
        Transaction(self.next_transaction.fetch_add(1, Ordering::Relaxed))
    }

    /// A change as a request; generation and participants are filled in when it is sent.
    fn change(&self, transaction: Transaction, now: Timestamp, change: Change) -> Request {
        Request::Change { transaction, generation: Generation(0), participants: 0, now, change }
    }

    /// The same with a transaction of its own.
    fn numbered(&self, now: Timestamp, change: Change) -> Request {
        self.change(self.transaction(), now, change)
    }

    fn log(&self, slot: Option<net_raid_proto::ids::Slot>, event: &Event) {
        let server = slot.map(|slot| self.members.server(slot));
        self.events.log(&self.config.name, server, event);
    }
}

impl Volume {
    /// Sets where paths of objects are found; the first call counts.
    pub fn set_paths(&self, paths: Arc<dyn PathSource>) {
        // A second file system over one volume would be a programmer's error, and harmless.
        let _ = self.core.paths.set(paths);
    }

    /// Time of day, for times of changes.
    pub fn now(&self) -> Timestamp {
        self.core.world.clock.now()
    }

    /// The volume's name.
    pub fn name(&self) -> &str {
        &self.core.config.name
    }

    /// A new object id.
    ///
    /// # Errors
    /// When the counter of this ownership is used up: a remount begins a new one.
    pub fn new_id(&self) -> Result<ObjectId, VolumeError> {
        let counter = self.core.next_object.fetch_add(1, Ordering::Relaxed);
        ObjectId::new(self.core.members.epoch(), counter)
            .ok_or_else(|| VolumeError::Lost("object ids of this mount are used up: mount again".into()))
    }

    /// Layout of new files.
    pub fn layout(&self) -> Layout {
        self.core.layout
    }

    /// A user opens a file: what a member that is healed misses of it is made up for before all else.
    pub fn opened(&self, id: ObjectId) {
        if !self.core.members.healing().is_empty() {
            self.core.healing.want(id);
        }
    }

    /// Finds a name (on all members together).
    ///
    /// # Errors
    /// ENOENT, or EIO beyond the redundancy.
    pub async fn lookup(&self, parent: ObjectId, name: &Name) -> Result<Entry, VolumeError> {
        let _user = self.core.users.enter(Kind::Look);
        self.core.lookup(parent, name).await
    }

    /// Attributes as the bricks have them.
    ///
    /// # Errors
    /// ENOENT when the object is gone, or EIO beyond the redundancy.
    pub async fn getattr(&self, id: ObjectId) -> Result<Entry, VolumeError> {
        let _user = self.core.users.enter(Kind::Look);
        self.core.entry(id, &Request::GetAttr { id }).await
    }

    /// A whole directory, in no order, without `.` and `..`. Entries on which members do not agree have no attributes.
    ///
    /// # Errors
    /// As the brick says, or EIO beyond the redundancy.
    pub async fn read_dir(&self, id: ObjectId, attributes: bool) -> Result<Vec<DirEntry>, VolumeError> {
        let _user = self.core.users.enter(Kind::Look);
        self.core.read_dir_of_all(id, attributes).await
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL when it is none, or EIO beyond the redundancy.
    pub async fn read_link(&self, id: ObjectId) -> Result<Vec<u8>, VolumeError> {
        let _user = self.core.users.enter(Kind::Look);
        self.core.bytes(id, &Request::ReadLink { id }).await
    }

    /// Value of an extended attribute.
    ///
    /// # Errors
    /// ENODATA when it has none, or EIO beyond the redundancy.
    pub async fn get_xattr(&self, id: ObjectId, name: &[u8]) -> Result<Vec<u8>, VolumeError> {
        let _user = self.core.users.enter(Kind::Look);
        self.core.bytes(id, &Request::GetXattr { id, name: name.to_vec() }).await
    }

    /// Names of extended attributes, each ended by NUL.
    ///
    /// # Errors
    /// EIO beyond the redundancy.
    pub async fn list_xattr(&self, id: ObjectId) -> Result<Vec<u8>, VolumeError> {
        let _user = self.core.users.enter(Kind::Look);
        self.core.bytes(id, &Request::ListXattr { id }).await
    }

    /// Space as a program sees it: bytes that can be stored.
    ///
    /// # Errors
    /// EIO beyond the redundancy.
    pub async fn stat_fs(&self) -> Result<Space, VolumeError> {
        self.core.stat_fs().await
    }

    /// A change of names or attributes on all members: everything but Write, Truncate, Punch, Allocate.
    /// `now` becomes the ctime.
    ///
    /// # Errors
    /// What the bricks agree on, or EIO beyond the redundancy.
    pub async fn change(&self, change: Change, payload: Bytes, now: Timestamp) -> Result<(), VolumeError> {
        let _user = self.core.users.enter(Kind::Change);
        self.core.change_all(change, payload, now).await
    }

    /// Reads up to the logical size; every byte is verified.
    ///
    /// # Errors
    /// EIO when bytes cannot be had from enough members.
    pub async fn read(&self, file: &File, offset: u64, len: usize) -> Result<Bytes, VolumeError> {
        let _user = self.core.users.enter(Kind::Read);
        self.core.read(file, offset, len).await
    }

    /// Writes; extends the logical size when it ends beyond it.
    ///
    /// # Errors
    /// ENOSPC and the like, or EIO beyond the redundancy.
    pub async fn write(&self, file: &File, offset: u64, data: Bytes, meta: WriteMeta) -> Result<(), VolumeError> {
        let _user = self.core.users.enter(Kind::Write);
        self.core.write(file, offset, data, meta).await
    }

    /// Appends at the logical size, whatever it is then; returns the offset.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub async fn append(&self, file: &File, data: Bytes, meta: WriteMeta) -> Result<u64, VolumeError> {
        let _user = self.core.users.enter(Kind::Write);
        self.core.append(file, data, meta).await
    }

    /// Sets the logical size.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub async fn truncate(&self, file: &File, size: u64, meta: WriteMeta) -> Result<(), VolumeError> {
        let _user = self.core.users.enter(Kind::Change);
        self.core.truncate(file, size, meta).await
    }

    /// Makes a range read as zeros and frees whole stripes; extends the size unless `keep_size`.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub async fn zero(
        &self,
        file: &File,
        offset: u64,
        len: u64,
        keep_size: bool,
        meta: WriteMeta,
    ) -> Result<(), VolumeError> {
        let _user = self.core.users.enter(Kind::Write);
        self.core.zero(file, offset, len, keep_size, meta).await
    }

    /// Reserves space; extends the size unless `keep_size`. `now` becomes the ctime.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub async fn allocate(
        &self,
        file: &File,
        offset: u64,
        len: u64,
        keep_size: bool,
        now: Timestamp,
    ) -> Result<(), VolumeError> {
        let _user = self.core.users.enter(Kind::Change);
        self.core.allocate(file, offset, len, keep_size, now).await
    }

    /// Next data or hole at or after `offset`.
    ///
    /// # Errors
    /// ENXIO at or beyond the end, or when no data follows.
    pub async fn seek(&self, file: &File, offset: u64, what: Seek) -> Result<u64, VolumeError> {
        self.core.seek(file, offset, what).await
    }

    /// Makes an object durable on all members.
    ///
    /// # Errors
    /// ENOSPC and the like, or EIO beyond the redundancy.
    pub async fn fsync(&self, id: ObjectId, data_only: bool) -> Result<(), VolumeError> {
        let _user = self.core.users.enter(Kind::Sync);
        self.core.request_all(Request::Fsync { id, data_only }).await
    }

    /// Makes everything durable on all members that was acknowledged before.
    ///
    /// # Errors
    /// ENOSPC and the like, or EIO beyond the redundancy.
    pub async fn sync_all(&self) -> Result<(), VolumeError> {
        let _user = self.core.users.enter(Kind::Sync);
        self.core.checkpoint().await
    }

    /// Waits until another client has the volume. Cancel safe.
    pub async fn replaced(&self) {
        let mut seen = self.core.members.watch();
        while self.core.members.check_owned().is_ok() {
            seen.changed().await;
        }
    }

    /// Has everything on all members read, compared and put right, at full speed; does not wait. The errorlog tells of it.
    pub fn scrub(&self) {
        self.core.scrubs.want();
    }

    /// How far the scrub is that is under way.
    pub fn scrub_progress(&self) -> Option<ScrubProgress> {
        self.core.scrubs.progress()
    }

    /// What is damaged beyond repair, as far as reads and scrubs of this mount have found it, and it was not put right, overwritten, cut
    /// off or removed since. What changes do to it may be noticed a moment later.
    pub fn damaged(&self) -> Damaged {
        self.core.damaged()
    }

    /// How far those members are that are being brought up to date.
    pub fn catch_up_progress(&self) -> Vec<CatchUpProgress> {
        self.core.healing.progress()
    }

    /// The last handle of an object is closed; does not wait.
    pub fn release(&self, id: ObjectId) {
        let core = Arc::clone(&self.core);
        // Only a hint: a brick that does not hear it does the work later.
        tokio::spawn(async move { core.hint_all(&Request::Release { id }).await });
    }

    /// Everything durable, ownership given up, connections closed.
    pub async fn close(&self) {
        self.core.close().await;
    }
}
