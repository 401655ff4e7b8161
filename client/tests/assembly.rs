//! From servers to a volume: what is assembled, what is refused and in which words.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, create, read_all};
use net_raid_client::volume::{File, PathSource, Volume, WriteMeta};
use net_raid_proto::ids::{Generation, Name, ObjectId};
use net_raid_proto::message::Request;
use tokio::time::Instant;

fn block_on<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}

async fn write(volume: &Volume, file: &File, text: &str) {
    volume.write(file, 0, Bytes::from(text.to_owned()), WriteMeta::default()).await.unwrap();
}

async fn refused(cluster: &Cluster, words: &[&str]) {
    let Err(error) = cluster.open().await.map(|_| ()) else { panic!("assembled") };
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in: {error}");
    }
    assert!(!error.to_string().contains('\n'));
}

/// A volume with one file, closed again.
async fn prepared(level: u8, servers: usize, spares: usize) -> Cluster {
    let cluster = Cluster::new(level, servers, spares);
    let volume = cluster.open().await.unwrap();
    let file = create(&volume, "f").await;
    write(&volume, &file, "first").await;
    volume.close().await;
    cluster
}

async fn content(volume: &Volume) -> Bytes {
    let entry = volume.lookup(ObjectId::ROOT, &Name::new(b"f").unwrap()).await.unwrap();
    read_all(volume, &Arc::new(File::new(entry.id, entry.layout, entry.attr.size))).await
}

#[test]
fn a_cold_start_goes_on_without_a_minority_of_voters() {
    block_on(async {
        for (level, servers, spares, dead) in [(1, 2, 1, 1), (5, 3, 0, 1), (6, 6, 0, 2), (6, 4, 1, 2), (1, 3, 0, 1)] {
            let cluster = prepared(level, servers, spares).await;
            (0..dead).for_each(|i| cluster.nodes[i].kill());
            let volume = cluster.open().await.unwrap();
            assert_eq!(&content(&volume).await[..], b"first", "level {level} of {servers}");
            create(&volume, "g").await;
            volume.close().await;
        }
    });
}

#[test]
fn a_cold_start_without_half_of_the_voters_is_refused_and_names_them() {
    block_on(async {
        for (level, servers, dead) in [(1, 2, 1), (6, 4, 2)] {
            let cluster = prepared(level, servers, 0).await;
            (0..dead).for_each(|i| cluster.nodes[i].kill());
            refused(&cluster, &["could hold newer data", "127.0.0.1:1", "spare"]).await;
        }
    });
}

#[test]
fn too_few_members_are_refused() {
    block_on(async {
        let cluster = prepared(5, 3, 0).await;
        cluster.nodes[0].kill();
        cluster.nodes[2].kill();
        refused(&cluster, &["127.0.0.1:1", "127.0.0.1:3"]).await;
    });
}

#[test]
fn a_stale_half_never_starts_alone() {
    block_on(async {
        let cluster = prepared(1, 2, 1).await;
        let volume = cluster.open().await.unwrap();
        let entry = volume.lookup(ObjectId::ROOT, &Name::new(b"f").unwrap()).await.unwrap();
        let file = File::new(entry.id, entry.layout, entry.attr.size);
        cluster.nodes[0].kill();
        write(&volume, &file, "newer").await;
        volume.close().await;
        cluster.nodes[1].kill();
        cluster.nodes[0].start();
        refused(&cluster, &["127.0.0.1:2"]).await;
        cluster.nodes[1].start();
        let volume = cluster.open().await.unwrap();
        assert_eq!(&content(&volume).await[..], b"newer");
        volume.close().await;
    });
}

#[test]
fn an_empty_directory_where_a_member_should_be_is_not_filled() {
    block_on(async {
        let cluster = prepared(5, 3, 0).await;
        let node = &cluster.nodes[1];
        node.kill();
        std::fs::rename(&node.dir, node.dir.with_extension("unmounted")).unwrap();
        std::fs::create_dir(&node.dir).unwrap();
        node.start();
        let volume = cluster.open().await.unwrap();
        create(&volume, "g").await;
        assert_eq!(&content(&volume).await[..], b"first");
        volume.close().await;
        assert_eq!(std::fs::read_dir(&node.dir).unwrap().count(), 0);
    });
}

#[test]
fn bricks_may_change_their_addresses() {
    block_on(async {
        let mut cluster = prepared(6, 5, 0).await;
        cluster.config.servers.reverse();
        let volume = cluster.open().await.unwrap();
        assert_eq!(&content(&volume).await[..], b"first");
        create(&volume, "g").await;
        volume.close().await;
        assert!(!cluster.events().contains("dropped"), "{}", cluster.events());
    });
}

#[test]
fn a_new_volume_needs_every_server() {
    block_on(async {
        let cluster = Cluster::new(5, 3, 0);
        cluster.nodes[2].kill();
        refused(&cluster, &["only when every server", "127.0.0.1:3"]).await;
        cluster.nodes[2].start();
        std::fs::write(cluster.nodes[1].dir.join("precious"), "data").unwrap();
        cluster.nodes[1].kill();
        cluster.nodes[1].start();
        refused(&cluster, &["only when every server", "127.0.0.1:2"]).await;
        assert_eq!(std::fs::read(cluster.nodes[1].dir.join("precious")).unwrap(), b"data");
    });
}

#[test]
fn another_level_or_another_volumes_brick_is_refused() {
    block_on(async {
        let mut cluster = prepared(5, 4, 0).await;
        cluster.config.level = net_raid_client::config::Level::Raid6;
        refused(&cluster, &["RAID-5", "raid = 6"]).await;
        let (one, two) = (prepared(5, 3, 0).await, prepared(5, 3, 0).await);
        one.nodes[0].kill();
        std::fs::remove_dir_all(&one.nodes[0].dir).unwrap();
        two.nodes[0].kill();
        std::fs::rename(&two.nodes[0].dir, &one.nodes[0].dir).unwrap();
        one.nodes[0].start();
        refused(&one, &["of volume TEST", "127.0.0.1:1"]).await;
    });
}

#[test]
fn a_member_that_fails_while_another_is_dropped_is_dropped_with_it() {
    block_on(async {
        let cluster = prepared(6, 6, 0).await;
        let volume = cluster.open().await.unwrap();
        cluster.nodes[0].kill();
        // By then the others have a record that drops the first alone.
        cluster.nodes[3].script.bad_records.store(1, Ordering::SeqCst);
        let file = create(&volume, "g").await;
        write(&volume, &file, "without two").await;
        assert_eq!(&volume.read(&file, 0, 64).await.unwrap()[..], b"without two");
        volume.close().await;
        for server in ["127.0.0.1:1 member dropped", "127.0.0.1:4 member dropped"] {
            assert!(cluster.events().contains(server), "{}", cluster.events());
        }
    });
}

#[test]
fn a_volume_in_use_is_refused_with_its_holder() {
    block_on(async {
        let cluster = prepared(1, 3, 0).await;
        let volume = cluster.open().await.unwrap();
        let Err(error) = cluster.open_elsewhere().await.map(|_| ()) else { panic!("two owners") };
        assert!(error.to_string().contains("in use by process 1 on client1"), "{error}");
        let file = create(&volume, "g").await;
        write(&volume, &file, "still ours").await;
        volume.close().await;
        cluster.open().await.unwrap().close().await;
    });
}

/// Waits until a client asked some brick for the volume.
async fn asked_for_by(cluster: &Cluster, host: &str) {
    let asks = |request: &Request| matches!(request, Request::Own { holder, .. } if holder.host == host);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !cluster.journal.entries().iter().any(|entry| asks(&entry.request)) {
        assert!(Instant::now() < deadline, "{host} does not ask");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whoever waits for a lease has seen labels of before. What the owner does until it goes counts: members that it drops,
/// and generations that it completes.
#[test]
fn what_the_owner_does_while_another_waits_is_heeded() {
    block_on(async {
        for (level, servers) in [(1, 2), (5, 3), (6, 6)] {
            let mut cluster = prepared(level, servers, 0).await;
            cluster.config.timeout = Duration::from_secs(2);
            let cluster = Arc::new(cluster);
            let volume = cluster.open().await.unwrap();
            let entry = volume.lookup(ObjectId::ROOT, &Name::new(b"f").unwrap()).await.unwrap();
            let file = File::new(entry.id, entry.layout, entry.attr.size);
            cluster.journal.keep();
            let elsewhere = Arc::clone(&cluster);
            let waiting = tokio::spawn(async move { elsewhere.open_elsewhere().await });
            asked_for_by(&cluster, "client2").await;

            cluster.nodes[0].kill_and_wait().await;
            write(&volume, &file, "newer").await;
            for text in ["newer1", "newer2", "newer3", "newer4"] {
                write(&volume, &file, text).await;
                volume.sync_all().await.unwrap();
            }
            cluster.wait_event("member dropped").await;
            volume.close().await;
            let completed = cluster.journal.take().into_iter().filter_map(|entry| match entry.request {
                Request::Complete { generation } if entry.done => Some(generation),
                _ => None,
            });
            let completed: Generation = completed.max().unwrap();

            let volume = waiting.await.unwrap().unwrap();
            assert_eq!(&content(&volume).await[..], b"newer4", "level {level} of {servers}");
            let begun = cluster.journal.take().into_iter().filter_map(|entry| match entry.request {
                Request::Checkpoint { generation } => Some(generation),
                _ => None,
            });
            assert!(begun.min().unwrap() > completed, "a generation is used again");
            // What was dropped meanwhile is not read before it has caught up, whoever else goes.
            cluster.nodes[0].start();
            cluster.wait_event("server back, stays out").await;
            cluster.nodes[1..].iter().for_each(|node| node.kill());
            if let Ok(read) = volume.read(&file, 0, 6).await {
                assert_eq!(&read[..], b"newer4", "level {level} of {servers}");
            }
            volume.close().await;
        }
    });
}

/// The only file is `f`, for bricks that forgot.
struct InRoot;

impl PathSource for InRoot {
    fn path_of(&self, _id: ObjectId) -> Option<Vec<Name>> {
        Some(vec![Name::new(b"f").unwrap()])
    }
}

/// The file of [`prepared`], to be written.
async fn file_of(volume: &Volume) -> File {
    volume.set_paths(Arc::new(InRoot));
    let entry = volume.lookup(ObjectId::ROOT, &Name::new(b"f").unwrap()).await.unwrap();
    File::new(entry.id, entry.layout, entry.attr.size)
}

async fn reads(volume: &Volume, wanted: &str) {
    let file = file_of(volume).await;
    assert_eq!(read_all(volume, &file).await, wanted.as_bytes());
}

/// Those that are left out had gone on, and hold the newer record: nothing of it counts any more, whoever meets whom.
#[test]
fn force_goes_on_with_what_is_here_and_leaves_the_others_out() {
    block_on(async {
        for (level, servers, here) in [(1, 2, 1), (1, 3, 1), (6, 4, 2)] {
            let mut cluster = prepared(level, servers, 0).await;
            cluster.config.timeout = Duration::from_secs(2);
            let volume = cluster.open().await.unwrap();
            let file = file_of(&volume).await;
            for node in &cluster.nodes[..here] {
                node.kill_and_wait().await;
            }
            for text in ["newer", "newer still"] {
                write(&volume, &file, text).await;
                volume.sync_all().await.unwrap();
            }
            volume.close().await;
            for node in &cluster.nodes[here..] {
                node.kill_and_wait().await;
            }
            cluster.nodes[..here].iter().for_each(|node| node.start());
            refused(&cluster, &["could hold newer data", &format!("127.0.0.1:{servers}"), "--force", "is lost"]).await;

            cluster.config.force = true;
            let volume = cluster.open().await.unwrap();
            reads(&volume, "first").await;
            write(&volume, &file_of(&volume).await, "other").await;
            volume.close().await;
            let forced: Vec<String> =
                cluster.events().lines().filter(|line| line.contains("by --force")).map(str::to_owned).collect();
            let names = (here + 1..=servers).all(|number| forced[0].contains(&format!("127.0.0.1:{number}")));
            assert!(forced.len() == 1 && names && forced[0].contains("is lost"), "{forced:?}");

            // Now it is not needed, and does nothing.
            let volume = cluster.open().await.unwrap();
            reads(&volume, "other").await;
            cluster.config.force = false;
            cluster.nodes[here..].iter().for_each(|node| node.start());
            cluster.wait_event("server back, was left out by --force").await;
            reads(&volume, "other").await;
            volume.close().await;
            assert_eq!(cluster.events().matches("started by --force").count(), 1, "level {level} of {servers}");

            let volume = cluster.open().await.unwrap();
            reads(&volume, "other").await;
            volume.close().await;
            for node in &cluster.nodes[..here] {
                node.kill_and_wait().await;
            }
            refused(&cluster, &["0 servers with current data answer", "left out by --force"]).await;
            cluster.config.force = true;
            refused(&cluster, &["0 servers with current data answer", "left out by --force"]).await;
        }
    });
}

/// Both halves were forced, each without knowing of the other. That cannot be mended, but decided.
#[test]
fn of_two_halves_that_were_forced_one_counts() {
    block_on(async {
        let mut cluster = prepared(1, 2, 0).await;
        cluster.config.timeout = Duration::from_secs(1);
        cluster.nodes[0].kill_and_wait().await;
        // The word is needed for each half, once.
        cluster.config.force = true;
        for _ in 0..3 {
            let volume = cluster.open().await.unwrap();
            write(&volume, &file_of(&volume).await, "again").await;
            volume.close().await;
        }
        cluster.nodes[1].kill_and_wait().await;
        cluster.nodes[0].start();
        let volume = cluster.open().await.unwrap();
        reads(&volume, "first").await;
        volume.close().await;
        cluster.nodes[1].start();
        let volume = cluster.open().await.unwrap();
        // One of both it is, and the same one from then on, also where the other is alone.
        let content = read_all(&volume, &file_of(&volume).await).await;
        volume.close().await;
        cluster.config.force = false;
        for node in [0, 1] {
            cluster.nodes[node].kill_and_wait().await;
            if let Ok(volume) = cluster.open().await {
                assert_eq!(read_all(&volume, &file_of(&volume).await).await, content);
                volume.close().await;
            }
            cluster.nodes[node].start();
        }
        let volume = cluster.open().await.unwrap();
        assert_eq!(read_all(&volume, &file_of(&volume).await).await, content);
        volume.close().await;
    });
}

/// The other half is in use, out of our sight. Once it is found its client loses it.
#[test]
fn two_halves_that_meet_do_not_both_serve() {
    block_on(async {
        let mut cluster = prepared(1, 2, 0).await;
        cluster.config.timeout = Duration::from_secs(2);
        let volume = cluster.open().await.unwrap();
        let file = file_of(&volume).await;
        cluster.nodes[0].kill_and_wait().await;
        write(&volume, &file, "newer").await;
        cluster.cut(0, 0, true);
        cluster.cut(1, 1, true);
        cluster.nodes[0].start();
        cluster.config.force = true;
        let forced = cluster.open_elsewhere().await.unwrap();
        reads(&forced, "first").await;
        write(&forced, &file_of(&forced).await, "other").await;
        write(&volume, &file, "newer still").await;

        cluster.cut(1, 1, false);
        cluster.wait_event("server back, was left out by --force").await;
        cluster.wait_event("taken over by another client").await;
        let late = volume.write(&file, 0, Bytes::from_static(b"late"), WriteMeta::default()).await;
        assert!(late.unwrap_err().to_string().contains("no longer owns the volume"));
        volume.read(&file, 0, 1).await.unwrap_err();
        volume.close().await;
        reads(&forced, "other").await;
        forced.close().await;
        cluster.cut(0, 0, false);
        cluster.config.force = false;
        let volume = cluster.open().await.unwrap();
        reads(&volume, "other").await;
        volume.close().await;
    });
}

#[test]
fn force_does_not_make_up_for_members() {
    block_on(async {
        let mut cluster = prepared(5, 3, 0).await;
        cluster.config.timeout = Duration::from_secs(1);
        cluster.nodes[0].kill();
        cluster.nodes[2].kill();
        cluster.config.force = true;
        refused(&cluster, &["127.0.0.1:1", "127.0.0.1:3", "2 are needed"]).await;
    });
}
