//! Names that go, and objects that go with their last name or their last handle.

use net_raid_proto::ids::{Name, ObjectId};
use net_raid_proto::message::Change;

use super::errno::Errno;
use super::inode::Inode;
use super::{Fs, names};

impl Fs {
    /// Removes a name of an object that is no directory. An open object lives on until its last handle is closed.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ENAMETOOLONG; EISDIR for a directory.
    pub async fn unlink(&self, parent: ObjectId, name: &[u8]) -> Result<(), Errno> {
        let directory = self.directory(parent).await?;
        let name = names::existing(parent, name)?;
        let held = self.find(&directory, &name).await?;
        if held.inode.is_directory() {
            return Err(Errno::EISDIR);
        }
        self.remove(&directory, name, &held.inode).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ENAMETOOLONG; ENOTEMPTY when it is not.
    pub async fn rmdir(&self, parent: ObjectId, name: &[u8]) -> Result<(), Errno> {
        let directory = self.directory(parent).await?;
        let name = names::existing(parent, name)?;
        let held = self.find(&directory, &name).await?;
        if !held.inode.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        self.remove(&directory, name, &held.inode).await
    }

    async fn remove(&self, directory: &Inode, name: Name, inode: &Inode) -> Result<(), Errno> {
        let _order = inode.changes.lock().await;
        let (parent, id, is_directory) = (directory.id, inode.id, inode.is_directory());
        let now = self.volume.now();
        let keep = inode.begin_unlink();
        let change = match is_directory {
            true => Change::Rmdir { parent, name: name.clone(), id },
            false => Change::Unlink { parent, name: name.clone(), id, keep },
        };
        if let Err(error) = self.change(change, now).await {
            inode.cancel_unlink();
            return Err(error);
        }
        self.table.unname(parent, &name);
        directory.names_changed(now, -i64::from(is_directory));
        if inode.finish_unlink(now, keep) {
            self.purge(id);
        }
        Ok(())
    }

    /// Has the bricks remove an object that has neither name nor handle. Nobody waits: what is not done
    /// when the client ends, the bricks do at the next mount.
    pub(super) fn purge(&self, id: ObjectId) {
        let volume = self.volume.clone();
        self.tasks.spawn(async move {
            let change = Change::Purge { id };
            if let Err(error) = volume.change(change, bytes::Bytes::new(), volume.now()).await {
                tracing::warn!(%id, %error, "an unlinked file stays until the next mount");
            }
        });
    }
}
