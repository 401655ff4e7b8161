//! Objects that are put back where they were lost, or damaged so that nothing can be believed of them.
//!
//! What is left of a file stays: blocks that match their records are right, and of those without a record none is. The attribute
//! comes last as with a new object, so that nobody reads anything from it before.

use net_raid_proto::ids::{Name, ObjectId, Timestamp};
use net_raid_proto::limits::UNIT_SIZE;
use net_raid_proto::message::{Kind, NewObject, Reply};

use super::Brick;
use super::create::check_spec;
use super::digest;
use super::error::{Result, errno};
use super::locate::{hex_name, is_reserved};
use super::node::Node;
use super::object::Records;
use super::record::Record;
use crate::disk::{Disk, RenameMode, Stat};

impl<D: Disk> Brick<D> {
    /// `size` is the logical size of a file, of which `brick_len` bytes are here.
    pub(super) fn restore(
        &self,
        (parent, name): (ObjectId, &Name),
        id: ObjectId,
        spec: &NewObject,
        (size, brick_len): (u64, u64),
        now: Timestamp,
    ) -> Result<Reply> {
        if is_reserved(parent, name) {
            return Err(errno(libc::EPERM));
        }
        check_spec(id, spec)?;
        self.stamp(parent)?;
        let dir = self.directory(parent)?;
        let _names = dir.names_mut();
        // What is open may be another file than what has the name.
        self.cache.remove(id);
        let handle = match self.remains(&dir, name, id, &spec.kind)? {
            Some(handle) => handle,
            None if self.relink(&dir, name, id)? => return self.created(&dir, name, id, now),
            None => {
                let meta = self.new_meta(id, spec, now);
                self.make(&dir, name, &meta, spec)?
            }
        };
        let mut meta = self.new_meta(id, spec, now);
        if spec.kind == Kind::File {
            digest::take_away(&self.disk, &handle)?;
            self.disk.truncate(&handle, brick_len)?;
            meta.size = meta.size.map(|_| size);
            if brick_len <= UNIT_SIZE as u64 && !self.has_side(id)? {
                meta.set_inline(&Record::unknown(brick_len));
            } else {
                self.doubt_side(id, brick_len)?;
                meta.records = Records::Side;
            }
        }
        self.furnish(&dir, &handle, &meta, spec, now)?;
        self.cache.remove(id);
        self.created(&dir, name, id, now)
    }

    /// What is at a name, if it can be what it should be; what cannot is taken away.
    fn remains(&self, dir: &Node<D>, name: &Name, id: ObjectId, kind: &Kind) -> Result<Option<D::Handle>> {
        let stat = match self.disk.stat_at(&dir.handle, name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            stat => stat?,
        };
        let meta = self.child_meta(dir, name)?;
        let other = meta.as_ref().is_some_and(|meta| meta.id != id);
        if !other && stat.kind == *kind && matches!(kind, Kind::File | Kind::Directory) {
            return Ok(Some(self.disk.open(&dir.handle, &[name])?.0));
        }
        self.take_away(dir, name, meta.map(|meta| meta.id), &stat)?;
        Ok(None)
    }

    /// A directory of the volume is kept outside of the tree, until orphans are purged.
    fn take_away(&self, dir: &Node<D>, name: &Name, id: Option<ObjectId>, stat: &Stat) -> Result<()> {
        tracing::warn!(dir = dir.id.0, %name, "takes away what is not of the volume here");
        match (&stat.kind, id) {
            (Kind::Directory, Some(id)) => {
                let to = &self.areas()?.orphans;
                self.disk.rename(&dir.handle, name, to, &hex_name(id), RenameMode::Replace)?;
                self.cache.remove(id);
                self.table.forget(id);
            }
            (Kind::Directory, None) => self.disk.rmdir(&dir.handle, name)?,
            (_, id) => {
                self.disk.unlink(&dir.handle, name)?;
                if let Some(id) = id {
                    self.table.forget_name(id, dir.id, name);
                    self.cache.remove(id);
                }
            }
        }
        Ok(())
    }

    /// Gives an object its name again that is known by another one; whether there is such an object.
    fn relink(&self, dir: &Node<D>, name: &Name, id: ObjectId) -> Result<bool> {
        let Some(place) = self.table.get(id).filter(|place| (place.parent, &place.name) != (dir.id, name)) else {
            return Ok(false);
        };
        let Ok(from) = self.directory(place.parent) else { return Ok(false) };
        if self.child_meta(&from, &place.name)?.is_none_or(|meta| meta.id != id) {
            return Ok(false);
        }
        self.disk.link(&from.handle, &place.name, &dir.handle, name)?;
        Ok(true)
    }
}
