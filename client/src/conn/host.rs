//! This process as the holder of a volume, and whether another one on this machine is dead.

#[cfg(test)]
mod tests;

use std::fs;

use net_raid_proto::message::Holder;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::world::Host;

/// The machine that this process runs on.
pub(super) struct Machine;

impl Host for Machine {
    fn holder(&self) -> Holder {
        let pid = std::process::id();
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        Holder {
            host: host.unwrap_or_else(|_| "unknown".into()),
            pid,
            started_ticks: Stat::of(pid).map_or(0, |stat| stat.started_ticks),
            boot: boot().unwrap_or_default(),
        }
    }

    fn is_dead(&self, holder: &Holder) -> bool {
        // Machines may share a name, and containers a machine: elsewhere nothing is known of a process, however old its
        // boot is.
        let is_here = boot().is_some_and(|boot| boot == holder.boot);
        is_here && is_gone(holder.pid, holder.started_ticks)
    }
}

/// Where a process id means one process: the boot id of the kernel, and the pid namespace.
fn boot() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// Whether the process that started then has ended; what cannot be known is no.
fn is_gone(pid: u32, started_ticks: u64) -> bool {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    // Processes of others may be hidden in /proc (`hidepid` in proc(5)).
    test_kill_process(id) == Err(Errno::SRCH)
        || Stat::of(pid).is_some_and(|stat| stat.started_ticks != started_ticks || stat.has_ended())
}

/// What is told of a process in /proc/PID/stat (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    threads: u32,
    /// In ticks after boot.
    started_ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Stat> {
        // The name, in parentheses, may hold blanks and parentheses itself.
        let (_, after_name) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // Numbered from 1 in the manual, and the third is the first here.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Stat {
            state: field(3)?.chars().next()?,
            threads: field(20)?.parse().ok()?,
            started_ticks: field(22)?.parse().ok()?,
        })
    }

    /// Only its parent has not asked for its end yet. While other threads run, the first one looks the same.
    fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}
