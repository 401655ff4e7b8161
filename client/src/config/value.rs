//! The values of single keys: each function takes the text of one value and knows nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Level;

/// The longest volume name, in bytes.
const MAX_NAME_LEN: usize = 64;
/// The longest path that the kernel takes, in bytes.
const MAX_PATH_LEN: usize = 4095;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// The cache if nothing is said, in bytes.
pub(super) const DEFAULT_CACHE_SIZE: u64 = 256 * MIB;
/// The patience with a lost server if nothing is said.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The patience with a silent server if nothing is said; less where the timeout is short.
pub(super) const DEFAULT_STALL: Duration = Duration::from_secs(2);

/// The time in which everything is scrubbed if nothing is said.
pub(super) const DEFAULT_SCRUB: Duration = Duration::from_secs(30 * DAY);

const DAY: u64 = 86_400;
const CACHE_SIZES: std::ops::RangeInclusive<u64> = MIB..=16 * TIB;
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);
const SCRUBS: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(365 * DAY);
const STALLS: std::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(3_600);

const _: () = {
    assert!(MIB <= DEFAULT_CACHE_SIZE && DEFAULT_CACHE_SIZE <= 16 * TIB);
    assert!(DEFAULT_STALL.as_millis() < DEFAULT_TIMEOUT.as_millis());
    // Half of any timeout, which is the stall where none is given, is a valid stall.
    assert!(TIMEOUTS.start().as_millis() / 2 >= STALLS.start().as_millis());
};

/// A value that cannot be used, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct Rejected {
    /// What is wrong, in one clause.
    pub message: String,
    /// What would be right.
    pub help: String,
}

impl Rejected {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// A volume's name: it appears in the kernel's mount table, in logs and on the command line, and must survive all three.
pub(super) fn name(text: &str) -> Result<String, Rejected> {
    if text.len() > MAX_NAME_LEN {
        let message = format!("the name has {} bytes", text.len());
        return Err(Rejected::new(message, format!("at most {MAX_NAME_LEN} are allowed")));
    }
    if let Some(wrong) = text.chars().find(|&c| c.is_whitespace() || c == '/') {
        let message = format!("the name has the character {wrong:?} in it");
        return Err(Rejected::new(message, "leave out blanks and slashes"));
    }
    Ok(text.to_owned())
}

/// Any path; a mountpoint is checked later, when the machine is looked at.
pub(super) fn path(text: &str) -> Result<PathBuf, Rejected> {
    if text.len() > MAX_PATH_LEN {
        let message = format!("the path has {} bytes", text.len());
        return Err(Rejected::new(message, format!("at most {MAX_PATH_LEN} are allowed")));
    }
    Ok(PathBuf::from(text))
}

/// A path that means the same in a daemon, which has another working directory.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, Rejected> {
    let path = path(text)?;
    require_absolute(&path)?;
    Ok(path)
}

/// Refuses a relative path.
pub(super) fn require_absolute(path: &Path) -> Result<(), Rejected> {
    if path.is_absolute() {
        return Ok(());
    }
    let help = if path.starts_with("~") { "`~` is not expanded, write the whole path" } else { "begin it with `/`" };
    Err(Rejected::new("the path is not absolute", help))
}

/// A RAID level: 1, 5 or 6.
pub(super) fn level(text: &str) -> Result<Level, Rejected> {
    let levels = [Level::Raid1, Level::Raid5, Level::Raid6];
    if let Some(level) = levels.into_iter().find(|level| level.number().to_string() == text) {
        return Ok(level);
    }
    let words = text.to_lowercase();
    let number = words.strip_prefix("raid").map(|rest| rest.trim_matches([' ', '-', '_', '=']));
    let meant = levels.into_iter().find(|level| Some(level.number().to_string().as_str()) == number);
    let help = meant.map_or_else(|| "write 1, 5 or 6".to_owned(), |level| format!("write `{}`", level.number()));
    Err(Rejected::new(format!("`{text}` is not a RAID level"), help))
}

/// How the cache makes room. There is one way, so only its name is checked.
pub(super) fn cache_replacement(text: &str) -> Result<(), Rejected> {
    // `rlu` is part of the format since its first example.
    if text.eq_ignore_ascii_case("lru") || text.eq_ignore_ascii_case("rlu") {
        return Ok(());
    }
    Err(Rejected::new(format!("`{text}` is not a way to replace what is cached"), "write `lru`"))
}

/// A size in bytes; K, M, G and T are powers of 1024.
pub(super) fn cache_size(text: &str) -> Result<u64, Rejected> {
    let not_a_size = || {
        let help = "write a whole number with K, M, G, T (powers of 1024) or nothing (bytes), as in `256M`";
        Rejected::new(format!("`{text}` is not a size"), help)
    };
    let (number, unit) = number_and_unit(text).ok_or_else(not_a_size)?;
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(not_a_size()),
    };
    let bytes = number.saturating_mul(1 << shift);
    if !CACHE_SIZES.contains(&bytes) {
        return Err(Rejected::new(format!("a cache of `{text}` is out of range"), "write a size from 1M to 16T"));
    }
    Ok(bytes)
}

/// The time after which a spare takes a lost server's place.
pub(super) fn timeout(text: &str) -> Result<Duration, Rejected> {
    time(text, TIMEOUTS, "write a time from 100ms to 86400s")
}

/// The time after which a silent server is dropped.
pub(super) fn stall(text: &str) -> Result<Duration, Rejected> {
    time(text, STALLS, "write a time from 20ms to 3600s")
}

/// The time in which everything is scrubbed in the background; `None` when it is not.
pub(super) fn scrub(text: &str) -> Result<Option<Duration>, Rejected> {
    if ["never", "off"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Ok(None);
    }
    let not_a_time = || {
        let help = "write a whole number with d, h, m or s (days to seconds), as in `30d`, or `never`";
        Rejected::new(format!("`{text}` is not a time"), help)
    };
    let (number, unit) = number_and_unit(text).ok_or_else(not_a_time)?;
    let seconds = match unit {
        "d" => DAY,
        "h" => 3_600,
        "m" => 60,
        "" | "s" => 1,
        _ => return Err(not_a_time()),
    };
    let time = Duration::from_secs(number.saturating_mul(seconds));
    if !SCRUBS.contains(&time) {
        let help = "write a time from 1m to 365d, or `never`";
        return Err(Rejected::new(format!("the time `{text}` is out of range"), help));
    }
    Ok(Some(time))
}

/// A time in seconds (`10`, `10s`) or milliseconds (`500ms`).
fn time(text: &str, range: std::ops::RangeInclusive<Duration>, help: &str) -> Result<Duration, Rejected> {
    let not_a_time = || {
        let help = "write whole seconds as in `10`, or milliseconds as in `500ms`";
        Rejected::new(format!("`{text}` is not a time"), help)
    };
    let (number, unit) = number_and_unit(text).ok_or_else(not_a_time)?;
    let time = match unit {
        "" | "s" => Duration::from_secs(number),
        "ms" => Duration::from_millis(number),
        _ => return Err(not_a_time()),
    };
    if !range.contains(&time) {
        return Err(Rejected::new(format!("the time `{text}` is out of range"), help));
    }
    Ok(time)
}

/// `10 s` as 10 and `s`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}
