//! What happened, in figures.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What one writer did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Operations that succeeded.
    pub(super) operations: u64,
    /// Bytes that were acknowledged as safe.
    pub(super) bytes: u64,
    /// Operations that failed.
    pub(super) failed: u64,
    /// The longest that an operation took that succeeded.
    pub(super) longest: Duration,
}

impl Tally {
    pub(super) fn add(&mut self, other: Tally) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.failed += other.failed;
        self.longest = self.longest.max(other.longest);
    }
}

/// What a whole run did.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Arrays.
    pub(super) rounds: u64,
    /// What was inflicted, by its name.
    pub(super) blows: BTreeMap<&'static str, u64>,
    /// What all writers did.
    pub(super) tally: Tally,
    /// Bytes that were read back and compared.
    pub(super) verified: u64,
    /// Mounts after a client was killed, and the longest that one took.
    pub(super) recoveries: u64,
    pub(super) longest_recovery: Duration,
    /// Members that were resumed, and those that were dropped.
    pub(super) resumed: u64,
    pub(super) dropped: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        let Tally { operations, bytes, failed, longest } = self.tally;
        writeln!(f, "summary")?;
        writeln!(f, "  arrays                   {}", self.rounds)?;
        writeln!(
            f,
            "  operations acknowledged  {operations}, {failed} failed while too many servers or the client were away"
        )?;
        writeln!(f, "  bytes acknowledged       {} MiB", mib(bytes))?;
        writeln!(f, "  bytes compared           {} MiB, none lost", mib(self.verified))?;
        for (blow, count) in &self.blows {
            writeln!(f, "  {blow:<24} {count}")?;
        }
        writeln!(f, "  members resumed, dropped {}, {}", self.resumed, self.dropped)?;
        let (recoveries, slowest) = (self.recoveries, self.longest_recovery.as_secs_f64());
        writeln!(f, "  recoveries               {recoveries}, the longest {slowest:.2} s")?;
        write!(f, "  longest stall            {:.2} s", longest.as_secs_f64())
    }
}
