//! What a user opens is made equal before all else.
//!
//! Nobody waits for it, and a file that is opened may be equal by now: it is looked at, and what differs is copied. Where the member has the
//! file, that is done between two steps of whatever else goes on; files that are being copied wait meanwhile. Where it has not, the names
//! above it and its own are put in first, as soon as all that is elsewhere has been taken out: before that the member might have it there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use net_raid_proto::ids::ObjectId;

use super::behind::{Place, Touched};
use super::names::Put;
use super::peer::Side;
use super::{Attempt, Result, lock};

/// So many files wait to be seen to, at most: the latest ones. The others have their usual turn.
const WAITING_MAX: usize = 64;
/// So many are known to have been seen to; then they are looked at again when they are opened.
const SEEN_MAX: usize = 4096;
/// So many are seen to between two steps of other work: what is opened all the time must not stop that.
const AT_ONCE: usize = 8;
/// Directories above a file, at most.
const DEPTH_MAX: usize = 256;

/// What users opened while a member is healed, oldest first.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    waiting: VecDeque<ObjectId>,
    /// What the member does not have yet.
    missing: VecDeque<ObjectId>,
    seen: BTreeSet<ObjectId>,
}

impl Wanted {
    /// A user opened a file.
    pub(super) fn note(&mut self, id: ObjectId) {
        if self.seen.len() >= SEEN_MAX {
            self.seen.clear();
        }
        if self.seen.insert(id) {
            self.waiting.push_back(id);
        }
        // Who opened the latest waits for it still.
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        for ids in [&mut self.waiting, &mut self.missing] {
            while ids.len() > WAITING_MAX {
                let Some(id) = ids.pop_front() else { break };
                self.seen.remove(&id);
            }
        }
    }

    /// The next one of these files.
    pub(super) fn next_of(&mut self, files: &BTreeSet<ObjectId>) -> Option<ObjectId> {
        let at = self.waiting.iter().position(|id| files.contains(id))?;
        self.waiting.remove(at)
    }

    /// The next one, which is not told of again.
    pub(super) fn next(&mut self) -> Option<ObjectId> {
        self.waiting.pop_front()
    }

    /// The same, among them what was missing.
    fn next_to_make(&mut self) -> Option<ObjectId> {
        self.missing.pop_front().or_else(|| self.next())
    }
}

impl Attempt<'_> {
    /// What users opened, a little of it; nothing while they wait for the end of a pause.
    fn wanted(&self, next: fn(&mut Wanted) -> Option<ObjectId>) -> impl Iterator<Item = ObjectId> {
        let next = move || {
            if self.is_paused() {
                return None;
            }
            lock(&self.core.healing.together).wanted(self.slot).and_then(next)
        };
        std::iter::from_fn(next).take(AT_ONCE)
    }

    fn put_off(&self, id: ObjectId) {
        if let Some(wanted) = lock(&self.core.healing.together).wanted(self.slot) {
            wanted.missing.push_back(id);
            wanted.forget_oldest();
        }
    }

    /// Makes equal what users opened where the member has it; what it has not waits for its names. Returns what has to be seen to again.
    pub(super) async fn see_to_wanted(&self) -> Result<Touched> {
        let mut again = Touched::default();
        for id in self.wanted(Wanted::next) {
            // While nothing is searched for, where it may be is only guessed.
            let found = if self.searches() { self.known(id).await? } else { self.entry(Side::Target, id).await? };
            match found {
                Some(_) => again.add(self.equal_at_once(id).await?),
                None => self.put_off(id),
            }
        }
        Ok(again)
    }

    /// Puts in the names of what users opened, from the root on, and makes it equal: not before what is elsewhere was taken out. Returns
    /// places that follow.
    pub(super) async fn put_wanted(&self, more: &mut Touched) -> Result<Vec<Place>> {
        let mut follow = Vec::new();
        for id in self.wanted(Wanted::next_to_make) {
            for place in self.way_to(id) {
                let put = self.put_in(&place, false).await?;
                let is_there = matches!(put, Put::Right(..) | Put::Made(_));
                follow.extend(self.note_put(&place, put, more).await?);
                if !is_there {
                    break;
                }
            }
            if self.known(id).await?.is_some() {
                more.add(self.equal_at_once(id).await?);
            }
        }
        Ok(follow)
    }

    async fn equal_at_once(&self, id: ObjectId) -> Result<Touched> {
        let files = BTreeMap::from([(id, self.any_of(id))]);
        let mut again = self.equal_objects(&[id], &files).await?;
        again.add(self.equal_data(files, None).await?);
        Ok(again)
    }

    /// The names on the way from the root to an object, as far as they are known.
    fn way_to(&self, id: ObjectId) -> Vec<Place> {
        let Some(paths) = self.core.paths.get() else { return Vec::new() };
        let above = |place: &Place| if place.0 == ObjectId::ROOT { None } else { paths.place_of(place.0) };
        let mut way: Vec<Place> = std::iter::successors(paths.place_of(id), above).take(DEPTH_MAX).collect();
        way.reverse();
        way
    }
}
