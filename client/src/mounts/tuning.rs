//! Settings of the kernel that only root may change; a mount works without them, but more slowly.

use std::io;
use std::path::Path;

use super::options::MAX_READ;
use super::table::DeviceNumber;

/// KiB that the kernel reads ahead of a sequential reader: a few requests in flight to all members.
const READ_AHEAD_KIB: u32 = 4096;
/// Pages of one request that may be asked for at mount time (fs/fuse/sysctl.c, Linux 6.13; a constant 256 before that).
const MAX_PAGES_LIMIT: &str = "/proc/sys/fs/fuse/max_pages_limit";
/// Bytes of a page; a larger one only makes the limit more generous.
const PAGE_SIZE: u32 = 4096;

/// Lets requests be 1 MiB, before the mount is made.
pub(super) fn raise_request_size() {
    let wanted = MAX_READ / PAGE_SIZE;
    let limit = std::fs::read_to_string(MAX_PAGES_LIMIT).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if limit.is_some_and(|limit| limit < wanted) {
        report(set(MAX_PAGES_LIMIT.as_ref(), wanted), "max_pages_limit");
    }
}

/// Lets the kernel read further ahead than FUSE_INIT can negotiate (fs/fuse/inode.c, `process_init_reply` only lowers).
pub(super) fn raise_read_ahead(device: DeviceNumber) {
    let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
    report(set(path.as_ref(), READ_AHEAD_KIB), "read_ahead_kb");
}

fn set(path: &Path, value: u32) -> io::Result<()> {
    std::fs::write(path, value.to_string())
}

fn report(result: io::Result<()>, setting: &'static str) {
    if let Err(error) = result {
        tracing::debug!(setting, %error, "a kernel setting stays as it is");
    }
}
