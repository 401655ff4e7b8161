//! Looking at names: lookup, pages of directories, resolving.

use std::sync::atomic::Ordering::Relaxed;

use net_raid_proto::ids::{Generation, Name, ObjectId};
use net_raid_proto::limits::TARGET_MAX;
use net_raid_proto::message::{DirEntry, Kind, Reply};
use net_raid_proto::names::{NameParts, NameSums};

use super::Brick;
use super::attr::entry;
use super::error::{Result, errno};
use super::node::Node;
use crate::disk::{DirItem, Disk};

impl<D: Disk> Brick<D> {
    pub(super) fn lookup(&self, parent: ObjectId, name: &Name) -> Result<Reply> {
        let dir = self.directory(parent)?;
        let _names = dir.names();
        let child = self.child(&dir, name)?.ok_or_else(|| errno(libc::ENOENT))?;
        self.seen(child.meta.id, parent, name);
        Ok(Reply::Entry(Box::new(entry(&child.meta, &child.stat, false))))
    }

    /// Notes a name in the table. Whether it is durable nobody knows, so it counts as given now.
    pub(super) fn seen(&self, id: ObjectId, parent: ObjectId, name: &Name) {
        self.table.seen(id, parent, name, self.round.load(Relaxed));
    }

    pub(super) fn resolve(&self, id: ObjectId, path: &[Name]) -> Result<Reply> {
        let mut at = ObjectId::ROOT;
        for name in path {
            let dir = self.directory(at)?;
            let _names = dir.names();
            let meta = self.child_meta(&dir, name)?.ok_or_else(|| errno(libc::ENOENT))?;
            self.seen(meta.id, at, name);
            at = meta.id;
        }
        if at == id { Ok(Reply::Done) } else { Err(errno(libc::ESTALE)) }
    }

    pub(super) fn read_dir(&self, id: ObjectId, cursor: u64, attributes: bool) -> Result<Reply> {
        self.page_of(id, cursor, NameParts::ALL, attributes)
    }

    /// What is in other parts costs nothing but its name.
    pub(super) fn read_names(&self, id: ObjectId, cursor: u64, parts: NameParts) -> Result<Reply> {
        self.page_of(id, cursor, parts, false)
    }

    fn page_of(&self, id: ObjectId, cursor: u64, parts: NameParts, attributes: bool) -> Result<Reply> {
        let dir = self.directory(id)?;
        let _names = dir.names();
        let page = self.disk.read_dir(&dir.handle, cursor)?;
        let next = page.last().map(|item| item.next);
        let mut entries = Vec::new();
        for item in page.into_iter().filter(|item| parts.has(&item.name)) {
            if let Some(found) = self.dir_entry(&dir, item, attributes)? {
                self.seen(found.id, id, &found.name);
                entries.push(found);
            }
        }
        Ok(Reply::Page { entries, next })
    }

    /// What was not changed costs one look at its stamp.
    pub(super) fn read_changed(&self, id: ObjectId, cursor: u64, since: Generation) -> Result<Reply> {
        let dir = self.directory(id)?;
        let _names = dir.names();
        let page = self.disk.read_dir(&dir.handle, cursor)?;
        let next = page.last().map(|item| item.next);
        let (mut entries, mut others) = (Vec::new(), NameSums::default());
        for item in page {
            let Some(meta) = self.child_meta(&dir, &item.name)? else { continue };
            if meta.stamp <= since {
                others.add(&item.name, meta.id);
            } else if let Some(found) = self.dir_entry(&dir, item, true)? {
                self.seen(found.id, id, &found.name);
                entries.push(found);
            }
        }
        Ok(Reply::Changed { entries, others, next })
    }

    fn dir_entry(&self, dir: &Node<D>, item: DirItem, attributes: bool) -> Result<Option<DirEntry>> {
        let name = item.name;
        let Some(child) = self.child(dir, &name)? else { return Ok(None) };
        let found = entry(&child.meta, &child.stat, false);
        let kind = found.attr.kind.clone();
        let entry = attributes.then(|| Box::new(found));
        Ok(Some(DirEntry { name, id: child.meta.id, kind, entry }))
    }

    /// Reading a file leaves its atime, but for symbolic links there is no way to ask for that.
    fn read_local_link(&self, node: &Node<D>) -> Result<Reply> {
        let before = self.disk.stat(&node.handle)?.atime;
        let target = self.disk.read_link(&node.handle)?;
        if self.disk.stat(&node.handle)?.atime != before {
            self.disk.set_times(&node.handle, Some(before), None)?;
        }
        Ok(Reply::Bytes(target))
    }

    pub(super) fn read_link(&self, id: ObjectId) -> Result<Reply> {
        let node = self.node(id)?;
        if node.kind != Kind::Symlink {
            return Err(errno(libc::EINVAL));
        }
        if node.state().meta.recorded.is_none() {
            return self.read_local_link(&node);
        }
        let mut target = Vec::new();
        self.disk.read_at(&node.handle, &mut target, TARGET_MAX, 0)?;
        Ok(Reply::Bytes(target))
    }
}
