//! Pure: names that a directory does not have, known without asking.
//!
//! A name that is not there is asked of all members, because a few may have lost one that is; and nearly every name that is made was
//! looked for before. Nobody else changes the volume, so that two things are known: which names a directory that was made here can have
//! at most, and what was asked for in vain since its names changed last.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use net_raid_proto::ids::Name;

/// Names that are kept of a directory; of one that gets more nothing is known any more.
const NAMES_MAX: usize = 32 * 1024;
/// Names that were asked for in vain.
const ASKED_MAX: usize = 8;

/// What a directory does not have. By hashes: two names with the same one are only asked for once too often.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// Of all names that it may have, when it was made here.
    all: Option<HashSet<u64>>,
    asked: Vec<u64>,
    /// Counts what may have made a name.
    changes: u64,
}

/// A moment of a directory's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(u64);

fn hash(name: &Name) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.as_bytes().hash(&mut hasher);
    hasher.finish()
}

impl Absent {
    /// Of a directory that was just made.
    pub(super) fn of_new() -> Absent {
        Absent { all: Some(HashSet::new()), ..Absent::default() }
    }

    /// Whether it certainly does not have a name.
    pub(super) fn has_not(&self, name: &Name) -> bool {
        let hash = hash(name);
        self.asked.contains(&hash) || self.all.as_ref().is_some_and(|all| !all.contains(&hash))
    }

    /// A name is about to be made; whether it was is not always known.
    pub(super) fn may_have(&mut self, name: &Name) {
        self.changed();
        if let Some(all) = &mut self.all {
            all.insert(hash(name));
            if all.len() > NAMES_MAX {
                self.all = None;
            }
        }
    }

    /// Names came or went.
    pub(super) fn changed(&mut self) {
        self.changes += 1;
        self.asked.clear();
    }

    /// Now.
    pub(super) fn now(&self) -> Moment {
        Moment(self.changes)
    }

    /// A name was asked for since in vain.
    pub(super) fn not_found(&mut self, name: &Name, since: Moment) {
        if since != self.now() {
            return;
        }
        if self.asked.len() == ASKED_MAX {
            self.asked.remove(0);
        }
        self.asked.push(hash(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn nothing_is_known_of_a_directory_that_was_there() {
        let mut absent = Absent::default();
        assert!(!absent.has_not(&name("a")));
        absent.may_have(&name("b"));
        assert!(!absent.has_not(&name("a")) && !absent.has_not(&name("b")));
    }

    #[test]
    fn a_new_directory_has_what_it_was_given() {
        let mut absent = Absent::of_new();
        assert!(absent.has_not(&name("a")));
        absent.may_have(&name("a"));
        assert!(!absent.has_not(&name("a")) && absent.has_not(&name("b")));
        for i in 0..NAMES_MAX {
            absent.may_have(&name(&i.to_string()));
        }
        assert!(!absent.has_not(&name("b")), "that is too much to remember");
    }

    #[test]
    fn what_was_asked_for_in_vain_is_known_until_names_change() {
        let mut absent = Absent::default();
        let ask = |absent: &mut Absent, text: &str| {
            let since = absent.now();
            absent.not_found(&name(text), since);
        };
        ask(&mut absent, "a");
        assert!(absent.has_not(&name("a")) && !absent.has_not(&name("b")));
        absent.changed();
        assert!(!absent.has_not(&name("a")));
        // It was made while somebody asked.
        let since = absent.now();
        absent.may_have(&name("c"));
        absent.not_found(&name("c"), since);
        assert!(!absent.has_not(&name("c")));
        (0..ASKED_MAX + 1).for_each(|i| ask(&mut absent, &i.to_string()));
        assert!(!absent.has_not(&name("0")) && absent.has_not(&name("1")));
    }
}
