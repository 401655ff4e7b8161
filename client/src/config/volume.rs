//! Sections into volumes: values get their types, defaults are filled in, and each volume is checked by itself.

use std::path::PathBuf;
use std::time::Duration;

use net_raid_proto::limits::MEMBERS_MAX;

use super::key::Key;
use super::line::{Entry, Piece, Section};
use super::problem::Problems;
use super::value::{self, Rejected};
use super::{Level, ServerAddr, VolumeConfig};

/// What a section says about one key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a, T> {
    /// Nothing.
    Absent,
    /// Something that cannot be used, which has been reported.
    Bad,
    /// A value, and the line it is from.
    Good(T, Piece<'a>),
}

impl<'a, T> Given<'a, T> {
    fn read(
        section: &Section<'a>,
        key: Key,
        problems: &mut Problems,
        read: impl FnOnce(&str) -> Result<T, Rejected>,
    ) -> Self {
        match section.get(key) {
            None => Self::Absent,
            Some(Entry { value: None, .. }) => Self::Bad,
            Some(Entry { value: Some(value), line, .. }) => {
                problems.accept(value, read(value.text)).map_or(Self::Bad, |good| Self::Good(good, line))
            }
        }
    }

    /// The value, if it can be used.
    pub(super) fn good(&self) -> Option<&T> {
        if let Self::Good(value, _) = self { Some(value) } else { None }
    }

    /// The line of a value that can be used.
    pub(super) fn line(&self) -> Option<Piece<'a>> {
        if let Self::Good(_, line) = self { Some(*line) } else { None }
    }

    /// This, or the default if nothing is said here.
    fn or<'b>(&'b self, default: &'b Self) -> &'b Self {
        if let Self::Absent = self { default } else { self }
    }
}

/// What volumes may share.
pub(super) struct Settings<'a> {
    pub(super) errorlog: Given<'a, PathBuf>,
    level: Given<'a, Level>,
    cache_size: Given<'a, u64>,
    timeout: Given<'a, Duration>,
    stall: Given<'a, Duration>,
    scrub: Given<'a, Option<Duration>>,
}

impl<'a> Settings<'a> {
    fn new(section: &Section<'a>, problems: &mut Problems) -> Self {
        Given::read(section, Key::CacheReplacement, problems, value::cache_replacement);
        Self {
            errorlog: Given::read(section, Key::Errorlog, problems, value::absolute_path),
            level: Given::read(section, Key::Raid, problems, value::level),
            cache_size: Given::read(section, Key::CacheSize, problems, value::cache_size),
            timeout: Given::read(section, Key::Timeout, problems, value::timeout),
            stall: Given::read(section, Key::Stall, problems, value::stall),
            scrub: Given::read(section, Key::Scrub, problems, value::scrub),
        }
    }

    /// The defaults of a file, which must fit each other even if every volume says otherwise.
    pub(super) fn of_defaults(section: &Section<'a>, problems: &mut Problems) -> Self {
        let defaults = Self::new(section, problems);
        patience(&defaults.timeout, &defaults.stall, problems);
        defaults
    }
}

/// A volume and the places of what the file must not say twice.
pub(super) struct Volume<'a> {
    pub(super) config: VolumeConfig,
    pub(super) name: Given<'a, String>,
    pub(super) mountpoint: Given<'a, PathBuf>,
    pub(super) errorlog: Given<'a, PathBuf>,
    /// Servers and spares.
    pub(super) servers: Vec<(ServerAddr, Piece<'a>)>,
}

impl<'a> Volume<'a> {
    /// Where something is wrong, the volume has some value for it, and is used for finding more errors only.
    pub(super) fn new(section: &Section<'a>, defaults: &Settings<'a>, problems: &mut Problems) -> Self {
        let own = Settings::new(section, problems);
        let name = Given::read(section, Key::Diskname, problems, value::name);
        let mountpoint = Given::read(section, Key::Mountpoint, problems, value::path);
        let level = own.level.or(&defaults.level);
        let members = servers(section, Key::Servers, problems);
        let spares = servers(section, Key::Hotswap, problems);
        report_missing(section, level, problems);
        if let (Some(&level), Some(entry)) = (level.good(), section.get(Key::Servers)) {
            check_count(level, entry, members.len(), problems);
        }
        let (timeout, stall) = patience(own.timeout.or(&defaults.timeout), own.stall.or(&defaults.stall), problems);
        let errorlog = if let Given::Absent = own.errorlog { defaults.errorlog.good() } else { own.errorlog.good() };
        let config = VolumeConfig {
            name: name.good().cloned().unwrap_or_default(),
            mountpoint: mountpoint.good().cloned().unwrap_or_default(),
            level: level.good().copied().unwrap_or(Level::Raid1),
            servers: addresses(&members),
            spares: addresses(&spares),
            cache_size: own.cache_size.or(&defaults.cache_size).good().copied().unwrap_or(value::DEFAULT_CACHE_SIZE),
            timeout,
            stall,
            scrub: own.scrub.or(&defaults.scrub).good().copied().unwrap_or(Some(value::DEFAULT_SCRUB)),
            errorlog: errorlog.cloned(),
            force: false,
            fast: false,
        };
        let servers = members.into_iter().chain(spares).filter_map(|(server, piece)| Some((server?, piece))).collect();
        Self { config, name, mountpoint, errorlog: own.errorlog, servers }
    }
}

/// The servers of a list; `None` for one that cannot be understood.
fn servers<'a>(section: &Section<'a>, key: Key, problems: &mut Problems) -> Vec<(Option<ServerAddr>, Piece<'a>)> {
    let Some(Entry { line, value: Some(value), .. }) = section.get(key) else { return Vec::new() };
    if value.text.is_empty() {
        return Vec::new();
    }
    let mut servers = Vec::new();
    for item in value.list() {
        if item.text.is_empty() {
            problems.add(line, "there is no server between two commas or after the last one", "remove that comma");
        } else {
            servers.push((problems.accept(item, item.text.parse()), item));
        }
    }
    servers
}

fn addresses(servers: &[(Option<ServerAddr>, Piece<'_>)]) -> Vec<ServerAddr> {
    servers.iter().filter_map(|(server, _)| server.clone()).collect()
}

fn report_missing(section: &Section<'_>, level: &Given<'_, Level>, problems: &mut Problems) {
    // Every volume's section begins with this line.
    let Some(diskname) = section.get(Key::Diskname) else { return };
    let missing = [
        (section.get(Key::Mountpoint).is_none(), Key::Mountpoint, "/path/to/an/empty/directory"),
        (matches!(level, Given::Absent), Key::Raid, "1, 5 or 6"),
        (section.get(Key::Servers).is_none(), Key::Servers, "host:port, host:port, ..."),
    ];
    for (is_missing, key, example) in missing {
        if is_missing {
            let message = format!("the volume has no `{}`", key.name());
            problems.add(diskname.line, message, format!("add `{} = {example}` below this line", key.name()));
        }
    }
}

fn check_count(level: Level, entry: Entry<'_>, count: usize, problems: &mut Problems) {
    let (min, max) = (level.members_min(), MEMBERS_MAX);
    if entry.value.is_some() && !(min..=max).contains(&count) {
        let amount = if count < min { "few" } else { "many" };
        let message =
            format!("{count} {} too {amount} for {level}", if count == 1 { "server is" } else { "servers are" });
        problems.add(entry.line, message, format!("list {min} to {max}"));
    }
}

/// Timeout and stall, which must be the shorter one.
fn patience(
    timeout: &Given<'_, Duration>,
    stall: &Given<'_, Duration>,
    problems: &mut Problems,
) -> (Duration, Duration) {
    let timeout_value = timeout.good().copied().unwrap_or(value::DEFAULT_TIMEOUT);
    let Given::Good(stall_value, stall_line) = *stall else {
        // Nobody asked for the default stall, so it gives way to a short timeout.
        return (timeout_value, value::DEFAULT_STALL.min(timeout_value / 2));
    };
    if stall_value >= timeout_value && !matches!(timeout, Given::Bad) {
        let line = timeout.line().filter(|line| line.line > stall_line.line).unwrap_or(stall_line);
        let message = format!("stall ({stall_value:?}) is not shorter than timeout ({timeout_value:?})");
        problems.add(line, message, "a silent server is dropped before it is replaced: lower stall or raise timeout");
    }
    (timeout_value, stall_value)
}
