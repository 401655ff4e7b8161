//! Reads what the members have of the directories that may differ.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use net_raid_proto::ids::{Generation, Name, ObjectId, Slot};
use net_raid_proto::message::{DirEntry, Entry, Fault, Kind, Reply, Request};
use net_raid_proto::names::NameSums;

use super::names::{View, hidden};
use super::{Recovery, Result, SHOW_MAX, TOGETHER, Trouble};

/// What one member has, by its slot.
pub(super) fn view_of(views: &[(Slot, View)], slot: Slot) -> Option<&View> {
    views.iter().find(|(member, _)| *member == slot).map(|(_, view)| view)
}

/// Names of a directory, and what they name.
type Entries = BTreeMap<Name, Entry>;

/// A question about an object to one member.
type Question = (Slot, ObjectId);

/// What the walk does next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Reads directories.
    Read(Vec<Question>),
    /// Asks for objects by their ids: an interrupted recovery may have left them outside of the tree.
    Find(Vec<Question>),
    /// All is known.
    Done,
}

/// Pure: what the views so far leave open.
fn next(views: &[(Slot, View)], asked: &BTreeSet<Question>, complete: Generation) -> Next {
    let stamped = stamped(views, complete);
    if !stamped.is_empty() {
        return Next::Read(stamped);
    }
    let missing = missing(views, asked);
    if !missing.is_empty() {
        return Next::Find(missing);
    }
    let moved = moved(views);
    if moved.is_empty() { Next::Done } else { Next::Read(moved) }
}

/// Directories that some member changed after `complete`: there, and nowhere else, names can differ. Changes stamp all
/// that is above them, so that what is below a directory that nobody stamped need not be looked at.
fn stamped(views: &[(Slot, View)], complete: Generation) -> Vec<Question> {
    unread(views, |_, entry| entry.stamp > complete)
}

/// Directories that some member has elsewhere, or not at all: what it had in them may be elsewhere too.
fn moved(views: &[(Slot, View)]) -> Vec<Question> {
    let away = |id| views.iter().any(|(_, view)| !view.objects.contains_key(&id) || view.detached.contains(&id));
    unread(views, |id, _| away(id))
}

/// Directories for which the condition holds on some member, on all members that have them and were not asked yet.
fn unread(views: &[(Slot, View)], condition: impl Fn(ObjectId, &Entry) -> bool) -> Vec<Question> {
    let wanted = |entry: &&Entry| entry.attr.kind == Kind::Directory && condition(entry.id, entry);
    let entries = views.iter().flat_map(|(_, view)| view.objects.values());
    let dirs: BTreeSet<ObjectId> = entries.filter(wanted).map(|entry| entry.id).collect();
    let here = |(slot, view): &(Slot, View)| {
        let here = dirs.iter().filter(|id| view.objects.contains_key(id) && !view.dirs.contains_key(id));
        here.map(|id| (*slot, *id)).collect::<Vec<_>>()
    };
    views.iter().flat_map(here).collect()
}

/// Objects that one member names and another does not.
fn missing(views: &[(Slot, View)], asked: &BTreeSet<Question>) -> Vec<Question> {
    let all: BTreeSet<ObjectId> = views.iter().flat_map(|(_, view)| view.objects.keys().copied()).collect();
    let absent = |(slot, view): &(Slot, View)| {
        let absent = all.iter().filter(|id| !view.objects.contains_key(id)).map(|id| (*slot, *id));
        absent.filter(|question| !asked.contains(question)).collect::<Vec<_>>()
    };
    views.iter().flat_map(absent).collect()
}

fn of(questions: &[Question], slot: Slot) -> Vec<ObjectId> {
    questions.iter().filter(|(member, _)| *member == slot).map(|(_, id)| *id).collect()
}

impl Recovery<'_> {
    /// What all members have of the directories that may differ.
    pub(super) async fn walk(&self) -> Result<Vec<(Slot, View)>> {
        let mut views = self.each(|slot| async move { Ok((slot, self.root_of(slot).await?)) }).await?;
        let mut asked = BTreeSet::new();
        loop {
            match next(&views, &asked, self.complete) {
                Next::Read(dirs) => self.read(&mut views, &dirs).await?,
                Next::Find(objects) => {
                    self.find(&mut views, &objects).await?;
                    asked.extend(objects);
                }
                Next::Done => return Ok(views),
            }
        }
    }

    async fn root_of(&self, slot: Slot) -> Result<View> {
        let mut view = View::default();
        match self.ask((slot, &view), &Request::GetAttr { id: ObjectId::ROOT }, &[]).await? {
            Reply::Entry(entry) if entry.id == ObjectId::ROOT => view.objects.insert(entry.id, *entry),
            _ => return Err(Trouble::nonsense(slot)),
        };
        Ok(view)
    }

    /// Reads what was changed, where all members have the directory and the same otherwise; else all of it.
    async fn read(&self, views: &mut [(Slot, View)], dirs: &[Question]) -> Result<()> {
        let ids: BTreeSet<ObjectId> = dirs.iter().map(|(_, id)| *id).collect();
        let common: Vec<ObjectId> =
            ids.into_iter().filter(|id| views.iter().all(|(slot, _)| dirs.contains(&(*slot, *id)))).collect();
        let mut done = BTreeSet::new();
        for ids in common.chunks(TOGETHER) {
            let reads = ids.iter().map(|id| self.changed_in(views, *id));
            for (dir, found) in ids.iter().zip(futures_util::future::try_join_all(reads).await?) {
                let Some(found) = found else { continue };
                done.insert(*dir);
                for ((_, view), entries) in views.iter_mut().zip(found) {
                    view.read(*dir, entries);
                }
            }
        }
        let whole: Vec<Question> = dirs.iter().filter(|(_, id)| !done.contains(id)).copied().collect();
        self.read_whole(views, &whole).await
    }

    /// What the members have, one after the other, of the names in a directory of which some member changed the object after
    /// the last checkpoint. `None` when there is another difference.
    async fn changed_in(&self, views: &[(Slot, View)], dir: ObjectId) -> Result<Option<Vec<Entries>>> {
        let reads = views.iter().map(|(slot, view)| self.changed_on((*slot, view), dir));
        let mut found = futures_util::future::try_join_all(reads).await?;
        let names: BTreeSet<Name> = found.iter().flat_map(|(entries, _)| entries.keys().cloned()).collect();
        for ((slot, view), (entries, others)) in views.iter().zip(&mut found) {
            let missing: Vec<&Name> = names.iter().filter(|name| !entries.contains_key(*name)).collect();
            for missing in missing.chunks(TOGETHER) {
                let lookups = missing.iter().map(|name| self.named((*slot, view), dir, name));
                let entries_there = futures_util::future::try_join_all(lookups).await?;
                for (name, entry) in missing.iter().zip(entries_there) {
                    let Some(entry) = entry else { continue };
                    others.remove(name, entry.id);
                    entries.insert((*name).clone(), entry);
                }
            }
        }
        let same = found.windows(2).all(|pair| pair[0].1 == pair[1].1);
        Ok(same.then(|| found.into_iter().map(|(entries, _)| entries).collect()))
    }

    async fn changed_on(&self, from: (Slot, &View), id: ObjectId) -> Result<(Entries, NameSums)> {
        let (mut found, mut sum, mut cursor) = (Entries::new(), NameSums::default(), 0);
        loop {
            let request = Request::ReadChanged { id, cursor, since: self.complete };
            let Reply::Changed { entries, others, next } = self.ask(from, &request, &[]).await? else {
                return Err(Trouble::nonsense(from.0));
            };
            for entry in entries {
                let (name, entry) = self.attributes_of(from.0, entry)?;
                found.insert(name, entry);
            }
            sum.merge(&others);
            let Some(next) = next else { return Ok((found, sum)) };
            cursor = next;
        }
    }

    async fn named(&self, from: (Slot, &View), parent: ObjectId, name: &Name) -> Result<Option<Entry>> {
        let request = Request::Lookup { parent, name: name.clone() };
        for _ in 0..SHOW_MAX {
            match self.call(from.0, &request, &[]).await? {
                Ok(response) => match response.reply {
                    Reply::Entry(entry) if self.core.fits(&entry) => return Ok(Some(*entry)),
                    _ => return Err(Trouble::nonsense(from.0)),
                },
                Err(Fault::Errno(libc::ENOENT)) => return Ok(None),
                Err(Fault::Unresolved(id)) => self.show(from, id).await?,
                Err(fault) => return Err(Trouble::Member(from.0, fault.to_string())),
            }
        }
        Err(Trouble::Member(from.0, "a directory cannot be found".into()))
    }

    fn attributes_of(&self, slot: Slot, found: DirEntry) -> Result<(Name, Entry)> {
        let entry = found.entry.filter(|entry| self.core.fits(entry)).ok_or_else(|| Trouble::nonsense(slot))?;
        Ok((found.name, *entry))
    }

    /// Members read at the same time.
    async fn read_whole(&self, views: &mut [(Slot, View)], dirs: &[Question]) -> Result<()> {
        let reads = views.iter_mut().map(|(slot, view)| self.read_of(*slot, view, of(dirs, *slot)));
        futures_util::future::try_join_all(reads).await.map(drop)
    }

    async fn read_of(&self, slot: Slot, view: &mut View, dirs: Vec<ObjectId>) -> Result<()> {
        for dirs in dirs.chunks(TOGETHER) {
            let pages = dirs.iter().map(|id| self.read_one((slot, view), *id));
            let pages = futures_util::future::try_join_all(pages).await?;
            pages.into_iter().for_each(|(dir, entries)| view.read(dir, entries));
        }
        Ok(())
    }

    async fn read_one(&self, from: (Slot, &View), id: ObjectId) -> Result<(ObjectId, Vec<(Name, Entry)>)> {
        let (mut entries, mut cursor) = (Vec::new(), 0);
        loop {
            let request = Request::ReadDir { id, cursor, attributes: true };
            let Reply::Page { entries: page, next } = self.ask(from, &request, &[]).await? else {
                return Err(Trouble::nonsense(from.0));
            };
            for found in page {
                entries.push(self.attributes_of(from.0, found)?);
            }
            let Some(next) = next else { return Ok((id, entries)) };
            cursor = next;
        }
    }

    /// Asks members for objects that they do not name.
    async fn find(&self, views: &mut [(Slot, View)], missing: &[Question]) -> Result<()> {
        let hidden = hidden(views);
        for (slot, view) in views {
            for ids in of(missing, *slot).chunks(TOGETHER) {
                let found = ids.iter().map(|id| self.find_one(*slot, *id, hidden.contains(id)));
                let found = futures_util::future::try_join_all(found).await?;
                found.into_iter().flatten().for_each(|entry| view.found_outside(entry));
            }
        }
        Ok(())
    }

    /// One object by its id; `search` if there is reason to think that it has a name somewhere.
    pub(super) async fn find_one(&self, slot: Slot, id: ObjectId, search: bool) -> Result<Option<Entry>> {
        let found = self.entry_of(slot, id).await?;
        if found.is_none() && search && self.search(slot, id).await? {
            return self.entry_of(slot, id).await;
        }
        Ok(found)
    }

    async fn entry_of(&self, slot: Slot, id: ObjectId) -> Result<Option<Entry>> {
        match self.call(slot, &Request::GetAttr { id }, &[]).await? {
            Ok(response) => match response.reply {
                Reply::Entry(entry) if entry.id == id && self.core.fits(&entry) => Ok(Some(*entry)),
                _ => Err(Trouble::nonsense(slot)),
            },
            Err(Fault::Unresolved(_) | Fault::Errno(libc::ENOENT | libc::ESTALE)) => Ok(None),
            Err(fault) => Err(Trouble::Member(slot, fault.to_string())),
        }
    }
}
