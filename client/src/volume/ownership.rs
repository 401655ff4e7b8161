//! Whose the volume is: an owner that another one replaced hears of it soon, also when no program asks for anything.

use std::sync::Weak;
use std::time::Duration;

use net_raid_proto::ids::{Epoch, Slot};
use net_raid_proto::limits::RENEW_MS;
use net_raid_proto::message::{Fault, Request};
use tokio::time::{Instant, timeout_at};

use super::Core;
use crate::conn::{CallError, LinkState};
use crate::events::Event;

impl Core {
    /// Asks the current members whose they are. As long as another client has so few of them that the rest suffices, they are
    /// members that fail.
    async fn ask_whose(&self) {
        let current: Vec<Slot> = self.members.current().iter().collect();
        let answers = futures_util::future::join_all(current.iter().map(|slot| self.owner_of(*slot))).await;
        let others: Vec<Epoch> = answers.into_iter().flatten().collect();
        let left = current.len() - others.len();
        if let Some(epoch) = others.into_iter().max().filter(|_| left < self.members.record().members_needed()) {
            self.members.note_taken_over(&Fault::StaleEpoch(epoch));
        }
    }

    /// The epoch in which another client has a member.
    async fn owner_of(&self, slot: Slot) -> Option<Epoch> {
        let conn = self.members.conn(slot);
        if !conn.is_up() {
            return conn.replaced();
        }
        match conn.call(&Request::Ping, Vec::new(), Vec::new(), false).await {
            Err(CallError::Fault(Fault::StaleEpoch(epoch))) => Some(epoch),
            _ => None,
        }
    }
}

/// Asks each second, until the volume is closed or lost.
pub(super) async fn keep_ownership(core: Weak<Core>) {
    let Some(mut seen) = core.upgrade().map(|core| core.members.watch()) else { return };
    loop {
        let asked = Instant::now();
        {
            let Some(core) = core.upgrade() else { return };
            if core.members.everybody().all(|seat| seat.conn.state() == LinkState::Closed) {
                return;
            }
            core.ask_whose().await;
            if let Some(why) = core.members.taken_over() {
                core.log(None, &Event::TakenOver { reason: why.to_string() });
                return;
            }
        }
        let _ = timeout_at(asked + Duration::from_millis(RENEW_MS), seen.changed()).await;
    }
}
