//! The life of one array: programs write while it is tormented, everything is compared, and again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use super::blows::{Blow, End};
use super::options::Options;
use super::random::Random;
use super::report::Report;
use super::signs::Signs;
use super::writer::Writer;
use crate::array::Health;
use crate::client::END_WITHIN;
use crate::deadline::wait_until;
use crate::process::{is_alive, send};
use crate::rig::Rig;
use crate::watchdog::Watchdog;
use crate::workdir;

/// Programs that write at once.
const WRITERS: u32 = 3;
/// Times that everything is compared, in the life of one array.
const PHASES: u64 = 6;
/// Blows between two comparisons, at most.
const BLOWS: u64 = 4;
/// A round that takes longer hangs.
const BUDGET: Duration = Duration::from_secs(900);
/// How long a member that was hit has until the client has dropped or resumed it.
const DECIDED_WITHIN: Duration = Duration::from_secs(30);

/// One array and what works on it.
pub(super) struct Round {
    random: Random,
    deadline: Instant,
    lie: bool,
    writers: Vec<Writer>,
    /// Members that were dropped, and have not caught up since.
    dropped: BTreeSet<usize>,
    _watchdog: Watchdog,
    // The last field: the directory goes last.
    rig: Rig,
}

impl Round {
    /// A new array, mounted, with the files of all writers. Its last comparison begins soon after `deadline`.
    pub(super) fn begin(options: &Options, seed: u64, deadline: Instant) -> Round {
        let rig = Rig::unmounted(options.array, 0);
        rig.cluster.work().keep_after_failure();
        let dir = rig.cluster.path().to_owned();
        let _watchdog = Watchdog::arm("a round of torture", BUDGET, move || workdir::end_all(&dir));
        rig.client.mount();
        let mut random = Random::new(seed);
        let writer = |number| Writer::create(&rig.root(), number, random.next()).expect("make the files of a writer");
        let writers = (0..WRITERS).map(writer).collect();
        Round { random, deadline, lie: options.lie, writers, dropped: BTreeSet::new(), _watchdog, rig }
    }

    /// Lives it to its end.
    pub(super) fn run(mut self, report: &mut Report) {
        for phase in 1..=PHASES {
            self.phase(phase, report);
            if self.lie {
                self.writers[0].lie();
            }
            if Instant::now() >= self.deadline {
                break;
            }
        }
        self.lose_the_rest(report);
        self.rig.client.unmount();
    }

    fn phase(&mut self, phase: u64, report: &mut Report) {
        let end = End::choose(&mut self.random);
        let signs = Signs::default();
        let (mut writers, root) = (std::mem::take(&mut self.writers), self.rig.root());
        let mut blows = Vec::new();
        thread::scope(|scope| {
            // Also when something panics: the scope waits for its threads.
            let _stop = Stop(&signs);
            for writer in &mut writers {
                scope.spawn(|| writer.run(&root, &signs));
            }
            for _ in 0..self.random.below(BLOWS) {
                self.let_them_write();
                blows.extend(self.strike(&signs, report));
            }
            self.let_them_write();
            self.kill_for(end, &signs);
        });
        self.writers = writers;
        *report.blows.entry(end.name()).or_default() += 1;
        self.come_back(end, report);
        let verified = self.verify();
        for writer in &mut self.writers {
            report.tally.add(writer.take_tally());
        }
        report.verified += verified;
        let (round, operations) = (report.rounds, report.tally.operations);
        println!("array {round} phase {phase}: {operations} operations; {blows:?}; {}; all is there", end.name());
    }

    /// What is hit next is hit under load: there is no condition to wait for.
    fn let_them_write(&mut self) {
        thread::sleep(Duration::from_millis(100 + self.random.below(1200)));
    }

    /// Members that miss nothing.
    fn current(&self) -> Vec<usize> {
        (0..self.rig.array.bricks).filter(|brick| !self.dropped.contains(brick)).collect()
    }

    fn strike(&mut self, signs: &Signs, report: &mut Report) -> Option<Blow> {
        self.note_dropped();
        let spare = self.dropped.len() < self.rig.array.losses();
        let current = self.current();
        let blow = Blow::choose(&mut self.random, &current, spare);
        // Where none may be lost any more, one that is away holds everything up, and perhaps for longer than `timeout`.
        if !spare || blow == Blow::BlinkAll {
            signs.let_fail();
        }
        match blow {
            Blow::Blink(brick) => self.blink(&[brick], report),
            Blow::BlinkAll => self.blink(&current, report),
            Blow::Pause { brick, ms } => pause(self.rig.cluster[brick].pid(), ms),
            Blow::PauseClient { ms } => pause(self.rig.client.pid(), ms),
            Blow::Lose(brick) => {
                self.rig.cluster[brick].kill9();
                self.await_drop(brick);
            }
            Blow::Freeze(brick) => {
                self.rig.cluster[brick].freeze();
                self.await_drop(brick);
                self.rig.cluster[brick].thaw();
            }
        }
        *report.blows.entry(blow.name()).or_default() += 1;
        Some(blow)
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
        self.note_dropped();
    }

    fn kill_together(&mut self, bricks: &[usize]) {
        let served: Vec<usize> = bricks.iter().copied().filter(|&brick| self.rig.cluster[brick].is_served()).collect();
        served.iter().for_each(|&brick| send(self.rig.cluster[brick].pid(), Signal::SIGKILL));
        self.rig.cluster.kill9(&served);
    }

    fn await_drop(&mut self, brick: usize) {
        wait_until(&format!("brick {brick} is dropped"), DECIDED_WITHIN, || self.is_out(brick));
        self.note_dropped();
    }

    /// Whether a member was dropped, and has not caught up since.
    fn is_out(&self, brick: usize) -> bool {
        let address = format!(" {} ", self.rig.cluster[brick].address());
        let caught_up = self.rig.client.errorlog().matching(&[&address, "member caught up"]).len();
        self.fates(brick).1 > caught_up
    }

    /// How often the error log says that a member was resumed, and that it was dropped.
    fn fates(&self, brick: usize) -> (usize, usize) {
        let (log, address) = (self.rig.client.errorlog(), self.rig.cluster[brick].address());
        let count = |what: &str| log.matching(&[&format!(" {address} "), what]).len();
        (count("up to date"), count("member dropped"))
    }

    fn note_dropped(&mut self) {
        self.dropped = (0..self.rig.array.bricks).filter(|&brick| self.is_out(brick)).collect();
        let (dropped, losses) = (self.dropped.len(), self.rig.array.losses());
        assert!(dropped <= losses, "{dropped} members were dropped, {losses} may be");
    }

    /// Kills under the writers what ends their work, or tells them to stop.
    fn kill_for(&mut self, end: End, signs: &Signs) {
        let current = self.current();
        let servers = match end {
            End::Stop | End::Remount => return,
            End::ClientKilled => Vec::new(),
            End::SomeKilled => {
                let random = &mut self.random;
                current.into_iter().filter(|_| random.percent(50)).collect()
            }
            End::AllKilled => (0..self.rig.array.bricks).collect(),
        };
        signs.let_fail();
        let client = self.rig.client.pid();
        if self.random.percent(50) {
            send(client, Signal::SIGKILL);
            self.kill_together(&servers);
        } else {
            self.kill_together(&servers);
            send(client, Signal::SIGKILL);
        }
        wait_until("the client is gone after kill -9", END_WITHIN, || !is_alive(client));
    }

    /// Mounts the volume again, or makes sure that what is read comes from the bricks.
    fn come_back(&mut self, end: End, report: &mut Report) {
        match end {
            End::Stop if self.writers.iter().all(Writer::is_clean) => forget_all(&self.rig.root()),
            // What failed may be in the kernel's memory, but nowhere else.
            End::Stop | End::Remount => self.rig.client.remount(),
            End::ClientKilled | End::SomeKilled | End::AllKilled => {
                let root = self.rig.root();
                while umount2(&root, MntFlags::MNT_DETACH).is_ok() {}
                // Some may have caught up just before.
                self.note_dropped();
                let down = self.current().into_iter().filter(|&brick| !self.rig.cluster[brick].is_served());
                let down: Vec<usize> = down.collect();
                self.rig.cluster.restart(&down);
                let begin = Instant::now();
                self.rig.client.mount();
                report.recoveries += 1;
                report.longest_recovery = report.longest_recovery.max(begin.elapsed());
            }
        }
        self.note_dropped();
    }

    fn verify(&mut self) -> u64 {
        let root = self.rig.root();
        let mut bytes = 0;
        for writer in &mut self.writers {
            match writer.verify(&root) {
                Ok(compared) => bytes += compared,
                Err(lost) => panic!("LOST: {lost}"),
            }
        }
        bytes
    }

    /// Everything is there without as many servers as may be lost: parity and copies are right, too.
    fn lose_the_rest(&mut self, report: &mut Report) {
        while self.dropped.len() < self.rig.array.losses() {
            let current = self.current();
            let brick = self.random.pick(&current);
            self.rig.cluster[brick].kill9();
            self.dropped.insert(brick);
        }
        self.rig.health = Health::Degraded;
        report.dropped += self.dropped.len() as u64;
        forget_all(&self.rig.root());
        report.verified += self.verify();
    }
}

struct Stop<'a>(&'a Signs);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Stops a process for a moment. That long, not until something happens: how long is the point.
fn pause(pid: i32, ms: u64) {
    send(pid, Signal::SIGSTOP);
    thread::sleep(Duration::from_millis(ms));
    send(pid, Signal::SIGCONT);
}

/// Drops what the kernel remembers of all files below `dir`.
fn forget_all(dir: &std::path::Path) {
    let mut waiting: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).expect("list the volume") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                crate::fsops::forget(&std::fs::File::open(&path).expect("open a file"));
            }
        }
    }
}
