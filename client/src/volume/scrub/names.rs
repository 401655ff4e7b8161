//! Names, attributes and extended attributes: what all members have in a directory is compared, and put right.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;
use net_raid_proto::ids::{Digest, Generation, Name, Slot, Timestamp};
use net_raid_proto::layout::Level;
use net_raid_proto::message::{Change, Entry, Kind, NewObject, Reply, Request, SetAttr, XattrExpect};

use super::compare::{There, Told, Verdict, View, Wrong, judge};
use super::peer::{Answer, Spot, Trouble, unexpected};
use super::{Halt, Pass};
use crate::events::Event;
use crate::layout::{Geometry, SlotSet};

/// Names that are compared at the same time.
const TOGETHER: usize = 32;

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A directory that is to be compared.
pub(super) struct Dir {
    pub(super) spot: Spot,
    /// Where it is, if its times differed.
    pub(super) times: Option<(Spot, Name)>,
}

/// What was found at a name.
struct Found {
    verdict: Verdict,
    /// What those members have that have something.
    entries: BTreeMap<Slot, Entry>,
}

/// What attributes do not tell of an object on one member.
struct Extended {
    digest: Digest,
    count: u32,
    ctime: Timestamp,
    /// Bytes of the brick's file.
    len: u64,
    sound: bool,
}

impl Found {
    /// The object as it should be.
    fn right(&self) -> Option<&Entry> {
        match &self.verdict {
            Verdict::Agree => self.entries.values().next(),
            Verdict::Wrong { source, .. } => self.entries.get(source),
            Verdict::Undecided(_) => None,
        }
    }

    /// Members of which the same is wrong.
    fn wrong(&self, which: Wrong) -> SlotSet {
        let Verdict::Wrong { wrong, .. } = &self.verdict else { return SlotSet::default() };
        wrong.iter().filter(|(_, wrong)| *wrong == which).map(|(slot, _)| *slot).collect()
    }
}

impl Pass<'_> {
    /// Compares all names of a directory, and everything about what they name. Adds the directories among these to `waiting`.
    pub(super) async fn scrub_directory(
        &self,
        Dir { spot: dir, times }: &Dir,
        waiting: &mut Vec<Dir>,
    ) -> Result<(), Halt> {
        let asked = self.members();
        let lists = join_all(asked.iter().map(|slot| self.list(slot, dir))).await;
        let mut names: BTreeMap<Name, BTreeMap<Slot, Entry>> = BTreeMap::new();
        let mut told = SlotSet::default();
        for (slot, list) in asked.iter().zip(lists) {
            match list {
                Ok(entries) => {
                    told = told.with(slot);
                    for (name, entry) in entries.into_iter().filter_map(|found| Some((found.name, *found.entry?))) {
                        names.entry(name).or_default().insert(slot, entry);
                    }
                }
                // Where the directory is missing was said with its own name.
                Err(trouble) => tracing::debug!(%slot, dir = dir.words(), %trouble, "scrub"),
            }
        }
        let names: Vec<(Name, BTreeMap<Slot, Entry>)> = names.into_iter().collect();
        let mut mended = SlotSet::default();
        for some in names.chunks(TOGETHER) {
            self.check_open()?;
            let found = some.iter().map(|(name, entries)| self.compare(dir, name, told, entries.clone(), None));
            for ((name, _), found) in some.iter().zip(join_all(found).await) {
                self.scrub_name(dir, name, found, (waiting, &mut mended)).await?;
            }
        }
        if !mended.is_empty() {
            self.equal_directory(dir, mended).await?;
        }
        // What differs still is not for the names in it.
        if let Some((above, name)) = times {
            let found = self.look_again(above, name).await;
            if found.verdict != Verdict::Agree {
                self.mend_name(above, name, &found, &[Wrong::Times], &mut SlotSet::default()).await?;
            }
        }
        Ok(())
    }

    async fn scrub_name(
        &self,
        dir: &Spot,
        name: &Name,
        found: Found,
        (waiting, mended): (&mut Vec<Dir>, &mut SlotSet),
    ) -> Result<(), Halt> {
        let found = match found.verdict {
            Verdict::Agree => found,
            _ => {
                match self.mend_name(dir, name, &found, &[Wrong::Missing, Wrong::Older, Wrong::Differs], mended).await?
                {
                    Some(found) => found,
                    None => return Ok(()),
                }
            }
        };
        let Some(right) = found.right() else { return Ok(()) };
        let spot = dir.child(right.id, name);
        match right.attr.kind {
            Kind::Directory => {
                let times = (!found.wrong(Wrong::Times).is_empty()).then(|| (dir.clone(), name.clone()));
                waiting.push(Dir { spot, times });
            }
            Kind::File => {
                let outdated = found.wrong(Wrong::Older);
                self.scrub_file(&spot, right, outdated).await?;
                self.cut_tails(&spot, right).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares what members have at a name; `told` are those that were asked. Stamps of the directory matter only where something
    /// is missing.
    async fn compare(
        &self,
        dir: &Spot,
        name: &Name,
        told: SlotSet,
        entries: BTreeMap<Slot, Entry>,
        above: Option<&BTreeMap<Slot, Generation>>,
    ) -> Found {
        let above = |slot| above.and_then(|above| above.get(&slot).copied()).unwrap_or_default();
        let views = told.iter().map(|slot| self.view(slot, dir, name, (entries.get(&slot), above(slot))));
        let views: Vec<View> = join_all(views).await.into_iter().flatten().collect();
        let needed = match entries.values().next() {
            Some(Entry { layout, attr, .. }) if attr.kind == Kind::File && layout.level != Level::Raid1 => {
                layout.data_units()
            }
            _ => 1,
        };
        let losses = self.core.layout.level.redundancy(self.core.members.width());
        Found { verdict: judge(&views, needed, losses), entries }
    }

    /// `None` where the member cannot be asked any more: it just leaves the comparison.
    async fn view(
        &self,
        slot: Slot,
        dir: &Spot,
        name: &Name,
        (entry, above): (Option<&Entry>, Generation),
    ) -> Option<View> {
        let nothing = Some(View { slot, above, there: None });
        let Some(entry) = entry.filter(|entry| self.core.fits(entry)) else { return nothing };
        match self.extended(slot, &dir.child(entry.id, name)).await {
            Ok(Extended { digest, count, ctime, sound, .. }) => {
                let there = There { told: Told::new(entry, digest), stamp: entry.stamp, ctime, count, sound };
                Some(View { slot, above, there: Some(there) })
            }
            Err(trouble) if trouble.is_absence() => nothing,
            Err(_) => None,
        }
    }

    /// What attributes do not tell of an object. What the brick put right by itself is told of.
    async fn extended(&self, slot: Slot, spot: &Spot) -> Answer<Extended> {
        match self.ask(slot, spot, &Request::Verify { id: spot.id }, &[], &[]).await?.reply {
            Reply::Verified { extended, count, ctime, len, sound, mended } => {
                if mended {
                    let what = "its user.net_raid.md5 is not that of the file";
                    self.mended(slot, spot, what.into(), "user.net_raid.md5".into());
                }
                Ok(Extended { digest: Digest(extended), count, ctime, len, sound })
            }
            _ => Err(unexpected()),
        }
    }

    /// Asks all members for a name; the caller has paused changes.
    async fn look_again(&self, dir: &Spot, name: &Name) -> Found {
        let asked = self.members();
        let above = join_all(asked.iter().map(|slot| self.entry(slot, dir))).await;
        let above: BTreeMap<Slot, Generation> =
            asked.iter().zip(above).filter_map(|(slot, above)| Some((slot, above.ok()?.stamp))).collect();
        let looked = join_all(above.keys().map(|slot| self.lookup(*slot, dir, name))).await;
        let (mut told, mut entries) = (SlotSet::default(), BTreeMap::new());
        for (slot, looked) in above.keys().zip(looked) {
            let Ok(found) = looked else { continue };
            told = told.with(*slot);
            entries.extend(found.map(|entry| (*slot, entry)));
        }
        self.compare(dir, name, told, entries, Some(&above)).await
    }

    async fn lookup(&self, slot: Slot, dir: &Spot, name: &Name) -> Answer<Option<Entry>> {
        let request = Request::Lookup { parent: dir.id, name: name.clone() };
        match self.ask(slot, dir, &request, &[], &[]).await {
            Ok(response) => match response.reply {
                Reply::Entry(entry) => Ok(Some(*entry)),
                _ => Err(unexpected()),
            },
            Err(Trouble::Errno(libc::ENOENT)) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// Looks at a name again while nothing changes, and mends what is wrong in these ways. Returns what is there then, and
    /// nothing where that could not be found out.
    async fn mend_name(
        &self,
        dir: &Spot,
        name: &Name,
        before: &Found,
        mend: &[Wrong],
        mended: &mut SlotSet,
    ) -> Result<Option<Found>, Halt> {
        self.seek_links(before).await;
        let Some(_nothing_changes) = self.pause().await? else { return Ok(None) };
        let found = self.look_again(dir, name).await;
        let source = match &found.verdict {
            Verdict::Agree => return Ok(Some(found)),
            Verdict::Undecided(why) => {
                let id = before.entries.values().next().map_or(dir.id, |entry| entry.id);
                self.damaged(&dir.child(id, name), (*why).to_string());
                return Ok(Some(found));
            }
            Verdict::Wrong { source, .. } => *source,
        };
        let Some(right) = found.right() else { return Ok(None) };
        let spot = dir.child(right.id, name);
        for (wrong, what) in [
            (Wrong::Missing, "it is missing, or its attribute cannot be read"),
            // Before its bytes, because what is written to it makes it look newer than it is.
            (Wrong::Older, "it is an older version of the file"),
            (Wrong::Differs, "its attributes are not those of other servers"),
            (Wrong::Times, "its times are not those of other servers"),
        ]
        .into_iter()
        .filter(|(wrong, _)| mend.contains(wrong))
        {
            for slot in found.wrong(wrong).iter() {
                let done = async {
                    if wrong == Wrong::Missing {
                        self.restore(slot, (dir, name), right, source).await?;
                    }
                    self.equal(slot, &spot, right, source).await
                };
                match done.await {
                    Ok(()) => {
                        *mended = mended.with(slot);
                        self.mended(slot, &spot, what.into(), "name and attributes".into());
                    }
                    Err(trouble) => self.refused(slot, &spot, &trouble),
                }
            }
        }
        if !mended.is_empty() {
            self.stamp_all(&spot, right).await;
        }
        Ok(Some(found))
    }

    /// Looks at one name for itself. Nothing where all agree by now; else the object as it should be, where that is known, and the
    /// members that have an older version.
    pub(super) async fn mend_found(
        &self,
        dir: &Spot,
        name: &Name,
        mended: &mut SlotSet,
    ) -> Result<Option<Option<(Entry, SlotSet)>>, Halt> {
        let before = self.look_again(dir, name).await;
        if before.verdict == Verdict::Agree {
            return Ok(None);
        }
        let mend = [Wrong::Missing, Wrong::Older, Wrong::Differs];
        // Changes that did not pause are no reason to give it up for good.
        let Some(found) = self.mend_name(dir, name, &before, &mend, mended).await? else { return Ok(None) };
        if found.verdict == Verdict::Agree {
            return Ok(None);
        }
        Ok(Some(found.right().map(|right| (right.clone(), found.wrong(Wrong::Older)))))
    }

    /// Lets members come by objects of several names that they may have by another one.
    async fn seek_links(&self, found: &Found) {
        let Some(right) = found.right().filter(|right| right.attr.kind != Kind::Directory && right.attr.nlink > 1)
        else {
            return;
        };
        for slot in found.wrong(Wrong::Missing).iter() {
            // That it is not found is no error.
            let _ = self.core.search(slot, right.id).await;
        }
    }

    /// Puts an object back on a member; of a file all bytes are still to come.
    async fn restore(&self, slot: Slot, (dir, name): (&Spot, &Name), right: &Entry, source: Slot) -> Answer<()> {
        let spot = dir.child(right.id, name);
        let target = match right.attr.kind {
            Kind::Symlink => {
                match self.ask(source, &spot, &Request::ReadLink { id: right.id }, &[], &[]).await?.reply {
                    Reply::Bytes(target) => target,
                    _ => return Err(unexpected()),
                }
            }
            _ => Vec::new(),
        };
        let spec = NewObject {
            kind: right.attr.kind.clone(),
            mode: right.attr.mode,
            uid: right.attr.uid,
            gid: right.attr.gid,
            target,
            layout: right.layout,
            // They come with the other attributes.
            xattrs: Vec::new(),
        };
        let request = Request::Restore {
            parent: dir.id,
            name: name.clone(),
            id: right.id,
            spec: Box::new(spec),
            size: right.attr.size,
            brick_len: self.brick_len(right, slot),
            now: right.attr.ctime,
        };
        self.ask(slot, dir, &request, &[], &[]).await.map(drop)
    }

    fn brick_len(&self, entry: &Entry, slot: Slot) -> u64 {
        let geometry = Geometry::new(entry.layout, entry.id);
        let has_units = entry.attr.kind == Kind::File && geometry.slots().has(slot);
        if has_units { geometry.brick_len(entry.attr.size, slot) } else { 0 }
    }

    /// Gives an object on one member the attributes that it has on another.
    async fn equal(&self, slot: Slot, spot: &Spot, right: &Entry, source: Slot) -> Answer<()> {
        let id = spot.id;
        let now = right.attr.ctime;
        let (wanted, has) = (self.xattrs(source, spot).await?, self.xattrs(slot, spot).await?);
        for name in has.keys().filter(|name| !wanted.contains_key(*name)) {
            self.change(slot, spot, (now, Change::RemoveXattr { id, name: name.clone() }), &[]).await?;
        }
        for (name, value) in wanted.iter().filter(|(name, value)| has.get(*name) != Some(value)) {
            let change = Change::SetXattr { id, name: name.clone(), expect: XattrExpect::Any, mode: None };
            self.change(slot, spot, (now, change), &[Bytes::from(value.clone())]).await?;
        }
        let present = self.entry(slot, spot).await?;
        if right.attr.kind == Kind::File && present.attr.size != right.attr.size {
            let (size, brick_len) = (right.attr.size, self.brick_len(right, slot));
            let change = Change::Truncate { id, size, brick_len, mtime: None, mode: None };
            self.change(slot, spot, (now, change), &[]).await?;
        }
        self.set_attributes(slot, spot, right).await
    }

    async fn set_attributes(&self, slot: Slot, spot: &Spot, right: &Entry) -> Answer<()> {
        let attr = &right.attr;
        let set = SetAttr {
            mode: Some(attr.mode),
            uid: Some(attr.uid),
            gid: Some(attr.gid),
            atime: Some(attr.atime),
            mtime: Some(attr.mtime),
        };
        self.change(slot, spot, (attr.ctime, Change::SetAttr { id: spot.id, set }), &[]).await
    }

    async fn xattrs(&self, slot: Slot, spot: &Spot) -> Answer<Xattrs> {
        let id = spot.id;
        let mut xattrs = Xattrs::new();
        let list = self.bytes(slot, spot, &Request::ListXattr { id }).await?;
        for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let value = self.bytes(slot, spot, &Request::GetXattr { id, name: name.to_vec() }).await?;
            xattrs.insert(name.to_vec(), value);
        }
        Ok(xattrs)
    }

    async fn bytes(&self, slot: Slot, spot: &Spot, request: &Request) -> Answer<Vec<u8>> {
        match self.ask(slot, spot, request, &[], &[]).await?.reply {
            Reply::Bytes(bytes) => Ok(bytes),
            _ => Err(unexpected()),
        }
    }

    /// Gives an object the same stamp on all members, by a change that changes nothing: which of two versions is newer is told by
    /// stamps.
    async fn stamp_all(&self, spot: &Spot, right: &Entry) {
        let change = Change::SetAttr { id: spot.id, set: SetAttr::default() };
        let now = right.attr.ctime;
        join_all(self.members().iter().map(|slot| self.change(slot, spot, (now, change.clone()), &[]))).await;
    }

    /// Brick files of striped files that are longer than the file needs are cut. (Of a mirror the length is the size.)
    async fn cut_tails(&self, spot: &Spot, right: &Entry) -> Result<(), Halt> {
        if right.layout.level == Level::Raid1 || self.tails(spot, right).await.is_empty() {
            return Ok(());
        }
        let Some(_nothing_changes) = self.pause().await? else { return Ok(()) };
        let Some(slot) = self.members().iter().next() else { return Ok(()) };
        let Ok(right) = self.entry(slot, spot).await else { return Ok(()) };
        for slot in self.tails(spot, &right).await.iter() {
            let (size, brick_len) = (right.attr.size, self.brick_len(&right, slot));
            let change = Change::Truncate { id: spot.id, size, brick_len, mtime: None, mode: None };
            let cut = async {
                self.change(slot, spot, (right.attr.ctime, change), &[]).await?;
                self.set_attributes(slot, spot, &right).await
            };
            match cut.await {
                Ok(()) => self.mended(slot, spot, "its file is too long".into(), "length".into()),
                Err(trouble) => self.refused(slot, spot, &trouble),
            }
        }
        Ok(())
    }

    /// Members whose files are longer than they should be.
    async fn tails(&self, spot: &Spot, right: &Entry) -> SlotSet {
        let asked = self.members();
        let told = join_all(asked.iter().map(|slot| self.extended(slot, spot))).await;
        let is_long = |(slot, told): &(Slot, Answer<Extended>)| {
            told.as_ref().is_ok_and(|told| told.len > self.brick_len(right, *slot))
        };
        asked.iter().zip(told).filter(is_long).map(|(slot, _)| slot).collect()
    }

    /// Names that were put back have changed the times of their directory.
    pub(super) async fn equal_directory(&self, dir: &Spot, mended: SlotSet) -> Result<(), Halt> {
        let Some(_nothing_changes) = self.pause().await? else { return Ok(()) };
        let mut right: Option<(Slot, Entry)> = None;
        for slot in self.members().iter().filter(|slot| !mended.has(*slot)) {
            let Ok(entry) = self.entry(slot, dir).await else { continue };
            let newer = |(_, other): &(Slot, Entry)| (entry.stamp, entry.attr.ctime) > (other.stamp, other.attr.ctime);
            if right.as_ref().is_none_or(newer) {
                right = Some((slot, entry));
            }
        }
        let Some((source, right)) = right else { return Ok(()) };
        for slot in mended.iter() {
            if let Err(trouble) = self.equal(slot, dir, &right, source).await {
                self.refused(slot, dir, &trouble);
            }
        }
        self.stamp_all(dir, &right).await;
        Ok(())
    }

    fn refused(&self, slot: Slot, spot: &Spot, trouble: &Trouble) {
        let what = format!("not repaired: {trouble}");
        self.core.log(Some(slot), &Event::Inconsistency { object: spot.words(), what });
    }
}
