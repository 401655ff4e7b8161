//! A new owner after a crash, and what it must find.

use std::collections::BTreeSet;
use std::sync::Arc;

use net_raid_proto::ids::{BrickId, Slot};
use net_raid_proto::membership::{Label, Membership};
use net_raid_proto::message::{BrickState, Holder};
use net_raid_server::brick::Brick;
use net_raid_server::brick::sabotage::{Sabotage, choose};

use crate::common::offline;
use crate::machine::Machine;
use crate::story::{Session, Story};
use crate::verify::verify;

/// Bricks that are opened to be looked at do nothing wrong, whatever those that serve do.
struct Honest(Sabotage);

impl Honest {
    fn new() -> Honest {
        Honest(choose(Sabotage::None))
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        choose(self.0);
    }
}

/// What the labels of all machines that are left say.
struct Newest {
    record: Membership,
    /// All its voters that are left have it.
    stored: bool,
}

impl Newest {
    /// Whether these machines are enough to go on.
    fn suffices(&self, here: &BTreeSet<usize>) -> bool {
        let is_here = |brick: &BrickId| here.contains(&index_of(*brick));
        let away = self.record.voters.iter().filter(|voter| !is_here(voter)).count();
        let current =
            self.record.current_slots().filter(|slot| is_here(&self.record.slots[slot.index()].brick)).count();
        away < self.record.quorum() && current >= self.record.members_needed()
    }
}

/// Bricks are named after their machines.
fn index_of(brick: BrickId) -> usize {
    usize::from(brick.0[0]) - 1
}

fn label_of(machine: &Machine) -> Result<Option<Label>, String> {
    let stopped = machine.stopped();
    let brick = Brick::open(stopped.disk, stopped.options);
    let brick = brick.map_err(|error| format!("brick {} does not open: {error}", machine.index))?;
    Ok(match offline::state_of(&brick)? {
        BrickState::Labelled { label, .. } => Some(label),
        _ => None,
    })
}

impl Story {
    /// Restarts, recovers and verifies. `None` when the volume rightly cannot be had any more.
    pub async fn recover(&mut self) -> Result<Option<Session>, String> {
        let newest = self.newest()?;
        let mut here: BTreeSet<usize> = self.left();
        if !newest.suffices(&here) {
            self.trace.note(format_args!("too few machines are left to know what is newest"));
            return self.refused(&here).await.map(|()| None);
        }
        self.try_without_newest(&newest, &here).await?;
        let away: Vec<usize> = self.setup.unreliable.clone();
        for index in away {
            let less: BTreeSet<usize> = here.iter().copied().filter(|other| *other != index).collect();
            if here.contains(&index) && self.random.chance(1) && newest.suffices(&less) {
                self.trace.fault("server away at assembly", format_args!("{index}"));
                self.machines[index].kill();
                here = less;
            }
        }
        let session = loop {
            self.start(&here)?;
            let client = self.new_client();
            if self.random.chance(1) {
                self.interrupt(client).await?;
                continue;
            }
            match self.open(&client).await {
                Ok(volume) => break self.session(client, volume),
                Err(why) => return Err(format!("not assembled: {why}")),
            }
        };
        self.check()?;
        self.start_machines()?;
        Ok(Some(session))
    }

    /// Machines that were dropped take the place of others among those that may be lost.
    pub fn spare_others(&mut self) -> Result<(), String> {
        let record = self.newest()?.record;
        let is_current =
            |index: usize| record.current_slots().any(|slot| index_of(record.slots[slot.index()].brick) == index);
        for dropped in (0..self.setup.servers).filter(|index| !is_current(*index)) {
            let unreliable = &mut self.setup.unreliable;
            if unreliable.contains(&dropped) {
                continue;
            }
            if let Some(other) =
                unreliable.iter_mut().find(|index| is_current(**index) || **index >= record.slots.len())
            {
                *other = dropped;
            }
        }
        Ok(())
    }

    /// Machines whose bricks are current members.
    pub fn current(&self) -> Result<BTreeSet<usize>, String> {
        let record = self.newest()?.record;
        Ok(record.current_slots().map(|slot| index_of(record.slots[slot.index()].brick)).collect())
    }

    /// Machines that are not lost.
    fn left(&self) -> BTreeSet<usize> {
        self.machines.iter().filter(|machine| !machine.is_lost()).map(|machine| machine.index).collect()
    }

    fn start(&self, here: &BTreeSet<usize>) -> Result<(), String> {
        let machines = self.machines.iter().filter(|machine| here.contains(&machine.index));
        for machine in machines {
            if machine.has_crashed() {
                machine.kill();
            }
            machine.disarm();
            machine.start()?;
        }
        Ok(())
    }

    fn newest(&self) -> Result<Newest, String> {
        let _honest = Honest::new();
        let mut labels = Vec::new();
        for index in self.left() {
            if let Some(label) = label_of(&self.machines[index])? {
                labels.push(label);
            }
        }
        let record = labels.iter().map(|label| &label.membership).max_by_key(|record| record.version);
        let record = record.ok_or("no labels are left")?.clone();
        let old = |label: &Label| record.voters.contains(&label.brick) && label.membership != record;
        Ok(Newest { stored: !labels.iter().any(old), record })
    }

    /// Machines that do not know enough must not start alone.
    async fn try_without_newest(&mut self, newest: &Newest, left: &BTreeSet<usize>) -> Result<(), String> {
        if !newest.stored || !self.random.chance(2) {
            return Ok(());
        }
        let some: BTreeSet<usize> = left.iter().copied().filter(|_| self.random.chance(4)).collect();
        if some.is_empty() || newest.suffices(&some) {
            return Ok(());
        }
        self.trace.fault("start without the newest members", format_args!("{some:?} of {left:?}"));
        self.refused(&some).await
    }

    async fn refused(&mut self, here: &BTreeSet<usize>) -> Result<(), String> {
        self.machines.iter().filter(|machine| !here.contains(&machine.index)).for_each(|machine| machine.kill());
        self.start(here)?;
        let client = self.new_client();
        let opened = self.open(&client).await;
        client.kill();
        match opened {
            Ok(_) => Err(format!("machines {here:?} started without knowing what is newest")),
            Err(_) => Ok(()),
        }
    }

    /// A recovery that is itself stopped in the middle.
    async fn interrupt(&mut self, client: Arc<crate::client::Client>) -> Result<(), String> {
        let opening = {
            let (config, world) = self.assembly(&client);
            tokio::spawn(async move { drop(net_raid_client::volume::open(&config, world, events()).await) })
        };
        self.trace.fault("recovery interrupted", format_args!(""));
        self.pause(200).await;
        if self.random.chance(4) {
            self.let_some_crash().await;
        }
        opening.abort();
        client.kill();
        match self.random.below(3) {
            0 => self.kill_all(),
            1 => self.power_off_all(),
            _ => {}
        }
        Ok(())
    }

    /// Checks all that the bricks hold against all that was done.
    pub fn check(&mut self) -> Result<(), String> {
        let _honest = Honest::new();
        let newest = self.newest()?;
        let slots: Vec<Slot> = newest.record.current_slots().collect();
        let machines = self.left().into_iter().filter(|index| !self.rotten.contains(index));
        let stopped = machines.map(|index| self.machines[index].stopped()).collect();
        let holder = Holder { host: "checker".into(), pid: 1, started_ticks: 1, boot: String::new() };
        let contents = offline::check_all(stopped, &holder, &[], true)?;
        let lossy = self.is_lossy(&newest);
        self.trace.note(format_args!("current {slots:?}, {} names, lossy {lossy}", contents.tree.len()));
        let mut history = self.history.lock().unwrap();
        verify(&mut history, &contents, lossy)?;
        (history.beyond, history.full) = (false, false);
        drop(history);
        self.powerless.clear();
        Ok(())
    }

    /// Whether a member that counts lost what it had not written.
    fn is_lossy(&self, newest: &Newest) -> bool {
        let is_current = |index: &usize| {
            let record = &newest.record;
            record.current_slots().any(|slot| index_of(record.slots[slot.index()].brick) == *index)
        };
        self.powerless.iter().any(|index| is_current(index) || !newest.stored)
    }
}

fn events() -> Arc<net_raid_client::events::EventLog> {
    Arc::new(net_raid_client::events::EventLog::open(None).expect("no file"))
}
