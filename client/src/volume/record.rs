//! The membership record: how it is written, so that whoever begins later meets the newest one.

use std::sync::Arc;

use net_raid_proto::ids::{BrickId, Slot};
use net_raid_proto::limits::VOTERS_MAX;
use net_raid_proto::membership::{FORCED_MAX, Former, Membership};
use net_raid_proto::message::{Fault, Request};

use super::fanout::{Outcome, lost_reason, lost_slots};
use super::heal::Stopped;
use super::members::{Members, Seat};
use super::quorum::{self, Change, Shortage, Taken};
use super::{Core, VolumeError};
use crate::conn::CallError;
use crate::events::Event;
use crate::layout::SlotSet;

/// What is known of the records that voters may hold. One is written at a time.
pub(super) struct Writing {
    /// The newest version that any voter may hold.
    pub(super) newest: u64,
    /// Members that are back, until all voters know that.
    pub(super) back: SlotSet,
    /// Members of a drop that was tried, until one is stored: some voters may have that record, so that whoever begins may go by
    /// it. Whatever is written next drops them too.
    pub(super) owed: SlotSet,
}

impl Writing {
    /// A record without `lost` is tried. A return is believed already, and can be given up; a drop cannot.
    fn begin(&mut self, members: &Members, record: &Membership, lost: SlotSet) {
        if self.back.is_empty() {
            self.owed = lost;
            members.set_owes_drop(!lost.is_empty());
        } else {
            members.heed_too(record);
        }
    }

    /// All voters have it.
    fn end(&mut self, members: &Members) {
        (self.back, self.owed) = (SlotSet::default(), SlotSet::default());
        members.set_owes_drop(false);
    }

    fn nothing_owed(&self) -> Result<(), VolumeError> {
        match self.owed.is_empty() {
            true => Ok(()),
            false => Err(VolumeError::Lost("a member is still to be dropped".into())),
        }
    }

    /// Some voters may hold what another member's failure broke off: a version says one thing only.
    fn next_version(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }
}

/// Who is in a new record no more.
struct Dropped {
    all: SlotSet,
    /// Those of them that are waited for.
    may_return: SlotSet,
}

impl Core {
    /// A member that was away while another one was dropped learns of that; not while the record is being written, because
    /// there is an order in which voters have to learn of returns.
    pub(super) async fn refresh_record(&self, slot: Slot) {
        let writing = self.members.writing.lock().await;
        if !writing.back.is_empty() {
            return;
        }
        let request = Request::SetMembership { membership: self.members.record() };
        if let Err(error) = self.members.conn(slot).call(&request, Vec::new(), Vec::new(), false).await {
            tracing::debug!(%slot, %error, "membership record not refreshed");
        }
    }

    /// Drops members for good: once this returns, nothing that they miss can be served from them, whatever
    /// restarts in whatever order.
    ///
    /// # Errors
    /// When the redundancy or the number of voters does not allow it.
    pub(super) async fn drop_members(self: &Arc<Core>, lost: SlotSet, reason: &str) -> Result<(), VolumeError> {
        lost.iter().for_each(|slot| self.keep_out(slot, reason));
        self.drop_for(lost, SlotSet::default(), reason).await
    }

    /// Drops the members that did not answer; those whose connections broke are away then.
    pub(super) async fn drop_lost(self: &Arc<Core>, outcomes: &[(Slot, Outcome)]) -> Result<(), VolumeError> {
        let broke = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Lost(_)));
        let away = broke.map(|(slot, _)| *slot).collect();
        self.drop_for(lost_slots(outcomes), away, &lost_reason(outcomes)).await
    }

    async fn drop_for(self: &Arc<Core>, lost: SlotSet, away: SlotSet, reason: &str) -> Result<(), VolumeError> {
        let mut writing = self.members.writing.lock().await;
        let owed = writing.owed.iter().filter(|slot| self.broke_lately(*slot));
        let away = owed.fold(away, SlotSet::with);
        let lost = SlotSet(lost.0 | writing.owed.0).and(self.members.current());
        if lost.is_empty() {
            return Ok(());
        }
        self.store(&mut writing, Change { lost, ..Change::default() }, away, reason).await
    }

    fn begin_away(&self, slot: Slot) {
        self.members.away.begin(slot);
        self.members.conn(slot).begin_absence();
    }

    fn broke_lately(&self, slot: Slot) -> bool {
        self.members.conn(slot).broke_at().is_some_and(|at| at.elapsed() < self.config.stall)
    }

    /// Writes the record anew. A former owner may have gone while it wrote it: some of its voters do not have it then,
    /// and could begin without the others.
    pub(super) async fn confirm_record(self: &Arc<Core>) -> Result<(), VolumeError> {
        let mut writing = self.members.writing.lock().await;
        let reason = "it failed when the volume was mounted";
        self.store(&mut writing, Change::default(), SlotSet::default(), reason).await
    }

    /// Makes a member current again that has everything by now. The caller sees to it that nothing is changed meanwhile.
    ///
    /// # Errors
    /// When too few voters can be reached, or it is not away any more.
    pub(super) async fn reinstate(self: &Arc<Core>, slot: Slot) -> Result<(), VolumeError> {
        let mut writing = self.members.writing.lock().await;
        writing.nothing_owed()?;
        let nobody = SlotSet::default();
        let mut others = self.members.others();
        others.push(self.members.record());
        // As soon as one voter has the new record the next owner may go by it. So this one does, too: whoever fails while
        // it is written is dropped from it, the returned member as well.
        let mut record = self.changed(Change { back: Some(slot), ..Change::default() })?;
        record.version = writing.next_version();
        if self.members.away.end(slot).is_none() {
            return Err(VolumeError::Lost("it was left out meanwhile".into()));
        }
        self.adopt(record, nobody);
        self.healing.forget(slot);
        writing.back = writing.back.with(slot);
        self.members.heed(others);
        let stored = self.store(&mut writing, Change::default(), nobody, "it failed when a server came back").await;
        if let Err(error) = stored {
            // Until then the voters believe less than is true.
            tracing::warn!(volume = self.config.name, %error, "the membership record is written with the next change");
        }
        self.log(Some(slot), &Event::ServerResumed);
        Ok(())
    }

    /// Writes the record with a change, without those members too that fail at that.
    async fn store(
        self: &Arc<Core>,
        writing: &mut Writing,
        change: Change,
        away: SlotSet,
        reason: &str,
    ) -> Result<(), VolumeError> {
        let record = |lost| self.changed(Change { lost, ..change });
        let Dropped { all, may_return } = self.store_without(writing, change.lost, away, record).await?;
        for slot in all.iter().filter(|slot| !may_return.has(*slot)) {
            self.log(Some(slot), &Event::MemberDropped { slot: slot.0, reason: reason.to_string() });
        }
        Ok(())
    }

    /// Writes the record that `without` makes of the present one, the members that are absent, and the bricks that are here, which beats
    /// all records that others can write. Returns who is absent then.
    pub(super) async fn store_forced(
        self: &Arc<Core>,
        absent: SlotSet,
        without: impl Fn(&Membership, SlotSet, &[BrickId]) -> Result<Membership, Shortage>,
    ) -> Result<SlotSet, VolumeError> {
        let mut writing = self.members.writing.lock().await;
        let old = self.members.record();
        let forced = old.forced() + 1;
        if forced == FORCED_MAX {
            return Err(VolumeError::Lost("members were left out too often".into()));
        }
        writing.newest = Membership::first_version(forced, self.members.epoch());
        let without = |lost| {
            without(&old, lost, &self.reachable_voters(&old, lost)).map_err(|shortage| shortage_words(&old, shortage))
        };
        Ok(self.store_without(&mut writing, absent, SlotSet::default(), without).await?.all)
    }

    /// Stores a record without `lost`, and without those that fail at that. Those of them in `away` are away from then on.
    async fn store_without(
        self: &Arc<Core>,
        writing: &mut Writing,
        mut lost: SlotSet,
        away: SlotSet,
        without: impl Fn(SlotSet) -> Result<Membership, VolumeError>,
    ) -> Result<Dropped, VolumeError> {
        loop {
            let mut record = without(lost)?;
            // What some voters may have binds whatever comes after it, so nobody is given a record that others will not take.
            let (silent, is_silent) = self.silent(&record).await;
            if is_silent {
                lost = SlotSet(lost.0 | silent.0);
                continue;
            }
            record.version = writing.next_version();
            writing.begin(&self.members, &record, lost);
            let failed = self.store_record(&record, writing.back).await?;
            if failed.is_empty() {
                writing.end(&self.members);
                let away = away.and(lost);
                let may_return: SlotSet = away.iter().filter(|slot| self.broke_lately(*slot)).collect();
                lost.iter().for_each(|slot| self.healing.forget(slot));
                // What is acknowledged from here on, they miss.
                away.iter().for_each(|slot| self.begin_away(slot));
                self.adopt(record, away);
                for slot in away.iter() {
                    tokio::spawn(Arc::clone(self).bring_back(slot, !may_return.has(slot)));
                }
                return Ok(Dropped { all: lost, may_return });
            }
            lost = SlotSet(lost.0 | failed.0);
        }
    }

    /// Writes a record in which `bricks` vote too.
    pub(super) async fn add_voters(&self, bricks: &[BrickId]) -> Result<(), VolumeError> {
        let mut writing = self.members.writing.lock().await;
        let mut record = self.members.record();
        let known = record.voters.len();
        record.voters.extend(bricks.iter().filter(|brick| !self.members.record().voters.contains(brick)));
        record.voters.truncate(VOTERS_MAX);
        if record.voters.len() == known {
            return Ok(());
        }
        self.store_or_give_up(&mut writing, record, || {}).await
    }

    /// A spare that was released is empty: it is like any other.
    ///
    /// # Errors
    /// As [`Core::replace`].
    pub(super) async fn forget_released(&self, brick: BrickId) -> Result<(), VolumeError> {
        let mut writing = self.members.writing.lock().await;
        let mut record = self.members.record();
        record.formers.retain(|former| *former != Former::Released { brick });
        self.store_or_give_up(&mut writing, record, || {}).await
    }

    /// A brick that is ours by now takes the slot of one that is not current, and is caught up from what it has.
    ///
    /// # Errors
    /// When too few members or voters can be reached, or one goes meanwhile; when the slot has become current, or is about to.
    pub(super) async fn replace(
        self: &Arc<Core>,
        taken: Taken,
        seat: &Seat,
        _nobody_heals: &Stopped,
    ) -> Result<(), VolumeError> {
        let Taken { slot, .. } = taken;
        let mut writing = self.members.writing.lock().await;
        if self.members.recipients().has(slot) {
            return Err(VolumeError::Lost("the member is back".into()));
        }
        let record = self.changed(Change { taken: Some(taken), ..Change::default() })?;
        let before = self.members.seat(slot);
        let is_released = before.brick().is_some_and(|brick| record.is_released(brick));
        let sit = || {
            before.set_lost_slot(!is_released);
            seat.set_lost_slot(false);
            self.members.sit(slot, seat);
            self.healing.forget(slot);
        };
        self.store_or_give_up(&mut writing, record, sit).await
    }

    /// Stores a record that can be given up; `stored` is called before it counts.
    async fn store_or_give_up(
        &self,
        writing: &mut Writing,
        mut record: Membership,
        stored: impl FnOnce(),
    ) -> Result<(), VolumeError> {
        writing.nothing_owed()?;
        record.version = writing.next_version();
        self.members.heed_too(&record);
        let failed = self.store_record(&record, writing.back).await?;
        if !failed.is_empty() {
            return Err(VolumeError::Lost("a server went away meanwhile".into()));
        }
        stored();
        self.adopt(record, SlotSet::default());
        Ok(())
    }

    /// The record with a change, of the same version, when that leaves enough members and voters.
    fn changed(&self, change: Change) -> Result<Membership, VolumeError> {
        let old = self.members.record();
        let reachable = self.reachable_voters(&old, change.lost);
        let others = self.members.others();
        let record = quorum::changed(&old, &others, change, self.checkpoints.completed(), &reachable);
        record.map_err(|shortage| shortage_words(&old, shortage))
    }

    fn reachable_voters(&self, old: &Membership, lost: SlotSet) -> Vec<BrickId> {
        let is_lost = |seat: &&Seat| self.members.slot_of(seat).is_some_and(|slot| lost.has(slot));
        let seats = self.members.everybody().filter(|seat| seat.conn.is_up() && !is_lost(seat));
        let reachable = seats.filter_map(Seat::brick);
        reachable.filter(|brick| old.voters.contains(brick)).collect()
    }

    /// Voters that do not answer: members among them, and whether there are any.
    async fn silent(&self, record: &Membership) -> (SlotSet, bool) {
        let is_voter = |seat: &&Seat| seat.brick().is_some_and(|brick| record.voters.contains(&brick));
        let calls = self.members.everybody().filter(is_voter).map(|seat| async move {
            let answer = seat.conn.call(&Request::Ping, Vec::new(), Vec::new(), false).await;
            matches!(answer, Err(CallError::Lost(_))).then(|| self.members.slot_of(seat))
        });
        let silent: Vec<Option<Slot>> = futures_util::future::join_all(calls).await.into_iter().flatten().collect();
        (silent.iter().flatten().copied().collect(), !silent.is_empty())
    }

    /// Writes the record to all its voters, to members that are back after all others: these could begin without them, by their
    /// old record, and nobody would know that who is back misses what they do. And to those that did not vote before after all who
    /// did: who takes the volume next meets these, and has to know it. Returns members that failed meanwhile.
    async fn store_record(&self, record: &Membership, back: SlotSet) -> Result<SlotSet, VolumeError> {
        let before = self.members.record().voters;
        let voters = |seat: &&Seat| seat.brick().is_some_and(|brick| record.voters.contains(&brick));
        let seats = self.members.everybody().filter(voters);
        let is_back = |seat: &Seat| self.members.slot_of(seat).is_some_and(|slot| back.has(slot));
        let is_new = |seat: &Seat| seat.brick().is_none_or(|brick| !before.contains(&brick));
        let (last, first): (Vec<&Seat>, Vec<&Seat>) = seats.partition(|seat| is_back(seat) || is_new(seat));
        let failed = self.store_record_on(record, &first).await?;
        if failed.is_empty() && !last.is_empty() { self.store_record_on(record, &last).await } else { Ok(failed) }
    }

    async fn store_record_on(&self, record: &Membership, seats: &[&Seat]) -> Result<SlotSet, VolumeError> {
        let request = Request::SetMembership { membership: record.clone() };
        let calls = seats.iter().map(|seat| seat.conn.call(&request, Vec::new(), Vec::new(), false));
        let answers = futures_util::future::join_all(calls).await;
        let mut failed = SlotSet::default();
        for (seat, answer) in seats.iter().zip(answers) {
            match answer {
                Ok(_) => {}
                Err(CallError::Fault(fault @ (Fault::StaleEpoch(_) | Fault::Held { .. }))) => {
                    self.members.note_taken_over(&fault);
                    return Err(VolumeError::Lost(fault.to_string()));
                }
                Err(error) => match seat.brick().and_then(|brick| record.slot_of(brick)) {
                    Some(slot) => failed = failed.with(slot),
                    // A spare that fails is no voter of the next attempt: its connection is down.
                    None => return Err(VolumeError::Lost(format!("spare {}: {error}", seat.conn.server()))),
                },
            }
        }
        Ok(failed)
    }

    fn adopt(&self, record: Membership, away: SlotSet) {
        self.members.adopt(record, away);
        self.check_online();
        self.members.changed.note();
    }
}

fn shortage_words(record: &Membership, shortage: Shortage) -> VolumeError {
    VolumeError::Lost(match shortage {
        Shortage::Members(current) => format!("{current} of {} necessary servers are left", record.members_needed()),
        Shortage::Voters => "too few servers are left to decide who is current".into(),
    })
}
