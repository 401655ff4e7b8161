//! The number of every variant on the wire, in step with docs/protocol.md and with the strategies.
//!
//! A new variant does not compile here until it is listed, is not accepted until a strategy makes
//! it, and fails until the page has it.

use std::collections::BTreeMap;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::strategies as arbitrary;
use super::*;
use crate::layout::Level;
use crate::membership::{Former, Ownership, SlotState};

const PAGE: &str = include_str!("../../../../docs/protocol.md");
/// The rarest variant is one of about 50: missed by this many samples once in 10^17 runs.
const SAMPLES: usize = 2000;

/// Compares what a strategy makes, and how it is numbered, with the list of all variants.
fn check_variants<T: Serialize>(strategy: impl Strategy<Value = T>, all: &[&str], name: impl Fn(&T) -> &'static str) {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    for _ in 0..SAMPLES {
        let value = strategy.new_tree(&mut runner).unwrap().current();
        let number = u32::from_le_bytes(bytes(&value)[..4].try_into().unwrap());
        seen.insert(number, name(&value));
    }
    let numbered: BTreeMap<u32, &str> = (0..).zip(all.iter().copied()).collect();
    assert_eq!(seen, numbered);
}

/// Compares a table `| number | name | ... |` below a heading of the page with the list.
fn check_page(heading: &str, all: &[&str]) {
    let section = PAGE.split(&format!("\n### {heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.parse::<u32>().ok()?, cells.next()?.trim_matches('`').to_owned()))
    });
    let documented: Vec<(u32, String)> = rows.collect();
    let numbered: Vec<(u32, String)> = (0..).zip(all.iter().map(|&name| name.to_owned())).collect();
    assert_eq!(documented, numbered);
}

macro_rules! variants {
    ($test:ident: $ty:ident from $strategy:ident, [$($variant:ident),* $(,)?] $(, heading $heading:literal)?) => {
        #[test]
        fn $test() {
            let all = [$(stringify!($variant)),*];
            check_variants(arbitrary::$strategy(), &all, |value: &$ty| match value {
                $($ty::$variant { .. } => stringify!($variant),)*
            });
            $(check_page($heading, &all);)?
        }
    };
}

variants!(requests: Request from request, [
    Hello, Format, Own, Disown, SetMembership, Ping, Resolve, Lookup, GetAttr, ReadDir, ReadLink, GetXattr,
    ListXattr, StatFs, Read, Allocated, Change, Fsync, Checkpoint, Complete, Abort, ReadLog, Release,
    PurgeOrphans, ReadChanged, ReadUnits, ReadOrphans, Verify, Restore, ReadNote,
    WriteNote, VerifyBrick, ReadNames,
], heading "Requests");

variants!(changes: Change from change, [
    Create, Link, Unlink, Rmdir, Rename, SetAttr, SetXattr, RemoveXattr, Write, Truncate, Punch, Allocate, Purge,
    Detach, Attach,
], heading "Changes");

variants!(replies: Reply from reply, [
    Done, Welcome, Entry, Page, Bytes, Space, Read, Ranges, Written, Log, Owned, Changed,
    Units, Verified, BrickVerified,
], heading "Replies");

variants!(logged: Logged from logged, [Write, Truncate, Punch]);

variants!(faults: Fault from fault, [
    Errno, Unresolved, StaleEpoch, Held, Refused, Failed, Version,
], heading "Faults");

variants!(brick_files: BrickFile from brick_file, [Label, Log, Root]);
variants!(brick_states: BrickState from brick_state, [Empty, Labelled, Unusable]);
variants!(kinds: Kind from kind, [File, Directory, Symlink, Fifo, Socket, CharDevice, BlockDevice]);
variants!(rename_targets: RenameTarget from rename_target, [Absent, Replace, Exchange]);
variants!(xattr_expectations: XattrExpect from xattr_expect, [Any, Absent, Present]);
variants!(levels: Level from level, [Raid1, Raid5, Raid6]);
variants!(slot_states: SlotState from slot_state, [Current, Stale]);
variants!(formers: Former from former, [Replaced, Released]);
variants!(ownerships: Ownership from ownership, [Native, Recorded]);
