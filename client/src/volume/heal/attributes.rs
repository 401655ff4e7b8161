//! Sizes, attributes and extended attributes become those that the others have.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::{Attr, Change, Entry, Kind, Reply, Request, SetAttr, XattrExpect};

use super::behind::{Stripes, Touched};
use super::peer::{Found, Side, is_gone};
use super::{Attempt, Result, TOGETHER};
use crate::layout::Geometry;
use crate::volume::query::nonsense;

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

fn told(attr: &Attr) -> impl PartialEq {
    (attr.mode, attr.uid, attr.gid, attr.atime, attr.mtime, attr.ctime)
}

impl Attempt<'_> {
    /// Makes attributes equal; of files in `data` the bytes follow. Returns what has to be seen to again.
    pub(super) async fn equal_attributes(
        &self,
        objects: BTreeSet<ObjectId>,
        data: &BTreeMap<ObjectId, Stripes>,
    ) -> Result<Touched> {
        let mut again = Touched::default();
        let objects: Vec<ObjectId> = objects.into_iter().collect();
        for ids in objects.chunks(TOGETHER) {
            again.add(self.see_to_wanted().await?);
            again.add(self.equal_objects(ids, data).await?);
        }
        Ok(again)
    }

    /// The same for a few objects.
    pub(super) async fn equal_objects(&self, ids: &[ObjectId], data: &BTreeMap<ObjectId, Stripes>) -> Result<Touched> {
        let equal = ids.iter().map(|id| self.equal_object(*id, data.contains_key(id)));
        let equal = futures_util::future::try_join_all(equal).await?;
        let again = ids.iter().zip(equal).filter(|(_, equal)| !equal).map(|(id, _)| *id).collect();
        Ok(Touched { objects: again, ..Touched::default() })
    }

    /// `false` when the member does not have it yet, or by other names.
    async fn equal_object(&self, id: ObjectId, has_data: bool) -> Result<bool> {
        let source = Side::Source(self.source()?);
        let wanted = match self.find_object(source, id).await? {
            Found::There(wanted) => wanted,
            Found::Gone => {
                self.note_equal(id, |equal| equal.attributes = true);
                return Ok(true);
            }
            Found::Unsure => return Ok(false),
        };
        if has_data && wanted.attr.kind == Kind::File {
            self.progress.expect(id, Geometry::new(wanted.layout, id).brick_len(wanted.attr.size, self.slot));
        }
        let Some(found) = self.entry(Side::Target, id).await? else { return Ok(false) };
        let (Some(xattrs), Some(has)) =
            futures_util::future::try_join(self.xattrs(source, id), self.xattrs(Side::Target, id)).await?
        else {
            return Ok(false);
        };
        let resized = wanted.attr.kind == Kind::File && wanted.attr.size != found.attr.size;
        if resized && !self.resize(source, &found).await? {
            return Ok(false);
        }
        let changed = xattrs != has;
        if changed && !self.set_xattrs(&wanted, &has, &xattrs).await? {
            return Ok(false);
        }
        if (resized || changed || told(&wanted.attr) != told(&found.attr)) && !self.set_attributes(&wanted).await? {
            return Ok(false);
        }
        self.note_equal(id, |equal| equal.attributes = true);
        // Else some name of it is another object there, or not yet seen to.
        Ok(wanted.attr.kind == Kind::Directory || wanted.attr.nlink == found.attr.nlink)
    }

    /// Whether the object is there.
    async fn changed(&self, entry: &Entry, change: Change, payload: Bytes) -> Result<bool> {
        match self.try_change(entry.attr.ctime, change, payload).await? {
            Ok(_) => Ok(true),
            Err(errno) if is_gone(errno) || errno == libc::ENODATA => Ok(false),
            Err(errno) => Err(self.refused(Side::Target, "setting attributes", errno)),
        }
    }

    /// Whether it could be done: not while the file is being written. What is cut carries a generation, and whatever is written
    /// after the size was read must have the same or a later one.
    async fn resize(&self, source: Side, found: &Entry) -> Result<bool> {
        let id = found.id;
        let ticket = self.ticket().await?;
        if self.has_data(id, (0, u64::MAX)) {
            return Ok(false);
        }
        let Some(wanted) = self.entry(source, id).await? else { return Ok(false) };
        if self.has_data(id, (0, u64::MAX)) {
            return Ok(false);
        }
        let size = wanted.attr.size;
        let brick_len = Geometry::new(wanted.layout, id).brick_len(size, self.slot);
        let change = Change::Truncate { id, size, brick_len, mtime: None, mode: None };
        match self.change_with(&ticket, change, Vec::new()).await? {
            Ok(_) if size < found.attr.size => self.blank_cut(ticket.generation(), id, size.min(brick_len)).await,
            Ok(_) => Ok(true),
            Err(errno) if is_gone(errno) => Ok(false),
            Err(errno) => Err(self.refused(Side::Target, "cutting a file", errno)),
        }
    }

    /// All at once, the ctime with them.
    async fn set_attributes(&self, wanted: &Entry) -> Result<bool> {
        let Attr { mode, uid, gid, atime, mtime, .. } = wanted.attr;
        let set = SetAttr { mode: Some(mode), uid: Some(uid), gid: Some(gid), atime: Some(atime), mtime: Some(mtime) };
        self.changed(wanted, Change::SetAttr { id: wanted.id, set }, Bytes::new()).await
    }

    async fn set_xattrs(&self, wanted: &Entry, has: &Xattrs, xattrs: &Xattrs) -> Result<bool> {
        let id = wanted.id;
        for name in has.keys().filter(|name| !xattrs.contains_key(*name)) {
            if !self.changed(wanted, Change::RemoveXattr { id, name: name.clone() }, Bytes::new()).await? {
                return Ok(false);
            }
        }
        for (name, value) in xattrs.iter().filter(|(name, value)| has.get(*name) != Some(value)) {
            let change = Change::SetXattr { id, name: name.clone(), expect: XattrExpect::Any, mode: None };
            if !self.changed(wanted, change, Bytes::from(value.clone())).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `None` when the object, or one of them, went away meanwhile.
    async fn xattrs(&self, side: Side, id: ObjectId) -> Result<Option<Xattrs>> {
        let mut xattrs = Xattrs::new();
        let Some(list) = self.bytes(side, &Request::ListXattr { id }).await? else { return Ok(None) };
        for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let Some(value) = self.bytes(side, &Request::GetXattr { id, name: name.to_vec() }).await? else {
                return Ok(None);
            };
            xattrs.insert(name.to_vec(), value);
        }
        Ok(Some(xattrs))
    }

    async fn bytes(&self, side: Side, request: &Request) -> Result<Option<Vec<u8>>> {
        match self.ask(side, request, &[]).await? {
            Ok(response) => match response.reply {
                Reply::Bytes(bytes) => Ok(Some(bytes)),
                _ => Err(self.halt(side, &nonsense().to_string())),
            },
            Err(errno) if is_gone(errno) || errno == libc::ENODATA => Ok(None),
            Err(errno) => Err(self.refused(side, "reading attributes", errno)),
        }
    }
}
