//! Whether the machine is ready for the mounts: the step after parsing, and the only one that looks at anything but text.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::ConfigErrors;
use super::key::Key;
use super::line::{Entry, Piece, sections};
use super::problem::Problems;
use super::value::{self, Rejected};

/// Checks that every volume's mountpoint is an absolute path to an empty directory on which nothing is mounted, and that none
/// is inside another's. `path` and `text` are the configuration; what else may be wrong with it is not looked at.
///
/// What a dead daemon left mounted ("Transport endpoint is not connected") is fine: it is detached before mounting anew.
///
/// # Errors
/// Everything that is wrong, in the order of the file's lines.
pub fn check_mountpoints(path: &Path, text: &str) -> Result<(), ConfigErrors> {
    check_on(&ThisMachine, path, text)
}

/// What the check needs to know of a machine.
pub(super) trait Machine {
    /// The content of `/proc/self/mountinfo`.
    fn mountinfo(&self) -> io::Result<Vec<u8>>;
    /// Whether there is a directory, behind symlinks if need be.
    fn is_dir(&self, path: &Path) -> io::Result<bool>;
    /// Whether the directory has no entry.
    fn is_empty(&self, path: &Path) -> io::Result<bool>;
    /// The path without symlinks and dots.
    fn real_path(&self, path: &Path) -> io::Result<PathBuf>;
}

/// The machine that this runs on.
pub(super) struct ThisMachine;

impl Machine for ThisMachine {
    fn mountinfo(&self) -> io::Result<Vec<u8>> {
        std::fs::read("/proc/self/mountinfo")
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        std::fs::metadata(path).map(|metadata| metadata.is_dir())
    }

    fn is_empty(&self, path: &Path) -> io::Result<bool> {
        Ok(std::fs::read_dir(path)?.next().is_none())
    }

    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        path.canonicalize()
    }
}

/// One line of the mount table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    pub(super) fs_type: String,
}

impl Mount {
    fn is_fuse(&self) -> bool {
        self.fs_type == "fuse" || self.fs_type.starts_with("fuse.")
    }
}

pub(super) fn check_on(machine: &impl Machine, path: &Path, text: &str) -> Result<(), ConfigErrors> {
    let mut problems = Problems::default();
    let mounts = match machine.mountinfo() {
        Ok(table) => parse_mountinfo(&table),
        Err(error) => {
            problems.add_to_file(format!("the mount table is unknown: {error}"), "is /proc mounted?");
            Vec::new()
        }
    };
    // What is wrong with the text itself is for the parser to report.
    let (_, volumes) = sections(text, &mut Problems::default());
    let points: Vec<_> = volumes
        .iter()
        .filter_map(|section| {
            let volume = section.get(Key::Diskname).and_then(|entry| entry.value).map_or("", |name| name.text);
            let Entry { line, value, .. } = section.get(Key::Mountpoint)?;
            let written = value::path(value?.text).ok()?;
            let real = problems.accept(line, inspect(machine, &mounts, &written));
            Some(Point { volume, path: real.unwrap_or_else(|| written.clone()), written, line })
        })
        .collect();
    report_nested(&points, &mut problems);
    problems.or((), path, text)
}

/// A mountpoint as the machine sees it.
struct Point<'a> {
    volume: &'a str,
    path: PathBuf,
    written: PathBuf,
    line: Piece<'a>,
}

fn report_nested(points: &[Point<'_>], problems: &mut Problems) {
    for (index, inner) in points.iter().enumerate() {
        for (other_index, outer) in points.iter().enumerate() {
            // The same path twice is an error of the text.
            let message = if inner.path == outer.path && inner.written != outer.written && other_index < index {
                "is the same directory as"
            } else if inner.path != outer.path && inner.path.starts_with(&outer.path) {
                "is inside"
            } else {
                continue;
            };
            let message = format!("the mountpoint {message} that of volume `{}`", outer.volume);
            problems.add(inner.line, message, format!("line {} has `{}`", outer.line.line, outer.path.display()));
        }
    }
}

/// The real path of a mountpoint that can be used.
fn inspect(machine: &impl Machine, mounts: &[Mount], path: &Path) -> Result<PathBuf, Rejected> {
    value::require_absolute(path)?;
    let is_dir = match machine.is_dir(path) {
        Ok(is_dir) => is_dir,
        Err(error) if is_dead_mount(&error) => return leftover(machine, mounts, path),
        Err(error) => return Err(unreachable_path(path, &error)),
    };
    let real = machine.real_path(path).map_err(|error| unreachable_path(path, &error))?;
    // Before anything else is asked of the directory: a frozen file system on it might never answer.
    if let Some(mount) = mounts.iter().rfind(|mount| mount.point == real) {
        // Attributes may still be in the kernel's cache long after the daemon died: only opening tells.
        if mount.is_fuse() && machine.is_empty(path).is_err_and(|error| is_dead_mount(&error)) {
            return leftover(machine, mounts, path);
        }
        let help = format!("unmount it: `umount {}`", shell_word(path));
        return Err(Rejected::new(format!("{} is already mounted there", mount.fs_type), help));
    }
    if !is_dir {
        return Err(Rejected::new("the mountpoint is not a directory", "name an empty directory"));
    }
    match machine.is_empty(path) {
        Ok(true) => Ok(real),
        Ok(false) => {
            Err(Rejected::new("the mountpoint is not empty", "name an empty directory: a mount would hide the files"))
        }
        Err(error) => Err(unreachable_path(path, &error)),
    }
}

/// The real path of a mountpoint that a dead daemon left mounted.
fn leftover(machine: &impl Machine, mounts: &[Mount], path: &Path) -> Result<PathBuf, Rejected> {
    let beside_parent = || Some(machine.real_path(path.parent()?).ok()?.join(path.file_name()?));
    let real = machine.real_path(path).ok().or_else(beside_parent);
    match real {
        Some(real) if mounts.iter().any(|mount| mount.point == real && mount.is_fuse()) => Ok(real),
        _ => Err(Rejected::new("the mountpoint lies on a mount whose daemon is dead", "unmount that first")),
    }
}

/// A FUSE mount whose daemon died, or whose connection was aborted.
fn is_dead_mount(error: &io::Error) -> bool {
    let dead = [Errno::ENOTCONN as i32, Errno::ECONNABORTED as i32];
    error.raw_os_error().is_some_and(|errno| dead.contains(&errno))
}

fn unreachable_path(path: &Path, error: &io::Error) -> Rejected {
    match error.kind() {
        io::ErrorKind::NotFound => {
            Rejected::new("the mountpoint does not exist", format!("create it: `mkdir -p {}`", shell_word(path)))
        }
        io::ErrorKind::NotADirectory => {
            Rejected::new("a part of the mountpoint's path is not a directory", "name an empty directory")
        }
        io::ErrorKind::PermissionDenied => {
            Rejected::new("the mountpoint may not be looked at", "choose a directory that you may read")
        }
        _ => Rejected::new(format!("the mountpoint cannot be looked at: {error}"), "name an empty directory"),
    }
}

/// The path as it can be pasted into a shell.
fn shell_word(path: &Path) -> String {
    let path = path.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,@%=:".contains(c);
    if path.chars().all(is_plain) { path.into_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// The mount points of `/proc/self/mountinfo` (proc(5)); a line that is not understood is passed over.
pub(super) fn parse_mountinfo(table: &[u8]) -> Vec<Mount> {
    table.split(|&byte| byte == b'\n').filter_map(parse_mount).collect()
}

fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(4)?)));
    // Any number of optional fields ends with a lone hyphen.
    fields.find(|field| *field == b"-")?;
    let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(Mount { point, fs_type })
}

/// The kernel writes a blank, tab, newline and backslash of a path as a backslash with three octal digits.
fn unescape(mut field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    while let Some((&byte, rest)) = field.split_first() {
        match (byte, rest) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                field = rest;
            }
            _ => {
                out.push(byte);
                field = rest;
            }
        }
    }
    out
}
