//! The cluster simulation: the client's core and the servers' bricks in one thread, on virtual time, over a network and disks
//! that fail as a seed says.
//!
//! ```text
//! simulation                       what the tests ask for: seeds, some of them twice, and deliberate faults
//! simulation --seeds N [--start S] N seeds, from S on
//! simulation --seed N              one seed, with all that happens
//! ```

mod actor;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod content;
mod crash;
mod deposed;
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

use net_raid_server::brick::sabotage::Sabotage;

/// Seeds of a run of all tests.
const SEEDS: u64 = 300;
/// Seeds of which some one must notice a fault that was put in on purpose.
const SABOTAGED: u64 = 500;
/// Seeds that are run twice.
const TWICE: u64 = 10;

/// What a run of all tests comes by, or it tests less than it says.
const REACHED: [&str; 6] = [
    "member caught up",
    "catch-up broken off, and tried again",
    "copy to spare started",
    "server back, has its slot again from a spare",
    "spare released, is empty again",
    "scrub in the background done",
];

/// All that the tests ask for.
fn test() -> bool {
    let sabotages = [
        Sabotage::SkipLogSync,
        Sabotage::ApplyEarly,
        Sabotage::ForgetStamp,
        Sabotage::TrustStale,
        Sabotage::ForgetUnits,
    ];
    let mut good = runner::run_many(1..1 + SEEDS, &REACHED);
    good &= runner::replays_exactly(1..1 + TWICE);
    for sabotage in sabotages {
        good &= runner::is_caught(sabotage, 1..1 + SABOTAGED);
    }
    good
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        Some(args.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} needs a number")))
    };
    let (seed, seeds, start) = (number("--seed"), number("--seeds"), number("--start").unwrap_or(1));
    runner::watch_panics();
    let good = match (seed, seeds) {
        (Some(seed), _) => runner::show(seed),
        (None, Some(seeds)) => runner::run_many(start..start + seeds, &[]),
        (None, None) => test(),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
