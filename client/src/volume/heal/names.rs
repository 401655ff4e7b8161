//! Names become those that the others have: everything that is elsewhere or gone is taken out first, then all is put in its place. So
//! what was renamed moves, and no object is ever at two places that are not both its own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use net_raid_proto::ids::{Name, ObjectId};
use net_raid_proto::message::{Change, Entry, Kind, NewObject, Reply, Request};

use super::behind::{Place, Stripes, Touched};
use super::peer::{Found, Side, is_gone};
use super::{Attempt, Equal, Result, TOGETHER, lock};
use crate::volume::query::nonsense;

fn has_many_names(entry: &Entry) -> bool {
    entry.attr.kind != Kind::Directory && entry.attr.nlink > 1
}

/// What became of a place.
pub(super) enum Put {
    /// It is as it should be. `true`: something was done for that.
    Right(Entry, bool),
    /// A directory was made anew there, and all in it is missing.
    Made(Entry),
    /// Nothing is to be there.
    Nothing,
    /// It has to wait for something else.
    Later,
    /// An object with several names, which the member may have where nobody came by.
    Missing,
}

impl Attempt<'_> {
    /// Makes names equal. Returns what else may differ therefore, and what has to be seen to again.
    pub(super) async fn equal_names(&self, places: BTreeSet<Place>) -> Result<Touched> {
        let mut more = Touched::default();
        let going: Vec<Place> = places.iter().cloned().collect();
        let going = self.by_depth(Side::Target, going);
        for (_, places) in going.into_iter().rev() {
            for places in places.chunks(TOGETHER) {
                let taken = futures_util::future::try_join_all(places.iter().map(|place| self.take_out(place))).await?;
                taken.into_iter().for_each(|first| more.add(first));
            }
        }
        let mut levels = self.by_depth(Side::Source(self.source()?), places.into_iter().collect());
        let mut missing = Vec::new();
        while let Some((depth, places)) = levels.pop_first() {
            let mut deeper = Vec::new();
            for places in places.chunks(TOGETHER) {
                let made = self.by_depth(Side::Source(self.source()?), self.put_wanted(&mut more).await?);
                made.into_iter().for_each(|(depth, places)| levels.entry(depth).or_default().extend(places));
                let puts = places.iter().map(|place| self.put_in(place, false));
                let puts = futures_util::future::try_join_all(puts).await?;
                for (place, put) in places.iter().zip(puts) {
                    match put {
                        Put::Missing => missing.push(place.clone()),
                        put => deeper.extend(self.note_put(place, put, &mut more).await?),
                    }
                }
            }
            if !deeper.is_empty() {
                levels.entry(depth + 1).or_default().extend(deeper);
            }
        }
        if !missing.is_empty() {
            // Not before: while directories come and go there, a search may miss what is in them.
            self.come_by_all().await?;
            for place in &missing {
                let put = self.put_in(place, true).await?;
                self.note_put(place, put, &mut more).await?;
            }
        }
        Ok(more)
    }

    /// Has the member come by all that it has, in the tree and outside.
    async fn come_by_all(&self) -> Result<()> {
        let mut waiting = vec![ObjectId::ROOT];
        let outside = self.orphans(Side::Target).await?;
        waiting.extend(outside.iter().filter(|found| found.kind == Kind::Directory).map(|found| found.id));
        while !waiting.is_empty() {
            let some = waiting.split_off(waiting.len().saturating_sub(TOGETHER));
            let reads = some.iter().map(|id| self.names_of(Side::Target, *id));
            let found = futures_util::future::try_join_all(reads).await?;
            let entries = found.iter().flatten().flatten();
            waiting.extend(entries.filter(|entry| entry.kind == Kind::Directory).map(|entry| entry.id));
        }
        Ok(())
    }

    /// Notes what follows from a place that was seen to; places that follow are returned.
    pub(super) async fn note_put(&self, place: &Place, put: Put, more: &mut Touched) -> Result<Vec<Place>> {
        let (entry, made) = match put {
            Put::Right(_, false) | Put::Nothing => return Ok(Vec::new()),
            Put::Later | Put::Missing => {
                more.places.insert(place.clone());
                return Ok(Vec::new());
            }
            Put::Right(entry, true) => (entry, false),
            Put::Made(entry) => (entry, true),
        };
        more.objects.extend([place.0, entry.id]);
        if entry.attr.kind == Kind::File {
            more.add_data(entry.id, Stripes::any());
        }
        if !made {
            return Ok(Vec::new());
        }
        let inner = self.names_of(Side::Source(self.source()?), entry.id).await?.unwrap_or_default();
        Ok(inner.into_iter().map(|inner| (entry.id, inner.name)).collect())
    }

    /// Places by how many directories are above them, as far as is known.
    fn by_depth(&self, side: Side, places: Vec<Place>) -> BTreeMap<usize, Vec<Place>> {
        let mut levels: BTreeMap<usize, Vec<Place>> = BTreeMap::new();
        for place in places {
            levels.entry(self.depth(side, place.0)).or_default().push(place);
        }
        levels
    }

    /// Takes away what the member has at a place and the others do not. Returns what has to be seen to before or after that.
    async fn take_out(&self, place: &Place) -> Result<Touched> {
        let mut first = Touched::default();
        let source = Side::Source(self.source()?);
        let (wanted, found) =
            futures_util::future::try_join(self.find(source, place), self.lookup(Side::Target, place)).await?;
        let wanted = match wanted {
            Found::There(wanted) => Some(wanted),
            Found::Gone => None,
            Found::Unsure => return Ok(first),
        };
        let Some(found) = found.filter(|found| wanted.is_none_or(|wanted| wanted.id != found.id)) else {
            return Ok(first);
        };
        if has_many_names(&found) && !self.may_leave(&found) {
            first.places.insert(place.clone());
            first.objects.insert(found.id);
            if found.attr.kind == Kind::File {
                first.add_data(found.id, self.any_of(found.id));
            }
            return Ok(first);
        }
        if !has_many_names(&found) {
            lock(&self.taken_out).insert(found.id);
        }
        let change = Change::Detach { parent: place.0, name: place.1.clone(), id: found.id };
        self.lost_sight(found.id);
        self.change(self.core.world.clock.now(), change, Bytes::new()).await?;
        // Both have other times now.
        first.objects.extend([place.0, found.id]);
        Ok(first)
    }

    /// Whether an object that keeps other names may lose one. Its changes may have left stamps along this name only, so that the next
    /// attempt, which does not find the name any more, would not find them: it has to be equal before.
    fn may_leave(&self, found: &Entry) -> bool {
        let is_equal = !self.is_moving(found.id) && {
            let leaving = self.leaving();
            let is_file = found.attr.kind == Kind::File;
            leaving.get(&found.id).is_some_and(|equal| equal.attributes && (equal.data || !is_file))
        };
        if !is_equal {
            self.leaving().insert(found.id, Equal::default());
        }
        is_equal
    }

    /// Puts at a place what the others have there; `searched` when the member came by all that it has.
    pub(super) async fn put_in(&self, place: &Place, searched: bool) -> Result<Put> {
        let source = Side::Source(self.source()?);
        let wanted = match self.find(source, place).await? {
            Found::There(wanted) => wanted,
            Found::Gone => return Ok(Put::Nothing),
            Found::Unsure => return Ok(Put::Later),
        };
        // What was renamed since may be on the member where nobody has looked yet.
        if self.has_name(place, wanted.id) {
            return Ok(Put::Later);
        }
        match self.lookup(Side::Target, place).await? {
            Some(found) if found.id == wanted.id => return Ok(Put::Right(wanted, false)),
            Some(_) => return Ok(Put::Later),
            None => {}
        }
        // Two names of an object that is not there yet must not both make it.
        if !lock(&self.making).insert(wanted.id) {
            return Ok(Put::Later);
        }
        let put = self.make_name(source, place, wanted.clone(), searched).await;
        lock(&self.making).remove(&wanted.id);
        put
    }

    async fn make_name(&self, source: Side, place: &Place, wanted: Entry, searched: bool) -> Result<Put> {
        let (parent, name) = place.clone();
        let id = wanted.id;
        let is_dir = wanted.attr.kind == Kind::Directory;
        let may_be_there = has_many_names(&wanted) && (!self.is_new(id) || self.has_met(id));
        let (change, made) = match self.known(id).await? {
            Some(found) if is_dir || found.attr.nlink == 0 => (Change::Attach { id, parent, name }, false),
            Some(_) => (Change::Link { id, parent, name }, false),
            None if may_be_there && !searched => return Ok(Put::Missing),
            None => (Change::Create { parent, name, id, spec: Box::new(self.spec(source, &wanted).await?) }, is_dir),
        };
        match self.try_change(wanted.attr.ctime, change, Bytes::new()).await? {
            Ok(_) => self.saw(Side::Target, id, place.clone()),
            // The directory is not there yet, or something else is in the way.
            Err(errno) if is_gone(errno) || errno == libc::EEXIST => return Ok(Put::Later),
            Err(errno) => return Err(self.refused(Side::Target, "making a name", errno)),
        }
        Ok(if made { Put::Made(wanted) } else { Put::Right(wanted, true) })
    }

    async fn spec(&self, source: Side, entry: &Entry) -> Result<NewObject> {
        let target = match entry.attr.kind {
            Kind::Symlink => match self.ask(source, &Request::ReadLink { id: entry.id }, &[]).await? {
                Ok(response) => match response.reply {
                    Reply::Bytes(target) => target,
                    _ => return Err(self.halt(source, &nonsense().to_string())),
                },
                Err(errno) => return Err(self.refused(source, "reading a link", errno)),
            },
            _ => Vec::new(),
        };
        Ok(NewObject {
            kind: entry.attr.kind.clone(),
            mode: entry.attr.mode,
            uid: entry.attr.uid,
            gid: entry.attr.gid,
            target,
            layout: entry.layout,
            xattrs: Vec::new(),
        })
    }

    /// Makes equal what is kept outside of the tree: files that are open without a name. Whether nothing was to be done.
    pub(super) async fn equal_orphans(&self) -> Result<bool> {
        let source = self.source()?;
        let wanted: BTreeMap<ObjectId, Entry> = self
            .orphans(Side::Source(source))
            .await?
            .into_iter()
            .filter_map(|found| Some((found.id, *found.entry?)))
            .collect();
        let found: BTreeSet<ObjectId> = self.orphans(Side::Target).await?.iter().map(|found| found.id).collect();
        let mut equal = true;
        for id in found.iter().filter(|id| !wanted.contains_key(id)) {
            equal = false;
            // What has a name gets it yet. (What is taken for gone by mistake is made anew.)
            if self.is_moving(*id) || self.has(Side::Source(source), *id).await? {
                continue;
            }
            self.lost_sight(*id);
            self.change(self.core.world.clock.now(), Change::Purge { id: *id }, Bytes::new()).await?;
        }
        for (id, entry) in wanted.iter().filter(|(id, _)| !found.contains(id)) {
            equal = false;
            if !self.is_moving(*id) && self.known(*id).await?.is_none() {
                self.make_orphan(Side::Source(source), entry).await?;
            }
        }
        Ok(equal)
    }

    /// There is no other way to make a file outside of the tree than to take its name away.
    async fn make_orphan(&self, source: Side, entry: &Entry) -> Result<()> {
        let id = entry.id;
        let spec = Box::new(self.spec(source, entry).await?);
        let name = format!(".net_raid_{:016x}", id.0);
        let Ok(name) = Name::new(name.as_bytes()) else { return Ok(()) };
        let place = (ObjectId::ROOT, name.clone());
        let mut touched = Touched::default();
        // It is looked after if this is interrupted, and the root has other times now.
        touched.places.insert(place);
        touched.objects.extend([ObjectId::ROOT, id]);
        touched.add_data(id, Stripes::any());
        self.add(touched);
        let now = entry.attr.ctime;
        self.change(now, Change::Create { parent: ObjectId::ROOT, name: name.clone(), id, spec }, Bytes::new()).await?;
        self.change(now, Change::Detach { parent: ObjectId::ROOT, name, id }, Bytes::new()).await
    }
}
