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
    /// Slots that a spare took.
    pub(super) replaced: u64,
    /// Files that were made to rot, and objects that scrubs and reads mended.
    pub(super) rotten: u64,
    pub(super) mended: u64,
    /// Scrubs that came to their end.
    pub(super) scrubs: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        let Tally { operations, bytes, failed, longest } = self.tally;
        let mut rows = vec![
            ("arrays", self.rounds.to_string()),
            (
                "operations acknowledged",
                format!("{operations}, {failed} failed while too many servers or the client were away"),
            ),
            ("bytes acknowledged", format!("{} MiB", mib(bytes))),
            ("bytes compared", format!("{} MiB, none lost", mib(self.verified))),
        ];
        rows.extend(self.blows.iter().map(|(blow, count)| (*blow, count.to_string())));
        let slowest = self.longest_recovery.as_secs_f64();
        rows.extend([
            ("members resumed, dropped", format!("{}, {}", self.resumed, self.dropped)),
            ("slots taken by spares", self.replaced.to_string()),
            ("files rotten, repairs", format!("{}, {}", self.rotten, self.mended)),
            ("scrubs to the end", self.scrubs.to_string()),
            ("recoveries", format!("{}, the longest {slowest:.2} s", self.recoveries)),
            ("longest stall", format!("{:.2} s", longest.as_secs_f64())),
        ]);
        let rows: Vec<String> = rows.into_iter().map(|(name, value)| format!("  {name:<24} {value}")).collect();
        write!(f, "summary\n{}", rows.join("\n"))
    }
}
