//! Pure: what is wrong with one name, from what all members say of it, and who is right.
//!
//! An attribute that cannot be read is no attribute, and what has none is not there. What is there counts more than what is
//! missing. Of two versions the one that was changed last counts, however many have the other.

use net_raid_proto::ids::{Digest, Generation, ObjectId, Slot, Timestamp};
use net_raid_proto::layout::Layout;
use net_raid_proto::message::{Entry, Kind};

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
    fn differs_in_times(&self, other: &Told) -> bool {
        let Told { mtime, ctime, .. } = *other;
        self.kind == Kind::Directory && Told { mtime, ctime, ..self.clone() } == *other
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
    /// Its length is one that it can have.
    pub(super) sound: bool,
}

impl There {
    /// Of two versions the one with more is newer. The mtime comes last, because it changes with any access to the brick's files.
    fn version(&self) -> (Generation, Timestamp, Timestamp) {
        (self.stamp, self.ctime, self.told.mtime)
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
    /// It is a directory, and only times differ: perhaps because names in it were lost.
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
    let Some((source, right)) = newest_of(&held) else {
        return Verdict::Undecided("its attributes differ, and nothing says which are right");
    };
    let wrong = views.iter().filter_map(|view| {
        let wrong = match &view.there {
            Some(there) if there.told == right.told => return None,
            Some(there) if there.told.id != id => Wrong::Missing,
            Some(there) if there.version() < right.version() && there.told.kind == Kind::File => Wrong::Older,
            Some(there) if there.told.differs_in_times(&right.told) => Wrong::Times,
            Some(_) => Wrong::Differs,
            None => Wrong::Missing,
        };
        Some((view.slot, wrong))
    });
    Verdict::Wrong { source, wrong: wrong.collect() }
}

/// Who has the newest version; where those who changed it last differ, who has lost nothing of it, or more than half of them.
fn newest_of<'a>(held: &[(Slot, &'a There)]) -> Option<(Slot, &'a There)> {
    // A file that does not end as its records say has another size than it should.
    let is_any_sound = held.iter().any(|(_, there)| there.sound);
    let held: Vec<(Slot, &There)> = held.iter().copied().filter(|(_, there)| there.sound || !is_any_sound).collect();
    let last = held.iter().map(|(_, there)| there.version()).max()?;
    let newest: Vec<(Slot, &There)> = held.into_iter().filter(|(_, there)| there.version() == last).collect();
    let most = newest.iter().map(|(_, there)| there.count).max()?;
    let (rich, poor): (Vec<_>, Vec<_>) = newest.iter().copied().partition(|(_, there)| there.count == most);
    let told = &rich.first()?.1.told;
    let lost_some = |there: &There| there.told == Told { extended: there.told.extended, ..told.clone() };
    if rich.iter().all(|(_, there)| there.told == *told) && poor.iter().all(|(_, there)| lost_some(there)) {
        return rich.first().copied();
    }
    let agreeing = |told: &Told| newest.iter().filter(|(_, other)| other.told == *told).count();
    newest.iter().find(|(_, there)| agreeing(&there.told) * 2 > newest.len()).copied()
}

#[cfg(test)]
mod tests;
