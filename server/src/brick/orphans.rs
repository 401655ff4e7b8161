//! Objects that lost their last name while a program had them open.

use net_raid_proto::ids::{Name, ObjectId};
use net_raid_proto::message::{Kind, Reply};

use super::Brick;
use super::error::Result;
use super::locate::hex_name;
use super::node::Node;
use super::object::Records;
use crate::disk::{Disk, RenameMode};

/// The id in the name of an orphan.
fn orphan_id(name: &Name) -> Option<ObjectId> {
    let text = std::str::from_utf8(name.as_bytes()).ok()?;
    u64::from_str_radix(text, 16).ok().map(ObjectId)
}

impl<D: Disk> Brick<D> {
    /// Moves an object with one name to the orphans.
    pub(super) fn make_orphan(&self, dir: &Node<D>, name: &Name, id: ObjectId) -> Result<()> {
        let to = &self.areas()?.orphans;
        self.disk.rename(&dir.handle, name, to, &hex_name(id), RenameMode::Replace)?;
        self.orphaned(id);
        Ok(())
    }

    /// Gives an object a second name among the orphans, before the first is replaced.
    pub(super) fn link_orphan(&self, dir: &Node<D>, name: &Name, id: ObjectId) -> Result<()> {
        let to = &self.areas()?.orphans;
        match self.disk.link(&dir.handle, name, to, &hex_name(id)) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Undoes [`Brick::link_orphan`] when the name was not replaced after all.
    pub(super) fn unlink_orphan(&self, id: ObjectId) -> Result<()> {
        match self.disk.unlink(&self.areas()?.orphans, &hex_name(id)) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Notes that an object is an orphan now.
    pub(super) fn orphaned(&self, id: ObjectId) {
        self.fresh_orphans.lock().expect("no holder panics").insert(id);
        self.table.forget(id);
        if let Some(node) = self.cache.get(id) {
            node.state_mut().orphan = true;
        }
    }

    /// Forgets an object whose last name is gone.
    pub(super) fn gone(&self, id: ObjectId, records: &Records) -> Result<()> {
        self.table.forget(id);
        self.cache.remove(id);
        self.forget_waiting(id);
        if *records == Records::Side { self.remove_side(id) } else { Ok(()) }
    }

    pub(super) fn purge(&self, id: ObjectId) -> Result<Reply> {
        self.remove_orphan(id, &hex_name(id))?;
        self.fresh_orphans.lock().expect("no holder panics").remove(&id);
        Ok(Reply::Done)
    }

    pub(super) fn purge_orphans(&self) -> Result<Reply> {
        loop {
            // From the start each time: removing may move what is behind a cursor.
            let mut cursor = 0;
            let mut removed = false;
            loop {
                let page = self.disk.read_dir(&self.areas()?.orphans, cursor)?;
                let Some(last) = page.last() else { break };
                cursor = last.next;
                for item in &page {
                    removed |= self.purge_one(&item.name)?;
                }
            }
            if !removed {
                return Ok(Reply::Done);
            }
        }
    }

    fn purge_one(&self, name: &Name) -> Result<bool> {
        let Some(id) = orphan_id(name) else { return Ok(false) };
        if self.fresh_orphans.lock().expect("no holder panics").contains(&id) {
            return Ok(false);
        }
        self.remove_orphan(id, name)?;
        Ok(true)
    }

    fn remove_orphan(&self, id: ObjectId, name: &Name) -> Result<()> {
        let orphans = &self.areas()?.orphans;
        let stat = match self.disk.stat_at(orphans, name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            stat => stat?,
        };
        match stat.kind {
            Kind::Directory => self.disk.rmdir(orphans, name)?,
            _ => self.disk.unlink(orphans, name)?,
        }
        if stat.nlink > 1 && stat.kind != Kind::Directory {
            // A replacing rename was interrupted: the object still has its name.
            return Ok(());
        }
        self.cache.remove(id);
        self.forget_waiting(id);
        self.remove_side(id)
    }
}
