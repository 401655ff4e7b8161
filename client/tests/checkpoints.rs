//! Generations and checkpoints, as bricks see them: what changes carry, when generations end, what becomes of full logs.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use common::liar::Entry;
use common::{Cluster, create};
use net_raid_client::volume::{File, PathSource, Volume, WriteMeta};
use net_raid_proto::ids::{Generation, Name, ObjectId, Transaction};
use net_raid_proto::membership::SlotState;
use net_raid_proto::message::{Change, Request};

/// Longer than the time between two checkpoints.
const A_CHECKPOINT: Duration = Duration::from_secs(31);
/// Turns that other tasks are given to do what they must not do.
const TURNS: usize = 2000;

/// On a paused clock, which stands still while a brick's disk works.
fn block_on<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test)
}

/// An assembled volume with a file of three blocks, after a checkpoint, and what follows on record.
async fn prepared(level: u8, servers: usize) -> (Cluster, Arc<Volume>, Arc<File>) {
    let cluster = Cluster::new(level, servers, 0);
    let volume = cluster.open().await.unwrap();
    let file = create(&volume, "f").await;
    write(&volume, &file, 0, 12288).await.unwrap();
    cluster.journal.keep();
    volume.sync_all().await.unwrap();
    (cluster, volume, file)
}

async fn write(volume: &Volume, file: &File, offset: u64, len: usize) -> Result<(), i32> {
    let written = volume.write(file, offset, Bytes::from(vec![7; len]), WriteMeta::default()).await;
    written.map_err(|error| error.errno())
}

/// Lets other tasks go on until something holds, without letting time pass.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        tokio::task::yield_now().await;
    }
}

fn checkpoint_of(entry: &Entry) -> Option<Generation> {
    match entry.request {
        Request::Checkpoint { generation } => Some(generation),
        _ => None,
    }
}

fn complete_of(entry: &Entry) -> Option<Generation> {
    match entry.request {
        Request::Complete { generation } => Some(generation),
        _ => None,
    }
}

/// Generations that were completed, in order; each on all of `slots`, after all of these had done the checkpoint.
fn completed(entries: &[Entry], slots: &[usize]) -> Vec<u64> {
    let mut all: Vec<u64> = entries.iter().filter_map(complete_of).map(|generation| generation.0).collect();
    all.dedup();
    for generation in &all {
        let place = |of: fn(&Entry) -> Option<Generation>, slot: usize, done: bool| {
            let wanted = |e: &Entry| e.slot == slot && e.done == done && of(e) == Some(Generation(*generation));
            entries.iter().position(wanted).unwrap_or_else(|| panic!("generation {generation} in slot {slot}"))
        };
        let ready = slots.iter().map(|slot| place(checkpoint_of, *slot, true)).max();
        let first = slots.iter().map(|slot| place(complete_of, *slot, false)).min();
        assert!(ready < first, "generation {generation} is completed before all have the checkpoint");
    }
    all
}

/// A change as the bricks saw it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    generation: u64,
    participants: u16,
    /// Slots that it arrived at.
    asked: u16,
}

fn changes(entries: &[Entry]) -> BTreeMap<Transaction, Seen> {
    let mut all: BTreeMap<Transaction, Seen> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.done) {
        let Request::Change { transaction, generation, participants, .. } = entry.request else { continue };
        let seen = all.entry(transaction).or_insert(Seen { generation: generation.0, participants, asked: 0 });
        assert_eq!((seen.generation, seen.participants), (generation.0, participants), "{transaction:?}");
        seen.asked |= 1 << entry.slot;
    }
    all
}

fn is_write(entry: &Entry) -> bool {
    matches!(entry.request, Request::Change { change: Change::Write { .. }, .. })
}

#[test]
fn changes_say_their_generation_and_who_was_asked() {
    block_on(async {
        for (level, servers) in [(1, 3), (5, 4), (6, 6)] {
            let (cluster, volume, file) = prepared(level, servers).await;
            let first = completed(&cluster.journal.take(), &(0..servers).collect::<Vec<_>>())[0] + 1;
            for round in 0..3 {
                create(&volume, &format!("g{round}")).await;
                write(&volume, &file, 4096, 4096).await.unwrap();
                volume.truncate(&file, 12288 - round, WriteMeta::default()).await.unwrap();
                let seen = changes(&cluster.journal.take());
                assert!(seen.len() >= 3, "{seen:?}");
                for change in seen.values() {
                    assert_eq!((change.generation, change.participants), (first + round, change.asked));
                }
                let everybody = (1 << servers) - 1;
                assert_eq!(seen.values().next().unwrap().asked, everybody, "a new file is everybody's");
                assert!(level == 1 || seen.values().any(|change| change.asked != everybody), "a small write is not");
                volume.sync_all().await.unwrap();
            }
            volume.close().await;
        }
    });
}

#[test]
fn a_changed_volume_has_a_checkpoint_every_half_minute_and_an_idle_one_none() {
    block_on(async {
        let (cluster, volume, file) = prepared(5, 3).await;
        let last = completed(&cluster.journal.take(), &[0, 1, 2])[0];
        tokio::time::sleep(A_CHECKPOINT * 4).await;
        assert_eq!(completed(&cluster.journal.take(), &[]), [0; 0]);
        for next in 1..3 {
            write(&volume, &file, 0, 4096).await.unwrap();
            assert_eq!(completed(&cluster.journal.entries(), &[]), [0; 0]);
            tokio::time::sleep(A_CHECKPOINT * 4).await;
            assert_eq!(completed(&cluster.journal.take(), &[0, 1, 2]), [last + next]);
        }
        volume.close().await;
    });
}

#[test]
fn the_first_generation_is_beyond_those_of_owners_before_and_completed_at_once() {
    block_on(async {
        let cluster = Cluster::new(5, 3, 0);
        cluster.journal.keep();
        let volume = cluster.open().await.unwrap();
        let entries = cluster.journal.take();
        let owned: Vec<u64> = entries
            .iter()
            .filter_map(|entry| match &entry.request {
                Request::Own { generation, .. } => Some(generation.0),
                _ => None,
            })
            .collect();
        assert!(!owned.is_empty() && owned.iter().all(|generation| *generation == 3), "{owned:?}");
        assert_eq!(completed(&entries, &[0, 1, 2]), [3]);
        volume.close().await;
    });
}

#[test]
fn sync_completes_a_generation_and_close_does_before_the_volume_is_given_up() {
    block_on(async {
        let (cluster, volume, file) = prepared(6, 4).await;
        let slots = [0, 1, 2, 3];
        let last = completed(&cluster.journal.take(), &slots)[0];
        write(&volume, &file, 0, 4096).await.unwrap();
        volume.sync_all().await.unwrap();
        assert_eq!(completed(&cluster.journal.take(), &slots), [last + 1]);
        write(&volume, &file, 0, 4096).await.unwrap();
        volume.close().await;
        let entries = cluster.journal.take();
        assert_eq!(completed(&entries, &slots), [last + 2]);
        for slot in slots {
            let at = |wanted: fn(&Entry) -> bool| entries.iter().position(|e| e.slot == slot && wanted(e)).unwrap();
            let complete = at(|entry| entry.done && complete_of(entry).is_some());
            assert!(complete < at(|entry| entry.request == Request::Disown));
        }
    });
}

#[test]
fn changes_go_on_during_a_slow_checkpoint() {
    block_on(async {
        let (cluster, volume, file) = prepared(5, 3).await;
        let next = completed(&cluster.journal.take(), &[0, 1, 2])[0] + 1;
        cluster.nodes[1].script.hold(true);
        let syncing = tokio::spawn({
            let volume = Arc::clone(&volume);
            async move { volume.sync_all().await }
        });
        until("the checkpoint arrives", || cluster.journal.entries().iter().any(|e| checkpoint_of(e).is_some())).await;
        cluster.journal.take();
        write(&volume, &file, 0, 4096).await.unwrap();
        create(&volume, "g").await;
        let entries = cluster.journal.entries();
        assert_eq!(completed(&entries, &[]), [0; 0]);
        assert!(changes(&entries).values().all(|change| change.generation == next + 1), "{entries:?}");
        cluster.nodes[1].script.hold(false);
        syncing.await.unwrap().unwrap();
        assert!(cluster.journal.take().iter().filter_map(complete_of).all(|generation| generation.0 == next));
        volume.close().await;
    });
}

#[test]
fn a_member_that_is_lost_during_a_checkpoint_has_what_was_complete_before() {
    block_on(async {
        let (cluster, volume, file) = prepared(5, 3).await;
        let last = completed(&cluster.journal.take(), &[0, 1, 2])[0];
        write(&volume, &file, 0, 4096).await.unwrap();
        let victim = &cluster.nodes[2];
        victim.script.hold(true);
        let syncing = tokio::spawn({
            let volume = Arc::clone(&volume);
            async move { volume.sync_all().await }
        });
        let arrived = || cluster.journal.entries().iter().any(|e| e.slot == 2 && checkpoint_of(e).is_some());
        until("the checkpoint arrives", arrived).await;
        victim.kill();
        victim.script.hold(false);
        syncing.await.unwrap().unwrap();
        let entries = cluster.journal.take();
        assert_eq!(completed(&entries, &[0, 1]), [last + 1]);
        let states: Vec<SlotState> = entries
            .iter()
            .filter_map(|entry| match &entry.request {
                Request::SetMembership { membership } => Some(membership.slots[2].state),
                _ => None,
            })
            .collect();
        assert!(states.contains(&SlotState::Stale { since: Generation(last) }), "{states:?}");
        volume.close().await;
    });
}

#[test]
fn a_checkpoint_that_fails_is_tried_again_with_the_same_generation() {
    block_on(async {
        let (cluster, volume, file) = prepared(5, 3).await;
        let next = completed(&cluster.journal.take(), &[0, 1, 2])[0] + 1;
        write(&volume, &file, 0, 4096).await.unwrap();
        cluster.nodes[0].script.full_checkpoints.store(2, Ordering::SeqCst);
        for _ in 0..2 {
            assert_eq!(volume.sync_all().await.unwrap_err().errno(), libc::ENOSPC);
            write(&volume, &file, 0, 4096).await.unwrap();
            let entries = cluster.journal.take();
            assert!(entries.iter().filter_map(checkpoint_of).all(|generation| generation.0 == next), "{entries:?}");
            assert_eq!(completed(&entries, &[]), [0; 0]);
        }
        tokio::time::sleep(A_CHECKPOINT).await;
        assert_eq!(completed(&cluster.journal.take(), &[0, 1, 2]), [next, next + 1]);
        assert!(!cluster.events().contains("dropped"), "{}", cluster.events());
        volume.close().await;
    });
}

#[test]
fn a_log_that_fills_up_is_emptied_at_once() {
    block_on(async {
        let (cluster, volume, file) = prepared(1, 2).await;
        cluster.journal.take();
        let logged = &cluster.nodes[1].script.logged;
        logged.store(64 << 20, Ordering::SeqCst);
        write(&volume, &file, 0, 4096).await.unwrap();
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        assert_eq!(cluster.journal.entries().iter().find_map(checkpoint_of), None);
        logged.store((64 << 20) + 1, Ordering::SeqCst);
        let start = tokio::time::Instant::now();
        write(&volume, &file, 0, 4096).await.unwrap();
        until("a checkpoint", || cluster.journal.entries().iter().any(|e| e.done && complete_of(e).is_some())).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        volume.close().await;
    });
}

#[test]
fn writes_wait_for_the_checkpoint_of_a_log_that_is_very_full() {
    block_on(async {
        let (cluster, volume, file) = prepared(1, 2).await;
        let script = &cluster.nodes[0].script;
        script.logged.store((256 << 20) + 1, Ordering::SeqCst);
        script.hold(true);
        write(&volume, &file, 0, 4096).await.unwrap();
        until("a checkpoint", || cluster.journal.entries().iter().any(|e| e.slot == 0 && checkpoint_of(e).is_some()))
            .await;
        cluster.journal.take();
        let writing = tokio::spawn({
            let (volume, file) = (Arc::clone(&volume), Arc::clone(&file));
            async move { write(&volume, &file, 0, 4096).await }
        });
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        assert!(!writing.is_finished() && !cluster.journal.entries().iter().any(is_write));
        script.logged.store(0, Ordering::SeqCst);
        script.hold(false);
        writing.await.unwrap().unwrap();
        let entries = cluster.journal.take();
        let complete = entries.iter().position(|entry| entry.done && complete_of(entry).is_some());
        assert!(complete.is_some() && complete < entries.iter().position(is_write));
        volume.close().await;
    });
}

#[test]
fn a_checkpoint_waits_for_the_changes_of_its_generation_and_for_no_others() {
    block_on(async {
        let (cluster, volume, file) = prepared(1, 2).await;
        let next = completed(&cluster.journal.take(), &[0, 1])[0] + 1;
        cluster.nodes[1].freeze(true);
        let writing = tokio::spawn({
            let (volume, file) = (Arc::clone(&volume), Arc::clone(&file));
            async move { write(&volume, &file, 0, 4096).await }
        });
        until("the write arrives", || cluster.journal.entries().iter().any(is_write)).await;
        let syncing = tokio::spawn({
            let volume = Arc::clone(&volume);
            async move { volume.sync_all().await }
        });
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        assert_eq!(cluster.journal.entries().iter().find_map(checkpoint_of), None);
        assert!(!writing.is_finished() && !syncing.is_finished());
        cluster.nodes[1].freeze(false);
        writing.await.unwrap().unwrap();
        syncing.await.unwrap().unwrap();
        let entries = cluster.journal.take();
        assert_eq!(completed(&entries, &[0, 1]), [next]);
        assert!(entries.iter().rposition(is_write) < entries.iter().position(|entry| checkpoint_of(entry).is_some()));
        volume.close().await;
    });
}

#[test]
fn a_change_that_waits_for_servers_keeps_its_generation_open() {
    block_on(async {
        let (cluster, volume, file) = prepared(5, 3).await;
        volume.set_paths(Arc::new(OnlyF));
        let next = completed(&cluster.journal.take(), &[0, 1, 2])[0] + 1;
        for victim in &cluster.nodes[1..] {
            victim.kill_and_wait().await;
        }
        assert_eq!(write(&volume, &file, 0, 12288).await, Err(libc::EIO));
        assert_eq!(volume.sync_all().await.unwrap_err().errno(), libc::EIO);
        assert!(cluster.journal.entries().iter().any(is_write));
        assert_eq!(cluster.journal.entries().iter().find_map(checkpoint_of), None);
        cluster.nodes[1..].iter().for_each(|victim| victim.start());
        cluster.wait_event("volume online").await;
        volume.sync_all().await.unwrap();
        let entries = cluster.journal.take();
        let first = entries.iter().position(|entry| checkpoint_of(entry).is_some());
        assert_eq!(first.and_then(|at| checkpoint_of(&entries[at])), Some(Generation(next)));
        let of_generation = |e: &Entry| matches!(e.request, Request::Change { generation, .. } if generation.0 == next);
        assert!(entries.iter().rposition(|entry| of_generation(entry) && entry.done) < first);
        volume.close().await;
    });
}

/// Everything is called `f` in the root.
struct OnlyF;

impl PathSource for OnlyF {
    fn path_of(&self, id: ObjectId) -> Option<Vec<Name>> {
        Some(if id == ObjectId::ROOT { Vec::new() } else { vec![Name::new(b"f").unwrap()] })
    }
}

/// How often a write is made that never finds room: once, and after each of three checkpoints.
const ATTEMPTS: u32 = 4;

fn written(entry: &Entry) -> Option<Transaction> {
    match &entry.request {
        Request::Change { transaction, change: Change::Write { .. }, .. } => Some(*transaction),
        _ => None,
    }
}

/// Aborted transactions and where, in order.
fn aborted(entries: &[Entry]) -> Vec<(usize, Vec<Transaction>)> {
    let abort = |entry: &Entry| match &entry.request {
        Request::Abort { transactions } if entry.done => Some((entry.slot, transactions.clone())),
        _ => None,
    };
    let mut all: Vec<_> = entries.iter().filter_map(abort).collect();
    all.sort();
    all
}

#[test]
fn a_write_that_some_have_no_room_for_is_taken_back_from_the_others() {
    block_on(async {
        // The last block of a longer file, and one within it.
        for (offset, grows) in [(0, false), (12288, true)] {
            let (cluster, volume, file) = prepared(1, 3).await;
            cluster.journal.take();
            cluster.nodes[1].script.full.store(ATTEMPTS, Ordering::SeqCst);
            assert_eq!(write(&volume, &file, offset, 4096).await, Err(libc::ENOSPC));
            let entries = cluster.journal.take();
            let writes: BTreeSet<Transaction> = entries.iter().filter_map(written).collect();
            assert_eq!(writes.len(), ATTEMPTS as usize);
            let all = |slot| writes.iter().map(move |transaction| (slot, vec![*transaction]));
            assert_eq!(aborted(&entries), all(0).chain(all(2)).collect::<Vec<_>>());
            let cut =
                |e: &Entry| matches!(e.request, Request::Change { change: Change::Truncate { size: 12288, .. }, .. });
            assert_eq!(entries.iter().any(cut), grows);
            assert_eq!(file.size(), 12288);
            assert!(!cluster.events().contains("dropped"), "{}", cluster.events());
            volume.close().await;
        }
    });
}

#[test]
fn a_member_that_cannot_take_a_write_back_is_dropped() {
    block_on(async {
        let (cluster, volume, file) = prepared(1, 3).await;
        cluster.nodes[1].script.full.store(ATTEMPTS, Ordering::SeqCst);
        cluster.nodes[2].script.no_aborts.store(true, Ordering::SeqCst);
        assert_eq!(write(&volume, &file, 0, 4096).await, Err(libc::ENOSPC));
        let dropped = cluster.events().lines().filter(|line| line.contains("member dropped")).count();
        assert!(dropped == 1 && cluster.events().contains("127.0.0.1:3"), "{}", cluster.events());
        volume.close().await;
    });
}

#[test]
fn a_write_that_finds_a_log_full_is_made_again_after_a_checkpoint() {
    block_on(async {
        // On one member, and on all alike.
        for full in [vec![1], vec![0, 1, 2]] {
            let (cluster, volume, file) = prepared(1, 3).await;
            let next = completed(&cluster.journal.take(), &[0, 1, 2])[0] + 1;
            cluster.nodes.iter().for_each(|node| node.script.logged.store(4096, Ordering::SeqCst));
            write(&volume, &file, 0, 4096).await.unwrap();
            cluster.journal.take();
            full.iter().for_each(|slot| cluster.nodes[*slot].script.full.store(1, Ordering::SeqCst));
            write(&volume, &file, 4096, 4096).await.unwrap();
            let entries = cluster.journal.take();
            assert_eq!(aborted(&entries).len(), if full.len() == 3 { 0 } else { 2 });
            assert_eq!(completed(&entries, &[0, 1, 2]), [next]);
            let generations: Vec<u64> = changes(&entries).values().map(|change| change.generation).collect();
            assert_eq!(generations, [next, next + 1]);
            // So often: then it is the disk that is full.
            full.iter().for_each(|slot| cluster.nodes[*slot].script.full.store(ATTEMPTS, Ordering::SeqCst));
            assert_eq!(write(&volume, &file, 4096, 4096).await, Err(libc::ENOSPC));
            assert!(!cluster.events().contains("dropped"), "{}", cluster.events());
            volume.close().await;
        }
    });
}

/// One server answers reads, and may not decide alone that the others are out.
#[test]
fn nothing_waits_for_ever_for_a_change_that_waits_for_servers() {
    block_on(async {
        let (cluster, volume, file) = prepared(1, 4).await;
        let other = create(&volume, "g").await;
        write(&volume, &other, 0, 100).await.unwrap();
        for node in &cluster.nodes[1..] {
            node.kill_and_wait().await;
        }
        let patience = (cluster.config.timeout + cluster.config.stall) * 2;
        for _ in 0..2 {
            let written = tokio::time::timeout(patience, write(&volume, &file, 0, 4096)).await;
            assert_eq!(written, Ok(Err(libc::EIO)), "the first write waits for servers, the next one for the first");
        }
        let synced = tokio::join!(
            tokio::time::timeout(patience, volume.sync_all()),
            tokio::time::timeout(patience, volume.sync_all()),
        );
        assert!(synced.0.unwrap().is_err() && synced.1.unwrap().is_err());
        assert_eq!(common::read_all(&volume, &other).await.len(), 100);
        cluster.nodes[1..].iter().for_each(|node| node.start());
        let deadline = tokio::time::Instant::now() + patience;
        while write(&volume, &file, 0, 4096).await.is_err() || volume.sync_all().await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "it goes on when they are back");
        }
        volume.close().await;
    });
}
