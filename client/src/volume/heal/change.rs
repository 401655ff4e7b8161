//! Changes that are made on a member that is healed, and nowhere else.

use bytes::Bytes;
use net_raid_proto::ids::{Generation, Timestamp};
use net_raid_proto::message::{Change, Reply, Request};

use super::peer::Side;
use super::{Attempt, Result};
use crate::volume::generation::Ticket;

impl Attempt<'_> {
    /// A generation for changes of the member, which is not complete before the ticket is dropped.
    pub(super) async fn ticket(&self) -> Result<Ticket> {
        let ticket = self.core.checkpoints.generations.enter();
        // Its log holds two generations.
        self.complete_up_to(self.core.checkpoints.completed()).await?;
        Ok(ticket)
    }

    /// A change of the member alone.
    pub(super) async fn change_with(
        &self,
        ticket: &Ticket,
        change: Change,
        payload: Vec<Bytes>,
    ) -> Result<std::result::Result<Reply, i32>> {
        self.send(ticket.generation(), Timestamp::default(), change, payload).await
    }

    pub(super) async fn send(
        &self,
        generation: Generation,
        now: Timestamp,
        change: Change,
        payload: Vec<Bytes>,
    ) -> Result<std::result::Result<Reply, i32>> {
        let request = Request::Change {
            transaction: self.core.transaction(),
            generation,
            participants: 1 << self.slot.0,
            now,
            change,
        };
        tracing::trace!(slot = %self.slot, ?request, "change");
        Ok(self.ask(Side::Target, &request, &payload).await?.map(|response| response.reply))
    }

    pub(super) async fn try_change(
        &self,
        now: Timestamp,
        change: Change,
        payload: Bytes,
    ) -> Result<std::result::Result<Reply, i32>> {
        let ticket = self.ticket().await?;
        let payload = if payload.is_empty() { Vec::new() } else { vec![payload] };
        self.send(ticket.generation(), now, change, payload).await
    }

    /// A change that can only be refused for want of space.
    pub(super) async fn change(&self, now: Timestamp, change: Change, payload: Bytes) -> Result<()> {
        match self.try_change(now, change, payload).await? {
            Ok(_) => Ok(()),
            Err(errno) => Err(self.refused(Side::Target, "changing names", errno)),
        }
    }
}
