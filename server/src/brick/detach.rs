//! Names that are taken away for a while: what recovery moves is outside of the tree until it has its place.

use net_raid_proto::ids::{Name, ObjectId, Timestamp};
use net_raid_proto::message::{Kind, Reply};

use super::Brick;
use super::error::{Result, errno};
use super::locate::{hex_name, is_reserved};
use super::node::Node;
use crate::disk::{Disk, RenameMode};

impl<D: Disk> Brick<D> {
    pub(super) fn detach(
        &self,
        parent: ObjectId,
        name: &Name,
        id: ObjectId,
        (now, resend): (Timestamp, bool),
    ) -> Result<Reply> {
        self.stamp(parent)?;
        let dir = self.directory(parent)?;
        let _names = dir.names_mut();
        let Some(child) = self.child_to_remove(&dir, name, id, resend)? else {
            return self.done_before(&[&dir], &[id], now);
        };
        if child.stat.nlink > 1 && child.stat.kind != Kind::Directory {
            self.unlink_one_of_many(&dir, name, id, now)?;
        } else {
            self.seen(id, parent, name);
            self.touch_outside(&*self.node(id)?, now)?;
            self.disk.rename(&dir.handle, name, &self.areas()?.orphans, &hex_name(id), RenameMode::Replace)?;
            // Unlike an unlinked object that is open somewhere it may be purged in this ownership.
            self.outside(id);
        }
        self.touch_names(&dir, now)?;
        Ok(Reply::Done)
    }

    pub(super) fn attach(
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
        let dir = self.directory(parent)?;
        let _names = dir.names_mut();
        if let Some(present) = self.child_meta(&dir, name)? {
            if !resend || present.id != id {
                return Err(errno(libc::EEXIST));
            }
            self.named(id, parent, name);
            return self.done_before(&[&dir], &[id], now);
        }
        let node = self.node(id)?;
        if !node.state().orphan {
            return Err(errno(libc::ENOENT));
        }
        self.touch_outside(&node, now)?;
        self.move_back(&dir, name, id)?;
        node.state_mut().orphan = false;
        self.named(id, parent, name);
        self.touch_names(&dir, now)?;
        Ok(Reply::Done)
    }

    fn move_back(&self, dir: &Node<D>, name: &Name, id: ObjectId) -> Result<()> {
        let from = &self.areas()?.orphans;
        let rename = || self.disk.rename(from, &hex_name(id), &dir.handle, name, RenameMode::NoReplace);
        match rename() {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) && self.clear_debris(dir, name)? => Ok(rename()?),
            result => Ok(result?),
        }
    }
}
