//! New objects and new names. The brick's attribute is set last: an object that has it is complete.

use std::sync::atomic::Ordering::Relaxed;

use net_raid_proto::ids::{Name, ObjectId, Timestamp};
use net_raid_proto::layout::Level;
use net_raid_proto::limits::TARGET_MAX;
use net_raid_proto::membership::Ownership;
use net_raid_proto::message::{Kind, NewObject, Reply};

use super::Brick;
use super::error::{Result, errno};
use super::locate::{hex_name, is_reserved};
use super::node::{FileDigest, Node, State};
use super::object::{Meta, Recorded, Records};
use super::xattrs::{ACL_ACCESS, ACL_DEFAULT};
use crate::disk::{Disk, RenameMode, XattrMode};

impl<D: Disk> Brick<D> {
    pub(super) fn create(
        &self,
        parent: ObjectId,
        name: &Name,
        id: ObjectId,
        spec: &NewObject,
        (now, resend): (Timestamp, bool),
    ) -> Result<Reply> {
        if is_reserved(parent, name) {
            return Err(errno(libc::EPERM));
        }
        check_spec(id, spec)?;
        self.stamp(parent)?;
        let dir = self.directory(parent)?;
        let _names = dir.names_mut();
        let meta = self.new_meta(id, spec, now);
        let handle = match self.make(&dir, name, &meta, spec) {
            Err(error) if error.number() == Some(libc::EEXIST) => {
                if let Some(present) = self.child_meta(&dir, name)? {
                    let done = resend && present.id == id;
                    return if done { self.created(&dir, name, id, now) } else { Err(error) };
                }
                if !self.clear_debris(&dir, name)? {
                    return Err(error);
                }
                self.make(&dir, name, &meta, spec)?
            }
            handle => handle?,
        };
        if let Err(error) = self.furnish(&dir, &handle, &meta, spec, now) {
            self.unmake(&dir, name, &spec.kind);
            return Err(error);
        }
        let node = Node::new(spec.kind.clone(), handle, State::new(meta, None, FileDigest::Outdated, false));
        // What may be open for the id was removed behind the brick's back.
        self.cache.remove(id);
        let _ = self.cache.insert(node, self.cache.removals(id));
        self.trim(id);
        self.created(&dir, name, id, now)
    }

    pub(super) fn created(&self, dir: &Node<D>, name: &Name, id: ObjectId, now: Timestamp) -> Result<Reply> {
        self.touch_names(dir, now)?;
        self.named(id, dir.id, name);
        Ok(Reply::Done)
    }

    /// Notes a name that was just given.
    pub(super) fn named(&self, id: ObjectId, parent: ObjectId, name: &Name) {
        self.table.named(id, parent, name, self.round.load(Relaxed));
    }

    pub(super) fn new_meta(&self, id: ObjectId, spec: &NewObject, now: Timestamp) -> Meta {
        let file = spec.kind == Kind::File;
        let recorded = (self.ownership() == Ownership::Recorded).then(|| Recorded {
            kind: spec.kind.clone(),
            mode: spec.mode & 0o7777,
            uid: spec.uid,
            gid: spec.gid,
        });
        Meta {
            id,
            stamp: self.generation(),
            ctime: now,
            early_ctime: false,
            layout: file.then_some(spec.layout),
            size: (file && spec.layout.level != Level::Raid1).then_some(0),
            recorded,
            records: Records::None,
            side_units: None,
        }
    }

    /// Makes the local object, under its name, without its attributes.
    pub(super) fn make(&self, dir: &Node<D>, name: &Name, meta: &Meta, spec: &NewObject) -> Result<D::Handle> {
        if meta.recorded.is_some() {
            return self.make_recorded(dir, name, meta, spec);
        }
        let at = &dir.handle;
        match &spec.kind {
            Kind::File => return Ok(self.disk.create(at, name, spec.mode & 0o7777)?),
            Kind::Directory => self.disk.mkdir(at, name, spec.mode & 0o7777)?,
            Kind::Symlink => self.disk.symlink(at, name, &spec.target)?,
            special => self.disk.mknod(at, name, special, spec.mode & 0o7777)?,
        }
        self.reopen(dir, name, &spec.kind)
    }

    fn make_recorded(&self, dir: &Node<D>, name: &Name, meta: &Meta, spec: &NewObject) -> Result<D::Handle> {
        match &spec.kind {
            Kind::Directory => {
                self.disk.mkdir(&dir.handle, name, 0o700)?;
                self.reopen(dir, name, &spec.kind)
            }
            Kind::Symlink => self.make_link_file(dir, name, meta, &spec.target),
            _ => Ok(self.disk.create(&dir.handle, name, 0o600)?),
        }
    }

    fn reopen(&self, dir: &Node<D>, name: &Name, kind: &Kind) -> Result<D::Handle> {
        let opened = self.disk.open(&dir.handle, &[name]);
        if opened.is_err() {
            self.unmake(dir, name, kind);
        }
        Ok(opened?.0)
    }

    /// A symbolic link as a file: made complete among the orphans, so that an interruption leaves no
    /// file that looks like somebody's data.
    fn make_link_file(&self, dir: &Node<D>, name: &Name, meta: &Meta, target: &[u8]) -> Result<D::Handle> {
        let (orphans, staged) = (&self.areas()?.orphans, hex_name(meta.id));
        let _ = self.disk.unlink(orphans, &staged);
        let file = self.disk.create(orphans, &staged, 0o600)?;
        let filled = self.disk.write_at(&file, target, 0).map_err(|short| short.source);
        // A name may be durable long before bytes are, and nothing says later what they were.
        let filled = filled.and_then(|()| self.disk.sync_data(&file));
        let attributed =
            filled.and_then(|()| self.disk.set_xattr(&file, self.attr_name(), &meta.encode(), XattrMode::Any));
        let moved =
            attributed.and_then(|()| self.disk.rename(orphans, &staged, &dir.handle, name, RenameMode::NoReplace));
        if moved.is_err() {
            let _ = self.disk.unlink(orphans, &staged);
        }
        moved?;
        Ok(file)
    }

    /// Gives a new local object everything that was asked for, and nothing that it inherited here.
    pub(super) fn furnish(
        &self,
        dir: &Node<D>,
        handle: &D::Handle,
        meta: &Meta,
        spec: &NewObject,
        now: Timestamp,
    ) -> Result<()> {
        if self.hands_down_acl(dir)? {
            for attr in [ACL_ACCESS, ACL_DEFAULT] {
                match self.disk.remove_xattr(handle, attr) {
                    Err(error) if !matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => {
                        return Err(error.into());
                    }
                    _ => {}
                }
            }
        }
        if meta.recorded.is_none() {
            let stat = self.disk.stat(handle)?;
            if (stat.uid, stat.gid) != (spec.uid, spec.gid) {
                self.disk.set_owner(handle, Some(spec.uid), Some(spec.gid))?;
            }
            // A change of owner takes set-id bits away, a set-gid directory hands its own down.
            let changed = (stat.uid, stat.gid, stat.mode) != (spec.uid, spec.gid, spec.mode & 0o7777);
            if changed && spec.kind != Kind::Symlink {
                self.disk.set_mode(handle, spec.mode & 0o7777)?;
            }
        }
        for (attr, value) in &spec.xattrs {
            let local = self.local_xattr(attr, &spec.kind)?;
            self.disk.set_xattr(handle, &local, value, XattrMode::Any)?;
        }
        if meta.recorded.is_none() && !spec.xattrs.is_empty() && spec.kind != Kind::Symlink {
            self.disk.set_mode(handle, spec.mode & 0o7777)?;
        }
        self.disk.set_times(handle, Some(now), Some(now))?;
        Ok(self.disk.set_xattr(handle, self.attr_name(), &meta.encode(), XattrMode::Any)?)
    }

    /// Whether objects made in a directory get an ACL from the local kernel.
    fn hands_down_acl(&self, dir: &Node<D>) -> Result<bool> {
        if let Some(known) = dir.state().default_acl {
            return Ok(known);
        }
        let found = match self.disk.get_xattr(&dir.handle, ACL_DEFAULT) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => false,
            value => value?.is_some(),
        };
        dir.state_mut().default_acl = Some(found);
        Ok(found)
    }

    /// Removes what could not be completed; what cannot be removed either has no attribute and is debris.
    fn unmake(&self, dir: &Node<D>, name: &Name, kind: &Kind) {
        let removed = match kind {
            Kind::Directory => self.disk.rmdir(&dir.handle, name),
            _ => self.disk.unlink(&dir.handle, name),
        };
        if let Err(error) = removed {
            tracing::warn!(%name, %error, "a create failed and left something behind");
        }
    }

    pub(super) fn link(
        &self,
        id: ObjectId,
        parent: ObjectId,
        name: &Name,
        (now, resend): (Timestamp, bool),
    ) -> Result<Reply> {
        if is_reserved(parent, name) {
            return Err(errno(libc::EPERM));
        }
        self.stamp(parent)?;
        self.stamp(id)?;
        let (dir, node) = (self.directory(parent)?, self.node(id)?);
        if node.kind == Kind::Directory {
            return Err(errno(libc::EPERM));
        }
        // By name, not by handle: a link to an open file needs a capability that servers do not have.
        let (from, from_name) = self.known_name(id)?;
        let _names = super::rename::lock_names(&from, &dir);
        let present = self.child_meta(&from, &from_name)?.is_some_and(|meta| meta.id == id);
        if !present {
            self.table.forget_name(id, from.id, &from_name);
            return Err(net_raid_proto::message::Fault::Unresolved(id).into());
        }
        self.add_name(&from, &from_name, &dir, name, (id, resend))?;
        self.touch_names(&dir, now)?;
        self.touch(&node, now)?;
        self.named(id, parent, name);
        Ok(Reply::Done)
    }

    fn known_name(&self, id: ObjectId) -> Result<(std::sync::Arc<Node<D>>, Name)> {
        let place = self.table.get(id).ok_or(net_raid_proto::message::Fault::Unresolved(id))?;
        Ok((self.directory(place.parent)?, place.name))
    }

    fn add_name(
        &self,
        from: &Node<D>,
        from_name: &Name,
        dir: &Node<D>,
        name: &Name,
        (id, resend): (ObjectId, bool),
    ) -> Result<()> {
        let link = || self.disk.link(&from.handle, from_name, &dir.handle, name);
        match link() {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => match self.child_meta(dir, name)? {
                Some(meta) if resend && meta.id == id => Ok(()),
                None if self.clear_debris(dir, name)? => Ok(link()?),
                _ => Err(error.into()),
            },
            result => Ok(result?),
        }
    }
}

/// What a client may ask to be made.
pub(super) fn check_spec(id: ObjectId, spec: &NewObject) -> Result<()> {
    let target_fits = match spec.kind {
        Kind::Symlink => (1..=TARGET_MAX).contains(&spec.target.len()) && !spec.target.contains(&0),
        _ => true,
    };
    if id == ObjectId::ROOT || id.0 == 0 || !target_fits || spec.kind == Kind::File && !spec.layout.is_valid() {
        return Err(errno(libc::EINVAL));
    }
    Ok(())
}
