//! Open objects and the bounded cache of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::Kind;

use super::object::Meta;
use super::record::Record;
use crate::disk::Disk;

const SHARDS: usize = 16;

/// An open object.
///
/// Lock order: `names` of directories, ascending by id; then one `state` at a time.
pub(super) struct Node<D: Disk> {
    pub(super) id: ObjectId,
    /// Type as the volume sees it.
    pub(super) kind: Kind,
    pub(super) handle: D::Handle,
    names: RwLock<()>,
    state: RwLock<State<D>>,
    used: AtomicU64,
}

/// What changes of an open object.
pub(super) struct State<D: Disk> {
    /// As on disk: written through.
    pub(super) meta: Meta,
    /// The record file, open whenever `meta` says that there is one.
    pub(super) side: Option<Arc<D::Handle>>,
    /// Records that the record file has.
    pub(super) side_units: u64,
    /// Units whose records have their space in the record file, of those that were reserved last.
    pub(super) reserved: std::ops::Range<u64>,
    /// The record that was written last: small appends need not read it back.
    pub(super) recent: Option<(u64, Record)>,
    /// Whether the file may have a digest attribute.
    pub(super) digest: FileDigest,
    /// Counts writes of the attribute, and how many of them are durable.
    pub(super) changes: u64,
    pub(super) durable: u64,
    /// The file's bytes or length changed since it was synced.
    pub(super) unsynced: bool,
    /// Bytes that were written to the file since the disk was last told to begin with them.
    pub(super) kept_back: u64,
    /// The record file's name is new.
    pub(super) side_new: bool,
    /// Without a name.
    pub(super) orphan: bool,
    /// What is above the name that is known has the object's stamp too. Not known after a start, nor when a name has gone by
    /// which the object was stamped: it may have others.
    pub(super) anchored: bool,
    /// Whether a directory hands an ACL down, once somebody asked.
    pub(super) default_acl: Option<bool>,
}

/// State of the attribute with the digest of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileDigest {
    /// As found on disk: there may be one, and then it is right.
    Found,
    /// The file changed: there is none.
    Outdated,
    /// There is one, and it is right.
    Current,
}

impl<D: Disk> Node<D> {
    pub(super) fn new(kind: Kind, handle: D::Handle, state: State<D>) -> Node<D> {
        let (names, used) = (RwLock::default(), AtomicU64::new(0));
        Node { id: state.meta.id, kind, handle, names, state: RwLock::new(state), used }
    }

    pub(super) fn state(&self) -> RwLockReadGuard<'_, State<D>> {
        self.state.read().expect("no holder panics")
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State<D>> {
        self.state.write().expect("no holder panics")
    }

    /// Holds the directory's names still.
    pub(super) fn names(&self) -> RwLockReadGuard<'_, ()> {
        self.names.read().expect("no holder panics")
    }

    /// Holds the directory's names for a change.
    pub(super) fn names_mut(&self) -> RwLockWriteGuard<'_, ()> {
        self.names.write().expect("no holder panics")
    }
}

impl<D: Disk> State<D> {
    pub(super) fn new(meta: Meta, side: Option<(D::Handle, u64)>, digest: FileDigest, orphan: bool) -> State<D> {
        let (side, side_units) = side.map_or((None, 0), |(side, units)| (Some(Arc::new(side)), units));
        State {
            meta,
            side,
            side_units,
            reserved: 0..0,
            recent: None,
            digest,
            // What was found may have been written just before a restart.
            changes: 1,
            durable: 0,
            unsynced: true,
            kept_back: 0,
            side_new: true,
            orphan,
            anchored: false,
            default_acl: None,
        }
    }
}

struct Shard<D: Disk> {
    nodes: HashMap<ObjectId, Arc<Node<D>>>,
    /// Counts removals: what was loaded before one may be outdated.
    removals: u64,
}

/// Open objects by id. Locks are held for lookups only, never over disk I/O.
pub(super) struct Cache<D: Disk> {
    shards: [Mutex<Shard<D>>; SHARDS],
    shard_max: usize,
    clock: AtomicU64,
}

impl<D: Disk> Cache<D> {
    pub(super) fn new(nodes_max: usize) -> Cache<D> {
        let shard = |_| Mutex::new(Shard { nodes: HashMap::new(), removals: 0 });
        let shard_max = (nodes_max / SHARDS).max(4);
        Cache { shards: std::array::from_fn(shard), shard_max, clock: AtomicU64::new(0) }
    }

    fn shard(&self, id: ObjectId) -> MutexGuard<'_, Shard<D>> {
        self.shards[id.0 as usize % SHARDS].lock().expect("no holder panics")
    }

    pub(super) fn get(&self, id: ObjectId) -> Option<Arc<Node<D>>> {
        let node = self.shard(id).nodes.get(&id).cloned()?;
        node.used.store(self.clock.fetch_add(1, Relaxed), Relaxed);
        Some(node)
    }

    /// What [`Cache::insert`] wants to know from before an object was loaded.
    pub(super) fn removals(&self, id: ObjectId) -> u64 {
        self.shard(id).removals
    }

    /// Adds a loaded object, or finds the one that another thread added. `None` when the object was
    /// removed since `removals` was asked: it must be loaded again.
    pub(super) fn insert(&self, node: Node<D>, removals: u64) -> Option<Arc<Node<D>>> {
        node.used.store(self.clock.fetch_add(1, Relaxed), Relaxed);
        let mut shard = self.shard(node.id);
        if let Some(present) = shard.nodes.get(&node.id) {
            return Some(present.clone());
        }
        if shard.removals != removals {
            return None;
        }
        let node = Arc::new(node);
        shard.nodes.insert(node.id, node.clone());
        Some(node)
    }

    pub(super) fn remove(&self, id: ObjectId) {
        let mut shard = self.shard(id);
        shard.removals += 1;
        shard.nodes.remove(&id);
    }

    /// Removes an object if it is still this one that is open for its id.
    pub(super) fn remove_this(&self, node: &Arc<Node<D>>) {
        let mut shard = self.shard(node.id);
        if shard.nodes.get(&node.id).is_some_and(|present| Arc::ptr_eq(present, node)) {
            shard.removals += 1;
            shard.nodes.remove(&node.id);
        }
    }

    /// The object of a full shard that was used longest ago and that nobody uses now. Not the root: where its attribute rots, this is
    /// who still knows it.
    pub(super) fn surplus(&self, near: ObjectId) -> Option<Arc<Node<D>>> {
        let shard = self.shard(near);
        if shard.nodes.len() <= self.shard_max {
            return None;
        }
        let idle = shard.nodes.values().filter(|node| Arc::strong_count(node) == 1 && node.id != ObjectId::ROOT);
        idle.min_by_key(|node| node.used.load(Relaxed)).cloned()
    }

    /// Removes an object that only the caller uses.
    pub(super) fn evict(&self, node: Arc<Node<D>>) {
        let mut shard = self.shard(node.id);
        // Two: the cache's and the caller's. More are only made under the shard's lock.
        if Arc::strong_count(&node) == 2 {
            shard.removals += 1;
            shard.nodes.remove(&node.id);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Node<D>>> {
        let all = |shard: &Mutex<Shard<D>>| {
            let shard = shard.lock().expect("no holder panics");
            shard.nodes.values().cloned().collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(all).collect()
    }
}
