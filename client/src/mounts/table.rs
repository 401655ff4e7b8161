//! The kernel's mount table, `/proc/self/mountinfo` (proc(5)).

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The device number of a mounted file system; that of a FUSE mount is its own, and not given again while it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceNumber {
    major: u32,
    minor: u32,
}

impl DeviceNumber {
    fn parse(field: &[u8]) -> Option<Self> {
        let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) device: DeviceNumber,
    pub(super) point: PathBuf,
    pub(super) fs_type: String,
}

impl Entry {
    pub(super) fn is_fuse(&self) -> bool {
        self.fs_type == "fuse" || self.fs_type.starts_with("fuse.")
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let device = DeviceNumber::parse(fields.nth(2)?)?;
        let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
        // Any number of optional fields ends with a lone hyphen.
        fields.find(|field| *field == b"-")?;
        let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
        Some(Self { device, point, fs_type })
    }
}

/// All mounts of this process's namespace, those on top last.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table(pub(super) Vec<Entry>);

impl Table {
    /// The table as it is now.
    pub(super) fn read() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read("/proc/self/mountinfo")?))
    }

    /// Lines that are not understood are passed over.
    pub(super) fn parse(table: &[u8]) -> Self {
        Self(table.split(|&byte| byte == b'\n').filter_map(Entry::parse).collect())
    }

    /// What `path`, which has no symlinks, leads to if something is mounted right on it.
    pub(super) fn top(&self, path: &Path) -> Option<&Entry> {
        self.0.iter().rfind(|entry| entry.point == path)
    }
}

/// The kernel writes a blank, tab, newline and backslash of a path as a backslash and three octal digits (`mangle_path`).
fn unescape(mut field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    while let Some((&byte, rest)) = field.split_first() {
        (field, _) = match rest {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] if byte == b'\\' => {
                (rest, out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')))
            }
            _ => (rest, out.push(byte)),
        };
    }
    out
}
