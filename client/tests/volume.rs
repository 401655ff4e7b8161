//! The volume over real bricks: what is written is read, healthy, degraded, damaged.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Cluster, create};
use net_raid_client::volume::{File, PathSource, Volume, WriteMeta};
use net_raid_proto::ids::{Name, ObjectId};

/// Levels and widths, each with why: the narrowest, a middle one, the widest that tests can afford.
const GEOMETRIES: [(u8, usize); 6] = [(1, 2), (1, 3), (5, 3), (5, 5), (6, 4), (6, 6)];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Everything is called `f` in the root.
struct OnlyF;

impl PathSource for OnlyF {
    fn path_of(&self, id: ObjectId) -> Option<Vec<Name>> {
        let name = Name::new(b"f").unwrap();
        Some(if id == ObjectId::ROOT { Vec::new() } else { vec![name] })
    }
}

/// A random generator good enough for tests: xorshift64*.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// A file and what it should hold.
struct Model {
    file: Arc<File>,
    bytes: Vec<u8>,
}

impl Model {
    async fn step(&mut self, volume: &Volume, rng: &mut Rng, limit: u64) {
        let offset = rng.below(limit);
        let len = match rng.below(3) {
            0 => rng.below(9000),
            1 => rng.below(limit),
            _ => rng.below(200_000),
        };
        let len = len.min(limit - offset) as usize;
        match rng.below(10) {
            0 => {
                volume.truncate(&self.file, offset, WriteMeta::default()).await.unwrap();
                self.bytes.resize(offset as usize, 0);
            }
            1 => {
                let keep = rng.below(2) == 0;
                volume.zero(&self.file, offset, len as u64, keep, WriteMeta::default()).await.unwrap();
                let end = offset as usize + len;
                if !keep && end > self.bytes.len() {
                    self.bytes.resize(end, 0);
                }
                let end = end.min(self.bytes.len());
                if (offset as usize) < end {
                    self.bytes[offset as usize..end].fill(0);
                }
            }
            2..=5 => self.check(volume, offset, len).await,
            _ => {
                let data = rng.bytes(len);
                let end = offset as usize + len;
                volume.write(&self.file, offset, data.clone().into(), WriteMeta::default()).await.unwrap();
                if len > 0 {
                    self.bytes.resize(self.bytes.len().max(end), 0);
                    self.bytes[offset as usize..end].copy_from_slice(&data);
                }
            }
        }
        assert_eq!(self.file.size(), self.bytes.len() as u64);
    }

    async fn check(&self, volume: &Volume, offset: u64, len: usize) {
        let read = volume.read(&self.file, offset, len).await.unwrap();
        let start = (offset as usize).min(self.bytes.len());
        let expected = &self.bytes[start..(start + len).min(self.bytes.len())];
        assert_eq!(read.len(), expected.len(), "length at {offset}+{len} of {}", self.bytes.len());
        if let Some(at) = (0..read.len()).find(|&i| read[i] != expected[i]) {
            panic!("byte {} differs: read {:#x}, written {:#x}", start + at, read[at], expected[at]);
        }
    }
}

async fn random_history(level: u8, servers: usize, kill: &[usize], seed: u64) {
    let cluster = Cluster::new(level, servers, 1);
    let volume = cluster.open().await.unwrap();
    let mut rng = Rng(seed);
    let mut model = Model { file: create(&volume, "f").await, bytes: Vec::new() };
    let limit = 3 * 64 * 1024 * servers as u64;
    let steps = 60;
    for step in 0..steps {
        if let Some(at) = (0..kill.len()).find(|&i| step == (i + 1) * steps / (kill.len() + 1)) {
            cluster.nodes[kill[at]].kill();
        }
        model.step(&volume, &mut rng, limit).await;
    }
    model.check(&volume, 0, limit as usize).await;
    // A new look, without anything cached.
    let fresh =
        Model { file: Arc::new(File::new(model.file.id, volume.layout(), model.file.size())), bytes: model.bytes };
    fresh.check(&volume, 0, limit as usize).await;
    volume.close().await;
}

#[test]
fn random_histories_healthy() {
    for (level, servers) in GEOMETRIES {
        for seed in 1..4 {
            runtime().block_on(random_history(level, servers, &[], seed * 7919));
        }
    }
}

#[test]
fn random_histories_with_servers_killed_on_the_way() {
    for (level, servers) in GEOMETRIES {
        let kill: Vec<usize> = match level {
            1 => (1..servers).collect(),
            5 => vec![1],
            _ => vec![0, servers - 1],
        };
        for seed in 1..3 {
            runtime().block_on(random_history(level, servers, &kill, seed * 104_729));
        }
    }
}

/// One byte of each unit: parity units too, which only a scrub would notice.
fn flip_in_every_unit(path: &std::path::Path) {
    use std::os::unix::fs::FileExt;
    let bytes = std::fs::read(path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    for at in (777..bytes.len()).step_by(64 * 1024) {
        file.write_all_at(&[bytes[at] ^ 0x40], at as u64).unwrap();
    }
}

#[test]
fn a_flipped_byte_is_never_returned_and_is_repaired() {
    for (level, servers) in GEOMETRIES {
        runtime().block_on(async {
            let cluster = Cluster::new(level, servers, 0);
            let volume = cluster.open().await.unwrap();
            let file = create(&volume, "f").await;
            let data = Rng(42).bytes(700_000);
            volume.write(&file, 0, data.clone().into(), WriteMeta::default()).await.unwrap();
            for victim in 0..if level == 6 { 2 } else { 1 } {
                flip_in_every_unit(&cluster.nodes[victim].dir.join("f"));
            }
            for _ in 0..servers {
                // A fresh view reads from the bricks; level 1 takes its turns over the copies.
                let fresh = File::new(file.id, volume.layout(), file.size());
                assert_eq!(volume.read(&fresh, 0, data.len()).await.unwrap(), data);
            }
            cluster.wait_event("repaired").await;
            volume.close().await;
        });
    }
}

#[test]
fn beyond_the_redundancy_operations_fail_in_time_and_resume() {
    runtime().block_on(async {
        let cluster = Cluster::new(5, 3, 0);
        let volume = cluster.open().await.unwrap();
        volume.set_paths(Arc::new(OnlyF));
        let file = create(&volume, "f").await;
        let data = Rng(1).bytes(500_000);
        volume.write(&file, 0, data.clone().into(), WriteMeta::default()).await.unwrap();
        cluster.nodes[0].kill();
        cluster.nodes[1].kill();
        let start = tokio::time::Instant::now();
        let fresh = File::new(file.id, volume.layout(), file.size());
        assert_eq!(volume.read(&fresh, 0, data.len()).await.unwrap_err().errno(), libc::EIO);
        let write = volume.write(&file, 0, Bytes::from_static(b"new"), WriteMeta::default()).await;
        assert_eq!(write.unwrap_err().errno(), libc::EIO);
        let again = volume.read(&fresh, 0, data.len()).await;
        assert_eq!(again.unwrap_err().errno(), libc::EIO);
        // The servers are waited for once, not by every operation anew.
        assert!(start.elapsed() < cluster.config.timeout + cluster.config.stall, "{:?}", start.elapsed());
        cluster.nodes[0].start();
        cluster.nodes[1].start();
        cluster.wait_event("volume online").await;
        assert_eq!(&volume.read(&fresh, 3, data.len()).await.unwrap()[..], &data[3..]);
        volume.close().await;
    });
}

#[test]
fn a_volume_is_there_after_a_remount_and_a_stale_server_is_not() {
    runtime().block_on(async {
        let cluster = Cluster::new(6, 4, 1);
        let volume = cluster.open().await.unwrap();
        let file = create(&volume, "f").await;
        let old = Rng(3).bytes(400_000);
        volume.write(&file, 0, old.into(), WriteMeta::default()).await.unwrap();
        cluster.nodes[2].kill();
        let new = Rng(4).bytes(400_000);
        volume.write(&file, 0, new.clone().into(), WriteMeta::default()).await.unwrap();
        cluster.wait_event("member dropped").await;
        volume.close().await;
        cluster.nodes[2].start();
        let volume = cluster.open().await.unwrap();
        let entry = volume.lookup(ObjectId::ROOT, &Name::new(b"f").unwrap()).await.unwrap();
        assert_eq!((entry.id, entry.attr.size), (file.id, 400_000));
        let file = File::new(entry.id, entry.layout, entry.attr.size);
        assert_eq!(volume.read(&file, 0, new.len()).await.unwrap(), new);
        volume.close().await;
    });
}
