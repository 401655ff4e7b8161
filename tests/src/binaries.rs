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

/// A copy of `program` at `copy`, unless it is there: an ordinary user may not look into the target directory when that
/// is below root's home.
pub fn copy_for_anyone(program: &Path, copy: &Path) -> PathBuf {
    if !copy.exists() {
        // By a program of its own: a descriptor open for writing that a concurrent fork inherits makes the copy busy.
        run_ok(Command::new("cp").arg(program).arg(copy), Duration::from_secs(60));
    }
    copy.to_owned()
}

/// The directory that both are in.
pub fn directory() -> &'static Path {
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
