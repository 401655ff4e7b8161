//! Pure: which writes count, when members have different ones in their logs.
//!
//! A write counts when every member that was asked for it, and is current still, has all of its bytes: then, and only
//! then, may it have been acknowledged. Any other is taken back on all members, and with it what was written later to
//! the same stripes, whose parity was computed over it. Cuts destroy what was there: done anywhere, done everywhere.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use net_raid_proto::ids::{Generation, ObjectId, Slot, Transaction};
use net_raid_proto::message::{LogEntry, Logged};

use crate::layout::SlotSet;

/// A cut that a member misses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::volume) struct Cut {
    pub(in crate::volume) transaction: Transaction,
    pub(in crate::volume) id: ObjectId,
    /// As another member has it in its log: a Truncate or a Punch.
    pub(in crate::volume) what: Logged,
}

/// What becomes of the logs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::volume) struct Decision {
    /// Writes to take back on every member, ascending.
    pub(in crate::volume) dropped: Vec<Transaction>,
    /// Cuts to repeat, each member's in the order of their transactions.
    pub(in crate::volume) cuts: Vec<(Slot, Cut)>,
}

/// One write, as all logs together tell it.
struct Write {
    generation: Generation,
    /// Members that must have it.
    asked: SlotSet,
    /// Members that have all of it.
    whole: SlotSet,
    stripes: BTreeSet<(ObjectId, u64)>,
}

/// Decides on the logs of all current members. What belongs to a generation up to `complete` was decided before, and is
/// never touched.
pub(in crate::volume) fn decide(logs: &[(Slot, Vec<LogEntry>)], complete: Generation) -> Decision {
    let current: SlotSet = logs.iter().map(|(slot, _)| *slot).collect();
    let cuts = cuts(logs, current, complete);
    Decision { dropped: dropped(&writes(logs, current, &cuts), complete), cuts }
}

fn asked(entry: &LogEntry, current: SlotSet) -> SlotSet {
    SlotSet(entry.participants.into()).and(current)
}

/// What a member wrote behind a cut that it misses is not whole: the cut is going to be repeated there. Two generations are in
/// files of their own, so the later one may be durable alone.
fn writes(logs: &[(Slot, Vec<LogEntry>)], current: SlotSet, missed: &[(Slot, Cut)]) -> BTreeMap<Transaction, Write> {
    let is_behind = |slot: Slot, entry: &LogEntry| {
        missed.iter().any(|(at, cut)| *at == slot && cut.id == entry.id && cut.transaction < entry.transaction)
    };
    let mut writes: BTreeMap<Transaction, Write> = BTreeMap::new();
    for (slot, entry) in logs.iter().flat_map(|(slot, log)| log.iter().map(move |entry| (*slot, entry))) {
        let Logged::Write { parts } = &entry.what else { continue };
        let write = writes.entry(entry.transaction).or_insert_with(|| Write {
            generation: entry.generation,
            asked: SlotSet::default(),
            whole: SlotSet::default(),
            stripes: BTreeSet::new(),
        });
        write.asked = SlotSet(write.asked.0 | asked(entry, current).0);
        write.stripes.extend(parts.iter().map(|part| (entry.id, part.unit)));
        if entry.whole && !is_behind(slot, entry) {
            write.whole = write.whole.with(slot);
        }
    }
    writes
}

/// Transactions on one stripe have ascending numbers, so that one pass in their order finds all that hangs on a dropped
/// one.
fn dropped(writes: &BTreeMap<Transaction, Write>, complete: Generation) -> Vec<Transaction> {
    let mut spoilt: BTreeSet<(ObjectId, u64)> = BTreeSet::new();
    let mut dropped = Vec::new();
    for (transaction, write) in writes.iter().filter(|(_, write)| write.generation > complete) {
        let missing = write.asked.and(write.whole) != write.asked;
        if missing || !write.stripes.is_disjoint(&spoilt) {
            spoilt.extend(&write.stripes);
            dropped.push(*transaction);
        }
    }
    dropped
}

/// Only the last thing that happened to an object's extent can be undone somewhere: a cut locks the whole file until all
/// members have it. A member whose log lacks an earlier one had nothing to cut then, and what it has by now was written after it.
fn cuts(logs: &[(Slot, Vec<LogEntry>)], current: SlotSet, complete: Generation) -> Vec<(Slot, Cut)> {
    let mut done: BTreeMap<Transaction, (SlotSet, &LogEntry)> = BTreeMap::new();
    let mut last: BTreeMap<ObjectId, Transaction> = BTreeMap::new();
    for entry in logs.iter().flat_map(|(_, log)| log) {
        let last = last.entry(entry.id).or_insert(entry.transaction);
        *last = entry.transaction.max(*last);
    }
    for (slot, entry) in logs.iter().flat_map(|(slot, log)| log.iter().map(move |entry| (*slot, entry))) {
        let cut = !matches!(entry.what, Logged::Write { .. });
        if cut && entry.generation > complete && last[&entry.id] == entry.transaction {
            let (slots, _) = done.entry(entry.transaction).or_insert((SlotSet::default(), entry));
            *slots = slots.with(slot);
        }
    }
    let missing = |(slots, entry): (SlotSet, &LogEntry)| {
        let cut = Cut { transaction: entry.transaction, id: entry.id, what: entry.what.clone() };
        let without = SlotSet(asked(entry, current).0 & !slots.0);
        without.iter().map(|slot| (slot, cut.clone())).collect::<Vec<_>>()
    };
    done.into_values().flat_map(missing).collect()
}
