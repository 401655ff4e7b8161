//! A server whose disk is slow, though it lives, slows no reads down: others are read.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Cluster, create};
use net_raid_client::volume::{File, Volume, WriteMeta};
use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::Request;

/// Far above what reads take that need not wait, and far below the time for which a slow server is held.
const SOON: Duration = Duration::from_secs(10);
/// Several stripes, and a rest.
const LEN: usize = 3_000_001;

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

fn content() -> Vec<u8> {
    (0..LEN).map(|at| ((at * 31) >> 7) as u8).collect()
}

/// A mounted volume with files that nothing is cached of.
async fn prepared(level: u8, servers: usize) -> (Cluster, Arc<Volume>, Vec<Arc<File>>) {
    let mut cluster = Cluster::new(level, servers, 0);
    // Whoever is waited for is waited for longer than the test lasts.
    (cluster.config.timeout, cluster.config.cache_size) = (Duration::from_secs(60), 0);
    let volume = cluster.open().await.unwrap();
    let mut files = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let file = create(&volume, name).await;
        volume.write(&file, 0, Bytes::from(content()), WriteMeta::default()).await.unwrap();
        files.push(file);
    }
    (cluster, volume, files)
}

async fn read_everything(volume: &Volume, files: &[Arc<File>]) {
    for file in files {
        let all = volume.read(file, 0, LEN).await.unwrap();
        assert!(all == content(), "wrong bytes");
        for offset in (0..LEN).step_by(200_000) {
            let some = volume.read(file, offset as u64, 5000).await.unwrap();
            assert!(some == content()[offset..LEN.min(offset + 5000)], "wrong bytes at {offset}");
        }
        volume.getattr(file.id).await.unwrap();
    }
    assert_eq!(volume.read_dir(ObjectId::ROOT, true).await.unwrap().len(), files.len());
}

fn slow(cluster: &Cluster, nodes: &[usize], slow: bool) {
    for node in nodes {
        let script = &cluster.nodes[*node].script;
        script.slow_reads.store(slow, Ordering::SeqCst);
        script.hold(slow);
    }
}

#[test]
fn slow_servers_slow_no_reads_down() {
    for (level, servers, nodes) in [(1, 2, &[1][..]), (1, 3, &[0, 2]), (5, 3, &[0]), (6, 6, &[2, 5])] {
        run(async {
            let (cluster, volume, files) = prepared(level, servers).await;
            slow(&cluster, nodes, true);
            let start = Instant::now();
            read_everything(&volume, &files).await;
            assert!(start.elapsed() < SOON, "RAID-{level}: {:?}", start.elapsed());
            slow(&cluster, nodes, false);
            volume.close().await;
            let events = cluster.events();
            assert!(!events.contains("dropped") && !events.contains("lost"), "{events}");
        });
    }
}

#[test]
fn where_too_many_are_slow_reads_wait() {
    for (level, servers, nodes) in [(1, 2, &[0, 1][..]), (5, 3, &[0, 1]), (6, 5, &[0, 1, 4])] {
        run(async {
            let (cluster, volume, files) = prepared(level, servers).await;
            slow(&cluster, nodes, true);
            let mut reading = tokio::spawn({
                let (volume, files) = (Arc::clone(&volume), files.clone());
                async move { read_everything(&volume, &files).await }
            });
            // Longer than any patience with one server.
            let early = tokio::time::timeout(Duration::from_secs(2), &mut reading).await;
            assert!(early.is_err(), "RAID-{level}: nobody was waited for");
            slow(&cluster, nodes, false);
            tokio::time::timeout(SOON, reading).await.expect("the reads end").unwrap();
            volume.close().await;
            assert!(!cluster.events().contains("dropped"), "{}", cluster.events());
        });
    }
}

#[test]
fn who_is_fast_again_is_read_again() {
    run(async {
        let (cluster, volume, files) = prepared(5, 3).await;
        slow(&cluster, &[0], true);
        read_everything(&volume, &files).await;
        slow(&cluster, &[0], false);
        cluster.journal.keep();
        let deadline = Instant::now() + Duration::from_secs(40);
        let is_read =
            || cluster.journal.take().iter().any(|e| e.slot == 0 && matches!(e.request, Request::Read { .. }));
        while !is_read() {
            assert!(Instant::now() < deadline, "it is not read any more");
            read_everything(&volume, &files).await;
        }
        volume.close().await;
    });
}
