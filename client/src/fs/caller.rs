//! Who asks, and whether they may keep a set-group-id bit.

/// Who asks: as the kernel says (file system ids), with the process for its other groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Process; 0 when it is not visible here.
    pub pid: u32,
}

/// Number of the capability that keeps set-id bits (linux/capability.h).
const CAP_FSETID: u32 = 4;

impl Caller {
    /// Whether the caller is in `group` or has CAP_FSETID: the kernel's `in_group_or_capable`, for the requests
    /// in which it does not say. Other groups are read from /proc, as libfuse's `fuse_req_getgroups` does;
    /// a process that is not visible has none, which errs on the side of clearing a bit.
    pub(super) fn keeps_setgid(&self, group: u32) -> bool {
        if self.uid == 0 || self.gid == group {
            return true;
        }
        if self.pid == 0 {
            return false;
        }
        std::fs::read_to_string(format!("/proc/{}/status", self.pid)).is_ok_and(|status| status_allows(&status, group))
    }
}

/// Looks for `group`, or for CAP_FSETID among the effective capabilities, in the text of /proc/PID/status.
fn status_allows(status: &str, group: u32) -> bool {
    status.lines().any(|line| match line.split_once(':') {
        Some(("Groups", groups)) => groups.split_whitespace().any(|number| number.parse() == Ok(group)),
        Some(("CapEff", mask)) => {
            u64::from_str_radix(mask.trim(), 16).is_ok_and(|capabilities| capabilities >> CAP_FSETID & 1 == 1)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tbash\nGroups:\t100 2000 \nCapEff:\t0000000000000000\nThreads:\t1\n";

    #[test]
    fn groups_and_capabilities_are_read() {
        assert!(status_allows(STATUS, 2000));
        assert!(!status_allows(STATUS, 200));
        assert!(status_allows("CapEff:\t0000000000000010\n", 7));
        assert!(!status_allows("CapEff:\t000000000000000f\nGroups:\t\n", 7));
    }

    #[test]
    fn an_invisible_process_keeps_nothing_but_its_own_group() {
        let caller = Caller { uid: 1000, gid: 50, pid: 0 };
        assert!(caller.keeps_setgid(50));
        assert!(!caller.keeps_setgid(51));
    }
}
