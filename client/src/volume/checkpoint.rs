//! Checkpoints: everything durable on all members, generation by generation.
//!
//! ```text
//!  generation g ends: new changes take g + 1
//!  all changes up to g are concluded       (only this waits for changes; no change waits for a checkpoint)
//!  Checkpoint g to all current members     everything up to g is durable on each
//!  Complete g to all current members       what waits in their logs goes in place
//! ```
//!
//! A checkpoint that fails is tried again with the same generation: at most two are ever open, and the next owner, who
//! knows only what is complete, can begin beyond both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use net_raid_proto::ids::Generation;
use net_raid_proto::message::Request;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::generation::Generations;
use super::{Core, VolumeError};

/// Between two checkpoints of a volume that is changed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);
/// A log with more bytes than this is emptied soon.
const LOG_SOON: u64 = 64 << 20;
/// With more bytes than this, writes wait until it was emptied.
const LOG_MAX: u64 = 256 << 20;

/// How often a write that finds no room is tried again while logs are emptied.
const LOG_ATTEMPTS: usize = 3;

const _: () = assert!(LOG_SOON < LOG_MAX);

/// How far a volume's checkpoints are.
pub(super) struct Checkpoints {
    pub(super) generations: Generations,
    /// One checkpoint at a time; the generation of one that failed.
    unfinished: tokio::sync::Mutex<Option<Generation>>,
    /// The last generation that all members completed.
    completed: AtomicU64,
    /// Bytes in the fullest log, as far as was told since the last checkpoint.
    logged: AtomicU64,
    /// Held by a writer that found no room, while it makes some and tries again.
    scarce: tokio::sync::Mutex<()>,
    /// Counts checkpoints that ended, well or not.
    ended: watch::Sender<u64>,
    /// Wakes the task: at once, or (true) for good.
    wake: watch::Sender<bool>,
}

impl Checkpoints {
    /// Changes begin in `first`; everything up to `completed` is durable on all members.
    pub(super) fn new(first: Generation, completed: Generation) -> Checkpoints {
        Checkpoints {
            generations: Generations::starting_with(first),
            unfinished: tokio::sync::Mutex::new(None),
            completed: AtomicU64::new(completed.0),
            logged: AtomicU64::new(0),
            scarce: tokio::sync::Mutex::new(()),
            ended: watch::channel(0).0,
            wake: watch::channel(false).0,
        }
    }

    /// The last generation that all members completed: who is dropped now has everything up to it.
    pub(super) fn completed(&self) -> Generation {
        Generation(self.completed.load(Ordering::Acquire))
    }

    /// A member says how full its log is.
    pub(super) fn note_logged(&self, bytes: u64) {
        let before = self.logged.fetch_max(bytes, Ordering::Relaxed);
        if before <= LOG_SOON && bytes > LOG_SOON {
            self.wake.send_modify(|_| {});
        }
    }

    fn logged(&self) -> u64 {
        self.logged.load(Ordering::Relaxed)
    }

    /// Ends the task; checkpoints can still be asked for.
    pub(super) fn stop(&self) {
        self.wake.send_replace(true);
    }
}

impl Core {
    /// Makes everything durable that was acknowledged before the call, on all current members.
    ///
    /// # Errors
    /// What the bricks agree on, or EIO beyond the redundancy; the next checkpoint goes on from there.
    pub(super) async fn checkpoint(self: &Arc<Core>) -> Result<(), VolumeError> {
        let checkpoints = &self.checkpoints;
        let target = checkpoints.generations.now();
        let mut unfinished = self.patiently(checkpoints.unfinished.lock()).await?;
        // Twice after one that failed; not at all when the one that was waited for began late enough.
        while checkpoints.completed() < target {
            let generation = *unfinished.get_or_insert_with(|| self.end_generation());
            let result = self.complete(generation).await;
            checkpoints.ended.send_modify(|count| *count += 1);
            result?;
            *unfinished = None;
        }
        Ok(())
    }

    fn end_generation(&self) -> Generation {
        let ended = self.checkpoints.generations.advance();
        let now = self.checkpoints.generations.now();
        self.members.everybody().for_each(|seat| seat.conn.set_generation(now));
        ended
    }

    async fn complete(self: &Arc<Core>, generation: Generation) -> Result<(), VolumeError> {
        self.patiently(self.checkpoints.generations.drained(generation)).await?;
        self.request_all(Request::Checkpoint { generation }).await?;
        self.request_all(Request::Complete { generation }).await?;
        self.checkpoints.completed.store(generation.0, Ordering::Release);
        self.members.current().iter().for_each(|slot| self.members.conn(slot).set_kept(generation));
        // What the next generation has in the logs by now, the next write tells.
        self.checkpoints.logged.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Carries out an operation that needs room in the logs. One that finds none there, rather than on the disks, is
    /// repeated after a checkpoint: `operation` must be the same when it is done again.
    ///
    /// The caller must hold no lock that a change under way may wait for.
    pub(super) async fn with_log_room<T, F>(self: &Arc<Core>, operation: impl Fn() -> F) -> Result<T, VolumeError>
    where
        F: Future<Output = Result<T, VolumeError>>,
    {
        self.wait_for_log().await;
        let mut result = operation().await;
        if !matches!(result, Err(VolumeError::Errno(libc::ENOSPC))) {
            return result;
        }
        // One at a time, and before those that begin now: a small log has room for one of them.
        let Ok(_one) = timeout(self.timeout(), self.checkpoints.scarce.lock()).await else { return result };
        for _ in 0..LOG_ATTEMPTS {
            // Who knows which of the two it was: the caller learns of the disk if it was that.
            let full = matches!(result, Err(VolumeError::Errno(libc::ENOSPC))) && self.checkpoints.logged() > 0;
            if !full {
                break;
            }
            if let Err(error) = self.checkpoint().await {
                tracing::debug!(volume = self.config.name, %error, "no checkpoint for want of room");
                break;
            }
            result = operation().await;
        }
        result
    }

    /// Lets a checkpoint catch up with logs that are very full, but no longer than `timeout`: then bricks say whether there
    /// is room.
    async fn wait_for_log(&self) {
        if self.checkpoints.scarce.try_lock().is_err() {
            let _ = timeout(self.timeout(), self.checkpoints.scarce.lock()).await;
        }
        let mut ended = self.checkpoints.ended.subscribe();
        if self.checkpoints.logged() > LOG_MAX {
            let _ = timeout(self.timeout(), ended.changed()).await;
        }
    }

    /// Begins to make checkpoints by itself, for as long as the volume is there and open.
    pub(super) fn keep_checkpoints(self: &Arc<Core>) {
        tokio::spawn(keep(Arc::downgrade(self), self.checkpoints.wake.subscribe()));
    }
}

async fn keep(core: Weak<Core>, mut wake: watch::Receiver<bool>) {
    let mut ticks = interval_at(Instant::now() + CHECKPOINT_EVERY, CHECKPOINT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            woken = wake.changed() => if woken.is_err() || *wake.borrow_and_update() {
                return;
            },
        }
        let Some(core) = core.upgrade() else { return };
        if !core.checkpoints.generations.used_after(core.checkpoints.completed()) {
            continue;
        }
        if let Err(error) = core.checkpoint().await {
            tracing::warn!(volume = core.config.name, %error, "a checkpoint failed and will be tried again");
        }
    }
}
