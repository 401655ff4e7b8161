//! What waits in the log of a member that is healed.

use std::sync::atomic::Ordering;

use net_raid_proto::ids::{Generation, ObjectId, Timestamp, Transaction};
use net_raid_proto::message::{Change, LogEntry, Logged, Reply, Request};

use super::peer::{Side, is_gone};
use super::{Attempt, Halt, Result};
use crate::layout::UNIT;
use crate::volume::query::nonsense;

/// Transactions of one `Abort`.
const ABORT_MAX: usize = 4096;

impl Attempt<'_> {
    /// What waits in its log was never decided with it: none of that counts.
    pub(super) async fn settle_log(&self) -> Result<()> {
        // Changes that began before anything was kept in mind are concluded then.
        self.core.checkpoint().await.map_err(|error| Halt(error.to_string()))?;
        match self.missed {
            // It left before the others were asked for that.
            Some(_) => self.complete_up_to(self.since).await?,
            None => drop(self.asked(&Request::Complete { generation: self.since }).await?),
        }
        let mut dropped: Vec<Transaction> = Vec::new();
        let mut cuts = Vec::new();
        let (mut cursor, mut newest) = (0, Generation(0));
        loop {
            let Reply::Log { entries, next } = self.asked(&Request::ReadLog { cursor }).await? else {
                return Err(self.halt(Side::Target, &nonsense().to_string()));
            };
            newest = entries.iter().map(|entry| entry.generation).max().unwrap_or_default().max(newest);
            tracing::debug!(slot = %self.slot, since = %self.since, ?entries, "its log");
            let is_write = |entry: &&LogEntry| matches!(entry.what, Logged::Write { .. });
            dropped.extend(entries.iter().filter(is_write).map(|entry| entry.transaction));
            cuts.extend(entries.into_iter().filter_map(|entry| match entry.what {
                Logged::Truncate { size, brick_len } => Some((entry.generation, entry.id, size.min(brick_len))),
                _ => None,
            }));
            let Some(next) = next else { break };
            cursor = next;
        }
        for transactions in dropped.chunks(ABORT_MAX) {
            self.asked(&Request::Abort { transactions: transactions.to_vec() }).await?;
        }
        if newest > self.core.checkpoints.completed() {
            return Err(self.halt(Side::Target, "it has changes that this volume does not know"));
        }
        // While it is in the log: the next attempt could not tell.
        self.searches.store(!cuts.is_empty(), Ordering::Relaxed);
        for (generation, id, cut) in cuts {
            self.blank_cut(generation, id, cut).await?;
        }
        self.searches.store(false, Ordering::Relaxed);
        self.complete_up_to(self.core.checkpoints.completed()).await
    }

    /// Makes the unit within which a file was cut a hole. What stays of it would be of the generation of the cut, as if it had been
    /// copied then. Whether the file is there.
    pub(super) async fn blank_cut(&self, generation: Generation, id: ObjectId, cut: u64) -> Result<bool> {
        if cut.is_multiple_of(UNIT) {
            return Ok(true);
        }
        let change = Change::Punch { id, unit: cut / UNIT, count: 1, mtime: None };
        match self.send(generation, Timestamp::default(), change, Vec::new()).await? {
            Ok(_) => Ok(true),
            Err(errno) if is_gone(errno) => Ok(false),
            Err(errno) => Err(self.refused(Side::Target, "cutting a file", errno)),
        }
    }

    pub(super) async fn complete_up_to(&self, generation: Generation) -> Result<()> {
        let mut completed = self.completed.lock().await;
        if *completed < generation {
            self.asked(&Request::Checkpoint { generation }).await?;
            self.asked(&Request::Complete { generation }).await?;
            *completed = generation;
        }
        Ok(())
    }

    /// Has the member's log emptied, which only the completion of all that is in it does.
    pub(super) async fn empty_log(&self) -> Result<()> {
        // A checkpoint would wait for the end of the pause.
        if self.paused.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.core.checkpoint().await.map_err(|error| Halt(error.to_string()))?;
        self.complete_up_to(self.core.checkpoints.completed()).await
    }

    /// Asks the member for what it cannot refuse.
    async fn asked(&self, request: &Request) -> Result<Reply> {
        match self.ask(Side::Target, request, &[]).await? {
            Ok(response) => Ok(response.reply),
            Err(errno) => Err(self.refused(Side::Target, "settling its log", errno)),
        }
    }
}
