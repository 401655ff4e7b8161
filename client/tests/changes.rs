//! Changes that some members make late, or have no room for, and what is done in which order.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use common::liar::Entry;
use common::{Cluster, create, offline, read_all};
use net_raid_client::volume::{Volume, WriteMeta};
use net_raid_proto::ids::{Name, ObjectId};
use net_raid_proto::message::{Change, RenameTarget, Request};

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

async fn end(cluster: &Cluster, volume: Arc<Volume>) -> offline::Contents {
    volume.close().await;
    for node in &cluster.nodes {
        node.kill_and_wait().await;
    }
    offline::check(cluster, &[]).unwrap()
}

/// A cut is never taken back, and a write that some member lost with its power is: so all writes to what is left of a block
/// or of a stripe have to be durable on all members before one of them cuts.
#[test]
fn what_is_left_of_a_stripe_is_durable_before_any_member_cuts() {
    run(async {
        for (level, servers) in [(1, 2), (5, 3), (6, 4)] {
            let cluster = Cluster::new(level, servers, 0);
            let volume = cluster.open().await.unwrap();
            let file = create(&volume, "f").await;
            volume.write(&file, 0, vec![1; 300_000].into(), WriteMeta::default()).await.unwrap();
            cluster.journal.keep();
            volume.truncate(&file, 140_001, WriteMeta::default()).await.unwrap();
            let entries = cluster.journal.take();
            let is_cut = |e: &Entry| matches!(e.request, Request::Change { change: Change::Truncate { .. }, .. });
            let is_write = |e: &Entry| matches!(e.request, Request::Change { change: Change::Write { .. }, .. });
            let first_cut = entries.iter().position(is_cut).expect("it is cut");
            let last_write = entries.iter().rposition(|e| is_write(e) && e.done).expect("zeros behind the end");
            assert!(last_write < first_cut);
            for slot in 0..servers {
                let synced =
                    |e: &Entry| matches!(e.request, Request::Fsync { id, .. } if id == file.id) && e.slot == slot;
                let begun = entries.iter().position(|e| synced(e) && !e.done).expect("it is synced");
                let done = entries.iter().position(|e| synced(e) && e.done).expect("it is synced");
                assert!(last_write < begun && done < first_cut, "level {level}, slot {slot}");
            }
            assert_eq!(end(&cluster, volume).await.files[&file.id], vec![1; 140_001]);
        }
    });
}

/// One server is out for good, and the second one is back before the third has answered.
#[test]
fn a_change_is_repeated_for_who_was_back_before_others_answered() {
    run(async {
        let mut cluster = Cluster::new(5, 3, 0);
        (cluster.config.stall, cluster.config.timeout) = (Duration::from_secs(4), Duration::from_secs(12));
        let volume = cluster.open().await.unwrap();
        let file = create(&volume, "f").await;
        cluster.nodes[2].kill_and_wait().await;
        volume.write(&file, 0, vec![1; 10_000].into(), WriteMeta::default()).await.unwrap();
        // Nothing changes any more that could wake who waits.
        cluster.wait_event("127.0.0.1:3 member dropped").await;
        let (gone, slow) = (&cluster.nodes[0], &cluster.nodes[1]);
        gone.freeze(true);
        slow.freeze(true);
        let fresh = create(&volume, "g");
        let back = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            gone.kill_and_wait().await;
            cluster.wait_event("volume offline").await;
            gone.freeze(false);
            gone.start();
            cluster.wait_event("volume online").await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            slow.freeze(false);
        };
        let (fresh, ()) = tokio::join!(fresh, back);
        volume.write(&fresh, 0, vec![2; 10_000].into(), WriteMeta::default()).await.unwrap();
        assert_eq!(read_all(&volume, &fresh).await, vec![2; 10_000]);
        assert_eq!(end(&cluster, volume).await.current.len(), 2);
    });
}

/// A name cannot be given back where the rename was done, because there may be no room for that either; and two of three
/// members cannot be dropped.
#[test]
fn what_most_members_have_no_room_for_is_repeated_until_they_have() {
    run(async {
        let cluster = Cluster::new(5, 3, 0);
        let volume = cluster.open().await.unwrap();
        let file = create(&volume, "f").await;
        for node in &cluster.nodes[1..] {
            node.script.full_renames.store(3, Ordering::SeqCst);
        }
        let name = |text: &str| Name::new(text.as_bytes()).unwrap();
        let rename = Change::Rename {
            parent: ObjectId::ROOT,
            name: name("f"),
            id: file.id,
            new_parent: ObjectId::ROOT,
            new_name: name("g"),
            target: RenameTarget::Absent,
        };
        volume.change(rename, Bytes::new(), volume.now()).await.unwrap();
        assert_eq!(volume.lookup(ObjectId::ROOT, &name("g")).await.unwrap().id, file.id);
        assert!(!cluster.events().contains("member dropped"), "{}", cluster.events());
        let contents = end(&cluster, volume).await;
        assert_eq!(contents.current.len(), 3);
        assert!(contents.tree.contains_key(b"/g".as_slice()) && !contents.tree.contains_key(b"/f".as_slice()));
    });
}
