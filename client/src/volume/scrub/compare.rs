//! Pure: what is wrong with one name, from what all members say of it, and who is right.
//!
//! An attribute that cannot be read is no attribute, and what has none is not there. What is there counts more than what is
//! missing. Of two versions the one that was changed last counts, however many have the other. Times alone make no version: the
//! mtime changes with any access to the brick's files, and so does the ctime that follows it.

use net_raid_proto::ids::{Digest, Generation, ObjectId, Slot, Timestamp};
use net_raid_proto::layout::Layout;
use net_raid_proto::message::{Entry, Kind};

use crate::layout::SlotSet;

/// What must be the same on all members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    id: ObjectId,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    /// Of files and links.
    size: u64,
    layout: Option<Layout>,
    mtime: Timestamp,
    ctime: Timestamp,
    /// Extended attributes, and a link's target.
    extended: Digest,
}

impl Told {
    /// Whether nothing differs, or only times do.
    fn is_alike(&self, other: &Told) -> bool {
        let Told { mtime, ctime, .. } = *other;
        Told { mtime, ctime, ..self.clone() } == *other
    }

    fn times(&self) -> (Timestamp, Timestamp) {
        (self.mtime, self.ctime)
    }

    pub(super) fn new(entry: &Entry, extended: Digest) -> Told {
        let attr = &entry.attr;
        let is_file = attr.kind == Kind::File;
        Told {
            id: entry.id,
            kind: attr.kind.clone(),
            mode: attr.mode,
            owner: (attr.uid, attr.gid),
            size: if is_file || attr.kind == Kind::Symlink { attr.size } else { 0 },
            layout: is_file.then_some(entry.layout),
            mtime: attr.mtime,
            ctime: attr.ctime,
            extended,
        }
    }
}

/// What one member has at a name.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) slot: Slot,
    /// Stamp of the directory.
    pub(super) above: Generation,
    pub(super) there: Option<There>,
}

/// An object as one member has it.
#[derive(Debug, Clone)]
pub(super) struct There {
    pub(super) told: Told,
    pub(super) stamp: Generation,
    /// As it is noted with the stamp, whatever the mtime is.
    pub(super) ctime: Timestamp,
    /// How many extended attributes it has.
    pub(super) count: u32,
    /// Its length is one that it can have, and nothing in it was found wrong.
    pub(super) sound: bool,
}

/// The newest change that any member has noted. Who has noted none later may have it all the same: of changes of the mtime the
/// ctime is not noted, it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Noted(Generation, Timestamp);

impl Noted {
    fn by(there: &There) -> Noted {
        Noted(there.stamp, there.ctime)
    }

    /// Whether what is there is as it was before that change.
    fn is_missed_by(self, there: &There) -> bool {
        Noted(there.stamp, there.told.ctime) < self
    }
}

/// What is wrong with it on one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is not there, or has no attribute that can be read, or is another object.
    Missing,
    /// It is a file as it was earlier: its bytes may be old too.
    Older,
    /// Attributes differ.
    Differs,
    /// Only times differ: perhaps because names in a directory were lost, or bytes of a file were changed or lost. Who is right
    /// about them is asked again when what is in it is right.
    Times,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All have the same, or nothing.
    Agree,
    /// One who is right, and all who are not.
    Wrong { source: Slot, wrong: Vec<(Slot, Wrong)> },
    /// Nothing says who is right.
    Undecided(&'static str),
}

/// Judges a name. `needed` members must have a file to know its bytes, and `losses` may be wrong.
pub(super) fn judge(views: &[View], needed: usize, losses: usize) -> Verdict {
    let there: Vec<(&View, &There)> = views.iter().filter_map(|view| Some((view, view.there.as_ref()?))).collect();
    let Some((_, first)) = there.first() else { return Verdict::Agree };
    if there.len() == views.len() && there.iter().all(|(_, other)| other.told == first.told) {
        return Verdict::Agree;
    }
    let more_than_half = |id: ObjectId| there.iter().filter(|(_, other)| other.told.id == id).count() * 2 > views.len();
    let id = match there.iter().all(|(_, other)| other.told.id == first.told.id) {
        true => Some(first.told.id),
        false => there.iter().map(|(_, other)| other.told.id).find(|id| more_than_half(*id)),
    };
    let Some(id) = id else { return Verdict::Undecided("the name is that of different objects") };
    let (holders, others): (Vec<&View>, Vec<&View>) =
        views.iter().partition(|view| view.there.as_ref().is_some_and(|there| there.told.id == id));
    let held: Vec<(Slot, &There)> = there.into_iter().map(|(view, there)| (view.slot, there)).collect();
    let held: Vec<(Slot, &There)> = held.into_iter().filter(|(_, there)| there.told.id == id).collect();
    if held.iter().any(|(_, there)| there.told.kind == Kind::File) && held.len() < needed {
        return Verdict::Undecided("too few servers have it");
    }
    let newest = |views: &[&View]| views.iter().map(|view| view.above).max().unwrap_or_default();
    if held.len() <= losses && newest(&others) > newest(&holders) {
        return Verdict::Undecided("it may have been removed, and a server with an older directory has it");
    }
    let held = sound_of(held);
    let Some(last) = held.iter().map(|(_, there)| Noted::by(there)).max() else { return Verdict::Agree };
    let newest = held.into_iter().filter(|(_, there)| !last.is_missed_by(there)).collect();
    let Some((source, right)) = right_of(newest) else {
        return Verdict::Undecided("its attributes differ, and nothing says which are right");
    };
    let wrong = views.iter().filter_map(|view| {
        let wrong = match &view.there {
            Some(there) if there.told == right.told => return None,
            Some(there) if there.told.id != id => Wrong::Missing,
            Some(there) if is_older(there, last, right) => Wrong::Older,
            Some(there) if there.told.is_alike(&right.told) => Wrong::Times,
            Some(_) => Wrong::Differs,
            None => Wrong::Missing,
        };
        Some((view.slot, wrong))
    });
    Verdict::Wrong { source, wrong: wrong.collect() }
}

/// Whether it is a file as it was before.
fn is_older(there: &There, last: Noted, right: &There) -> bool {
    let lost_its_end = there.told.size != right.told.size && there.told.mtime < right.told.mtime;
    there.told.kind == Kind::File && (last.is_missed_by(there) || lost_its_end)
}

/// A file that does not end as its records say has another size than it should.
fn sound_of(held: Vec<(Slot, &There)>) -> Vec<(Slot, &There)> {
    let is_any_sound = held.iter().any(|(_, there)| there.sound);
    held.into_iter().filter(|(_, there)| there.sound || !is_any_sound).collect()
}

/// Of those who have the newest change, who has lost nothing of it, or more than half of them.
fn right_of(newest: Vec<(Slot, &There)>) -> Option<(Slot, &There)> {
    let newest = of_one_size(newest);
    let most = newest.iter().map(|(_, there)| there.count).max()?;
    let (rich, poor): (Vec<_>, Vec<_>) = newest.iter().copied().partition(|(_, there)| there.count == most);
    let told = &rich.first()?.1.told;
    let lost_some = |there: &There| Told { extended: told.extended, ..there.told.clone() }.is_alike(told);
    if rich.iter().all(|(_, there)| there.told.is_alike(told)) && poor.iter().all(|(_, there)| lost_some(there)) {
        return right_times(&rich, &newest);
    }
    let agreeing = |told: &Told| newest.iter().filter(|(_, other)| other.told.is_alike(told)).count();
    let most: Vec<_> = newest.iter().copied().filter(|(_, there)| agreeing(&there.told) * 2 > newest.len()).collect();
    right_times(&most, &most)
}

/// Writes that made a file longer may have been lost within a generation, and of these only the mtime tells.
fn of_one_size(newest: Vec<(Slot, &There)>) -> Vec<(Slot, &There)> {
    let is_file = |(_, there): &(Slot, &There)| there.told.kind == Kind::File;
    if !newest.iter().all(is_file) || newest.windows(2).all(|pair| pair[0].1.told.size == pair[1].1.told.size) {
        return newest;
    }
    let last = newest.iter().map(|(_, there)| there.told.mtime).max();
    newest.into_iter().filter(|(_, there)| Some(there.told.mtime) == last).collect()
}

/// One of `some` with the times that more than half of `all` have, else the latest.
fn right_times<'a>(some: &[(Slot, &'a There)], all: &[(Slot, &There)]) -> Option<(Slot, &'a There)> {
    let agreeing = |there: &There| all.iter().filter(|(_, other)| other.told.times() == there.told.times()).count();
    let usual = some.iter().find(|(_, there)| agreeing(there) * 2 > all.len());
    let latest = || some.iter().rev().max_by_key(|(_, there)| there.told.times());
    usual.or_else(latest).copied()
}

/// Members of which bytes may be old, where only times differ. Times that more members have than may be wrong are right; else a
/// write may have been lost where the mtime is earlier. They are not believed where nothing else says who is right.
pub(super) fn suspects(views: &[View], losses: usize) -> SlotSet {
    let all = || views.iter().filter_map(|view| Some((view.slot, view.there.as_ref()?)));
    let is_any_sound = all().any(|(_, there)| there.sound);
    let held = || all().filter(|(_, there)| there.sound || !is_any_sound);
    let having = |mtime: Timestamp| held().filter(move |(_, there)| there.told.mtime == mtime);
    let certain = held().map(|(_, there)| there.told.mtime).find(|mtime| having(*mtime).count() > losses);
    let Some(right) = certain.or_else(|| held().map(|(_, there)| there.told.mtime).max()) else {
        return SlotSet::default();
    };
    let is_right = |there: &There| there.told.mtime == right && (there.sound || !is_any_sound);
    all().filter(|(_, there)| !is_right(there)).map(|(slot, _)| slot).collect()
}

#[cfg(test)]
mod tests;
