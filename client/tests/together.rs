//! Members that are healed at the same time share what is read for them.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, offline};
use net_raid_client::fs::{Caller, Fs, WriteFlags};
use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::{Kind, Request};

const USER: Caller = Caller { uid: 0, gid: 0, pid: 0 };
const MIB: usize = 1 << 20;
/// Files beside the large one, and what is in each.
const SMALL: usize = 200;
const SMALL_BYTES: usize = 20_000;
const LARGE_BYTES: usize = 64 * MIB;

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// Bytes that tell files and places apart.
fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 5 % 251 + seed) as u8).collect()
}

async fn make(fs: &Fs, name: &str, content: &[u8]) -> ObjectId {
    let id = fs.mknod(&USER, ObjectId::ROOT, name.as_bytes(), Kind::File, 0o644, 0).await.unwrap().id;
    for (number, part) in content.chunks(MIB).enumerate() {
        let part = Bytes::copy_from_slice(part);
        let len = part.len();
        let written = fs.write(id, 0, (number * MIB) as u64, part, WriteFlags::default()).await;
        assert_eq!(written, Ok(len));
    }
    id
}

/// Has spares rebuild these members of a volume with many small files and a large one in between. Returns how many bytes the others
/// served for that.
async fn read_for(level: u8, servers: usize, gone: &[usize]) -> usize {
    let mut cluster = Cluster::new(level, servers, gone.len());
    (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), Duration::from_secs(2));
    let fs = Fs::new(cluster.open().await.unwrap());
    let mut files = Vec::new();
    for number in 0..=SMALL {
        let len = if number == SMALL / 2 { LARGE_BYTES } else { SMALL_BYTES };
        let content = bytes(number, len);
        files.push((make(&fs, &format!("{number}"), &content).await, content));
    }
    // Both at the same moment.
    gone.iter().for_each(|node| cluster.nodes[*node].kill());
    cluster.journal.keep();
    for spare in 0..gone.len() {
        cluster.wait_event(&format!("127.0.0.1:{} member caught up", servers + spare + 1)).await;
    }
    let read = cluster.journal.take().into_iter().filter(|entry| entry.done).map(|entry| match entry.request {
        Request::Read { parts, .. } => parts.iter().map(|part| part.len as usize).sum(),
        _ => 0,
    });
    let read = read.sum();
    fs.close().await;
    for node in &cluster.nodes {
        node.kill_and_wait().await;
    }
    let contents = offline::check(&cluster, &[]).unwrap();
    assert_eq!(contents.current.len(), servers, "{}", cluster.events());
    for (id, content) in &files {
        assert!(contents.files[id] == *content, "{id:?} differs");
    }
    read
}

/// What the others serve for two is little more than for one of them.
#[test]
fn two_are_rebuilt_with_the_reads_of_one() {
    for (level, servers, gone) in [(1, 3, [1, 2]), (6, 4, [0, 3]), (6, 5, [1, 2])] {
        run(async {
            let one = read_for(level, servers, &gone[..1]).await;
            let two = read_for(level, servers, &gone).await;
            assert!(two * 4 <= one * 5, "RAID-{level} of {servers}: {one} bytes are read for one, {two} for two");
        });
    }
}
