//! Renames, with everything that they can find at the new name.

use std::sync::RwLockWriteGuard;

use net_raid_proto::ids::{Name, ObjectId, Timestamp};
use net_raid_proto::message::{Kind, RenameTarget, Reply};

use super::Brick;
use super::error::{Result, errno};
use super::locate::{Child, is_reserved};
use super::node::Node;
use super::object::Records;
use crate::disk::{Disk, RenameMode};

/// Both ends of a rename.
struct Ends<'a, D: Disk> {
    from: &'a Node<D>,
    name: &'a Name,
    to: &'a Node<D>,
    new_name: &'a Name,
}

/// Holds the names of two directories, which may be the same, for a change.
pub(super) fn lock_names<'a, D: Disk>(
    one: &'a Node<D>,
    other: &'a Node<D>,
) -> (RwLockWriteGuard<'a, ()>, Option<RwLockWriteGuard<'a, ()>>) {
    match one.id.cmp(&other.id) {
        std::cmp::Ordering::Equal => (one.names_mut(), None),
        std::cmp::Ordering::Less => (one.names_mut(), Some(other.names_mut())),
        std::cmp::Ordering::Greater => (other.names_mut(), Some(one.names_mut())),
    }
}

impl<D: Disk> Brick<D> {
    pub(super) fn rename(
        &self,
        (parent, name): (ObjectId, &Name),
        id: ObjectId,
        (new_parent, new_name): (ObjectId, &Name),
        target: RenameTarget,
        (now, resend): (Timestamp, bool),
    ) -> Result<Reply> {
        if is_reserved(parent, name) || is_reserved(new_parent, new_name) {
            return Err(errno(libc::EPERM));
        }
        self.stamp(parent)?;
        self.stamp(new_parent)?;
        let (from, to) = (self.directory(parent)?, self.directory(new_parent)?);
        let _names = lock_names(&from, &to);
        let ends = Ends { from: &from, name, to: &to, new_name };
        let present = self.child(&to, new_name)?;
        let source = self.child_meta(&from, name)?;
        if source.as_ref().is_none_or(|meta| meta.id != id) {
            if !resend || present.is_none_or(|child| child.meta.id != id) {
                return Err(errno(if source.is_none() { libc::ENOENT } else { libc::ESTALE }));
            }
            self.named(id, new_parent, new_name);
            let other = match target {
                RenameTarget::Replace { id: other, .. } | RenameTarget::Exchange { id: other } => other,
                RenameTarget::Absent => id,
            };
            if matches!(target, RenameTarget::Exchange { .. }) {
                self.named(other, parent, name);
            }
            return self.done_before(&[&from, &to], &[id, other], now);
        }
        self.move_name(&ends, id, target, present, now)?;
        self.touch_names(&from, now)?;
        if new_parent != parent {
            self.touch_names(&to, now)?;
        }
        Ok(Reply::Done)
    }

    fn move_name(
        &self,
        ends: &Ends<'_, D>,
        id: ObjectId,
        target: RenameTarget,
        present: Option<Child>,
        now: Timestamp,
    ) -> Result<()> {
        self.seen(id, ends.from.id, ends.name);
        match (target, present) {
            (RenameTarget::Absent, None) => self.rename_fresh(ends)?,
            (RenameTarget::Absent, Some(_)) => return Err(errno(libc::EEXIST)),
            (RenameTarget::Replace { id: victim, keep }, Some(child)) if child.meta.id == victim => {
                if victim == id {
                    // Two names of one object: the kernel leaves both, as POSIX wants.
                    return Ok(());
                }
                self.rename_over(ends, &child, keep, now)?;
            }
            (RenameTarget::Exchange { id: other }, Some(child)) if child.meta.id == other => {
                self.disk.rename(&ends.from.handle, ends.name, &ends.to.handle, ends.new_name, RenameMode::Exchange)?;
                self.named(other, ends.from.id, ends.name);
                self.touch_outside(&*self.node(other)?, now)?;
            }
            (_, Some(_)) => return Err(errno(libc::ESTALE)),
            (_, None) => return Err(errno(libc::ENOENT)),
        }
        self.table.forget_name(id, ends.from.id, ends.name);
        self.named(id, ends.to.id, ends.new_name);
        self.touch_outside(&*self.node(id)?, now)
    }

    fn rename_fresh(&self, ends: &Ends<'_, D>) -> Result<()> {
        let rename =
            || self.disk.rename(&ends.from.handle, ends.name, &ends.to.handle, ends.new_name, RenameMode::NoReplace);
        match rename() {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                if !self.clear_debris(ends.to, ends.new_name)? {
                    return Err(error.into());
                }
                Ok(rename()?)
            }
            result => Ok(result?),
        }
    }

    fn rename_over(&self, ends: &Ends<'_, D>, victim: &Child, keep: bool, now: Timestamp) -> Result<()> {
        let id = victim.meta.id;
        let directory = victim.stat.kind == Kind::Directory;
        let last = victim.stat.nlink == 1 && !directory;
        let survivor = if last || directory { None } else { Some(self.named_node(id, ends)?) };
        if last && keep {
            self.link_orphan(ends.to, ends.new_name, id)?;
        }
        if let Err(error) = self.replace(ends, id, directory) {
            if last && keep {
                self.unlink_orphan(id)?;
            }
            return Err(error);
        }
        match survivor {
            Some(node) => {
                self.table.forget_name(id, ends.to.id, ends.new_name);
                self.touch_outside(&node, now)
            }
            None if last && keep => {
                self.orphaned(id);
                self.touch_outside(&*self.node(id)?, now)
            }
            None if directory => self.gone(id, &Records::None),
            None => self.gone(id, &self.present_records(id, victim)),
        }
    }

    /// The object at the new name, open, so that it can be changed when that name is gone.
    fn named_node(&self, id: ObjectId, ends: &Ends<'_, D>) -> Result<std::sync::Arc<Node<D>>> {
        self.seen(id, ends.to.id, ends.new_name);
        self.node(id)
    }

    fn replace(&self, ends: &Ends<'_, D>, victim: ObjectId, directory: bool) -> Result<()> {
        let rename =
            || self.disk.rename(&ends.from.handle, ends.name, &ends.to.handle, ends.new_name, RenameMode::Replace);
        match rename() {
            Err(error) if directory && error.raw_os_error() == Some(libc::ENOTEMPTY) => {
                self.sweep(ends.to, ends.new_name, victim)?;
                Ok(rename()?)
            }
            result => Ok(result?),
        }
    }
}
