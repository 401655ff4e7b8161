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

mod filesystem;
mod inode;
mod loss;
mod random;
#[cfg(test)]
mod tests;

pub use random::Random;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use net_raid_proto::ids::{Name, Timestamp};
use net_raid_proto::limits::{TARGET_MAX, XATTR_NAME_MAX, XATTR_VALUE_MAX};
use net_raid_proto::message::{Kind, Space};

use super::{DirItem, Disk, RenameMode, ShortWrite, Stat, XattrMode};
use filesystem::{FileSystem, ROOT, errno};
use inode::{Ino, Inode};
use loss::SECTOR;

/// Entries of one page of a directory.
const PAGE_ENTRIES: usize = 32;
const HANDLES_MAX: usize = 100_000;
const SET_ID: u32 = 0o6000;

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
enum Effect {
    None,
    Changes,
    /// It changes something, and may want space for that.
    Grows,
}

/// What goes wrong, and when.
#[derive(Debug, Default)]
struct Schedule {
    calls: u64,
    /// Errno of calls, by number.
    failures: BTreeMap<u64, i32>,
    /// From this call on nothing is done; so many bytes of it are, when it is a write.
    crash: Option<(u64, usize)>,
    crashes: Option<Vec<Crash>>,
    sync_failed: bool,
    /// Files whose syncs do nothing and say nothing.
    lying: BTreeSet<Ino>,
}

#[derive(Debug)]
struct Machine {
    files: FileSystem,
    schedule: Schedule,
    /// Handles by inode.
    open: BTreeMap<Ino, usize>,
}

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

impl Schedule {
    fn has_crashed(&self) -> bool {
        self.crash.is_some_and(|(call, _)| self.calls > call)
    }
}

impl Machine {
    /// Counts a call; an error when it must not happen.
    fn begin(&mut self, effect: Effect) -> io::Result<()> {
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
    fn tear(&mut self, ino: Ino, data: &[u8], offset: u64) {
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
}

/// The part of `cut` bytes at `offset` that ends with a sector.
fn sectors(cut: usize, len: usize, offset: u64) -> usize {
    let beyond = (offset as usize + cut) % SECTOR;
    if cut >= len { len } else { cut.saturating_sub(beyond) }
}

/// An object in `dir` under a name that is free.
fn add(files: &mut FileSystem, dir: Ino, name: &Name, mut inode: Inode) -> io::Result<Ino> {
    let mut parent = Inode::clone(files.directory(dir)?);
    if parent.names.contains_key(name) {
        return Err(errno(libc::EEXIST));
    }
    if parent.nlink == 0 {
        return Err(errno(libc::ENOENT));
    }
    if parent.mode & 0o2000 != 0 {
        inode.gid = parent.gid;
        inode.mode |= if inode.is_directory() { 0o2000 } else { 0 };
    }
    if inode.is_directory() {
        inode.parent = dir;
        parent.nlink += 1;
    }
    let ino = files.ino_fresh();
    parent.add_name(name, ino);
    parent.mtime = inode.mtime;
    files.change(vec![(dir, Some(parent)), (ino, Some(inode))])?;
    Ok(ino)
}

fn remove(files: &mut FileSystem, dir: Ino, name: &Name, directory: bool) -> io::Result<Ino> {
    let ino = files.lookup(dir, name)?;
    let (mut parent, mut inode) = (files.copy(dir), files.copy(ino));
    match (inode.is_directory(), directory) {
        (true, false) => return Err(errno(libc::EISDIR)),
        (false, true) => return Err(errno(libc::ENOTDIR)),
        (true, true) if !inode.names.is_empty() => return Err(errno(libc::ENOTEMPTY)),
        _ => {}
    }
    parent.remove_name(name);
    parent.mtime = files.tick();
    drop_name(&mut inode, &mut parent);
    files.change(vec![(dir, Some(parent)), (ino, Some(inode))])?;
    Ok(ino)
}

/// One name less, in a directory that is counted by its own directories.
fn drop_name(inode: &mut Inode, parent: &mut Inode) {
    if inode.is_directory() {
        inode.nlink = 0;
        parent.nlink -= 1;
    } else {
        inode.nlink -= 1;
    }
}

/// Whether `dir` is `above` or below it.
fn is_within(files: &FileSystem, dir: Ino, above: Ino) -> bool {
    let mut at = dir;
    while at != above && at != ROOT {
        at = files.inode(at).parent;
    }
    at == above
}

/// Inodes that one change touches, some of which may be the same.
struct Touched(BTreeMap<Ino, Inode>);

impl Touched {
    fn get(&mut self, files: &FileSystem, ino: Ino) -> &mut Inode {
        self.0.entry(ino).or_insert_with(|| files.copy(ino))
    }

    fn store(self, files: &mut FileSystem) -> io::Result<()> {
        files.change(self.0.into_iter().map(|(ino, inode)| (ino, Some(inode))).collect())
    }
}

/// Checks in the order of the kernel. Returns the object that lost a name.
fn rename(
    files: &mut FileSystem,
    (from, name): (Ino, &Name),
    (to, new_name): (Ino, &Name),
    mode: RenameMode,
) -> io::Result<Option<Ino>> {
    files.directory(from)?;
    files.directory(to)?;
    let ino = files.lookup(from, name)?;
    let target = files.directory(to)?.names.get(new_name).map(|entry| entry.ino);
    let directory = files.inode(ino).is_directory();
    match (mode, target) {
        (RenameMode::NoReplace, Some(_)) => return Err(errno(libc::EEXIST)),
        (RenameMode::Exchange, None) => return Err(errno(libc::ENOENT)),
        _ => {}
    }
    if directory && from != to && is_within(files, to, ino) || directory && to == ino {
        return Err(errno(libc::EINVAL));
    }
    if target.is_some_and(|target| is_within(files, from, target) && files.inode(target).is_directory()) {
        return Err(errno(if mode == RenameMode::Exchange { libc::EINVAL } else { libc::ENOTEMPTY }));
    }
    if target == Some(ino) {
        return Ok(None);
    }
    if files.inode(to).nlink == 0 {
        return Err(errno(libc::ENOENT));
    }
    let mut touched = Touched(BTreeMap::new());
    let now = files.tick();
    let lost = match target.filter(|_| mode == RenameMode::Replace) {
        Some(victim) => {
            let victim_inode = files.inode(victim);
            match (directory, victim_inode.is_directory()) {
                (true, false) => return Err(errno(libc::ENOTDIR)),
                (false, true) => return Err(errno(libc::EISDIR)),
                (true, true) if !victim_inode.names.is_empty() => return Err(errno(libc::ENOTEMPTY)),
                _ => {}
            }
            let mut inode = files.copy(victim);
            drop_name(&mut inode, touched.get(files, to));
            touched.0.insert(victim, inode);
            Some(victim)
        }
        None => None,
    };
    touched.get(files, from).remove_name(name);
    touched.get(files, to).add_name(new_name, ino);
    adopt(files, &mut touched, ino, (from, to));
    if let Some(other) = target.filter(|_| mode == RenameMode::Exchange) {
        touched.get(files, from).add_name(name, other);
        adopt(files, &mut touched, other, (to, from));
    }
    touched.get(files, from).mtime = now;
    touched.get(files, to).mtime = now;
    touched.store(files)?;
    Ok(lost)
}

/// A directory that moves counts in its new place.
fn adopt(files: &FileSystem, touched: &mut Touched, ino: Ino, (from, to): (Ino, Ino)) {
    if from != to && files.inode(ino).is_directory() {
        touched.get(files, from).nlink -= 1;
        touched.get(files, to).nlink += 1;
        touched.get(files, ino).parent = to;
    }
}

/// Whether a type can have an attribute; `missing` is what its absence is called.
fn check_xattr(inode: &Inode, attr: &[u8], missing: i32) -> io::Result<()> {
    let user = attr.starts_with(b"user.");
    let acl = matches!(attr, b"system.posix_acl_access" | b"system.posix_acl_default");
    let other = attr.starts_with(b"trusted.") || attr.starts_with(b"security.");
    if attr.is_empty() || attr.len() > XATTR_NAME_MAX {
        return Err(errno(libc::ERANGE));
    }
    if !user && !acl && !other || acl && inode.kind == Kind::Symlink {
        return Err(errno(libc::EOPNOTSUPP));
    }
    if user && !matches!(inode.kind, Kind::File | Kind::Directory) {
        return Err(errno(missing));
    }
    Ok(())
}

fn get_xattr(files: &FileSystem, ino: Ino, attr: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let inode = files.inode(ino);
    match check_xattr(inode, attr, libc::ENODATA) {
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(inode.xattrs.get(attr).cloned()),
    }
}

impl Disk for SimDisk {
    type Handle = SimHandle;

    fn root(&self) -> io::Result<SimHandle> {
        let mut machine = self.machine();
        machine.begin(Effect::None)?;
        Ok(self.handle(&mut machine, ROOT))
    }

    fn handles_max(&self) -> usize {
        HANDLES_MAX
    }

    fn open(&self, dir: &SimHandle, path: &[&Name]) -> io::Result<(SimHandle, Stat)> {
        let mut machine = self.machine();
        machine.begin(Effect::None)?;
        let files = &machine.files;
        let mut at = dir.ino;
        files.directory(at)?;
        for name in path {
            if files.inode(at).kind == Kind::Symlink {
                return Err(errno(libc::ELOOP));
            }
            at = files.lookup(at, name)?;
        }
        let stat = files.inode(at).stat(files.block_len);
        Ok((self.handle(&mut machine, at), stat))
    }

    fn create(&self, dir: &SimHandle, name: &Name, mode: u32) -> io::Result<SimHandle> {
        let mut machine = self.machine();
        machine.begin(Effect::Grows)?;
        let now = machine.files.tick();
        let ino = add(&mut machine.files, dir.ino, name, Inode::new(Kind::File, mode & 0o7777, (0, 0), now))?;
        Ok(self.handle(&mut machine, ino))
    }

    fn mkdir(&self, dir: &SimHandle, name: &Name, mode: u32) -> io::Result<()> {
        self.grow(|files| {
            let now = files.tick();
            add(files, dir.ino, name, Inode::new(Kind::Directory, mode & 0o1777, (0, 0), now)).map(drop)
        })
    }

    fn symlink(&self, dir: &SimHandle, name: &Name, target: &[u8]) -> io::Result<()> {
        self.grow(|files| {
            match target.len() {
                0 => return Err(errno(libc::ENOENT)),
                len if len > TARGET_MAX => return Err(errno(libc::ENAMETOOLONG)),
                _ => {}
            }
            let mut inode = Inode::new(Kind::Symlink, 0o777, (0, 0), files.tick());
            (inode.target, inode.size) = (target.into(), target.len() as u64);
            inode.size_journaled = inode.size;
            add(files, dir.ino, name, inode).map(drop)
        })
    }

    fn mknod(&self, dir: &SimHandle, name: &Name, kind: &Kind, mode: u32) -> io::Result<()> {
        self.grow(|files| {
            if matches!(kind, Kind::File | Kind::Directory | Kind::Symlink) {
                return Err(errno(libc::EINVAL));
            }
            let now = files.tick();
            add(files, dir.ino, name, Inode::new(kind.clone(), mode & 0o7777, (0, 0), now)).map(drop)
        })
    }

    fn link(&self, dir: &SimHandle, name: &Name, to: &SimHandle, to_name: &Name) -> io::Result<()> {
        self.grow(|files| {
            let ino = files.lookup(dir.ino, name)?;
            let mut parent = Inode::clone(files.directory(to.ino)?);
            let mut inode = files.copy(ino);
            match (parent.names.contains_key(to_name), inode.is_directory(), parent.nlink) {
                (true, ..) => return Err(errno(libc::EEXIST)),
                (.., 0) => return Err(errno(libc::ENOENT)),
                (_, true, _) => return Err(errno(libc::EPERM)),
                _ => {}
            }
            inode.nlink += 1;
            parent.add_name(to_name, ino);
            parent.mtime = files.tick();
            files.change(vec![(to.ino, Some(parent)), (ino, Some(inode))])
        })
    }

    fn unlink(&self, dir: &SimHandle, name: &Name) -> io::Result<()> {
        let mut machine = self.machine();
        machine.begin(Effect::Changes)?;
        let ino = remove(&mut machine.files, dir.ino, name, false)?;
        machine.reap_closed(ino);
        Ok(())
    }

    fn rmdir(&self, dir: &SimHandle, name: &Name) -> io::Result<()> {
        let mut machine = self.machine();
        machine.begin(Effect::Changes)?;
        let ino = remove(&mut machine.files, dir.ino, name, true)?;
        machine.reap_closed(ino);
        Ok(())
    }

    fn rename(&self, dir: &SimHandle, name: &Name, to: &SimHandle, to_name: &Name, mode: RenameMode) -> io::Result<()> {
        let mut machine = self.machine();
        machine.begin(Effect::Grows)?;
        if let Some(victim) = rename(&mut machine.files, (dir.ino, name), (to.ino, to_name), mode)? {
            machine.reap_closed(victim);
        }
        Ok(())
    }

    fn read_dir(&self, dir: &SimHandle, cursor: u64) -> io::Result<Vec<DirItem>> {
        self.ask(|files| {
            let inode = files.directory(dir.ino)?;
            if inode.nlink == 0 {
                return Err(errno(libc::ENOENT));
            }
            let behind = inode.names.iter().filter(|(_, entry)| entry.cookie > cursor);
            let mut items: Vec<DirItem> =
                behind.map(|(name, entry)| DirItem { name: name.clone(), next: entry.cookie }).collect();
            items.sort_by_key(|item| item.next);
            items.truncate(PAGE_ENTRIES);
            Ok(items)
        })
    }

    fn read_link(&self, link: &SimHandle) -> io::Result<Vec<u8>> {
        self.ask(|files| match files.inode(link.ino) {
            inode if inode.kind == Kind::Symlink => Ok(inode.target.to_vec()),
            // What the kernel says of an empty path that names no symbolic link.
            _ => Err(errno(libc::ENOENT)),
        })
    }

    fn stat(&self, object: &SimHandle) -> io::Result<Stat> {
        self.ask(|files| Ok(files.inode(object.ino).stat(files.block_len)))
    }

    fn stat_at(&self, dir: &SimHandle, name: &Name) -> io::Result<Stat> {
        self.ask(|files| Ok(files.inode(files.lookup(dir.ino, name)?).stat(files.block_len)))
    }

    fn set_mode(&self, object: &SimHandle, mode: u32) -> io::Result<()> {
        self.change(|files| {
            let mut inode = files.copy(object.ino);
            if inode.kind == Kind::Symlink {
                return Err(errno(libc::EOPNOTSUPP));
            }
            inode.mode = mode & 0o7777;
            files.change(vec![(object.ino, Some(inode))])
        })
    }

    fn set_owner(&self, object: &SimHandle, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        self.change(|files| {
            let mut inode = files.copy(object.ino);
            if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
                return Err(errno(libc::EINVAL));
            }
            inode.uid = uid.unwrap_or(inode.uid);
            inode.gid = gid.unwrap_or(inode.gid);
            // Without group execution, set-gid is no privilege, and stays.
            let dropped = if inode.mode & 0o010 != 0 { SET_ID } else { 0o4000 };
            inode.mode &= if inode.is_directory() { !0 } else { !dropped };
            files.change(vec![(object.ino, Some(inode))])
        })
    }

    fn set_times(&self, object: &SimHandle, atime: Option<Timestamp>, mtime: Option<Timestamp>) -> io::Result<()> {
        self.change(|files| {
            let mut inode = files.copy(object.ino);
            if [atime, mtime].iter().flatten().any(|time| time.nanos >= 1_000_000_000) {
                return Err(errno(libc::EINVAL));
            }
            inode.atime = atime.unwrap_or(inode.atime);
            inode.mtime = mtime.unwrap_or(inode.mtime);
            files.change(vec![(object.ino, Some(inode))])
        })
    }

    fn get_xattr(&self, object: &SimHandle, attr: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.ask(|files| get_xattr(files, object.ino, attr))
    }

    fn get_xattr_at(&self, dir: &SimHandle, name: &Name, attr: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.ask(|files| get_xattr(files, files.lookup(dir.ino, name)?, attr))
    }

    fn set_xattr(&self, object: &SimHandle, attr: &[u8], value: &[u8], mode: XattrMode) -> io::Result<()> {
        let present = |machine: &Machine| machine.files.inode(object.ino).xattrs.get(attr).map_or(0, Vec::len);
        let grows = value.len() > present(&self.machine());
        self.change_with(if grows { Effect::Grows } else { Effect::Changes }, |files| {
            let mut inode = files.copy(object.ino);
            if value.len() > XATTR_VALUE_MAX {
                return Err(errno(libc::E2BIG));
            }
            check_xattr(&inode, attr, libc::EPERM)?;
            match (mode, inode.xattrs.contains_key(attr)) {
                (XattrMode::Create, true) => return Err(errno(libc::EEXIST)),
                (XattrMode::Replace, false) => return Err(errno(libc::ENODATA)),
                _ => {}
            }
            Arc::make_mut(&mut inode.xattrs).insert(attr.to_vec(), value.to_vec());
            files.change(vec![(object.ino, Some(inode))])
        })
    }

    fn remove_xattr(&self, object: &SimHandle, attr: &[u8]) -> io::Result<()> {
        self.change(|files| {
            let mut inode = files.copy(object.ino);
            check_xattr(&inode, attr, libc::EPERM)?;
            if Arc::make_mut(&mut inode.xattrs).remove(attr).is_none() {
                return Err(errno(libc::ENODATA));
            }
            files.change(vec![(object.ino, Some(inode))])
        })
    }

    fn list_xattr(&self, object: &SimHandle) -> io::Result<Vec<u8>> {
        self.ask(|files| {
            let ended = |attr: &Vec<u8>| attr.iter().copied().chain([0]).collect::<Vec<u8>>();
            Ok(files.inode(object.ino).xattrs.keys().flat_map(ended).collect())
        })
    }

    fn read_at(&self, file: &SimHandle, out: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<usize> {
        self.ask(|files| files.read(file.ino, out, len, offset))
    }

    fn write_at(&self, file: &SimHandle, data: &[u8], offset: u64) -> Result<(), ShortWrite> {
        let failed = |source| ShortWrite { written: 0, source };
        let mut machine = self.machine();
        machine.tear(file.ino, data, offset);
        machine.begin(Effect::Grows).map_err(failed)?;
        machine.files.write(file.ino, data, offset)
    }

    fn is_cached(&self, _: &SimHandle, _: usize, _: u64) -> bool {
        true
    }

    fn truncate(&self, file: &SimHandle, len: u64) -> io::Result<()> {
        self.change(|files| files.truncate(file.ino, len))
    }

    fn punch(&self, file: &SimHandle, offset: u64, len: u64) -> io::Result<()> {
        self.grow(|files| files.punch(file.ino, offset, len))
    }

    fn allocate(&self, file: &SimHandle, offset: u64, len: u64, keep_size: bool) -> io::Result<()> {
        self.grow(|files| files.allocate(file.ino, offset, len, keep_size))
    }

    fn next_data(&self, file: &SimHandle, offset: u64) -> io::Result<Option<(u64, u64)>> {
        self.ask(|files| files.next_data(file.ino, offset))
    }

    fn sync_data(&self, file: &SimHandle) -> io::Result<()> {
        self.sync(Some(file.ino), |files| files.sync_data(file.ino))
    }

    fn sync_all(&self, object: &SimHandle) -> io::Result<()> {
        self.sync(Some(object.ino), |files| match files.inode(object.ino).kind {
            Kind::File | Kind::Directory => files.sync_all(object.ino),
            _ => files.sync_fs(),
        })
    }

    fn sync_fs(&self) -> io::Result<()> {
        self.sync(None, FileSystem::sync_fs)
    }

    fn space(&self) -> io::Result<Space> {
        self.ask(|files| Ok(files.space()))
    }
}

impl Machine {
    /// Removes an object that lost its last name, unless it is open.
    fn reap_closed(&mut self, ino: Ino) {
        if !self.open.contains_key(&ino) {
            self.files.reap(ino);
        }
    }
}
