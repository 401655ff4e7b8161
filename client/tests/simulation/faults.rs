//! What goes wrong while programs work, and goes away again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::machine::{Machine, rot};
use crate::story::{Session, Story};

/// Longest time between two faults, in ms.
const BETWEEN: u64 = 300;
/// A stop that no owner drops a server for.
const SHORT_STOP: u64 = 300;
/// Longest time for which no server runs, in ms: programs wait for longer than that.
const ALL_GONE: u64 = 1000;
/// Longest time for which all disks are full, in ms.
const ALL_FULL: u64 = 1000;
/// Longest time that members are given to catch up, in ms.
const CATCH_UP: u64 = 6000;
/// Programs begin anew so long before a spare may take the slot of a server that is gone, and that may be back within so many ms then.
const BEFORE_SPARE: Duration = Duration::from_millis(100);
const AROUND_SPARE: u64 = 600;
/// A server that is back is connected again within so many short stops.
const SPARE_STOPS: usize = 5;
/// A client has found its servers again within this.
const FOUND_AGAIN: Duration = Duration::from_millis(2500);

/// What ends a fault.
enum Heal {
    Start,
    Thaw,
    Join,
    Empty,
}

impl Story {
    /// Programs work, and machines of which some may be lost have troubles.
    pub async fn work(&mut self, session: &mut Session) -> Result<(), String> {
        self.decay();
        self.employ(session);
        let mut heals: Vec<(Instant, Arc<Machine>, Heal)> = Vec::new();
        let mut calm = self.rotten.is_empty();
        for _ in 0..self.random.below(6) {
            let next = Instant::now() + Duration::from_millis(self.random.below(BETWEEN));
            self.heal(session, &mut heals, next).await?;
            if self.random.chance(3) {
                self.trouble_all(session, calm).await?;
            } else {
                calm = false;
                heals.extend(self.trouble_some(session));
            }
            self.judge()?;
        }
        let end = Instant::now() + Duration::from_millis(self.random.below(BETWEEN));
        self.heal(session, &mut heals, end).await?;
        // Whatever lasts longer ends now.
        for (_, machine, heal) in heals {
            self.end(session, &machine, &heal)?;
        }
        self.outlast(session).await?;
        self.let_catch_up().await?;
        self.judge()
    }

    /// A server is gone until a spare takes its slot, at about that moment: it may come just before, while the spare is rebuilt, or too
    /// late.
    async fn outlast(&mut self, session: &mut Session) -> Result<(), String> {
        if self.setup.spares == 0 || !self.random.chance(4) {
            return Ok(());
        }
        let index = self.setup.unreliable[self.random.below(self.setup.unreliable.len() as u64) as usize];
        let machine = Arc::clone(&self.machines[index]);
        if machine.is_lost() {
            return Ok(());
        }
        self.trace.fault("server gone until a spare comes", format_args!("{index}"));
        let heal = if self.random.chance(2) {
            machine.kill();
            Heal::Start
        } else {
            session.client.lines[index].send_replace(true);
            Heal::Join
        };
        sleep(self.config.timeout.saturating_sub(BEFORE_SPARE)).await;
        for actor in session.actors.drain(..) {
            actor.await.map_err(|error| format!("an actor: {error}"))?;
        }
        self.employ(session);
        if self.random.chance(2) {
            sleep(Duration::from_millis(self.random.below(AROUND_SPARE))).await;
            self.end(session, &machine, &heal)?;
            return self.judge();
        }
        let deadline = Instant::now() + Duration::from_millis(AROUND_SPARE);
        while session.volume.catch_up_progress().iter().all(|progress| progress.copied == 0)
            && Instant::now() < deadline
        {
            sleep(Duration::from_millis(1)).await;
        }
        self.end(session, &machine, &heal)?;
        // The spare hardly moves, so that the other one is found again before the rebuild is over.
        let spare = Arc::clone(&self.machines[self.setup.servers]);
        for _ in 0..SPARE_STOPS {
            if !spare.is_running() || *spare.frozen.borrow() {
                break;
            }
            self.trace.fault("spare stopped for a moment", format_args!("{}", spare.index));
            spare.frozen.send_replace(true);
            sleep(Duration::from_millis(SHORT_STOP)).await;
            spare.frozen.send_replace(false);
            let moves = Duration::from_millis(self.random.below(5));
            sleep(moves).await;
        }
        self.judge()
    }

    /// Those who were dropped and are back are given time to catch up; work goes on, or is done by then.
    async fn let_catch_up(&mut self) -> Result<(), String> {
        if self.random.chance(4) {
            return Ok(());
        }
        let before = self.current()?;
        self.pause(CATCH_UP).await;
        let after = self.current()?;
        for index in after.difference(&before) {
            self.trace.fault("server caught up", format_args!("{index}"));
        }
        Ok(())
    }

    /// Bits flip on disks where nothing is under way.
    fn decay(&mut self) {
        if !self.random.chance(1) {
            return;
        }
        let unreliable = self.setup.unreliable.clone();
        for index in unreliable {
            let machine = Arc::clone(&self.machines[index]);
            if machine.is_lost() || !self.random.chance(4) {
                continue;
            }
            for _ in 0..1 + self.random.below(3) {
                if let Some(place) = rot(&machine.disk(), &mut self.random) {
                    self.trace.fault("bit flipped at rest", format_args!("{index}: {place}"));
                    self.rotten.insert(index);
                }
            }
        }
    }

    async fn heal(
        &mut self,
        session: &Session,
        heals: &mut Vec<(Instant, Arc<Machine>, Heal)>,
        until: Instant,
    ) -> Result<(), String> {
        heals.sort_by_key(|(at, machine, _)| (*at, machine.index));
        while heals.first().is_some_and(|(at, _, _)| *at <= until) {
            let (at, machine, heal) = heals.remove(0);
            sleep_until(at).await;
            self.end(session, &machine, &heal)?;
        }
        sleep_until(until).await;
        Ok(())
    }

    fn end(&mut self, session: &Session, machine: &Machine, heal: &Heal) -> Result<(), String> {
        self.trace.note(format_args!("machine {} is well again", machine.index));
        match heal {
            Heal::Start => {
                if machine.has_crashed() {
                    machine.kill();
                }
                machine.start()?;
            }
            Heal::Thaw => {
                machine.frozen.send_replace(false);
            }
            Heal::Join => {
                session.client.lines[machine.index].send_replace(false);
            }
            Heal::Empty => machine.fill(false),
        }
        Ok(())
    }

    /// What no machine is dropped for.
    ///
    /// When no server runs for a while, those that are found again first may go on without one that is found last; and when all
    /// disks are full, without one that has no room for what they have. So these happen where nothing else has (`calm`),
    /// and who is dropped counts as one that may be lost.
    async fn trouble_all(&mut self, session: &Session, calm: bool) -> Result<(), String> {
        let machine = self.machine();
        if self.random.chance(2) && calm {
            self.trace.fault("all servers killed under the client", format_args!(""));
            self.machines.iter().for_each(|machine| machine.kill());
            let gone = self.random.below(ALL_GONE);
            sleep(Duration::from_millis(gone)).await;
            self.start_machines()?;
            sleep(FOUND_AGAIN).await;
            self.spare_others()?;
        } else if self.random.chance(2) && calm {
            self.trace.fault("all disks full", format_args!(""));
            self.history.lock().unwrap().full = true;
            self.machines.iter().for_each(|machine| machine.fill(true));
            let full = self.random.below(ALL_FULL);
            sleep(Duration::from_millis(full)).await;
            self.machines.iter().for_each(|machine| machine.fill(false));
            sleep(FOUND_AGAIN).await;
            self.spare_others()?;
        } else if self.random.chance(5) {
            let late = self.random.chance(4);
            self.trace.fault("connection cut", format_args!("{}, late {late}", machine.index));
            session.client.cut(machine.index, late);
        } else if machine.is_running() && !*machine.frozen.borrow() {
            self.trace.fault("short stop", format_args!("{}", machine.index));
            machine.frozen.send_replace(true);
            let stop = Duration::from_millis(self.random.below(SHORT_STOP));
            sleep(stop).await;
            machine.frozen.send_replace(false);
        }
        Ok(())
    }

    /// What a machine may be dropped for.
    fn trouble_some(&mut self, session: &Session) -> Option<(Instant, Arc<Machine>, Heal)> {
        let index = self.setup.unreliable[self.random.below(self.setup.unreliable.len() as u64) as usize];
        let machine = Arc::clone(&self.machines[index]);
        if machine.is_lost() {
            return None;
        }
        let ms = if self.random.chance(4) { 100 } else { 3000 };
        let until = Instant::now() + Duration::from_millis(self.random.below(ms));
        let heal = match self.random.below(16) {
            0..3 => {
                self.trace.fault("server killed", format_args!("{index}"));
                machine.kill();
                Heal::Start
            }
            3..5 => {
                self.trace.fault("server killed in a request", format_args!("{index}"));
                machine.crash_after(self.random.below(40), self.random.below(20_000) as usize);
                Heal::Start
            }
            5..8 => {
                self.trace.fault("server frozen", format_args!("{index}"));
                machine.frozen.send_replace(true);
                Heal::Thaw
            }
            8..11 => {
                self.trace.fault("server partitioned", format_args!("{index}"));
                session.client.lines[index].send_replace(true);
                Heal::Join
            }
            11..13 => {
                self.trace.fault("server without power", format_args!("{index}"));
                machine.power_off(self.random.draw());
                self.powerless.insert(index);
                Heal::Start
            }
            13..15 => {
                self.trace.fault("disk full", format_args!("{index}"));
                self.history.lock().unwrap().full = true;
                machine.fill(true);
                Heal::Empty
            }
            _ => {
                self.trace.fault("disk lost for good", format_args!("{index}"));
                machine.lose();
                return None;
            }
        };
        Some((until, machine, heal))
    }
}
