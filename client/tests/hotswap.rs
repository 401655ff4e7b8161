//! Spares take the slots of servers that are gone.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Cluster, create, offline, read_all};
use net_raid_client::fs::{Caller, Fs, WriteFlags};
use net_raid_client::volume::{File, PathSource, Volume, WriteMeta};
use net_raid_proto::ids::{BrickId, Name, ObjectId};
use net_raid_proto::membership::Membership;
use net_raid_proto::message::{Kind, Request};

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
        write(&volume, &file, 2).await;
        cluster.wait_event("127.0.0.1:4 member caught up").await;
        let slots = bricks(&record(&cluster));
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
        cluster.wait_event("127.0.0.1:4 member caught up").await;
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
        gone[0].start();
        cluster.wait_event("volume online").await;
        // The other one has as long as anybody from here on.
        tokio::time::sleep(cluster.config.timeout / 2).await;
        gone[1].start();
        write(&volume, &file, 3).await;
        assert_eq!(read_all(&volume, &file).await, vec![3; 300_000]);
        volume.close().await;
        assert!(!cluster.events().contains("copy to spare"), "{}", cluster.events());
    });
}

/// What is in the directory of a node beside the brick's own area.
fn names_in(cluster: &Cluster, node: usize) -> Vec<String> {
    let names = std::fs::read_dir(&cluster.nodes[node].dir).unwrap();
    let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".net_raid").collect()
}

/// Bytes of the file of which spares are given the beginning only.
const LARGE: usize = 4_000_000;

/// A volume with one spare and a large file.
struct Large {
    cluster: Cluster,
    fs: Arc<Fs>,
    id: ObjectId,
    handle: u64,
    gone: usize,
    spare: usize,
}

impl Large {
    async fn new(level: u8, servers: usize, gone: usize) -> Large {
        let mut cluster = Cluster::new(level, servers, 1);
        (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), Duration::from_secs(2));
        let fs = Fs::new(cluster.open().await.unwrap());
        let (stat, handle) = fs.create(&USER, ObjectId::ROOT, b"f", 0o644, 0, libc::O_RDWR).await.unwrap();
        let large = Large { cluster, fs, id: stat.id, handle, gone, spare: servers };
        large.write(0, LARGE, 1).await;
        large.fs.mkdir(&USER, ObjectId::ROOT, b"d", 0o755, 0).await.unwrap();
        large
    }

    async fn write(&self, offset: u64, len: usize, byte: u8) {
        let bytes = Bytes::from(vec![byte; len]);
        let written = self.fs.write(self.id, self.handle, offset, bytes, WriteFlags::default()).await;
        assert_eq!(written, Ok(len), "{}", self.cluster.events());
    }

    fn event(&self, node: usize, words: &str) -> String {
        format!("127.0.0.1:{} {words}", node + 1)
    }

    async fn wait(&self, node: usize, words: &str, times: usize) {
        self.cluster.wait_events(&self.event(node, words), times).await;
    }

    /// A member goes, and a spare has its slot and so many writes of a rebuild.
    async fn begin_rebuild(&self, writes: u32) {
        self.cluster.nodes[self.spare].script.hold_writes(Some(writes));
        self.cluster.nodes[self.gone].kill_and_wait().await;
        self.wait(self.spare, &format!("copy to spare started, slot {}", self.gone), 1).await;
        self.write(0, 500_000, 2).await;
    }

    async fn wait_names(&self, node: usize, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while names_in(&self.cluster, node).len() != count {
            assert!(Instant::now() < deadline, "{:?}", names_in(&self.cluster, node));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Nothing is missing, and what all hold together is what was written.
    async fn end(self, expected: &[(usize, u8)]) {
        self.fs.release(self.id, self.handle);
        self.fs.close().await;
        for node in &self.cluster.nodes {
            node.kill_and_wait().await;
        }
        let contents = offline::check(&self.cluster, &[]).unwrap();
        assert_eq!(contents.current.len(), self.spare, "{}", self.cluster.events());
        let bytes: Vec<u8> = expected.iter().flat_map(|(len, byte)| vec![*byte; *len]).collect();
        assert!(contents.files[&self.id] == bytes);
    }
}

/// It is brought up to date, and the spare is one that can be taken again.
#[test]
fn who_returns_before_the_spare_is_current_has_its_slot_again() {
    for (level, servers, gone) in [(1, 2, 1), (5, 3, 0), (6, 4, 2)] {
        run(async {
            let large = Large::new(level, servers, gone).await;
            let (cluster, spare) = (&large.cluster, large.spare);
            large.begin_rebuild(2).await;
            large.wait_names(spare, 2).await;
            cluster.nodes[gone].start();
            large.wait(gone, &format!("server back, has its slot again from a spare, slot {gone}"), 1).await;
            cluster.nodes[spare].script.hold_writes(None);
            large.wait(gone, "member caught up", 1).await;
            large.wait(spare, "spare released, is empty again", 1).await;
            assert_eq!(names_in(cluster, spare), [""; 0]);
            large.write(500_000, 500_000, 3).await;
            // Now it is gone for good.
            cluster.nodes[gone].kill_and_wait().await;
            large.wait(spare, &format!("copy to spare started, slot {gone}"), 2).await;
            large.wait(spare, "member caught up", 1).await;
            large.write(1_000_000, 500_000, 4).await;
            large.end(&[(500_000, 2), (500_000, 3), (500_000, 4), (LARGE - 1_500_000, 1)]).await;
        });
    }
}

/// Units of one slot are nothing in another: the spare has to be empty when it takes one.
#[test]
fn a_spare_that_was_released_takes_another_slot() {
    run(async {
        let large = Large::new(5, 3, 0).await;
        let (cluster, spare) = (&large.cluster, large.spare);
        large.begin_rebuild(2).await;
        cluster.nodes[0].start();
        large.wait(0, "server back, has its slot again", 1).await;
        cluster.nodes[spare].script.hold_writes(None);
        large.wait(0, "member caught up", 1).await;
        large.wait(spare, "spare released", 1).await;
        cluster.nodes[1].kill_and_wait().await;
        large.wait(spare, "copy to spare started, slot 1", 1).await;
        large.wait(spare, "member caught up", 1).await;
        large.end(&[(500_000, 2), (LARGE - 500_000, 1)]).await;
    });
}

/// A spare that has more than half of everything keeps the slot.
#[test]
fn who_returns_late_is_a_stranger() {
    run(async {
        let large = Large::new(1, 2, 1).await;
        let (cluster, spare) = (&large.cluster, large.spare);
        // Of 16, in pieces of 256 KiB.
        large.begin_rebuild(11).await;
        cluster.nodes[1].start();
        large.wait(1, "server back, but a spare has its slot", 1).await;
        cluster.nodes[spare].script.hold_writes(None);
        large.wait(spare, "member caught up", 1).await;
        let events = cluster.events();
        assert!(!events.contains("has its slot again") && !events.contains("spare released"), "{events}");
        large.end(&[(500_000, 2), (LARGE - 500_000, 1)]).await;
    });
}

/// Whoever of the two comes first.
#[test]
fn both_go_and_return_in_any_order() {
    for first_is_spare in [false, true] {
        run(async {
            let large = Large::new(5, 3, 2).await;
            let (cluster, spare) = (&large.cluster, large.spare);
            large.begin_rebuild(2).await;
            cluster.nodes[spare].script.hold_writes(None);
            cluster.nodes[spare].script.full.store(u32::MAX, Ordering::SeqCst);
            cluster.nodes[spare].kill_and_wait().await;
            large.write(500_000, 500_000, 3).await;
            let order = if first_is_spare { [spare, 2] } else { [2, spare] };
            cluster.nodes[order[0]].start();
            if first_is_spare {
                large.wait(spare, "server back, stays out until caught up", 1).await;
            } else {
                large.wait(2, "server back, has its slot again", 1).await;
            }
            cluster.nodes[order[1]].start();
            large.wait(2, "server back, has its slot again", 1).await;
            large.wait(2, "member caught up", 1).await;
            large.wait(spare, "spare released", 1).await;
            assert_eq!(names_in(cluster, spare), [""; 0]);
            large.end(&[(500_000, 2), (500_000, 3), (LARGE - 1_000_000, 1)]).await;
        });
    }
}

/// Runs a client that is killed at the end.
fn run_killed<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runtime.block_on(test);
    runtime.shutdown_background();
    result
}

/// Whichever record the next client finds.
#[test]
fn the_next_client_goes_on_with_a_slot_that_is_given_back() {
    let large = run_killed(async {
        let large = Large::new(6, 4, 1).await;
        large.cluster.nodes[large.spare].script.full.store(u32::MAX, Ordering::SeqCst);
        large.cluster.nodes[1].kill_and_wait().await;
        large.wait(large.spare, "copy to spare started, slot 1", 1).await;
        large.write(0, 500_000, 2).await;
        large
    });
    // The spare has the slot.
    let large = run_killed(async {
        let node = |node: usize| &large.cluster.nodes[node];
        node(large.spare).kill_and_wait().await;
        // It does not become current before this client is killed.
        node(1).script.full.store(u32::MAX, Ordering::SeqCst);
        node(1).start();
        let volume = large.cluster.open().await.unwrap();
        large.wait(1, "server back, has its slot again", 1).await;
        large.wait(1, "catch-up broken off", 1).await;
        drop(volume);
        large
    });
    // The one of before has it again, and the spare does not know.
    run(async {
        let node = |node: usize| &large.cluster.nodes[node];
        [1, large.spare].iter().for_each(|at| node(*at).script.full.store(0, Ordering::SeqCst));
        node(large.spare).start();
        let volume = large.cluster.open().await.unwrap();
        large.wait(1, "member caught up", 1).await;
        large.wait(large.spare, "spare released", 1).await;
        assert_eq!(names_in(&large.cluster, large.spare), [""; 0]);
        volume.close().await;
        let events = large.cluster.events();
        assert!(!events.contains("but a spare has its slot"), "{events}");
        let Large { cluster, id, .. } = large;
        for node in &cluster.nodes {
            node.kill_and_wait().await;
        }
        let contents = offline::check(&cluster, &[]).unwrap();
        assert_eq!(contents.current.len(), 4, "{events}");
        assert!(
            contents.files[&id][..500_000] == vec![2; 500_000]
                && contents.files[&id][500_000..] == vec![1; LARGE - 500_000]
        );
    });
}

/// Who lost its slot is a spare again when its directory was emptied, as the errorlog advises.
#[test]
fn who_was_replaced_and_emptied_is_a_spare() {
    run(async {
        let (cluster, volume, file) = prepared(1).await;
        cluster.nodes[2].kill_and_wait().await;
        cluster.wait_event("127.0.0.1:4 member caught up").await;
        cluster.nodes[2].start();
        cluster.wait_event("127.0.0.1:3 server back, but a spare has its slot").await;
        cluster.nodes[2].kill_and_wait().await;
        std::fs::remove_dir_all(&cluster.nodes[2].dir).unwrap();
        std::fs::create_dir(&cluster.nodes[2].dir).unwrap();
        cluster.nodes[2].start();
        cluster.nodes[0].kill_and_wait().await;
        cluster.wait_event("127.0.0.1:3 copy to spare started, slot 0").await;
        cluster.wait_event("127.0.0.1:3 member caught up").await;
        cluster.nodes[1].kill_and_wait().await;
        assert_eq!(read_all(&volume, &file).await, vec![1; 300_000]);
        volume.close().await;
    });
}

/// A block that nobody has any more is an error for ever, and holds up nothing else: the spare gets all the rest.
#[test]
fn a_block_that_is_lost_does_not_hold_up_the_others() {
    use std::os::unix::fs::FileExt;
    for (level, servers, gone) in [(1, 2, &[0][..]), (5, 3, &[0]), (6, 4, &[0, 2])] {
        run(async {
            let mut cluster = Cluster::new(level, servers, gone.len());
            (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(500), Duration::from_secs(2));
            let volume = cluster.open().await.unwrap();
            let fs = Fs::new(Arc::clone(&volume));
            let mut files = Vec::new();
            for name in [b"a", b"b", b"c"] {
                let id = fs.mknod(&USER, ObjectId::ROOT, name, Kind::File, 0o644, 0).await.unwrap().id;
                let bytes = Bytes::from(vec![name[0]; 1_000_000]);
                assert_eq!(fs.write(id, 0, 0, bytes, WriteFlags::default()).await, Ok(1_000_000));
                files.push(id);
            }
            volume.sync_all().await.unwrap();
            let brick_file = cluster.nodes[1].dir.join("b");
            let brick_file = std::fs::File::options().write(true).open(brick_file).unwrap();
            brick_file.write_all_at(b"rot", 70_000).unwrap();
            for node in gone {
                cluster.nodes[*node].kill_and_wait().await;
            }
            for spare in 0..gone.len() {
                cluster.wait_event(&format!("127.0.0.1:{} member caught up", servers + spare + 1)).await;
            }
            let mut lost = 0;
            for (number, id) in files.iter().enumerate() {
                // What is in memory would be no witness.
                let fresh = File::new(*id, volume.layout(), 1_000_000);
                for at in (0..1_000_000).step_by(4096) {
                    match volume.read(&fresh, at, 4096).await {
                        Ok(bytes) => assert!(bytes.iter().all(|byte| *byte == b"abc"[number]), "file {number} at {at}"),
                        Err(error) => {
                            assert_eq!((number, error.errno()), (1, libc::EIO), "at {at}");
                            lost += 1;
                        }
                    }
                }
            }
            let damaged = volume.damaged();
            assert_eq!(damaged.objects.iter().map(|object| object.id).collect::<Vec<_>>(), [files[1]]);
            // The block of a data unit; of parity nobody asks for it, but what is computed from it on each spare.
            assert!((1..=gone.len() + 1).contains(&lost), "{lost} blocks: {}", cluster.events());
            fs.close().await;
        });
    }
}
