//! Dirty pages that could not be written: whoever may have written them hears of it.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::Cluster;
use net_raid_client::fs::{Caller, Errno, Fs, WriteFlags};
use net_raid_proto::ids::ObjectId;

const USER: Caller = Caller { uid: 0, gid: 0, pid: 0 };
const FROM_CACHE: WriteFlags = WriteFlags { from_cache: true, kill_suidgid: false, append: false };

#[test]
fn every_descriptor_that_was_open_is_closed_with_an_error_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::new(5, 3, 0);
        cluster.config.timeout = Duration::from_millis(500);
        let fs = Fs::new(cluster.open().await.unwrap());
        let (stat, first) = fs.create(&USER, ObjectId::ROOT, b"f", 0o644, 0, libc::O_RDWR).await.unwrap();
        let second = fs.open(stat.id, libc::O_WRONLY).await.unwrap();
        let reader = fs.open(stat.id, libc::O_RDONLY).await.unwrap();
        assert_eq!(fs.flush(stat.id, first).await, Ok(()));
        for node in &cluster.nodes[1..] {
            node.kill_and_wait().await;
        }
        let page = || Bytes::from(vec![7; 4096]);
        assert_eq!(fs.write(stat.id, first, 0, page(), FROM_CACHE).await, Err(Errno::EIO));
        for node in &cluster.nodes[1..] {
            node.start();
        }
        cluster.wait_event("volume online").await;
        // The kernel writes other pages with success meanwhile.
        fs.write(stat.id, second, 8192, page(), FROM_CACHE).await.unwrap();
        let third = fs.open(stat.id, libc::O_RDWR).await.unwrap();
        for handle in [first, second] {
            assert_eq!(fs.flush(stat.id, handle).await, Err(Errno::EIO));
            assert_eq!(fs.flush(stat.id, handle).await, Ok(()));
        }
        for handle in [third, reader] {
            assert_eq!(fs.flush(stat.id, handle).await, Ok(()));
        }
        for handle in [first, second, third, reader] {
            fs.release(stat.id, handle);
        }
        fs.close().await;
    });
}
