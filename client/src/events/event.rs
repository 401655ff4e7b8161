//! What can happen to a volume, and the words for it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::ServerAddr;

/// The target of all tracing events, by which they can be filtered.
const TARGET: &str = "net_raid::events";

/// Something that happened to a volume. Most variants are about one server, which the caller of the log names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server answered when the volume was assembled.
    Connected,
    /// A server does not answer any more.
    ServerLost {
        /// How that was noticed.
        reason: String,
    },
    /// A lost server answers again; it is not read before it is caught up.
    ServerBack,
    /// A lost server answers again, and has everything by now.
    ServerResumed,
    /// A server answers that an administrator left out, and learns of that.
    ServerLeftOut,
    /// A member was dropped: from now on it misses writes.
    MemberDropped {
        /// Its slot.
        slot: u8,
        /// Why.
        reason: String,
    },
    /// A returned member is being brought up to date.
    CatchUpStarted {
        /// Its slot.
        slot: u8,
    },
    /// How far a catch-up is, now and then.
    CatchUpProgress {
        /// The member's slot.
        slot: u8,
        /// Files that were seen to, and all that are known of.
        files: (u64, u64),
        /// Bytes of their parts there that were seen to, and all.
        bytes: (u64, u64),
        /// Bytes that were written.
        copied: u64,
        /// Bytes a second that were seen to.
        rate: u64,
        /// Seconds until it should be done, as far as is known.
        left: Option<u64>,
        /// The file that was begun last.
        object: Option<String>,
    },
    /// A returned member has caught up and is current again.
    CaughtUp {
        /// Its slot.
        slot: u8,
        /// Files of which something was written.
        files: u64,
        /// Bytes that were written.
        bytes: u64,
        /// How long it took.
        seconds: u64,
    },
    /// A returned member could not be caught up, and stays out.
    CatchUpFailed {
        /// Its slot.
        slot: u8,
        /// Why.
        reason: String,
    },
    /// A member answers again whose slot a spare has taken.
    Replaced,
    /// A member answers again whose slot a spare has taken, and has it again: it is nearer to being current.
    SlotGivenBack {
        /// Its slot.
        slot: u8,
    },
    /// A spare whose slot was given back is empty, and stands by.
    SpareReleased,
    /// A spare answered and stands by.
    SpareConnected,
    /// A spare does not answer.
    SpareUnreachable {
        /// How that was noticed.
        reason: String,
    },
    /// Copying to a spare has begun; the server is the spare.
    RebuildStarted {
        /// The slot that the spare is to fill.
        slot: u8,
    },
    /// Something is not as it was written; the server is where it was found.
    Inconsistency {
        /// The path or the id of the object.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// Something was put right from the other servers.
    Repaired {
        /// The path or the id of the object.
        object: String,
        /// What of it was written anew.
        what: String,
        /// The servers that the right bytes came from.
        from: Vec<ServerAddr>,
        /// The server that has been repaired.
        to: ServerAddr,
    },
    /// All that the members have is being read and compared.
    ScrubStarted,
    /// All of it was.
    ScrubDone {
        /// Files.
        files: u64,
        /// Bytes that were read on all servers together.
        bytes: u64,
        /// Objects on servers that were put right.
        mended: u64,
        /// Objects that cannot be.
        damaged: u64,
        /// How long it took.
        seconds: u64,
    },
    /// How far a scrub is that somebody wanted.
    ScrubProgress {
        /// Bytes that were read on all servers together.
        bytes: u64,
        /// Of all work, as far as is known.
        percent: u64,
        /// Bytes a second.
        rate: u64,
        /// Seconds until it should be done.
        left: u64,
    },
    /// A pass in the background has begun.
    BackgroundScrubStarted,
    /// A pass that an earlier mount began goes on.
    BackgroundScrubGoesOn {
        /// Where.
        place: String,
        /// Files so far.
        files: u64,
        /// Bytes so far.
        bytes: u64,
    },
    /// A pass in the background is done.
    BackgroundScrubDone {
        /// Files.
        files: u64,
        /// Bytes that were read on all servers together.
        bytes: u64,
        /// Objects on servers that were put right.
        mended: u64,
        /// Objects that cannot be.
        damaged: u64,
        /// How long somebody was at it.
        seconds: u64,
    },
    /// A scrub ended early.
    ScrubFailed {
        /// Why.
        reason: String,
    },
    /// Something is lost, or contradicts itself: it is left as it is.
    Damaged {
        /// The path of the object.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// The last client did not give the volume up: what was under way was completed or taken back, on all servers.
    Recovered {
        /// Writes that were taken back.
        writes: usize,
        /// Truncations and holes that were repeated on a server.
        cuts: usize,
        /// Names that were changed on a server.
        names: usize,
        /// Files that were made shorter on a server.
        sizes: usize,
        /// Objects whose attributes were set on a server.
        attributes: usize,
    },
    /// An administrator went on without members that may hold something newer.
    Forced {
        /// Without which, and what that means.
        reason: String,
    },
    /// Another client has the volume now: nothing can be read or written any more.
    TakenOver {
        /// What a server said.
        reason: String,
    },
    /// A new volume was made of empty servers.
    VolumeFormed,
    /// The volume is mounted and serves.
    VolumeMounted {
        /// Where.
        mountpoint: PathBuf,
    },
    /// The volume's mount is gone and everything is written.
    VolumeUnmounted,
    /// More servers are gone than the level bears: operations fail until they are back.
    VolumeOffline {
        /// Which, and why that is too many.
        reason: String,
    },
    /// Enough servers are back: operations work again.
    VolumeOnline,
    /// The volume was not mounted.
    AssemblyRefused {
        /// Which servers are missing, and why that matters.
        why: String,
    },
}

/// What is right after the event: decides the tracing level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// All is well.
    Info,
    /// Nothing is lost, but something should be looked after.
    Warning,
    /// Something does not work.
    Error,
}

/// An event's data, as tracing records it.
#[derive(Default)]
struct Fields<'a> {
    slot: Option<u8>,
    reason: Option<&'a str>,
    counts: Option<String>,
    object: Option<&'a str>,
    from: Option<String>,
    to: Option<&'a ServerAddr>,
    mountpoint: Option<&'a Path>,
}

impl Event {
    /// What happened, without the data: the same words for every event of a kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connected => "connected at start",
            Self::ServerLost { .. } => "server lost",
            Self::ServerBack => "server back, stays out until caught up",
            Self::ServerResumed => "server back, up to date",
            Self::ServerLeftOut => "server back, was left out by --force: what only it holds is lost",
            Self::MemberDropped { .. } => "member dropped",
            Self::CatchUpStarted { .. } => "catch-up started",
            Self::CatchUpProgress { .. } => "catch-up progress",
            Self::CaughtUp { .. } => "member caught up",
            Self::CatchUpFailed { .. } => "catch-up broken off, and tried again",
            Self::Replaced => "server back, but a spare has its slot: empty its directory to make it a spare",
            Self::SlotGivenBack { .. } => "server back, has its slot again from a spare",
            Self::SpareReleased => "spare released, is empty again",
            Self::SpareConnected => "spare connected",
            Self::SpareUnreachable { .. } => "spare not reachable",
            Self::RebuildStarted { .. } => "copy to spare started",
            Self::Inconsistency { .. } => "inconsistency found",
            Self::Repaired { .. } => "repaired",
            Self::ScrubStarted => "scrub started",
            Self::ScrubDone { .. } => "scrub done",
            Self::ScrubProgress { .. } => "scrub progress",
            Self::BackgroundScrubStarted => "scrub in the background started",
            Self::BackgroundScrubGoesOn { .. } => "scrub in the background goes on",
            Self::BackgroundScrubDone { .. } => "scrub in the background done",
            Self::ScrubFailed { .. } => "scrub broken off",
            Self::Damaged { .. } => "damaged beyond repair",
            Self::Recovered { .. } => "recovered after a crash",
            Self::Forced { .. } => "started by --force",
            Self::TakenOver { .. } => "taken over by another client, nothing is written any more",
            Self::VolumeFormed => "new volume formed",
            Self::VolumeMounted { .. } => "volume mounted",
            Self::VolumeUnmounted => "volume unmounted",
            Self::VolumeOffline { .. } => "volume offline",
            Self::VolumeOnline => "volume online",
            Self::AssemblyRefused { .. } => "assembly refused",
        }
    }

    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::Connected
            | Self::ServerBack
            | Self::ServerResumed
            | Self::CatchUpStarted { .. }
            | Self::CatchUpProgress { .. }
            | Self::CaughtUp { .. }
            | Self::SlotGivenBack { .. }
            | Self::SpareReleased
            | Self::SpareConnected
            | Self::RebuildStarted { .. }
            | Self::ScrubStarted
            | Self::ScrubDone { .. }
            | Self::ScrubProgress { .. }
            | Self::BackgroundScrubStarted
            | Self::BackgroundScrubGoesOn { .. }
            | Self::BackgroundScrubDone { .. }
            | Self::Recovered { .. }
            | Self::VolumeFormed
            | Self::VolumeMounted { .. }
            | Self::VolumeUnmounted
            | Self::VolumeOnline => Severity::Info,
            Self::ServerLost { .. }
            | Self::ServerLeftOut
            | Self::Forced { .. }
            | Self::MemberDropped { .. }
            | Self::Replaced
            | Self::SpareUnreachable { .. }
            | Self::CatchUpFailed { .. }
            | Self::ScrubFailed { .. }
            | Self::Inconsistency { .. }
            | Self::Repaired { .. } => Severity::Warning,
            Self::Damaged { .. }
            | Self::VolumeOffline { .. }
            | Self::TakenOver { .. }
            | Self::AssemblyRefused { .. } => Severity::Error,
        }
    }

    fn fields(&self) -> Fields<'_> {
        let none = Fields::default();
        match self {
            Self::ServerLost { reason }
            | Self::SpareUnreachable { reason }
            | Self::ScrubFailed { reason }
            | Self::VolumeOffline { reason }
            | Self::TakenOver { reason }
            | Self::Forced { reason } => Fields { reason: Some(reason), ..none },
            Self::AssemblyRefused { why } => Fields { reason: Some(why), ..none },
            Self::CatchUpStarted { slot } | Self::SlotGivenBack { slot } | Self::RebuildStarted { slot } => {
                Fields { slot: Some(*slot), ..none }
            }
            Self::CatchUpProgress { slot, files, bytes, copied, rate, left, object } => {
                let left = left.map_or_else(|| "unknown".into(), |left| left.to_string());
                let counts = format!(
                    "files {} of {}, bytes {} of {}, written {copied}, bytes a second {rate}, seconds left {left}",
                    files.0, files.1, bytes.0, bytes.1
                );
                Fields { slot: Some(*slot), object: object.as_deref(), counts: Some(counts), ..none }
            }
            Self::CaughtUp { slot, files, bytes, seconds } => {
                let counts = format!("files {files}, bytes {bytes}, seconds {seconds}");
                Fields { slot: Some(*slot), counts: Some(counts), ..none }
            }
            Self::MemberDropped { slot, reason } | Self::CatchUpFailed { slot, reason } => {
                Fields { slot: Some(*slot), reason: Some(reason), ..none }
            }
            Self::Inconsistency { object, what } | Self::Damaged { object, what } => {
                Fields { object: Some(object), reason: Some(what), ..none }
            }
            Self::Repaired { object, what, from, to } => {
                Fields { object: Some(object), reason: Some(what), from: Some(list(from)), to: Some(to), ..none }
            }
            Self::ScrubProgress { bytes, percent, rate, left } => {
                let counts = format!("bytes {bytes}, percent {percent}, bytes a second {rate}, seconds left {left}");
                Fields { counts: Some(counts), ..none }
            }
            Self::BackgroundScrubGoesOn { place, files, bytes } => {
                Fields { object: Some(place), counts: Some(format!("files {files}, bytes {bytes}")), ..none }
            }
            Self::ScrubDone { files, bytes, mended, damaged, seconds }
            | Self::BackgroundScrubDone { files, bytes, mended, damaged, seconds } => {
                let counts =
                    format!("files {files}, bytes {bytes}, mended {mended}, damaged {damaged}, seconds {seconds}");
                Fields { counts: Some(counts), ..none }
            }
            Self::Recovered { writes, cuts, names, sizes, attributes } => {
                let counts =
                    format!("writes {writes}, cuts {cuts}, names {names}, sizes {sizes}, attributes {attributes}");
                Fields { counts: Some(counts), ..none }
            }
            Self::VolumeMounted { mountpoint } => Fields { mountpoint: Some(mountpoint), ..none },
            Self::Connected
            | Self::ServerBack
            | Self::ServerResumed
            | Self::ServerLeftOut
            | Self::Replaced
            | Self::SpareReleased
            | Self::SpareConnected
            | Self::ScrubStarted
            | Self::BackgroundScrubStarted
            | Self::VolumeFormed
            | Self::VolumeUnmounted
            | Self::VolumeOnline => none,
        }
    }

    /// Hands the event to tracing, its data as fields; a field that an event has not is left out.
    pub(super) fn trace(&self, volume: &str, server: Option<&ServerAddr>) {
        let Fields { slot, reason, counts, object, from, to, mountpoint } = self.fields();
        macro_rules! emit {
            ($level:ident) => {
                tracing::event!(
                    target: TARGET,
                    tracing::Level::$level,
                    volume,
                    server = server.map(display),
                    slot,
                    object,
                    reason,
                    counts,
                    from,
                    to = to.map(display),
                    mountpoint = mountpoint.map(debug),
                    "{}",
                    self.kind()
                )
            };
        }
        match self.severity() {
            Severity::Info => emit!(INFO),
            Severity::Warning => emit!(WARN),
            Severity::Error => emit!(ERROR),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        let Fields { slot, reason, counts, object, from, to, mountpoint } = self.fields();
        if let Some(slot) = slot {
            write!(f, ", slot {slot}")?;
        }
        if let Some(object) = object {
            write!(f, ": {object}")?;
        }
        if let Some(reason) = reason {
            write!(f, ": {reason}")?;
        }
        if let Some(counts) = counts {
            write!(f, ": {counts}")?;
        }
        if let Some(from) = from {
            write!(f, ", from {from}")?;
        }
        if let Some(to) = to {
            write!(f, " to {to}")?;
        }
        if let Some(mountpoint) = mountpoint {
            write!(f, " on {}", mountpoint.display())?;
        }
        Ok(())
    }
}

fn list(servers: &[ServerAddr]) -> String {
    servers.iter().map(ServerAddr::to_string).collect::<Vec<_>>().join(", ")
}
