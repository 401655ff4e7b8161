//! Extended attributes, and ACLs among them.

use std::sync::Arc;

use bytes::Bytes;
use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::limits::{XATTR_NAME_MAX, XATTR_VALUE_MAX};
use net_raid_proto::message::{Attr, Change, Kind, SetAttr, XattrExpect};

use super::acl::{self, Acl};
use super::caller::Caller;
use super::errno::Errno;
use super::inode::{Inode, Life, State};
use super::{Fs, mode};

/// Attributes of programs: who asks for one mostly knows that it is there.
const USER: &[u8] = b"user.";
/// File capabilities: the kernel asks for them before many a write.
const CAPABILITY: &[u8] = b"security.capability";
/// Attributes of administrators: hidden from others (ext4_xattr_trusted_list).
const TRUSTED: &[u8] = b"trusted.";
/// What begins like this belongs to the bricks.
const HIDDEN: [&[u8]; 2] = [b"user.net_raid", b"trusted.net_raid"];

/// Which ACL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AclKind {
    /// Who may use the object.
    Access,
    /// What new objects in the directory start with.
    Default,
}

/// What is known of an object's extended attributes.
#[derive(Debug, Clone, Default)]
pub(super) struct Xattrs {
    /// All names, once they were listed.
    pub names: Option<Vec<Vec<u8>>>,
    /// The access ACL, once it was read.
    pub access: Option<Option<Arc<Acl>>>,
    /// The default ACL, once it was read.
    pub default: Option<Option<Arc<Acl>>>,
    /// Counts changes: what a brick told before one is not kept after it.
    version: u64,
}

impl AclKind {
    fn name(self) -> &'static [u8] {
        match self {
            AclKind::Access => acl::ACCESS,
            AclKind::Default => acl::DEFAULT,
        }
    }

    fn of(name: &[u8]) -> Option<AclKind> {
        [AclKind::Access, AclKind::Default].into_iter().find(|kind| kind.name() == name)
    }

    /// Whether an object of this type can have one.
    fn fits(self, kind: &Kind) -> bool {
        match self {
            AclKind::Access => *kind != Kind::Symlink,
            AclKind::Default => *kind == Kind::Directory,
        }
    }
}

impl Xattrs {
    /// Whether the attribute is there; `None` when the names were never listed.
    fn has(&self, name: &[u8]) -> Option<bool> {
        self.names.as_ref().map(|names| names.iter().any(|n| n == name))
    }

    fn acl(&mut self, kind: AclKind) -> &mut Option<Option<Arc<Acl>>> {
        match kind {
            AclKind::Access => &mut self.access,
            AclKind::Default => &mut self.default,
        }
    }

    /// Notes that an attribute was set.
    fn set(&mut self, name: &[u8]) {
        self.version += 1;
        if let Some(names) = self.names.as_mut().filter(|names| !names.iter().any(|n| n == name)) {
            names.push(name.to_vec());
        }
    }

    /// Notes that an attribute was removed.
    fn remove(&mut self, name: &[u8]) {
        self.version += 1;
        if let Some(names) = &mut self.names {
            names.retain(|n| n != name);
        }
        if let Some(kind) = AclKind::of(name) {
            *self.acl(kind) = Some(None);
        }
    }

    /// Notes an ACL that was set.
    pub(super) fn set_acl(&mut self, kind: AclKind, acl: Acl) {
        self.set(kind.name());
        *self.acl(kind) = Some(Some(Arc::new(acl)));
    }

    /// Forgets everything: a change failed, and bricks may have it or not.
    fn doubt(&mut self) {
        *self = Xattrs { version: self.version + 1, ..Xattrs::default() };
    }
}

impl Fs {
    /// Sets an extended attribute; `flags` as setxattr(2).
    ///
    /// # Errors
    /// EEXIST and ENODATA with XATTR_CREATE and XATTR_REPLACE; EOPNOTSUPP for an unknown namespace; EPERM for names of the
    /// bricks, and for `user.` on other objects than files and directories; EINVAL for a bad ACL, EACCES for a default
    /// ACL of what is no directory; ERANGE and E2BIG for too long names and values; ENOSPC.
    pub async fn setxattr(
        &self,
        caller: &Caller,
        id: ObjectId,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        let inode = self.inode(id).await?;
        let kind = inode.attr().kind;
        check_writable(name, &kind)?;
        if value.len() > XATTR_VALUE_MAX {
            return Err(Errno::E2BIG);
        }
        let expect = expectation(flags)?;
        let _order = inode.changes.lock().await;
        let now = self.volume.now();
        let Some(which) = AclKind::of(name) else {
            return self.put(&inode, name, value.to_vec(), expect, None, now).await;
        };
        match Acl::decode(value)? {
            None => self.remove_acl(&inode, which, now).await,
            Some(_) if !which.fits(&kind) => Err(Errno::EACCES),
            Some(acl) => self.put_acl(caller, &inode, which, acl, expect, now).await,
        }
    }

    /// Value of an extended attribute. What is known not to be there costs no request.
    ///
    /// # Errors
    /// ENODATA, EOPNOTSUPP for an unknown namespace.
    pub async fn getxattr(&self, id: ObjectId, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let inode = self.inode(id).await?;
        check_readable(name, &inode.attr().kind)?;
        if inode.state().xattrs.has(name) == Some(false) {
            return Err(Errno::ENODATA);
        }
        if let Some(which) = AclKind::of(name) {
            let acl = self.acl(&inode, which).await?;
            return acl.map(|acl| acl.encode()).ok_or(Errno::ENODATA);
        }
        // The kernel and `ls -l` ask for some of every file, and hardly any file has them; one listing answers that and all that may come.
        if !name.starts_with(USER) && !self.xattr_names(&inode).await?.iter().any(|known| known == name) {
            return Err(Errno::ENODATA);
        }
        Ok(self.volume.get_xattr(id, name).await?)
    }

    /// Names of extended attributes, each ended by NUL. Those that only CAP_SYS_ADMIN may read are shown to root, as the
    /// nearest that is known of the caller.
    ///
    /// # Errors
    /// EIO beyond the redundancy.
    pub async fn listxattr(&self, caller: &Caller, id: ObjectId) -> Result<Vec<u8>, Errno> {
        let inode = self.inode(id).await?;
        let names = self.xattr_names(&inode).await?;
        let shown = names.iter().filter(|name| caller.uid == 0 || !name.starts_with(TRUSTED));
        Ok(shown.flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    /// Removes an extended attribute. Removing an ACL that is not there is no error, as on ext4.
    ///
    /// # Errors
    /// ENODATA, EPERM for names of the bricks, EOPNOTSUPP for an unknown namespace.
    pub async fn removexattr(&self, id: ObjectId, name: &[u8]) -> Result<(), Errno> {
        let inode = self.inode(id).await?;
        check_writable(name, &inode.attr().kind)?;
        let _order = inode.changes.lock().await;
        let now = self.volume.now();
        match AclKind::of(name) {
            Some(which) => self.remove_acl(&inode, which, now).await,
            None => self.remove_attribute(&inode, name, now).await,
        }
    }

    /// An ACL of an object, read when it is first asked for.
    pub(super) async fn acl(&self, inode: &Inode, which: AclKind) -> Result<Option<Arc<Acl>>, Errno> {
        if !which.fits(&inode.attr().kind) {
            return Ok(None);
        }
        loop {
            let version = {
                let mut state = inode.state();
                if let Some(acl) = state.xattrs.acl(which) {
                    return Ok(acl.clone());
                }
                state.xattrs.version
            };
            let acl = self.read_acl(inode, which).await?;
            if inode.state().keep_xattrs(version, |xattrs| *xattrs.acl(which) = Some(acl.clone())) {
                return Ok(acl);
            }
        }
    }

    async fn read_acl(&self, inode: &Inode, which: AclKind) -> Result<Option<Arc<Acl>>, Errno> {
        if !self.xattr_names(inode).await?.iter().any(|name| name == which.name()) {
            return Ok(None);
        }
        match self.volume.get_xattr(inode.id, which.name()).await.map_err(Errno::from) {
            Ok(value) => Ok(Acl::decode(&value)?.map(Arc::new)),
            Err(Errno::ENODATA) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names of all attributes that programs see, listed when they are first asked for.
    async fn xattr_names(&self, inode: &Inode) -> Result<Vec<Vec<u8>>, Errno> {
        loop {
            let version = {
                let state = inode.state();
                match &state.xattrs.names {
                    Some(names) => return Ok(names.clone()),
                    None if state.life == Life::Gone => return Ok(Vec::new()),
                    None => state.xattrs.version,
                }
            };
            let names = visible(&self.volume.list_xattr(inode.id).await?);
            if inode.state().keep_xattrs(version, |xattrs| xattrs.names = Some(names.clone())) {
                return Ok(names);
            }
        }
    }

    /// Whether a file has capabilities.
    pub(super) async fn has_capability(&self, inode: &Inode) -> Result<bool, Errno> {
        if let Some(has) = inode.state().xattrs.has(CAPABILITY) {
            return Ok(has);
        }
        Ok(self.xattr_names(inode).await?.iter().any(|name| name == CAPABILITY))
    }

    /// Takes a file's capabilities away; the caller holds `changes`.
    pub(super) async fn remove_capability(&self, inode: &Inode) -> Result<(), Errno> {
        match self.remove_attribute(inode, CAPABILITY, self.volume.now()).await {
            Err(Errno::ENODATA) => Ok(()),
            result => result,
        }
    }

    /// Sets an ACL. The access ACL sets the permission bits too, and is not kept when they say all of it; set-group-id
    /// goes unless the caller is in the group (`posix_acl_update_mode`). The kernel would say so only with
    /// FUSE_SETXATTR_EXT, which the FUSE library cannot do.
    async fn put_acl(
        &self,
        caller: &Caller,
        inode: &Inode,
        which: AclKind,
        acl: Acl,
        expect: XattrExpect,
        now: Timestamp,
    ) -> Result<(), Errno> {
        let (bits, is_all) = acl.mode();
        let mode = (which == AclKind::Access).then(|| mode_with(&inode.attr(), bits, caller));
        if let Some(mode) = mode.filter(|_| is_all) {
            self.remove_acl(inode, which, now).await?;
            let set = SetAttr { mode: Some(mode), ..SetAttr::default() };
            self.change(Change::SetAttr { id: inode.id, set }, now).await?;
            let mut state = inode.state();
            state.change(now);
            state.attr.mode = mode;
            return Ok(());
        }
        self.put(inode, which.name(), acl.encode(), expect, mode, now).await?;
        inode.state().xattrs.set_acl(which, acl);
        Ok(())
    }

    async fn remove_acl(&self, inode: &Inode, which: AclKind, now: Timestamp) -> Result<(), Errno> {
        if !self.xattr_names(inode).await?.iter().any(|name| name == which.name()) {
            return Ok(());
        }
        match self.remove_attribute(inode, which.name(), now).await {
            Err(Errno::ENODATA) => Ok(()),
            result => result,
        }
    }

    async fn put(
        &self,
        inode: &Inode,
        name: &[u8],
        value: Vec<u8>,
        expect: XattrExpect,
        mode: Option<u32>,
        now: Timestamp,
    ) -> Result<(), Errno> {
        let change = Change::SetXattr { id: inode.id, name: name.to_vec(), expect, mode };
        let result = self.volume.change(change, Bytes::from(value), now).await;
        let mut state = inode.state();
        match result {
            Ok(()) => state.xattrs.set(name),
            Err(error) => {
                state.xattrs.doubt();
                return Err(error.into());
            }
        }
        state.change(now);
        state.attr.mode = mode.unwrap_or(state.attr.mode);
        Ok(())
    }

    async fn remove_attribute(&self, inode: &Inode, name: &[u8], now: Timestamp) -> Result<(), Errno> {
        let change = Change::RemoveXattr { id: inode.id, name: name.to_vec() };
        let result = self.change(change, now).await;
        let mut state = inode.state();
        match result {
            Ok(()) => state.xattrs.remove(name),
            Err(error) => {
                state.xattrs.doubt();
                return Err(error);
            }
        }
        state.change(now);
        Ok(())
    }
}

impl State {
    /// Keeps what a brick told unless attributes changed since `version`; whether it holds.
    fn keep_xattrs(&mut self, version: u64, keep: impl FnOnce(&mut Xattrs)) -> bool {
        let holds = self.xattrs.version == version;
        if holds {
            keep(&mut self.xattrs);
        }
        holds
    }
}

/// The mode that an access ACL leads to.
fn mode_with(attr: &Attr, bits: u32, caller: &Caller) -> u32 {
    let mode = attr.mode & !0o777 | bits;
    if mode & mode::SETGID != 0 && !caller.keeps_setgid(attr.gid) { mode & !mode::SETGID } else { mode }
}

fn is_hidden(name: &[u8]) -> bool {
    HIDDEN.iter().any(|hidden| name.starts_with(hidden))
}

/// Splits a brick's listing.
fn visible(listing: &[u8]) -> Vec<Vec<u8>> {
    listing.split(|&byte| byte == 0).filter(|name| !name.is_empty() && !is_hidden(name)).map(<[u8]>::to_vec).collect()
}

fn expectation(flags: i32) -> Result<XattrExpect, Errno> {
    match flags {
        0 => Ok(XattrExpect::Any),
        libc::XATTR_CREATE => Ok(XattrExpect::Absent),
        libc::XATTR_REPLACE => Ok(XattrExpect::Present),
        _ => Err(Errno::EINVAL),
    }
}

/// Checks a name's namespace; `forbidden` is what a `user.` attribute gets on what cannot have one.
fn check_namespace(name: &[u8], kind: &Kind, forbidden: Errno) -> Result<(), Errno> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX {
        return Err(Errno::ERANGE);
    }
    let has = |prefix: &[u8]| name.len() > prefix.len() && name.starts_with(prefix);
    if has(b"user.") {
        // As the kernel's xattr_permission.
        return if matches!(kind, Kind::File | Kind::Directory) { Ok(()) } else { Err(forbidden) };
    }
    let known = match AclKind::of(name) {
        Some(_) => *kind != Kind::Symlink,
        None => has(TRUSTED) || has(b"security."),
    };
    if known { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

fn check_readable(name: &[u8], kind: &Kind) -> Result<(), Errno> {
    check_namespace(name, kind, Errno::ENODATA)?;
    if is_hidden(name) { Err(Errno::ENODATA) } else { Ok(()) }
}

fn check_writable(name: &[u8], kind: &Kind) -> Result<(), Errno> {
    check_namespace(name, kind, Errno::EPERM)?;
    if is_hidden(name) { Err(Errno::EPERM) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces() {
        let (file, fifo, symlink) = (Kind::File, Kind::Fifo, Kind::Symlink);
        for (name, kind, read, write) in [
            (&b"user.a"[..], &file, None, None),
            (b"user.a", &fifo, Some(Errno::ENODATA), Some(Errno::EPERM)),
            (b"user.", &file, Some(Errno::EOPNOTSUPP), Some(Errno::EOPNOTSUPP)),
            (b"trusted.a", &symlink, None, None),
            (b"security.capability", &file, None, None),
            (b"system.posix_acl_access", &fifo, None, None),
            (b"system.posix_acl_access", &symlink, Some(Errno::EOPNOTSUPP), Some(Errno::EOPNOTSUPP)),
            (b"system.other", &file, Some(Errno::EOPNOTSUPP), Some(Errno::EOPNOTSUPP)),
            (b"user.net_raid.md5", &file, Some(Errno::ENODATA), Some(Errno::EPERM)),
            (b"trusted.net_raid", &file, Some(Errno::ENODATA), Some(Errno::EPERM)),
            (b"", &file, Some(Errno::ERANGE), Some(Errno::ERANGE)),
        ] {
            assert_eq!(check_readable(name, kind).err(), read, "{}", name.escape_ascii());
            assert_eq!(check_writable(name, kind).err(), write, "{}", name.escape_ascii());
        }
        assert_eq!(check_readable(&[b'a'; 256], &file), Err(Errno::ERANGE));
    }

    #[test]
    fn listings_are_split_and_filtered() {
        let names = visible(b"user.a\0user.net_raid.md5\0trusted.net_raid\0user.b\0");
        assert_eq!(names, [b"user.a".to_vec(), b"user.b".to_vec()]);
        assert!(visible(b"").is_empty());
    }

    #[test]
    fn what_is_known_follows_changes() {
        let mut xattrs = Xattrs { names: Some(vec![b"user.a".to_vec()]), ..Xattrs::default() };
        xattrs.set(b"user.b");
        xattrs.set(b"user.b");
        xattrs.remove(b"user.a");
        assert_eq!((xattrs.has(b"user.a"), xattrs.has(b"user.b")), (Some(false), Some(true)));
        xattrs.remove(acl::DEFAULT);
        assert_eq!(xattrs.default, Some(None));
        xattrs.doubt();
        assert_eq!((xattrs.has(b"user.b"), &xattrs.default, xattrs.version), (None, &None, 5));
    }
}
