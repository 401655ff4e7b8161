//! Asking the member that is healed, and those that it is healed from, for objects that they may have forgotten where they are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use net_raid_proto::ids::{ObjectId, Slot};
use net_raid_proto::message::{DirEntry, Entry, Fault, Reply, Request, UnitRun};
use net_raid_proto::names::{NameParts, NameSums};
use tokio::time::timeout;

use super::behind::Place;
use super::{Attempt, Halt, Result, lock};
use crate::conn::{CallError, Response};
use crate::volume::query::nonsense;

/// Times that a member is told where an object is before that counts as hopeless.
const SHOW_MAX: usize = 64;
/// Directories between the root and an object that is shown; deeper ones are searched for.
const DEPTH_MAX: usize = 256;
/// A request that takes longer than this breaks the healing off: only a disk that hangs does.
const HANG_MAX: Duration = Duration::from_secs(60);

/// Which side of the healing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    /// The member that is healed.
    Target,
    /// A current one.
    Source(Slot),
}

/// Where objects were seen, by their ids.
#[derive(Default)]
pub(super) struct Places {
    target: HashMap<ObjectId, Place>,
    source: HashMap<ObjectId, Place>,
    /// Seen on the member that is healed at some time.
    met: HashSet<ObjectId>,
    /// Searched for on the member that is healed, and not found.
    absent: HashSet<ObjectId>,
}

/// What was found.
pub(super) enum Found {
    /// It is there.
    There(Entry),
    /// It is not.
    Gone,
    /// Nobody could say: it may have been moved just now.
    Unsure,
}

impl Found {
    fn entry(self) -> Option<Entry> {
        match self {
            Found::There(entry) => Some(entry),
            Found::Gone | Found::Unsure => None,
        }
    }
}

/// What an object that is not there is answered with.
pub(super) fn is_gone(errno: i32) -> bool {
    matches!(errno, libc::ENOENT | libc::ESTALE | libc::ENOTDIR)
}

impl Attempt<'_> {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes where an object is.
    pub(super) fn saw(&self, side: Side, id: ObjectId, place: Place) {
        let mut places = self.places();
        match side {
            Side::Target => {
                places.absent.remove(&id);
                places.met.insert(id);
                places.target.insert(id, place)
            }
            Side::Source(_) => places.source.insert(id, place),
        };
    }

    /// Notes where objects were, for those of which nothing is known.
    pub(super) fn heard(&self, seen: BTreeMap<ObjectId, Place>) {
        let mut places = self.places();
        seen.into_iter().for_each(|(id, place)| {
            places.source.entry(id).or_insert(place);
        });
    }

    /// Notes that an object has a place no more, where it was seen last.
    pub(super) fn lost_sight(&self, id: ObjectId) {
        self.places().target.remove(&id);
    }

    /// How many directories are above one, as far as is known.
    pub(super) fn depth(&self, side: Side, id: ObjectId) -> usize {
        let places = self.places();
        let above = match side {
            Side::Target => &places.target,
            Side::Source(_) => &places.source,
        };
        std::iter::successors(Some(id), |id| above.get(id).map(|(parent, _)| *parent)).take(DEPTH_MAX).count()
    }

    fn slot_of(&self, side: Side) -> Slot {
        match side {
            Side::Target => self.slot,
            Side::Source(slot) => slot,
        }
    }

    async fn call(
        &self,
        side: Side,
        request: &Request,
        payload: &[Bytes],
        resend: &Arc<AtomicBool>,
    ) -> Result<std::result::Result<Response, Fault>> {
        if side == Side::Target {
            self.check_open()?;
        }
        let conn = self.core.members.conn(self.slot_of(side));
        let call = conn.call_telling(request, payload.to_vec(), Vec::new(), resend);
        match timeout(HANG_MAX, call).await {
            Ok(Ok(response)) => Ok(Ok(response)),
            Ok(Err(CallError::Fault(fault @ (Fault::StaleEpoch(_) | Fault::Held { .. })))) => {
                self.core.members.note_taken_over(&fault);
                Err(self.halt(side, &fault.to_string()))
            }
            Ok(Err(CallError::Fault(fault @ (Fault::Unresolved(_) | Fault::Errno(_))))) => Ok(Err(fault)),
            Ok(Err(error)) => Err(self.halt(side, &error.to_string())),
            Err(_) => Err(self.halt(side, "a request hangs")),
        }
    }

    pub(super) fn halt(&self, side: Side, why: &str) -> Halt {
        match side {
            Side::Target => Halt(why.to_string()),
            Side::Source(slot) => Halt(format!("{}: {why}", self.core.members.server(slot))),
        }
    }

    /// Asks, and shows objects that are not known there; an errno where the object is gone, or the request is refused.
    pub(super) async fn ask(
        &self,
        side: Side,
        request: &Request,
        payload: &[Bytes],
    ) -> Result<std::result::Result<Response, i32>> {
        // A brick that restarts forgets where objects are, but what it did before is done.
        let resend = Arc::default();
        for _ in 0..SHOW_MAX {
            match self.call(side, request, payload, &resend).await? {
                Ok(response) => return Ok(Ok(response)),
                Err(Fault::Errno(errno)) => return Ok(Err(errno)),
                Err(Fault::Unresolved(id)) if self.show(side, id, 0).await? => {}
                Err(_) => return Ok(Err(libc::ESTALE)),
            }
        }
        Ok(Err(libc::ESTALE))
    }

    /// Lets a member come by an object; whether it did.
    async fn show(&self, side: Side, id: ObjectId, depth: usize) -> Result<bool> {
        if self.is_absent(side, id) {
            return Ok(false);
        }
        let guesses = self.guesses(side, id);
        // What was made since has been seen where it was named, unless it was not made after all.
        if guesses.is_empty() && self.is_new(id) {
            return Ok(false);
        }
        for place in guesses {
            if self.show_at(side, id, place, depth).await? {
                return Ok(true);
            }
        }
        let is_source = matches!(side, Side::Source(_));
        if is_source && (self.may_be_gone(id) || self.has_gone(id)) || !self.searches() {
            return Ok(false);
        }
        let moved = self.count_moved();
        let found = match self.core.search(self.slot_of(side), id).await {
            Ok(()) => true,
            Err(CallError::Fault(_)) => false,
            Err(CallError::Lost(why)) => return Err(self.halt(side, &why)),
        };
        if !found && is_source && moved == self.count_moved() {
            self.searched.store(true, Ordering::Relaxed);
        } else if !found && !is_source {
            self.places().absent.insert(id);
        }
        Ok(found)
    }

    /// Whether an object that was not found where it was seen is nowhere on a source. What was there when the attempt began, and has no
    /// other name since, was come by where it differs from what the member has: so what the member had at one place only, where the
    /// others do not have it, is gone; and so is what no search has come by.
    fn has_gone(&self, id: ObjectId) -> bool {
        let is_known = self.searched.load(Ordering::Relaxed) || lock(&self.taken_out).contains(&id);
        is_known && !self.is_moving(id) && !lock(&self.moved).contains(&id)
    }

    fn count_moved(&self) -> usize {
        lock(&self.moved).len() + lock(&self.core.healing.frontier).moved(self.slot).0.len()
    }

    async fn show_at(&self, side: Side, id: ObjectId, (parent, name): Place, depth: usize) -> Result<bool> {
        let request = Request::Lookup { parent, name };
        for _ in 0..2 {
            match self.call(side, &request, &[], &Arc::default()).await? {
                Ok(Response { reply: Reply::Entry(entry), .. }) => return Ok(entry.id == id),
                Err(Fault::Unresolved(above)) if above != id && depth < DEPTH_MAX => {
                    if !Box::pin(self.show(side, above, depth + 1)).await? {
                        return Ok(false);
                    }
                }
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    fn guesses(&self, side: Side, id: ObjectId) -> Vec<Place> {
        let places = self.places();
        let target = places.target.get(&id).filter(|_| side == Side::Target);
        let mut guesses: Vec<Place> = target.into_iter().chain(places.source.get(&id)).cloned().collect();
        drop(places);
        guesses.extend(self.core.paths.get().and_then(|paths| paths.place_of(id)));
        guesses.dedup();
        guesses
    }

    fn is_absent(&self, side: Side, id: ObjectId) -> bool {
        let places = self.places();
        side == Side::Target && (places.absent.contains(&id) || self.is_new(id) && !places.met.contains(&id))
    }

    /// Whether the member has come by an object.
    pub(super) fn has_met(&self, id: ObjectId) -> bool {
        self.places().met.contains(&id)
    }

    /// What was not found may be found from now on.
    pub(super) fn forget_absent(&self) {
        self.places().absent.clear();
    }

    /// What a name in a directory names; nothing where the directory is gone.
    pub(super) async fn lookup(&self, side: Side, place: &Place) -> Result<Option<Entry>> {
        Ok(self.find(side, place).await?.entry())
    }

    /// The same, and whether that is certain.
    pub(super) async fn find(&self, side: Side, place: &Place) -> Result<Found> {
        let request = Request::Lookup { parent: place.0, name: place.1.clone() };
        let found = self.entry_of(side, place.0, &request).await?;
        if let Found::There(entry) = &found {
            self.saw(side, entry.id, place.clone());
        }
        Ok(found)
    }

    /// An object by its id; `None` where it is gone.
    pub(super) async fn entry(&self, side: Side, id: ObjectId) -> Result<Option<Entry>> {
        Ok(self.find_object(side, id).await?.entry())
    }

    /// The same, and whether that is certain.
    pub(super) async fn find_object(&self, side: Side, id: ObjectId) -> Result<Found> {
        self.entry_of(side, id, &Request::GetAttr { id }).await
    }

    async fn entry_of(&self, side: Side, id: ObjectId, request: &Request) -> Result<Found> {
        match self.ask(side, request, &[]).await? {
            Ok(Response { reply: Reply::Entry(entry), .. }) if self.core.fits(&entry) => Ok(Found::There(*entry)),
            Ok(_) => Err(self.halt(side, &nonsense().to_string())),
            // Looking for something that moves meanwhile may miss it.
            Err(libc::ESTALE) if matches!(side, Side::Source(_)) && !self.is_certain(id) => Ok(Found::Unsure),
            Err(errno) if is_gone(errno) => Ok(Found::Gone),
            Err(errno) => Err(self.refused(side, "looking at names", errno)),
        }
    }

    /// Whether an object that is not found on a source is gone for certain.
    fn is_certain(&self, id: ObjectId) -> bool {
        self.is_paused()
            || self.may_be_gone(id)
            || self.has_gone(id)
            || self.is_new(id) && self.guesses(Side::Source(self.slot), id).is_empty()
    }

    /// An object on the member that is healed, if that keeps it outside of the tree, or has it where one of the two came by it.
    pub(super) async fn known(&self, id: ObjectId) -> Result<Option<Entry>> {
        let mut place = self.places().target.get(&id).cloned();
        loop {
            match self.call(Side::Target, &Request::GetAttr { id }, &[], &Arc::default()).await? {
                Ok(Response { reply: Reply::Entry(entry), .. }) if entry.id == id => return Ok(Some(*entry)),
                Ok(_) => return Err(self.halt(Side::Target, &nonsense().to_string())),
                Err(Fault::Errno(errno)) if !is_gone(errno) => {
                    return Err(self.refused(Side::Target, "looking at names", errno));
                }
                Err(_) => {}
            }
            // If it was restarted it has forgotten what it came by.
            let Some(place) = place.take() else { return Ok(None) };
            if !self.show_at(Side::Target, id, place, 0).await? {
                return Ok(None);
            }
        }
    }

    /// Whether a source has an object, as far as can be told without searching for it.
    pub(super) async fn has(&self, side: Side, id: ObjectId) -> Result<bool> {
        let request = Request::GetAttr { id };
        if self.call(side, &request, &[], &Arc::default()).await?.is_ok() {
            return Ok(true);
        }
        for place in self.guesses(side, id) {
            if self.show_at(side, id, place, DEPTH_MAX).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn refused(&self, side: Side, what: &str, errno: i32) -> Halt {
        self.halt(side, &format!("{what}: {}", std::io::Error::from_raw_os_error(errno)))
    }

    /// All pages of something; `None` when it is gone.
    async fn pages<T>(
        &self,
        side: Side,
        request: impl Fn(u64) -> Request,
        mut page: impl FnMut(Reply) -> Option<(Vec<T>, Option<u64>)>,
    ) -> Result<Option<Vec<T>>> {
        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let reply = match self.ask(side, &request(cursor), &[]).await? {
                Ok(response) => response.reply,
                Err(errno) if is_gone(errno) => return Ok(None),
                Err(errno) => return Err(self.refused(side, "reading a directory", errno)),
            };
            let Some((some, next)) = page(reply) else { return Err(self.halt(side, &nonsense().to_string())) };
            all.extend(some);
            let Some(next) = next else { return Ok(Some(all)) };
            cursor = next;
        }
    }

    /// All names of a directory.
    pub(super) async fn names_of(&self, side: Side, id: ObjectId) -> Result<Option<Vec<DirEntry>>> {
        self.names_in(side, id, NameParts::ALL).await
    }

    /// Those in some parts.
    pub(super) async fn names_in(&self, side: Side, id: ObjectId, parts: NameParts) -> Result<Option<Vec<DirEntry>>> {
        let request = |cursor| Request::ReadNames { id, cursor, parts };
        let found = self.pages(side, request, page_of).await?;
        for entry in found.iter().flatten() {
            self.saw(side, entry.id, (id, entry.name.clone()));
        }
        Ok(found)
    }

    /// What a member keeps outside of the tree.
    pub(super) async fn orphans(&self, side: Side) -> Result<Vec<DirEntry>> {
        let found = self.pages(side, |cursor| Request::ReadOrphans { cursor }, page_of).await?;
        Ok(found.unwrap_or_default())
    }

    /// The names of a directory whose objects changed since, and sums over the others.
    pub(super) async fn changed_in(&self, side: Side, id: ObjectId) -> Result<Option<(Vec<DirEntry>, NameSums)>> {
        let mut sum = NameSums::default();
        let request = |cursor| Request::ReadChanged { id, cursor, since: self.since };
        let page = |reply| match reply {
            Reply::Changed { entries, others, next } => {
                sum.merge(&others);
                Some((entries, next))
            }
            _ => None,
        };
        let found = self.pages(side, request, page).await?;
        for entry in found.iter().flatten() {
            self.saw(side, entry.id, (id, entry.name.clone()));
        }
        Ok(found.map(|found| (found, sum)))
    }

    /// The units of a file that were written, and when.
    pub(super) async fn units_of(&self, side: Side, id: ObjectId) -> Result<Option<Vec<UnitRun>>> {
        let request = |cursor| Request::ReadUnits { id, cursor, since: self.since };
        let page = |reply| match reply {
            Reply::Units { runs, next } => Some((runs, next)),
            _ => None,
        };
        self.pages(side, request, page).await
    }
}

fn page_of(reply: Reply) -> Option<(Vec<DirEntry>, Option<u64>)> {
    match reply {
        Reply::Page { entries, next } => Some((entries, next)),
        _ => None,
    }
}
