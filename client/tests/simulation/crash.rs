//! How a round ends: everything, or much of it, stops in the middle of what it does.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::story::{Session, Story};

/// Longest wait for a machine to die at a certain call of its disk.
const CRASH_MAX: Duration = Duration::from_millis(150);

impl Story {
    /// Ends the round. `None` when nobody has the volume any more.
    pub async fn crash(&mut self, mut session: Session) -> Result<Option<Session>, String> {
        let kind = self.random.below(16);
        if kind < 2 {
            for actor in session.actors.drain(..) {
                let _ = actor.await;
            }
            self.trace.note(format_args!("unmount"));
            session.fs.close().await;
            self.judge()?;
            let mut history = self.history.lock().unwrap();
            let tick = history.tick;
            history.durable(tick);
            drop(history);
            if self.random.chance(4) {
                self.power_off_all();
            }
            return Ok(None);
        }
        if kind == 2 {
            return self.depose(session).await;
        }
        if self.random.chance(4) {
            self.let_some_crash().await;
        }
        self.kill_client(session);
        match kind {
            3..4 => {}
            4..8 => self.kill_all(),
            8..13 => self.power_off_all(),
            _ => self.stop_some(),
        }
        self.judge()?;
        Ok(None)
    }

    /// Lets machines die at a certain call of their disks, in the middle of a write perhaps, and waits until one has.
    pub async fn let_some_crash(&mut self) {
        for machine in self.machines.clone() {
            if self.random.chance(4) {
                let (call, written) = (self.random.below(80), self.random.below(20_000) as usize);
                machine.crash_after(call, written);
            }
        }
        let deadline = Instant::now() + CRASH_MAX;
        while Instant::now() < deadline && !self.machines.iter().any(|machine| machine.has_crashed()) {
            sleep(Duration::from_millis(1)).await;
        }
        // Others that have not met their call yet may do so in what follows, or not.
        self.pause(5).await;
    }

    pub fn kill_all(&self) {
        self.trace.fault("all servers killed", format_args!(""));
        self.machines.iter().for_each(|machine| machine.kill());
    }

    pub fn power_off_all(&mut self) {
        self.trace.fault("power lost everywhere", format_args!(""));
        for machine in &self.machines {
            machine.power_off(self.random.draw());
            self.powerless.insert(machine.index);
        }
    }

    fn stop_some(&mut self) {
        self.trace.fault("some killed, some without power", format_args!(""));
        for machine in self.machines.clone() {
            match self.random.below(3) {
                0 => machine.kill(),
                1 => {
                    machine.power_off(self.random.draw());
                    self.powerless.insert(machine.index);
                }
                // What died in the middle of a request is not running in any case.
                _ if machine.has_crashed() => machine.kill(),
                _ => {}
            }
        }
    }
}
