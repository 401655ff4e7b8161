//! Running programs with a deadline.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::deadline::reached;
use crate::places;

/// What a program left when it ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, as text.
    pub stdout: String,
    /// Its standard error, as text.
    pub stderr: String,
}

impl Finished {
    /// The exit code; 128 + n for signal n, as a shell says it.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let signal = || self.status.signal().map(|n| 128 + n);
        self.status.code().or_else(signal).expect("it ended")
    }

    /// Both outputs with every run of blanks, line ends and box drawing as one space: what to
    /// search in text that was wrapped and decorated for a terminal.
    pub fn words(&self) -> String {
        let text = format!("{}\n{}", self.stdout, self.stderr);
        let plain = |c: char| if c.is_whitespace() || ('\u{2500}'..'\u{2600}').contains(&c) { ' ' } else { c };
        let text: String = text.chars().map(plain).collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Runs `command` to its end. Its output goes through files, so that a daemon that it leaves
/// behind cannot hold the caller up, and neither can a full pipe.
///
/// # Panics
/// When it cannot be started or does not end within `within` (it is killed with its group then).
pub fn run(command: &mut Command, within: Duration) -> Finished {
    let (mut stdout, mut stderr) = (scratch_file(), scratch_file());
    command.stdin(Stdio::null()).process_group(0);
    command.stdout(stdout.try_clone().expect("dup")).stderr(stderr.try_clone().expect("dup"));
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let status = wait(&mut child, within);
    let mut finished = |status| Finished { status, stdout: text(&mut stdout), stderr: text(&mut stderr) };
    match status {
        Some(status) => finished(status),
        None => {
            kill_group(&mut child);
            let left = finished(ExitStatus::default());
            panic!("{command:?} did not end within {within:?}\n{}{}", left.stdout, left.stderr);
        }
    }
}

/// Runs `command` and returns its standard output.
///
/// # Panics
/// As [`run`] does, and when it ends with anything but 0.
pub fn run_ok(command: &mut Command, within: Duration) -> String {
    let finished = run(command, within);
    let Finished { status, stdout, stderr } = &finished;
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    finished.stdout
}

/// Runs a line of shell in `dir` (`set -eu`, as root), and returns its standard output.
///
/// # Panics
/// As [`run_ok`] does; within two minutes.
pub fn sh(dir: &Path, script: &str) -> String {
    run_ok(&mut shell(dir, script), Duration::from_secs(120))
}

/// The command that [`sh`] runs, to be run in another way.
pub fn shell(dir: &Path, script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(dir);
    command
}

/// The end of `child`, if it comes within `within`.
pub fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let mut status = None;
    reached(within, || {
        status = child.try_wait().expect("wait for a child");
        status.is_some()
    });
    status
}

/// Kills `child` and everything in its process group with -9, and collects it. A process that
/// hangs in the kernel is left to its fate after a moment.
pub fn kill_group(child: &mut Child) {
    let group = Pid::from_raw(child.id() as i32);
    let _ = signal::killpg(group, Signal::SIGKILL);
    let _ = child.kill();
    wait(child, Duration::from_secs(5));
}

/// True while a process with this id exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// True while the process waits in the kernel and no signal can free it.
pub fn is_stuck(pid: i32) -> bool {
    state(pid) == Some('D')
}

/// Where each thread of a process is, for the report of one that does not get on: its state, and in which call and where in the kernel
/// it waits, as far as the kernel tells.
pub fn whereabouts(pid: i32) -> String {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let described = threads.map(|thread| {
        let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_else(|why| why.to_string());
        let (tid, state) = (thread.file_name(), read("stat"));
        // The name before it may have any characters.
        let state = state.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).unwrap_or('?');
        let (call, place, stack) = (read("syscall"), read("wchan"), read("stack"));
        format!("thread {}: {state}, system call {}, in {place}\n{stack}", tid.display(), call.trim())
    });
    let described: String = described.collect();
    if described.is_empty() { format!("there is no process {pid}") } else { described }
}

fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Sends `signal` to the process `pid`.
///
/// # Panics
/// When there is none.
pub fn send(pid: i32, signal: Signal) {
    signal::kill(Pid::from_raw(pid), signal).unwrap_or_else(|e| panic!("{signal} to {pid}: {e}"));
}

/// A file without a name in the base directory of the tests.
fn scratch_file() -> File {
    use rustix::fs::{Mode, OFlags, open};
    let base = places::base();
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    open(&base, flags, Mode::RUSR | Mode::WUSR)
        .unwrap_or_else(|e| panic!("no scratch file in {}: {e}", base.display()))
        .into()
}

/// Everything in `file`, whatever its bytes are.
fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let mut read = |bytes: &mut Vec<u8>| -> io::Result<usize> {
        file.rewind()?;
        file.read_to_end(bytes)
    };
    read(&mut bytes).expect("read back a scratch file");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_waits_says_where() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let waits = reached(Duration::from_secs(10), || whereabouts(pid).contains("nanosleep"));
        let said = whereabouts(pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(waits && said.starts_with(&format!("thread {pid}: S, system call ")), "{said}");
        assert_eq!(whereabouts(pid), format!("there is no process {pid}"));
    }
}
