//! Attributes: asking for them and setting them.

use bytes::Bytes;
use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::message::{Attr, Change, Kind, SetAttr, XattrExpect};

use super::caller::Caller;
use super::errno::Errno;
use super::inode::{Inode, Life};
use super::stat::{Stat, size_max};
use super::xattr::AclKind;
use super::{Fs, acl, mode};
use crate::volume::WriteMeta;

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the change.
    Now,
    /// This time.
    At(Timestamp),
}

/// Attributes to set; those that are `None` stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttrs {
    /// Permission, set-id and sticky bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Time of last access.
    pub atime: Option<SetTime>,
    /// Time of last modification.
    pub mtime: Option<SetTime>,
    /// Time of change, from a kernel that keeps it (write-back).
    pub ctime: Option<Timestamp>,
    /// Clear set-id bits and capabilities (FATTR_KILL_SUIDGID).
    pub kill_suidgid: bool,
    /// The open file through which it is done.
    pub handle: Option<u64>,
}

impl SetAttrs {
    /// Whether nothing but times of change are set: the kernel flushes what it kept (`fuse_flush_times`).
    fn is_flush(&self) -> bool {
        let rest = SetAttrs { mtime: None, ctime: None, handle: None, ..*self };
        rest == SetAttrs::default() && self.mtime.is_some() && self.ctime.is_some()
    }

    /// Whether nothing but the ctime is set. This is what remains of a request to clear set-id bits: `fuse_setattr`
    /// takes ATTR_KILL_SUID and ATTR_KILL_SGID away and trusts us, but sends FATTR_KILL_SUIDGID with a new owner or size
    /// only. It comes from chown(path, -1, -1), and before writes and fallocate(2) to a file with such bits.
    fn is_bare_kill(&self) -> bool {
        let rest = SetAttrs { ctime: None, handle: None, ..*self };
        rest == SetAttrs::default() && self.ctime.is_some()
    }

    /// What bricks are asked to set, and which of it a truncate carries: a pure function.
    fn plan(&self, attr: &Attr, caller: &Caller, now: Timestamp) -> SetAttr {
        let at = |time: SetTime| match time {
            SetTime::Now => now,
            SetTime::At(time) => time,
        };
        let asked = self.mode.map(|mode| mode & mode::MODE_BITS);
        let killing = (self.kill_suidgid || self.is_bare_kill()) && attr.kind == Kind::File;
        let killed = killing.then(|| mode::after_chown(asked.unwrap_or(attr.mode), || caller.keeps_setgid(attr.gid)));
        let mode = killed.filter(|&mode| asked.is_some() || mode != attr.mode).or(asked);
        SetAttr { mode, uid: self.uid, gid: self.gid, atime: self.atime.map(at), mtime: self.mtime.map(at) }
    }
}

impl Fs {
    /// Attributes: from memory, but for the blocks of a file that was written with holes.
    ///
    /// # Errors
    /// ESTALE for an id that was not looked up.
    pub async fn getattr(&self, id: ObjectId) -> Result<Stat, Errno> {
        let inode = self.inode(id).await?;
        self.refresh(&inode).await;
        Ok(inode.stat())
    }

    /// Sets attributes; what they are then. The kernel has checked that the caller may.
    ///
    /// # Errors
    /// EFBIG for a size beyond the largest, EISDIR and EINVAL for a size of what has none, ENOSPC.
    pub async fn setattr(&self, caller: &Caller, id: ObjectId, set: SetAttrs) -> Result<Stat, Errno> {
        let inode = self.inode(id).await?;
        let order = inode.changes.lock().await;
        if !keep_times(&inode, &set) {
            self.set_attributes(caller, &inode, &set).await?;
        }
        drop(order);
        self.refresh(&inode).await;
        Ok(inode.stat())
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL for what is none.
    pub async fn readlink(&self, id: ObjectId) -> Result<Vec<u8>, Errno> {
        let target = self.volume.read_link(id).await?;
        let inode = self.inode(id).await?;
        self.accessed(&inode);
        Ok(target)
    }

    async fn set_attributes(&self, caller: &Caller, inode: &Inode, set: &SetAttrs) -> Result<(), Errno> {
        let now = set.ctime.unwrap_or_else(|| self.volume.now());
        let mut plan = set.plan(&inode.attr(), caller, now);
        let on_bricks = inode.state().life != Life::Gone;
        if (set.kill_suidgid || set.is_bare_kill()) && on_bricks && self.has_capability(inode).await? {
            self.remove_capability(inode).await?;
        }
        if let Some(size) = set.size {
            let carried = self.truncate(inode, size, &mut plan, now).await?;
            if carried && plan == SetAttr::default() {
                return Ok(());
            }
        }
        if on_bricks {
            self.send_attributes(inode, plan, now).await?;
        }
        apply(inode, &plan, now);
        Ok(())
    }

    /// Sends attributes: with an access ACL, a new mode is one change together with the ACL.
    async fn send_attributes(&self, inode: &Inode, plan: SetAttr, now: Timestamp) -> Result<(), Errno> {
        let mut rest = plan;
        if let Some(mode) = plan.mode.filter(|mode| (mode ^ inode.state().attr.mode) & 0o777 != 0)
            && let Some(acl) = self.acl(inode, AclKind::Access).await?
        {
            let mut acl = acl::Acl::clone(&acl);
            acl.chmod_masq(mode);
            let (name, expect) = (acl::ACCESS.to_vec(), XattrExpect::Any);
            let change = Change::SetXattr { id: inode.id, name, expect, mode: Some(mode) };
            self.volume.change(change, Bytes::from(acl.encode()), now).await?;
            inode.state().xattrs.set_acl(AclKind::Access, acl);
            rest.mode = None;
            if rest == SetAttr::default() {
                return Ok(());
            }
        }
        self.change(Change::SetAttr { id: inode.id, set: rest }, now).await
    }

    /// Sets the size, and takes out of the plan what goes along with it; whether that set the ctime: to a size that it had, it
    /// does not.
    async fn truncate(&self, inode: &Inode, size: u64, plan: &mut SetAttr, now: Timestamp) -> Result<bool, Errno> {
        let file = inode.file()?;
        if size > size_max(&inode.layout) {
            return Err(Errno::EFBIG);
        }
        let old_size = file.size();
        let mtime = plan.mtime.take().or((size != old_size).then_some(now));
        let meta = WriteMeta { mtime, mode: plan.mode.take(), now };
        self.volume.truncate(file, size, meta).await?;
        inode.truncated(old_size, size);
        let carried = SetAttr { mtime, mode: meta.mode, ..SetAttr::default() };
        apply(inode, &carried, now);
        Ok(mtime.is_some() || meta.mode.is_some())
    }

    /// Truncates for open(2) with O_TRUNC.
    pub(super) async fn truncate_open(&self, inode: &Inode) -> Result<(), Errno> {
        let _order = inode.changes.lock().await;
        let now = self.volume.now();
        self.truncate(inode, 0, &mut SetAttr { mtime: Some(now), ..SetAttr::default() }, now).await?;
        Ok(())
    }

    /// Asks a brick for the blocks of a file when they are not known: it was written with holes, or some were punched.
    /// Without an answer the file counts as one without holes.
    pub(super) async fn refresh(&self, inode: &Inode) {
        {
            let mut state = inode.state();
            if state.blocks_known || matches!(state.life, Life::Leaving | Life::Gone) {
                return;
            }
            // A write during the question takes it back.
            state.blocks_known = true;
        }
        let answer = self.volume.getattr(inode.id).await;
        let mut state = inode.state();
        match answer {
            Ok(entry) => state.attr.brick_blocks = entry.attr.brick_blocks,
            Err(_) => state.blocks_known = false,
        }
    }
}

/// Keeps times that the kernel flushes in memory when bricks need not know now; whether that is all.
///
/// After each link, unlink, rename and setxattr of a regular file a write-back kernel sends mtime and ctime
/// (`fuse_update_ctime_in_cache`), which differs from what was just sent to the bricks by microseconds, or is of an object
/// that is gone. The ctime goes to the bricks with the next change, fsync, or before the object is forgotten.
fn keep_times(inode: &Inode, set: &SetAttrs) -> bool {
    let (Some(SetTime::At(mtime)), Some(ctime)) = (set.mtime, set.ctime) else { return false };
    let mut state = inode.state();
    if !set.is_flush() || (state.life == Life::Named && mtime != state.attr.mtime) {
        return false;
    }
    // The kernel's clock has ticks, ours is ahead by less than one.
    let ctime = ctime.max(state.attr.ctime);
    state.ctime_unsent |= state.attr.ctime != ctime;
    state.changed = true;
    state.attr.mtime = mtime;
    state.attr.ctime = ctime;
    true
}

/// Sets attributes in memory.
fn apply(inode: &Inode, plan: &SetAttr, now: Timestamp) {
    let mut state = inode.state();
    let kept_back = SetAttr { atime: None, ..*plan } == SetAttr::default();
    let now = if kept_back { now.max(state.attr.ctime) } else { now };
    state.change(now);
    state.atime_unsent &= plan.atime.is_none();
    let attr = &mut state.attr;
    attr.mode = plan.mode.unwrap_or(attr.mode);
    attr.uid = plan.uid.unwrap_or(attr.uid);
    attr.gid = plan.gid.unwrap_or(attr.gid);
    attr.atime = plan.atime.unwrap_or(attr.atime);
    attr.mtime = plan.mtime.unwrap_or(attr.mtime);
}

#[cfg(test)]
mod tests;
