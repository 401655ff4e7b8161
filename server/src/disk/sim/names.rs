//! Changes of names, with the checks of a kernel.

use std::collections::BTreeMap;
use std::io;

use net_raid_proto::ids::Name;

use super::filesystem::{FileSystem, ROOT, errno};
use super::inode::{Ino, Inode};
use crate::disk::RenameMode;

/// An object in `dir` under a name that is free.
pub(super) fn add(files: &mut FileSystem, dir: Ino, name: &Name, mut inode: Inode) -> io::Result<Ino> {
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

pub(super) fn remove(files: &mut FileSystem, dir: Ino, name: &Name, directory: bool) -> io::Result<Ino> {
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
pub(super) fn rename(
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
