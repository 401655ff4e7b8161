//! The directory of one test: bricks, mountpoints, logs. What refers to it dies with it.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::deadline::reached;
use crate::netns::{self, NAMESPACES};
use crate::places::{KEPT, PREFIX, base};
use crate::process::is_alive;

/// A directory that only this test uses.
#[derive(Debug)]
pub struct Workdir {
    path: PathBuf,
    precious: AtomicBool,
}

impl Workdir {
    /// A new, empty one. The first of a process also clears away what killed runs left.
    pub fn new() -> Workdir {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = base().join(format!("{PREFIX}{}.{number}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|e| panic!("create {}: {e}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        Workdir { path, precious: AtomicBool::new(std::env::var_os("NET_RAID_KEEP").is_some()) }
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps it when the test fails, as `NET_RAID_KEEP` does.
    pub fn keep_after_failure(&self) {
        self.precious.store(true, Ordering::Relaxed);
    }

    /// Creates a directory in it.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir(&path).unwrap_or_else(|e| panic!("create {}: {e}", path.display()));
        path
    }
}

impl Default for Workdir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        end_all(&self.path);
        if std::thread::panicking() && self.precious.load(Ordering::Relaxed) {
            keep(&self.path);
        } else {
            remove(&self.path);
        }
    }
}

/// Ends every process that names something below `dir` on its command line, and detaches every
/// mount below it. Returns when both are gone, or after a moment.
pub fn end_all(dir: &Path) {
    for pid in processes_of(dir) {
        // A stopped process dies of SIGKILL too.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    for mountpoint in mounts_below(dir) {
        let _ = umount2(&mountpoint, MntFlags::MNT_DETACH);
    }
    let gone = || processes_of(dir).is_empty() && mounts_below(dir).is_empty();
    if !reached(Duration::from_secs(5), gone) {
        eprintln!("left below {}: processes {:?}", dir.display(), processes_of(dir));
    }
}

/// The mountpoints below `dir`, the latest first, each as often as it is mounted on.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").expect("read mountinfo");
    let mountpoint = |line: &[u8]| {
        let field = line.split(|&b| b == b' ').nth(4)?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
    };
    let all = table.split(|&b| b == b'\n').filter_map(mountpoint);
    let mut below: Vec<PathBuf> = all.filter(|path| path.starts_with(dir)).collect();
    below.reverse();
    below
}

/// Removes what test programs that no longer live have left.
pub fn sweep() {
    for path in orphans(&base()) {
        end_all(&path);
        remove(&path);
    }
    // After the processes in them.
    for namespace in orphans(Path::new(NAMESPACES)) {
        netns::delete(&namespace);
    }
}

/// What in `dir` has the name of a test program that no longer lives.
fn orphans(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_orphan = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let owner = name.and_then(|n| n.strip_prefix(PREFIX)).and_then(|n| n.split('.').next());
        owner.and_then(|pid| pid.parse().ok()).is_some_and(|pid| !is_alive(pid))
    };
    entries.map(|entry| entry.path()).filter(is_orphan).collect()
}

/// Gives `dir` a name that the next test run does not clear away.
fn keep(dir: &Path) {
    let name = dir.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(PREFIX));
    let kept = dir.with_file_name(format!("{KEPT}{}", name.unwrap_or_default()));
    match fs::rename(dir, &kept) {
        Ok(()) => eprintln!("kept: {}", kept.display()),
        Err(error) => eprintln!("kept: {} ({error})", dir.display()),
    }
}

/// Removes `dir`, but never through a mount that could not be detached.
fn remove(dir: &Path) {
    if mounts_below(dir).is_empty() {
        let removed = fs::remove_dir_all(dir);
        removed.unwrap_or_else(|e| eprintln!("cannot remove {}: {e}", dir.display()));
    }
}

/// Ids of the processes that name `dir` or something below it, this one excepted.
pub fn processes_of(dir: &Path) -> Vec<i32> {
    let wanted = dir.as_os_str().as_bytes();
    let names_it = |line: &[u8]| {
        line.windows(wanted.len() + 1).any(|w| w.starts_with(wanted) && matches!(w[wanted.len()], b'/' | 0))
    };
    let own = std::process::id() as i32;
    let all = fs::read_dir("/proc").expect("read /proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|&pid| pid != own && is_alive(pid))
        .filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| names_it(&line)))
        .collect()
}

/// Undoes the octal escapes of mountinfo.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let code = octal.and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(code) if byte == b'\\' => {
                plain.push(code);
                rest = &tail[3..];
            }
            _ => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn mountinfo_escapes_are_undone() {
        assert_eq!(unescape(br"/a\040b\134c"), b"/a b\\c");
    }

    #[test]
    fn a_process_that_names_the_directory_ends_with_it() {
        let dir = Workdir::new();
        let path = dir.path().to_owned();
        let mut child = Command::new("tail").arg("-f").arg(path.join("x")).arg("/dev/null").spawn().unwrap();
        reached(Duration::from_secs(5), || !processes_of(&path).is_empty());
        let gone = std::thread::spawn(move || child.wait());
        drop(dir);
        assert!(!gone.join().unwrap().unwrap().success());
        assert!(!path.exists());
    }
}
