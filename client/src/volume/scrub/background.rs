//! When is scrubbed: at once and at full speed when somebody wants that, else in the background, a pass after the other.
//!
//! ```text
//!   begun ──── steps, paced, while nobody works ──── done ──── nothing ──── begun + period: the next pass
//!      └─ the place is noted on all members; who has the volume next goes on from there
//! ```
//!
//! A scrub at full speed looks at everything, so that it ends the pass that is under way.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use net_raid_proto::message::{Reply, Request};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::note::{Note, Place, Sums};
use super::pace::{NAME_WORK, Pace};
use super::peer::Spot;
use super::{Core, Halt, Pass};
use crate::events::Event;

/// Between two looks whether the next pass is due, and two attempts to go on.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Between two events of a scrub at full speed.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How far a scrub is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubProgress {
    /// In the background, and not at full speed.
    pub in_background: bool,
    /// So far.
    pub sums: Sums,
    /// All of the work, as far as is known.
    pub work: u64,
    /// Bytes a second, on all members together.
    pub rate: u64,
    /// Seconds until it should be done.
    pub left_seconds: u64,
}

impl ScrubProgress {
    /// Of 100.
    pub fn percent(&self) -> u64 {
        let (done, all) = (u128::from(self.sums.work), u128::from(self.work.max(1)));
        (done * 100 / all).min(99) as u64
    }
}

/// What a pass in the background goes by.
pub(super) struct Background {
    pace: Pace,
    /// Wall clock at the beginning of the pass, and how old the pass was when this part of it began.
    begun: u64,
    last: u64,
    age: Duration,
    went: Mutex<Went>,
}

/// How far it is.
struct Went {
    /// When the next step is due.
    due: Instant,
    work: u64,
    noted: Instant,
}

impl Core {
    /// Scrubs as it is wanted and due, for as long as the volume is there and open.
    pub(in crate::volume) fn keep_scrubbed(self: &Arc<Core>) {
        tokio::spawn(keep(Arc::downgrade(self), Arc::clone(&self.scrubs.wanted)));
    }

    fn wall(&self) -> u64 {
        u64::try_from(self.world.clock.now().secs).unwrap_or_default()
    }

    /// Everything, at full speed.
    async fn scrub(self: &Arc<Core>) {
        self.log(None, &Event::ScrubStarted);
        self.damages.begin_scrub();
        let mut pass = Pass::new(self);
        pass.work = pass.work_of_all().await;
        match pass.run(&Place::default()).await {
            Ok(()) => {
                let sums = pass.sums();
                let Sums { files, bytes, mended, damaged, seconds, .. } = sums;
                self.log(None, &Event::ScrubDone { files, bytes, mended, damaged, seconds });
                if self.config.scrub.is_some() {
                    let note = Note { begun: self.wall(), last: sums.work, sums, ..Note::default() };
                    pass.write_note(&note).await;
                }
            }
            Err(Halt(reason)) => self.log(None, &Event::ScrubFailed { reason }),
        }
        self.scrubs.set_progress(None);
    }

    /// Goes on with the pass, or begins one when that is due. After how long to look again.
    async fn scrub_in_background(self: &Arc<Core>, period: Duration) -> Duration {
        let mut pass = Pass::new(self);
        if pass.check_open().is_err() {
            return Pace::start_after(period).min(LOOK_EVERY);
        }
        let (wall, before) = (self.wall(), pass.read_note().await);
        let note = match before {
            Some(Note { place: Some(place), sums, begun, last, .. }) => {
                if !self.scrubs.was_told.swap(true, AcqRel) {
                    let Sums { files, bytes, .. } = sums;
                    self.log(None, &Event::BackgroundScrubGoesOn { place: place.words(), files, bytes });
                }
                // A clock that went back says nothing.
                Note { place: Some(place), sums, begun: begun.min(wall), last, ..Note::default() }
            }
            Some(Note { begun, .. }) if (begun..begun.saturating_add(period.as_secs())).contains(&wall) => {
                return Duration::from_secs(begun + period.as_secs() - wall).min(LOOK_EVERY);
            }
            before => {
                self.scrubs.was_told.store(true, Relaxed);
                self.log(None, &Event::BackgroundScrubStarted);
                let last = before.map_or(0, |note| note.sums.work);
                let note = Note { place: Some(Place::default()), begun: wall, last, ..Note::default() };
                pass.write_note(&note).await;
                note
            }
        };
        pass.set_sums(note.sums);
        pass.work = if note.last > 0 { note.last } else { pass.work_of_all().await };
        pass.background = Some(Background::new(period, pass.work, &note, wall));
        let place = note.place.clone().unwrap_or_default();
        let ended = pass.run(&place).await;
        self.scrubs.set_progress(None);
        match ended {
            Ok(()) => {
                let sums = pass.sums();
                let Sums { files, bytes, mended, damaged, seconds, .. } = sums;
                self.log(None, &Event::BackgroundScrubDone { files, bytes, mended, damaged, seconds });
                pass.write_note(&Note { sums, place: None, ..note }).await;
                Duration::ZERO
            }
            Err(Halt(why)) => {
                tracing::debug!(why, "the scrub in the background pauses");
                Pace::start_after(period).min(LOOK_EVERY)
            }
        }
    }
}

async fn keep(core: Weak<Core>, wanted: Arc<Notify>) {
    let mut wait = match core.upgrade() {
        Some(core) => core.config.scrub.map(Pace::start_after),
        None => return,
    };
    loop {
        match wait {
            Some(wait) => drop(timeout(wait, wanted.notified()).await),
            None => wanted.notified().await,
        }
        let Some(core) = core.upgrade() else { return };
        if core.scrubs.closed.load(Acquire) {
            return;
        }
        if core.scrubs.is_wanted.swap(false, AcqRel) {
            core.scrub().await;
        }
        if let Some(period) = core.config.scrub {
            wait = Some(core.scrub_in_background(period).await);
        }
        if core.scrubs.is_wanted.load(Acquire) {
            wait = Some(Duration::ZERO);
        }
    }
}

impl Background {
    fn new(period: Duration, work: u64, note: &Note, wall: u64) -> Background {
        let now = Instant::now();
        Background {
            pace: Pace::new(period, work),
            begun: note.begun,
            last: note.last,
            age: Duration::from_secs(wall.saturating_sub(note.begun)),
            // Also where steps are hours apart, and mounts are short, there is some progress in each.
            went: Mutex::new(Went { due: now.checked_sub(period).unwrap_or(now), work: note.sums.work, noted: now }),
        }
    }

    fn went(&self) -> MutexGuard<'_, Went> {
        self.went.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Bytes in use on all members, and names. What else is on their disks counts too: the first pass ends early then.
    async fn work_of_all(&self) -> u64 {
        let root = Spot::root();
        let asks = self.members().iter().map(|slot| self.ask(slot, &root, &Request::StatFs, &[], &[]));
        let answers = join_all(asks.collect::<Vec<_>>()).await;
        let works = answers.into_iter().flatten().map(|answer| match answer.reply {
            Reply::Space(space) => {
                let inodes = space.inodes.saturating_sub(space.inodes_free);
                space.total.saturating_sub(space.free).saturating_add(inodes.saturating_mul(NAME_WORK))
            }
            _ => 0,
        });
        works.fold(0, u64::saturating_add)
    }

    pub(super) fn sums(&self) -> Sums {
        let counts = &self.counts;
        Sums {
            files: counts.files.load(Relaxed),
            bytes: counts.bytes.load(Relaxed),
            mended: counts.mended.load(Relaxed),
            damaged: counts.damaged.load(Relaxed),
            work: counts.work.load(Relaxed),
            seconds: self.earlier_seconds + self.begun.elapsed().as_secs(),
        }
    }

    fn set_sums(&mut self, sums: Sums) {
        let counts = &self.counts;
        counts.files.store(sums.files, Relaxed);
        counts.bytes.store(sums.bytes, Relaxed);
        counts.mended.store(sums.mended, Relaxed);
        counts.damaged.store(sums.damaged, Relaxed);
        counts.work.store(sums.work, Relaxed);
        self.earlier_seconds = sums.seconds;
        self.before = sums;
    }

    /// Before each step: here is the place. In the background waits until the step is due and nobody works.
    pub(super) async fn step(&self, place: impl FnOnce() -> Place + Send) -> Result<(), Halt> {
        self.check_open()?;
        let Some(background) = &self.background else {
            self.tell(None);
            return Ok(());
        };
        let (done, age) = (self.counts.work.load(Relaxed), background.age + self.begun.elapsed());
        let (interval, due, is_noted) = {
            let mut went = background.went();
            let interval = background.pace.interval(done - went.work.min(done), done, age);
            went.work = done;
            // Time in which users were given way is made up for, but not more than that of a few steps.
            let now = Instant::now();
            went.due = went.due.max(now.checked_sub(4 * interval).unwrap_or(now)) + interval;
            let is_noted = went.noted.elapsed() < Pace::note_every(background.pace.period);
            if !is_noted {
                went.noted = Instant::now();
            }
            (interval, went.due, is_noted)
        };
        if !is_noted {
            let (begun, last) = (background.begun, background.last);
            self.write_note(&Note { begun, last, sums: self.sums(), place: Some(place()), ..Note::default() }).await;
        }
        self.tell(Some(&background.pace));
        self.wait_until(due).await?;
        self.core.users.give_way(Pace::give_way(interval)).await;
        self.check_open()
    }

    /// Waits, unless the volume closes, or somebody wants a scrub at full speed.
    async fn wait_until(&self, due: Instant) -> Result<(), Halt> {
        let scrubs = &self.core.scrubs;
        loop {
            self.check_open()?;
            if scrubs.is_wanted.load(Acquire) {
                return Err(Halt("a scrub at full speed is wanted".into()));
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let _ = timeout(left.min(LOOK_EVERY), scrubs.wanted.notified()).await;
        }
    }

    /// Says how far it is.
    fn tell(&self, pace: Option<&Pace>) {
        let (sums, seconds) = (self.sums(), self.begun.elapsed().as_secs_f64().max(0.001));
        let rate = ((sums.work - self.before.work.min(sums.work)) as f64 / seconds) as u64;
        let left = self.work.saturating_sub(sums.work);
        let left_seconds = match pace {
            Some(pace) => pace.interval(left, sums.work, Duration::from_secs(sums.seconds)).as_secs(),
            None => left / rate.max(1),
        };
        let in_background = pace.is_some();
        let progress = ScrubProgress { in_background, sums, work: self.work, rate, left_seconds };
        self.core.scrubs.set_progress(Some(progress));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !in_background && told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            let (bytes, percent) = (sums.bytes, progress.percent());
            self.core.log(None, &Event::ScrubProgress { bytes, percent, rate, left: left_seconds });
        }
    }
}
