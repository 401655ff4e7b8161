//! Who the brick belongs to: label, epoch, holder, and for how long nothing was heard from it.

use std::sync::RwLockReadGuard;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use net_raid_proto::ids::{BrickId, Epoch, Generation, VolumeId};
use net_raid_proto::limits::LEASE_MS;
use net_raid_proto::membership::{Label, Membership, SlotState};
use net_raid_proto::message::{BrickFile, BrickState, Fault, Holder, Reply, VERSION_MAX, VERSION_MIN};

use super::Brick;
use super::error::Result;
use super::label::{self, Stored};
use super::open::Areas;
use super::sabotage::{Sabotage, is_chosen};
use crate::disk::Disk;

/// What the brick is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Standing {
    /// Ready to be formatted.
    Empty { brick: BrickId },
    /// Part of a volume.
    Labelled {
        stored: Box<Stored>,
        /// `Own` was accepted since the start: the generation is known, and the epoch's frames are served.
        owned: bool,
    },
    /// Not to be touched.
    Unusable { why: String },
}

fn refused(why: impl Into<String>) -> Fault {
    Fault::Refused(why.into())
}

fn not_labelled(standing: &Standing) -> Fault {
    match standing {
        Standing::Unusable { why } => refused(why.clone()),
        _ => refused("the brick belongs to no volume yet"),
    }
}

impl Standing {
    fn stored(&self) -> std::result::Result<&Stored, Fault> {
        match self {
            Standing::Labelled { stored, .. } => Ok(stored),
            other => Err(not_labelled(other)),
        }
    }
}

impl<D: Disk> Brick<D> {
    pub(super) fn standing(&self) -> RwLockReadGuard<'_, Standing> {
        self.standing.read().expect("no holder panics")
    }

    /// Why the directory was found not to be a brick; `None` when it is one or can become one.
    pub fn unusable(&self) -> Option<String> {
        match &*self.standing() {
            Standing::Unusable { why } => Some(why.clone()),
            _ => None,
        }
    }

    /// Lets a frame of the present owner in, for as long as the guard is held: a new owner is told yes
    /// only after everything of the old one has ended.
    pub(super) fn admit(&self, epoch: Epoch, now_ms: u64) -> Result<RwLockReadGuard<'_, Standing>> {
        let standing = self.standing();
        let Standing::Labelled { stored, owned } = &*standing else { return Err(not_labelled(&standing).into()) };
        if epoch < stored.label.epoch {
            return Err(Fault::StaleEpoch(stored.label.epoch).into());
        }
        if epoch > stored.label.epoch || !owned {
            return Err(refused(format!("epoch {epoch} does not own the brick since it started")).into());
        }
        self.heard_ms.fetch_max(now_ms, Relaxed);
        Ok(standing)
    }

    pub(super) fn hello(&self, version_min: u16, version_max: u16, now_ms: u64) -> Result<Reply> {
        let version = version_max.min(VERSION_MAX);
        if version < version_min.max(VERSION_MIN) {
            return Err(Fault::Version { min: VERSION_MIN, max: VERSION_MAX }.into());
        }
        let brick = match (&*self.standing(), self.failure()) {
            (_, Some(why)) => BrickState::Unusable { why },
            (Standing::Empty { brick }, _) => BrickState::Empty { brick: *brick },
            (Standing::Unusable { why }, _) => BrickState::Unusable { why: why.clone() },
            (Standing::Labelled { stored, .. }, _) => {
                let holder = stored.holder.clone().map(|holder| (holder, self.age_ms(now_ms)));
                BrickState::Labelled { label: told(&stored.label), holder }
            }
        };
        Ok(Reply::Welcome { version, features: 0, brick: Box::new(brick) })
    }

    /// Milliseconds since the owner was heard. After a restart the count begins anew: the brick
    /// cannot know how long it was away.
    fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.heard_ms.load(Relaxed))
    }

    /// Renews the lease, for frames of the owner only; one that was replaced hears of that.
    pub(super) fn ping(&self, epoch: Epoch, now_ms: u64) -> Result<Reply> {
        if let Standing::Labelled { stored, owned } = &*self.standing() {
            if Epoch(0) < epoch && epoch < stored.label.epoch {
                return Err(Fault::StaleEpoch(stored.label.epoch).into());
            }
            if *owned && stored.label.epoch == epoch {
                self.heard_ms.fetch_max(now_ms, Relaxed);
            }
        }
        Ok(Reply::Done)
    }

    pub(super) fn format(&self, label: &Label) -> Result<Reply> {
        check_record(&label.membership)?;
        let mut sequence = self.sequence.lock().expect("no holder panics");
        match &*self.standing() {
            Standing::Empty { brick } if *brick == label.brick => {}
            Standing::Empty { brick } => return Err(refused(format!("this is brick {brick}")).into()),
            Standing::Labelled { stored, .. } => return same_label(&stored.label, label),
            unusable => return Err(not_labelled(unusable).into()),
        }
        let label = Label { ownership: self.options.ownership, ..label.clone() };
        let stored = Stored {
            label,
            holder: None,
            applied: Generation(0),
            boot: self.options.boot.clone(),
            doubt: Generation(0),
        };
        let areas = Areas::make(&self.disk, self.options.ownership)?;
        label::store_first(&self.disk, &areas.area, &stored)?;
        *sequence = 1;
        self.set_areas(areas, stored.label.ownership);
        *self.standing.write().expect("no holder panics") =
            Standing::Labelled { stored: Box::new(stored), owned: false };
        tracing::info!("brick formatted");
        Ok(Reply::Done)
    }

    pub(super) fn own(
        &self,
        volume: VolumeId,
        (epoch, generation): (Epoch, Generation),
        holder: &Holder,
        take_over: bool,
        now_ms: u64,
    ) -> Result<Reply> {
        let mut sequence = self.sequence.lock().expect("no holder panics");
        let present = self.standing().stored()?.clone();
        if present.label.volume != volume {
            return Err(refused(format!("the brick belongs to volume {}", present.label.volume)).into());
        }
        let same = present.holder.as_ref() == Some(holder);
        if epoch < present.label.epoch || epoch == present.label.epoch && !same {
            return Err(Fault::StaleEpoch(present.label.epoch).into());
        }
        if epoch == present.label.epoch && !take_over && !self.intact.load(Relaxed) {
            return Err(refused("its machine was restarted: what it had not written to its disk is lost").into());
        }
        let age_ms = self.age_ms(now_ms);
        if let Some(other) = present.holder.clone().filter(|_| !same && !take_over && age_ms < LEASE_MS) {
            return Err(Fault::Held { holder: other, age_ms }.into());
        }
        let mut next = present.clone();
        next.label.epoch = epoch;
        next.holder = Some(holder.clone());
        next.boot.clone_from(&self.options.boot);
        let is_whole = self.intact.load(Relaxed);
        if !is_whole {
            next.doubt = self.newest_waiting();
        }
        if next != present {
            self.write_label(&mut sequence, &next)?;
        }
        if epoch != present.label.epoch {
            self.fresh_orphans.lock().expect("no holder panics").clear();
        }
        // Waits for what the old owner has under way; its frames are refused from here on.
        let mut standing = self.standing.write().expect("no holder panics");
        let label = told(&next.label);
        *standing = Standing::Labelled { stored: Box::new(next), owned: true };
        self.generation.fetch_max(generation.0, AcqRel);
        self.intact.store(true, Relaxed);
        self.heard_ms.store(now_ms, Relaxed);
        tracing::info!(epoch = epoch.0, generation = generation.0, host = holder.host, pid = holder.pid, "brick owned");
        Ok(Reply::Owned { label: Box::new(label), before: present.holder, is_whole })
    }

    /// The caller must not hold a guard of `standing`.
    pub(super) fn disown(&self, epoch: Epoch) -> Result<Reply> {
        self.sync_all()?;
        if self.has_waiting() {
            return Err(refused("bytes wait in the log for a checkpoint").into());
        }
        self.change_label(epoch, |stored| {
            stored.holder = None;
            Ok(())
        })?;
        Ok(Reply::Done)
    }

    /// The caller must not hold a guard of `standing`.
    pub(super) fn set_membership(&self, epoch: Epoch, membership: &Membership) -> Result<Reply> {
        check_record(membership)?;
        self.change_label(epoch, |stored| {
            let present = &stored.label.membership;
            if membership.version < present.version || membership.version == present.version && membership != present {
                return Err(refused(format!("membership record {} is here already", present.version)));
            }
            stored.label.membership = membership.clone();
            Ok(())
        })?;
        Ok(Reply::Done)
    }

    /// Changes the label for the owner of `epoch`, which nobody can replace meanwhile.
    pub(super) fn change_label(
        &self,
        epoch: Epoch,
        change: impl FnOnce(&mut Stored) -> std::result::Result<(), Fault>,
    ) -> Result<()> {
        let mut sequence = self.sequence.lock().expect("no holder panics");
        let present = self.standing().stored()?.clone();
        if epoch < present.label.epoch {
            return Err(Fault::StaleEpoch(present.label.epoch).into());
        }
        let mut next = present.clone();
        change(&mut next)?;
        if next != present {
            self.write_label(&mut sequence, &next)?;
        }
        if let Standing::Labelled { stored, owned } = &mut *self.standing.write().expect("no holder panics") {
            *owned = *owned && next.holder.is_some();
            **stored = next;
        }
        Ok(())
    }

    fn write_label(&self, sequence: &mut u64, stored: &Stored) -> Result<()> {
        self.write_copy(*sequence + 1, stored)?;
        *sequence += 1;
        Ok(())
    }

    fn write_copy(&self, number: u64, stored: &Stored) -> Result<()> {
        let file = label::store(&self.disk, &self.areas()?.area, number, stored)?;
        self.disk.sync_data(&file).map_err(|error| self.sync_failed(error.into()))
    }

    /// Writes copies of the label anew that cannot be read any more; returns which.
    ///
    /// The caller must not hold a guard of `standing`.
    pub(super) fn mend_labels(&self, epoch: Epoch) -> Result<Vec<BrickFile>> {
        let mut sequence = self.sequence.lock().expect("no holder panics");
        let stored = self.standing().stored()?.clone();
        if epoch < stored.label.epoch {
            return Err(Fault::StaleEpoch(stored.label.epoch).into());
        }
        let damaged = label::damaged(&self.disk, &self.areas()?.area, *sequence, &stored)?;
        for number in &damaged {
            tracing::warn!(copy = label::copy_of(*number), "a copy of the label is damaged");
            match *number == *sequence {
                // Before the other one is touched.
                true => self.write_copy(*number, &stored)?,
                // What it said is not known, and not needed.
                false => self.write_label(&mut sequence, &stored)?,
            }
        }
        Ok(damaged.into_iter().map(|number| BrickFile::Label(label::copy_of(number))).collect())
    }

    /// Generation that changes are stamped with.
    pub(super) fn generation(&self) -> Generation {
        Generation(self.generation.load(Acquire))
    }
}

/// The label as owners are told it.
fn told(label: &Label) -> Label {
    let mut label = label.clone();
    if is_chosen(Sabotage::TrustStale) {
        label.membership.slots.iter_mut().for_each(|slot| slot.state = SlotState::Current);
    }
    label
}

/// A brick keeps no record that nobody could use.
fn check_record(membership: &Membership) -> std::result::Result<(), Fault> {
    if membership.is_valid() { Ok(()) } else { Err(refused("the membership record is not valid")) }
}

fn same_label(present: &Label, asked: &Label) -> Result<Reply> {
    let same = present.volume == asked.volume && present.brick == asked.brick;
    if same && present.membership == asked.membership {
        return Ok(Reply::Done);
    }
    Err(refused(format!("the brick already belongs to volume {}", present.volume)).into())
}
