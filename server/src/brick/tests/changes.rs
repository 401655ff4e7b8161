//! Every change of names and attributes, and every one of them again.

use net_raid_proto::message::{SetAttr, XattrExpect};
use serde_bytes::ByteBuf;

use super::*;

const KINDS: [Kind; 7] = [
    Kind::File,
    Kind::Directory,
    Kind::Symlink,
    Kind::Fifo,
    Kind::Socket,
    Kind::CharDevice(0x0105),
    Kind::BlockDevice(0x0701),
];

#[test]
fn objects_of_every_kind_keep_their_attributes_over_a_restart() {
    for mut rig in Rig::both() {
        for (number, kind) in (10..).zip(KINDS) {
            rig.twice(rig.create(ROOT, &format!("n{number}"), number, kind));
        }
        rig.restart();
        let mut names = rig.names(ROOT, true);
        names.sort();
        assert_eq!(names, ["n10", "n11", "n12", "n13", "n14", "n15", "n16"]);
        for (number, kind) in (10..).zip(KINDS) {
            let entry = rig.entry(id(number));
            let mode = if kind == Kind::Symlink && rig.ownership == Ownership::Native { 0o777 } else { 0o640 };
            assert_eq!((entry.attr.uid, entry.attr.gid, entry.attr.mode, &entry.attr.kind), (1000, 1001, mode, &kind));
            assert_eq!((entry.attr.mtime, entry.attr.ctime, entry.attr.atime), (rig.now, rig.now, rig.now));
            assert_eq!(entry.stamp, Generation(1));
        }
        assert_eq!(rig.entry(ROOT).attr.mtime, rig.now);
        assert_eq!(rig.ok(Request::ReadLink { id: id(12) }), Reply::Bytes(b"some/where".to_vec()));
    }
}

#[test]
fn a_recorded_brick_has_only_plain_files_and_directories() {
    let rig = Rig::new(Ownership::Recorded);
    for (number, kind) in (10..).zip(KINDS) {
        rig.change(rig.create(ROOT, &format!("n{number}"), number, kind.clone()));
        let local = std::fs::symlink_metadata(rig.path(&format!("n{number}"))).expect("there");
        assert_eq!(local.is_dir(), kind == Kind::Directory);
        assert_eq!(local.is_file(), kind != Kind::Directory);
    }
}

#[test]
fn a_create_is_repeated_only_for_the_same_object() {
    for mut rig in Rig::both() {
        rig.file("a", 10);
        rig.change_fails(rig.create(ROOT, "a", 10, Kind::File), libc::EEXIST);
        rig.resend = true;
        rig.change_fails(rig.create(ROOT, "a", 11, Kind::File), libc::EEXIST);
    }
}

#[test]
fn inherited_modes_and_acls_are_exactly_those_asked_for() {
    // Only natively does the local kernel hand anything down, and that takes root.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let rig = Rig::new(Ownership::Native);
    rig.change(rig.create_with(ROOT, "d", 10, NewObject { mode: 0o2755, ..spec(Kind::Directory) }));
    // A default ACL: user, group and others with all rights.
    let acl: Vec<u8> = [
        2u32.to_le_bytes().to_vec(),
        [1u16, 4, 0x20]
            .iter()
            .flat_map(|tag| {
                [tag.to_le_bytes().to_vec(), 7u16.to_le_bytes().to_vec(), u32::MAX.to_le_bytes().to_vec()].concat()
            })
            .collect(),
    ]
    .concat();
    let set = Change::SetXattr {
        id: id(10),
        name: b"system.posix_acl_default".to_vec(),
        expect: XattrExpect::Any,
        mode: None,
    };
    assert_eq!(rig.ask(rig.changing(set), &acl).0, Ok(Reply::Done));
    rig.change(rig.create(id(10), "plain", 11, Kind::Directory));
    assert_eq!(rig.ok(Request::ListXattr { id: id(11) }), Reply::Bytes(Vec::new()));
    let xattrs = vec![(ByteBuf::from(*b"system.posix_acl_default"), ByteBuf::from(acl))];
    rig.change(rig.create_with(id(10), "inherits", 12, NewObject { xattrs, ..spec(Kind::Directory) }));
    assert_eq!(rig.ok(Request::ListXattr { id: id(12) }), Reply::Bytes(b"system.posix_acl_default\0".to_vec()));
    for number in [11, 12] {
        let attr = rig.entry(id(number)).attr;
        assert_eq!((attr.mode, attr.uid, attr.gid), (0o640, 1000, 1001));
    }
}

#[test]
fn a_failed_create_leaves_nothing() {
    for rig in Rig::both() {
        let xattrs = vec![(ByteBuf::from(*b"user.net_raid.evil"), ByteBuf::from(*b"x"))];
        for (number, kind) in (10..).zip([Kind::File, Kind::Directory]) {
            let spec = NewObject { xattrs: xattrs.clone(), ..spec(kind) };
            rig.change_fails(rig.create_with(ROOT, "a", number, spec), libc::EPERM);
        }
        assert!(!rig.path("a").exists());
    }
}

#[test]
fn what_an_interrupted_create_left_does_not_hold_its_name() {
    for rig in Rig::both() {
        std::fs::write(rig.path("empty"), b"").expect("written");
        std::fs::create_dir(rig.path("dir")).expect("made");
        std::fs::write(rig.path("full"), b"by hand").expect("written");
        assert_eq!(rig.names(ROOT, false), [""; 0]);
        rig.file("empty", 10);
        rig.file("dir", 11);
        rig.change_fails(rig.create(ROOT, "full", 12, Kind::File), libc::EEXIST);
        assert_eq!(rig.found(ROOT, "full"), None);
        assert_eq!(std::fs::read(rig.path("full")).expect("there"), b"by hand");
    }
}

#[test]
fn unlink_of_the_last_name_keeps_what_is_open() {
    for mut rig in Rig::both() {
        rig.file("a", 10);
        rig.write(id(10), 0, b"still here");
        rig.change_fails(rig.unlink("a", 11, true), libc::ESTALE);
        rig.twice(rig.unlink("a", 10, true));
        rig.change_fails(rig.unlink("a", 10, true), libc::ENOENT);
        assert_eq!(rig.entry(id(10)).attr.nlink, 0);
        rig.write(id(10), 70_000 / 4096 * 4096, b"more");
        rig.ok(Request::PurgeOrphans);
        rig.restart();
        assert_eq!(&rig.read_checked(id(10), 0, 4096)[..10], b"still here");
        rig.twice(Change::Purge { id: id(10) });
        assert_eq!(rig.ask(Request::GetAttr { id: id(10) }, b"").0, Err(Fault::Unresolved(id(10))));
        let records = std::fs::read_dir(rig.path(".net_raid/records/0a")).expect("there");
        assert_eq!(records.count(), 0);
    }
}

#[test]
fn orphans_of_earlier_ownerships_are_purged() {
    for mut rig in Rig::both() {
        for number in 10..300 {
            rig.file("a", number);
            rig.change(rig.unlink("a", number, true));
        }
        rig.own(2);
        rig.ok(Request::PurgeOrphans);
        assert_eq!(std::fs::read_dir(rig.path(".net_raid/orphans")).expect("there").count(), 0);
    }
}

#[test]
fn hard_links_are_one_object() {
    for mut rig in Rig::both() {
        rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
        rig.file("a", 10);
        rig.twice(Change::Link { id: id(10), parent: id(9), name: name("b") });
        assert_eq!(rig.entry(id(10)).attr.nlink, 2);
        assert_eq!(rig.found(id(9), "b"), Some(id(10)));
        rig.change(rig.unlink("a", 10, true));
        assert_eq!(rig.entry(id(10)).attr.nlink, 1);
        rig.change_fails(Change::Link { id: id(9), parent: ROOT, name: name("x") }, libc::EPERM);
        rig.twice(Change::Unlink { parent: id(9), name: name("b"), id: id(10), keep: false });
        rig.twice(Change::Rmdir { parent: ROOT, name: name("d"), id: id(9) });
        assert_eq!(rig.names(ROOT, false), [""; 0]);
    }
}

#[test]
fn a_directory_with_only_debris_can_be_removed() {
    for rig in Rig::both() {
        rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
        rig.change(rig.create(id(9), "f", 10, Kind::File));
        rig.change_fails(Change::Rmdir { parent: ROOT, name: name("d"), id: id(9) }, libc::ENOTEMPTY);
        rig.change(Change::Unlink { parent: id(9), name: name("f"), id: id(10), keep: false });
        std::fs::write(rig.path("d/debris"), b"").expect("written");
        rig.change(Change::Rmdir { parent: ROOT, name: name("d"), id: id(9) });
    }
}

#[test]
fn renames_move_replace_and_exchange() {
    for mut rig in Rig::both() {
        rig.file("a", 10);
        rig.twice(rig.rename("a", 10, "b", RenameTarget::Absent));
        rig.file("c", 11);
        rig.change_fails(rig.rename("b", 10, "c", RenameTarget::Absent), libc::EEXIST);
        let wrong = RenameTarget::Replace { id: id(12), keep: false };
        rig.change_fails(rig.rename("b", 10, "c", wrong), libc::ESTALE);
        rig.change(rig.rename("b", 10, "c", RenameTarget::Exchange { id: id(11) }));
        assert_eq!((rig.found(ROOT, "b"), rig.found(ROOT, "c")), (Some(id(11)), Some(id(10))));
        rig.write(id(11), 0, b"kept");
        rig.twice(rig.rename("c", 10, "b", RenameTarget::Replace { id: id(11), keep: true }));
        assert_eq!(&rig.read_checked(id(11), 0, 4096)[..4], b"kept");
        assert_eq!(rig.entry(id(11)).attr.nlink, 0);
        rig.file("e", 12);
        rig.twice(rig.rename("e", 12, "b", RenameTarget::Replace { id: id(10), keep: false }));
        assert_eq!(rig.names(ROOT, true), ["b"]);
        rig.change_fails(rig.rename("gone", 12, "x", RenameTarget::Absent), libc::ENOENT);
    }
}

/// A brick that is killed between a change of names and the times that go with it has the disk's own time there.
#[test]
fn a_change_of_names_that_was_done_gets_its_times_when_it_is_sent_again() {
    for mut rig in Rig::both() {
        ["a", "b", "c", "d"].iter().zip(10..).for_each(|(text, number)| rig.file(text, number));
        let changes = [
            rig.rename("a", 10, "e", RenameTarget::Absent),
            rig.rename("b", 11, "e", RenameTarget::Replace { id: id(10), keep: true }),
            rig.rename("e", 11, "c", RenameTarget::Exchange { id: id(12) }),
            rig.unlink("d", 13, false),
            Change::Detach { parent: ROOT, name: name("c"), id: id(11) },
            Change::Attach { parent: ROOT, name: name("c"), id: id(11) },
        ];
        for change in changes {
            rig.now.secs += 10;
            rig.change(change.clone());
            rig.restart();
            std::fs::File::open(rig.path("")).and_then(|dir| dir.set_modified(std::time::UNIX_EPOCH)).expect("set");
            rig.resend = true;
            rig.change(change.clone());
            rig.resend = false;
            assert_eq!(rig.entry(ROOT).attr.mtime, rig.now, "{change:?}");
        }
        assert_eq!(rig.entry(id(11)).attr.ctime, rig.now);
    }
}

#[test]
fn directories_replace_empty_directories_and_take_their_children_along() {
    for mut rig in Rig::both() {
        rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
        rig.change(rig.create(ROOT, "e", 8, Kind::Directory));
        rig.change(rig.create(id(9), "f", 10, Kind::File));
        rig.change(rig.rename("d", 9, "e", RenameTarget::Replace { id: id(8), keep: false }));
        rig.write(id(10), 0, b"found");
        assert_eq!(std::fs::read(rig.path("e/f")).expect("there"), b"found");
        rig.restart();
        assert_eq!(rig.ask(Request::GetAttr { id: id(10) }, b"").0, Err(Fault::Unresolved(id(10))));
        rig.fails(Request::Resolve { id: id(11), path: vec![name("e"), name("f")] }, libc::ESTALE);
        rig.fails(Request::Resolve { id: id(10), path: vec![name("d"), name("f")] }, libc::ENOENT);
        rig.ok(Request::Resolve { id: id(10), path: vec![name("e"), name("f")] });
        assert_eq!(rig.entry(id(10)).attr.size, 5);
    }
}

#[test]
fn the_root_counts_the_directories_of_the_volume() {
    for rig in Rig::both() {
        assert_eq!(rig.entry(ROOT).attr.nlink, 2);
        rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
        assert_eq!((rig.entry(ROOT).attr.nlink, rig.entry(id(9)).attr.nlink), (3, 2));
    }
}

#[test]
fn attributes_are_set_one_by_one() {
    for mut rig in Rig::both() {
        rig.file("a", 10);
        let set = |set| Change::SetAttr { id: id(10), set };
        rig.twice(set(SetAttr { mode: Some(0o6755), ..SetAttr::default() }));
        rig.twice(set(SetAttr { uid: Some(5), ..SetAttr::default() }));
        let attr = rig.entry(id(10)).attr;
        assert_eq!((attr.mode, attr.uid, attr.gid), (0o6755, 5, 1001));
        let time = Timestamp { secs: -5, nanos: 999_999_999 };
        rig.now = Timestamp { secs: 2_000_000, nanos: 1 };
        rig.twice(set(SetAttr { atime: Some(time), mtime: Some(time), gid: Some(6), ..SetAttr::default() }));
        let attr = rig.entry(id(10)).attr;
        assert_eq!((attr.atime, attr.mtime, attr.ctime, attr.gid), (time, time, rig.now, 6));
    }
}

#[test]
fn extended_attributes_are_kept_and_the_bricks_own_are_hidden() {
    for mut rig in Rig::both() {
        rig.file("a", 10);
        rig.write(id(10), 0, b"x");
        rig.ok(Request::Release { id: id(10) });
        let set = |text: &str, expect| Change::SetXattr { id: id(10), name: text.into(), expect, mode: None };
        for text in ["user.a", "trusted.b", "security.c"] {
            rig.twice(set(text, XattrExpect::Absent));
            rig.change_fails(set(text, XattrExpect::Absent), libc::EEXIST);
            rig.change(set(text, XattrExpect::Present));
        }
        rig.change_fails(set("user.z", XattrExpect::Present), libc::ENODATA);
        rig.change_fails(set("user.net_raid.md5", XattrExpect::Any), libc::EPERM);
        rig.change_fails(set("trusted.net_raid", XattrExpect::Any), libc::EPERM);
        rig.fails(Request::GetXattr { id: id(10), name: b"user.net_raid".to_vec() }, libc::ENODATA);
        let Reply::Bytes(list) = rig.ok(Request::ListXattr { id: id(10) }) else { panic!("no list") };
        let mut list: Vec<&str> =
            std::str::from_utf8(&list).expect("text").split('\0').filter(|text| !text.is_empty()).collect();
        list.sort_unstable();
        assert_eq!(list, ["security.c", "trusted.b", "user.a"]);
        for text in ["user.a", "trusted.b"] {
            rig.twice(Change::RemoveXattr { id: id(10), name: text.into() });
            rig.change_fails(Change::RemoveXattr { id: id(10), name: text.into() }, libc::ENODATA);
        }
    }
}

#[test]
fn stamps_go_up_to_the_root_once_a_generation() {
    for mut rig in Rig::both() {
        rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
        rig.change(rig.create(id(9), "f", 10, Kind::File));
        rig.change(rig.create(ROOT, "other", 11, Kind::File));
        rig.own(5);
        rig.write(id(10), 0, b"x");
        let stamps = [ROOT, id(9), id(10), id(11)].map(|id| rig.entry(id).stamp.0);
        assert_eq!(stamps, [5, 5, 5, 1]);
    }
}

#[test]
fn large_directories_are_listed_whole_in_bounded_pages() {
    for rig in Rig::both() {
        rig.change(rig.create(ROOT, "d", 1000, Kind::Directory));
        let expected: std::collections::BTreeSet<String> = (0..5000).map(|number| format!("file {number}")).collect();
        for (number, text) in (2000..).zip(&expected) {
            rig.change(rig.create(id(1000), text, number, Kind::File));
        }
        let listed: Vec<String> = rig.names(id(1000), true);
        assert_eq!(listed.len(), expected.len());
        assert_eq!(listed.into_iter().collect::<std::collections::BTreeSet<_>>(), expected);
        let (page, _) = rig.ask(Request::ReadDir { id: id(1000), cursor: 0, attributes: true }, b"");
        let mut body = Vec::new();
        net_raid_proto::codec::encode(&page, 512 * 1024, &mut body).expect("fits");
        assert!(body.len() > 32 * 1024, "pages of {} bytes are too small", body.len());
    }
}

#[test]
fn a_change_is_stamped_along_a_name_that_is_left() {
    for restarted in [false, true] {
        let mut rig = Rig::new(Ownership::Recorded);
        rig.change(rig.create(ROOT, "d", 8, Kind::Directory));
        rig.change(rig.create(ROOT, "e", 9, Kind::Directory));
        rig.change(rig.create(id(8), "a", 10, Kind::File));
        rig.change(Change::Link { id: id(10), parent: id(9), name: name("b") });
        rig.checkpoint();
        rig.ok(Request::Lookup { parent: id(8), name: name("a") });
        rig.change(Change::SetAttr { id: id(10), set: Default::default() });
        let stamps = |rig: &Rig| [8, 9].map(|number| rig.entry(id(number)).stamp);
        let (before, now) = (Generation(rig.generation().0 - 1), rig.generation());
        assert_eq!(stamps(&rig), [now, before]);
        rig.change(Change::Unlink { parent: id(8), name: name("a"), id: id(10), keep: false });
        if restarted {
            rig.restart();
        }
        rig.ok(Request::Lookup { parent: ROOT, name: name("d") });
        rig.ok(Request::Lookup { parent: ROOT, name: name("e") });
        rig.ok(Request::Lookup { parent: id(9), name: name("b") });
        rig.change(Change::SetAttr { id: id(10), set: Default::default() });
        assert_eq!(stamps(&rig), [now, now]);
    }
}
