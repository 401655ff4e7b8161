//! Where the two programs are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::places::workspace;
use crate::process::run_ok;

/// The path of `net_raid_server`.
pub fn server() -> PathBuf {
    directory().join("net_raid_server")
}

/// The path of `net_raid_client`.
pub fn client() -> PathBuf {
    directory().join("net_raid_client")
}

fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| match std::env::var_os("NET_RAID_BIN_DIR") {
        Some(given) => PathBuf::from(given),
        None => build(),
    })
}

/// Builds both with the profile of the tests: the dependencies are compiled already, and the
/// assertions stay in.
fn build() -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", "net_raid_server", "-p", "net_raid_client"]);
    run_ok(cargo.current_dir(workspace()), Duration::from_secs(1200));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace().join(target).join("debug")
}
