//! Servers that are away for a moment, where order and redundancy are tight.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, offline};
use net_raid_client::fs::{Caller, Fs, WriteFlags};
use net_raid_proto::ids::ObjectId;

const USER: Caller = Caller { uid: 0, gid: 0, pid: 0 };

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// A mounted RAID-5 of three with a file, whose stall no slow machine reaches.
struct Mounted {
    cluster: Cluster,
    fs: Arc<Fs>,
    file: ObjectId,
    handle: u64,
}

impl Mounted {
    async fn new(stall: Duration) -> Mounted {
        let mut cluster = Cluster::new(5, 3, 0);
        (cluster.config.stall, cluster.config.timeout) = (stall, Duration::from_secs(40));
        let fs = Fs::new(cluster.open().await.unwrap());
        let (stat, handle) = fs.create(&USER, ObjectId::ROOT, b"f", 0o644, 0, libc::O_RDWR).await.unwrap();
        Mounted { cluster, fs, file: stat.id, handle }
    }

    async fn write(&self, byte: u8) {
        let bytes = Bytes::from(vec![byte; 300_000]);
        let written = self.fs.write(self.file, self.handle, 0, bytes, WriteFlags::default()).await;
        assert_eq!(written, Ok(300_000), "{}", self.cluster.events());
    }

    /// Unmounts, and says what the bricks hold, and which count.
    async fn end(self) -> (Vec<u8>, usize) {
        self.fs.release(self.file, self.handle);
        self.fs.close().await;
        for node in &self.cluster.nodes {
            node.kill_and_wait().await;
        }
        let mut contents = offline::check(&self.cluster, &[]).unwrap();
        (contents.files.remove(&self.file).unwrap(), contents.current.len())
    }
}

/// The second server that goes cannot be dropped before the first one is back, and a change waits for that: the first one must
/// not wait for the change.
#[test]
fn who_is_back_makes_room_for_another_to_go() {
    run(async {
        let mounted = Mounted::new(Duration::from_secs(8)).await;
        mounted.write(1).await;
        mounted.cluster.nodes[0].kill_and_wait().await;
        mounted.write(2).await;
        mounted.cluster.nodes[1].kill_and_wait().await;
        let waits = async {
            mounted.write(3).await;
        };
        let back = async {
            mounted.cluster.wait_event("volume offline").await;
            mounted.cluster.nodes[0].start();
            mounted.cluster.wait_event("127.0.0.1:1 server back, up to date").await;
        };
        tokio::join!(waits, back);
        mounted.write(4).await;
        let events = mounted.cluster.events();
        assert!(!events.contains("127.0.0.1:1 member dropped"), "{events}");
        assert_eq!(mounted.end().await, (vec![4; 300_000], 2));
    });
}

#[test]
fn who_is_not_back_within_the_stall_catches_up() {
    run(async {
        let mounted = Mounted::new(Duration::from_millis(500)).await;
        mounted.cluster.nodes[2].kill_and_wait().await;
        mounted.write(1).await;
        mounted.cluster.wait_event("127.0.0.1:3 member dropped").await;
        mounted.cluster.nodes[2].start();
        mounted.cluster.wait_event("127.0.0.1:3 server back, stays out until caught up").await;
        mounted.write(2).await;
        mounted.cluster.wait_event("127.0.0.1:3 member caught up").await;
        assert_eq!(mounted.end().await, (vec![2; 300_000], 3));
    });
}
