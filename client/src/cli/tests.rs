use clap::{CommandFactory, Parser};

use super::{Args, HELP};
use crate::config;

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn a_check_mounts_nothing() {
    assert!(Args::try_parse_from(["net_raid_client", "--check", "x.conf"]).unwrap().check);
    assert!(Args::try_parse_from(["net_raid_client", "--check", "--foreground", "x.conf"]).is_err());
    assert!(Args::try_parse_from(["net_raid_client"]).is_err());
}

#[test]
fn force_is_a_word_of_its_own() {
    assert!(!Args::try_parse_from(["net_raid_client", "x.conf"]).unwrap().force);
    assert!(Args::try_parse_from(["net_raid_client", "--force", "x.conf"]).unwrap().force);
    assert!(Args::try_parse_from(["net_raid_client", "--force", "--check", "x.conf"]).is_err());
}

#[test]
fn fast_is_a_word_of_its_own() {
    assert!(!Args::try_parse_from(["net_raid_client", "x.conf"]).unwrap().fast);
    assert!(Args::try_parse_from(["net_raid_client", "--fast", "x.conf"]).unwrap().fast);
    assert!(Args::try_parse_from(["net_raid_client", "--fast", "--check", "x.conf"]).is_err());
}

#[test]
fn the_example_of_the_help_can_be_used() {
    let lines = HELP.lines().filter(|line| line.contains(" = "));
    let text: String = lines.flat_map(|line| [line.trim(), "\n"]).collect();
    let config = config::parse("help".as_ref(), &text).unwrap();
    assert_eq!(config.volumes[0].servers.len(), 4);
}
