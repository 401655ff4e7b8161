//! POSIX.1e access control lists in the form that Linux keeps in `system.posix_acl_*` attributes.
//!
//! FUSE leaves the maintenance to the file system (`fuse_set_acl`, `fuse_init_acl`): the rules here are those of the
//! kernel's fs/posix_acl.c, by the same names.

use super::errno::Errno;

/// Attribute that holds the access ACL.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// Attribute that holds a directory's default ACL.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// Version of the attribute's format (POSIX_ACL_XATTR_VERSION).
const VERSION: u32 = 2;
/// The id of entries that have none (ACL_UNDEFINED_ID).
const NO_ID: u32 = u32::MAX;
const ENTRY_BYTES: usize = 8;

/// Whom an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tag {
    /// The owner.
    UserObj = 0x01,
    /// A user by id.
    User = 0x02,
    /// The owning group.
    GroupObj = 0x04,
    /// A group by id.
    Group = 0x08,
    /// The most that users and groups by id, and the owning group, get.
    Mask = 0x10,
    /// Everybody else.
    Other = 0x20,
}

impl Tag {
    fn from_number(number: u16) -> Option<Tag> {
        [Tag::UserObj, Tag::User, Tag::GroupObj, Tag::Group, Tag::Mask, Tag::Other]
            .into_iter()
            .find(|tag| *tag as u16 == number)
    }

    fn has_id(self) -> bool {
        matches!(self, Tag::User | Tag::Group)
    }
}

/// One entry: who, what (rwx), and the id of a user or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AclEntry {
    pub tag: Tag,
    pub perm: u16,
    pub id: u32,
}

/// A valid list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl(Vec<AclEntry>);

impl Acl {
    /// Reads an attribute's value; `None` for a list without entries, which means no list.
    ///
    /// # Errors
    /// EOPNOTSUPP for another version, EINVAL for what `posix_acl_valid` refuses.
    pub(super) fn decode(value: &[u8]) -> Result<Option<Acl>, Errno> {
        let (version, entries) = value.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(Errno::EINVAL);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let entries: Option<Vec<AclEntry>> = entries.iter().map(decode_entry).collect();
        entries.map(Acl).filter(Acl::is_valid).map(Some).ok_or(Errno::EINVAL)
    }

    /// The attribute's value.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            value.extend((entry.tag as u16).to_le_bytes());
            value.extend(entry.perm.to_le_bytes());
            value.extend(if entry.tag.has_id() { entry.id } else { NO_ID }.to_le_bytes());
        }
        value
    }

    /// `posix_acl_valid`: owner, users, owning group, groups, mask, others in this order; a mask when an id is named.
    fn is_valid(&self) -> bool {
        let tags: Vec<Tag> = self.0.iter().map(|entry| entry.tag).collect();
        let once = |tag| tags.iter().filter(|&&t| t == tag).count() == 1;
        let needs_mask = tags.iter().any(|tag| tag.has_id());
        tags.is_sorted()
            && once(Tag::UserObj)
            && once(Tag::GroupObj)
            && once(Tag::Other)
            && (once(Tag::Mask) || (!needs_mask && !tags.contains(&Tag::Mask)))
    }

    /// `posix_acl_equiv_mode`: the permission bits that stand for the list, and whether they say all of it.
    pub(super) fn mode(&self) -> (u32, bool) {
        let group = self.group_class();
        let bits = self.perm(Tag::UserObj) << 6 | self.perm(group) << 3 | self.perm(Tag::Other);
        (bits, self.0.len() == 3)
    }

    /// `posix_acl_create_masq`: limits the list to what `mode` asks for, and `mode` to what the list allows.
    pub(super) fn create_masq(&mut self, mode: u32) -> u32 {
        let group = self.group_class();
        for (tag, shift) in [(Tag::UserObj, 6), (group, 3), (Tag::Other, 0)] {
            self.set_perm(tag, self.perm(tag) & mode >> shift & 7);
        }
        mode & !0o777 | self.mode().0
    }

    /// `posix_acl_chmod_masq`: makes the list say what chmod(2) asked for.
    pub(super) fn chmod_masq(&mut self, mode: u32) {
        let group = self.group_class();
        for (tag, shift) in [(Tag::UserObj, 6), (group, 3), (Tag::Other, 0)] {
            self.set_perm(tag, mode >> shift & 7);
        }
    }

    /// The entry that the group bits of a mode stand for.
    fn group_class(&self) -> Tag {
        if self.0.iter().any(|entry| entry.tag == Tag::Mask) { Tag::Mask } else { Tag::GroupObj }
    }

    /// Permissions of an entry that is there once.
    fn perm(&self, tag: Tag) -> u32 {
        self.0.iter().find(|entry| entry.tag == tag).map_or(0, |entry| u32::from(entry.perm))
    }

    fn set_perm(&mut self, tag: Tag, perm: u32) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.tag == tag) {
            entry.perm = perm as u16;
        }
    }
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> Option<AclEntry> {
    let [t0, t1, p0, p1, id @ ..] = *bytes;
    let perm = u16::from_le_bytes([p0, p1]);
    let tag = Tag::from_number(u16::from_le_bytes([t0, t1]))?;
    let id = u32::from_le_bytes(id);
    let id = if tag.has_id() { id } else { NO_ID };
    (perm <= 7 && (!tag.has_id() || id != NO_ID)).then_some(AclEntry { tag, perm, id })
}

/// What a new object gets: its mode, and its ACLs as attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inherited {
    /// Mode with umask or ACL applied.
    pub mode: u32,
    /// Access ACL, when the mode does not say all of it.
    pub access: Option<Acl>,
    /// Default ACL of a new directory.
    pub default: Option<Acl>,
}

/// `posix_acl_create`: without a default ACL of the parent the umask counts, with one it does not.
pub(super) fn create(parent_default: Option<&Acl>, is_directory: bool, mode: u32, umask: u32) -> Inherited {
    let Some(default) = parent_default else {
        return Inherited { mode: mode & !(umask & 0o777), access: None, default: None };
    };
    let mut access = default.clone();
    let mode = access.create_masq(mode);
    let access = (!access.mode().1).then_some(access);
    Inherited { mode, access, default: is_directory.then(|| default.clone()) }
}

#[cfg(test)]
mod tests;
