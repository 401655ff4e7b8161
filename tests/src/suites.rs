//! The POSIX suites, run by their own programs: pjdfstest and fsx (both by `scripts/setup`).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::places;
use crate::process::run;

/// ext4 takes three seconds; the rest is for busy machines.
const PJDFSTEST_WITHIN: Duration = Duration::from_secs(600);
/// ext4 takes five.
const FSX_WITHIN: Duration = Duration::from_secs(600);
/// Operations of one run of fsx.
const FSX_OPERATIONS: u32 = 20_000;

/// Every feature of pjdfstest that ext4 on Linux has. Remounting stays off: its tests fail on ext4
/// too when a server of the suite still has a file open.
const PJDFSTEST_CONFIG: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
secondary_fs = "/dev/shm"

[settings]
naptime = 0.02

[dummy_auth]
entries = [["nobody", "nogroup"], ["tests", "tests"]]
"#;

/// What no FUSE mount can pass. pathconf(_PC_LINK_MAX) is glibc's: it knows the limit of some file systems by `f_type`, which
/// for all of FUSE is FUSE_SUPER_MAGIC (fs/fuse/inode.c, `convert_fuse_statfs`), and says 127 for the rest;
/// pjdfstest takes 127 for "unknown" and skips its test.
const NOT_THROUGH_FUSE: [(&str, &str); 1] =
    [("link::link_count_max", "Cannot get value for LINK_MAX: filesystem limit is unknown")];

/// What became of each test of pjdfstest: `ok`, `FAILED` or `skipped`, and why.
#[derive(Debug, Default)]
pub struct Results {
    outcomes: BTreeMap<String, (String, String)>,
}

impl Results {
    /// Tests that passed.
    pub fn passed(&self) -> usize {
        self.outcomes.values().filter(|(outcome, _)| outcome == "ok").count()
    }

    /// What passed in `self` and did not pass in `other`, one line each, with the reason.
    pub fn lost_in(&self, other: &Results) -> Vec<String> {
        let passed = self.outcomes.iter().filter(|(_, (outcome, _))| outcome == "ok");
        let lost = |name: &String| match other.outcomes.get(name) {
            Some((outcome, _)) if outcome == "ok" => None,
            Some((outcome, reason)) if outcome == "skipped" && NOT_THROUGH_FUSE.contains(&(name, reason)) => None,
            Some((outcome, reason)) => Some(format!("{name}: {outcome} {reason}")),
            None => Some(format!("{name}: did not run")),
        };
        passed.filter_map(|(name, _)| lost(name)).collect()
    }

    /// Reads the output: a line `name  outcome` for each test, the reason indented below it.
    pub fn parse(output: &str) -> Results {
        let mut results = Results::default();
        let mut last = None;
        for line in output.lines() {
            let mut words = line.split_whitespace();
            let pair = (words.next(), words.next(), words.next());
            match pair {
                (Some(name), Some(outcome @ ("ok" | "FAILED" | "skipped")), None) if name.contains("::") => {
                    results.outcomes.insert(name.into(), (outcome.into(), String::new()));
                    last = Some(name.to_owned());
                }
                _ if line.starts_with(['\t', ' ']) => {
                    let entry = last.as_ref().and_then(|name| results.outcomes.get_mut(name));
                    entry.into_iter().for_each(|(_, reason)| reason.push_str(line.trim()));
                }
                _ => {}
            }
        }
        results
    }
}

/// Runs pjdfstest in the existing directory `dir`; its config is written next to it, into `work`.
///
/// # Panics
/// When the program is missing, hangs, or ends without its summary.
pub fn pjdfstest(work: &Path, dir: &Path) -> Results {
    let config = work.join("pjdfstest.toml");
    fs::write(&config, PJDFSTEST_CONFIG).expect("write a config");
    // Paths of sockets have at most 108 bytes (sun_path): the same short one for every file system.
    let short = work.join("p");
    symlink(dir, &short).expect("make a symbolic link");
    let mut command = Command::new(program("pjdfstest"));
    command.arg("-c").arg(config).arg("-p").arg(short).env("NO_COLOR", "1");
    let finished = run(&mut command, PJDFSTEST_WITHIN);
    let complete = finished.stdout.contains("Summary");
    assert!(complete, "pjdfstest gave up:\n{}{}", finished.stdout, finished.stderr);
    Results::parse(&finished.stdout)
}

/// Every operation of fsx; single ones longer than a stripe.
fn fsx_config(stripe: u64) -> String {
    let (length, longest) = (4 * stripe + 4321, stripe + 20_000);
    format!(
        "flen = {length}\n[opsize]\nmax = {longest}\n[weights]\nclose_open = 1\ninvalidate = 1\n\
         read = 10\nwrite = 10\nmapread = 5\nmapwrite = 5\ntruncate = 3\nfsync = 0.3\nfdatasync = 0.3\n\
         posix_fallocate = 1\npunch_hole = 3\nsendfile = 1\nposix_fadvise = 2\ncopy_file_range = 3\n"
    )
}

/// The command of one run of fsx on `file` in `dir`, whose stripes have `stripe` bytes of data. The
/// config and what a failure leaves go into `work`.
pub fn fsx_command(work: &Path, file: &Path, stripe: u64, seed: u64) -> Command {
    let config = work.join(format!("fsx.{seed}.toml"));
    fs::write(&config, fsx_config(stripe)).expect("write a config");
    let mut command = Command::new(program("fsx"));
    command.arg("-N").arg(FSX_OPERATIONS.to_string()).arg("-S").arg(seed.to_string());
    command.arg("-f").arg(config).arg("-P").arg(work).arg(file);
    command
}

/// Runs fsx to its end.
///
/// # Panics
/// When it is missing, hangs, or finds an error; with its last operations.
pub fn fsx(work: &Path, file: &Path, stripe: u64, seed: u64) {
    let finished = run(&mut fsx_command(work, file, stripe, seed), FSX_WITHIN);
    let told = crate::cluster::last_lines(&format!("{}{}", finished.stdout, finished.stderr), 60);
    assert_eq!(finished.code(), 0, "fsx with seed {seed} on {}:\n{told}", file.display());
}

/// A program that `scripts/setup` installs: in the path, or where cargo puts programs.
///
/// # Panics
/// When it is in neither.
fn program(name: &str) -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(cargo.map(|cargo| cargo.join("bin")));
    let found = dirs.into_iter().map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: run {}/scripts/setup", places::workspace().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_fails_or_disappears_is_lost() {
        let ext4 = Results::parse("chmod::a   ok\nchmod::b  ok\nchmod::c  FAILED\n\twhy\nSummary: 1 failed\n");
        let ours = Results::parse("chmod::a   FAILED\n\tassertion failed\nchmod::c  FAILED\n\twhy\n");
        assert_eq!(ext4.passed(), 2);
        assert_eq!(ext4.lost_in(&ours), ["chmod::a: FAILED assertion failed", "chmod::b: did not run"]);
        assert!(ext4.lost_in(&ext4).is_empty());
    }
}
