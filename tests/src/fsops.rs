//! File system calls that the standard library does not have, with the error of the system.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Advice, Mode, OFlags, SeekFrom, fadvise, listxattr, open, seek};
use rustix::io::Errno;

/// Opens `path` with these flags; a new file gets mode 0644.
pub fn open_with(path: &Path, flags: OFlags) -> Result<File, Errno> {
    open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644)).map(File::from)
}

/// Writes back what is dirty of `file` and drops its pages, so that the next read asks the daemon.
pub fn forget(file: &File) {
    file.sync_all().expect("fsync");
    fadvise(file, 0, None, Advice::DontNeed).expect("fadvise");
}

/// The first data at or after `offset`; `None` when there is none.
pub fn seek_data(file: &File, offset: u64) -> Option<u64> {
    found(seek(file, SeekFrom::Data(offset)))
}

/// The first hole at or after `offset`; the end of the file is one.
pub fn seek_hole(file: &File, offset: u64) -> Option<u64> {
    found(seek(file, SeekFrom::Hole(offset)))
}

fn found(result: Result<u64, Errno>) -> Option<u64> {
    match result {
        Ok(offset) => Some(offset),
        Err(Errno::NXIO) => None,
        Err(other) => panic!("lseek: {other}"),
    }
}

/// The names of all xattrs of `path`, sorted.
pub fn xattr_names(path: &Path) -> Vec<OsString> {
    let mut buffer = vec![0; 64 * 1024];
    let length = listxattr(path, &mut buffer[..]).expect("listxattr");
    let names = buffer[..length].split(|&b| b == 0).filter(|n| !n.is_empty());
    let mut names: Vec<OsString> = names.map(|n| OsString::from_vec(n.to_vec())).collect();
    names.sort();
    names
}

/// The value of an xattr.
pub fn xattr(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 64 * 1024];
    let length = rustix::fs::getxattr(path, name, &mut buffer[..])?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Bytes that the file takes, as `du` counts them.
pub fn disk_usage(file: &File) -> u64 {
    file.metadata().expect("stat").blocks() * 512
}

/// A shared writable mapping of the whole file.
pub fn map_shared(file: &File) -> memmap2::MmapMut {
    // SAFETY: the file belongs to the calling test. Nothing truncates it while it is mapped, and
    // the tests only ever compare what other mappings and writes did with what they expect.
    unsafe { memmap2::MmapMut::map_mut(file) }.expect("mmap")
}
