//! Making an object on one member what it is on another: put back, attributes, length, stamp.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;
use net_raid_proto::ids::{Name, Slot};
use net_raid_proto::layout::Level;
use net_raid_proto::message::{Change, Entry, Kind, NewObject, Reply, Request, SetAttr, XattrExpect};

use super::names::Extended;
use super::peer::{Answer, Spot, Trouble, unexpected};
use super::{Halt, Pass};
use crate::events::Event;
use crate::layout::{Geometry, SlotSet};

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

impl Pass<'_> {
    /// Puts an object back on a member; of a file all bytes are still to come.
    pub(super) async fn restore(
        &self,
        slot: Slot,
        (dir, name): (&Spot, &Name),
        right: &Entry,
        source: Slot,
    ) -> Answer<()> {
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
    pub(super) async fn equal(&self, slot: Slot, spot: &Spot, right: &Entry, source: Slot) -> Answer<()> {
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
    pub(super) async fn stamp_all(&self, spot: &Spot, right: &Entry) {
        let change = Change::SetAttr { id: spot.id, set: SetAttr::default() };
        let now = right.attr.ctime;
        join_all(self.members().iter().map(|slot| self.change(slot, spot, (now, change.clone()), &[]))).await;
    }

    /// Brick files of striped files that are longer than the file needs are cut. (Of a mirror the length is the size.)
    pub(super) async fn cut_tails(&self, spot: &Spot, right: &Entry) -> Result<(), Halt> {
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

    pub(super) fn refused(&self, slot: Slot, spot: &Spot, trouble: &Trouble) {
        let what = format!("not repaired: {trouble}");
        self.core.log(Some(slot), &Event::Inconsistency { object: spot.words(), what });
    }
}
