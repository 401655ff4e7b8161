//! A new owner finds members that differ, because the last one went in the middle of something, and makes them equal.
//!
//! The members differ on purpose: changes are made on some bricks only, behind the volume's back.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::offline::{self, Contents};
use common::{Cluster, create, read_all};
use net_raid_client::volume::{File, Volume, WriteMeta};
use net_raid_proto::ids::{Name, ObjectId, Timestamp};
use net_raid_proto::message::{Change, Kind, NewObject, RenameTarget, Request, SetAttr, XattrExpect};

const ROOT: ObjectId = ObjectId::ROOT;

fn block_on<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// Bytes that name their own place.
fn pattern(seed: u64, len: usize) -> Bytes {
    (0..len as u64 / 8 + 1).flat_map(|at| (seed << 40 | at).to_le_bytes()).take(len).collect()
}

async fn change(volume: &Volume, change: Change) {
    volume.change(change, Bytes::new(), volume.now()).await.unwrap();
}

fn made(parent: ObjectId, text: &str, id: ObjectId, kind: Kind, volume: &Volume) -> Change {
    let target = if kind == Kind::Symlink { b"some/where".to_vec() } else { Vec::new() };
    let layout = volume.layout();
    let spec = NewObject { kind, mode: 0o750, uid: 3, gid: 4, target, layout, xattrs: Vec::new() };
    Change::Create { parent, name: name(text), id, spec: Box::new(spec) }
}

fn renamed(id: ObjectId, from: (ObjectId, &str), to: (ObjectId, &str), target: RenameTarget) -> Change {
    let ((parent, text), (new_parent, new_text)) = (from, to);
    Change::Rename { parent, name: name(text), id, new_parent, new_name: name(new_text), target }
}

/// A volume that its owner left without a word, and what it held.
struct Left {
    cluster: Cluster,
    /// By name in the root: `a` to `e`, of different lengths.
    files: BTreeMap<&'static str, (ObjectId, Bytes)>,
    /// A directory `d` with the file `e`.
    dir: ObjectId,
    volume: Arc<Volume>,
}

impl Left {
    async fn new(level: u8, servers: usize) -> Left {
        let cluster = Cluster::new(level, servers, 0);
        let volume = cluster.open().await.unwrap();
        let mut files = BTreeMap::new();
        for (seed, text) in (1..).zip(["a", "b", "c", "e"]) {
            let file = create(&volume, text).await;
            let bytes = pattern(seed, seed as usize * 150_000);
            volume.write(&file, 0, bytes.clone(), WriteMeta::default()).await.unwrap();
            files.insert(text, (file.id, bytes));
        }
        let dir = volume.new_id().unwrap();
        change(&volume, made(ROOT, "d", dir, Kind::Directory, &volume)).await;
        change(&volume, renamed(files["e"].0, (ROOT, "e"), (dir, "e"), RenameTarget::Absent)).await;
        volume.sync_all().await.unwrap();
        Left { cluster, files, dir, volume }
    }

    fn id(&self, text: &str) -> ObjectId {
        self.files[text].0
    }

    /// Kills everything, and makes changes on some bricks only.
    async fn differ(&self, changes: &[(&[usize], Change)]) {
        for node in &self.cluster.nodes {
            node.kill_and_wait().await;
        }
        let now = Timestamp { secs: 1_800_000_000, nanos: 5 };
        for (slots, change) in changes {
            for slot in *slots {
                offline::change_alone(&self.cluster, *slot, (change.clone(), now), 1).unwrap();
            }
        }
        self.cluster.nodes.iter().for_each(|node| node.start());
    }

    /// Recovers; then checks that all bricks are the same, and what they hold.
    async fn recovered(&self) -> Contents {
        let volume = self.cluster.open().await.unwrap();
        volume.close().await;
        let events = self.cluster.events();
        assert!(events.contains("recovered after a crash"), "{events}");
        assert!(!events.contains("dropped"), "{events}");
        for node in &self.cluster.nodes {
            node.kill_and_wait().await;
        }
        let contents = offline::check(&self.cluster, &[]).unwrap();
        assert_eq!(contents.current.len(), self.cluster.nodes.len());
        contents
    }

    #[track_caller]
    fn holds(&self, contents: &Contents, expected: &[(&str, &str)]) {
        let files: Vec<(String, ObjectId)> = contents
            .tree
            .iter()
            .filter(|(_, item)| item.kind == Kind::File)
            .map(|(path, item)| (String::from_utf8(path.clone()).unwrap(), item.id))
            .collect();
        let expected: Vec<(String, ObjectId)> =
            expected.iter().map(|(path, text)| (path.to_string(), self.id(text))).collect();
        assert_eq!(files, expected);
        for (id, bytes) in self.files.values() {
            assert!(contents.files.get(id).is_none_or(|found| found[..] == bytes[..]), "object {id}");
        }
    }
}

const LEVELS: [(u8, usize); 3] = [(1, 2), (5, 3), (6, 4)];

#[test]
fn equal_members_are_left_as_they_are() {
    block_on(async {
        for (level, servers) in LEVELS {
            let left = Left::new(level, servers).await;
            left.differ(&[]).await;
            let contents = left.recovered().await;
            left.holds(&contents, &[("/a", "a"), ("/b", "b"), ("/c", "c"), ("/d/e", "e")]);
            assert!(left.cluster.events().contains("writes 0, cuts 0, names 0, sizes 0, attributes 0"));
        }
    });
}

/// Recovery takes as long as what was changed, not as long as what is there: it reads a directory as a whole only where members
/// differ in names of before.
#[test]
fn names_that_nobody_changed_are_not_read() {
    const OLD: usize = 100;
    block_on(async {
        for (level, servers) in LEVELS {
            for differs in [false, true] {
                let left = Left::new(level, servers).await;
                let volume = &left.volume;
                for number in 0..OLD {
                    create(volume, &format!("old{number}")).await;
                }
                volume.sync_all().await.unwrap();
                create(volume, "new").await;
                let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
                let made = made(ROOT, "newdir", volume.new_id().unwrap(), Kind::Directory, volume);
                let gone = Change::Unlink { parent: ROOT, name: name("a"), id: left.id("a"), keep: false };
                let mut changes: Vec<(&[usize], Change)> =
                    vec![(&[0], made), (&[1], Change::SetAttr { id: left.id("b"), set })];
                if differs {
                    changes.push((&[1], gone));
                }
                left.differ(&changes).await;
                left.cluster.journal.keep();
                let contents = left.recovered().await;
                let asked = left.cluster.journal.take();
                let count = |what: &dyn Fn(&Request) -> bool| {
                    asked.iter().filter(|entry| entry.done && what(&entry.request)).count()
                };
                let whole = count(&|request| matches!(request, Request::ReadDir { id: ROOT, .. }));
                assert_eq!(whole > 0, differs, "level {level}: {whole}");
                let single = count(&|request| matches!(request, Request::Lookup { .. } | Request::GetAttr { .. }));
                assert!(single < OLD / 2, "level {level}: {single}");
                let names = contents.tree.keys().filter(|path| path.starts_with(b"/old")).count();
                assert_eq!(names, OLD);
                assert_eq!(contents.tree.contains_key(&b"/a"[..]), !differs);
                assert!(contents.tree.contains_key(&b"/new"[..]) && contents.tree.contains_key(&b"/newdir"[..]));
            }
        }
    });
}

/// Cuts and writes of the generation in which the owner went, all of them acknowledged: the cuts took bytes from some
/// members only, and the writes brought bytes to all.
#[test]
fn what_was_written_behind_a_cut_stays() {
    block_on(async {
        for (level, servers) in [(1, 2), (5, 4), (6, 5)] {
            let mut left = Left::new(level, servers).await;
            let meta = WriteMeta::default();
            for (seed, text) in (10..).zip(["a", "b", "c"]) {
                let entry = left.volume.lookup(ROOT, &name(text)).await.unwrap();
                let file = Arc::new(File::new(entry.id, entry.layout, entry.attr.size));
                let bytes = pattern(seed, 900_000);
                left.volume.truncate(&file, 100, meta).await.unwrap();
                left.volume.truncate(&file, 0, meta).await.unwrap();
                left.volume.write(&file, 0, bytes.slice(..150), meta).await.unwrap();
                left.volume.zero(&file, 0, 500_000, false, meta).await.unwrap();
                left.volume.write(&file, 0, bytes.clone(), meta).await.unwrap();
                left.files.insert(text, (file.id, bytes));
            }
            left.differ(&[]).await;
            let contents = left.recovered().await;
            left.holds(&contents, &[("/a", "a"), ("/b", "b"), ("/c", "c"), ("/d/e", "e")]);
            for (id, bytes) in left.files.values() {
                assert!(contents.files[id][..] == bytes[..], "object {id}");
            }
        }
    });
}

#[test]
fn a_clean_unmount_needs_no_recovery() {
    block_on(async {
        let left = Left::new(5, 3).await;
        left.volume.close().await;
        left.cluster.open().await.unwrap().close().await;
        assert!(!left.cluster.events().contains("recovered"));
    });
}

#[test]
fn names_that_some_members_have_become_those_of_one() {
    block_on(async {
        for (level, servers) in LEVELS {
            let left = Left::new(level, servers).await;
            let volume = &left.volume;
            let fresh = || volume.new_id().unwrap();
            let (file, dir, link, below) = (fresh(), fresh(), fresh(), fresh());
            let replaced = RenameTarget::Replace { id: left.id("b"), keep: false };
            left.differ(&[
                // A file that one member lacks goes; what has no bytes is made there too.
                (&[1], made(ROOT, "new", file, Kind::File, volume)),
                (&[0], made(ROOT, "newdir", dir, Kind::Directory, volume)),
                (&[0], made(dir, "link", link, Kind::Symlink, volume)),
                (&[0], made(dir, "below", below, Kind::Directory, volume)),
                // A replacing rename that only the last has made.
                (&[servers - 1], renamed(left.id("a"), (ROOT, "a"), (ROOT, "b"), replaced)),
                // A directory moved by one of them, and a file out of it.
                (&[1], renamed(left.id("e"), (left.dir, "e"), (ROOT, "f"), RenameTarget::Absent)),
                (&[1], renamed(left.dir, (ROOT, "d"), (ROOT, "moved"), RenameTarget::Absent)),
            ])
            .await;
            let contents = left.recovered().await;
            // Of the last two the first member, which has none of them, is as good a source as the second.
            left.holds(&contents, &[("/b", "a"), ("/c", "c"), ("/d/e", "e")]);
            let link = &contents.tree[&b"/newdir/link"[..]];
            assert_eq!((link.target.as_slice(), link.uid, link.gid), (&b"some/where"[..], 3, 4));
            assert_eq!(contents.tree[&b"/newdir/below"[..]].mode, 0o750);
            assert_eq!(contents.tree[&b"/newdir"[..]].id, dir);
        }
    });
}

#[test]
fn what_the_first_member_has_done_is_done_on_all() {
    block_on(async {
        for (level, servers) in LEVELS {
            let left = Left::new(level, servers).await;
            let dir = left.volume.new_id().unwrap();
            left.differ(&[
                (&[0], made(ROOT, "y", dir, Kind::Directory, &left.volume)),
                (&[0], renamed(left.dir, (ROOT, "d"), (dir, "d"), RenameTarget::Absent)),
                (&[0], renamed(left.id("e"), (left.dir, "e"), (ROOT, "e"), RenameTarget::Absent)),
                (&[0], Change::Rmdir { parent: dir, name: name("d"), id: left.dir }),
                (&[0], Change::Unlink { parent: ROOT, name: name("c"), id: left.id("c"), keep: false }),
                (&[0], renamed(left.id("a"), (ROOT, "a"), (ROOT, "b"), RenameTarget::Exchange { id: left.id("b") })),
                (&[0], Change::Link { id: left.id("e"), parent: dir, name: name("again") }),
            ])
            .await;
            let contents = left.recovered().await;
            left.holds(&contents, &[("/a", "b"), ("/b", "a"), ("/e", "e"), ("/y/again", "e")]);
            assert!(!contents.tree.contains_key(&b"/d"[..]));
            assert_eq!(contents.tree[&b"/e"[..]].nlink, 2);
        }
    });
}

#[test]
fn sizes_and_attributes_become_equal() {
    block_on(async {
        for (level, servers) in LEVELS {
            let left = Left::new(level, servers).await;
            let set =
                SetAttr { mode: Some(0o600), uid: Some(7), mtime: Some(Timestamp::default()), ..SetAttr::default() };
            let xattr = |text: &[u8]| Change::SetXattr {
                id: left.id("b"),
                name: text.to_vec(),
                expect: XattrExpect::Any,
                mode: None,
            };
            let longer = |text: &str, size| Change::Truncate {
                id: left.id(text),
                size,
                brick_len: u64::MAX,
                mtime: None,
                mode: None,
            };
            left.differ(&[
                (&[0], Change::SetAttr { id: left.id("a"), set }),
                (&[1], Change::SetAttr { id: left.id("c"), set }),
                (&[0], xattr(b"user.first")),
                (&[1], xattr(b"user.second")),
                // It grew on some: nobody was told.
                (&[0], longer("b", 900_001)),
                (&[1], longer("c", 900_001)),
            ])
            .await;
            let contents = left.recovered().await;
            left.holds(&contents, &[("/a", "a"), ("/b", "b"), ("/c", "c"), ("/d/e", "e")]);
            let item = |path: &str| &contents.tree[path.as_bytes()];
            assert_eq!((item("/a").mode, item("/a").uid, item("/a").mtime), (0o600, 7, Timestamp::default()));
            assert_eq!((item("/c").mode, item("/c").uid), (0o644, 0));
            assert_eq!(item("/b").xattrs.keys().collect::<Vec<_>>(), [&b"user.first"[..]]);
            assert!(left.cluster.events().contains("sizes 2"), "{}", left.cluster.events());
        }
    });
}

#[test]
fn what_was_recovered_is_read_without_some_members() {
    block_on(async {
        for (level, servers, away) in [(1, 3, 1), (5, 4, 1), (6, 5, 2)] {
            let left = Left::new(level, servers).await;
            let moved = renamed(left.id("a"), (ROOT, "a"), (left.dir, "a"), RenameTarget::Absent);
            left.differ(&[(&[0, 1], moved)]).await;
            left.cluster.open().await.unwrap().close().await;
            // Those that had done it first are away.
            (0..away).for_each(|slot| left.cluster.nodes[slot].kill());
            let volume = left.cluster.open().await.unwrap();
            let dir = volume.lookup(ROOT, &name("d")).await.unwrap();
            let entry = volume.lookup(dir.id, &name("a")).await.unwrap();
            let file = Arc::new(File::new(entry.id, entry.layout, entry.attr.size));
            assert_eq!(read_all(&volume, &file).await, left.files["a"].1);
            volume.close().await;
        }
    });
}

#[test]
fn objects_that_an_interrupted_recovery_left_outside_come_back() {
    block_on(async {
        for (level, servers) in LEVELS {
            let left = Left::new(level, servers).await;
            let (sub, link) = (left.volume.new_id().unwrap(), left.volume.new_id().unwrap());
            change(&left.volume, made(left.dir, "sub", sub, Kind::Directory, &left.volume)).await;
            change(&left.volume, made(sub, "link", link, Kind::Symlink, &left.volume)).await;
            let others: Vec<usize> = (1..servers).collect();
            let detach = |parent, text: &str, id| Change::Detach { parent, name: name(text), id };
            let replaced = RenameTarget::Replace { id: left.id("b"), keep: false };
            left.differ(&[
                (&[0], renamed(left.id("a"), (ROOT, "a"), (ROOT, "b"), replaced)),
                (&[0], renamed(left.dir, (ROOT, "d"), (ROOT, "moved"), RenameTarget::Absent)),
                (&others, detach(ROOT, "a", left.id("a"))),
                (&others, detach(ROOT, "b", left.id("b"))),
                (&others, detach(ROOT, "d", left.dir)),
            ])
            .await;
            let contents = left.recovered().await;
            left.holds(&contents, &[("/b", "a"), ("/c", "c"), ("/moved/e", "e")]);
            assert_eq!(contents.tree[&b"/moved/sub/link"[..]].id, link);
        }
    });
}
