//! Extended attributes of the volume, and how they are kept locally.

use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::limits::{XATTR_NAME_MAX, XATTR_VALUE_MAX};
use net_raid_proto::membership::Ownership;
use net_raid_proto::message::{Kind, Reply, XattrExpect};

use super::Brick;
use super::error::{Error, Result, errno};
use super::node::Node;
use crate::disk::{Disk, XattrMode};

/// ACL of an object.
pub(super) const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// ACL that a directory hands down.
pub(super) const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// What an ordinary user cannot set is kept under this prefix, with its full name.
const KEPT: &[u8] = b"user.net_raid.x.";

/// The brick's own names, which the volume neither sees nor sets.
fn is_own(attr: &[u8]) -> bool {
    attr.starts_with(b"user.net_raid") || attr.starts_with(b"trusted.net_raid")
}

impl<D: Disk> Brick<D> {
    /// Local name of an attribute of the volume.
    pub(super) fn local_xattr(&self, attr: &[u8], kind: &Kind) -> Result<Vec<u8>> {
        if attr.is_empty() || attr.len() > XATTR_NAME_MAX || attr.contains(&0) {
            return Err(errno(libc::ERANGE));
        }
        if is_own(attr) {
            return Err(errno(libc::EPERM));
        }
        if self.ownership() == Ownership::Native {
            return Ok(attr.to_vec());
        }
        if !attr.starts_with(b"user.") {
            let kept = [KEPT, attr].concat();
            return if kept.len() <= XATTR_NAME_MAX { Ok(kept) } else { Err(errno(libc::ERANGE)) };
        }
        // As natively: users' attributes exist on files and directories only.
        if matches!(kind, Kind::File | Kind::Directory) { Ok(attr.to_vec()) } else { Err(errno(libc::EPERM)) }
    }

    pub(super) fn get_xattr(&self, id: ObjectId, attr: &[u8]) -> Result<Reply> {
        let node = self.node(id)?;
        let local = match self.local_xattr(attr, &node.kind) {
            Err(error) if error.number() == Some(libc::EPERM) => return Err(errno(libc::ENODATA)),
            local => local?,
        };
        let value = self.disk.get_xattr(&node.handle, &local)?;
        value.map(Reply::Bytes).ok_or_else(|| errno(libc::ENODATA))
    }

    pub(super) fn list_xattr(&self, id: ObjectId) -> Result<Reply> {
        let node = self.node(id)?;
        let list = match self.disk.list_xattr(&node.handle) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
            list => list?,
        };
        let mut names = Vec::with_capacity(list.len());
        for local in list.split(|&byte| byte == 0).filter(|local| !local.is_empty()) {
            let attr = match local.strip_prefix(KEPT) {
                Some(attr) => attr,
                None if is_own(local) => continue,
                // What others set beside the volume (an SELinux label) is not the volume's.
                None if self.ownership() == Ownership::Recorded && !local.starts_with(b"user.") => continue,
                None => local,
            };
            names.extend_from_slice(attr);
            names.push(0);
        }
        Ok(Reply::Bytes(names))
    }

    pub(super) fn set_xattr(
        &self,
        id: ObjectId,
        attr: &[u8],
        value: &[u8],
        (expect, mode): (XattrExpect, Option<u32>),
        (now, resend): (Timestamp, bool),
    ) -> Result<Reply> {
        if value.len() > XATTR_VALUE_MAX {
            return Err(errno(libc::E2BIG));
        }
        let node = self.node(id)?;
        let local = self.local_xattr(attr, &node.kind)?;
        self.stamp(id)?;
        let how = match expect {
            XattrExpect::Any => XattrMode::Any,
            XattrExpect::Absent => XattrMode::Create,
            XattrExpect::Present => XattrMode::Replace,
        };
        match self.disk.set_xattr(&node.handle, &local, value, how) {
            Err(error) if resend && error.raw_os_error() == Some(libc::EEXIST) => {}
            result => result?,
        }
        if let Some(mode) = mode {
            self.set_mode_with(&node, &mut node.state_mut(), mode)?;
        }
        self.xattr_changed(&node, attr, now)
    }

    pub(super) fn remove_xattr(&self, id: ObjectId, attr: &[u8], (now, resend): (Timestamp, bool)) -> Result<Reply> {
        let node = self.node(id)?;
        let local = self.local_xattr(attr, &node.kind)?;
        self.stamp(id)?;
        match self.disk.remove_xattr(&node.handle, &local).map_err(Error::Os) {
            Err(error) if resend && error.number() == Some(libc::ENODATA) => {}
            result => result?,
        }
        self.xattr_changed(&node, attr, now)
    }

    fn xattr_changed(&self, node: &Node<D>, attr: &[u8], now: Timestamp) -> Result<Reply> {
        self.touch(node, now)?;
        let mut state = node.state_mut();
        state.changes += 1;
        if attr == ACL_DEFAULT {
            state.default_acl = None;
        }
        Ok(Reply::Done)
    }
}
