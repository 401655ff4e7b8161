//! `net_raid_client CONFIG`: see [`net_raid_client::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    net_raid_client::cli::run()
}
