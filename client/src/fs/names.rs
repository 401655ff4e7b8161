//! Names that programs use, and the one that they do not see.

use net_raid_proto::ids::{Name, ObjectId};

use super::errno::Errno;

/// The directory in the root of each brick that holds what is not of the tree.
const HIDDEN: &[u8] = b".net_raid";

/// Whether a name in a directory belongs to the bricks.
pub(super) fn is_hidden(parent: ObjectId, name: &[u8]) -> bool {
    parent == ObjectId::ROOT && name == HIDDEN
}

/// A name that should be there.
///
/// # Errors
/// ENAMETOOLONG, EINVAL for what is no component, ENOENT for the hidden one.
pub(super) fn existing(parent: ObjectId, name: &[u8]) -> Result<Name, Errno> {
    if is_hidden(parent, name) {
        return Err(Errno::ENOENT);
    }
    Ok(Name::new(name)?)
}

/// A name to be made.
///
/// # Errors
/// ENAMETOOLONG, EINVAL for what is no component, EPERM for the hidden one.
pub(super) fn fresh(parent: ObjectId, name: &[u8]) -> Result<Name, Errno> {
    if is_hidden(parent, name) {
        return Err(Errno::EPERM);
    }
    Ok(Name::new(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hidden_directory_is_hidden_in_the_root_only() {
        assert_eq!(existing(ObjectId::ROOT, b".net_raid"), Err(Errno::ENOENT));
        assert_eq!(fresh(ObjectId::ROOT, b".net_raid"), Err(Errno::EPERM));
        assert!(fresh(ObjectId(7), b".net_raid").is_ok());
        assert!(fresh(ObjectId::ROOT, b".net_raid2").is_ok());
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(existing(ObjectId::ROOT, &[b'a'; 256]), Err(Errno::ENAMETOOLONG));
        assert!(existing(ObjectId::ROOT, &[0xff; 255]).is_ok());
        assert_eq!(fresh(ObjectId::ROOT, b".."), Err(Errno::EINVAL));
    }
}
