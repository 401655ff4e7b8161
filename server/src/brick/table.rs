//! Where objects are: id -> (directory, name), bounded, filled by what clients look at.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use net_raid_proto::ids::{Name, ObjectId};

/// Most objects in the table; about 100 bytes each.
const PLACES_MAX: usize = 200_000;
const SHARDS: usize = 16;
const SHARD_MAX: usize = PLACES_MAX / SHARDS;

/// One of the names of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) parent: ObjectId,
    pub(super) name: Name,
}

struct Row {
    place: Place,
    /// Round of `Checkpoint` in which the name was given, or 0 when it is known to be durable.
    round: u32,
    used: u32,
}

/// The table. Locks are held for lookups only, never over disk I/O.
pub(super) struct Table {
    shards: [Mutex<HashMap<ObjectId, Row>>; SHARDS],
    clock: AtomicU32,
}

impl Table {
    pub(super) fn new() -> Table {
        Table { shards: std::array::from_fn(|_| Mutex::default()), clock: AtomicU32::new(0) }
    }

    fn shard(&self, id: ObjectId) -> MutexGuard<'_, HashMap<ObjectId, Row>> {
        self.shards[id.0 as usize % SHARDS].lock().expect("no holder panics")
    }

    pub(super) fn get(&self, id: ObjectId) -> Option<Place> {
        let used = self.clock.fetch_add(1, Relaxed);
        let mut shard = self.shard(id);
        let row = shard.get_mut(&id)?;
        row.used = used;
        Some(row.place.clone())
    }

    /// Notes a name that was seen; one that is known already stays as it is.
    pub(super) fn seen(&self, id: ObjectId, parent: ObjectId, name: &Name, round: u32) {
        let known = |row: &Row| row.place.parent == parent && row.place.name == *name;
        if self.shard(id).get(&id).is_some_and(known) {
            return;
        }
        self.named(id, parent, name, round);
    }

    /// Notes a name that was given in `round`.
    pub(super) fn named(&self, id: ObjectId, parent: ObjectId, name: &Name, round: u32) {
        let used = self.clock.fetch_add(1, Relaxed);
        let mut shard = self.shard(id);
        if shard.len() >= SHARD_MAX && !shard.contains_key(&id) {
            evict(&mut shard, used);
        }
        shard.insert(id, Row { place: Place { parent, name: name.clone() }, round, used });
    }

    /// Round in which the known name was given.
    pub(super) fn round(&self, id: ObjectId) -> Option<u32> {
        self.shard(id).get(&id).map(|row| row.round)
    }

    /// Notes that a name is durable, if it still is the known one.
    pub(super) fn durable(&self, id: ObjectId, place: &Place) {
        if let Some(row) = self.shard(id).get_mut(&id).filter(|row| row.place == *place) {
            row.round = 0;
        }
    }

    pub(super) fn forget(&self, id: ObjectId) {
        self.shard(id).remove(&id);
    }

    /// Forgets an object if this is how it is known.
    pub(super) fn forget_name(&self, id: ObjectId, parent: ObjectId, name: &Name) {
        let mut shard = self.shard(id);
        if shard.get(&id).is_some_and(|row| row.place.parent == parent && row.place.name == *name) {
            shard.remove(&id);
        }
    }
}

/// Drops the eighth that was used longest ago.
fn evict(shard: &mut HashMap<ObjectId, Row>, now: u32) {
    let mut ages: Vec<u32> = shard.values().map(|row| now.wrapping_sub(row.used)).collect();
    let Some(last) = ages.len().checked_sub(1) else { return };
    let (_, &mut oldest, _) = ages.select_nth_unstable(last - last / 8);
    shard.retain(|_, row| now.wrapping_sub(row.used) < oldest);
}
