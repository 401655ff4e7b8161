//! The life of one array: programs write while it is tormented, everything is compared, and again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use super::blows::End;
use super::members::Members;
use super::options::Options;
use super::report::Report;
use super::signs::Signs;
use super::writer::Writer;
use crate::array::Health;
use crate::client::END_WITHIN;
use crate::deadline::wait_until;
use crate::process::{is_alive, send};
use crate::random::Random;
use crate::rig::Rig;
use crate::watchdog::Watchdog;
use crate::workdir;

/// Programs that write at once.
const WRITERS: u32 = 3;
/// Times that everything is compared, in the life of one array.
const PHASES: u64 = 6;
/// Blows between two comparisons, at most.
const BLOWS: u64 = 4;
/// A round that takes longer hangs. A disk that is busy with other things makes each of its steps take many times as long.
const BUDGET: Duration = Duration::from_secs(900);
/// So many arrays of a hundred have a spare: in the others who is lost stays out.
const WITH_SPARE: u64 = 75;

/// One array and what works on it.
pub(super) struct Round {
    pub(super) random: Random,
    deadline: Instant,
    lie: bool,
    writers: Vec<Writer>,
    /// Who has which slot, and who is out.
    pub(super) members: Members,
    /// Bricks whose server was killed for good, and was not replaced by a new one yet.
    pub(super) lost: BTreeSet<usize>,
    /// How often each brick was emptied, to be a spare.
    pub(super) renewed: Vec<usize>,
    _watchdog: Watchdog,
    // The last field: the directory goes last.
    pub(super) rig: Rig,
}

impl Round {
    /// A new array, mounted, with the files of all writers. Its last comparison begins soon after `deadline`.
    pub(super) fn begin(options: &Options, seed: u64, deadline: Instant) -> Round {
        let mut random = Random::new(seed);
        let rig = Rig::unmounted(options.array, usize::from(random.percent(WITH_SPARE)));
        rig.cluster.work().keep_after_failure();
        let dir = rig.cluster.path().to_owned();
        let _watchdog = Watchdog::arm("a round of torture", BUDGET, move || workdir::end_all(&dir));
        rig.client.mount();
        let writer = |number| Writer::create(&rig.root(), number, random.number()).expect("make the files of a writer");
        let writers = (0..WRITERS).map(writer).collect();
        let (lost, renewed) = (BTreeSet::new(), vec![0; rig.cluster.len()]);
        let members = Members::read("", &rig.cluster.addresses(0..rig.cluster.len()), rig.array.bricks);
        Round { random, deadline, lie: options.lie, writers, members, lost, renewed, _watchdog, rig }
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
        let log = self.rig.client.errorlog();
        report.replaced += self.members.replacements() as u64;
        report.mended += log.matching(&[" repaired: "]).len() as u64;
        report.scrubs += log.matching(&["scrub done"]).len() as u64;
        let damaged = log.matching(&["damaged beyond repair"]);
        assert!(damaged.is_empty(), "never more was bad than can be put right: {damaged:#?}");
    }

    fn phase(&mut self, phase: u64, report: &mut Report) {
        let mut end = End::choose(&mut self.random);
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
                let blow = self.strike(&signs, report);
                blows.push(blow);
                if blow.is_last() {
                    end = End::ClientKilled;
                    break;
                }
            }
            if !blows.last().is_some_and(|blow| blow.is_last()) {
                self.let_them_write();
            }
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
    pub(super) fn let_them_write(&mut self) {
        thread::sleep(Duration::from_millis(100 + self.random.below(1200)));
    }

    /// What the error log says of the members by now.
    pub(super) fn members_now(&self) -> Members {
        let addresses = self.rig.cluster.addresses(0..self.rig.cluster.len());
        Members::read(&self.rig.client.errorlog().text(), &addresses, self.rig.array.bricks)
    }

    /// Takes note of who is out.
    pub(super) fn note_members(&mut self) {
        self.members = self.members_now();
        let (out, losses) = (self.members.out(), self.rig.array.losses());
        assert!(out <= losses, "{out} members are out, {losses} may be: {:?}", self.members);
    }

    /// Bricks whose servers run.
    pub(super) fn served(&self) -> Vec<usize> {
        (0..self.rig.cluster.len()).filter(|&brick| self.rig.cluster[brick].is_served()).collect()
    }

    pub(super) fn kill_together(&mut self, bricks: &[usize]) {
        let served: Vec<usize> = bricks.iter().copied().filter(|&brick| self.rig.cluster[brick].is_served()).collect();
        served.iter().for_each(|&brick| send(self.rig.cluster[brick].pid(), Signal::SIGKILL));
        self.rig.cluster.kill9(&served);
    }

    /// Starts the servers of bricks, all at once.
    pub(super) fn start_together(&mut self, bricks: &[usize]) {
        bricks.iter().for_each(|&brick| self.rig.cluster[brick].launch());
        bricks.iter().for_each(|&brick| self.rig.cluster[brick].await_ready());
    }

    /// Kills under the writers what ends their work, or tells them to stop.
    fn kill_for(&mut self, end: End, signs: &Signs) {
        let served = self.served();
        let servers = match end {
            End::Stop | End::Remount => return,
            End::ClientKilled => Vec::new(),
            End::SomeKilled => {
                let random = &mut self.random;
                served.into_iter().filter(|_| random.percent(50)).collect()
            }
            End::AllKilled => served,
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
                let down = |&brick: &usize| !self.rig.cluster[brick].is_served() && !self.lost.contains(&brick);
                let down: Vec<usize> = (0..self.rig.cluster.len()).filter(down).collect();
                self.start_together(&down);
                let begin = Instant::now();
                self.rig.client.mount();
                report.recoveries += 1;
                report.longest_recovery = report.longest_recovery.max(begin.elapsed());
            }
        }
        self.note_members();
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
        self.note_members();
        // A spare votes, so it stays; before it is current nothing is read from it.
        let mut current = self.members.current();
        while current.len() > self.rig.array.bricks - self.rig.array.losses() {
            let brick = current.swap_remove(self.random.below(current.len() as u64) as usize);
            self.rig.cluster[brick].kill9();
        }
        self.rig.health = Health::Degraded;
        report.dropped += self.rig.array.losses() as u64;
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
