//! The calls of a [`Disk`], each as the fault schedule lets it happen.

use std::io;
use std::sync::Arc;

use net_raid_proto::ids::{Name, Timestamp};
use net_raid_proto::limits::{TARGET_MAX, XATTR_NAME_MAX, XATTR_VALUE_MAX};
use net_raid_proto::message::{Kind, Space};

use super::filesystem::{FileSystem, ROOT, errno};
use super::inode::{Ino, Inode};
use super::names::{add, remove, rename};
use super::schedule::{Effect, Machine};
use super::{SimDisk, SimHandle};
use crate::disk::{DirItem, Disk, RenameMode, ShortWrite, Stat, XattrMode};

/// Entries of one page of a directory.
const PAGE_ENTRIES: usize = 32;
const HANDLES_MAX: usize = 100_000;
const SET_ID: u32 = 0o6000;

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

    /// What becomes durable before a sync is left to chance at every power loss.
    fn begin_write_back(&self, _file: &SimHandle) {}

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
