//! Times of objects, as they are after a remount.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::Cluster;
use net_raid_client::fs::{Caller, Fs, SetAttrs, SetTime, Stat, WriteFlags};
use net_raid_proto::ids::{ObjectId, Timestamp};

const ROOT_USER: Caller = Caller { uid: 0, gid: 0, pid: 0 };
const FROM_CACHE: WriteFlags = WriteFlags { from_cache: true, kill_suidgid: false, append: false };
/// What the kernel gave the file's pages.
const WRITTEN: Timestamp = Timestamp { secs: 1_700_000_500, nanos: 7 };

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

async fn mount(cluster: &Cluster) -> Arc<Fs> {
    Fs::new(cluster.open().await.unwrap())
}

async fn create(fs: &Fs) -> (ObjectId, u64) {
    let made = fs.create(&ROOT_USER, ObjectId::ROOT, b"f", 0o644, 0, libc::O_RDWR).await.unwrap();
    (made.0.id, made.1)
}

/// The file as a new mount sees it.
async fn after_remount(cluster: &Cluster, fs: &Fs) -> Stat {
    fs.close().await;
    mount(cluster).await.lookup(ObjectId::ROOT, b"f").await.unwrap()
}

#[test]
fn two_writes_of_dirty_pages_within_one_tick_leave_the_mtime_that_the_kernel_sent_once() {
    run(async {
        let cluster = Cluster::new(1, 2, 0);
        let fs = mount(&cluster).await;
        let (id, handle) = create(&fs).await;
        fs.write(id, handle, 0, Bytes::from_static(b"first"), FROM_CACHE).await.unwrap();
        let flushed = SetAttrs { mtime: Some(SetTime::At(WRITTEN)), ctime: Some(WRITTEN), ..SetAttrs::default() };
        fs.setattr(&ROOT_USER, id, flushed).await.unwrap();
        fs.write(id, handle, 5, Bytes::from_static(b"second"), FROM_CACHE).await.unwrap();
        fs.flush(id, handle).await.unwrap();
        assert_eq!(fs.getattr(id).await.unwrap().mtime, WRITTEN);
        assert_eq!(after_remount(&cluster, &fs).await.mtime, WRITTEN);
    });
}

#[test]
fn a_read_after_a_change_moves_the_atime_once() {
    run(async {
        let cluster = Cluster::new(1, 2, 0);
        let fs = mount(&cluster).await;
        let (id, handle) = create(&fs).await;
        fs.write(id, handle, 0, Bytes::from_static(b"bytes"), WriteFlags::default()).await.unwrap();
        let written = fs.getattr(id).await.unwrap();
        fs.read(id, 0, 5, true).await.unwrap();
        assert_eq!(fs.getattr(id).await.unwrap().atime, written.atime, "O_NOATIME");
        fs.read(id, 0, 5, false).await.unwrap();
        let read = fs.getattr(id).await.unwrap();
        assert!(read.atime > written.mtime);
        assert_eq!((read.mtime, read.ctime), (written.mtime, written.ctime));
        fs.read(id, 0, 5, false).await.unwrap();
        assert_eq!(fs.getattr(id).await.unwrap().atime, read.atime);
        let after = after_remount(&cluster, &fs).await;
        assert_eq!((after.atime, after.mtime, after.ctime), (read.atime, read.mtime, read.ctime));
    });
}
