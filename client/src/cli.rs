//! The command line of `net_raid_client`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::config;
use crate::daemon::{self, LogFormat, Plan};

#[cfg(test)]
mod tests;

const HELP: &str = "\
Example of a configuration, with one volume:
  errorlog = /var/log/net_raid.log
  timeout = 10

  diskname = STORAGE1
  mountpoint = /mnt/storage1
  raid = 6
  servers = 10.0.0.1:10001, 10.0.0.2:10001, 10.0.0.3:10001, 10.0.0.4:10001
  hotswap = 10.0.0.5:10001

  net_raid_client --check storage.conf    is it right?
  net_raid_client storage.conf            mount all volumes
  umount /mnt/storage1                    end one; `kill -TERM` ends all
  net_raid_client --force storage.conf    the newest servers are gone for good: go on without them

Exit status: 0 if every volume is mounted, 1 if some are not, 2 for a wrong command line or configuration (nothing is
mounted then).";

/// Mounts the volumes that a configuration file names, and returns once all of them serve.
#[derive(Debug, Parser)]
#[command(name = "net_raid_client", version, after_help = HELP)]
struct Args {
    /// The configuration file.
    config: PathBuf,

    /// Go on although servers that do not answer may hold something newer: they are left out, and what only they hold is lost.
    /// Waits for them as long as without it, and changes nothing for volumes whose servers suffice.
    #[arg(long, conflicts_with = "check")]
    force: bool,

    /// Bring servers that were away up to date, and fill spares, as fast as possible, whatever users feel of it. Without it they
    /// wait at most about twice as long as usual for the slowest hundredth of what they do.
    #[arg(long, conflicts_with = "check")]
    fast: bool,

    /// Only check the configuration and the mountpoints: exit status 0 or 2.
    #[arg(long, conflicts_with_all = ["foreground", "pid_file"])]
    check: bool,

    /// Stay in the foreground, with messages on stderr (RUST_LOG says which, `info` by default).
    #[arg(long)]
    foreground: bool,

    /// Write the daemon's process id to this file, and remove it in the end.
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,

    /// How messages on stderr look.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Does what the command line asks for. To be called before the process has a second thread, because it may fork.
pub fn run() -> ExitCode {
    // Exits by itself: 2 for a wrong command line, 0 for --help and --version.
    let args = Args::parse();
    let mut config = match config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            // Without a stderr there is still the exit status.
            let _ = errors.print();
            return ExitCode::from(daemon::EXIT_USAGE);
        }
    };
    if args.check {
        let count = config.volumes.len();
        println!("{}: {count} volume{}, all right", args.config.display(), if count == 1 { "" } else { "s" });
        return ExitCode::SUCCESS;
    }
    config.volumes.iter_mut().for_each(|volume| (volume.force, volume.fast) = (args.force, args.fast));
    let Args { foreground, pid_file, log_format, .. } = args;
    ExitCode::from(daemon::run(Plan { config, foreground, pid_file, log_format }))
}
