//! Membership: drops, returns, assembly and takeover by two owners, any of which can be cut off from any brick at any moment, and
//! can go at any moment.
//!
//! Who was dropped comes back when it has everything, or a spare takes its slot and becomes current when that has everything, or who
//! had the slot gets it back before. Who assembles must find every acknowledged write on all current members that it meets, a write may be
//! acknowledged only by an owner that knows all before, and nobody is believed to have more than it has.

use std::collections::BTreeSet;

use net_raid_proto::ids::{BrickId, Generation, Slot};
use net_raid_proto::layout::Level;
use net_raid_proto::membership::{Former, Membership, SlotRecord, SlotState};

use super::explore::explore;
use crate::volume::quorum::{self, BEFORE_ALL, Change, Taken};

/// Ownerships in all: enough for two owners to do all to each other.
const EPOCHS: u8 = 3;
/// Slots, and bricks that lost theirs, at most: as many as there are spares.
const SLOTS: usize = 3;
const FORMERS: usize = 1;
/// Records that an owner may have to heed.
const OTHERS: usize = 6;
/// Records that an owner can begin.
const VERSIONS: u8 = 16;

/// A membership record in a few bytes, because there are millions; bricks are numbered, members first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Record {
    version: u8,
    slots: [Holder; SLOTS],
    voters: u8,
    formers: [Was; FORMERS],
}

/// Which brick has a slot, if it is one, and up to which write it has everything, unless it is current.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Holder(u8);

impl Holder {
    const NOBODY: Holder = Holder(u8::MAX);

    fn new(brick: u8, since: Option<u8>) -> Holder {
        Holder(brick << 4 | since.unwrap_or(15))
    }

    fn brick(self) -> u8 {
        self.0 >> 4
    }

    fn since(self) -> Option<u8> {
        Some(self.0 & 15).filter(|since| *since != 15)
    }
}

/// A brick that has no slot any more, the slot that it may have again, and up to which write it has everything then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Was(u8);

impl Was {
    const NOBODY: Was = Was(u8::MAX);

    fn new(brick: u8, may_return: Option<(u8, u8)>) -> Was {
        Was(brick << 4 | may_return.map_or(15, |(slot, since)| slot << 2 | since))
    }

    fn brick(self) -> u8 {
        self.0 >> 4
    }

    fn may_return(self) -> Option<(u8, u8)> {
        let both = Some(self.0 & 15).filter(|both| *both != 15);
        both.map(|both| (both >> 2, both & 3))
    }
}

impl Record {
    fn holders(&self) -> impl Iterator<Item = Holder> + '_ {
        self.slots.iter().copied().filter(|holder| *holder != Holder::NOBODY)
    }

    fn formers(&self) -> impl Iterator<Item = Was> + '_ {
        self.formers.iter().copied().filter(|was| *was != Was::NOBODY)
    }

    /// Who has a slot.
    fn members(&self) -> u8 {
        self.holders().fold(0, |mask, holder| mask | 1 << holder.brick())
    }

    /// Who of these is current.
    fn current(&self) -> u8 {
        let current = self.holders().filter(|holder| holder.since().is_none());
        current.fold(0, |mask, holder| mask | 1 << holder.brick())
    }

    fn since_of(&self, member: u8) -> Option<u8> {
        self.holders().find(|holder| holder.brick() == member)?.since()
    }

    fn slot_of(&self, member: u8) -> Slot {
        Slot(self.holders().position(|holder| holder.brick() == member).expect("a member") as u8)
    }

    fn without(mut self, lost: u8, since: u8) -> Record {
        for brick in bits(lost) {
            self.slots[self.slot_of(brick).index()] = Holder::new(brick, Some(since));
        }
        self
    }
}

/// What is to become different in a record, by bricks.
#[derive(Debug, Clone, Copy, Default)]
struct Alteration {
    lost: u8,
    back: Option<u8>,
    /// A member, the brick that takes its slot, and up to which write it has everything.
    taken: Option<(u8, u8, u8)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Brick {
    epoch: u8,
    record: Record,
    /// The last write that it has.
    write: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Owner {
    epoch: u8,
    record: Record,
    /// Newest version that it used.
    newest: u8,
    /// The last write that it knows of.
    write: u8,
    /// A record on its way, and the bricks that have it.
    pending: Option<(Record, u8)>,
    /// Members that are back, until all voters know that.
    back: u8,
    /// Older records that were met, and those that were given up, until one of its own is stored.
    others: [Option<Record>; OTHERS],
    /// It has done what it must before it serves.
    serves: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    bricks: Vec<Brick>,
    owners: [Option<Owner>; 2],
    /// What who is to begin has read of the bricks, where that is another moment.
    read: [Option<Record>; 2],
    acknowledged: u8,
    changes: u8,
    wrong: Option<&'static str>,
}

#[derive(Clone, Copy)]
struct Rules {
    level: Level,
    members: u8,
    spares: u8,
    /// Writes in all.
    writes: u8,
    /// Drops and returns that are begun in all.
    changes: u8,
    /// At the beginning a spare has a slot already, and nothing yet; who had it misses a write.
    replaced: bool,
    may_begin: fn(&Membership, &[BrickId]) -> bool,
    /// Whether `without` is asked for voters too.
    drop_needs_voters: bool,
    /// A drop counts only when all voters have its record.
    adopt_when_all: bool,
    /// Who begins writes the record anew unless all its voters have it.
    confirm: bool,
    /// A record that was tried and given up counts too until another one is stored.
    heed_tried: bool,
    /// A drop that was tried is not given up: there is no other record, and no write, before one that drops these too.
    drops_end: bool,
    /// As long as the record is not confirmed, voters of older ones that were met count too.
    heed_others: bool,
    /// Who lets a member return goes by the new record before any voter has it, not after all do.
    believe_first: bool,
    /// The member that returns is given the record after all other voters have it.
    back_last: bool,
    /// Who did not vote before is given the record after all who did.
    new_last: bool,
    /// Who begins goes by the records that the bricks have when they are taken, not by what they had before.
    reads_when_taken: bool,
    /// Who gets its slot back has what the record says that it had when it was dropped, not what others have by now.
    since_is_kept: bool,
}

const REAL: Rules = Rules {
    level: Level::Raid1,
    members: 2,
    spares: 0,
    writes: 2,
    changes: 3,
    replaced: false,
    may_begin: |record, here| quorum::has_members(record, here) && quorum::has_voters(record, here),
    drop_needs_voters: true,
    adopt_when_all: true,
    confirm: true,
    heed_tried: true,
    drops_end: true,
    heed_others: true,
    believe_first: true,
    back_last: true,
    new_last: true,
    reads_when_taken: true,
    since_is_kept: true,
};

fn bits(mask: u8) -> impl Iterator<Item = u8> {
    (0..8).filter(move |bit| mask >> bit & 1 == 1)
}

fn brick(number: u8) -> BrickId {
    BrickId([number; 16])
}

/// The generation that is complete with a write. Who has nothing has what was before all.
fn generation(write: u8) -> Generation {
    Generation(BEFORE_ALL.0 + u64::from(write))
}

fn write_of(generation: Generation) -> u8 {
    (generation.0 - BEFORE_ALL.0) as u8
}

fn former(was: Was) -> Former {
    let brick = brick(was.brick());
    match was.may_return() {
        Some((slot, since)) => Former::Replaced { brick, slot: Slot(slot), since: generation(since) },
        None => Former::Released { brick },
    }
}

fn bricks(mask: u8) -> Vec<BrickId> {
    bits(mask).map(brick).collect()
}

/// Nothing and all between, of these.
fn subsets(of: u8) -> impl Iterator<Item = u8> {
    (0..=of).filter(move |mask| mask & !of == 0)
}

impl Rules {
    fn all(&self) -> u8 {
        (1 << (self.members + self.spares)) - 1
    }

    fn start(&self) -> State {
        let member = |slot| if slot < self.members.into() { Holder::new(slot as u8, None) } else { Holder::NOBODY };
        let slots = std::array::from_fn(member);
        let record = Record { version: 1, slots, voters: self.all(), formers: [Was::NOBODY; FORMERS] };
        let mut bricks = vec![Brick { epoch: 0, record, write: 0 }; usize::from(self.members + self.spares)];
        let mut acknowledged = 0;
        if self.replaced {
            // The first member has the first write, all others of before have the second one too.
            let (spare, since) = (self.members, 1);
            let mut taken = Record { version: 3, voters: self.all() & !1, ..record };
            taken.slots[0] = Holder::new(spare, Some(0));
            taken.formers[0] = Was::new(0, Some((0, since)));
            acknowledged = 2;
            bricks[1..].iter_mut().for_each(|brick| brick.record = taken);
            bricks[1..usize::from(spare)].iter_mut().for_each(|brick| brick.write = acknowledged);
            bricks[0].write = since;
        }
        State { bricks, owners: [None; 2], read: [None; 2], acknowledged, changes: 0, wrong: None }
    }

    fn membership(&self, record: Record) -> Membership {
        let slot = |holder: Holder| SlotRecord {
            brick: brick(holder.brick()),
            state: match holder.since() {
                None => SlotState::Current,
                Some(since) => SlotState::Stale { since: generation(since) },
            },
        };
        Membership {
            version: record.version.into(),
            level: self.level,
            slots: record.holders().map(slot).collect(),
            voters: bricks(record.voters),
            formers: record.formers().map(former).collect(),
        }
    }

    fn record(&self, membership: &Membership, version: u8) -> Record {
        let number = |brick: BrickId| brick.0[0];
        let holder = |slot: &SlotRecord| match slot.state {
            SlotState::Current => Holder::new(number(slot.brick), None),
            SlotState::Stale { since } => Holder::new(number(slot.brick), Some(write_of(since))),
        };
        let was = |former: &Former| match *former {
            Former::Replaced { brick, slot, since } => Was::new(number(brick), Some((slot.0, write_of(since)))),
            Former::Released { brick } => Was::new(number(brick), None),
        };
        assert!(membership.formers.len() <= FORMERS && membership.is_valid(), "{membership:?}");
        Record {
            version,
            slots: std::array::from_fn(|slot| membership.slots.get(slot).map_or(Holder::NOBODY, holder)),
            voters: membership.voters.iter().fold(0, |mask, voter| mask | 1 << number(*voter)),
            formers: std::array::from_fn(|at| membership.formers.get(at).map_or(Was::NOBODY, was)),
        }
    }

    /// The record with a change, when the rule allows it.
    fn changed(&self, owner: &Owner, alter: Alteration, reachable: u8, version: u8) -> Option<Record> {
        let old = owner.record;
        let slot = |number: u8| old.slot_of(number);
        let taken =
            |(member, number, since)| Taken { slot: slot(member), brick: brick(number), since: generation(since) };
        let change = Change {
            lost: bits(alter.lost).map(slot).collect(),
            back: alter.back.map(slot),
            taken: alter.taken.map(taken),
        };
        let membership = self.membership(old);
        let others = owner.others.iter().flatten().filter(|_| self.heed_others).map(|other| self.membership(*other));
        let others: Vec<Membership> = others.collect();
        let (back, lost) = (alter.back, alter.lost);
        match quorum::changed(&membership, &others, change, generation(owner.write), &bricks(reachable)) {
            Err(quorum::Shortage::Voters) if !self.drop_needs_voters && back.is_none() => {
                let record = old.without(lost, owner.write);
                Some(Record { version, voters: old.voters & reachable, ..record })
            }
            record => Some(self.record(&record.ok()?, version)),
        }
    }

    fn following(&self, state: &State) -> Vec<State> {
        let mut following = Vec::new();
        if state.wrong.is_some() {
            return following;
        }
        for at in 0..2 {
            match state.owners[at] {
                None => self.begin(state, at, &mut following),
                Some(owner) => {
                    following.push(State { owners: replaced(state.owners, at, None), ..state.clone() });
                    self.go_on(state, at, owner, &mut following);
                }
            }
        }
        following
    }

    /// An owner takes the bricks that it reaches.
    fn begin(&self, state: &State, at: usize, following: &mut Vec<State>) {
        for here in subsets(self.all()).filter(|here| *here != 0) {
            let met = || bits(here).map(|number| state.bricks[usize::from(number)]);
            let newest = met().map(|brick| brick.record).max().expect("some are met");
            let record = match state.read[at] {
                _ if self.reads_when_taken => newest,
                Some(read) => read,
                None => {
                    following.push(State { read: replaced(state.read, at, Some(newest)), ..state.clone() });
                    continue;
                }
            };
            let epoch = met().map(|brick| brick.epoch).max().expect("some are met") + 1;
            if epoch > EPOCHS || !(self.may_begin)(&self.membership(record), &bricks(here)) {
                continue;
            }
            let mut after = State { read: replaced(state.read, at, None), ..state.clone() };
            let current = || bits(here & record.current()).map(|number| state.bricks[usize::from(number)].write);
            if current().any(|write| write < state.acknowledged) {
                after.wrong = Some("who begins lacks an acknowledged write");
            }
            bits(here).for_each(|number| after.bricks[usize::from(number)].epoch = epoch);
            // What only some have recovery takes back, or makes whole.
            let write = state.acknowledged.min(current().min().unwrap_or(0));
            bits(here & record.current()).for_each(|number| after.bricks[usize::from(number)].write = write);
            let newest = record.version.max(epoch * VERSIONS);
            let voters = bits(here & record.voters).map(|number| state.bricks[usize::from(number)].record);
            let others: BTreeSet<Record> = voters.filter(|other| *other != record).collect();
            let others = std::array::from_fn(|at| others.iter().nth(at).copied());
            let mut owner = Owner { epoch, record, newest, write, pending: None, back: 0, others, serves: false };
            let absent = record.current() & !here;
            let has = |number: u8| here >> number & 1 == 1 && state.bricks[usize::from(number)].record == record;
            let everywhere = bits(record.voters).all(has);
            if absent != 0 || self.confirm && !everywhere {
                // They are dropped before anything else; and what another owner broke off becomes the record of all.
                let Some(next) = self.changed(&owner, lost_only(absent), here, newest + 1) else { continue };
                (owner.newest, owner.pending) = (newest + 1, Some((next, 0)));
            } else {
                (owner.others, owner.serves) = ([None; OTHERS], true);
            }
            after.owners[at] = Some(owner);
            following.push(after);
        }
    }

    fn go_on(&self, state: &State, at: usize, owner: Owner, following: &mut Vec<State>) {
        let with = |owner: Owner| State { owners: replaced(state.owners, at, Some(owner)), ..state.clone() };
        let serves = |number: u8| state.bricks[usize::from(number)].epoch == owner.epoch;
        let Some((record, stored)) = owner.pending else {
            self.write(state, at, owner, following);
            if state.changes < self.changes {
                bits(owner.record.current())
                    .for_each(|lost| self.begin_change(state, at, owner, lost_only(1 << lost), following));
                self.bring_back(state, at, owner, following);
                self.replace(state, at, owner, following);
                self.give_back(state, at, owner, following);
            }
            self.empty(state, owner, following);
            return;
        };
        // Who is back has the record last, and so has who did not vote before.
        let missing = record.voters & !stored;
        let mut first = missing;
        if self.back_last {
            first &= !owner.back;
        }
        if self.new_last {
            first &= owner.record.voters;
        }
        let next = if first != 0 { first } else { missing };
        for number in bits(next).filter(|number| serves(*number)) {
            let mut after = with(Owner { pending: Some((record, stored | 1 << number)), ..owner });
            after.bricks[usize::from(number)].record = record;
            following.push(after);
        }
        let enough = if self.adopt_when_all { stored == record.voters } else { stored != 0 };
        if enough {
            following.push(with(Owner {
                record,
                pending: None,
                back: 0,
                others: [None; OTHERS],
                serves: true,
                ..owner
            }));
        }
        // Somebody fails at that: a return, or a spare, waits until later.
        let is_taken = record.members() != owner.record.members();
        if is_taken || owner.back != 0 || owner.serves && !self.drops_end {
            let mut owner = Owner { pending: None, ..owner };
            if self.heed_tried {
                heed(&mut owner.others, record);
            }
            following.push(with(owner));
        }
        if is_taken {
            return;
        }
        // A member fails at that: it is dropped with the others.
        for failed in bits(record.current() & record.voters & !stored).filter(|_| state.changes < self.changes) {
            let lost = owner.record.current() & !record.current() | 1 << failed;
            self.begin_change(state, at, owner, lost_only(lost), following);
        }
    }

    fn begin_change(&self, state: &State, at: usize, owner: Owner, change: Alteration, following: &mut Vec<State>) {
        let version = owner.newest + 1;
        let mut next: BTreeSet<Record> = BTreeSet::new();
        let reachable = subsets(owner.record.voters & !change.lost);
        next.extend(reachable.filter_map(|reachable| self.changed(&owner, change, reachable, version)));
        for record in next {
            let owner = Owner { newest: version, pending: Some((record, 0)), ..owner };
            let owners = replaced(state.owners, at, Some(owner));
            following.push(State { owners, changes: state.changes + 1, ..state.clone() });
        }
    }

    /// A member that is out makes up for what it missed and becomes current again. Nothing is written until that is done, or
    /// given up.
    fn bring_back(&self, state: &State, at: usize, owner: Owner, following: &mut Vec<State>) {
        let serves = |number: &u8| state.bricks[usize::from(*number)].epoch == owner.epoch;
        for number in bits(owner.record.members() & !owner.record.current()).filter(serves) {
            let mut after = state.clone();
            if owner.record.since_of(number).is_some_and(|since| state.bricks[usize::from(number)].write < since) {
                after.wrong = Some("who is brought up to date is believed to have what it has not");
            }
            after.bricks[usize::from(number)].write = owner.write;
            let change = Alteration { back: Some(number), ..Alteration::default() };
            let mut owner = Owner { back: owner.back | 1 << number, ..owner };
            if !self.believe_first {
                self.begin_change(&after, at, owner, change, following);
                continue;
            }
            heed(&mut owner.others, owner.record);
            for reachable in subsets(owner.record.voters) {
                let Some(record) = self.changed(&owner, change, reachable, owner.newest) else { continue };
                self.begin_change(&after, at, Owner { record, ..owner }, Alteration::default(), following);
            }
        }
    }

    /// A spare takes the slot of a member that is out. What either has does not count.
    fn replace(&self, state: &State, at: usize, owner: Owner, following: &mut Vec<State>) {
        let serves = |number: &u8| state.bricks[usize::from(*number)].epoch == owner.epoch;
        for spare in bits(self.all() & !owner.record.members()).filter(serves) {
            for member in bits(owner.record.members() & !owner.record.current()) {
                let change = Alteration { taken: Some((member, spare, 0)), ..Alteration::default() };
                self.begin_change(state, at, owner, change, following);
            }
        }
    }

    /// Who lost its slot to a spare has it again, unless the spare became current.
    fn give_back(&self, state: &State, at: usize, owner: Owner, following: &mut Vec<State>) {
        let serves = |number: u8| state.bricks[usize::from(number)].epoch == owner.epoch;
        for was in owner.record.formers() {
            let Some((slot, since)) = was.may_return() else { continue };
            let holder = owner.record.slots[usize::from(slot)];
            assert!(holder.since().is_some(), "a spare that is current and can be replaced: {:?}", owner.record);
            if serves(was.brick()) {
                let since = if self.since_is_kept { since } else { owner.write };
                let change = Alteration { taken: Some((holder.brick(), was.brick(), since)), ..Alteration::default() };
                self.begin_change(state, at, owner, change, following);
            }
        }
    }

    /// A spare that lost its slot again is emptied.
    fn empty(&self, state: &State, owner: Owner, following: &mut Vec<State>) {
        for was in owner.record.formers().filter(|was| was.may_return().is_none()) {
            let brick = usize::from(was.brick());
            if state.bricks[brick].epoch == owner.epoch {
                let mut after = state.clone();
                after.bricks[brick].write = 0;
                following.push(after);
            }
        }
    }

    /// A write reaches some members; when it reached all that are current it is acknowledged.
    fn write(&self, state: &State, at: usize, owner: Owner, following: &mut Vec<State>) {
        if state.acknowledged == self.writes {
            return;
        }
        let current = owner.record.current();
        let serves = |number: &u8| state.bricks[usize::from(*number)].epoch == owner.epoch;
        if !bits(current).all(|number| serves(&number)) {
            return;
        }
        let mut after = state.clone();
        if owner.write < state.acknowledged {
            after.wrong = Some("an owner goes on that missed a write");
        }
        let write = state.acknowledged + 1;
        bits(current).for_each(|number| after.bricks[usize::from(number)].write = write);
        after.acknowledged = write;
        after.owners[at] = Some(Owner { write, ..owner });
        following.push(after);
    }

    fn try_all(&self) -> Result<usize, String> {
        let right = |state: &State| state.wrong.map_or(Ok(()), |why| Err(why.to_string()));
        explore(self.start(), |state| self.following(state), right)
    }
}

fn lost_only(lost: u8) -> Alteration {
    Alteration { lost, ..Alteration::default() }
}

/// Of those with the same voters one will do.
fn heed(others: &mut [Option<Record>; OTHERS], record: Record) {
    if others.iter().flatten().any(|other| other.voters == record.voters) {
        return;
    }
    *others.iter_mut().find(|other| other.is_none()).expect("room for all records that can be met and tried") =
        Some(record);
}

fn replaced<T>(mut all: [Option<T>; 2], at: usize, one: Option<T>) -> [Option<T>; 2] {
    all[at] = one;
    all
}

const REPLACED: Rules = Rules { spares: 1, changes: 2, writes: 3, replaced: true, ..REAL };

const VOLUMES: [Rules; 5] = [
    REAL,
    REPLACED,
    Rules { spares: 1, changes: 2, ..REAL },
    Rules { members: 3, changes: 2, ..REAL },
    Rules { level: Level::Raid5, members: 3, changes: 2, ..REAL },
];

#[test]
fn no_order_of_drops_and_owners_loses_a_write() {
    let long = std::env::var_os("NET_RAID_LONG").is_some();
    let wide = Rules { level: Level::Raid5, members: 3, ..REPLACED };
    for rules in VOLUMES.into_iter().chain(long.then_some(wide)) {
        let rules = if long { Rules { changes: 3, ..rules } } else { rules };
        let states = rules.try_all().unwrap_or_else(|why| panic!("{why}"));
        let Rules { level, members, spares, replaced, .. } = rules;
        println!("{level} over {members} and {spares} spares, replaced {replaced}: {states} states");
        assert!(states > 100);
    }
}

/// The same for slots that are taken, and given back.
#[test]
fn wrong_rules_of_slots_that_are_given_back_are_refuted() {
    let refuted = |rules: Rules| rules.try_all().is_err();
    assert!(refuted(Rules { new_last: false, ..REPLACED }), "who takes a slot may know that before others do");
    assert!(refuted(Rules { since_is_kept: false, ..REPLACED }), "who gets its slot back has what others have");
}

/// Rules that look right, and are not.
#[test]
fn wrong_rules_of_membership_are_refuted() {
    let replacing = Rules { spares: 1, ..REAL };
    let volumes = || VOLUMES.iter().chain([&replacing]);
    let refuted = |change: &dyn Fn(Rules) -> Rules| volumes().any(|rules| change(*rules).try_all().is_err());
    assert!(refuted(&|rules| Rules { may_begin: quorum::has_members, ..rules }), "voters do not matter");
    let half: fn(&Membership, &[BrickId]) -> bool = |record, here| {
        let away = record.voters.iter().filter(|voter| !here.contains(voter)).count();
        quorum::has_members(record, here) && away <= record.quorum()
    };
    assert!(refuted(&|rules| Rules { may_begin: half, ..rules }), "half of the voters may be away");
    assert!(refuted(&|rules| Rules { drop_needs_voters: false, ..rules }), "a drop may leave any voters");
    assert!(refuted(&|rules| Rules { adopt_when_all: false, ..rules }), "a drop counts before all know it");
    assert!(refuted(&|rules| Rules { confirm: false, ..rules }), "a record that some have is taken for that of all");
    assert!(refuted(&|rules| Rules { back_last: false, ..rules }), "who is back may know that before others do");
    assert!(
        refuted(&|rules| Rules { believe_first: false, ..rules }),
        "a return that was broken off left nothing behind"
    );
    assert!(refuted(&|rules| Rules { reads_when_taken: false, ..rules }), "what was read before the bricks are taken");
    assert!(refuted(&|rules| Rules { drops_end: false, ..rules }), "a drop that failed is forgotten");
    assert!(refuted(&|rules| Rules { heed_tried: false, ..rules }), "a record that was given up was never there");
    assert!(refuted(&|rules| Rules { heed_others: false, ..rules }), "the newest record is the only one that counts");
}
