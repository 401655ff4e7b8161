//! The process around the volumes: in the background or not, with signals, logs and exit codes.
//!
//! ```text
//! run -> fork -> parent: waits for the verdict, which is its exit code
//!             -> daemon: starts each volume -> verdict -> serves until each has ended
//! ```
//!
//! Volumes are tasks that share nothing but the runtime: trouble of one never touches the others.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::config::Config;

mod background;
mod logging;
mod logs;
mod pid_file;
mod process;
mod served;
mod signals;
mod volumes;

#[cfg(test)]
mod tests;

pub use logging::LogFormat;

use background::{Side, Verdict};
use logs::Logs;
use pid_file::PidFile;

/// Every volume is mounted.
pub const EXIT_OK: u8 = 0;
/// Some volume is not mounted.
pub const EXIT_FAILED: u8 = 1;
/// The command line or the configuration is wrong; nothing is mounted.
pub const EXIT_USAGE: u8 = 2;

/// How long tasks may take to end when all volumes have.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);

/// What to run, and how.
#[derive(Debug)]
pub struct Plan {
    /// The volumes; their mountpoints have been checked.
    pub config: Config,
    /// Whether to stay instead of leaving a daemon.
    pub foreground: bool,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// How messages on stderr look.
    pub log_format: LogFormat,
}

/// Mounts the volumes, and returns the exit code: in the foreground once the last one has ended, else once all are mounted.
///
/// In the daemon itself it returns in the end, too. To be called before the process has a second thread.
pub fn run(mut plan: Plan) -> u8 {
    // A daemon works in the root directory.
    plan.pid_file = plan.pid_file.map(|path| std::path::absolute(&path).unwrap_or(path));
    let logs = match Logs::open(&plan.config) {
        Ok(logs) => logs,
        Err(error) => return complain(&error, EXIT_USAGE),
    };
    if plan.foreground {
        return serve(plan, logs, Verdict::unheard());
    }
    match background::split() {
        Ok(Side::Parent(waiting)) => waiting.wait(),
        Ok(Side::Daemon(verdict)) => serve(plan, logs, verdict),
        Err(error) => complain(&format!("no process for the daemon: {error}"), EXIT_FAILED),
    }
}

/// Starts the volumes and serves them to their end.
fn serve(plan: Plan, logs: Logs, verdict: Verdict) -> u8 {
    logging::start(&plan);
    process::prepare();
    let pid_file = match plan.pid_file.as_deref().map(PidFile::write).transpose() {
        Ok(pid_file) => pid_file,
        Err(error) => return give_up(&error, EXIT_USAGE, verdict),
    };
    let runtime = match Builder::new_multi_thread().enable_all().thread_name("net_raid").build() {
        Ok(runtime) => runtime,
        Err(error) => return give_up(&format!("no threads: {error}"), EXIT_FAILED, verdict),
    };
    let code = runtime.block_on(volumes::run(plan.config.volumes, logs, verdict));
    // A thread may still wait for a kernel that waits for a program.
    runtime.shutdown_timeout(SHUTDOWN_PATIENCE);
    drop(pid_file);
    code
}

fn give_up(problem: &dyn std::fmt::Display, code: u8, verdict: Verdict) -> u8 {
    complain(problem, code);
    // Nothing is mounted that a missing parent would leave behind.
    let _ = verdict.give(code);
    code
}

fn complain(problem: &dyn std::fmt::Display, code: u8) -> u8 {
    eprintln!("net_raid_client: {problem}");
    code
}
