//! Renames: plain, without replacing, over what is there, and exchanging.

use net_raid_proto::ids::{Name, ObjectId, Timestamp};
use net_raid_proto::message::{Change, RenameTarget};

use super::errno::Errno;
use super::inode::Inode;
use super::{Fs, names};

/// One end of a rename.
struct End<'a> {
    directory: &'a Inode,
    name: &'a Name,
}

impl Fs {
    /// Renames; `flags` as renameat2(2).
    ///
    /// # Errors
    /// EINVAL for RENAME_WHITEOUT and contradictions; ENOENT, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY, ENAMETOOLONG, ENOSPC,
    /// EMLINK; EPERM for a name that is not for programs.
    pub async fn rename(
        &self,
        parent: ObjectId,
        name: &[u8],
        new_parent: ObjectId,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let (no_replace, exchange) = (flags & libc::RENAME_NOREPLACE != 0, flags & libc::RENAME_EXCHANGE != 0);
        if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) != 0 || (no_replace && exchange) {
            return Err(Errno::EINVAL);
        }
        let (name, new_name) = (names::existing(parent, name)?, names::fresh(new_parent, new_name)?);
        let (directory, new_directory) = (self.directory(parent).await?, self.directory(new_parent).await?);
        let source = self.find(&directory, &name).await?;
        let target = self.find_optional(&new_directory, &new_name).await?;
        let old = End { directory: &directory, name: &name };
        let new = End { directory: &new_directory, name: &new_name };
        new_directory.state().absent.may_have(&new_name);
        match target {
            Some(_) if no_replace => Err(Errno::EEXIST),
            // POSIX: two names of one object are left alone.
            Some(target) if target.inode.id == source.inode.id => Ok(()),
            Some(target) if exchange => self.exchange(&old, &source.inode, &new, &target.inode).await,
            Some(target) => self.replace(&old, &source.inode, &new, &target.inode).await,
            None if exchange => Err(Errno::ENOENT),
            None => self.move_to(&old, &source.inode, &new).await,
        }
    }

    async fn move_to(&self, old: &End<'_>, source: &Inode, new: &End<'_>) -> Result<(), Errno> {
        let _order = source.changes.lock().await;
        let now = self.volume.now();
        self.change(rename(old, source, new, RenameTarget::Absent), now).await?;
        self.moved(old, source, new, now);
        Ok(())
    }

    async fn replace(&self, old: &End<'_>, source: &Inode, new: &End<'_>, target: &Inode) -> Result<(), Errno> {
        match (source.is_directory(), target.is_directory()) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            _ => {}
        }
        let _order = lock_both(source, target).await;
        let now = self.volume.now();
        let keep = target.begin_unlink();
        let change = rename(old, source, new, RenameTarget::Replace { id: target.id, keep });
        if let Err(error) = self.change(change, now).await {
            target.cancel_unlink();
            return Err(error);
        }
        self.moved(old, source, new, now);
        new.directory.names_changed(now, -i64::from(target.is_directory()));
        if target.finish_unlink(now, keep) {
            self.purge(target.id);
        }
        Ok(())
    }

    async fn exchange(&self, old: &End<'_>, source: &Inode, new: &End<'_>, target: &Inode) -> Result<(), Errno> {
        let _order = lock_both(source, target).await;
        let now = self.volume.now();
        self.change(rename(old, source, new, RenameTarget::Exchange { id: target.id }), now).await?;
        self.table.rename((old.directory.id, old.name), (new.directory.id, new.name), true);
        let links = if old.directory.id == new.directory.id {
            0
        } else {
            i64::from(target.is_directory()) - i64::from(source.is_directory())
        };
        old.directory.names_changed(now, links);
        new.directory.names_changed(now, -links);
        source.changed(now);
        target.changed(now);
        Ok(())
    }

    /// Notes that `source` went from one name to the other.
    fn moved(&self, old: &End<'_>, source: &Inode, new: &End<'_>, now: Timestamp) {
        self.table.rename((old.directory.id, old.name), (new.directory.id, new.name), false);
        let links = i64::from(source.is_directory());
        old.directory.names_changed(now, -links);
        new.directory.names_changed(now, links);
        source.changed(now);
    }
}

fn rename(old: &End<'_>, source: &Inode, new: &End<'_>, target: RenameTarget) -> Change {
    Change::Rename {
        parent: old.directory.id,
        name: old.name.clone(),
        id: source.id,
        new_parent: new.directory.id,
        new_name: new.name.clone(),
        target,
    }
}

/// Locks the attributes of two objects, in the order of their ids so that two renames cannot wait for each other.
async fn lock_both<'a>(one: &'a Inode, other: &'a Inode) -> [tokio::sync::MutexGuard<'a, ()>; 2] {
    let (first, second) = if one.id < other.id { (one, other) } else { (other, one) };
    [first.changes.lock().await, second.changes.lock().await]
}
