//! Expected inheritance, chmod with a mask and the format are what ext4 answers to the same setfacl, mkdir, open and chmod
//! (compared once, by hand); the rest follows fs/posix_acl.c.

use super::*;

/// Reads `u::rwx,u:1000:r-x,g::r--,m::rw-,o::---`.
fn acl(text: &str) -> Acl {
    let entries = text.split(',').map(|entry| {
        let mut fields = entry.split(':');
        let (who, id, perms) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        let tag = match (who, id.is_empty()) {
            ("u", true) => Tag::UserObj,
            ("u", false) => Tag::User,
            ("g", true) => Tag::GroupObj,
            ("g", false) => Tag::Group,
            ("m", true) => Tag::Mask,
            ("o", true) => Tag::Other,
            other => panic!("{other:?}"),
        };
        let perm = perms.bytes().fold(0, |perm, byte| perm << 1 | u16::from(byte != b'-'));
        AclEntry { tag, perm, id: id.parse().unwrap_or(NO_ID) }
    });
    Acl(entries.collect())
}

#[test]
fn lists_survive_encoding() {
    for text in ["u::rwx,g::r-x,o::---", "u::rwx,u:0:r--,u:7:rwx,g::r-x,g:5:--x,m::rwx,o::r--"] {
        let list = acl(text);
        assert_eq!(Acl::decode(&list.encode()), Ok(Some(list)));
    }
}

#[test]
fn the_format_is_the_kernels() {
    let bytes = [
        2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 5,
        0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ];
    assert_eq!(acl("u::rwx,u:1000:r-x,g::r--,m::r-x,o::---").encode(), bytes);
}

#[test]
fn invalid_lists_are_refused() {
    let invalid = [
        "u::rwx,g::r-x",
        "u::rwx,o::r--,g::r-x",
        "u::rwx,u:7:r--,g::r-x,o::r--",
        "u::rwx,u::rwx,g::r-x,o::r--",
        "u::rwx,g::r-x,m::rwx,m::rwx,o::r--",
    ];
    for text in invalid {
        assert_eq!(Acl::decode(&acl(text).encode()), Err(Errno::EINVAL), "{text}");
    }
    assert_eq!(Acl::decode(&[2, 0, 0]), Err(Errno::EINVAL));
    assert_eq!(Acl::decode(&[2, 0, 0, 0, 1]), Err(Errno::EINVAL));
    assert_eq!(Acl::decode(&[1, 0, 0, 0]), Err(Errno::EOPNOTSUPP));
    assert_eq!(Acl::decode(&[2, 0, 0, 0]), Ok(None));
    let mut wrong_perm = acl("u::rwx,g::r-x,o::---").encode();
    wrong_perm[6] = 8;
    assert_eq!(Acl::decode(&wrong_perm), Err(Errno::EINVAL));
}

#[test]
fn arbitrary_bytes_never_panic() {
    proptest::proptest!(|(bytes: Vec<u8>)| {
        if let Ok(Some(list)) = Acl::decode(&bytes) {
            proptest::prop_assert_eq!(Acl::decode(&list.encode()), Ok(Some(list)));
        }
    });
}

#[test]
fn modes_of_lists() {
    assert_eq!(acl("u::rwx,g::r-x,o::--x").mode(), (0o751, true));
    assert_eq!(acl("u::rwx,g::r-x,m::-w-,o::--x").mode(), (0o721, false));
    assert_eq!(acl("u::rw-,u:7:rwx,g::---,m::rwx,o::---").mode(), (0o670, false));
}

#[test]
fn without_a_default_list_the_umask_counts() {
    let made = create(None, true, 0o2777, 0o27);
    assert_eq!(made, Inherited { mode: 0o2750, access: None, default: None });
}

#[test]
fn a_default_list_that_a_mode_can_say_leaves_no_list() {
    let default = acl("u::rwx,g::r-x,o::r-x");
    let made = create(Some(&default), false, 0o666, 0o77);
    assert_eq!(made, Inherited { mode: 0o644, access: None, default: None });
    let made = create(Some(&default), true, 0o777, 0o77);
    assert_eq!(made, Inherited { mode: 0o755, access: None, default: Some(default) });
}

#[test]
fn a_default_list_is_limited_by_the_mode_asked_for() {
    let default = acl("u::rwx,u:1000:rwx,g::r-x,m::rwx,o::---");
    let file = create(Some(&default), false, 0o666, 0o22);
    assert_eq!(file.mode, 0o660);
    assert_eq!(file.access, Some(acl("u::rw-,u:1000:rwx,g::r-x,m::rw-,o::---")));
    assert_eq!(file.default, None);
    let directory = create(Some(&default), true, 0o1755, 0o22);
    assert_eq!(directory.mode, 0o1750);
    assert_eq!(directory.access, Some(acl("u::rwx,u:1000:rwx,g::r-x,m::r-x,o::---")));
    assert_eq!(directory.default, Some(default));
}

#[test]
fn chmod_changes_the_mask_where_there_is_one() {
    let mut list = acl("u::rwx,u:1000:rwx,g::r-x,m::rwx,o::---");
    list.chmod_masq(0o4641);
    assert_eq!(list, acl("u::rw-,u:1000:rwx,g::r-x,m::r--,o::--x"));
    let mut list = acl("u::rwx,g::r-x,o::---");
    list.chmod_masq(0o124);
    assert_eq!(list, acl("u::--x,g::-w-,o::r--"));
}
