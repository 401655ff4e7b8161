//! Whole files in, configurations or messages out.

use std::path::Path;

use super::*;

mod bad;
mod good;
mod machine;
mod properties;

/// A volume that nothing is wrong with, for tests about something else.
const VOLUME: &str = "diskname = A\nmountpoint = /mnt/a\nraid = 1\nservers = h:1, h:2\n";

fn parsed(text: &str) -> Config {
    parse(Path::new("f"), text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn refused(text: &str) -> ConfigErrors {
    parse(Path::new("f"), text).expect_err("this should be refused")
}

fn server(text: &str) -> ServerAddr {
    text.parse().unwrap_or_else(|rejected| panic!("{rejected}"))
}
