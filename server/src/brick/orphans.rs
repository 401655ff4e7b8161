//! Objects that lost their last name while a program had them open.

use net_raid_proto::ids::{Name, ObjectId};
use net_raid_proto::message::{DirEntry, Entry, Kind, Reply};

use super::Brick;
use super::attr::entry;
use super::error::Result;
use super::locate::hex_name;
use super::node::Node;
use super::object::{Meta, Records};
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
        self.outside(id);
    }

    /// Notes that an object has no place in the tree any more.
    pub(super) fn outside(&self, id: ObjectId) {
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
        let _ = self.remove_orphan(id, &hex_name(id))?;
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

    /// One page of what is kept outside of the tree.
    pub(super) fn read_orphans(&self, cursor: u64) -> Result<Reply> {
        let orphans = &self.areas()?.orphans;
        let page = self.disk.read_dir(orphans, cursor)?;
        let next = page.last().map(|item| item.next);
        let mut entries = Vec::with_capacity(page.len());
        for item in page {
            let Some(id) = orphan_id(&item.name) else { continue };
            let Some(found) = self.orphan(id, &item.name)? else { continue };
            let kind = found.attr.kind.clone();
            entries.push(DirEntry { name: item.name, id, kind, entry: Some(Box::new(found)) });
        }
        Ok(Reply::Page { entries, next })
    }

    fn orphan(&self, id: ObjectId, name: &Name) -> Result<Option<Entry>> {
        let orphans = &self.areas()?.orphans;
        let absent = |error: &std::io::Error| error.raw_os_error() == Some(libc::ENOENT);
        let value = match self.disk.get_xattr_at(orphans, name, self.attr_name()) {
            Err(error) if absent(&error) => None,
            value => value?,
        };
        let Some(meta) = value.as_deref().and_then(Meta::decode).filter(|meta| meta.id == id) else { return Ok(None) };
        match self.disk.stat_at(orphans, name) {
            Err(error) if absent(&error) => Ok(None),
            stat => Ok(Some(entry(&meta, &stat?, true))),
        }
    }

    fn purge_one(&self, name: &Name) -> Result<bool> {
        let Some(id) = orphan_id(name) else { return Ok(false) };
        if self.fresh_orphans.lock().expect("no holder panics").contains(&id) {
            return Ok(false);
        }
        self.remove_orphan(id, name)
    }

    /// Whether something went.
    fn remove_orphan(&self, id: ObjectId, name: &Name) -> Result<bool> {
        let orphans = &self.areas()?.orphans;
        let stat = match self.disk.stat_at(orphans, name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(false),
            stat => stat?,
        };
        if stat.kind == Kind::Directory {
            return self.remove_detached(id, name);
        }
        self.disk.unlink(orphans, name)?;
        // With more links a replacing rename was interrupted: the object still has its name.
        if stat.nlink == 1 {
            self.gone(id, &Records::Side)?;
        }
        Ok(true)
    }

    /// Removes a detached directory with what is below it: directories in it become orphans of their own first, so
    /// that no depth is too much and an interruption leaves what the next purge finds.
    fn remove_detached(&self, id: ObjectId, name: &Name) -> Result<bool> {
        let orphans = &self.areas()?.orphans;
        let (dir, _) = self.disk.open(orphans, &[name])?;
        let (mut removed, mut again) = (false, true);
        while again {
            again = false;
            let mut cursor = 0;
            loop {
                let page = self.disk.read_dir(&dir, cursor)?;
                let Some(last) = page.last() else { break };
                cursor = last.next;
                for item in &page {
                    again |= self.remove_below(id, &dir, &item.name)?;
                }
            }
            removed |= again;
        }
        match self.disk.rmdir(orphans, name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => {
                tracing::warn!(id = id.0, "a removed directory holds files that are not of the volume: it stays");
                return Ok(removed);
            }
            result => result?,
        }
        self.gone(id, &Records::None)?;
        Ok(true)
    }

    /// Removes one object of a detached directory, or moves it to the orphans; whether it is gone from there.
    fn remove_below(&self, parent: ObjectId, dir: &D::Handle, name: &Name) -> Result<bool> {
        let stat = self.disk.stat_at(dir, name)?;
        let value = match self.disk.get_xattr_at(dir, name, self.attr_name()) {
            // As for names of the tree: attributes of such a type do not exist here.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM)) => None,
            value => value?,
        };
        let id = value.as_deref().and_then(Meta::decode).map(|meta| meta.id);
        let result = match (id, &stat.kind) {
            // What an interrupted create left goes too; what holds something was put there by hand.
            (None, Kind::Directory) => self.disk.rmdir(dir, name),
            (None, Kind::File) if stat.size > 0 => return Ok(false),
            (Some(id), Kind::Directory) => {
                self.disk.rename(dir, name, &self.areas()?.orphans, &hex_name(id), RenameMode::Replace)
            }
            _ => self.disk.unlink(dir, name),
        };
        match result {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => return Ok(false),
            result => result?,
        }
        match id {
            Some(id) if stat.kind == Kind::Directory => self.outside(id),
            Some(id) if stat.nlink == 1 => self.gone(id, &Records::Side)?,
            Some(id) => self.table.forget_name(id, parent, name),
            None => {}
        }
        Ok(true)
    }
}
