//! Which writes recovery keeps, and what `complete` in one label proves: two writes that share a stripe on three members, one
//! of which may be missing, with power losses, drops, a checkpoint, and a crash of the owner at any moment.

use net_raid_proto::ids::{Generation, ObjectId, Slot, Transaction};
use net_raid_proto::message::{LogEntry, Logged, Part};

use super::explore::explore;
use crate::layout::SlotSet;
use crate::volume::recovery::decide::{Decision, decide};

const MEMBERS: u8 = 3;
/// Fewest members with which data is whole.
const NEEDED: usize = 2;
/// Members that each write asks: its data and the parity, on member 2, that both change.
const ASKED: [u16; 2] = [0b101, 0b110];
const PARITY: Slot = Slot(2);
/// The generation that the checkpoint completes.
const FIRST: u64 = 3;

/// What a member has of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Has {
    Nothing,
    /// Answered, and lost when the power goes.
    Memory,
    Disk,
    /// The log's record without all of the bytes.
    Torn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Write {
    begun: bool,
    acknowledged: bool,
    /// An fsync was answered since.
    synced: bool,
    /// A power loss took it from a member that had it in memory.
    robbed: bool,
    generation: u64,
    has: [Has; MEMBERS as usize],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    writes: [Write; 2],
    current: SlotSet,
    /// Restarted without power: it answers this owner no more.
    down: SlotSet,
    /// Generation of new writes.
    now: u64,
    /// Members that answered `Checkpoint`, and those that answered `Complete`.
    checkpointed: SlotSet,
    completed: SlotSet,
}

type Rule = fn(&[(Slot, Vec<LogEntry>)], Generation) -> Decision;

/// How the new owner decides.
#[derive(Clone, Copy)]
struct Rules {
    decide: Rule,
    /// From whether any member's label says so and whether all do, whether the first generation is complete.
    complete: fn(bool, bool) -> bool,
}

const REAL: Rules = Rules { decide, complete: |any, _| any };

fn slots(set: SlotSet) -> impl Iterator<Item = usize> {
    set.iter().map(Slot::index)
}

impl State {
    fn start() -> State {
        let has = [Has::Nothing; MEMBERS as usize];
        let write = Write { begun: false, acknowledged: false, synced: false, robbed: false, generation: FIRST, has };
        let none = SlotSet::default();
        let current = SlotSet((1 << MEMBERS) - 1);
        State { writes: [write; 2], current, down: none, now: FIRST, checkpointed: none, completed: none }
    }

    fn asked(&self, number: usize) -> SlotSet {
        SlotSet(ASKED[number].into()).and(self.current)
    }

    fn up(&self) -> SlotSet {
        SlotSet(self.current.0 & !self.down.0)
    }

    fn following(&self) -> Vec<State> {
        let mut following = Vec::new();
        let mut add = |change: &dyn Fn(&mut State)| {
            let mut state = *self;
            change(&mut state);
            following.push(state);
        };
        for number in 0..2 {
            let write = &self.writes[number];
            // They share a stripe: the second waits for the first.
            if !write.begun && (number == 0 || self.writes[0].acknowledged) {
                add(&|state| (state.writes[number].begun, state.writes[number].generation) = (true, state.now));
            }
            let all = |fits: fn(Has) -> bool| slots(self.asked(number)).all(|slot| fits(write.has[slot]));
            if write.begun && !write.acknowledged {
                for slot in slots(self.asked(number).and(self.up())).filter(|slot| write.has[*slot] == Has::Nothing) {
                    add(&|state| state.writes[number].has[slot] = Has::Memory);
                }
                if self.asked(number).and(self.down).is_empty() && all(|has| has != Has::Nothing) {
                    add(&|state| state.writes[number].acknowledged = true);
                }
            }
        }
        // A sync is one of the file, and covers both.
        let durable = |(number, write): (usize, &Write)| {
            let asked = self.asked(number);
            !write.acknowledged || asked.and(self.down).is_empty() && slots(asked).all(|s| write.has[s] == Has::Disk)
        };
        if self.writes.iter().enumerate().all(durable) {
            add(&|state| state.writes.iter_mut().for_each(|write| write.synced = write.acknowledged));
        }
        for slot in slots(self.up()) {
            add(&|state| state.writes.iter_mut().for_each(|write| write.sync(slot)));
            self.lose_power(slot, &mut add);
        }
        for slot in self.current.iter().filter(|_| self.current.len() > NEEDED) {
            add(&|state| state.current = SlotSet(state.current.0 & !(1 << slot.0)));
        }
        self.checkpoint(&mut add);
        following
    }

    /// Of the log a part from the start is left; bytes of what is left may be missing.
    fn lose_power(&self, slot: usize, add: &mut impl FnMut(&dyn Fn(&mut State))) {
        let outcomes = [Has::Nothing, Has::Torn, Has::Disk];
        for (first, second) in outcomes.iter().flat_map(|one| outcomes.iter().map(move |two| (*one, *two))) {
            let left = [first, second];
            let possible = |(write, left): (&Write, Has)| write.has[slot] == Has::Memory || left == Has::Disk;
            let in_order = first != Has::Nothing
                || self.writes[0].has[slot] != Has::Memory
                || second == Has::Nothing
                || self.writes[1].has[slot] != Has::Memory;
            if !in_order || !self.writes.iter().zip(left).all(possible) {
                continue;
            }
            add(&|state| {
                for (write, left) in state.writes.iter_mut().zip(left) {
                    if write.has[slot] == Has::Memory {
                        write.has[slot] = left;
                        write.robbed |= left != Has::Disk;
                    }
                }
                state.down = state.down.with(Slot(slot as u8));
            });
        }
    }

    /// One checkpoint of the first generation, member by member.
    fn checkpoint(&self, add: &mut impl FnMut(&dyn Fn(&mut State))) {
        if self.now == FIRST {
            add(&|state| state.now = FIRST + 1);
            return;
        }
        let concluded = |write: &Write| !write.begun || write.generation > FIRST || write.acknowledged;
        if !self.writes.iter().all(concluded) {
            return;
        }
        let all_synced = self.checkpointed.and(self.current) == self.current;
        for slot in self.up().iter() {
            if !self.checkpointed.has(slot) {
                add(&|state| {
                    state.writes.iter_mut().for_each(|write| write.sync(slot.index()));
                    state.checkpointed = state.checkpointed.with(slot);
                });
            } else if all_synced && !self.completed.has(slot) {
                add(&|state| state.completed = state.completed.with(slot));
            }
        }
    }

    /// The owner is gone: whatever a next one finds, with one member less where that is allowed, must come out right.
    fn check(&self, rules: Rules) -> Result<(), String> {
        self.recover(self.current, rules)?;
        for slot in self.current.iter().filter(|_| self.current.len() > NEEDED) {
            self.recover(SlotSet(self.current.0 & !(1 << slot.0)), rules)?;
        }
        Ok(())
    }

    fn recover(&self, here: SlotSet, rules: Rules) -> Result<(), String> {
        let told = self.completed.and(here);
        let complete = (rules.complete)(!told.is_empty(), told == here);
        let in_place = |slot: Slot, write: &Write| write.generation == FIRST && (complete || self.completed.has(slot));
        let log = |slot: Slot| {
            let waits =
                |(_, write): &(usize, &Write)| write.has[slot.index()] != Has::Nothing && !in_place(slot, write);
            self.writes.iter().enumerate().filter(waits).map(|(number, write)| entry(number, write, slot)).collect()
        };
        let logs: Vec<(Slot, Vec<LogEntry>)> = here.iter().map(|slot| (slot, log(slot))).collect();
        let decision = (rules.decide)(&logs, Generation(if complete { FIRST } else { FIRST - 1 }));
        let mut kept = [false; 2];
        for (number, write) in self.writes.iter().enumerate() {
            let asked = SlotSet(ASKED[number].into()).and(here);
            let dropped = decision.dropped.contains(&Transaction(number as u64));
            let whole = |slot: Slot| matches!(write.has[slot.index()], Has::Memory | Has::Disk);
            let counts = |slot: &Slot| whole(*slot) && (in_place(*slot, write) || !dropped);
            let having = asked.iter().filter(counts).count();
            let torn = asked.iter().any(|slot| write.has[slot.index()] == Has::Torn && !dropped);
            if torn || having != 0 && having != asked.len() {
                return Err(format!("write {number} is on some of {here:?} only"));
            }
            kept[number] = having > 0;
            // A power loss may take what was not synced, and with it what was written over that.
            let robbed = self.writes[..=number].iter().any(|write| write.robbed);
            if !kept[number] && !asked.is_empty() && (write.synced || write.acknowledged && !robbed) {
                return Err(format!("write {number} was acknowledged and is lost on {here:?}"));
            }
        }
        if here.has(PARITY) && kept[1] && !kept[0] {
            return Err(format!("parity on {here:?} is over bytes that were taken back"));
        }
        Ok(())
    }
}

impl Write {
    fn sync(&mut self, slot: usize) {
        if self.has[slot] == Has::Memory {
            self.has[slot] = Has::Disk;
        }
    }
}

fn entry(number: usize, write: &Write, slot: Slot) -> LogEntry {
    // The unit is the number of the stripe: both are in the same.
    let what = Logged::Write { parts: vec![Part { unit: 0, offset: 0, len: 4096 }] };
    LogEntry {
        transaction: Transaction(number as u64),
        generation: Generation(write.generation),
        participants: ASKED[number],
        id: ObjectId(7),
        what,
        whole: write.has[slot.index()] != Has::Torn,
    }
}

fn try_all(rules: Rules) -> Result<usize, String> {
    explore(State::start(), State::following, |state| state.check(rules))
}

#[test]
fn recovery_keeps_what_was_acknowledged_and_leaves_members_equal() {
    let states = try_all(REAL).unwrap_or_else(|why| panic!("{why}"));
    println!("{states} states");
    assert!(states > 5_000, "{states}");
}

/// Rules that look right, and are not.
#[test]
fn wrong_rules_of_recovery_are_refuted() {
    let without_waves: Rule = |logs, complete| {
        let each = |number: u64| {
            let of = |log: &[LogEntry]| log.iter().filter(|e| e.transaction.0 == number).cloned().collect();
            let alone: Vec<(Slot, Vec<LogEntry>)> = logs.iter().map(|(slot, log)| (*slot, of(log))).collect();
            decide(&alone, complete).dropped
        };
        Decision { dropped: (0..2).flat_map(each).collect(), cuts: Vec::new() }
    };
    let torn_counts: Rule = |logs, complete| {
        let mut logs = logs.to_vec();
        logs.iter_mut().flat_map(|(_, log)| log).for_each(|entry| entry.whole = true);
        decide(&logs, complete)
    };
    let nothing_dropped: Rule = |_, _| Decision::default();
    for (what, decide) in
        [("no waves", without_waves), ("torn writes count", torn_counts), ("nothing dropped", nothing_dropped)]
    {
        assert!(try_all(Rules { decide, ..REAL }).is_err(), "{what}");
    }
    assert!(try_all(Rules { complete: |_, all| all, ..REAL }).is_err(), "complete only when all labels say so");
}
