//! Reads what the members have of the directories that may differ.

use std::collections::BTreeSet;

use net_raid_proto::ids::{Generation, ObjectId, Slot};
use net_raid_proto::message::{DirEntry, Entry, Fault, Kind, Reply, Request};

use super::names::View;
use super::{Recovery, Result, TOGETHER, Trouble};

/// What one member has, by its slot.
pub(super) fn view_of(views: &[(Slot, View)], slot: Slot) -> Option<&View> {
    views.iter().find(|(member, _)| *member == slot).map(|(_, view)| view)
}

/// Directories that some member changed after `complete`: there, and nowhere else, names can differ. Changes stamp all
/// that is above them, so that what is below a directory that nobody stamped need not be looked at.
fn stamped(views: &[(Slot, View)], read: &BTreeSet<ObjectId>, complete: Generation) -> Vec<ObjectId> {
    let stamped = |entry: &&Entry| entry.stamp > complete && entry.attr.kind == Kind::Directory;
    let dirs: BTreeSet<ObjectId> =
        views.iter().flat_map(|(_, view)| view.objects.values().filter(stamped).map(|entry| entry.id)).collect();
    dirs.difference(read).copied().collect()
}

/// Directories that some member has elsewhere, or not at all: what it had in them may be elsewhere too.
fn moved(views: &[(Slot, View)], read: &BTreeSet<ObjectId>) -> Vec<ObjectId> {
    let away =
        |id: &ObjectId| views.iter().any(|(_, view)| !view.objects.contains_key(id) || view.detached.contains(id));
    let is_dir = |entry: &&Entry| entry.attr.kind == Kind::Directory;
    let dirs: BTreeSet<ObjectId> = views
        .iter()
        .flat_map(|(_, view)| view.objects.values().filter(is_dir).map(|entry| entry.id).filter(away))
        .collect();
    dirs.difference(read).copied().collect()
}

/// Objects that one member names and another does not.
fn missing(views: &[(Slot, View)], asked: &BTreeSet<(Slot, ObjectId)>) -> Vec<(Slot, ObjectId)> {
    let all: BTreeSet<ObjectId> = views.iter().flat_map(|(_, view)| view.objects.keys().copied()).collect();
    let absent = |(slot, view): &(Slot, View)| {
        let absent = all.iter().filter(|id| !view.objects.contains_key(id)).map(|id| (*slot, *id));
        absent.filter(|question| !asked.contains(question)).collect::<Vec<_>>()
    };
    views.iter().flat_map(absent).collect()
}

impl Recovery<'_> {
    /// What all members have of the directories that may differ.
    pub(super) async fn walk(&self) -> Result<Vec<(Slot, View)>> {
        let mut views = self.each(|slot| async move { Ok((slot, self.root_of(slot).await?)) }).await?;
        let (mut read, mut asked) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let stamped = stamped(&views, &read, self.complete);
            if !stamped.is_empty() {
                self.read(&mut views, &stamped).await?;
                read.extend(stamped);
                continue;
            }
            let missing = missing(&views, &asked);
            if !missing.is_empty() {
                self.find(&mut views, &missing).await?;
                asked.extend(missing);
                continue;
            }
            let moved = moved(&views, &read);
            if moved.is_empty() {
                return Ok(views);
            }
            self.read(&mut views, &moved).await?;
            read.extend(moved);
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

    async fn read(&self, views: &mut [(Slot, View)], dirs: &[ObjectId]) -> Result<()> {
        for dirs in dirs.chunks(TOGETHER) {
            for (slot, view) in views.iter_mut() {
                let here = dirs.iter().copied().filter(|id| view.objects.contains_key(id));
                let pages = here.map(|id| self.read_one((*slot, view), id));
                let pages = futures_util::future::try_join_all(pages).await?;
                for (dir, entries) in pages {
                    view.dirs.entry(dir).or_default();
                    entries.into_iter().for_each(|(name, entry)| view.found(dir, name, entry));
                }
            }
        }
        Ok(())
    }

    async fn read_one(
        &self,
        from: (Slot, &View),
        id: ObjectId,
    ) -> Result<(ObjectId, Vec<(net_raid_proto::ids::Name, Entry)>)> {
        let (mut entries, mut cursor) = (Vec::new(), 0);
        loop {
            let request = Request::ReadDir { id, cursor, attributes: true };
            let Reply::Page { entries: page, next } = self.ask(from, &request, &[]).await? else {
                return Err(Trouble::nonsense(from.0));
            };
            for DirEntry { name, entry, .. } in page {
                let entry = entry.filter(|entry| self.core.fits(entry)).ok_or_else(|| Trouble::nonsense(from.0))?;
                entries.push((name, *entry));
            }
            let Some(next) = next else { return Ok((id, entries)) };
            cursor = next;
        }
    }

    /// Asks members for objects that they do not name: an interrupted recovery may have left them outside of the tree.
    async fn find(&self, views: &mut [(Slot, View)], missing: &[(Slot, ObjectId)]) -> Result<()> {
        for (slot, view) in views {
            let ids: Vec<ObjectId> = missing.iter().filter(|(member, _)| member == slot).map(|(_, id)| *id).collect();
            for ids in ids.chunks(TOGETHER) {
                let found = ids.iter().map(|id| self.find_one(*slot, *id));
                let found = futures_util::future::try_join_all(found).await?;
                found.into_iter().flatten().for_each(|entry| view.found_outside(entry));
            }
        }
        Ok(())
    }

    async fn find_one(&self, slot: Slot, id: ObjectId) -> Result<Option<Entry>> {
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
