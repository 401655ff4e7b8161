//! All objects in memory, with their names: what the kernel knows, and a path to each for bricks that forgot.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_raid_proto::ids::{Name, ObjectId};
use net_raid_proto::message::Entry;

use super::inode::{Inode, Life, State};
use crate::volume::PathSource;

/// Longest walk to the root: Linux has no limit, this one only ends a walk in damaged tables.
const DEPTH_MAX: usize = 100_000;
/// So many objects linger before those are looked for that do not any more.
const LINGERING_MIN: usize = 64;
/// Maps below this capacity are never shrunk.
const SHRINK_MIN: usize = 4096;

/// The objects. One lock, held for a few map operations and never across an await; [`Inode::state`] may be locked
/// under it.
#[derive(Default)]
pub(super) struct Table {
    maps: Mutex<Maps>,
}

#[derive(Default)]
struct Maps {
    slots: HashMap<ObjectId, Slot>,
    /// Objects that were let go while something was under way with them: looked up again, they are the same, with the same
    /// locks, or two writers of one stripe would not know of each other.
    lingering: HashMap<ObjectId, Arc<Inode>>,
    /// Counts changed objects that were dropped: what a brick told before that may be older than what it would
    /// tell now, and nobody in memory knows better any more.
    drops: u64,
}

struct Slot {
    inode: Arc<Inode>,
    /// Of the kernel, and of operations under way.
    references: u64,
    /// Directory and name of every known name.
    names: Vec<(ObjectId, Name)>,
    /// Known names in this directory. They keep it here: paths go through it.
    children: HashMap<Name, ObjectId>,
}

/// A moment, to tell whether what a brick told since is out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Since(u64);

/// A reference to an object for the time of an operation.
pub(super) struct Held<'a> {
    table: &'a Table,
    /// The object.
    pub inode: Arc<Inode>,
    /// The reference stays.
    kept: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.table.release(self.inode.id);
        }
    }
}

impl Held<'_> {
    /// Leaves the reference to the kernel.
    pub(super) fn into_kernel(mut self) -> Arc<Inode> {
        self.kept = true;
        self.inode.clone()
    }
}

impl Table {
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now.
    pub(super) fn now(&self) -> Since {
        Since(self.maps().drops)
    }

    /// Whether every object that was changed since is still here.
    pub(super) fn is_current(&self, since: Since) -> bool {
        self.now() == since
    }

    /// The object, if it is here.
    pub(super) fn get(&self, id: ObjectId) -> Option<Arc<Inode>> {
        self.maps().slots.get(&id).map(|slot| slot.inode.clone())
    }

    /// The object, if it is here, held.
    pub(super) fn held(&self, id: ObjectId) -> Option<Held<'_>> {
        self.held_in(&mut self.maps(), id)
    }

    /// What a name in a directory names, if that is known, held.
    pub(super) fn child(&self, parent: ObjectId, name: &Name) -> Option<Held<'_>> {
        let mut maps = self.maps();
        let id = *maps.slots.get(&parent)?.children.get(name)?;
        self.held_in(&mut maps, id)
    }

    fn held_in(&self, maps: &mut Maps, id: ObjectId) -> Option<Held<'_>> {
        let slot = maps.slots.get_mut(&id)?;
        slot.references += 1;
        Some(Held { table: self, inode: slot.inode.clone(), kept: false })
    }

    /// Takes in what a brick told (or what was just made), and holds it. What is here already is newer.
    ///
    /// Without `at` it is an object whose name does not matter: the root.
    pub(super) fn hold(&self, entry: Entry, at: Option<(ObjectId, &Name)>) -> Held<'_> {
        let mut maps = self.maps();
        let id = entry.id;
        let lingering = maps.take_lingering(id);
        let slot = maps.slots.entry(id).or_insert_with(|| Slot::new(entry, lingering));
        slot.references += 1;
        let inode = slot.inode.clone();
        if let Some((parent, name)) = at {
            maps.name(id, parent, name);
        }
        Held { table: self, inode, kept: false }
    }

    /// Notes a name.
    pub(super) fn name(&self, id: ObjectId, parent: ObjectId, name: &Name) {
        self.maps().name(id, parent, name);
    }

    /// Notes that a name is gone.
    pub(super) fn unname(&self, parent: ObjectId, name: &Name) {
        let mut maps = self.maps();
        maps.unname(parent, name);
        maps.settle(parent);
    }

    /// Notes a rename; with `exchange` both names stay and change places.
    pub(super) fn rename(&self, old: (ObjectId, &Name), new: (ObjectId, &Name), exchange: bool) {
        let mut maps = self.maps();
        let source = maps.unname(old.0, old.1);
        let target = maps.unname(new.0, new.1);
        if let Some(source) = source {
            maps.name(source, new.0, new.1);
        }
        if let Some(target) = target.filter(|_| exchange) {
            maps.name(target, old.0, old.1);
        }
        maps.settle(old.0);
        maps.settle(new.0);
    }

    /// Takes back references.
    pub(super) fn forget(&self, id: ObjectId, count: u64) {
        self.maps().forget(id, count, 0);
    }

    /// Takes back the reference of a [`Held`], which has the object until this is done.
    fn release(&self, id: ObjectId) {
        self.maps().forget(id, 1, 1);
    }

    /// Lets go of an object that nothing refers to any more.
    pub(super) fn settle(&self, id: ObjectId) {
        self.maps().settle(id);
    }

    /// Directory of a name of the object.
    pub(super) fn parent_of(&self, id: ObjectId) -> Option<ObjectId> {
        let maps = self.maps();
        maps.slots.get(&id)?.names.first().map(|(parent, _)| *parent)
    }

    /// Ids of the objects for which `wanted` holds.
    pub(super) fn ids(&self, wanted: impl Fn(&State) -> bool) -> Vec<ObjectId> {
        let maps = self.maps();
        maps.slots.iter().filter(|(_, slot)| wanted(&slot.inode.state())).map(|(id, _)| *id).collect()
    }
}

impl PathSource for Table {
    /// The path through the first known name. While a rename is under way it is the old one, which a brick that
    /// renamed already answers with ENOENT: the volume asks again after the rename.
    fn path_of(&self, id: ObjectId) -> Option<Vec<Name>> {
        let maps = self.maps();
        let mut path = Vec::new();
        let mut at = id;
        while at != ObjectId::ROOT {
            let (parent, name) = maps.slots.get(&at)?.names.first()?;
            path.push(name.clone());
            at = *parent;
            if path.len() > DEPTH_MAX {
                return None;
            }
        }
        path.reverse();
        Some(path)
    }

    fn place_of(&self, id: ObjectId) -> Option<(ObjectId, Name)> {
        self.maps().slots.get(&id)?.names.first().cloned()
    }

    fn has_one_name(&self, id: ObjectId) -> bool {
        let maps = self.maps();
        maps.slots.get(&id).is_some_and(|slot| slot.inode.is_directory() || slot.inode.state().attr.nlink <= 1)
    }

    /// One of several names was all that was known, and it was removed.
    fn has_unknown_name(&self, id: ObjectId) -> bool {
        let maps = self.maps();
        maps.slots.get(&id).is_some_and(|slot| {
            let state = slot.inode.state();
            slot.names.is_empty() && state.life == Life::Named && state.attr.nlink > 0
        })
    }
}

impl Slot {
    fn new(entry: Entry, lingering: Option<Arc<Inode>>) -> Slot {
        // The root is never dropped: everything is found from there.
        let references = u64::from(entry.id == ObjectId::ROOT);
        let inode = lingering.unwrap_or_else(|| Arc::new(Inode::new(entry)));
        Slot { inode, references, names: Vec::new(), children: HashMap::new() }
    }

    /// Whether what a brick told earlier may be out of date now; of what is gone nothing will be told.
    fn is_newer_than_bricks_said(&self) -> bool {
        let state = self.inode.state();
        state.changed && state.life != Life::Gone
    }

    fn is_needed(&self) -> bool {
        self.references > 0 || !self.children.is_empty() || self.inode.state().opens > 0
    }
}

/// Whether an operation or a task has the object, beside the table and `users`.
fn is_busy(inode: &Arc<Inode>, users: usize) -> bool {
    Arc::strong_count(inode) > 1 + users
        || inode.file.as_ref().is_some_and(|file| Arc::strong_count(file) > 1 || file.is_busy())
}

impl Maps {
    /// The object as it was let go, if something is under way with it still.
    fn take_lingering(&mut self, id: ObjectId) -> Option<Arc<Inode>> {
        self.lingering.remove(&id).filter(|inode| is_busy(inode, 0))
    }

    /// Keeps an object that was let go in the middle of something; amortised, as few linger at a time.
    fn linger(&mut self, inode: Arc<Inode>, users: usize) {
        if !is_busy(&inode, users) {
            return;
        }
        if self.lingering.len() >= LINGERING_MIN && self.lingering.len() == self.lingering.capacity() {
            self.lingering.retain(|_, inode| is_busy(inode, 0));
        }
        self.lingering.insert(inode.id, inode);
    }

    fn name(&mut self, id: ObjectId, parent: ObjectId, name: &Name) {
        if !self.slots.contains_key(&id) {
            return;
        }
        let Some(directory) = self.slots.get_mut(&parent) else { return };
        let before = directory.children.insert(name.clone(), id);
        if before == Some(id) {
            return;
        }
        if let Some(slot) = before.and_then(|before| self.slots.get_mut(&before)) {
            slot.names.retain(|(p, n)| (*p, n) != (parent, name));
        }
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.names.push((parent, name.clone()));
        }
    }

    fn unname(&mut self, parent: ObjectId, name: &Name) -> Option<ObjectId> {
        let directory = self.slots.get_mut(&parent)?;
        let id = directory.children.remove(name)?;
        shrink(&mut directory.children);
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.names.retain(|(p, n)| (*p, n) != (parent, name));
        }
        Some(id)
    }

    fn forget(&mut self, id: ObjectId, count: u64, users: usize) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.references = slot.references.saturating_sub(count);
            self.settle_but(id, users);
        }
    }

    fn settle(&mut self, id: ObjectId) {
        self.settle_but(id, 0);
    }

    /// Drops the object when nothing needs it, then the directories that were here only for it. So many `users` have it
    /// for a moment only.
    fn settle_but(&mut self, id: ObjectId, mut users: usize) {
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            if self.slots.get(&id).is_none_or(Slot::is_needed) {
                continue;
            }
            let Some(slot) = self.slots.remove(&id) else { continue };
            self.drops += u64::from(slot.is_newer_than_bricks_said());
            self.linger(slot.inode, std::mem::take(&mut users));
            for (parent, name) in slot.names {
                if let Some(directory) = self.slots.get_mut(&parent) {
                    directory.children.remove(&name);
                    shrink(&mut directory.children);
                }
                waiting.push(parent);
            }
        }
        shrink(&mut self.slots);
    }
}

/// Gives memory back when a map is nearly empty; amortised, since it halves at least.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > SHRINK_MIN && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
mod tests;
