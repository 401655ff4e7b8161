//! What goes wrong with a simulated disk, and when: by the number of a call.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::SimDisk;
use super::filesystem::{FileSystem, errno};
use super::inode::Ino;
use super::loss::SECTOR;

/// A crash that a run of calls can end with.
#[derive(Debug, Clone)]
pub struct Crash {
    /// Number of the call that was under way.
    pub call: u64,
    files: FileSystem,
}

impl Crash {
    /// The disk after the process was killed there.
    pub fn killed(&self) -> SimDisk {
        SimDisk::of(self.files.clone()).clone_as_killed()
    }

    /// The disk after the machine lost power there.
    pub fn power_loss(&self, seed: u64) -> SimDisk {
        SimDisk::of(self.files.after_power_loss(seed))
    }
}

/// What a call does to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Changes,
    /// It changes something, and may want space for that.
    Grows,
}

/// What goes wrong, and when.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub(super) calls: u64,
    pub(super) syncs: u64,
    /// Errno of calls, by number.
    pub(super) failures: BTreeMap<u64, i32>,
    /// From this call on nothing is done; so many bytes of it are, when it is a write.
    pub(super) crash: Option<(u64, usize)>,
    pub(super) crashes: Option<Vec<Crash>>,
    pub(super) sync_failed: bool,
    /// Files whose syncs do nothing and say nothing.
    pub(super) lying: BTreeSet<Ino>,
}

/// A file system, and what goes wrong with it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) files: FileSystem,
    pub(super) schedule: Schedule,
    /// Handles by inode.
    pub(super) open: BTreeMap<Ino, usize>,
}

impl Schedule {
    pub(super) fn has_crashed(&self) -> bool {
        self.crash.is_some_and(|(call, _)| self.calls > call)
    }
}

impl Machine {
    /// Counts a call; an error when it must not happen.
    pub(super) fn begin(&mut self, effect: Effect) -> io::Result<()> {
        let call = self.schedule.calls;
        self.schedule.calls += 1;
        if self.schedule.has_crashed() {
            return Err(errno(libc::EIO));
        }
        let failure = self.schedule.failures.remove(&call);
        if let Some(number) = failure.filter(|number| *number != libc::ENOSPC || effect == Effect::Grows) {
            return Err(errno(number));
        }
        if let Some(crashes) = self.schedule.crashes.as_mut().filter(|_| effect != Effect::None) {
            crashes.push(Crash { call, files: self.files.clone() });
        }
        Ok(())
    }

    /// The part of a write that a crash leaves, and those that it could leave.
    pub(super) fn tear(&mut self, ino: Ino, data: &[u8], offset: u64) {
        let call = self.schedule.calls;
        if let Some((_, written)) = self.schedule.crash.filter(|(crash, _)| *crash == call) {
            // The caller learns nothing of it.
            let _ = self.files.write(ino, &data[..sectors(written, data.len(), offset)], offset);
        }
        let Some(crashes) = &mut self.schedule.crashes else { return };
        let cuts = [data.len() / 4, data.len() / 2, data.len().saturating_sub(1)];
        let mut cuts = cuts.map(|cut| sectors(cut, data.len(), offset)).to_vec();
        cuts.dedup();
        for cut in cuts.into_iter().filter(|cut| *cut > 0) {
            let mut files = self.files.clone();
            let _ = files.write(ino, &data[..cut], offset);
            crashes.push(Crash { call, files });
        }
    }

    /// Removes an object that lost its last name, unless it is open.
    pub(super) fn reap_closed(&mut self, ino: Ino) {
        if !self.open.contains_key(&ino) {
            self.files.reap(ino);
        }
    }
}

/// The part of `cut` bytes at `offset` that ends with a sector.
fn sectors(cut: usize, len: usize, offset: u64) -> usize {
    let beyond = (offset as usize + cut) % SECTOR;
    if cut >= len { len } else { cut.saturating_sub(beyond) }
}
