//! What the kernel says of processors, memory and processes, and how it is made to forget.

use std::fs;
use std::time::Duration;

/// The kernel counts processor time for user space in hundredths of a second (sysconf(_SC_CLK_TCK) on Linux).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of the whole machine so far, idle and waiting apart.
pub(super) fn busy() -> Duration {
    let text = fs::read_to_string("/proc/stat").expect("read /proc/stat");
    let ticks: Vec<f64> =
        text.lines().next().unwrap_or("").split_whitespace().skip(1).filter_map(|ticks| ticks.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq: proc_stat(5).
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|&at| ticks.get(at)).sum();
    Duration::from_secs_f64(busy / TICKS_PER_SECOND)
}

/// The most memory that a process had at any time, in MiB; 0 when it is gone.
pub(super) fn peak_mib(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Writes back what is dirty, and drops what the kernel has of all files and names.
pub(super) fn drop_caches() {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3\n").expect("root drops caches");
}
