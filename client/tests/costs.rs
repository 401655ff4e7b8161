//! What operations cost in requests to bricks. Nothing is timed: a change that makes something slower by asking more is noticed everywhere.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::Cluster;
use net_raid_client::fs::{Caller, Fs, SetAttrs, WriteFlags};
use net_raid_client::volume::Volume;
use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::Request;
use tokio::time::Instant;

const USER: Caller = Caller { uid: 0, gid: 0, pid: 0 };
const ROOT: ObjectId = ObjectId::ROOT;
const BLOCK: usize = 4096;
/// Of several stripes on any array.
const LARGE: usize = 1 << 20;

struct Rig {
    cluster: Cluster,
    volume: Arc<Volume>,
    fs: Arc<Fs>,
}

/// The name of a request, and of the change where it is one.
fn kind(request: &Request) -> String {
    let word = |text: String| text.chars().take_while(|c| c.is_alphanumeric()).collect::<String>();
    match request {
        Request::Change { change, .. } => word(format!("{change:?}")),
        other => word(format!("{other:?}")),
    }
}

/// How long what nobody waits for may take.
const SOON: Duration = Duration::from_secs(20);

/// What is asked now and then, whatever else is.
fn is_beat(request: &Request) -> bool {
    matches!(request, Request::Ping)
}

impl Rig {
    async fn new(level: u8, servers: usize) -> Rig {
        let cluster = Cluster::new(level, servers, 0);
        let volume = cluster.open().await.unwrap();
        let fs = Fs::new(Arc::clone(&volume));
        cluster.journal.keep();
        Rig { cluster, volume, fs }
    }

    /// Waits until bricks were asked so many of that.
    async fn wait_asked(&self, what: &str, times: usize) {
        let deadline = Instant::now() + SOON;
        let asked = || {
            self.cluster.journal.entries().iter().filter(|entry| !entry.done && kind(&entry.request) == what).count()
        };
        while asked() < times {
            assert!(Instant::now() < deadline, "{} of {times} {what}", asked());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What all bricks together were asked while something was done: how many of which requests.
    async fn cost<T>(&self, done: impl Future<Output = T>) -> (T, String) {
        self.cluster.journal.take();
        let result = done.await;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for entry in self.cluster.journal.take().iter().filter(|entry| !entry.done && !is_beat(&entry.request)) {
            *counts.entry(kind(&entry.request)).or_default() += 1;
        }
        (result, counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", "))
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// Of a volume over `servers`, of which a stripe of bytes is read from `readers`: every step, and what it may cost at most.
async fn check_costs(level: u8, servers: usize, readers: usize) {
    let rig = Rig::new(level, servers).await;
    let fs = &rig.fs;
    let all = |kind: &str| format!("{servers} {kind}");
    let check =
        |what: &str, wanted: String, cost: String| assert_eq!(cost, wanted, "RAID-{level} of {servers}: {what}");
    // What is known of the root from then on.
    let dir = fs.mkdir(&USER, ROOT, b"dir", 0o755, 0).await.unwrap().id;
    let (missing, cost) = rig.cost(fs.lookup(ROOT, b"file")).await;
    assert!(missing.is_err());
    // Members are compared: a few may have lost a name, or have an old version behind it.
    check("a lookup of what is not there", all("Lookup"), cost);
    let (missing, cost) = rig.cost(fs.lookup(dir, b"file")).await;
    assert!(missing.is_err());
    check("a lookup in what was just made", String::new(), cost);
    let (made, cost) = rig.cost(fs.create(&USER, ROOT, b"file", 0o644, 0, libc::O_RDWR)).await;
    check("a create", all("Create"), cost);
    let (id, handle) = made.map(|(stat, handle)| (stat.id, handle)).unwrap();
    let write = |at: usize, len: usize| {
        let bytes = Bytes::from(vec![7; len]);
        async move { assert_eq!(fs.write(id, handle, at as u64, bytes, WriteFlags::default()).await, Ok(len)) }
    };
    check("a first write", all("Write"), rig.cost(write(0, BLOCK)).await.1);
    check("an overwrite", all("Write"), rig.cost(write(0, BLOCK)).await.1);
    check("a write of whole stripes", all("Write"), rig.cost(write(0, LARGE)).await.1);
    check("an fsync", all("Fsync"), rig.cost(async { fs.fsync(id, false).await.unwrap() }).await.1);
    check("a flush", String::new(), rig.cost(async { fs.flush(id, handle).await.unwrap() }).await.1);
    check("a small read", "1 Read".into(), rig.cost(async { fs.read(id, 0, BLOCK, true).await.unwrap() }).await.1);
    let read = rig.cost(async { fs.read(id, 0, LARGE, true).await.unwrap() }).await;
    assert_eq!(read.0.len(), LARGE);
    check("a large read", format!("{readers} Read"), read.1);
    check("a stat", String::new(), rig.cost(async { fs.getattr(id).await.unwrap() }).await.1);
    let mode = SetAttrs { mode: Some(0o600), ..SetAttrs::default() };
    check("a chmod", all("SetAttr"), rig.cost(async { fs.setattr(&USER, id, mode).await.unwrap() }).await.1);
    // The kernel looks for the new name before.
    let missing = rig.cost(fs.lookup(ROOT, b"renamed")).await;
    assert!(missing.0.is_err());
    check("a lookup of another", all("Lookup"), missing.1);
    let rename = rig.cost(async { fs.rename(ROOT, b"file", ROOT, b"renamed", 0).await.unwrap() }).await;
    check("a rename", all("Rename"), rename.1);
    let release = async {
        fs.release(id, handle);
        rig.wait_asked("Release", servers).await;
    };
    check("a close", all("Release"), rig.cost(release).await.1);
    // The kernel forgets it, and `ls -l` looks at it: it asks for labels and ACLs.
    fs.forget(id, 1);
    check("a lookup", all("Lookup"), rig.cost(async { fs.lookup(ROOT, b"renamed").await.unwrap() }).await.1);
    let label = rig.cost(async { assert!(fs.getxattr(id, b"security.selinux").await.is_err()) }).await;
    check("attributes that hardly any file has", "1 ListXattr".into(), label.1);
    let others = rig.cost(async {
        for name in ["system.posix_acl_access", "security.capability"] {
            assert!(fs.getxattr(id, name.as_bytes()).await.is_err());
        }
    });
    check("more of them", String::new(), others.await.1);
    let reader = fs.open(id, libc::O_RDONLY).await.unwrap();
    fs.release(id, reader);
    check(
        "an open and a close of what was not written, and an unlink",
        all("Unlink"),
        rig.cost(async { fs.unlink(ROOT, b"renamed").await.unwrap() }).await.1,
    );
    check(
        "a sync",
        format!("{}, {}", all("Checkpoint"), all("Complete")),
        rig.cost(async { rig.volume.sync_all().await.unwrap() }).await.1,
    );
    fs.close().await;
}

#[test]
fn costs_of_raid1x2() {
    run(check_costs(1, 2, 1));
}

#[test]
fn costs_of_raid5x3() {
    run(check_costs(5, 3, 3));
}

#[test]
fn costs_of_raid6x6() {
    run(check_costs(6, 6, 6));
}
