//! A minute of torture for each level, and a checker that is lied to.

use std::fs;
use std::process::Command;
use std::time::Duration;

use net_raid_tests::binaries;
use net_raid_tests::process::{Finished, run};

/// The last array lives a little longer than the minutes that are asked for.
const WITHIN: Duration = Duration::from_secs(900);

fn torture(arguments: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_net_raid_torture"));
    run(command.args(arguments).env("NET_RAID_BIN_DIR", binaries::directory()), WITHIN)
}

#[track_caller]
fn nothing_is_lost(arguments: &[&str]) {
    let Finished { stdout, stderr, .. } = &torture(arguments);
    assert!(stdout.contains("none lost"), "{stdout}{stderr}");
    println!("{stdout}");
}

#[test]
fn raid1() {
    nothing_is_lost(&["--raid", "1", "--servers", "2"]);
}

#[test]
fn raid5() {
    nothing_is_lost(&["--raid", "5", "--servers", "3"]);
}

#[test]
fn raid6() {
    nothing_is_lost(&["--raid", "6", "--servers", "4"]);
}

/// Told that a block was acknowledged which never was, it says which one is lost, and keeps the bricks.
#[test]
fn a_lost_block_is_reported() {
    let finished = torture(&["--raid", "5", "--minutes", "0.01", "--seed", "1", "--lie"]);
    let said = &finished.stderr;
    assert_eq!(finished.code(), 1, "{}{said}", finished.stdout);
    assert!(said.contains("LOST: overwritten1, block 384: found version"), "{said}");
    let kept = said.lines().find_map(|line| line.strip_prefix("kept: ")).expect("the bricks are kept");
    assert!(fs::read_dir(kept).unwrap().any(|entry| entry.unwrap().file_name() == "brick2"), "{said}");
    fs::remove_dir_all(kept).unwrap();
}
