//! Spares take the slots of servers that are gone.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, create, offline, read_all};
use net_raid_client::fs::{Caller, Fs, WriteFlags};
use net_raid_client::volume::{File, PathSource, Volume, WriteMeta};
use net_raid_proto::ids::{BrickId, Name, ObjectId};
use net_raid_proto::membership::Membership;
use net_raid_proto::message::Request;

const USER: Caller = Caller { uid: 0, gid: 0, pid: 0 };

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// Tells bricks that were restarted where the only file is.
struct OnlyFile;

impl PathSource for OnlyFile {
    fn path_of(&self, _: ObjectId) -> Option<Vec<Name>> {
        Some(vec![Name::new(b"f").expect("a name")])
    }
}

/// A mounted RAID-5 of three with spares and a file.
async fn prepared(spares: usize) -> (Cluster, Arc<Volume>, Arc<File>) {
    let mut cluster = Cluster::new(5, 3, spares);
    (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), Duration::from_secs(2));
    let volume = cluster.open().await.unwrap();
    volume.set_paths(Arc::new(OnlyFile));
    let file = create(&volume, "f").await;
    write(&volume, &file, 1).await;
    (cluster, volume, file)
}

async fn write(volume: &Volume, file: &File, byte: u8) {
    volume.write(file, 0, Bytes::from(vec![byte; 300_000]), WriteMeta::default()).await.unwrap();
}

/// The last record that was written.
fn record(cluster: &Cluster) -> Membership {
    let entries = cluster.journal.entries();
    let record = entries.iter().rev().find_map(|entry| match &entry.request {
        Request::SetMembership { membership } => Some(membership.clone()),
        _ => None,
    });
    record.expect("a record was written")
}

fn bricks(record: &Membership) -> Vec<BrickId> {
    record.slots.iter().map(|slot| slot.brick).collect()
}

/// Two at once, where the level bears it; users write all the time.
#[test]
fn spares_become_members_that_can_be_read() {
    for (level, servers, gone) in [(1, 2, &[1][..]), (5, 3, &[0]), (6, 5, &[1, 4])] {
        run(async {
            let mut cluster = Cluster::new(level, servers, gone.len());
            (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), Duration::from_secs(2));
            let fs = Fs::new(cluster.open().await.unwrap());
            let (stat, handle) = fs.create(&USER, ObjectId::ROOT, b"f", 0o644, 0, libc::O_RDWR).await.unwrap();
            let write = async |byte: u8| {
                let bytes = Bytes::from(vec![byte; 1_000_000]);
                let written = fs.write(stat.id, handle, 0, bytes, WriteFlags::default()).await;
                assert_eq!(written, Ok(1_000_000), "{}", cluster.events());
            };
            write(1).await;
            for node in gone {
                cluster.nodes[*node].kill_and_wait().await;
            }
            write(2).await;
            let spares: Vec<String> =
                (0..gone.len()).map(|spare| format!("127.0.0.1:{}", servers + spare + 1)).collect();
            for spare in &spares {
                cluster.wait_event(&format!("{spare} member caught up")).await;
            }
            write(3).await;
            fs.release(stat.id, handle);
            fs.close().await;
            for node in &cluster.nodes {
                node.kill_and_wait().await;
            }
            let contents = offline::check(&cluster, &[]).unwrap();
            assert_eq!(contents.current.len(), servers, "{}", cluster.events());
            assert_eq!(contents.files[&stat.id], vec![3; 1_000_000]);
        });
    }
}

#[test]
fn a_spare_takes_the_slot_and_who_had_it_is_a_stranger() {
    run(async {
        let (cluster, volume, file) = prepared(1).await;
        cluster.journal.keep();
        // Nothing is written that would have it dropped.
        cluster.nodes[2].kill_and_wait().await;
        cluster.wait_event("127.0.0.1:4 copy to spare started, slot 2").await;
        let slots = bricks(&record(&cluster));
        write(&volume, &file, 2).await;
        cluster.nodes[2].start();
        cluster.wait_event("127.0.0.1:3 server back, but a spare has its slot").await;
        write(&volume, &file, 3).await;
        assert_eq!(read_all(&volume, &file).await, vec![3; 300_000]);
        volume.close().await;
        let volume = cluster.open().await.unwrap();
        let events = cluster.events();
        assert_eq!(events.matches("127.0.0.1:3 server back, but a spare has its slot").count(), 2, "{events}");
        assert_eq!(bricks(&record(&cluster)), slots);
        assert_eq!(read_all(&volume, &file).await, vec![3; 300_000]);
        volume.close().await;
    });
}

/// A spare that cannot be had is passed over.
#[test]
fn the_first_spare_that_answers_is_taken() {
    run(async {
        let (cluster, volume, file) = prepared(2).await;
        cluster.nodes[3].kill_and_wait().await;
        cluster.nodes[0].kill_and_wait().await;
        cluster.wait_event("127.0.0.1:5 copy to spare started, slot 0").await;
        assert_eq!(read_all(&volume, &file).await, vec![1; 300_000]);
        volume.close().await;
    });
}

/// One that holds files is told of, once, and the next one is taken.
#[test]
fn a_spare_with_files_is_not_touched() {
    run(async {
        let (cluster, volume, file) = prepared(2).await;
        // A member becomes a stranger, and stands by with all its files.
        cluster.nodes[2].kill_and_wait().await;
        cluster.wait_event("127.0.0.1:4 copy to spare started, slot 2").await;
        cluster.nodes[2].start();
        cluster.wait_event("127.0.0.1:3 server back, but a spare has its slot").await;
        cluster.nodes[3].kill_and_wait().await;
        cluster.wait_event("127.0.0.1:5 copy to spare started, slot 2").await;
        write(&volume, &file, 2).await;
        volume.close().await;
        let events = cluster.events();
        assert_eq!(events.matches("127.0.0.1:3 spare not reachable: it holds files").count(), 1, "{events}");
    });
}

/// Who may be back soon, and is needed, keeps its slot.
#[test]
fn nobody_is_replaced_while_too_few_are_left() {
    run(async {
        let (cluster, volume, file) = prepared(1).await;
        let gone = [&cluster.nodes[0], &cluster.nodes[1]];
        for node in gone {
            node.kill_and_wait().await;
        }
        cluster.wait_event("volume offline").await;
        tokio::time::sleep(cluster.config.timeout * 2).await;
        gone.iter().for_each(|node| node.start());
        cluster.wait_event("volume online").await;
        write(&volume, &file, 3).await;
        assert_eq!(read_all(&volume, &file).await, vec![3; 300_000]);
        volume.close().await;
        assert!(!cluster.events().contains("copy to spare"), "{}", cluster.events());
    });
}
