//! Names that go and come back, and what is purged when they do not.

use super::*;

fn detach(parent: ObjectId, text: &str, number: u64) -> Change {
    Change::Detach { parent, name: name(text), id: id(number) }
}

fn attach(number: u64, parent: ObjectId, text: &str) -> Change {
    Change::Attach { id: id(number), parent, name: name(text) }
}

fn count(rig: &Rig, below: &str) -> usize {
    std::fs::read_dir(rig.path(below)).expect("there").count()
}

#[test]
fn a_detached_file_keeps_its_bytes_until_it_is_attached() {
    for mut rig in Rig::both() {
        rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
        rig.file("a", 10);
        rig.write(id(10), 0, &pattern(1, 300 * 1024));
        rig.own(2);
        rig.now.secs += 1;
        rig.change_fails(detach(ROOT, "a", 11), libc::ESTALE);
        rig.twice(detach(ROOT, "a", 10));
        rig.change_fails(detach(ROOT, "a", 10), libc::ENOENT);
        assert_eq!((rig.found(ROOT, "a"), rig.entry(id(10)).attr.nlink), (None, 0));
        assert_eq!((rig.entry(ROOT).attr.mtime, rig.entry(id(10)).attr.ctime), (rig.now, rig.now));
        rig.restart();
        rig.found(ROOT, "d");
        rig.file("taken", 12);
        rig.change_fails(attach(10, ROOT, "taken"), libc::EEXIST);
        rig.now.secs += 1;
        rig.twice(attach(10, id(9), "b"));
        rig.change_fails(attach(10, ROOT, "again"), libc::ENOENT);
        assert_eq!((rig.found(id(9), "b"), rig.entry(id(10)).attr.nlink), (Some(id(10)), 1));
        assert_eq!([ROOT, id(9), id(10)].map(|id| rig.entry(id).stamp.0), [2, 2, 2]);
        assert_eq!(rig.entry(id(9)).attr.mtime, rig.now);
        rig.ok(Request::PurgeOrphans);
        assert_eq!(rig.read_checked(id(10), 0, 300 * 1024), pattern(1, 300 * 1024));
    }
}

#[test]
fn one_name_of_several_just_goes() {
    for mut rig in Rig::both() {
        rig.file("a", 10);
        rig.change(Change::Link { id: id(10), parent: ROOT, name: name("b") });
        rig.twice(detach(ROOT, "a", 10));
        assert_eq!((rig.found(ROOT, "b"), rig.entry(id(10)).attr.nlink), (Some(id(10)), 1));
        rig.change_fails(attach(10, ROOT, "a"), libc::ENOENT);
        assert_eq!(count(&rig, ".net_raid/orphans"), 0);
    }
}

#[test]
fn a_detached_directory_takes_everything_along() {
    for mut rig in Rig::both() {
        rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
        rig.change(rig.create(id(9), "e", 8, Kind::Directory));
        rig.change(rig.create(id(8), "f", 10, Kind::File));
        rig.write(id(10), 0, b"found");
        rig.twice(detach(ROOT, "d", 9));
        assert_eq!(rig.names(ROOT, false), [""; 0]);
        // Still reachable by id, so that it can be sorted out while it is outside.
        rig.restart();
        assert_eq!(rig.entry(id(9)).attr.kind, Kind::Directory);
        assert_eq!(rig.names(id(9), false), ["e"]);
        assert_eq!(rig.names(id(8), false), ["f"]);
        rig.twice(detach(id(8), "f", 10));
        rig.twice(attach(10, ROOT, "f"));
        rig.twice(attach(9, ROOT, "g"));
        assert_eq!(&rig.read_checked(id(10), 0, 4096)[..5], b"found");
        assert_eq!(rig.names(id(8), false), [""; 0]);
        rig.change(Change::Rmdir { parent: id(9), name: name("e"), id: id(8) });
    }
}

#[test]
fn a_purge_removes_detached_directories_with_all_below() {
    for rig in Rig::both() {
        rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
        rig.change(rig.create(ROOT, "keep", 30, Kind::File));
        let mut parent = id(9);
        for level in 100..140 {
            rig.change(rig.create(parent, "sub", level, Kind::Directory));
            rig.change(rig.create(parent, "file", level + 256, Kind::File));
            rig.change(rig.create(parent, "link", level + 512, Kind::Symlink));
            rig.write(id(level + 256), 0, &pattern(level, 200_000));
            parent = id(level);
        }
        rig.change(Change::Link { id: id(30), parent, name: name("second") });
        std::fs::write(rig.path("d/debris"), b"").expect("written");
        rig.change(detach(ROOT, "d", 9));
        rig.ok(Request::PurgeOrphans);
        assert_eq!(count(&rig, ".net_raid/orphans"), 0);
        let records: usize = (0..=255u8).map(|bucket| count(&rig, &format!(".net_raid/records/{bucket:02x}"))).sum();
        assert_eq!(records, 0);
        assert_eq!((rig.names(ROOT, false), rig.entry(id(30)).attr.nlink), (vec!["keep".into()], 1));
    }
}

#[test]
fn what_was_put_into_a_detached_directory_by_hand_stays() {
    for rig in Rig::both() {
        rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
        rig.change(rig.create(id(9), "f", 10, Kind::File));
        std::fs::write(rig.path("d/precious"), b"by hand").expect("written");
        rig.change(detach(ROOT, "d", 9));
        rig.ok(Request::PurgeOrphans);
        let kept = rig.path(&format!(".net_raid/orphans/{:016x}", id(9).0));
        assert_eq!(std::fs::read(kept.join("precious")).expect("there"), b"by hand");
        assert!(!kept.join("f").exists());
    }
}
