//! The first look at a name in an ownership: all members are asked at once, because what one of them says may be of a lost write,
//! or lost.
//!
//! Where they agree, that took no longer than asking one. Where they do not, the name is scrubbed before anybody hears of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use net_raid_proto::ids::{Digest, Name, ObjectId, Slot};
use net_raid_proto::message::{DirEntry, Entry, Fault, Kind, Reply, Request};
use tokio::time::{sleep, timeout};

use super::Pass;
use super::compare::Told;
use super::names::Named;
use super::peer::Spot;
use crate::conn::{CallError, Class};
use crate::layout::SlotSet;
use crate::volume::query::nonsense;
use crate::volume::{Core, VolumeError};

/// Between two attempts to put the bytes of an old version right.
const DOUBT_AGAIN: Duration = Duration::from_secs(1);
/// So many names that cannot be decided are remembered.
const UNDECIDED_MAX: usize = 10_000;

/// Members that are not read for some objects.
#[derive(Default)]
pub(in crate::volume) struct Doubts {
    any: AtomicBool,
    of: Mutex<HashMap<ObjectId, SlotSet>>,
    /// Names that were looked into in vain.
    undecided: Mutex<HashSet<(ObjectId, Name)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Doubts {
    /// Those of `slots` whose bytes of an object may be read.
    pub(in crate::volume) fn believed(&self, id: ObjectId, slots: SlotSet) -> SlotSet {
        if !self.any.load(Ordering::Acquire) {
            return slots;
        }
        lock(&self.of).get(&id).map_or(slots, |doubted| SlotSet(slots.0 & !doubted.0))
    }

    pub(super) fn add(&self, id: ObjectId, slots: SlotSet) {
        if slots.is_empty() {
            return;
        }
        let mut of = lock(&self.of);
        let doubted = of.entry(id).or_default();
        doubted.0 |= slots.0;
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn end(&self, id: ObjectId) {
        let mut of = lock(&self.of);
        of.remove(&id);
        self.any.store(!of.is_empty(), Ordering::Release);
    }

    fn leave(&self, dir: ObjectId, name: &Name) {
        let mut undecided = lock(&self.undecided);
        if undecided.len() < UNDECIDED_MAX {
            undecided.insert((dir, name.clone()));
        }
    }
}

fn agree(one: &Entry, other: &Entry) -> bool {
    let told = |entry: &Entry| Told::new(entry, Digest::HOLE);
    told(one) == told(other)
}

/// The version that was changed last.
fn newest(found: Vec<Option<Entry>>) -> Option<Entry> {
    found.into_iter().flatten().max_by_key(|entry| (entry.stamp, entry.attr.ctime))
}

impl Core {
    /// Finds a name.
    pub(in crate::volume) async fn lookup(
        self: &Arc<Core>,
        parent: ObjectId,
        name: &Name,
    ) -> Result<Entry, VolumeError> {
        self.members.check_owned()?;
        let request = Request::Lookup { parent, name: name.clone() };
        let mut found = self.find_on_all(&request).await;
        if !do_agree(&found) {
            self.look_into(parent, name).await;
            found = self.find_on_all(&request).await;
        }
        if found.is_empty() {
            // Who is late, or comes back, is waited for.
            return self.entry(parent, &request).await;
        }
        match newest(found) {
            Some(entry) if self.fits(&entry) => Ok(entry),
            Some(_) => Err(nonsense()),
            None => Err(VolumeError::Errno(libc::ENOENT)),
        }
    }

    /// What each member says that answers in good time.
    async fn find_on_all(&self, request: &Request) -> Vec<Option<Entry>> {
        let class = Class::of(request);
        let asks = self.prompt().iter().map(|slot| self.in_good_time(slot, class, self.ask(slot, request, &[], false)));
        let asks: Vec<_> = asks.collect();
        let found = join_all(asks).await.into_iter().flatten().filter_map(|answer| match answer {
            Ok(response) => match response.reply {
                Reply::Entry(entry) => Some(Some(*entry)),
                _ => None,
            },
            Err(CallError::Fault(Fault::Errno(libc::ENOENT))) => Some(None),
            Err(CallError::Fault(fault @ (Fault::StaleEpoch(_) | Fault::Held { .. }))) => {
                self.members.note_taken_over(&fault);
                None
            }
            Err(_) => None,
        });
        found.collect()
    }

    /// Scrubs a name, and waits until its attributes are right; of its bytes those are not read that may be old.
    async fn look_into(self: &Arc<Core>, parent: ObjectId, name: &Name) {
        let doubts = &self.scrubs.doubts;
        if lock(&doubts.undecided).contains(&(parent, name.clone())) {
            return;
        }
        let Some(path) = self.paths.get().and_then(|paths| paths.path_of(parent)) else { return };
        let (core, dir, name) = (Arc::clone(self), Spot { id: parent, path }, name.clone());
        let looked = tokio::spawn(async move {
            let pass = Pass::new(&core);
            match pass.mend_one(&dir, &name).await {
                Ok(true) => {}
                Ok(false) => core.scrubs.doubts.leave(dir.id, &name),
                Err(halt) => tracing::debug!(why = halt.0, "a name was not looked into"),
            }
        });
        let _ = timeout(self.timeout(), looked).await;
    }

    /// A whole directory as all members have it together, by names, so that the order stays when a member goes. Attributes come with those entries of which all say the same.
    pub(in crate::volume) async fn read_dir_of_all(
        &self,
        id: ObjectId,
        attributes: bool,
    ) -> Result<Vec<DirEntry>, VolumeError> {
        self.members.check_owned()?;
        let asked: Vec<_> = self.prompt().iter().map(|slot| self.list_in_time(slot, id, attributes)).collect();
        let lists: Vec<Vec<DirEntry>> = join_all(asked).await.into_iter().flatten().collect();
        let count = lists.len();
        if count < 2 {
            let mut all = self.read_dir(id, attributes).await?;
            all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            return Ok(all);
        }
        let mut merged: BTreeMap<Name, (DirEntry, usize)> = BTreeMap::new();
        for found in lists.into_iter().flatten() {
            match merged.get_mut(&found.name) {
                None => drop(merged.insert(found.name.clone(), (found, 1))),
                Some((first, seen)) => {
                    let same = match (&first.entry, &found.entry) {
                        (Some(one), Some(other)) => agree(one, other),
                        _ => first.id == found.id && !attributes,
                    };
                    *seen += usize::from(same);
                }
            }
        }
        let told = |(mut found, seen): (DirEntry, usize)| {
            let fits = found.entry.as_ref().is_none_or(|entry| self.fits(entry));
            if seen < count || !fits {
                // Whoever wants to know looks the name up.
                found.entry = None;
            }
            found
        };
        Ok(merged.into_values().map(told).collect())
    }

    /// `None` when the member is late, or does not answer.
    async fn list_in_time(&self, slot: Slot, id: ObjectId, attributes: bool) -> Option<Vec<DirEntry>> {
        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let request = Request::ReadDir { id, cursor, attributes };
            let answer = self.in_good_time(slot, Class::of(&request), self.ask(slot, &request, &[], false)).await?;
            let Reply::Page { entries, next } = answer.ok()?.reply else { return None };
            all.extend(entries);
            let Some(next) = next else { return Some(all) };
            cursor = next;
        }
    }
}

fn do_agree(found: &[Option<Entry>]) -> bool {
    found.windows(2).all(|pair| match (&pair[0], &pair[1]) {
        (Some(one), Some(other)) => agree(one, other),
        (None, None) => true,
        _ => false,
    })
}

impl Pass<'_> {
    /// Puts the attributes of one name right; its bytes follow, and then its times. Whether all of it can be.
    async fn mend_one(&self, dir: &Spot, name: &Name) -> Result<bool, super::Halt> {
        let mut mended = SlotSet::default();
        let Some(named) = self.mend_found(dir, name, &mut mended).await? else { return Ok(true) };
        let Some(Named { right, outdated, is_times }) = named else { return Ok(false) };
        let core = Arc::clone(self.core);
        let is_file = right.attr.kind == Kind::File;
        if is_file {
            // Before this is answered nobody reads the file.
            core.scrubs.doubts.add(right.id, outdated);
        }
        if mended.is_empty() && !(is_file && is_times) {
            return Ok(false);
        }
        if !mended.is_empty() {
            self.equal_directory(dir, mended).await?;
        }
        if !is_file {
            return Ok(true);
        }
        // While times differ, each look at the name would begin this again.
        core.scrubs.doubts.leave(dir.id, name);
        let (dir, name) = (dir.clone(), name.clone());
        tokio::spawn(async move {
            let mut wrong = SlotSet::default();
            let spot = dir.child(right.id, &name);
            // Until its bytes are right, those who have older ones are not read.
            while !core.scrubs.closed.load(Ordering::Acquire) && core.members.check_owned().is_ok() {
                let pass = Pass::new(&core);
                let looked = async {
                    let looked = pass.scrub_data(&spot, &right, outdated).await?;
                    wrong.0 |= looked.mended.0;
                    if looked.is_done {
                        core.scrubs.doubts.end(right.id);
                        pass.mend_times(&dir, &name, wrong).await?;
                        pass.conclude().await?;
                    }
                    Ok::<bool, super::Halt>(looked.is_done)
                };
                match looked.await {
                    Ok(true) => {
                        lock(&core.scrubs.doubts.undecided).remove(&(dir.id, name));
                        return;
                    }
                    Ok(false) => {}
                    Err(halt) => tracing::debug!(why = halt.0, "a file was not read whole"),
                }
                sleep(DOUBT_AGAIN).await;
            }
        });
        Ok(true)
    }
}
