//! What is damaged beyond repair, in this mount: kept in mind until it is whole or gone.
//!
//! ```text
//!   a read, or a scrub, finds it ──► listed ──► rewritten, cut off, removed, or found to be good by a scrub: not any more
//! ```
//!
//! A stripe that could not be had whole is looked at again after each change of it. One whose units contradict each other can be read all
//! the same, so only what replaces all of it counts.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::message::{Change, RenameTarget, Request};

use super::gather::Damage;
use super::{Core, File, VolumeError};
use crate::events::Event;
use crate::layout::BLOCK;

/// So many objects are listed.
pub const DAMAGED_MAX: usize = 1000;
/// So many stripes of each are listed.
pub const DAMAGED_STRIPES_MAX: usize = 1000;

/// All that is known to be damaged beyond repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damaged {
    /// By path.
    pub objects: Vec<DamagedObject>,
    /// More than [`DAMAGED_MAX`] were found: those that are not listed are found again by the next scrub.
    pub has_more: bool,
}

/// Something that is damaged beyond repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedObject {
    /// Its id.
    pub id: ObjectId,
    /// Its path, or its id in words where no path is known.
    pub path: String,
    /// Stripes that cannot be read, or whose units contradict each other, in their order; the first [`DAMAGED_STRIPES_MAX`].
    pub stripes: Vec<u64>,
    /// What of its name and attributes contradicts itself.
    pub contradiction: Option<String>,
    /// When it was found.
    pub since: Timestamp,
    /// Who found it.
    pub found_by: Finder,
}

/// Who finds damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finder {
    /// A read, also one that a write needs.
    Read,
    /// A scrub.
    Scrub,
}

/// What is wrong with a stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Too few good units are left.
    Unreadable,
    /// Its units contradict each other.
    Contradictory,
}

/// Stripes with what is wrong with each.
pub(super) type Stripes = BTreeMap<u64, Wrong>;

struct Entry {
    path: String,
    stripes: Stripes,
    contradiction: Option<String>,
    since: Timestamp,
    found_by: Finder,
}

/// The list.
#[derive(Default)]
pub(super) struct Damages {
    /// Nobody pays for it as long as it is empty.
    any: AtomicBool,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    of: HashMap<ObjectId, Entry>,
    has_more: bool,
}

impl List {
    /// The entry of an object, made if there is room.
    fn entry(&mut self, id: ObjectId, path: String, now: Timestamp, found_by: Finder) -> Option<&mut Entry> {
        if !self.of.contains_key(&id) && self.of.len() >= DAMAGED_MAX {
            self.has_more = true;
            return None;
        }
        let new = Entry { path: String::new(), stripes: BTreeMap::new(), contradiction: None, since: now, found_by };
        let entry = self.of.entry(id).or_insert(new);
        entry.path = path;
        Some(entry)
    }
}

impl Damages {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything is listed.
    pub(super) fn is_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Changes the list, and takes out of it what has nothing wrong any more.
    fn change<T>(&self, id: ObjectId, change: impl FnOnce(&mut List) -> T) -> T {
        let mut list = self.list();
        let changed = change(&mut list);
        if list.of.get(&id).is_some_and(|entry| entry.stripes.is_empty() && entry.contradiction.is_none()) {
            list.of.remove(&id);
        }
        self.any.store(!list.of.is_empty(), Ordering::Release);
        changed
    }

    /// Something is wrong with stripes. Returns those that were not listed.
    fn add(&self, id: ObjectId, path: String, found: &Stripes, now: Timestamp, found_by: Finder) -> Vec<u64> {
        self.change(id, |list| {
            let Some(entry) = list.entry(id, path, now, found_by) else { return Vec::new() };
            let mut added = Vec::new();
            for (stripe, wrong) in found {
                let is_new = !entry.stripes.contains_key(stripe);
                if is_new && entry.stripes.len() >= DAMAGED_STRIPES_MAX {
                    continue;
                }
                entry.stripes.insert(*stripe, *wrong);
                added.extend(is_new.then_some(*stripe));
            }
            added
        })
    }

    /// Members contradict each other about a name, or do not any more.
    pub(super) fn set_contradiction(&self, id: ObjectId, path: String, why: Option<&str>, now: Timestamp) {
        self.change(id, |list| {
            if why.is_some() || list.of.contains_key(&id) {
                let entry = list.entry(id, path, now, Finder::Scrub);
                entry.into_iter().for_each(|entry| entry.contradiction = why.map(str::to_owned));
            }
        });
    }

    /// What a scrub says of all stripes of a file but `unknown` ones: with those that it `found` something is wrong, and with no others.
    pub(super) fn scrubbed(
        &self,
        id: ObjectId,
        path: impl FnOnce() -> String,
        (found, unknown): (&Stripes, &[Range<u64>]),
        now: Timestamp,
    ) {
        if found.is_empty() && !self.is_any() {
            return;
        }
        let is_known = |stripe: &u64| !unknown.iter().any(|range| range.contains(stripe));
        self.change(id, |list| {
            if let Some(entry) = list.of.get_mut(&id) {
                entry.stripes.retain(|stripe, _| !is_known(stripe) || found.contains_key(stripe));
            }
        });
        if !found.is_empty() {
            self.add(id, path(), found, now, Finder::Scrub);
        }
    }

    /// Stripes of a file in a range that are listed.
    fn stripes(&self, id: ObjectId, range: Range<u64>) -> Stripes {
        let list = self.list();
        let stripes = list.of.get(&id).map(|entry| entry.stripes.range(range));
        stripes.into_iter().flatten().map(|(stripe, wrong)| (*stripe, *wrong)).collect()
    }

    /// Stripes of a file are whole, or gone.
    fn end_stripes(&self, id: ObjectId, stripes: Range<u64>) {
        self.change(id, |list| {
            if let Some(entry) = list.of.get_mut(&id) {
                entry.stripes.retain(|stripe, _| !stripes.contains(stripe));
            }
        });
    }

    /// An object is gone.
    fn forget(&self, id: ObjectId) {
        self.change(id, |list| list.of.remove(&id));
    }

    fn has(&self, id: ObjectId) -> bool {
        self.list().of.contains_key(&id)
    }

    /// A scrub of everything begins: it finds what there was no room for.
    pub(super) fn begin_scrub(&self) {
        self.list().has_more = false;
    }
}

/// Objects that may be gone after a change.
fn removed_by(change: &Change) -> Option<ObjectId> {
    match change {
        Change::Unlink { id, .. } | Change::Rmdir { id, .. } | Change::Purge { id } => Some(*id),
        Change::Rename { target: RenameTarget::Replace { id, .. }, .. } => Some(*id),
        _ => None,
    }
}

impl Core {
    /// Everything that is listed, by path.
    pub(super) fn damaged(&self) -> Damaged {
        let mut objects: Vec<DamagedObject> = Vec::new();
        let list = self.damages.list();
        for (id, Entry { path, stripes, contradiction, since, found_by }) in &list.of {
            let (stripes, contradiction) = (stripes.keys().copied().collect(), contradiction.clone());
            objects.push(DamagedObject {
                id: *id,
                path: path.clone(),
                stripes,
                contradiction,
                since: *since,
                found_by: *found_by,
            });
        }
        let has_more = list.has_more;
        drop(list);
        for object in &mut objects {
            // It may have moved since.
            if let Some(path) = self.path_in_words(object.id) {
                object.path = path;
            }
        }
        objects.sort_by(|one, other| one.path.cmp(&other.path).then(one.id.0.cmp(&other.id.0)));
        Damaged { objects, has_more }
    }

    /// A read whose stripes are locked found more bad than the level bears: all of that in one block of each member, or perhaps in
    /// different ones, each of which can be had.
    pub(super) fn note_bad(self: &Arc<Core>, file: &File, stripe: u64, damage: &[&Damage]) {
        let start = damage.iter().map(|hurt| hurt.piece.start).min().unwrap_or(0);
        let end = damage.iter().map(|hurt| hurt.piece.end).max().unwrap_or(0);
        if end - start <= BLOCK as usize {
            self.note_unreadable(file, stripe);
        } else if !self.damages.stripes(file.id, stripe..stripe + 1).contains_key(&stripe) {
            self.look_again(file, stripe);
        }
    }

    /// The errorlog tells of what was not listed.
    pub(super) fn note_unreadable(&self, file: &File, stripe: u64) {
        let (found, path) = (Stripes::from([(stripe, Wrong::Unreadable)]), self.describe(file));
        let now = self.world.clock.now();
        if !self.damages.add(file.id, path.clone(), &found, now, Finder::Read).is_empty() {
            let what = format!("too few good units are left: stripe {stripe}");
            self.log(None, &Event::Damaged { object: path, what });
        }
    }

    /// Bytes of a file were written anew, all of them: whether what was wrong there still is.
    pub(super) fn note_written(self: &Arc<Core>, file: &File, bytes: Range<u64>) {
        if !self.damages.is_any() || bytes.is_empty() {
            return;
        }
        let stripe_bytes = file.geometry.stripe_bytes();
        let touched = bytes.start / stripe_bytes..bytes.end.div_ceil(stripe_bytes);
        for (stripe, wrong) in self.damages.stripes(file.id, touched) {
            let (start, end) = (stripe * stripe_bytes, ((stripe + 1) * stripe_bytes).min(file.size()));
            match wrong {
                _ if bytes.start <= start && end <= bytes.end => {
                    self.damages.end_stripes(file.id, stripe..stripe + 1);
                }
                Wrong::Unreadable => self.look_again(file, stripe),
                Wrong::Contradictory => {}
            }
        }
    }

    /// A file ends at its size now.
    pub(super) fn note_cut(self: &Arc<Core>, file: &File) {
        if !self.damages.is_any() {
            return;
        }
        let (size, stripe_bytes) = (file.size(), file.geometry.stripe_bytes());
        self.damages.end_stripes(file.id, size.div_ceil(stripe_bytes)..u64::MAX);
        // What is left of the last stripe may be whole.
        self.note_repaired(file, size / stripe_bytes);
    }

    /// Something of a stripe was repaired, or is gone.
    pub(super) fn note_repaired(self: &Arc<Core>, file: &File, stripe: u64) {
        if !self.damages.is_any() {
            return;
        }
        if self.damages.stripes(file.id, stripe..stripe + 1).get(&stripe) == Some(&Wrong::Unreadable) {
            self.look_again(file, stripe);
        }
    }

    /// Reads a stripe block by block, in the background: it is not listed any more if all of it can be had, and listed if not.
    fn look_again(self: &Arc<Core>, file: &File, stripe: u64) {
        let (core, file) = (Arc::clone(self), file.share());
        tokio::spawn(async move {
            let stripe_bytes = file.geometry.stripe_bytes();
            let (start, end) = (stripe * stripe_bytes, ((stripe + 1) * stripe_bytes).min(file.size()));
            for at in (start..end).step_by(BLOCK as usize) {
                let pieces = file.geometry.pieces(at, at + BLOCK);
                if core.read_carefully(&file, &pieces, Vec::new()).await.is_err() {
                    return;
                }
            }
            core.damages.end_stripes(file.id, stripe..stripe + 1);
        });
    }

    /// An object that is listed, and may be gone after a change.
    pub(super) fn removed_of_damaged(&self, change: &Change) -> Option<ObjectId> {
        removed_by(change).filter(|id| self.damages.is_any() && self.damages.has(*id))
    }

    /// A name of an object was removed: if that was all of it, it is damaged no more.
    pub(super) fn note_removed(self: &Arc<Core>, id: ObjectId) {
        let core = Arc::clone(self);
        // It may have other names, or be open.
        tokio::spawn(async move {
            if let Err(VolumeError::Errno(_)) = core.entry(id, &Request::GetAttr { id }).await {
                core.damages.forget(id);
            }
        });
    }
}
