//! A simulated disk: a local file system with a journal, in memory, whose machine loses power, whose process is killed,
//! and which fills up, fails and rots where a test says so.
//!
//! The fault model is that of ext4 with `data=ordered` and delayed allocation, at its worst:
//! * Metadata is journaled in order. A power loss leaves a prefix of what was journaled since the last commit.
//! * A sync of anything but unchanged-in-length data commits the whole journal; `sync_data` leaves attributes out.
//! * Where the blocks of an unsynced write are, and the length that they add, may be lost although later metadata is not.
//! * Every 512-byte sector of unsynced data is old or new, each by itself. A block without a place reads as zeros;
//!   nothing ever shows another file's bytes.
//! * A killed process loses nothing that a call returned; a write under way may stop at any sector.
//!
//! Everything follows from a seed: there is no clock but a counter.

mod calls;
mod filesystem;
mod inode;
mod loss;
mod names;
mod random;
mod schedule;
#[cfg(test)]
mod tests;

pub use random::Random;
pub use schedule::Crash;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use filesystem::FileSystem;
use inode::Ino;
use loss::SECTOR;
use schedule::{Effect, Machine, Schedule};

/// A simulated disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<Machine>>);

/// An open object of a [`SimDisk`].
#[derive(Debug)]
pub struct SimHandle {
    ino: Ino,
    disk: SimDisk,
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        // A test that panicked elsewhere is told so there.
        let Ok(mut machine) = self.disk.0.lock() else { return };
        let handles = machine.open.get_mut(&self.ino).expect("counted when it was opened");
        *handles -= 1;
        if *handles == 0 {
            machine.open.remove(&self.ino);
            machine.files.reap(self.ino);
        }
    }
}

impl SimDisk {
    /// An empty disk of `capacity` bytes in blocks of `block_len`, a multiple of 512.
    pub fn new(capacity: u64, block_len: usize) -> SimDisk {
        assert!(block_len > 0 && block_len.is_multiple_of(SECTOR), "blocks are whole sectors");
        SimDisk::of(FileSystem::new(capacity, block_len))
    }

    fn of(files: FileSystem) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(Machine { files, schedule: Schedule::default(), open: BTreeMap::new() })))
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().expect("no call panics")
    }

    /// The disk after the process that used it was killed and the kernel lived on. No fault is scheduled on it.
    pub fn clone_as_killed(&self) -> SimDisk {
        let mut files = self.machine().files.clone();
        files.reap_all();
        SimDisk::of(files)
    }

    /// The disk after the machine lost power and started again. No fault is scheduled on it.
    pub fn power_loss(&self, seed: u64) -> SimDisk {
        SimDisk::of(self.machine().files.after_power_loss(seed))
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.machine().schedule.calls
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.machine().schedule.syncs
    }

    /// Makes a call fail, without effect: by number, counted as [`SimDisk::calls`] does. A sync that fails loses the data.
    /// Calls that cannot want space do not fail for want of it.
    pub fn fail(&self, call: u64, number: i32) {
        self.machine().schedule.failures.insert(call, number);
    }

    /// Whether a sync was among the calls that failed.
    pub fn sync_has_failed(&self) -> bool {
        self.machine().schedule.sync_failed
    }

    /// From this call on every call fails and does nothing, as if the process had been killed then. If the call is a
    /// write, its first `written` bytes, in whole sectors, still happen.
    pub fn crash_at(&self, call: u64, written: usize) {
        self.machine().schedule.crash = Some((call, written));
    }

    /// Notes, from now on, what a crash at each call that changes something would leave: before the call, and in the middle
    /// of it for writes.
    pub fn note_crashes(&self) {
        self.machine().schedule.crashes = Some(Vec::new());
    }

    /// What was noted, and notes no more.
    pub fn take_crashes(&self) -> Vec<Crash> {
        self.machine().schedule.crashes.take().unwrap_or_default()
    }

    /// Makes the disk smaller or larger, in bytes; not smaller than what is used.
    pub fn set_capacity(&self, capacity: u64) {
        let files = &mut self.machine().files;
        files.capacity = (capacity / files.block_len as u64).max(files.used);
    }

    /// Makes syncs of a file succeed without effect: no device may do that, so what runs on it must be caught.
    pub fn lie_about_syncs_of(&self, file: &SimHandle) {
        self.machine().schedule.lying.insert(file.ino);
    }

    /// Flips bits of a byte at rest. Returns whether the file has bytes there at all.
    pub fn flip(&self, file: &SimHandle, offset: u64, mask: u8) -> bool {
        self.machine().files.flip(file.ino, offset, mask)
    }

    fn handle(&self, machine: &mut Machine, ino: Ino) -> SimHandle {
        *machine.open.entry(ino).or_insert(0) += 1;
        SimHandle { ino, disk: self.clone() }
    }

    fn ask<T>(&self, call: impl FnOnce(&FileSystem) -> io::Result<T>) -> io::Result<T> {
        let mut machine = self.machine();
        machine.begin(Effect::None)?;
        call(&machine.files)
    }

    fn change<T>(&self, call: impl FnOnce(&mut FileSystem) -> io::Result<T>) -> io::Result<T> {
        self.change_with(Effect::Changes, call)
    }

    fn grow<T>(&self, call: impl FnOnce(&mut FileSystem) -> io::Result<T>) -> io::Result<T> {
        self.change_with(Effect::Grows, call)
    }

    fn change_with<T>(&self, effect: Effect, call: impl FnOnce(&mut FileSystem) -> io::Result<T>) -> io::Result<T> {
        let mut machine = self.machine();
        machine.begin(effect)?;
        call(&mut machine.files)
    }

    fn sync(&self, ino: Option<Ino>, call: impl FnOnce(&mut FileSystem)) -> io::Result<()> {
        let mut machine = self.machine();
        let started = machine.begin(Effect::Grows);
        machine.schedule.syncs += 1;
        if started.is_err() && !machine.schedule.has_crashed() {
            machine.files.sync_failed(ino);
            machine.schedule.sync_failed = true;
        }
        started?;
        if !ino.is_some_and(|ino| machine.schedule.lying.contains(&ino)) {
            call(&mut machine.files);
        }
        Ok(())
    }
}
