//! Torture: programs write what describes itself, a record outside of the volume keeps what was acknowledged, and
//! servers and client are killed, frozen and started again, servers are lost and replaced by spares, and what bricks hold rots.
//! Afterwards every acknowledged byte has to be there.
//!
//! What counts as acknowledged is what kill -9 of everything may not take, the machines staying up:
//!
//! | done | afterwards |
//! |---|---|
//! | fsync or O_SYNC returned, or close while enough servers were there | exactly these bytes |
//! | written, not synced | in each block of 4 KiB the old bytes or the new ones |
//! | rename, unlink, a hole punched | done |
//! | failed, or under way when the mount died | done or not, block by block, name by name |
//!
//! What was read once after a crash is read ever after: recovery decides once.
//!
//! Never more servers than may be lost are out, or have something rotten, at the same time. What rots counts as bad until a scrub finds
//! nothing.
//!
//! Lowest first: `block`, `record`, `blows` and `members` are pure, `overwritten`, `grown` and `names` are three kinds of files
//! with their records, `writer` is a thread over some of each, `rot` hurts a brick, `round` is the life of one array, and `strikes` what is
//! done to it.

mod block;
mod blows;
mod grown;
mod members;
mod names;
mod options;
mod overwritten;
mod record;
mod report;
mod rot;
mod round;
mod signs;
mod strikes;
mod writer;

use std::time::{Duration, Instant};

pub use options::{HELP, Options};

use crate::random::Random;
use report::Report;
use round::Round;

/// Tortures arrays, one after the other, for as long as the options say.
///
/// # Panics
/// When a byte is lost, an operation fails that should not, or something does not come back in time. The bricks are kept then.
pub fn run(options: &Options) {
    let deadline = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    println!("torture of {} for {} minutes, --seed {}", options.array, options.minutes, options.seed);
    let mut report = Report::default();
    let mut seeds = Random::new(options.seed);
    while report.rounds == 0 || Instant::now() < deadline {
        report.rounds += 1;
        Round::begin(options, seeds.number(), deadline).run(&mut report);
    }
    println!("{report}");
}
