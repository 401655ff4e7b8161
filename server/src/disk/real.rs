//! The real disk: one directory, through rustix.

mod metadata;
mod write_back;

use std::io::{self, IoSliceMut};
use std::path::{Path, PathBuf};

use net_raid_proto::ids::{Name, Timestamp};
use net_raid_proto::membership::Ownership;
use net_raid_proto::message::{Kind, Space};
use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom, XattrFlags,
};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};
use rustix::process::{Resource, Rlimit};

use write_back::WriteBack;

use super::{DirItem, Disk, RenameMode, ShortWrite, Stat, XattrMode};

/// Bytes that one page of a directory takes from the kernel: with attributes it stays below 256 KiB on the wire.
const DIR_PAGE: usize = 32 * 1024;
/// Handles left for sockets, logs and short-lived opens.
const HANDLES_SPARE: u64 = 512;
/// Reads into spare capacity may take this much more than asked for before zero-filling is cheaper.
const OVERREAD_MAX: usize = 4096;

/// An open object.
#[derive(Debug)]
pub struct RealHandle {
    fd: OwnedFd,
    /// Opened with O_PATH: symbolic links, FIFOs, sockets, devices.
    path_only: bool,
}

/// Why a directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Nothing can be made in it.
    #[error("{} is not writable: {source}", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its file system has no user extended attributes.
    #[error("the file system of {} has no user extended attributes: {source}", path.display())]
    NoXattrs {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a directory cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process serves it.
    #[error("already served by another process")]
    Busy,
    /// The file system.
    #[error("cannot be locked: {0}")]
    Os(#[from] io::Error),
}

/// A directory of this machine.
#[derive(Debug)]
pub struct RealDisk {
    root: OwnedFd,
    handles_max: usize,
    write_back: WriteBack,
}

impl RealDisk {
    /// Opens a directory, and prepares the process for it: umask 0 (modes are what the volume says)
    /// and as many open files as the system allows.
    ///
    /// # Errors
    /// [`RootError`] when it cannot be served.
    pub fn open(path: &Path) -> Result<RealDisk, RootError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()));
        let root = opened.map_err(|error| match error {
            Errno::NOTDIR => RootError::NotADirectory(path.into()),
            error => RootError::Open { path: path.into(), source: error.into() },
        })?;
        probe(&root, path)?;
        rustix::process::umask(Mode::empty());
        Ok(RealDisk { root, handles_max: raise_open_files(), write_back: WriteBack::start() })
    }

    /// Locks the directory against other servers until the disk is dropped.
    ///
    /// The lock is an flock on the directory itself: it needs no file, so an empty directory stays
    /// empty, and the kernel drops it when the process dies.
    ///
    /// # Errors
    /// [`LockError::Busy`] when another process holds it.
    pub fn lock(&self) -> Result<(), LockError> {
        match retry_on_intr(|| rustix::fs::flock(&self.root, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(()),
            Err(Errno::WOULDBLOCK) => Err(LockError::Busy),
            Err(error) => Err(LockError::Os(error.into())),
        }
    }

    /// How this process can keep owners and special files here: natively as root with trusted attributes.
    pub fn ownership(&self) -> Ownership {
        let attr = c"trusted.net_raid.probe";
        let native = rustix::process::geteuid().is_root()
            && rustix::fs::fsetxattr(&self.root, attr, b"1", XattrFlags::empty()).is_ok()
            && rustix::fs::fremovexattr(&self.root, attr).is_ok();
        if native { Ownership::Native } else { Ownership::Recorded }
    }
}

/// Whether files and user attributes can be made.
fn probe(root: &OwnedFd, path: &Path) -> Result<(), RootError> {
    let not_writable = |error: Errno| RootError::NotWritable { path: path.into(), source: error.into() };
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK | rustix::fs::Access::READ_OK;
    rustix::fs::accessat(root, c".", access, AtFlags::EACCESS).map_err(not_writable)?;
    let attr = c"user.net_raid.probe";
    let set = rustix::fs::fsetxattr(root, attr, b"1", XattrFlags::empty());
    match set.and_then(|()| rustix::fs::fremovexattr(root, attr)) {
        Ok(()) => Ok(()),
        Err(error @ (Errno::ROFS | Errno::ACCESS | Errno::PERM)) => Err(not_writable(error)),
        Err(error) => Err(RootError::NoXattrs { path: path.into(), source: error.into() }),
    }
}

/// Raises the soft limit of open files to the hard one; how many a disk may use.
fn raise_open_files() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(usize::MAX, |files| files.saturating_sub(HANDLES_SPARE).max(64) as usize)
}

/// Opens below `dir`, never leaving it. A rename elsewhere makes the kernel ask for another try.
fn open_beneath(dir: &OwnedFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Opens again what an O_PATH handle refers to, without touching access times where that is allowed.
fn reopen(fd: &OwnedFd, kind: &Kind) -> io::Result<OwnedFd> {
    let open = |extra: OFlags| match kind {
        Kind::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | extra;
            retry_on_intr(|| rustix::fs::openat(fd, c".", flags, Mode::empty()))
        }
        _ => {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | extra;
            retry_on_intr(|| rustix::fs::open(metadata::proc_path(fd).as_str(), flags, Mode::empty()))
        }
    };
    match open(OFlags::NOATIME) {
        Err(Errno::PERM) => Ok(open(OFlags::empty())?),
        result => Ok(result?),
    }
}

fn joined(path: &[&Name]) -> Vec<u8> {
    if path.is_empty() {
        return b".".to_vec();
    }
    path.iter().map(|name| name.as_bytes()).collect::<Vec<_>>().join(&b'/')
}

impl Disk for RealDisk {
    type Handle = RealHandle;

    fn root(&self) -> io::Result<RealHandle> {
        Ok(RealHandle { fd: reopen(&self.root, &Kind::Directory)?, path_only: false })
    }

    fn handles_max(&self) -> usize {
        self.handles_max
    }

    fn open(&self, dir: &RealHandle, path: &[&Name]) -> io::Result<(RealHandle, Stat)> {
        let fd = open_beneath(&dir.fd, &joined(path), OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = metadata::stat(&fd)?;
        match stat.kind {
            Kind::File | Kind::Directory => Ok((RealHandle { fd: reopen(&fd, &stat.kind)?, path_only: false }, stat)),
            _ => Ok((RealHandle { fd, path_only: true }, stat)),
        }
    }

    fn create(&self, dir: &RealHandle, name: &Name, mode: u32) -> io::Result<RealHandle> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let open = |extra| retry_on_intr(|| rustix::fs::openat(&dir.fd, name.as_bytes(), flags | extra, mode));
        Ok(RealHandle { fd: open(OFlags::NOATIME)?, path_only: false })
    }

    fn mkdir(&self, dir: &RealHandle, name: &Name, mode: u32) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::mkdirat(&dir.fd, name.as_bytes(), Mode::from_raw_mode(mode)))?)
    }

    fn symlink(&self, dir: &RealHandle, name: &Name, target: &[u8]) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::symlinkat(target, &dir.fd, name.as_bytes()))?)
    }

    fn mknod(&self, dir: &RealHandle, name: &Name, kind: &Kind, mode: u32) -> io::Result<()> {
        let (file_type, device) = metadata::node_type(kind)?;
        let mode = Mode::from_raw_mode(mode);
        Ok(retry_on_intr(|| rustix::fs::mknodat(&dir.fd, name.as_bytes(), file_type, mode, device))?)
    }

    fn link(&self, dir: &RealHandle, name: &Name, to: &RealHandle, to_name: &Name) -> io::Result<()> {
        let (from, new) = (name.as_bytes(), to_name.as_bytes());
        Ok(retry_on_intr(|| rustix::fs::linkat(&dir.fd, from, &to.fd, new, AtFlags::empty()))?)
    }

    fn unlink(&self, dir: &RealHandle, name: &Name) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&dir.fd, name.as_bytes(), AtFlags::empty()))?)
    }

    fn rmdir(&self, dir: &RealHandle, name: &Name) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&dir.fd, name.as_bytes(), AtFlags::REMOVEDIR))?)
    }

    fn rename(
        &self,
        dir: &RealHandle,
        name: &Name,
        to: &RealHandle,
        to_name: &Name,
        mode: RenameMode,
    ) -> io::Result<()> {
        let flags = match mode {
            RenameMode::Replace => RenameFlags::empty(),
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
        };
        let (old, new) = (name.as_bytes(), to_name.as_bytes());
        Ok(retry_on_intr(|| rustix::fs::renameat_with(&dir.fd, old, &to.fd, new, flags))?)
    }

    fn read_dir(&self, dir: &RealHandle, cursor: u64) -> io::Result<Vec<DirItem>> {
        // A handle of its own: the position belongs to the open file, which others share.
        let fd = reopen(&dir.fd, &Kind::Directory)?;
        if cursor != 0 {
            rustix::fs::seek(&fd, SeekFrom::Start(cursor))?;
        }
        let mut buffer = Vec::with_capacity(DIR_PAGE);
        let mut page = RawDir::new(&fd, buffer.spare_capacity_mut());
        let mut items = Vec::new();
        while let Some(entry) = page.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                entry => entry?,
            };
            if let Ok(name) = Name::new(entry.file_name().to_bytes()) {
                items.push(DirItem { name, next: entry.next_entry_cookie() });
            }
            if page.is_buffer_empty() && !items.is_empty() {
                break;
            }
        }
        Ok(items)
    }

    fn read_link(&self, link: &RealHandle) -> io::Result<Vec<u8>> {
        Ok(retry_on_intr(|| rustix::fs::readlinkat(&link.fd, c"", Vec::with_capacity(256)))?.into_bytes())
    }

    fn stat(&self, object: &RealHandle) -> io::Result<Stat> {
        metadata::stat(&object.fd)
    }

    fn stat_at(&self, dir: &RealHandle, name: &Name) -> io::Result<Stat> {
        metadata::stat_at(&dir.fd, name)
    }

    fn set_mode(&self, object: &RealHandle, mode: u32) -> io::Result<()> {
        metadata::set_mode(object, mode)
    }

    fn set_owner(&self, object: &RealHandle, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        metadata::set_owner(object, uid, gid)
    }

    fn set_times(&self, object: &RealHandle, atime: Option<Timestamp>, mtime: Option<Timestamp>) -> io::Result<()> {
        metadata::set_times(object, atime, mtime)
    }

    fn get_xattr(&self, object: &RealHandle, attr: &[u8]) -> io::Result<Option<Vec<u8>>> {
        metadata::get_xattr(object, attr)
    }

    fn get_xattr_at(&self, dir: &RealHandle, name: &Name, attr: &[u8]) -> io::Result<Option<Vec<u8>>> {
        metadata::get_xattr_at(&dir.fd, name, attr)
    }

    fn set_xattr(&self, object: &RealHandle, attr: &[u8], value: &[u8], mode: XattrMode) -> io::Result<()> {
        metadata::set_xattr(object, attr, value, mode)
    }

    fn remove_xattr(&self, object: &RealHandle, attr: &[u8]) -> io::Result<()> {
        metadata::remove_xattr(object, attr)
    }

    fn list_xattr(&self, object: &RealHandle) -> io::Result<Vec<u8>> {
        metadata::list_xattr(object)
    }

    fn read_at(&self, file: &RealHandle, out: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<usize> {
        let start = out.len();
        out.reserve(len);
        while out.len() - start < len {
            let (done, left) = (out.len() - start, len - (out.len() - start));
            let at = offset + done as u64;
            let spare = out.capacity() - out.len();
            let got = if spare <= left + OVERREAD_MAX {
                retry_on_intr(|| rustix::io::pread(&file.fd, spare_capacity(out), at))?
            } else {
                let end = out.len();
                out.resize(end + left, 0);
                let got = retry_on_intr(|| rustix::io::pread(&file.fd, &mut out[end..], at))?;
                out.truncate(end + got);
                got
            };
            if got == 0 {
                break;
            }
        }
        out.truncate(start + len);
        Ok(out.len() - start)
    }

    fn write_at(&self, file: &RealHandle, data: &[u8], offset: u64) -> Result<(), ShortWrite> {
        let mut written = 0;
        while written < data.len() {
            match retry_on_intr(|| rustix::io::pwrite(&file.fd, &data[written..], offset + written as u64)) {
                Ok(0) => return Err(ShortWrite { written, source: io::ErrorKind::WriteZero.into() }),
                Ok(count) => written += count,
                Err(error) => return Err(ShortWrite { written, source: error.into() }),
            }
        }
        Ok(())
    }

    fn is_cached(&self, file: &RealHandle, len: usize, offset: u64) -> bool {
        // One byte of the first and the last page: reads are mostly whole runs that were cached together.
        let there = |at: u64| {
            let mut byte = [0];
            let mut slices = [IoSliceMut::new(&mut byte)];
            rustix::io::preadv2(&file.fd, &mut slices, at, ReadWriteFlags::NOWAIT).is_ok()
        };
        there(offset) && there(offset + (len as u64).saturating_sub(1))
    }

    fn truncate(&self, file: &RealHandle, len: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::ftruncate(&file.fd, len))?)
    }

    fn punch(&self, file: &RealHandle, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(retry_on_intr(|| rustix::fs::fallocate(&file.fd, flags, offset, len))?)
    }

    fn allocate(&self, file: &RealHandle, offset: u64, len: u64, keep_size: bool) -> io::Result<()> {
        let flags = if keep_size { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
        Ok(retry_on_intr(|| rustix::fs::fallocate(&file.fd, flags, offset, len))?)
    }

    fn next_data(&self, file: &RealHandle, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let start = match rustix::fs::seek(&file.fd, SeekFrom::Data(offset)) {
            Err(Errno::NXIO) => return Ok(None),
            start => start?,
        };
        Ok(Some((start, rustix::fs::seek(&file.fd, SeekFrom::Hole(start))?)))
    }

    fn begin_write_back(&self, file: &RealHandle) {
        self.write_back.begin(&file.fd);
    }

    fn sync_data(&self, file: &RealHandle) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fdatasync(&file.fd))?)
    }

    fn sync_all(&self, object: &RealHandle) -> io::Result<()> {
        if object.path_only {
            return self.sync_fs();
        }
        Ok(retry_on_intr(|| rustix::fs::fsync(&object.fd))?)
    }

    fn sync_fs(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::syncfs(&self.root))?)
    }

    fn space(&self) -> io::Result<Space> {
        let fs = retry_on_intr(|| rustix::fs::fstatvfs(&self.root))?;
        Ok(Space {
            total: fs.f_blocks * fs.f_frsize,
            free: fs.f_bfree * fs.f_frsize,
            available: fs.f_bavail * fs.f_frsize,
            inodes: fs.f_files,
            inodes_free: fs.f_ffree,
        })
    }
}
