//! Sizes, attributes and extended attributes of what changed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use net_raid_proto::ids::{ObjectId, Slot};
use net_raid_proto::message::{Attr, Change, Entry, Kind, Reply, Request, SetAttr, XattrExpect};

use super::names::{Plan, View};
use super::{Recovery, Result, TOGETHER, Trouble};
use crate::layout::Geometry;

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Whether a program could tell them apart; sizes and links are made equal elsewhere.
fn same(one: &Attr, other: &Attr) -> bool {
    let told = |attr: &Attr| (attr.mode, attr.uid, attr.gid, attr.atime, attr.mtime, attr.ctime);
    told(one) == told(other)
}

impl Recovery<'_> {
    /// Objects with a change that is not known to be complete.
    fn changed<'a>(&self, views: &'a [(Slot, View)], plan: &Plan) -> BTreeMap<ObjectId, &'a Entry> {
        let recent = |entry: &&Entry| entry.stamp > self.complete && !plan.gone.contains(&entry.id);
        let entries = views.iter().flat_map(|(_, view)| view.objects.values());
        entries.filter(recent).map(|entry| (entry.id, entry)).collect()
    }

    /// A file is as long as all members have it: what is behind that was never acknowledged. Returns how many members'
    /// files were cut.
    pub(super) async fn equal_sizes(&self, views: &[(Slot, View)], plan: &Plan) -> Result<usize> {
        let mut cut = 0;
        let files = self.changed(views, plan).into_values().filter(|entry| entry.attr.kind == Kind::File);
        for entry in files {
            let id = entry.id;
            let size_on = |view: &View| view.objects.get(&id).map(|entry| entry.attr.size);
            let Some(size) = views.iter().filter_map(|(_, view)| size_on(view)).min() else { continue };
            let geometry = Geometry::new(entry.layout, id);
            for (slot, view) in views.iter().filter(|(_, view)| size_on(view).is_some_and(|found| found != size)) {
                let brick_len = geometry.brick_len(size, *slot);
                let change = Change::Truncate { id, size, brick_len, mtime: None, mode: None };
                self.change((*slot, view), self.core.world.clock.now(), change, Bytes::new()).await?;
                cut += 1;
            }
        }
        Ok(cut)
    }

    /// Attributes are those of one member. Returns how many objects got others, counted on every member.
    pub(super) async fn equal_attributes(&self, views: &[(Slot, View)], plan: &Plan) -> Result<usize> {
        let steps = || plan.steps.iter().flat_map(|(slot, steps)| steps.iter().map(move |step| (*slot, step)));
        let touched: BTreeSet<(Slot, ObjectId)> =
            steps().flat_map(|(slot, step)| [(slot, step.place.0), (slot, step.id)]).collect();
        let ids: BTreeSet<ObjectId> =
            self.changed(views, plan).into_keys().chain(touched.iter().map(|t| t.1)).collect();
        let ids: Vec<ObjectId> = ids.into_iter().filter(|id| !plan.gone.contains(id)).collect();
        let mut set = 0;
        for ids in ids.chunks(TOGETHER) {
            let calls = ids.iter().map(|id| self.equal_one(views, plan, &touched, *id));
            set += futures_util::future::try_join_all(calls).await?.into_iter().sum::<usize>();
        }
        Ok(set)
    }

    async fn equal_one(
        &self,
        views: &[(Slot, View)],
        plan: &Plan,
        touched: &BTreeSet<(Slot, ObjectId)>,
        id: ObjectId,
    ) -> Result<usize> {
        let having: Vec<(Slot, &View, &Entry)> =
            views.iter().filter_map(|(slot, view)| Some((*slot, view, view.objects.get(&id)?))).collect();
        let source = plan.source.get(&id);
        let Some(source) = having.iter().find(|(slot, ..)| Some(slot) == source).or(having.first()) else {
            return Ok(0);
        };
        let xattrs = having.iter().map(|(slot, view, _)| self.xattrs((*slot, view), id));
        let xattrs = futures_util::future::try_join_all(xattrs).await?;
        let wanted = having.iter().zip(&xattrs).find(|((slot, ..), _)| *slot == source.0).map(|(_, xattrs)| xattrs);
        let mut set = 0;
        for ((slot, view, entry), xattrs) in having.iter().zip(&xattrs) {
            let more = self.equal_xattrs((*slot, view), source.2, xattrs, wanted.unwrap_or(xattrs)).await?;
            if more || touched.contains(&(*slot, id)) || !same(&entry.attr, &source.2.attr) {
                self.set_attributes((*slot, view), source.2).await?;
                set += 1;
            }
        }
        Ok(set)
    }

    /// All at once, the ctime with them.
    async fn set_attributes(&self, to: (Slot, &View), source: &Entry) -> Result<()> {
        let Attr { mode, uid, gid, atime, mtime, ctime, .. } = source.attr;
        let set = SetAttr { mode: Some(mode), uid: Some(uid), gid: Some(gid), atime: Some(atime), mtime: Some(mtime) };
        self.change(to, ctime, Change::SetAttr { id: source.id, set }, Bytes::new()).await
    }

    /// Whether anything was changed.
    async fn equal_xattrs(&self, to: (Slot, &View), source: &Entry, has: &Xattrs, wanted: &Xattrs) -> Result<bool> {
        let (id, now) = (source.id, source.attr.ctime);
        for name in has.keys().filter(|name| !wanted.contains_key(*name)) {
            self.change(to, now, Change::RemoveXattr { id, name: name.clone() }, Bytes::new()).await?;
        }
        for (name, value) in wanted.iter().filter(|(name, value)| has.get(*name) != Some(value)) {
            let change = Change::SetXattr { id, name: name.clone(), expect: XattrExpect::Any, mode: None };
            self.change(to, now, change, Bytes::from(value.clone())).await?;
        }
        Ok(has != wanted)
    }

    async fn xattrs(&self, from: (Slot, &View), id: ObjectId) -> Result<Xattrs> {
        let mut xattrs = Xattrs::new();
        let list = self.bytes(from, &Request::ListXattr { id }).await?;
        for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let value = self.bytes(from, &Request::GetXattr { id, name: name.to_vec() }).await?;
            xattrs.insert(name.to_vec(), value);
        }
        Ok(xattrs)
    }

    async fn bytes(&self, from: (Slot, &View), request: &Request) -> Result<Vec<u8>> {
        match self.ask(from, request, &[]).await? {
            Reply::Bytes(bytes) => Ok(bytes),
            _ => Err(Trouble::nonsense(from.0)),
        }
    }
}
