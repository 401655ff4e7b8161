//! Directories that the tests work in, and what the environment says about them.

use std::path::{Path, PathBuf};

/// Every directory and network namespace of a test begins with this, and goes on with the id of its process.
pub const PREFIX: &str = "net_raid_test.";

/// What the directory of a failed test begins with instead, when it is kept.
pub const KEPT: &str = "net_raid_kept.";

/// Where the directories of all tests are.
pub fn base() -> PathBuf {
    std::env::var_os("NET_RAID_TEST_DIR").map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

/// The top of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in a workspace")
}

/// True when every test is to run at the full size of the issue.
pub fn long_run() -> bool {
    std::env::var_os("NET_RAID_LONG").is_some()
}
