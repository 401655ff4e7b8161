//! What is damaged beyond repair is listed as long as it is.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, create};
use net_raid_client::volume::{Damaged, File, Finder, PathSource, Volume, WriteMeta};
use net_raid_proto::ids::{Name, ObjectId};
use net_raid_proto::message::Change;
use tokio::time::Instant;

const UNIT: u64 = 64 * 1024;
/// Levels and widths: the narrowest, and the widest that tests can afford.
const GEOMETRIES: [(u8, usize); 4] = [(1, 2), (5, 3), (6, 4), (6, 6)];
/// How long something in the background may take.
const WITHIN: Duration = Duration::from_secs(20);

/// Everything is called `f` in the root.
struct OnlyF;

impl PathSource for OnlyF {
    fn path_of(&self, id: ObjectId) -> Option<Vec<Name>> {
        Some(if id == ObjectId::ROOT { Vec::new() } else { vec![Name::new(b"f").unwrap()] })
    }
}

/// A volume with one file of four stripes.
struct Case {
    cluster: Cluster,
    volume: Arc<Volume>,
    file: Arc<File>,
    losses: usize,
    stripe: u64,
}

impl Case {
    async fn new((level, servers): (u8, usize)) -> Case {
        let cluster = Cluster::new(level, servers, 0);
        let volume = cluster.open().await.unwrap();
        volume.set_paths(Arc::new(OnlyF));
        let file = create(&volume, "f").await;
        let losses = match level {
            1 => servers - 1,
            5 => 1,
            _ => 2,
        };
        let stripe = if level == 1 { UNIT } else { (servers - losses) as u64 * UNIT };
        let case = Case { cluster, volume, file, losses, stripe };
        case.write(0, 4 * stripe).await;
        case
    }

    async fn write(&self, at: u64, len: u64) {
        let bytes = Bytes::from(vec![7; len as usize]);
        self.volume.write(&self.file, at, bytes, WriteMeta::default()).await.unwrap();
    }

    /// Changes a byte of unit 1 on so many bricks; the same on each, or in a block of its own on each.
    fn flip(&self, bricks: usize, apart: bool) {
        for (number, node) in self.cluster.nodes.iter().take(bricks).enumerate() {
            flip(&node.dir.join("f"), UNIT + 12 + if apart { number as u64 * 4096 } else { 0 });
        }
    }

    fn flip_too_many(&self) {
        self.flip(self.losses + 1, false);
    }

    /// Reads all of the file from the bricks, block by block, several times: copies take turns. How many could not be read.
    async fn read(&self) -> usize {
        let mut failed = 0;
        for _ in 0..2 {
            let fresh = File::new(self.file.id, self.volume.layout(), self.file.size());
            for at in (0..fresh.size()).step_by(4096) {
                match self.volume.read(&fresh, at, 4096).await {
                    Ok(bytes) => assert!(bytes.iter().all(|byte| *byte == 7), "never a guess"),
                    Err(error) => {
                        assert_eq!(error.errno(), libc::EIO);
                        failed += 1;
                    }
                }
            }
        }
        failed
    }

    async fn scrub(&self) {
        let done = self.cluster.events().matches("scrub done").count();
        self.volume.scrub();
        self.wait("the scrub is done", || self.cluster.events().matches("scrub done").count() > done).await;
    }

    async fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + WITHIN;
        while !holds() {
            assert!(Instant::now() < deadline, "{what}: {:?}\n{}", self.volume.damaged(), self.cluster.events());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn nothing_is_listed(&self, after: &str) {
        self.wait(after, || self.volume.damaged() == Damaged::default()).await;
    }

    #[track_caller]
    fn stripe_1_is_listed(&self, found_by: Finder) {
        let damaged = self.volume.damaged();
        let [object] = &damaged.objects[..] else { panic!("{damaged:?}\n{}", self.cluster.events()) };
        assert_eq!((object.path.as_str(), object.id, &object.stripes[..]), ("/f", self.file.id, &[1][..]));
        assert_eq!((object.found_by, &object.contradiction, damaged.has_more), (found_by, &None, false));
        assert!(object.since <= self.cluster.clock.last() && object.since.secs > 0, "{:?}", object.since);
    }
}

fn flip(file: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

fn on_each(test: impl AsyncFn(Case)) {
    for geometry in GEOMETRIES {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async { test(Case::new(geometry).await).await });
    }
}

#[test]
fn a_read_lists_it_and_what_overwrites_it_takes_it_off() {
    on_each(async |case| {
        assert_eq!((case.read().await, case.volume.damaged()), (0, Damaged::default()));
        case.flip_too_many();
        assert!(case.read().await > 0);
        case.stripe_1_is_listed(Finder::Read);
        let told =
            case.cluster.events().matches("damaged beyond repair: /f: too few good units are left: stripe 1").count();
        assert_eq!(told, 1, "once, however often it is read:\n{}", case.cluster.events());
        // Something else of the file changes nothing.
        case.write(0, case.stripe).await;
        assert!(case.read().await > 0);
        case.stripe_1_is_listed(Finder::Read);
        case.write(case.stripe, case.stripe).await;
        case.nothing_is_listed("overwritten").await;
        assert_eq!(case.read().await, 0);
        case.volume.close().await;
    });
}

/// One block is all that is bad, and of copies that is all that has to be written.
#[test]
fn a_copy_is_whole_when_the_bad_block_was_overwritten() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let case = Case::new((1, 2)).await;
        case.flip_too_many();
        assert!(case.read().await > 0);
        case.write(UNIT + 4096, 4096).await;
        assert!(case.read().await > 0);
        case.stripe_1_is_listed(Finder::Read);
        case.write(UNIT, 4096).await;
        case.nothing_is_listed("overwritten").await;
        assert_eq!(case.read().await, 0);
        case.volume.close().await;
    });
}

#[test]
fn a_scrub_lists_it_and_a_later_one_takes_it_off() {
    on_each(async |case| {
        case.flip_too_many();
        case.scrub().await;
        case.stripe_1_is_listed(Finder::Scrub);
        case.scrub().await;
        case.stripe_1_is_listed(Finder::Scrub);
        // As a disk does that reads it after all.
        case.flip_too_many();
        case.scrub().await;
        assert_eq!(case.volume.damaged(), Damaged::default());
        case.volume.close().await;
    });
}

#[test]
fn what_is_cut_off_or_removed_is_not_listed() {
    on_each(async |case| {
        case.flip_too_many();
        case.scrub().await;
        case.volume.truncate(&case.file, 3 * case.stripe, WriteMeta::default()).await.unwrap();
        case.stripe_1_is_listed(Finder::Scrub);
        case.volume.truncate(&case.file, case.stripe, WriteMeta::default()).await.unwrap();
        case.nothing_is_listed("cut off").await;
        case.write(case.stripe, case.stripe).await;
        case.flip_too_many();
        case.scrub().await;
        case.stripe_1_is_listed(Finder::Scrub);
        let whole = case.stripe * case.file.size().div_ceil(case.stripe);
        case.volume.zero(&case.file, 0, whole, true, WriteMeta::default()).await.unwrap();
        case.nothing_is_listed("punched").await;
        case.write(0, 2 * case.stripe).await;
        case.flip_too_many();
        assert!(case.read().await > 0);
        let (parent, name, id) = (ObjectId::ROOT, Name::new(b"f").unwrap(), case.file.id);
        let unlink = Change::Unlink { parent, name, id, keep: false };
        case.volume.change(unlink, Bytes::new(), case.volume.now()).await.unwrap();
        case.nothing_is_listed("removed").await;
        case.volume.close().await;
    });
}

/// Damage in different blocks of a stripe, on more bricks than may be lost, is put right block by block, and not called beyond repair.
#[test]
fn blocks_that_can_be_had_each_are_not_listed() {
    on_each(async |case| {
        case.flip(case.losses + 1, true);
        let fresh = File::new(case.file.id, case.volume.layout(), case.file.size());
        // The first may fail: it asks for all of the units at once.
        for _ in 0..2 {
            let _ = case.volume.read(&fresh, 0, fresh.size() as usize).await;
        }
        case.wait("repaired", || case.cluster.events().contains("repaired: /f")).await;
        let fresh = File::new(case.file.id, case.volume.layout(), case.file.size());
        let deadline = Instant::now() + WITHIN;
        while case.volume.read(&fresh, 0, fresh.size() as usize).await.is_err() {
            assert!(Instant::now() < deadline, "it stays so:\n{}", case.cluster.events());
        }
        assert_eq!(case.volume.damaged(), Damaged::default());
        assert!(!case.cluster.events().contains("damaged beyond repair"), "{}", case.cluster.events());
        case.volume.close().await;
    });
}

/// Of two copies nothing says which attributes are right.
#[test]
fn a_contradiction_is_listed_until_a_scrub_finds_none() {
    use std::os::unix::fs::PermissionsExt;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let case = Case::new((1, 2)).await;
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        let file = case.cluster.nodes[0].dir.join("f");
        std::fs::set_permissions(&file, mode(0o600)).unwrap();
        case.scrub().await;
        let damaged = case.volume.damaged();
        let [object] = &damaged.objects[..] else { panic!("{damaged:?}\n{}", case.cluster.events()) };
        assert!(object.contradiction.is_some() && object.path == "/f" && object.stripes.is_empty(), "{object:?}");
        assert_eq!(object.found_by, Finder::Scrub);
        std::fs::set_permissions(&file, mode(0o644)).unwrap();
        case.scrub().await;
        assert_eq!(case.volume.damaged(), Damaged::default(), "{}", case.cluster.events());
        case.volume.close().await;
    });
}
