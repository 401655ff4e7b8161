//! What a user opens while a member is healed is made equal there before all else.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::liar::Entry;
use common::{Cluster, offline};
use net_raid_client::fs::{Caller, Fs, WriteFlags};
use net_raid_client::volume::Volume;
use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::{Change, Kind, Request};
use tokio::time::Instant;

const USER: Caller = Caller { uid: 0, gid: 0, pid: 0 };
const ROOT: ObjectId = ObjectId::ROOT;
const BYTES: usize = 50_000;

/// A mirror with a spare, and directories with files in them.
struct Mirror {
    cluster: Cluster,
    volume: Arc<Volume>,
    fs: Arc<Fs>,
    dirs: Vec<ObjectId>,
    files: Vec<ObjectId>,
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

impl Mirror {
    async fn new(spares: usize, dirs: usize, files: usize, timeout: Duration) -> Mirror {
        let mut cluster = Cluster::new(1, 2, spares);
        (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), timeout);
        let volume = cluster.open().await.unwrap();
        let fs = Fs::new(Arc::clone(&volume));
        let mut mirror = Mirror { cluster, volume, fs, dirs: Vec::new(), files: Vec::new() };
        for dir in 0..dirs {
            let dir = mirror.fs.mkdir(&USER, ROOT, format!("{dir}").as_bytes(), 0o755, 0).await.unwrap().id;
            mirror.dirs.push(dir);
            for file in 0..files {
                let name = format!("{file}");
                let file = mirror.fs.mknod(&USER, dir, name.as_bytes(), Kind::File, 0o644, 0).await.unwrap().id;
                mirror.files.push(file);
            }
        }
        mirror.write_all(1).await;
        mirror
    }

    async fn write_all(&self, byte: u8) {
        for file in &self.files {
            let written = self.fs.write(*file, 0, 0, vec![byte; BYTES].into(), WriteFlags::default()).await;
            assert_eq!(written, Ok(BYTES));
        }
    }

    /// Opens the last file of the last directory.
    async fn open_last(&self) -> ObjectId {
        let id = *self.files.last().unwrap();
        let handle = self.fs.open(id, libc::O_RDONLY).await.unwrap();
        self.fs.release(id, handle);
        id
    }

    /// Waits until a brick was asked something.
    async fn wait_asked(&self, slot: usize, asked: impl Fn(&Request) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let is_it = |entry: &Entry| entry.slot == slot && asked(&entry.request);
        while !self.cluster.journal.entries().iter().any(is_it) {
            assert!(Instant::now() < deadline, "it is not asked: {}", self.cluster.events());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How many changes of a kind a brick was asked for before the first write of a file.
    fn before(&self, slot: usize, file: ObjectId, kind: impl Fn(&Change) -> bool) -> usize {
        let entries = self.cluster.journal.entries();
        let changes = entries.iter().filter(|entry| entry.slot == slot && !entry.done);
        let changes = changes.filter_map(|entry| match &entry.request {
            Request::Change { change, .. } => Some(change),
            _ => None,
        });
        changes.take_while(|change| written(change) != Some(file)).filter(|change| kind(change)).count()
    }

    /// Unmounts, and checks that both have all.
    async fn end(self, byte: u8) {
        self.fs.close().await;
        for node in &self.cluster.nodes {
            node.kill_and_wait().await;
        }
        let contents = offline::check(&self.cluster, &[]).unwrap();
        assert_eq!(contents.current.len(), 2, "{}", self.cluster.events());
        assert!(self.files.iter().all(|file| contents.files[file] == vec![byte; BYTES]));
    }
}

fn written(change: &Change) -> Option<ObjectId> {
    match change {
        Change::Write { id, .. } => Some(*id),
        _ => None,
    }
}

/// While bytes are copied: not even those are waited for that are being copied.
#[test]
fn a_file_that_is_opened_is_copied_before_others() {
    run(async {
        let mirror = Mirror::new(1, 1, 200, Duration::from_secs(2)).await;
        let spare = &mirror.cluster.nodes[2].script;
        mirror.cluster.journal.keep();
        spare.hold_writes(Some(0));
        mirror.cluster.nodes[1].kill_and_wait().await;
        mirror.wait_asked(2, |request| matches!(request, Request::Change { change: Change::Write { .. }, .. })).await;
        let last = mirror.open_last().await;
        mirror
            .wait_asked(2, |request| match request {
                Request::Change { change, .. } => written(change) == Some(last),
                _ => false,
            })
            .await;
        spare.hold_writes(None);
        mirror.cluster.wait_event("127.0.0.1:3 member caught up").await;
        let before = mirror.before(2, last, |change| written(change).is_some());
        assert!(before <= 20, "{before} files come first");
        mirror.end(1).await;
    });
}

/// Before it is there: with the names above it, and none beside.
#[test]
fn a_file_that_is_opened_is_made_before_others() {
    run(async {
        let mirror = Mirror::new(1, 10, 20, Duration::from_secs(2)).await;
        mirror.cluster.journal.keep();
        mirror.cluster.nodes[0].script.hold_directory(Some(ROOT));
        mirror.cluster.nodes[1].kill_and_wait().await;
        mirror.wait_asked(0, |request| matches!(request, Request::ReadChanged { .. })).await;
        let last = mirror.open_last().await;
        mirror.cluster.nodes[0].script.hold_directory(None);
        mirror.cluster.wait_event("127.0.0.1:3 member caught up").await;
        let before = mirror.before(2, last, |_| true);
        assert!(before <= 20, "{before} changes come first");
        mirror.end(1).await;
    });
}

/// While it is found out what differs.
#[test]
fn a_file_that_is_opened_is_brought_up_to_date_before_others() {
    run(async {
        let mirror = Mirror::new(0, 2, 50, Duration::from_secs(40)).await;
        mirror.cluster.nodes[1].kill_and_wait().await;
        mirror.write_all(2).await;
        mirror.cluster.wait_event("127.0.0.1:2 member dropped").await;
        // It is in mind what is missed until now: what follows has to be found.
        mirror.volume.sync_all().await.unwrap();
        mirror.write_all(3).await;
        mirror.cluster.journal.keep();
        let first = mirror.dirs[0];
        mirror.cluster.nodes[0].script.hold_directory(Some(first));
        mirror.cluster.nodes[1].start();
        mirror.wait_asked(0, |request| matches!(request, Request::ReadChanged { id, .. } if *id == first)).await;
        let last = mirror.open_last().await;
        mirror.cluster.nodes[0].script.hold_directory(None);
        mirror.cluster.wait_event("127.0.0.1:2 member caught up").await;
        let before = mirror.before(1, last, |change| written(change).is_some());
        assert!(before == 0, "{before} files come first");
        mirror.end(3).await;
    });
}
