//! A spare that had a slot, and lost it again before it was current, is emptied: then it is like any other, for any slot.
//!
//! What it holds was put there by a rebuild and never counted; the record says so, from when the slot is given back until nothing is left.

use std::sync::Arc;
use std::time::Duration;

use net_raid_proto::ids::{BrickId, ObjectId, Timestamp};
use net_raid_proto::membership::Former;
use net_raid_proto::message::{Change, DirEntry, Reply, Request};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::returns::brick_of;
use super::{Refused, SPARE_ANSWERS};
use crate::conn::{CallError, LinkState};
use crate::events::Event;
use crate::volume::Core;
use crate::volume::members::Seat;
use crate::volume::query::nonsense;

/// A large directory takes long to remove, but not longer than this.
const REMOVED_WITHIN: Duration = Duration::from_secs(600);

/// What there is to say when nothing goes any more.
const STAYS: &str = "it holds files that are not of the volume: empty its directory";

/// The one that is being emptied.
#[derive(Default)]
pub(super) struct Releases(Option<(BrickId, JoinHandle<Result<(), String>>)>);

impl Core {
    /// Empties spares that were released and answer, one after the other, beside everything else.
    pub(super) async fn empty_released(self: &Arc<Core>, releases: &mut Releases, refused: &mut Refused) {
        if releases.0.as_ref().is_some_and(|(_, task)| !task.is_finished()) {
            return;
        }
        if let Some((brick, task)) = releases.0.take() {
            let why = task.await.unwrap_or_else(|error| Err(error.to_string())).err();
            if let (Some(why), Some(seat)) = (why, self.released(brick)) {
                self.tell_refused(seat, (brick, why), refused);
            }
        }
        let formers = self.members.record().formers;
        let bricks = formers.iter().filter(|former| former.slot().is_none()).map(Former::brick);
        if let Some(brick) = bricks.into_iter().find(|brick| self.released(*brick).is_some()) {
            releases.0 = Some((brick, tokio::spawn(Arc::clone(self).release(brick))));
        }
    }

    /// Where a brick answers that was released.
    fn released(&self, brick: BrickId) -> Option<&Seat> {
        self.members.everybody().find(|seat| match seat.conn.state() {
            LinkState::Up(state) => self.members.slot_of(seat).is_none() && brick_of(seat, &state) == Some(brick),
            _ => false,
        })
    }

    async fn release(self: Arc<Core>, brick: BrickId) -> Result<(), String> {
        let Some(seat) = self.released(brick) else { return Ok(()) };
        let owned = timeout(SPARE_ANSWERS, self.own_spare(seat, brick)).await;
        owned.map_err(|_| "it does not answer".to_string())?.map_err(|error| error.to_string())?;
        seat.set_brick(brick);
        // What it loses with its machine is to go.
        seat.conn.set_take_over(true);
        self.empty(seat).await.map_err(|error| error.to_string())?;
        self.forget_released(brick).await.map_err(|error| error.to_string())?;
        self.events.log(&self.config.name, Some(seat.conn.server()), &Event::SpareReleased);
        Ok(())
    }

    /// Removes all files of a brick, durably.
    async fn empty(&self, seat: &Seat) -> Result<(), CallError> {
        let in_root = |cursor| Request::ReadDir { id: ObjectId::ROOT, cursor, attributes: false };
        // What is below a directory goes with it.
        let take_out = |entry: DirEntry| Change::Detach { parent: ObjectId::ROOT, name: entry.name, id: entry.id };
        self.remove_all(seat, in_root, take_out).await?;
        self.remove_all(seat, |cursor| Request::ReadOrphans { cursor }, |entry| Change::Purge { id: entry.id }).await?;
        // What nobody could list.
        self.asked(seat, &Request::PurgeOrphans).await?;
        // Else it might come back with the next power cut, when the spare has another slot.
        let generation = self.checkpoints.completed();
        self.asked(seat, &Request::Checkpoint { generation }).await?;
        self.asked(seat, &Request::Complete { generation }).await.map(drop)
    }

    /// Removes all that a request lists, until there is nothing.
    async fn remove_all(
        &self,
        seat: &Seat,
        list: impl Fn(u64) -> Request,
        remove: impl Fn(DirEntry) -> Change,
    ) -> Result<(), CallError> {
        let mut before: Vec<ObjectId> = Vec::new();
        loop {
            let page = self.first_of(seat, &list).await?;
            let ids: Vec<ObjectId> = page.iter().map(|entry| entry.id).collect();
            match () {
                () if page.is_empty() => return Ok(()),
                () if ids == before => return Err(CallError::Lost(STAYS.into())),
                () => before = ids,
            }
            for entry in page {
                let generation = self.checkpoints.generations.now();
                let (transaction, now) = (self.transaction(), Timestamp::default());
                let change = remove(entry);
                let change = Request::Change { transaction, generation, participants: 0, now, change };
                self.asked(seat, &change).await?;
            }
        }
    }

    /// The first entries that are listed.
    async fn first_of(&self, seat: &Seat, list: &impl Fn(u64) -> Request) -> Result<Vec<DirEntry>, CallError> {
        let mut cursor = 0;
        loop {
            match self.asked(seat, &list(cursor)).await? {
                Reply::Page { entries, next } if !entries.is_empty() || next.is_none() => return Ok(entries),
                Reply::Page { next, .. } => cursor = next.unwrap_or_default(),
                _ => return Err(CallError::Lost(nonsense().to_string().into())),
            }
        }
    }

    async fn asked(&self, seat: &Seat, request: &Request) -> Result<Reply, CallError> {
        // It has a slot again, or whoever owns it by now may have given it one.
        if self.members.slot_of(seat).is_some() {
            return Err(CallError::Lost("it has a slot".into()));
        }
        let call = seat.conn.call(request, Vec::new(), Vec::new(), false);
        match timeout(REMOVED_WITHIN, call).await {
            Ok(answer) => answer.map(|response| response.reply),
            Err(_) => Err(CallError::Lost("a request hangs".into())),
        }
    }
}
