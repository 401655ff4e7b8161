//! The configuration file: which volumes there are, on which servers, mounted where.
//!
//! A file is read in two steps. [`parse`] is pure: text in, a [`Config`] or every error at once out. [`check_mountpoints`]
//! then looks at the machine. Lines are `key = value`; a `diskname` line begins a volume, and keys above the first one are
//! defaults for all volumes.
//!
//! ```text
//! text -> line (pieces, entries) -> volume (typed settings, defaults) -> across (duplicates) -> Config
//! ```

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod across;
mod address;
mod key;
mod line;
mod mounts;
mod problem;
mod value;
mod volume;

#[cfg(test)]
mod tests;

pub use address::ServerAddr;
pub use mounts::check_mountpoints;
pub use net_raid_proto::layout::Level;
pub use problem::{ConfigError, ConfigErrors};
pub use value::Rejected;

use problem::Problems;

/// The longest file that is read, in bytes; anything longer is no configuration.
const MAX_FILE_LEN: u64 = 1024 * 1024;

/// A whole configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where events of no volume in particular are logged: the default of all volumes.
    pub errorlog: Option<PathBuf>,
    /// The volumes in the order of the file; at least one.
    pub volumes: Vec<VolumeConfig>,
}

/// One volume, with the file's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeConfig {
    /// The volume's name, unique in the file: 1 to 64 bytes without blanks, slashes and control characters.
    pub name: String,
    /// Where the volume is mounted, as written; unique in the file, not checked against the machine.
    pub mountpoint: PathBuf,
    /// How the volume survives the loss of servers.
    pub level: Level,
    /// The members' addresses in slot order; as many as the level allows, none twice in the file.
    pub servers: Vec<ServerAddr>,
    /// The addresses of empty servers that stand by; none twice in the file.
    pub spares: Vec<ServerAddr>,
    /// How many bytes the volume's block cache may hold.
    pub cache_size: u64,
    /// How long a server may be gone before a spare takes its place.
    pub timeout: Duration,
    /// How long a server may leave a request unanswered before it is dropped; shorter than `timeout`.
    pub stall: Duration,
    /// In how long everything on all servers is read, compared and put right in the background; `None`: not at all.
    pub scrub: Option<Duration>,
    /// Where the volume's events are logged: its own file, or the default.
    pub errorlog: Option<PathBuf>,
    /// `--force`: go on although servers that are out of reach may hold something newer. Never from the file.
    pub force: bool,
    /// `--fast`: members are healed without regard to users. Never from the file.
    pub fast: bool,
}

/// Reads and parses the file at `path`, and checks its mountpoints on this machine.
///
/// # Errors
/// The file cannot be read, is longer than 1 MiB, is not UTF-8; or all that [`parse`] and [`check_mountpoints`] find.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(ConfigErrors::whole_file(path, &format!("cannot be read: {error}"), None));
    }
    let text = decode(path, bytes)?;
    match (parse(path, &text), check_mountpoints(path, &text)) {
        (Ok(config), Ok(())) => Ok(config),
        (Err(errors), Ok(())) | (Ok(_), Err(errors)) => Err(errors),
        (Err(errors), Err(more)) => Err(errors.and(more)),
    }
}

/// Turns a file's bytes into text.
///
/// # Errors
/// The bytes are too many, or not UTF-8; then the line with the first wrong byte is named.
pub fn decode(path: &Path, bytes: Vec<u8>) -> Result<String, ConfigErrors> {
    if bytes.len() as u64 > MAX_FILE_LEN {
        let help = "a configuration has at most 1 MiB";
        return Err(ConfigErrors::whole_file(path, "the file is too long", Some(help)));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let message = "the file is UTF-16";
        return Err(ConfigErrors::whole_file(path, message, Some("save it as UTF-8")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        ConfigErrors::not_utf8(path, error.as_bytes(), valid)
    })
}

/// Parses a configuration. `path` only appears in messages; the machine is not looked at.
///
/// # Errors
/// Everything that is wrong with the text, in the order of its lines.
pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigErrors> {
    let mut problems = Problems::default();
    let (defaults, volumes) = line::sections(text, &mut problems);
    let defaults = volume::Settings::of_defaults(&defaults, &mut problems);
    let volumes: Vec<_> =
        volumes.iter().map(|section| volume::Volume::new(section, &defaults, &mut problems)).collect();
    if volumes.is_empty() {
        problems.add_to_file("no volume is defined", "begin one with `diskname = NAME`");
    }
    across::check(&defaults, &volumes, &mut problems);
    let config = Config {
        errorlog: defaults.errorlog.good().cloned(),
        volumes: volumes.into_iter().map(|volume| volume.config).collect(),
    };
    problems.or(config, path, text)
}
