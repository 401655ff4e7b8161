//! Making things durable.

use std::sync::atomic::Ordering::{Relaxed, Release};

use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::{Kind, Reply};

use super::Brick;
use super::error::{Error, Result};
use super::locate::DEPTH_MAX;
use super::node::Node;
use crate::disk::Disk;

impl<D: Disk> Brick<D> {
    pub(super) fn fsync(&self, id: ObjectId, data_only: bool) -> Result<Reply> {
        let node = self.node(id)?;
        self.settle_small(&node);
        let result = self.sync_object(&node, data_only).and_then(|()| self.sync_names(&node));
        result.map_err(|error| self.sync_failed(error))?;
        Ok(Reply::Done)
    }

    /// A failed sync loses what the kernel had not written, whatever the error was.
    pub(super) fn sync_failed(&self, error: Error) -> Error {
        match error {
            Error::Os(error) => self.fail(&error).into(),
            fault => fault,
        }
    }

    /// Without the object's lock: reads and writes go on, and what they add is theirs to sync.
    ///
    /// The log makes good for what is not synced here: records in place, the times that writes set, and bytes that wait.
    fn sync_object(&self, node: &Node<D>, data_only: bool) -> Result<()> {
        let (changes, durable, unsynced, side, side_new) = {
            let mut state = node.state_mut();
            let unsynced = std::mem::replace(&mut state.unsynced, false);
            (state.changes, state.durable, unsynced, state.side.is_some(), state.side_new)
        };
        if node.kind == Kind::File {
            if side && side_new {
                self.sync_side_name(node.id)?;
            }
            // fdatasync leaves out extended attributes, and with them sizes and stamps.
            if changes != durable || !data_only && self.waiting(node.id).is_none() {
                self.disk.sync_all(&node.handle)?;
            } else if unsynced {
                self.disk.sync_data(&node.handle)?;
            }
            self.areas()?.log.sync(&self.disk)?;
        } else {
            self.disk.sync_all(&node.handle)?;
        }
        let mut state = node.state_mut();
        state.durable = state.durable.max(changes);
        // A record file that appeared meanwhile is new still.
        state.side_new &= !side;
        Ok(())
    }

    fn sync_side_name(&self, id: ObjectId) -> Result<()> {
        let records = &self.areas()?.records;
        let bucket = super::label::internal(&format!("{:02x}", id.0 as u8));
        let (bucket, _) = self.disk.open(records, &[&bucket])?;
        Ok(self.disk.sync_all(&bucket)?)
    }

    /// Makes the name of an object durable, and those above it, where they are new.
    fn sync_names(&self, node: &Node<D>) -> Result<()> {
        if node.state().orphan {
            return Ok(());
        }
        let mut at = node.id;
        // Places that were seen at different times may lead in a circle.
        for _ in 0..DEPTH_MAX {
            if at == ObjectId::ROOT {
                break;
            }
            let (Some(place), Some(round)) = (self.table.get(at), self.table.round(at)) else { break };
            // A directory may have got another name since what is in it was made durable.
            if round > self.durable_round.load(Relaxed) {
                let dir = self.directory(place.parent)?;
                self.disk.sync_all(&dir.handle)?;
                self.table.durable(at, &place);
            }
            at = place.parent;
        }
        Ok(())
    }

    pub(super) fn sync_all(&self) -> Result<Reply> {
        let round = self.round.fetch_add(1, Relaxed);
        self.unsynced_removal.store(false, Release);
        self.disk.sync_fs().map_err(|error| self.sync_failed(error.into()))?;
        self.durable_round.fetch_max(round, Relaxed);
        Ok(Reply::Done)
    }
}
