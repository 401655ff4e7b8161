//! Checkpoints: everything durable, generation by generation.

use std::sync::Arc;

use net_raid_proto::message::Request;

use super::{Core, VolumeError};

impl Core {
    /// Makes everything durable that was acknowledged.
    pub(super) async fn checkpoint(self: &Arc<Core>) -> Result<(), VolumeError> {
        self.request_all(Request::Checkpoint { generation: self.members.session.generation }).await
    }
}
