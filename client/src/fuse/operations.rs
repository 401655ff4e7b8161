//! One method for each operation of the kernel.
//!
//! What is not here answers ENOSYS or what fuser does by itself, and the kernel gets along: file locks stay in the kernel,
//! `access` is checked there (default_permissions), copy_file_range is done with reads and writes (fs/fuse/file.c), files are
//! always ready for poll.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, INodeNo, IoctlFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::Adapter;
use super::answer::{Lookup, Xattr};
use super::capabilities::negotiate;
use super::convert::{caller, id, kind, permissions, set_time, timestamp};
use super::page::{Entries, Page, Place};
use super::run::Work;
use crate::fs::{self, SetAttrs};

fn owned(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}

impl Adapter {
    fn read_page<R: Entries>(&self, (ino, fh, offset): (INodeNo, FileHandle, u64), plus: bool, reply: R) {
        let (fs, answer) = (Arc::clone(&self.fs), Page::new(reply));
        let page = answer.share();
        self.runner.run("readdir", Work::Unbounded, answer, async move {
            let place = Place { directory: id(ino), handle: fh.0, offset };
            if plus { page.fill_plus(&fs, place).await } else { page.fill(&fs, place).await }
        });
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate(config)
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (fs, name) = (Arc::clone(&self.fs), owned(name));
        self.runner.run("lookup", Work::Usual, Lookup(reply), async move { fs.lookup(id(parent), &name).await });
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.runner.now("forget", || self.fs.forget(id(ino), count));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let fs = Arc::clone(&self.fs);
        self.runner.run("getattr", Work::Usual, reply, async move { fs.getattr(id(ino)).await });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (fs, caller) = (Arc::clone(&self.fs), caller(request));
        let set = SetAttrs {
            mode: mode.map(permissions),
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime: ctime.map(timestamp),
            // fuser 0.18 drops FATTR_KILL_SUIDGID. The kernel sets it when an owner changes, and when one without CAP_FSETID, for
            // which being root must stand here, truncates (fs/fuse/dir.c, `fuse_do_setattr`).
            kill_suidgid: uid.is_some() || gid.is_some() || (size.is_some() && caller.uid != 0),
            handle: handle.map(|handle| handle.0),
        };
        self.runner.run("setattr", Work::Unbounded, reply, async move { fs.setattr(&caller, id(ino), set).await });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let fs = Arc::clone(&self.fs);
        self.runner.run("readlink", Work::Usual, reply, async move { fs.readlink(id(ino)).await.map(Bytes::from) });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let (fs, caller, name) = (Arc::clone(&self.fs), caller(request), owned(name));
        self.runner.run("mknod", Work::Usual, reply, async move {
            fs.mknod(&caller, id(parent), &name, kind(mode, device)?, permissions(mode), umask).await
        });
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let (fs, caller, name) = (Arc::clone(&self.fs), caller(request), owned(name));
        self.runner.run("mkdir", Work::Usual, reply, async move {
            fs.mkdir(&caller, id(parent), &name, permissions(mode), umask).await
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name) = (Arc::clone(&self.fs), owned(name));
        self.runner.run("unlink", Work::Usual, reply, async move { fs.unlink(id(parent), &name).await });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name) = (Arc::clone(&self.fs), owned(name));
        self.runner.run("rmdir", Work::Usual, reply, async move { fs.rmdir(id(parent), &name).await });
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (fs, caller, name, target) =
            (Arc::clone(&self.fs), caller(request), owned(name), owned(target.as_os_str()));
        self.runner.run(
            "symlink",
            Work::Usual,
            reply,
            async move { fs.symlink(&caller, id(parent), &name, &target).await },
        );
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (fs, name, new_name) = (Arc::clone(&self.fs), owned(name), owned(new_name));
        self.runner.run("rename", Work::Usual, reply, async move {
            fs.rename(id(parent), &name, id(new_parent), &new_name, flags.bits()).await
        });
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (fs, name) = (Arc::clone(&self.fs), owned(name));
        self.runner.run("link", Work::Usual, reply, async move { fs.link(id(ino), id(parent), &name).await });
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (fs, writers) = (Arc::clone(&self.fs), Arc::clone(&self.writers));
        self.runner.run("open", Work::Usual, reply, async move {
            let handle = fs.open(id(ino), flags.0).await?;
            writers.opened(id(ino), flags.0);
            Ok((handle, FopenFlags::FOPEN_KEEP_CACHE))
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (fs, caller, name) = (Arc::clone(&self.fs), caller(request), owned(name));
        let writers = Arc::clone(&self.writers);
        self.runner.run("create", Work::Usual, reply, async move {
            let (stat, handle) = fs.create(&caller, id(parent), &name, permissions(mode), umask, flags).await?;
            writers.opened(stat.id, flags);
            Ok((stat, handle))
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        len: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (fs, quietly) = (Arc::clone(&self.fs), flags.0 & libc::O_NOATIME != 0);
        self.runner.run(
            "read",
            Work::Usual,
            reply,
            async move { fs.read(id(ino), offset, len as usize, quietly).await },
        );
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // The one copy: the buffer belongs to the thread, which reads the next request into it.
        let (fs, data) = (Arc::clone(&self.fs), Bytes::copy_from_slice(data));
        let flags = fs::WriteFlags {
            from_cache: flags.contains(WriteFlags::FUSE_WRITE_CACHE),
            kill_suidgid: flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
            // With write-back the kernel knows the size, and has put the end of the file into `offset` already.
            append: false,
        };
        self.runner.run(
            "write",
            Work::Usual,
            reply,
            async move { fs.write(id(ino), handle.0, offset, data, flags).await },
        );
    }

    fn flush(&self, _: &Request, ino: INodeNo, handle: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let fs = Arc::clone(&self.fs);
        self.runner.run("flush", Work::Unbounded, reply, async move { fs.flush(id(ino), handle.0).await });
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        flags: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.writers.released(id(ino), flags.0);
        self.runner.now("release", || self.fs.release(id(ino), handle.0));
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let fs = Arc::clone(&self.fs);
        self.runner.run("fsync", Work::Unbounded, reply, async move { fs.fsync(id(ino), data_only).await });
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let fs = Arc::clone(&self.fs);
        self.runner.run(
            "opendir",
            Work::Usual,
            reply,
            async move { Ok((fs.opendir(id(ino)).await?, FopenFlags::empty())) },
        );
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectory) {
        self.read_page((ino, handle, offset), false, reply);
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        self.read_page((ino, handle, offset), true, reply);
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.runner.now("releasedir", || self.fs.releasedir(handle.0));
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let fs = Arc::clone(&self.fs);
        self.runner.run("fsyncdir", Work::Unbounded, reply, async move { fs.fsyncdir(id(ino), data_only).await });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let fs = Arc::clone(&self.fs);
        self.runner.run("statfs", Work::Usual, reply, async move { fs.statfs().await });
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let (fs, caller, name, value) = (Arc::clone(&self.fs), caller(request), owned(name), value.to_vec());
        self.runner.run("setxattr", Work::Usual, reply, async move {
            fs.setxattr(&caller, id(ino), &name, &value, flags).await
        });
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, buffer_size: u32, reply: ReplyXattr) {
        let (fs, name) = (Arc::clone(&self.fs), owned(name));
        let answer = Xattr { reply, buffer_size };
        self.runner.run("getxattr", Work::Usual, answer, async move { fs.getxattr(id(ino), &name).await });
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, buffer_size: u32, reply: ReplyXattr) {
        let (fs, caller) = (Arc::clone(&self.fs), caller(request));
        let answer = Xattr { reply, buffer_size };
        self.runner.run("listxattr", Work::Usual, answer, async move { fs.listxattr(&caller, id(ino)).await });
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name) = (Arc::clone(&self.fs), owned(name));
        self.runner.run("removexattr", Work::Usual, reply, async move { fs.removexattr(id(ino), &name).await });
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let fs = Arc::clone(&self.fs);
        self.runner.run("fallocate", Work::Unbounded, reply, async move {
            fs.fallocate(id(ino), handle.0, offset, len, mode).await
        });
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let (fs, notifier) = (Arc::clone(&self.fs), Arc::clone(&self.notifier));
        let is_dirty = self.writers.may_be_dirty(id(ino));
        self.runner.run("lseek", Work::Unbounded, reply, async move {
            if is_dirty {
                Self::write_back(notifier, id(ino), offset).await?;
            }
            fs.lseek(id(ino), offset, whence).await
        });
    }

    // fuser would answer the rest the same way, but with a warning each time.

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }
}
