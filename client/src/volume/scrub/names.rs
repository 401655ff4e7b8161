//! Names, attributes and extended attributes: what all members have in a directory is compared, and put right.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::join_all;
use net_raid_proto::ids::{Digest, Generation, Name, Slot, Timestamp};
use net_raid_proto::layout::Level;
use net_raid_proto::message::{Entry, Kind, Reply, Request};

use super::compare::{There, Told, Verdict, View, Wrong, judge, suspects};
use super::note::Place;
use super::pace::NAME_WORK;
use super::peer::{Answer, Spot, Trouble, unexpected};
use super::{Halt, Pass};
use crate::layout::SlotSet;

/// Names that are compared at the same time.
const TOGETHER: usize = 32;
/// The same in the background.
const A_FEW: usize = 4;

/// A directory that is to be compared.
pub(super) struct Dir {
    pub(super) spot: Spot,
    /// Where it is, if its times differed.
    times: Option<(Spot, Name)>,
    /// The first name that was not looked at yet.
    from: Option<Name>,
}

impl Dir {
    pub(super) fn at(spot: Spot, from: Option<Name>) -> Dir {
        Dir { spot, times: None, from }
    }
}

/// What was found at a name.
struct Found {
    verdict: Verdict,
    /// What those members have that have something.
    entries: BTreeMap<Slot, Entry>,
    /// Of whose times only, or of whose bytes too, nothing is known.
    suspects: SlotSet,
}

/// What is put right of a name.
struct Aim<'a> {
    wrong: &'a [Wrong],
    /// Members in whose bytes something was wrong: their times are not believed.
    doubted: SlotSet,
}

/// All but times, which follow when what is in the object is right.
const ATTRIBUTES: Aim<'static> =
    Aim { wrong: &[Wrong::Missing, Wrong::Older, Wrong::Differs], doubted: SlotSet::EMPTY };

/// A name that all have with the same attributes, but for times perhaps.
pub(super) struct Named {
    pub(super) right: Entry,
    /// Members that may have an older version of its bytes.
    pub(super) outdated: SlotSet,
    pub(super) is_times: bool,
}

/// What attributes do not tell of an object on one member.
pub(super) struct Extended {
    digest: Digest,
    count: u32,
    ctime: Timestamp,
    /// Bytes of the brick's file.
    pub(super) len: u64,
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

    /// Members whose bytes are not believed where they contradict others.
    fn outdated(&self) -> SlotSet {
        let suspects = if self.differs_in_times() { self.suspects } else { SlotSet::default() };
        SlotSet(self.wrong(Wrong::Older).0 | suspects.0)
    }

    fn differs_in_times(&self) -> bool {
        !self.wrong(Wrong::Times).is_empty()
    }
}

impl Pass<'_> {
    /// Compares all names of a directory, and everything about what they name. Adds the directories among these to `waiting`.
    pub(super) async fn scrub_directory(
        &self,
        Dir { spot: dir, times, from }: &Dir,
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
        let (before, names): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|(name, _)| from.as_ref().is_some_and(|from| name < from));
        for (name, entries) in before {
            let found = entries.into_values().find(|entry| entry.attr.kind == Kind::Directory);
            waiting.extend(found.map(|entry| Dir::at(dir.child(entry.id, &name), None)));
        }
        let mut mended = SlotSet::default();
        for some in names.chunks(if self.background.is_some() { A_FEW } else { TOGETHER }) {
            self.step(|| Place { path: dir.child(dir.id, &some[0].0).path, id: 0, stripe: 0 }).await?;
            self.counts.work.fetch_add(NAME_WORK * (some.len() * told.len()) as u64, Relaxed);
            let found = some
                .iter()
                .map(|(name, entries)| self.compare(dir, name, told, entries.clone(), (None, SlotSet::EMPTY)));
            for ((name, _), found) in some.iter().zip(join_all(found).await) {
                self.scrub_name(dir, name, found, (waiting, &mut mended)).await?;
            }
        }
        if !mended.is_empty() {
            self.equal_directory(dir, mended).await?;
        }
        // What differs still is not for the names in it.
        match times {
            Some((above, name)) => self.mend_times(above, name, SlotSet::default()).await,
            None if dir.path.is_empty() => self.scrub_root(true).await,
            None => Ok(()),
        }
    }

    /// Puts times right when what is in the object is; those of `doubted` are not believed.
    pub(super) async fn mend_times(&self, dir: &Spot, name: &Name, doubted: SlotSet) -> Result<(), Halt> {
        let found = self.look_again(dir, name, doubted).await;
        if found.verdict != Verdict::Agree {
            let aim = Aim { wrong: &[Wrong::Times], doubted };
            self.mend_name(dir, name, &found, &aim, &mut SlotSet::default()).await?;
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
            _ => match self.mend_name(dir, name, &found, &ATTRIBUTES, mended).await? {
                Some(found) => found,
                None => return Ok(()),
            },
        };
        let Some(right) = found.right() else { return Ok(()) };
        let spot = dir.child(right.id, name);
        self.set_contradiction(&spot, None);
        match right.attr.kind {
            Kind::Directory => {
                let times = found.differs_in_times().then(|| (dir.clone(), name.clone()));
                waiting.push(Dir { spot, times, from: None });
            }
            Kind::File => {
                let looked = self.scrub_data(&spot, right, found.outdated()).await?;
                if found.differs_in_times() {
                    self.mend_times(dir, name, looked.mended).await?;
                }
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
        (above, doubted): (Option<&BTreeMap<Slot, Generation>>, SlotSet),
    ) -> Found {
        let above = |slot| above.and_then(|above| above.get(&slot).copied()).unwrap_or_default();
        let views = told.iter().map(|slot| self.view(slot, dir, name, (entries.get(&slot), above(slot))));
        let mut views: Vec<View> = join_all(views).await.into_iter().flatten().collect();
        for view in views.iter_mut().filter(|view| doubted.has(view.slot)) {
            view.there.iter_mut().for_each(|there| there.sound = false);
        }
        let needed = match entries.values().next() {
            Some(Entry { layout, attr, .. }) if attr.kind == Kind::File && layout.level != Level::Raid1 => {
                layout.data_units()
            }
            _ => 1,
        };
        let losses = self.core.layout.level.redundancy(self.core.members.width());
        Found { verdict: judge(&views, needed, losses), entries, suspects: suspects(&views, losses) }
    }

    /// `None` where the member cannot be asked any more: it just leaves the comparison.
    async fn view(
        &self,
        slot: Slot,
        dir: &Spot,
        name: &Name,
        (entry, above): (Option<&Entry>, Generation),
    ) -> Option<View> {
        match entry.filter(|entry| self.core.fits(entry)) {
            Some(entry) => self.view_of(slot, &dir.child(entry.id, name), (entry, above)).await,
            None => Some(View { slot, above, there: None }),
        }
    }

    /// The same of an object that is there.
    async fn view_of(&self, slot: Slot, spot: &Spot, (entry, above): (&Entry, Generation)) -> Option<View> {
        match self.extended(slot, spot).await {
            Ok(Extended { digest, count, ctime, sound, .. }) => {
                let there = There { told: Told::new(entry, digest), stamp: entry.stamp, ctime, count, sound };
                Some(View { slot, above, there: Some(there) })
            }
            Err(trouble) if trouble.is_absence() => Some(View { slot, above, there: None }),
            Err(_) => None,
        }
    }

    /// What attributes do not tell of an object. What the brick put right by itself is told of.
    pub(super) async fn extended(&self, slot: Slot, spot: &Spot) -> Answer<Extended> {
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

    /// Asks all members for a name; the caller has paused changes. The times of `doubted` are not believed.
    async fn look_again(&self, dir: &Spot, name: &Name, doubted: SlotSet) -> Found {
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
        self.compare(dir, name, told, entries, (Some(&above), doubted)).await
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
        aim: &Aim<'_>,
        mended: &mut SlotSet,
    ) -> Result<Option<Found>, Halt> {
        self.seek_links(before).await;
        let Some(_nothing_changes) = self.pause().await? else { return Ok(None) };
        let found = self.look_again(dir, name, aim.doubted).await;
        let source = match &found.verdict {
            Verdict::Agree => return Ok(Some(found)),
            Verdict::Undecided(why) => {
                let id = before.entries.values().next().map_or(dir.id, |entry| entry.id);
                let spot = dir.child(id, name);
                self.damaged(&spot, (*why).to_string());
                self.set_contradiction(&spot, Some(why));
                return Ok(Some(found));
            }
            Verdict::Wrong { source, .. } => *source,
        };
        let Some(right) = found.right() else { return Ok(None) };
        let spot = dir.child(right.id, name);
        let of = self.put_right(&spot, Some((dir, name)), (&found, source), aim).await;
        *mended = SlotSet(mended.0 | of.0);
        if !mended.is_empty() {
            self.stamp_all(&spot, right).await;
        }
        Ok(Some(found))
    }

    /// Puts right what is wrong with an object, as `source` has it; on which members. The caller has paused changes.
    async fn put_right(
        &self,
        spot: &Spot,
        above: Option<(&Spot, &Name)>,
        (found, source): (&Found, Slot),
        aim: &Aim<'_>,
    ) -> SlotSet {
        let mut mended = SlotSet::EMPTY;
        let Some(right) = found.right() else { return mended };
        for (wrong, what) in [
            (Wrong::Missing, "it is missing, or its attribute cannot be read"),
            // Before its bytes, because what is written to it makes it look newer than it is.
            (Wrong::Older, "it is an older version of the file"),
            (Wrong::Differs, "its attributes are not those of other servers"),
            (Wrong::Times, "its times are not those of other servers"),
        ]
        .into_iter()
        .filter(|(wrong, _)| aim.wrong.contains(wrong))
        {
            for slot in found.wrong(wrong).iter() {
                let done = async {
                    if let Some(above) = above.filter(|_| wrong == Wrong::Missing) {
                        self.restore(slot, above, right, source).await?;
                    }
                    self.equal(slot, spot, right, source).await
                };
                match done.await {
                    Ok(()) => {
                        mended = mended.with(slot);
                        self.mended(slot, spot, what.into(), "name and attributes".into());
                    }
                    Err(trouble) => self.refused(slot, spot, &trouble),
                }
            }
        }
        mended
    }

    /// The root has no name, but attributes. Its times come last, when all names in it are right.
    pub(super) async fn scrub_root(&self, is_last: bool) -> Result<(), Halt> {
        let wrong = if is_last { &[Wrong::Times][..] } else { &[Wrong::Differs] };
        let aim = Aim { wrong, doubted: SlotSet::EMPTY };
        let is_wanted = |found: &Found| match &found.verdict {
            Verdict::Agree => false,
            Verdict::Undecided(_) => !is_last,
            Verdict::Wrong { .. } => wrong.iter().any(|wrong| !found.wrong(*wrong).is_empty()),
        };
        let found = self.look_at_root().await;
        if !is_wanted(&found) {
            if !matches!(found.verdict, Verdict::Undecided(_)) {
                self.set_contradiction(&Spot::root(), None);
            }
            return Ok(());
        }
        let Some(_nothing_changes) = self.pause().await? else { return Ok(()) };
        let found = self.look_at_root().await;
        if !is_wanted(&found) {
            return Ok(());
        }
        let root = Spot::root();
        if let Verdict::Undecided(why) = &found.verdict {
            self.damaged(&root, (*why).to_owned());
            self.set_contradiction(&root, Some(why));
        }
        let (Verdict::Wrong { source, .. }, Some(right)) = (&found.verdict, found.right()) else { return Ok(()) };
        if !self.put_right(&root, None, (&found, *source), &aim).await.is_empty() {
            self.stamp_all(&root, right).await;
        }
        Ok(())
    }

    /// The root on all members. One in which nothing was ever changed has the times of when its brick was formatted.
    async fn look_at_root(&self) -> Found {
        let (asked, root) = (self.members(), Spot::root());
        let looked = join_all(asked.iter().map(|slot| self.entry(slot, &root))).await;
        let entries: BTreeMap<Slot, Entry> =
            asked.iter().zip(looked).filter_map(|(slot, entry)| Some((slot, entry.ok()?))).collect();
        let views = entries.iter().map(|(slot, entry)| self.view_of(*slot, &root, (entry, Generation::default())));
        let views: Vec<View> =
            join_all(views).await.into_iter().flatten().filter(|view| view.there.is_some()).collect();
        let losses = self.core.layout.level.redundancy(self.core.members.width());
        let is_new = entries.values().all(|entry| entry.stamp == Generation::default());
        let verdict = if is_new { Verdict::Agree } else { judge(&views, 1, losses) };
        Found { verdict, entries, suspects: SlotSet::EMPTY }
    }

    /// Looks at one name for itself. Nothing where all agree by now; else the object as it should be, where that is known.
    pub(super) async fn mend_found(
        &self,
        dir: &Spot,
        name: &Name,
        mended: &mut SlotSet,
    ) -> Result<Option<Option<Named>>, Halt> {
        let before = self.look_again(dir, name, SlotSet::EMPTY).await;
        if before.verdict == Verdict::Agree {
            return Ok(None);
        }
        // Changes that did not pause are no reason to give it up for good.
        let Some(found) = self.mend_name(dir, name, &before, &ATTRIBUTES, mended).await? else { return Ok(None) };
        if found.verdict == Verdict::Agree {
            return Ok(None);
        }
        let (outdated, is_times) = (found.outdated(), found.differs_in_times());
        Ok(Some(found.right().map(|right| Named { right: right.clone(), outdated, is_times })))
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
}
