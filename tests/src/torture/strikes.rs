//! Blows, carried out.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::blows::{Amid, Blow, Targets};
use super::report::Report;
use super::rot::rot;
use super::round::Round;
use super::signs::Signs;
use crate::deadline::wait_until;
use crate::process::send;
use crate::scrub::scrub_from_now;

/// How long a member that was hit has until the client has dropped or resumed it, and a spare until it has the slot: that is made durable
/// on all voters first, and takes as long as a busy disk does.
const DECIDED_WITHIN: Duration = Duration::from_secs(180);
/// How long a member has until it has everything: it is written anew, and made durable, while programs write.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(300);
/// How long a scrub of what the writers have may take, with the checkpoint at its end.
const SCRUBBED_WITHIN: Duration = Duration::from_secs(300);
/// Scrubs while nobody writes until one finds nothing: what an earlier one met while it changed is left for the next.
const SCRUBS: u32 = 5;

impl Round {
    /// Inflicts something on the array while the writers work.
    pub(super) fn strike(&mut self, signs: &Signs, report: &mut Report) -> Blow {
        self.note_members();
        self.renew();
        let current = self.members.current();
        let bearable = self.rig.array.losses() - self.members.out();
        let targets = Targets { current: &current, bearable, spare: self.has_spare() };
        let blow = Blow::choose(&mut self.random, targets);
        // Where none may be lost any more, one that is away holds everything up, and perhaps for longer than `timeout`.
        if bearable == 0 || blow == Blow::BlinkAll {
            signs.let_fail();
        }
        match blow {
            Blow::Blink(brick) => self.blink(&[brick], report),
            Blow::BlinkAll => self.blink(&current, report),
            Blow::Pause { brick, ms } => pause(self.rig.cluster[brick].pid(), ms),
            Blow::PauseClient { ms } => pause(self.rig.client.pid(), ms),
            Blow::Lose(brick) => self.lose(brick),
            Blow::Freeze(brick) => {
                self.rig.cluster[brick].freeze();
                self.await_out(brick);
                self.rig.cluster[brick].thaw();
            }
            Blow::Replace { brick, amid } => self.replace(brick, amid),
            Blow::Rot { bricks } => self.let_rot(&current, bricks, signs, report),
            Blow::Scrub => send(self.rig.client.pid(), Signal::SIGUSR1),
        }
        *report.blows.entry(blow.name()).or_default() += 1;
        blow
    }

    /// Whoever lost its slot to a spare gets a new disk, and is the next spare.
    fn renew(&mut self) {
        for brick in 0..self.rig.cluster.len() {
            if self.members.has(brick) || self.members.replaced(brick) == self.renewed[brick] {
                continue;
            }
            self.renewed[brick] = self.members.replaced(brick);
            self.kill_together(&[brick]);
            let dir = self.rig.cluster[brick].dir();
            fs::remove_dir_all(dir).and_then(|()| fs::create_dir(dir)).expect("empty a brick");
            self.lost.remove(&brick);
            self.start_together(&[brick]);
        }
    }

    fn has_spare(&self) -> bool {
        self.served().into_iter().any(|brick| !self.members.has(brick))
    }

    /// Kills members together and starts them again; returns when the client has made up its mind about each.
    fn blink(&mut self, bricks: &[usize], report: &mut Report) {
        let before: Vec<(usize, usize)> = bricks.iter().map(|&brick| self.fates(brick)).collect();
        self.kill_together(bricks);
        self.rig.cluster.restart(bricks);
        for (&brick, before) in bricks.iter().zip(before) {
            let what = format!("brick {brick} is resumed or dropped after its server was killed and started");
            wait_until(&what, DECIDED_WITHIN, || self.fates(brick) != before);
            report.resumed += (self.fates(brick).0 - before.0) as u64;
        }
        self.note_members();
    }

    /// How often the error log says that a member was resumed, and that it was dropped.
    fn fates(&self, brick: usize) -> (usize, usize) {
        let (log, address) = (self.rig.client.errorlog(), self.rig.cluster[brick].address());
        let count = |what: &str| log.matching(&[&format!(" {address} "), what]).len();
        (count("up to date"), count("member dropped"))
    }

    fn lose(&mut self, brick: usize) {
        self.rig.cluster[brick].kill9();
        self.lost.insert(brick);
        self.await_out(brick);
    }

    /// Waits until a member was dropped, or has no slot any more.
    fn await_out(&mut self, brick: usize) {
        let is_out = || {
            let members = self.members_now();
            members.is_out(brick) || !members.has(brick)
        };
        wait_until(&format!("brick {brick} is dropped"), DECIDED_WITHIN, is_out);
        self.note_members();
    }

    fn replace(&mut self, brick: usize, amid: Amid) {
        let spare = self.served().into_iter().find(|&brick| !self.members.has(brick)).expect("a spare stands by");
        self.lose(brick);
        wait_until("a spare takes the slot", DECIDED_WITHIN, || self.members_now().has(spare));
        self.note_members();
        // Somewhere in the middle: there is nothing to wait for.
        thread::sleep(Duration::from_millis(self.random.below(400)));
        match amid {
            Amid::Nothing => {}
            Amid::SpareKilled => {
                self.kill_together(&[spare]);
                self.start_together(&[spare]);
            }
            // By the caller.
            Amid::ClientKilled => return,
        }
        self.await_caught_up(spare);
    }

    fn await_caught_up(&mut self, brick: usize) {
        wait_until(&format!("brick {brick} has caught up"), CAUGHT_UP_WITHIN, || !self.members_now().is_out(brick));
        self.note_members();
    }

    /// Has files of some members rot, which are read and written meanwhile; returns when a scrub finds nothing any more. Nothing else is
    /// bad or away until then but what was before.
    fn let_rot(&mut self, current: &[usize], bricks: usize, signs: &Signs, report: &mut Report) {
        let mut rotten = current.to_owned();
        while rotten.len() > bricks {
            rotten.swap_remove(self.random.below(rotten.len() as u64) as usize);
        }
        for &brick in &rotten {
            let done = rot(self.rig.cluster[brick].dir(), &mut self.random);
            println!("  rotten on brick {brick}: {}", done.join(", "));
            report.rotten += done.len() as u64;
        }
        self.let_them_write();
        self.scrub();
        // A change that does not pause in time is no reason for the next blow to wait, but what it kept from being compared is.
        signs.hold(true);
        let dropped = |round: &Round| rotten.iter().map(|&brick| round.fates(brick).1).sum::<usize>();
        let is_mended = |round: &mut Round| {
            // A scrub is of those that count.
            rotten.iter().for_each(|&brick| round.await_caught_up(brick));
            let before = dropped(round);
            round.scrub() == 0 && dropped(round) == before
        };
        let mended = (0..SCRUBS).any(|_| is_mended(self));
        assert!(mended, "{SCRUBS} scrubs found something each while nobody wrote");
        signs.hold(false);
    }

    /// A scrub of everything; how much it put right.
    fn scrub(&self) -> u64 {
        let scrubbed = scrub_from_now(&self.rig, SCRUBBED_WITHIN);
        assert_eq!(scrubbed.damaged, 0, "never more was bad than can be put right:\n{}", scrubbed.log);
        scrubbed.mended
    }
}

/// Stops a process for a moment. That long, not until something happens: how long is the point.
fn pause(pid: i32, ms: u64) {
    send(pid, Signal::SIGSTOP);
    thread::sleep(Duration::from_millis(ms));
    send(pid, Signal::SIGCONT);
}
