//! A member that was away catches up while what it has to look at moves.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use common::liar::Entry;
use common::{Cluster, offline};
use net_raid_client::fs::{Caller, Fs, SetAttrs, WriteFlags};
use net_raid_client::volume::Volume;
use net_raid_proto::ids::{ObjectId, Slot, Timestamp};
use net_raid_proto::message::{Change, Kind, Request};
use net_raid_proto::names::NameParts;
use tokio::time::Instant;

const USER: Caller = Caller { uid: 0, gid: 0, pid: 0 };

/// A mirror, the second server of which is away, and directories `from` and `to`.
struct Halved {
    cluster: Cluster,
    volume: Arc<Volume>,
    fs: Arc<Fs>,
    from: ObjectId,
    to: ObjectId,
}

async fn write(fs: &Fs, id: ObjectId, byte: u8) {
    let written = fs.write(id, 0, 0, Bytes::from(vec![byte; 100_000]), WriteFlags::default()).await;
    assert_eq!(written, Ok(100_000));
}

impl Halved {
    /// With what `prepare` makes in `from`, while both servers are there.
    async fn new<T>(prepare: impl AsyncFnOnce(&Fs, ObjectId) -> T) -> (Halved, T) {
        let mut cluster = Cluster::new(1, 2, 0);
        (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), Duration::from_secs(40));
        let volume = cluster.open().await.unwrap();
        let fs = Fs::new(Arc::clone(&volume));
        let mkdir = async |name: &[u8]| fs.mkdir(&USER, ObjectId::ROOT, name, 0o755, 0).await.unwrap().id;
        let (from, to) = (mkdir(b"from").await, mkdir(b"to").await);
        let prepared = prepare(&fs, from).await;
        // What follows is newer.
        volume.sync_all().await.unwrap();
        cluster.nodes[1].kill_and_wait().await;
        fs.mknod(&USER, ObjectId::ROOT, b"missed", Kind::File, 0o644, 0).await.unwrap();
        cluster.wait_event("127.0.0.1:2 member dropped").await;
        // It is in mind what is missed until now: what follows has to be found.
        volume.sync_all().await.unwrap();
        (Halved { cluster, volume, fs, from, to }, prepared)
    }

    /// Has the server come back, and does `meanwhile` when all but `from` was looked at.
    async fn come_back(&self, meanwhile: impl AsyncFnOnce()) {
        for dir in [self.from, self.to] {
            self.fs.mknod(&USER, dir, b"new", Kind::File, 0o644, 0).await.unwrap();
        }
        self.cluster.journal.keep();
        self.cluster.nodes[0].script.hold_directory(Some(self.from));
        self.cluster.nodes[1].start();
        let deadline = Instant::now() + Duration::from_secs(20);
        let looked = |dir: ObjectId, done: bool| {
            let entries = self.cluster.journal.entries();
            let is_look = |request: &Request| matches!(request, Request::ReadChanged { id, .. } if *id == dir);
            entries.iter().any(|entry| entry.slot == 0 && entry.done == done && is_look(&entry.request))
        };
        while !looked(self.from, false) || !looked(self.to, true) {
            assert!(Instant::now() < deadline, "nobody looks: {}", self.cluster.events());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        meanwhile().await;
        self.cluster.nodes[0].script.hold_directory(None);
        self.cluster.wait_event("127.0.0.1:2 member caught up").await;
    }

    /// Unmounts; what both servers have of a file.
    async fn end(self, file: ObjectId) -> Vec<u8> {
        self.fs.close().await;
        for node in &self.cluster.nodes {
            node.kill_and_wait().await;
        }
        let mut contents = offline::check(&self.cluster, &[]).unwrap();
        assert_eq!(contents.current.len(), 2, "{}", self.cluster.events());
        contents.files.remove(&file).unwrap()
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// From where nobody has looked yet to where everybody has: what changed in it before is not overlooked.
#[test]
fn a_directory_that_moves_is_not_overlooked() {
    run(async {
        let (halved, (dir, file)) = Halved::new(async |fs, from| {
            let dir = fs.mkdir(&USER, from, b"dir", 0o755, 0).await.unwrap().id;
            let file = fs.mknod(&USER, dir, b"file", Kind::File, 0o644, 0).await.unwrap().id;
            write(fs, file, 1).await;
            (dir, file)
        })
        .await;
        write(&halved.fs, file, 2).await;
        halved
            .come_back(async || {
                halved.fs.rename(halved.from, b"dir", halved.to, b"dir", 0).await.unwrap();
                assert_eq!(halved.fs.lookup(halved.to, b"dir").await.unwrap().id, dir);
            })
            .await;
        assert_eq!(halved.end(file).await, vec![2; 100_000]);
    });
}

/// Every ten seconds.
#[test]
fn who_catches_up_says_how_far_it_is() {
    run(async {
        let (halved, ()) = Halved::new(async |_, _| {}).await;
        halved
            .come_back(async || {
                halved.cluster.wait_event("127.0.0.1:2 catch-up progress, slot 1: files 0 of 0").await;
                let progress = halved.volume.catch_up_progress();
                assert_eq!(progress.iter().map(|progress| progress.slot).collect::<Vec<_>>(), [Slot(1)]);
            })
            .await;
        assert_eq!(halved.volume.catch_up_progress(), []);
        let file = halved.fs.lookup(halved.to, b"new").await.unwrap().id;
        assert_eq!(halved.end(file).await, b"");
    });
}

/// Objects with two names each are being made when the server goes once more: none of them is there twice in the end.
#[test]
fn what_was_begun_is_not_made_again() {
    run(async {
        let (halved, ()) = Halved::new(async |_, _| {}).await;
        let (fs, cluster) = (&halved.fs, &halved.cluster);
        for dir in [b"x", b"y"] {
            let dir = fs.mkdir(&USER, halved.from, dir, 0o755, 0).await.unwrap().id;
            for number in 0..40 {
                let name = format!("{number}");
                let link = fs.symlink(&USER, dir, name.as_bytes(), b"target").await.unwrap().id;
                fs.link(link, halved.to, format!("{name} {}", dir.0).as_bytes()).await.unwrap();
            }
        }
        cluster.journal.keep();
        for _ in 0..3 {
            cluster.nodes[1].start();
            let deadline = Instant::now() + Duration::from_secs(20);
            let is_create =
                |request: &Request| matches!(request, Request::Change { change: Change::Create { .. }, .. });
            let made =
                || cluster.journal.entries().iter().filter(|e| e.slot == 1 && e.done && is_create(&e.request)).count();
            let before = made();
            while made() < before + 5 && !cluster.events().contains("member caught up") {
                assert!(Instant::now() < deadline, "nothing is made: {}", cluster.events());
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            cluster.nodes[1].kill_and_wait().await;
        }
        cluster.nodes[1].start();
        cluster.wait_event("127.0.0.1:2 member caught up").await;
        let file = fs.mknod(&USER, halved.to, b"file", Kind::File, 0o644, 0).await.unwrap().id;
        assert_eq!(halved.end(file).await, b"");
    });
}

/// The server goes once more when much of a file was copied: that is not copied again.
#[test]
fn what_was_copied_is_not_copied_again() {
    const UNITS: usize = 2048;
    // So many requests of so many units at the same time; of two such lots it may not be known that they are durable.
    const LOST: usize = 2 * 16 * 4;
    run(async {
        let (halved, file) =
            Halved::new(async |fs, from| fs.mknod(&USER, from, b"file", Kind::File, 0o644, 0).await.unwrap().id).await;
        let (cluster, bytes) = (&halved.cluster, vec![7; UNITS << 16]);
        halved.fs.write(file, 0, 0, bytes.clone().into(), WriteFlags::default()).await.unwrap();
        // So that it is durable at once.
        cluster.nodes[1].script.logged.store(1 << 30, Ordering::SeqCst);
        let copied = || -> usize {
            let units = |entry: &Entry| match &entry.request {
                Request::Change { change: Change::Write { parts, .. }, .. } if entry.slot == 1 && entry.done => {
                    parts.len()
                }
                _ => 0,
            };
            cluster.journal.entries().iter().map(units).sum()
        };
        cluster.journal.keep();
        cluster.nodes[1].start();
        let deadline = Instant::now() + Duration::from_secs(20);
        while copied() < UNITS / 4 {
            assert!(Instant::now() < deadline, "{} units are copied: {}", copied(), cluster.events());
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        cluster.nodes[1].kill_and_wait().await;
        assert!(!cluster.events().contains("member caught up"), "{}", cluster.events());
        cluster.journal.take();
        cluster.nodes[1].start();
        cluster.wait_event("127.0.0.1:2 member caught up").await;
        assert!(copied() <= UNITS * 3 / 4 + LOST, "{} units are copied then", copied());
        assert_eq!(halved.end(file).await, bytes);
    });
}

/// A cut that only the member has noted is undone, also if it goes once more after its log was settled.
#[test]
fn a_cut_that_nobody_else_made_is_undone() {
    for again in [false, true] {
        run(async {
            let (halved, file) = Halved::new(async |fs, from| {
                let file = fs.mknod(&USER, from, b"file", Kind::File, 0o644, 0).await.unwrap().id;
                write(fs, file, 1).await;
                file
            })
            .await;
            let cluster = &halved.cluster;
            halved.fs.mknod(&USER, halved.from, b"new", Kind::File, 0o644, 0).await.unwrap();
            let cut = Change::Truncate { id: file, size: 70_000, brick_len: 70_000, mtime: None, mode: None };
            // In a generation of which nothing is in mind: that of `new`, which was completed without this member.
            halved.volume.sync_all().await.unwrap();
            offline::change_alone(cluster, 1, (cut, Timestamp { secs: 1_800_000_000, nanos: 5 }), 3).unwrap();
            cluster.journal.keep();
            cluster.nodes[1].start();
            if again {
                let deadline = Instant::now() + Duration::from_secs(20);
                let is_settled = |entry: &Entry| entry.slot == 1 && matches!(entry.request, Request::ReadUnits { .. });
                while !cluster.journal.entries().iter().any(is_settled) {
                    assert!(Instant::now() < deadline, "no units are looked at: {}", cluster.events());
                    tokio::time::sleep(Duration::from_micros(100)).await;
                }
                cluster.nodes[1].kill_and_wait().await;
                cluster.nodes[1].start();
            }
            cluster.wait_event("127.0.0.1:2 member caught up").await;
            assert_eq!(halved.end(file).await, vec![1; 100_000]);
        });
    }
}

/// Appends while one member is away, and again after it caught up and another is away: what is computed from it is right.
#[test]
fn what_is_computed_from_a_member_that_caught_up_is_right() {
    for (first, second) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        run(async {
            let mut cluster = Cluster::new(5, 3, 0);
            (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), Duration::from_secs(40));
            let fs = Fs::new(cluster.open().await.unwrap());
            let id = fs.mknod(&USER, ObjectId::ROOT, b"file", Kind::File, 0o644, 0).await.unwrap().id;
            let bytes: Vec<u8> = (0..469_193_u32).map(|at| (at / 7 % 251) as u8).collect();
            let write = async |range: std::ops::Range<usize>| {
                let part = Bytes::copy_from_slice(&bytes[range.clone()]);
                let written = fs.write(id, 0, range.start as u64, part, WriteFlags::default()).await;
                assert_eq!(written, Ok(range.len()), "{}", cluster.events());
            };
            cluster.nodes[first].kill_and_wait().await;
            write(0..469_163).await;
            cluster.wait_event("member dropped").await;
            // The second one finds what the first one left in the cache.
            write(469_163..469_173).await;
            write(469_173..469_183).await;
            cluster.nodes[first].start();
            cluster.wait_event("member caught up").await;
            cluster.nodes[second].kill_and_wait().await;
            write(469_183..469_193).await;
            let read = fs.read(id, 0, bytes.len(), true).await.unwrap();
            let differs = read.iter().zip(&bytes).position(|(read, written)| read != written);
            assert_eq!((differs, read.len()), (None, bytes.len()), "slots {first} and {second}");
            fs.close().await;
        });
    }
}

/// Files are cut at every kind of place while a member is away: its bytes and parity are those of the shorter file afterwards.
#[test]
fn cuts_that_were_missed_are_made() {
    for away in [0, 1, 2] {
        run(async {
            let mut cluster = Cluster::new(5, 3, 0);
            (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), Duration::from_secs(40));
            let fs = Fs::new(cluster.open().await.unwrap());
            let unit = 65_536_u64;
            let sizes: Vec<u64> =
                (1..8).flat_map(|units| [units * unit - 4096, units * unit - 5, units * unit]).collect();
            let mut files = Vec::new();
            for size in &sizes {
                let name = format!("{size}");
                let id = fs.mknod(&USER, ObjectId::ROOT, name.as_bytes(), Kind::File, 0o644, 0).await.unwrap().id;
                let bytes: Vec<u8> = (0..8 * unit).map(|at| (at / 7 % 251) as u8).collect();
                fs.write(id, 0, 0, bytes.into(), WriteFlags::default()).await.unwrap();
                files.push(id);
            }
            // So that what was written is older than what is missed.
            let handle = fs.open(files[0], libc::O_RDWR).await.unwrap();
            fs.fsync(files[0], false).await.unwrap();
            fs.release(files[0], handle);
            fs.close().await;
            let fs = Fs::new(cluster.open().await.unwrap());
            cluster.nodes[away].kill_and_wait().await;
            for (size, id) in sizes.iter().zip(&files) {
                fs.lookup(ObjectId::ROOT, format!("{size}").as_bytes()).await.unwrap();
                let set = SetAttrs { size: Some(*size), ..SetAttrs::default() };
                fs.setattr(&USER, *id, set).await.unwrap();
            }
            cluster.wait_event("member dropped").await;
            cluster.nodes[away].start();
            cluster.wait_event("member caught up").await;
            fs.close().await;
            for node in &cluster.nodes {
                node.kill_and_wait().await;
            }
            let contents = offline::check(&cluster, &[]).unwrap();
            assert_eq!(contents.current.len(), 3, "{}", cluster.events());
            for (size, id) in sizes.iter().zip(&files) {
                assert_eq!(contents.files[id].len() as u64, *size);
            }
        });
    }
}

/// What was done before the server went is not copied, also where no checkpoint came by; only what it missed is: what came until it was
/// dropped for good, and what came later.
#[test]
fn what_is_in_mind_is_not_looked_for() {
    for level in [1, 5, 6] {
        run(async {
            let mut cluster = Cluster::new(level, 5, 0);
            (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), Duration::from_secs(40));
            let fs = Fs::new(cluster.open().await.unwrap());
            let make = async |name: &str, byte: u8| {
                let id = fs.mknod(&USER, ObjectId::ROOT, name.as_bytes(), Kind::File, 0o644, 0).await.unwrap().id;
                let written = fs.write(id, 0, 0, Bytes::from(vec![byte; 1_000_000]), WriteFlags::default()).await;
                assert_eq!(written, Ok(1_000_000));
                id
            };
            let write = async |id: ObjectId, at: u64, byte: u8| {
                let written = fs.write(id, 0, at, Bytes::from(vec![byte; 4096]), WriteFlags::default()).await;
                assert_eq!(written, Ok(4096));
            };
            let cut = async |id: ObjectId, size: u64| {
                let set = SetAttrs { size: Some(size), ..SetAttrs::default() };
                fs.setattr(&USER, id, set).await.unwrap();
            };
            let mut files = Vec::new();
            for number in 0..20 {
                files.push(make(&number.to_string(), number).await);
            }
            cluster.nodes[1].kill_and_wait().await;
            let mut wanted: Vec<Vec<u8>> = (0..20).map(|number| vec![number; 1_000_000]).collect();
            // A cut after which it has the size of before, a block that is changed again later, names that come and go.
            cut(files[3], 10_000).await;
            cut(files[3], 1_000_000).await;
            wanted[3][10_000..].fill(0);
            write(files[4], 500_000, 99).await;
            wanted[4][500_000..504_096].fill(99);
            fs.rename(ObjectId::ROOT, b"5", ObjectId::ROOT, b"five", 0).await.unwrap();
            fs.unlink(ObjectId::ROOT, b"6").await.unwrap();
            cluster.wait_event("127.0.0.1:2 member dropped").await;
            write(files[4], 0, 98).await;
            wanted[4][..4096].fill(98);
            let new = make("new", 50).await;
            cluster.journal.keep();
            cluster.nodes[1].start();
            cluster.wait_event("127.0.0.1:2 member caught up").await;
            let written = |entry: &Entry| match &entry.request {
                Request::Change { change: Change::Write { id, .. }, .. } if entry.slot == 1 => Some(*id),
                _ => None,
            };
            let touched = [files[3], files[4], new];
            let others =
                cluster.journal.entries().iter().filter_map(written).filter(|id| !touched.contains(id)).count();
            assert_eq!(others, 0, "files are copied that it has: {}", cluster.events());
            fs.close().await;
            for node in &cluster.nodes {
                node.kill_and_wait().await;
            }
            let contents = offline::check(&cluster, &[]).unwrap();
            assert_eq!(contents.current.len(), 5, "{}", cluster.events());
            for (number, id) in files.iter().enumerate().filter(|(number, _)| *number != 6) {
                assert!(contents.files[id] == wanted[number], "file {number}");
            }
            assert!(!contents.files.contains_key(&files[6]));
            assert_eq!(contents.files[&new], vec![50; 1_000_000]);
        });
    }
}

/// The others were restarted, and have forgotten where files are that no program has open: nothing is lost for that, and nothing is
/// begun anew.
#[test]
fn what_the_others_forgot_is_not_lost() {
    run(async {
        let mut cluster = Cluster::new(5, 3, 0);
        (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), Duration::from_secs(40));
        let volume = cluster.open().await.unwrap();
        let fs = Fs::new(Arc::clone(&volume));
        let mut files = Vec::new();
        for number in 0..20 {
            let dir = fs.mkdir(&USER, ObjectId::ROOT, format!("{number}").as_bytes(), 0o755, 0).await.unwrap().id;
            files.push((dir, fs.mknod(&USER, dir, b"file", Kind::File, 0o644, 0).await.unwrap().id));
        }
        volume.sync_all().await.unwrap();
        cluster.nodes[2].kill_and_wait().await;
        for (_, file) in &files {
            write(&fs, *file, 1).await;
        }
        cluster.wait_event("127.0.0.1:3 member dropped").await;
        for (dir, file) in &files {
            fs.forget(*file, 1);
            fs.forget(*dir, 1);
        }
        for (at, server) in cluster.config.servers[..2].iter().enumerate() {
            cluster.nodes[at].kill_and_wait().await;
            cluster.nodes[at].start();
            cluster.wait_event(&format!("{server} server back, up to date")).await;
        }
        cluster.nodes[2].start();
        cluster.wait_event("127.0.0.1:3 member caught up").await;
        let events = cluster.events();
        assert!(!events.contains("beyond repair") && !events.contains("broken off"), "{events}");
        fs.close().await;
        for node in &cluster.nodes {
            node.kill_and_wait().await;
        }
        let contents = offline::check(&cluster, &[]).unwrap();
        assert_eq!(contents.current.len(), 3, "{events}");
        for (_, file) in &files {
            assert_eq!(contents.files[file], vec![1; 100_000]);
        }
    });
}

/// A file that somebody removed from a brick while its server had it open is no more: it is made anew.
#[test]
fn a_file_that_was_removed_behind_an_open_handle_comes_back() {
    run(async {
        let mut cluster = Cluster::new(1, 2, 0);
        (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), Duration::from_secs(40));
        let volume = cluster.open().await.unwrap();
        let fs = Fs::new(Arc::clone(&volume));
        let file = fs.mknod(&USER, ObjectId::ROOT, b"file", Kind::File, 0o644, 0).await.unwrap().id;
        write(&fs, file, 1).await;
        std::fs::remove_file(cluster.nodes[1].dir.join("file")).unwrap();
        fs.rename(ObjectId::ROOT, b"file", ObjectId::ROOT, b"renamed", 0).await.unwrap();
        cluster.wait_event("127.0.0.1:2 member dropped").await;
        cluster.wait_event("127.0.0.1:2 member caught up").await;
        let events = cluster.events();
        assert!(!events.contains("broken off"), "{events}");
        write(&fs, file, 2).await;
        fs.close().await;
        for node in &cluster.nodes {
            node.kill_and_wait().await;
        }
        let contents = offline::check(&cluster, &[]).unwrap();
        assert_eq!(contents.current.len(), 2, "{}", cluster.events());
        assert_eq!(contents.files[&file], vec![2; 100_000]);
    });
}

/// Of a large directory from which names went, those are read that are in the same parts, and no others; and nothing is searched for
/// that is gone.
#[test]
fn few_names_of_a_large_directory_are_read() {
    const NAMES: usize = 2500;
    run(async {
        let (halved, ()) = Halved::new(async |fs, from| {
            for number in 0..NAMES {
                let name = format!("{number}");
                fs.mknod(&USER, from, name.as_bytes(), Kind::File, 0o644, 0).await.unwrap();
            }
        })
        .await;
        let (fs, cluster, from, to) = (&halved.fs, &halved.cluster, halved.from, halved.to);
        for number in [b"17", b"18"] {
            fs.unlink(from, number).await.unwrap();
        }
        fs.rename(from, b"19", from, b"new", 0).await.unwrap();
        fs.rename(from, b"20", to, b"moved", 0).await.unwrap();
        let id = fs.lookup(from, b"21").await.unwrap().id;
        fs.link(id, to, b"link").await.unwrap();
        let file = fs.lookup(from, b"22").await.unwrap().id;
        write(fs, file, 1).await;
        let id = fs.lookup(from, b"23").await.unwrap().id;
        fs.setattr(&USER, id, SetAttrs { mode: Some(0o600), ..SetAttrs::default() }).await.unwrap();
        cluster.journal.keep();
        cluster.nodes[1].start();
        cluster.wait_event("127.0.0.1:2 member caught up").await;
        let (mut whole, mut parts) = (Vec::new(), 0);
        for entry in cluster.journal.entries().iter().filter(|entry| entry.done) {
            match &entry.request {
                Request::ReadDir { .. } => whole.push(entry.clone()),
                Request::ReadNames { id, cursor: 0, parts: NameParts(some) } if *id == from => {
                    parts += some.count_ones();
                }
                _ => {}
            }
        }
        assert!(whole.is_empty(), "{whole:?}");
        // Of four names that went, on both sides.
        assert!((1..=2 * 4).contains(&parts), "{parts} parts of names");
        assert_eq!(halved.end(file).await, vec![1; 100_000]);
    });
}
