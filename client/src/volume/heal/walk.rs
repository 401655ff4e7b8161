//! What differs between the member and the others, from what the stamps say: directories that nobody changed since are not entered.

use std::collections::{BTreeMap, BTreeSet};

use net_raid_proto::ids::{Name, ObjectId};
use net_raid_proto::message::{DirEntry, Kind};
use net_raid_proto::names::{NameParts, NameSums};

use super::behind::{Place, Stripes, Touched};
use super::peer::{Found, Side};
use super::{Attempt, Halt, Result, TOGETHER, lock};

/// So many names of a directory are looked up one by one, at most; of more, all are read.
const LOOKUPS_MAX: usize = 1024;

/// What is known so far.
#[derive(Default)]
struct Walk {
    found: Touched,
    /// Directories that were entered, or are to be.
    seen: BTreeSet<ObjectId>,
    waiting: Vec<ObjectId>,
    /// Directories that the member did not know when they were read: they may be somewhere that is read later.
    unknown: Vec<ObjectId>,
    /// Objects that changed on a source since.
    changed: BTreeSet<ObjectId>,
    /// Directories that the member has where the others do not have them, and those of them that were looked into.
    misplaced: Vec<ObjectId>,
    looked_into: BTreeSet<ObjectId>,
    /// Objects that moved meanwhile, and were looked at.
    moved: BTreeSet<ObjectId>,
    /// What they hold.
    inner: Vec<(Place, ObjectId)>,
}

/// One directory on both sides.
struct Both {
    /// Entries of what changed on some source, and of what changed on the member.
    source: Vec<DirEntry>,
    target: Option<Vec<DirEntry>>,
    /// Names that name different things, with what they name on the member.
    differing: Differing,
}

impl Attempt<'_> {
    /// Everything that may differ, but for what changes meanwhile.
    pub(super) async fn walk(&self) -> Result<Touched> {
        let mut walk = Walk { found: self.missed.clone().unwrap_or_default(), ..Walk::default() };
        self.heard(std::mem::take(&mut walk.found.seen));
        self.look_at_missed(&mut walk).await?;
        walk.enter(ObjectId::ROOT);
        walk.found.objects.insert(ObjectId::ROOT);
        let outside = self.orphans(Side::Target).await?;
        walk.misplaced.extend(outside.iter().filter(|entry| entry.kind == Kind::Directory).map(|entry| entry.id));
        loop {
            self.read_waiting(&mut walk).await?;
            self.look_into_misplaced(&mut walk).await?;
            if !self.retry_unknown(&mut walk).await? && !self.look_after_moved(&mut walk).await? {
                break;
            }
        }
        // What is outside of the tree, or below something that is gone, may be needed elsewhere.
        let mut kept = BTreeSet::new();
        for slot in self.sources()? {
            for entry in self.orphans(Side::Source(slot)).await? {
                kept.insert(entry.id);
                self.note_orphan(&mut walk, &entry);
            }
        }
        // What the others have neither there nor by a name is removed. Without that there may be very many: of an attempt that broke off.
        outside.iter().filter(|entry| kept.contains(&entry.id)).for_each(|entry| self.note_orphan(&mut walk, entry));
        let needed = |id: &ObjectId| walk.changed.contains(id) || kept.contains(id);
        let inner = walk.inner.into_iter().filter(|(_, id)| needed(id)).map(|(place, _)| place);
        walk.found.places.extend(inner);
        Ok(walk.found)
    }

    /// Directories that the member has at names of which it missed changes may be elsewhere by now, and be changed there.
    async fn look_at_missed(&self, walk: &mut Walk) -> Result<()> {
        let source = Side::Source(self.source()?);
        let places: Vec<Place> = walk.found.places.iter().cloned().collect();
        for places in places.chunks(TOGETHER) {
            let looks = places.iter().map(async |place| {
                futures_util::future::try_join(self.lookup(source, place), self.lookup(Side::Target, place)).await
            });
            for (here, there) in futures_util::future::try_join_all(looks).await? {
                let Some(there) = there.filter(|there| there.attr.kind == Kind::Directory) else { continue };
                if here.is_none_or(|here| here.id != there.id) {
                    walk.misplaced.push(there.id);
                }
            }
        }
        Ok(())
    }

    /// A file that is open without a name is written to like others.
    fn note_orphan(&self, walk: &mut Walk, orphan: &DirEntry) {
        let changed = orphan.entry.as_ref().is_some_and(|entry| entry.stamp > self.since);
        if changed && orphan.kind != Kind::Directory {
            walk.note_object(orphan);
        }
    }

    async fn read_waiting(&self, walk: &mut Walk) -> Result<()> {
        while !walk.waiting.is_empty() {
            walk.found.add(self.see_to_wanted().await?);
            let some = walk.waiting.split_off(walk.waiting.len().saturating_sub(TOGETHER));
            let reads = some.iter().map(|id| self.read_both(*id));
            for (id, both) in some.iter().zip(futures_util::future::try_join_all(reads).await?) {
                if let Some(both) = both {
                    walk.note(*id, both);
                }
            }
        }
        Ok(())
    }

    /// Reads those again that the member may know by now; whether there are some.
    async fn retry_unknown(&self, walk: &mut Walk) -> Result<bool> {
        let mut some = false;
        for id in std::mem::take(&mut walk.unknown) {
            if self.entry(Side::Target, id).await?.is_some() {
                walk.waiting.push(id);
                some = true;
            } else {
                walk.unknown.push(id);
            }
        }
        Ok(some)
    }

    /// What moves while the tree is walked may come from where nobody has looked yet to where everybody has: it is looked at by its id.
    /// Whether there was more of that.
    async fn look_after_moved(&self, walk: &mut Walk) -> Result<bool> {
        let (moved, seen) = lock(&self.core.healing.frontier).moved(self.slot);
        self.heard(seen);
        let fresh: Vec<ObjectId> =
            moved.into_iter().filter(|id| !walk.seen.contains(id) && walk.moved.insert(*id)).collect();
        let source = Side::Source(self.source()?);
        for ids in fresh.chunks(TOGETHER) {
            let finds = ids.iter().map(|id| self.find_object(source, *id));
            for (id, found) in ids.iter().zip(futures_util::future::try_join_all(finds).await?) {
                match found {
                    Found::There(entry) => walk.note_kind(*id, &entry.attr.kind),
                    Found::Gone => {}
                    Found::Unsure => return Err(Halt("an object was moved while it was looked for".into())),
                }
            }
        }
        Ok(!fresh.is_empty())
    }

    /// `None` where the sources do not have it any more: that is behind already.
    async fn read_both(&self, id: ObjectId) -> Result<Option<Both>> {
        let sources = self.sources()?;
        let reads = sources.iter().map(|slot| self.changed_in(Side::Source(*slot), id));
        let (sources, target) = futures_util::future::try_join(
            futures_util::future::try_join_all(reads),
            self.changed_in(Side::Target, id),
        )
        .await?;
        let Some(sources) = sources.into_iter().collect::<Option<Vec<_>>>() else {
            let gone = self.may_be_gone(id);
            return if gone { Ok(None) } else { Err(Halt("a directory was moved while it was looked at".into())) };
        };
        // A write touches some members only: what the others do not tell of, with the names of the first.
        let others: Vec<DirEntry> = sources.iter().skip(1).flat_map(|(entries, _)| entries).cloned().collect();
        let Some((entries, sum)) = sources.into_iter().next() else { return Ok(None) };
        let Some((target, target_sum)) = target else {
            return Ok(Some(Both { source: entries, target: None, differing: Vec::new() }));
        };
        let differing = self.compare(id, Known::new(&entries, sum), Known::new(&target, target_sum)).await?;
        let source = entries.into_iter().chain(others).collect();
        Ok(Some(Both { source, target: Some(target), differing }))
    }

    /// The names that name different things.
    async fn compare(&self, id: ObjectId, mut here: Known, mut there: Known) -> Result<Differing> {
        let (only_here, only_there) = (here.names_without(&there), there.names_without(&here));
        let mut parts = NameParts::ALL;
        if only_here.len() + only_there.len() <= LOOKUPS_MAX {
            self.complete(Side::Target, id, &only_here, &mut there).await?;
            self.complete(Side::Source(self.source()?), id, &only_there, &mut here).await?;
            parts = here.rest.differing(&there.rest);
        }
        if !parts.is_empty() {
            let source = Side::Source(self.source()?);
            let reads = [(source, &mut here), (Side::Target, &mut there)];
            let reads = reads.into_iter().map(|(side, known)| self.read_parts(side, id, parts, known));
            futures_util::future::try_join_all(reads).await?;
        }
        Ok(here.differing(&there))
    }

    /// All names in the parts of which the sums say that some differ among those of what was not changed.
    async fn read_parts(&self, side: Side, id: ObjectId, parts: NameParts, known: &mut Known) -> Result<()> {
        known.names.retain(|name, _| !parts.has(name));
        known.tell(&self.names_in(side, id, parts).await?.unwrap_or_default());
        Ok(())
    }

    /// Looks names up that were not told of.
    async fn complete(&self, side: Side, dir: ObjectId, names: &[Name], known: &mut Known) -> Result<()> {
        for names in names.chunks(TOGETHER) {
            let places: Vec<Place> = names.iter().map(|name| (dir, name.clone())).collect();
            let lookups = places.iter().map(|place| self.lookup(side, place));
            for (name, entry) in names.iter().zip(futures_util::future::try_join_all(lookups).await?) {
                if let Some(entry) = entry {
                    known.rest.remove(name, entry.id);
                    known.names.insert(name.clone(), (entry.id, entry.attr.kind));
                }
            }
        }
        Ok(())
    }

    /// What the member has in directories that the others have elsewhere, or not at all.
    async fn look_into_misplaced(&self, walk: &mut Walk) -> Result<()> {
        while let Some(id) = walk.misplaced.pop() {
            // One that moved is compared by its id.
            if walk.seen.contains(&id) || !walk.looked_into.insert(id) {
                continue;
            }
            for entry in self.names_of(Side::Target, id).await?.unwrap_or_default() {
                if entry.kind == Kind::Directory {
                    walk.misplaced.push(entry.id);
                }
                walk.inner.push(((id, entry.name), entry.id));
            }
        }
        Ok(())
    }
}

impl Walk {
    fn enter(&mut self, id: ObjectId) {
        if self.seen.insert(id) {
            self.waiting.push(id);
        }
    }

    fn note(&mut self, dir: ObjectId, both: Both) {
        for entry in &both.source {
            self.changed.insert(entry.id);
            self.note_object(entry);
        }
        let Some(target) = both.target else {
            self.unknown.push(dir);
            return;
        };
        let differing: BTreeSet<&Name> = both.differing.iter().map(|(name, _)| name).collect();
        target.iter().filter(|entry| !differing.contains(&entry.name)).for_each(|entry| self.note_object(entry));
        for (name, found) in &both.differing {
            let place: Place = (dir, name.clone());
            self.found.places.insert(place);
            if let Some((id, Kind::Directory)) = found {
                self.misplaced.push(*id);
            }
        }
    }

    fn note_object(&mut self, entry: &DirEntry) {
        self.note_kind(entry.id, &entry.kind);
    }

    fn note_kind(&mut self, id: ObjectId, kind: &Kind) {
        self.found.objects.insert(id);
        match kind {
            Kind::Directory => self.enter(id),
            Kind::File => self.found.add_data(id, Stripes::any()),
            _ => {}
        }
    }
}

type Differing = Vec<(Name, Option<(ObjectId, Kind)>)>;

/// What is known of the names of a directory, on one side.
struct Known {
    names: BTreeMap<Name, (ObjectId, Kind)>,
    /// All others.
    rest: NameSums,
}

impl Known {
    fn new(entries: &[DirEntry], rest: NameSums) -> Known {
        let mut known = Known { names: BTreeMap::new(), rest };
        known.tell(entries);
        known
    }

    fn tell(&mut self, entries: &[DirEntry]) {
        let names = entries.iter().map(|entry| (entry.name.clone(), (entry.id, entry.kind.clone())));
        self.names.extend(names);
    }

    fn names_without(&self, other: &Known) -> Vec<Name> {
        self.names.keys().filter(|name| !other.names.contains_key(*name)).cloned().collect()
    }

    /// Names that name something else on the other side, and what.
    fn differing(&self, other: &Known) -> Differing {
        let names: BTreeSet<&Name> = self.names.keys().chain(other.names.keys()).collect();
        let id = |known: &Known, name: &Name| known.names.get(name).map(|(id, _)| *id);
        let names = names.into_iter().filter(|name| id(self, name) != id(other, name));
        names.map(|name| (name.clone(), other.names.get(name).cloned())).collect()
    }
}
