//! Random histories of file system operations against a model, over every level, with servers killed and restarted.
//!
//! A history that fails names its seed: `NET_RAID_SEED=n` replays it, `NET_RAID_SEEDS=n` runs n of them for each test,
//! `NET_RAID_TRACE=debug` shows what the client does, `NET_RAID_TRACE=trace` more of it.

mod common;
mod model;

use std::fs::FileTimes;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Cluster, offline};
use model::driver::Driver;
use net_raid_client::fs::{Caller, Fs, WriteFlags};
use net_raid_proto::ids::ObjectId;
use net_raid_proto::membership::Ownership;
use net_raid_proto::message::Kind;

/// Histories for each geometry, in CI.
const SEEDS: u64 = 2;
/// Operations between two remounts.
const STEPS: usize = 130;

fn runtime() -> tokio::runtime::Runtime {
    if let Ok(level) = std::env::var("NET_RAID_TRACE") {
        let level: tracing::Level = level.parse().expect("a level");
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(level);
        let _ = subscriber.with_writer(std::io::stderr).try_init();
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse().expect("a number"));
    match (number("NET_RAID_SEED"), number("NET_RAID_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 1..1 + count.unwrap_or(SEEDS),
    }
}

/// Says which seed failed.
struct Seed(u8, usize, u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("RAID-{} over {}: replay with NET_RAID_SEED={}", self.0, self.1, self.2);
        }
    }
}

fn histories(level: u8, servers: usize, spares: usize, redundancy: usize) {
    for seed in seeds() {
        let _named = Seed(level, servers, seed);
        runtime().block_on(history(level, servers, spares, redundancy, seed));
    }
}

async fn history(level: u8, servers: usize, spares: usize, redundancy: usize, seed: u64) {
    let ownership = seed.is_multiple_of(2).then_some(Ownership::Recorded);
    let cluster = Cluster::with_ownership(level, servers, spares, ownership);
    let stripe = 64 * 1024 * if level == 1 { 1 } else { servers - redundancy };
    let mut driver = Driver::new(&cluster, redundancy, stripe as u64 * 5 / 2, seed).await;
    for kills in [false, true, true] {
        driver.run(STEPS, kills).await;
        driver.verify().await;
        driver.remount().await;
        driver.verify().await;
    }
    driver.close().await;
}

/// A server that comes back within the stall misses nothing, and is never dropped.
#[test]
fn servers_that_are_away_for_a_moment_miss_nothing() {
    for (level, servers, redundancy) in [(1, 2, 1), (1, 3, 2), (5, 3, 1), (5, 4, 1), (6, 4, 2), (6, 6, 2)] {
        for seed in seeds() {
            let _named = Seed(level, servers, seed);
            runtime().block_on(absences(level, servers, redundancy, seed));
        }
    }
}

async fn absences(level: u8, servers: usize, redundancy: usize, seed: u64) {
    let mut cluster = Cluster::new(level, servers, 0);
    // Of no interest here is how fast the machine is.
    (cluster.config.stall, cluster.config.timeout) = (Duration::from_secs(20), Duration::from_secs(60));
    let stripe = 64 * 1024 * if level == 1 { 1 } else { servers - redundancy };
    let mut driver = Driver::new(&cluster, redundancy, stripe as u64 * 5 / 2, seed).await;
    for _ in 0..2 {
        driver.run_with_absences(4).await;
        driver.verify().await;
        // Compares what is on the bricks.
        driver.remount().await;
    }
    driver.close().await;
    let events = cluster.events();
    assert!(!events.contains("dropped"), "{events}");
}

/// A server that is away for longer gets what it missed, while work goes on, and everything can be read from it then.
#[test]
fn servers_that_are_away_for_long_catch_up() {
    for (level, servers, redundancy) in [(1, 2, 1), (1, 3, 2), (5, 3, 1), (5, 4, 1), (6, 4, 2), (6, 6, 2)] {
        for seed in seeds() {
            let _named = Seed(level, servers, seed);
            runtime().block_on(catch_ups(level, servers, redundancy, seed));
        }
    }
}

async fn catch_ups(level: u8, servers: usize, redundancy: usize, seed: u64) {
    let ownership = seed.is_multiple_of(2).then_some(Ownership::Recorded);
    let mut cluster = Cluster::with_ownership(level, servers, 0, ownership);
    (cluster.config.stall, cluster.config.timeout) = (Duration::from_millis(800), Duration::from_secs(60));
    let stripe = 64 * 1024 * if level == 1 { 1 } else { servers - redundancy };
    let mut driver = Driver::new(&cluster, redundancy, stripe as u64 * 5 / 2, seed).await;
    for _ in 0..2 {
        driver.run_with_catch_ups(2).await;
        driver.verify().await;
        // Compares what is on the bricks.
        driver.remount().await;
    }
    driver.close().await;
    assert!(!cluster.events().contains("inconsistency"), "{}", cluster.events());
}

#[test]
fn raid1_over_2() {
    histories(1, 2, 1, 1);
}

#[test]
fn raid1_over_3() {
    histories(1, 3, 0, 2);
}

#[test]
fn raid5_over_3() {
    histories(5, 3, 0, 1);
}

#[test]
fn raid5_over_5() {
    histories(5, 5, 1, 1);
}

#[test]
fn raid6_over_4() {
    histories(6, 4, 0, 2);
}

#[test]
fn raid6_over_6() {
    histories(6, 6, 1, 2);
}

/// A file of a few stripes and another name, made through the file system; the bricks are stopped.
async fn one_file(level: u8, servers: usize, lie_at: Option<usize>) -> Cluster {
    let cluster = Cluster::new(level, servers, 0);
    let fs = Fs::new(cluster.open().await.unwrap());
    let caller = Caller { uid: 0, gid: 0, pid: 0 };
    let (stat, handle) = fs.create(&caller, ObjectId::ROOT, b"f", 0o644, 0, libc::O_RDWR).await.unwrap();
    let write = |offset| fs.write(stat.id, handle, offset, vec![7; 700_000].into(), WriteFlags::default());
    write(0).await.unwrap();
    if let Some(slot) = lie_at {
        cluster.nodes[slot].lies.store(true, Ordering::SeqCst);
    }
    // Names and bytes: whichever change comes first is the one that the liar drops.
    write(350_000).await.unwrap();
    fs.release(stat.id, handle);
    fs.close().await;
    for node in &cluster.nodes {
        node.kill_and_wait().await;
    }
    cluster
}

/// The checkers must notice what they are there for.
#[test]
fn canary_a_brick_that_lies_is_noticed() {
    for (level, servers, liar) in [(1, 2, 1), (5, 3, 0), (6, 4, 3)] {
        let cluster = runtime().block_on(one_file(level, servers, Some(liar)));
        assert!(offline::check(&cluster, &[]).is_err(), "RAID-{level}: a change was dropped and nobody noticed");
    }
}

#[test]
fn canary_a_flipped_bit_is_noticed() {
    for (level, servers) in [(1, 2), (5, 3), (6, 4)] {
        let cluster = runtime().block_on(one_file(level, servers, None));
        assert!(offline::check(&cluster, &[]).is_ok());
        for node in &cluster.nodes {
            let path = node.dir.join("f");
            let last = std::fs::metadata(&path).unwrap().len() - 1;
            for at in [100, last] {
                flip(&path, at);
                let why = offline::check(&cluster, &[]).err().expect("a flipped bit");
                assert!(why.contains("digest differs"), "{why}");
                flip(&path, at);
            }
        }
        assert!(offline::check(&cluster, &[]).is_ok());
    }
}

/// Changes a byte without a trace in the times.
fn flip(path: &std::path::Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let before = file.metadata().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let times = FileTimes::new().set_accessed(before.accessed().unwrap()).set_modified(before.modified().unwrap());
    file.set_times(times).unwrap();
}

/// What the tree check compares, changed on one brick behind its back.
#[test]
fn canary_a_brick_that_differs_is_noticed() {
    use std::os::unix::fs::PermissionsExt;
    let changes: [fn(&std::path::Path); 5] = [
        |dir| std::fs::set_permissions(dir.join("f"), std::fs::Permissions::from_mode(0o600)).unwrap(),
        |dir| std::fs::File::open(dir.join("f")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap(),
        |dir| std::fs::hard_link(dir.join("f"), dir.join("g")).unwrap(),
        |dir| std::fs::write(dir.join(".net_raid/orphans/0000010000000099"), "").unwrap(),
        |dir| std::fs::write(dir.join(".net_raid/records/99/0000010000000099"), "").unwrap(),
    ];
    for change in changes {
        let cluster = runtime().block_on(one_file(5, 3, None));
        change(&cluster.nodes[1].dir);
        assert!(offline::check(&cluster, &[]).is_err());
    }
}

/// A write that waits for a frozen server, while the kernel forgets the file and looks it up again: the second write must
/// wait for the first, and not mix with it in the stripe.
#[test]
fn writers_before_and_after_a_forget_share_their_locks() {
    runtime().block_on(async {
        let cluster = Cluster::new(5, 3, 0);
        let fs = Fs::new(cluster.open().await.unwrap());
        let caller = Caller { uid: 0, gid: 0, pid: 0 };
        let root = ObjectId::ROOT;
        let id = fs.mknod(&caller, root, b"f", Kind::File, 0o644, 0).await.unwrap().id;
        fs.write(id, 0, 0, vec![1; 300_000].into(), WriteFlags::default()).await.unwrap();
        let slot = cluster.nodes.len() - 1;
        cluster.nodes[slot].freeze(true);
        let first = tokio::spawn({
            let fs = fs.clone();
            async move { fs.write(id, 0, 0, vec![2; 131_072].into(), WriteFlags::default()).await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        fs.forget(id, 1);
        fs.lookup(root, b"f").await.unwrap();
        let second = fs.write(id, 0, 0, vec![3; 100_000].into(), WriteFlags::default());
        let mut second = std::pin::pin!(second);
        let early = tokio::time::timeout(std::time::Duration::from_millis(200), second.as_mut()).await;
        assert!(early.is_err() && !first.is_finished(), "both wait for the frozen server");
        cluster.nodes[slot].freeze(false);
        first.await.unwrap().unwrap();
        second.await.unwrap();
        let bytes = fs.read(id, 0, 300_000, true).await.unwrap();
        let expected = [vec![3; 100_000], vec![2; 31_072], vec![1; 168_928]].concat();
        assert!(bytes == expected);
        fs.close().await;
        for node in &cluster.nodes {
            node.kill_and_wait().await;
        }
        offline::check(&cluster, &[]).map(|_| ()).unwrap();
    });
}
