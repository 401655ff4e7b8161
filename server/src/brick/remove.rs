//! Names that go.

use net_raid_proto::ids::{Name, ObjectId, Timestamp};
use net_raid_proto::message::{Fault, Kind, Reply};

use super::Brick;
use super::error::{Error, Result, errno};
use super::locate::Child;
use super::node::Node;
use crate::disk::Disk;

impl<D: Disk> Brick<D> {
    pub(super) fn unlink(
        &self,
        parent: ObjectId,
        name: &Name,
        id: ObjectId,
        keep: bool,
        (now, resend): (Timestamp, bool),
    ) -> Result<Reply> {
        self.stamp(parent)?;
        let dir = self.directory(parent)?;
        let _names = dir.names_mut();
        let Some(child) = self.child_to_remove(&dir, name, id, resend)? else {
            return self.done_before(&[&dir], &[id], now);
        };
        if child.stat.kind == Kind::Directory {
            return Err(errno(libc::EISDIR));
        }
        let last = child.stat.nlink == 1;
        match (last, keep) {
            (true, true) => self.make_orphan(&dir, name, id)?,
            (true, false) => {
                self.disk.unlink(&dir.handle, name)?;
                self.gone(id, &self.present_records(id, &child))?;
            }
            (false, _) => self.unlink_one_of_many(&dir, name, id, now)?,
        }
        self.touch_names(&dir, now)?;
        if last && keep {
            self.touch(&*self.node(id)?, now)?;
        }
        Ok(Reply::Done)
    }

    pub(super) fn unlink_one_of_many(&self, dir: &Node<D>, name: &Name, id: ObjectId, now: Timestamp) -> Result<()> {
        self.seen(id, dir.id, name);
        let node = self.node(id)?;
        self.disk.unlink(&dir.handle, name)?;
        self.table.forget_name(id, dir.id, name);
        self.touch_outside(&node, now)
    }

    /// Stamps and touches one object whose ancestors are not known (any more).
    pub(super) fn touch_outside(&self, node: &Node<D>, now: Timestamp) -> Result<()> {
        let mut state = node.state_mut();
        let mut meta = state.meta.clone();
        meta.ctime = now;
        meta.stamp = meta.stamp.max(self.generation());
        state.anchored = false;
        self.put_meta(node, &mut state, meta)
    }

    /// A change of names was done before the brick was stopped, perhaps without the times that go with it. Of objects that it does
    /// not know where they are any more it leaves them.
    pub(super) fn done_before(&self, dirs: &[&Node<D>], objects: &[ObjectId], now: Timestamp) -> Result<Reply> {
        for dir in dirs {
            self.touch_names(dir, now)?;
        }
        for id in objects {
            match self.node(*id) {
                Ok(node) => self.touch_outside(&node, now)?,
                Err(Error::Fault(Fault::Unresolved(_))) => {}
                Err(error) if error.number() == Some(libc::ESTALE) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Reply::Done)
    }

    /// The object that a name must have before it is removed; `None` when that was done already.
    pub(super) fn child_to_remove(
        &self,
        dir: &Node<D>,
        name: &Name,
        id: ObjectId,
        resend: bool,
    ) -> Result<Option<Child>> {
        match self.child(dir, name)? {
            Some(child) if child.meta.id == id => Ok(Some(child)),
            _ if resend => Ok(None),
            Some(_) => Err(errno(libc::ESTALE)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    /// Where the records of an object are now: a write may have moved them since the name was read.
    pub(super) fn present_records(&self, id: ObjectId, child: &Child) -> super::object::Records {
        let open = self.cache.get(id).map(|node| node.state().meta.records.clone());
        open.unwrap_or_else(|| child.meta.records.clone())
    }

    pub(super) fn rmdir(
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
        if child.stat.kind != Kind::Directory {
            return Err(errno(libc::ENOTDIR));
        }
        match self.disk.rmdir(&dir.handle, name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => {
                self.sweep(&dir, name, id)?;
                self.disk.rmdir(&dir.handle, name)?;
            }
            result => result?,
        }
        self.gone(id, &super::object::Records::None)?;
        self.touch_names(&dir, now)?;
        Ok(Reply::Done)
    }

    /// Removes what interrupted creates left in a directory that is empty for the volume.
    pub(super) fn sweep(&self, dir: &Node<D>, name: &Name, id: ObjectId) -> Result<()> {
        self.seen(id, dir.id, name);
        let inner = self.directory(id)?;
        let mut cursor = 0;
        loop {
            let page = self.disk.read_dir(&inner.handle, cursor)?;
            let Some(last) = page.last() else { return Ok(()) };
            cursor = last.next;
            for item in &page {
                if !self.clear_debris(&inner, &item.name)? {
                    return Err(errno(libc::ENOTEMPTY));
                }
            }
        }
    }
}
