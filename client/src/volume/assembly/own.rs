//! Taking a volume: `Own` on every brick of it that answers.
//!
//! The last owner may be alive, and go on until the last brick is taken: drop members, complete generations, give the
//! volume up. So what bricks said before counts for nothing; what they say when they are taken is the truth.

use std::sync::Arc;
use std::time::Duration;

use net_raid_proto::ids::{Epoch, Generation, VolumeId};
use net_raid_proto::limits::LEASE_MS;
use net_raid_proto::message::{BrickState, Fault, Reply, Request};
use tokio::time::{Instant, sleep_until};

use super::{Assembly, AssemblyError, Candidate, HELD_RETRY, newest_complete, one_volume};
use crate::conn::{CallError, Session};
use crate::volume::force;
use crate::volume::query::nonsense;

/// Generations between the last complete one and the first of the next owner: the old one may have been completing the
/// first, and have begun the second.
const GENERATIONS_IN_FLIGHT: u64 = 2;

/// Why some brick was not taken that can be taken later.
enum NotYet {
    /// Its owner may be alive.
    Held(String),
    /// Somebody else was quicker.
    Overtaken(String, Epoch),
}

impl Assembly<'_> {
    /// Takes the volume on every reachable brick of it; waits for the lease of a holder that may be dead. The candidates
    /// have the labels then with which they were taken; those that could not be taken have none. `forced`: others may have gone on.
    pub(super) async fn own(
        &self,
        members: &mut [Candidate],
        spares: &mut [Candidate],
        forced: bool,
    ) -> Result<Session, AssemblyError> {
        let volume = one_volume(members)?;
        let labels = members.iter().chain(spares.iter()).filter_map(Candidate::label);
        let newest_epoch = labels.filter(|label| label.volume == volume).map(|label| label.epoch.0).max().unwrap_or(0);
        let ahead = if forced { force::epochs_ahead(self.world.random.bytes()) } else { 0 };
        let mut session = Session {
            volume,
            epoch: Epoch(newest_epoch + 1 + ahead),
            generation: first_generation(members, spares, volume),
            holder: self.world.host.holder(),
            brick: None,
            take_over: false,
        };
        let deadline = Instant::now() + Duration::from_millis(LEASE_MS) + HELD_RETRY * 4;
        loop {
            let why = match self.try_own(members, spares, &session).await {
                Ok(()) => {
                    let first = first_generation(members, spares, volume);
                    if first <= session.generation {
                        return Ok(session);
                    }
                    // The last owner completed more until it was replaced; now it cannot any more.
                    session.generation = first;
                    continue;
                }
                Err(NotYet::Held(why)) => why,
                Err(NotYet::Overtaken(why, epoch)) => {
                    session.epoch = Epoch(epoch.0 + 1);
                    why
                }
            };
            if Instant::now() >= deadline {
                return Err(AssemblyError(why));
            }
            sleep_until(Instant::now() + HELD_RETRY).await;
        }
    }

    async fn try_own(
        &self,
        members: &mut [Candidate],
        spares: &mut [Candidate],
        session: &Session,
    ) -> Result<(), NotYet> {
        for candidate in members.iter_mut().chain(spares) {
            if candidate.label().is_none_or(|label| label.volume != session.volume) {
                continue;
            }
            match self.own_one(candidate, session).await {
                Ok(()) => {}
                Err(CallError::Fault(fault)) => candidate.refused(fault)?,
                Err(CallError::Lost(why)) => candidate.lose(why.to_string()),
            }
        }
        Ok(())
    }

    pub(super) async fn own_one(&self, candidate: &mut Candidate, session: &Session) -> Result<(), CallError> {
        let own = Request::Own {
            volume: session.volume,
            epoch: session.epoch,
            generation: session.generation,
            holder: session.holder.clone(),
            take_over: candidate.holder().is_some_and(|holder| self.world.host.is_dead(holder)),
        };
        let response = candidate.conn.call(&own, Vec::new(), Vec::new(), false).await?;
        candidate.conn.set_session(session.clone());
        let Reply::Owned { label, before, .. } = response.reply else {
            return Err(CallError::Lost(nonsense().to_string().into()));
        };
        // Asked again, it says that we had it.
        let again = candidate.taken && before.as_ref() == Some(&session.holder);
        let before = if again { candidate.holder().cloned() } else { before };
        let holder = before.map(|holder| (holder, 0));
        candidate.state = Ok(Arc::new(BrickState::Labelled { label: *label, holder }));
        candidate.taken = true;
        Ok(())
    }
}

impl Candidate {
    /// The brick says no: whether it may say yes later. One that does not takes no part.
    fn refused(&mut self, fault: Fault) -> Result<(), NotYet> {
        let why = format!("{}: {fault}", self.server());
        match fault {
            Fault::Held { holder, age_ms } => {
                self.set_holder(Some((holder, age_ms)));
                Err(NotYet::Held(why))
            }
            Fault::StaleEpoch(epoch) => {
                // Who was known to be dead is not the holder any more.
                self.set_holder(None);
                self.taken = false;
                Err(NotYet::Overtaken(why, epoch))
            }
            fault => {
                self.lose(fault.to_string());
                Ok(())
            }
        }
    }
}

/// A generation that no owner before can have begun.
fn first_generation(members: &[Candidate], spares: &[Candidate], volume: VolumeId) -> Generation {
    Generation(newest_complete(members, spares, volume).0 + GENERATIONS_IN_FLIGHT + 1)
}
