//! The cluster simulation: the client's core and the servers' bricks in one thread, on virtual time, over a network and disks
//! that fail as a seed says.
//!
//! ```text
//! simulation                       seeds 1 to 300, as the tests run it
//! simulation --seeds N [--start S] N seeds, from S on
//! simulation --seed N              one seed, with all that happens
//! ```

mod actor;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod content;
mod crash;
mod faults;
mod history;
mod machine;
mod network;
mod recovery;
mod runner;
mod story;
mod trace;
mod verify;

use std::process::ExitCode;

/// Seeds of a run of all tests.
const SEEDS: u64 = 300;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        Some(args.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} needs a number")))
    };
    runner::watch_panics();
    let (seed, seeds, start) = (number("--seed"), number("--seeds"), number("--start").unwrap_or(1));
    match (seed, seeds) {
        (Some(seed), _) => runner::show(seed),
        (None, Some(seeds)) => runner::run_many(start..start + seeds),
        (None, None) => runner::run_many(start..start + SEEDS),
    }
}
