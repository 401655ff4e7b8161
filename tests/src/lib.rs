//! Tests of net_raid from the outside: real `net_raid_server` processes on loopback, the real
//! `net_raid_client`, a real mount, and ordinary programs that know nothing of either.
//!
//! The harness knows neither the wire nor the formats on the bricks. It rests on the two command
//! lines, the config file, the error log and the mount. Three rules hold for all of it:
//!
//! - Nothing waits without a deadline: [`deadline`] for conditions, [`process`] for programs, and a
//!   [`watchdog`] for system calls that hang inside the mount.
//! - Nothing sleeps to be on the safe side: a test waits for what it needs to see.
//! - Nothing is left behind, also when a test panics: a [`workdir`] knows every process and mount
//!   that refers to it, and ends them before it removes itself.
//!
//! | variable | meaning |
//! |---|---|
//! | `NET_RAID_BIN_DIR` | where the two binaries are; without it they are built once |
//! | `NET_RAID_TEST_DIR` | where bricks and mounts go (ext4, not tmpfs); `/var/tmp` without it |
//! | `NET_RAID_KEEP` | keep the directory of a test that failed |
//! | `NET_RAID_LONG` | the full sizes of the issue on every array, not on one |
//!
//! Modules, lowest first: a module uses only what stands above it.

pub mod array;
pub mod deadline;
pub mod pattern;
pub mod places;
pub mod random;
pub mod user;

pub mod process;
pub mod watchdog;

pub mod binaries;
pub mod netns;
pub mod workdir;

pub mod image;

pub mod brick;

pub mod cluster;

pub mod errorlog;

pub mod client;

pub mod rig;

pub mod scrub;

pub mod fsops;
pub mod suites;
pub mod torture;

pub mod bench;

pub use array::{Array, Health};
pub use client::{Client, Volume};
pub use cluster::Cluster;
pub use rig::Rig;
