//! New objects and new names.

use bytes::Bytes;
use net_raid_proto::ids::{Generation, Name, ObjectId, Timestamp};
use net_raid_proto::limits::TARGET_MAX;
use net_raid_proto::message::{Attr, Change, Entry, Kind, NewObject};

use super::absent::Absent;
use super::acl::{self, Acl, Inherited};
use super::caller::Caller;
use super::errno::Errno;
use super::inode::Inode;
use super::stat::Stat;
use super::table::Held;
use super::xattr::AclKind;
use super::{Fs, mode, names};

/// Size and sectors that a new directory is taken to have until a brick says otherwise: ext4's.
const NEW_DIRECTORY: (u64, u64) = (4096, 8);
/// Longest target that ext4 keeps inside the inode.
const FAST_TARGET_MAX: usize = 59;

/// An object to be made.
struct Make<'a> {
    caller: &'a Caller,
    parent: ObjectId,
    name: &'a [u8],
    kind: Kind,
    mode: u32,
    umask: u32,
    target: &'a [u8],
}

impl Fs {
    /// Makes a file, fifo, socket or device; counts one kernel reference.
    ///
    /// # Errors
    /// EEXIST, ENOENT, ENOTDIR, ENAMETOOLONG, ENOSPC, EPERM; EINVAL for other kinds.
    pub async fn mknod(
        &self,
        caller: &Caller,
        parent: ObjectId,
        name: &[u8],
        kind: Kind,
        mode: u32,
        umask: u32,
    ) -> Result<Stat, Errno> {
        if matches!(kind, Kind::Directory | Kind::Symlink) {
            return Err(Errno::EINVAL);
        }
        let made = self.make(Make { caller, parent, name, kind, mode, umask, target: b"" }).await?;
        Ok(made.into_kernel().stat())
    }

    /// Makes a directory; counts one kernel reference.
    ///
    /// # Errors
    /// EEXIST, ENOENT, ENOTDIR, ENAMETOOLONG, ENOSPC, EMLINK, EPERM.
    pub async fn mkdir(
        &self,
        caller: &Caller,
        parent: ObjectId,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> Result<Stat, Errno> {
        let kind = Kind::Directory;
        let made = self.make(Make { caller, parent, name, kind, mode, umask, target: b"" }).await?;
        Ok(made.into_kernel().stat())
    }

    /// Makes a symbolic link; counts one kernel reference.
    ///
    /// # Errors
    /// EEXIST, ENOENT, ENOTDIR, ENAMETOOLONG (also of the target), ENOSPC, EPERM.
    pub async fn symlink(&self, caller: &Caller, parent: ObjectId, name: &[u8], target: &[u8]) -> Result<Stat, Errno> {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.len() > TARGET_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let made = self.make(Make { caller, parent, name, kind: Kind::Symlink, mode: 0o777, umask: 0, target }).await?;
        Ok(made.into_kernel().stat())
    }

    /// Makes a regular file and opens it; counts one kernel reference.
    ///
    /// # Errors
    /// As [`Fs::mknod`].
    pub async fn create(
        &self,
        caller: &Caller,
        parent: ObjectId,
        name: &[u8],
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> Result<(Stat, u64), Errno> {
        let kind = Kind::File;
        let made = self.make(Make { caller, parent, name, kind, mode, umask, target: b"" }).await?;
        let handle = self.new_handle(&made.inode, flags)?;
        Ok((made.into_kernel().stat(), handle))
    }

    /// Adds a name; counts one kernel reference.
    ///
    /// # Errors
    /// EEXIST, EMLINK, ENOSPC; EPERM for directories; ENOENT for an object that has lost its last name.
    pub async fn link(&self, id: ObjectId, parent: ObjectId, name: &[u8]) -> Result<Stat, Errno> {
        let inode = self.inode(id).await?;
        let directory = self.directory(parent).await?;
        let name = names::fresh(parent, name)?;
        if inode.is_directory() {
            return Err(Errno::EPERM);
        }
        let _order = inode.changes.lock().await;
        if inode.attr().nlink == 0 {
            return Err(Errno::ENOENT);
        }
        let now = self.volume.now();
        directory.state().absent.may_have(&name);
        self.change(Change::Link { id, parent, name: name.clone() }, now).await?;
        inode.linked(now);
        directory.names_changed(now, 0);
        self.table.name(id, parent, &name);
        let held = self.table.held(id).ok_or(Errno::ESTALE)?;
        Ok(held.into_kernel().stat())
    }

    async fn make(&self, make: Make<'_>) -> Result<Held<'_>, Errno> {
        let directory = self.directory(make.parent).await?;
        let name = names::fresh(make.parent, make.name)?;
        let (gid, inherited) = self.inherit(&directory, &make).await?;
        let id = self.volume.new_id()?;
        let now = self.volume.now();
        let spec = NewObject {
            kind: make.kind.clone(),
            mode: inherited.mode,
            uid: make.caller.uid,
            gid,
            target: make.target.to_vec(),
            layout: self.volume.layout(),
            xattrs: attributes(&inherited).map(|(name, acl)| (name.to_vec().into(), acl.encode().into())).collect(),
        };
        let entry = new_entry(id, &spec, now);
        let change = Change::Create { parent: make.parent, name: name.clone(), id, spec: Box::new(spec) };
        directory.state().absent.may_have(&name);
        self.change(change, now).await?;
        directory.names_changed(now, i64::from(make.kind == Kind::Directory));
        Ok(self.enter(entry, inherited, make.parent, &name))
    }

    /// Group, mode and ACLs of a new object.
    async fn inherit(&self, directory: &Inode, make: &Make<'_>) -> Result<(u32, Inherited), Errno> {
        let (gid, mode) = mode::inherit(&directory.attr(), &make.kind, make.mode, make.caller.gid);
        if make.kind == Kind::Symlink {
            return Ok((gid, Inherited { mode: 0o777, access: None, default: None }));
        }
        let default = self.acl(directory, AclKind::Default).await?;
        Ok((gid, acl::create(default.as_deref(), make.kind == Kind::Directory, mode, make.umask)))
    }

    /// Takes a new object into memory, with all that is known of it.
    fn enter(&self, entry: Entry, inherited: Inherited, parent: ObjectId, name: &Name) -> Held<'_> {
        let held = self.table.hold(entry, Some((parent, name)));
        let mut state = held.inode.state();
        // What was made here is newer than anything that a brick told before.
        state.changed = true;
        state.absent = Absent::of_new();
        state.xattrs.names = Some(attributes(&inherited).map(|(name, _)| name.to_vec()).collect());
        state.xattrs.access = Some(inherited.access.map(Into::into));
        state.xattrs.default = Some(inherited.default.map(Into::into));
        drop(state);
        held
    }

    /// Sends a change without payload.
    pub(super) async fn change(&self, change: Change, now: Timestamp) -> Result<(), Errno> {
        Ok(self.volume.change(change, Bytes::new(), now).await?)
    }
}

/// ACLs as attributes.
fn attributes(inherited: &Inherited) -> impl Iterator<Item = (&'static [u8], &Acl)> {
    let access = inherited.access.as_ref().map(|acl| (acl::ACCESS, acl));
    let default = inherited.default.as_ref().map(|acl| (acl::DEFAULT, acl));
    access.into_iter().chain(default)
}

/// What a brick would tell about a new object.
fn new_entry(id: ObjectId, spec: &NewObject, now: Timestamp) -> Entry {
    let (size, brick_blocks) = match spec.kind {
        Kind::Directory => NEW_DIRECTORY,
        Kind::Symlink if spec.target.len() > FAST_TARGET_MAX => (spec.target.len() as u64, 8),
        _ => (spec.target.len() as u64, 0),
    };
    let attr = Attr {
        kind: spec.kind.clone(),
        mode: spec.mode,
        nlink: if spec.kind == Kind::Directory { 2 } else { 1 },
        uid: spec.uid,
        gid: spec.gid,
        size,
        brick_blocks,
        atime: now,
        mtime: now,
        ctime: now,
    };
    Entry { id, stamp: Generation(0), layout: spec.layout, attr }
}
