//! What servers and client have to endure.

use crate::random::Random;

/// Something that is inflicted while programs write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// A server is killed and started again at once.
    Blink(usize),
    /// All servers are killed together and started again.
    BlinkAll,
    /// A server stands still for a moment, shorter than the stall.
    Pause { brick: usize, ms: u64 },
    /// The client stands still for a moment.
    PauseClient { ms: u64 },
    /// A server is killed and stays away.
    Lose(usize),
    /// A server stands still until it is dropped, and goes on then.
    Freeze(usize),
    /// A server is killed for good, and a spare takes its slot.
    Replace { brick: usize, amid: Amid },
    /// Files of so many bricks rot, and a scrub has to mend them.
    Rot { bricks: usize },
    /// A scrub at full speed begins, beside whatever comes next.
    Scrub,
}

/// What happens while a spare is being brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amid {
    /// Programs go on.
    Nothing,
    /// The spare is killed and started again.
    SpareKilled,
    /// The client is killed, which ends the work of the writers.
    ClientKilled,
}

/// Whom a blow may hit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets<'a> {
    /// Members that miss nothing.
    pub(super) current: &'a [usize],
    /// How many of them may be lost.
    pub(super) bearable: usize,
    /// Whether a spare stands by.
    pub(super) spare: bool,
}

impl Blow {
    /// What it is called in the summary.
    pub(super) fn name(self) -> &'static str {
        match self {
            Blow::Blink(_) => "server killed, started",
            Blow::BlinkAll => "all servers killed",
            Blow::Pause { .. } => "server stopped a moment",
            Blow::PauseClient { .. } => "client stopped a moment",
            Blow::Lose(_) => "server killed for good",
            Blow::Freeze(_) => "server frozen for good",
            Blow::Replace { amid: Amid::Nothing, .. } => "server lost, spare took it",
            Blow::Replace { amid: Amid::SpareKilled, .. } => "the same, spare killed",
            Blow::Replace { amid: Amid::ClientKilled, .. } => "the same, client killed",
            Blow::Rot { .. } => "bricks rotten, scrubbed",
            Blow::Scrub => "scrub beside all else",
        }
    }

    /// The next blow.
    pub(super) fn choose(random: &mut Random, targets: Targets<'_>) -> Blow {
        let Targets { current, bearable, spare } = targets;
        let brick = random.pick(current);
        match random.below(100) {
            0..26 => Blow::Blink(brick),
            26..38 => Blow::BlinkAll,
            38..50 => Blow::Pause { brick, ms: 50 + random.below(900) },
            50..57 => Blow::PauseClient { ms: 50 + random.below(900) },
            57..63 if bearable > 0 => Blow::Lose(brick),
            63..69 if bearable > 0 => Blow::Freeze(brick),
            69..80 if bearable > 0 && spare => {
                let amid = random.pick(&[Amid::Nothing, Amid::SpareKilled, Amid::ClientKilled]);
                Blow::Replace { brick, amid }
            }
            80..92 if bearable > 0 => Blow::Rot { bricks: 1 + random.below(bearable as u64) as usize },
            92.. => Blow::Scrub,
            _ => Blow::Blink(brick),
        }
    }

    /// Whether nothing else comes after it before everything is compared.
    pub(super) fn is_last(self) -> bool {
        matches!(self, Blow::Replace { amid: Amid::ClientKilled, .. })
    }
}

/// How the work of the writers ends before everything is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// They stop; what the kernel remembers is forgotten.
    Stop,
    /// They stop; the volume is unmounted and mounted.
    Remount,
    /// The client is killed under them.
    ClientKilled,
    /// The client and some servers are killed under them.
    SomeKilled,
    /// The client and every server are killed under them.
    AllKilled,
}

impl End {
    /// What it is called in the summary.
    pub(super) fn name(self) -> &'static str {
        match self {
            End::Stop => "stopped and compared",
            End::Remount => "remounted and compared",
            End::ClientKilled => "client killed",
            End::SomeKilled => "client, servers killed",
            End::AllKilled => "client, all killed",
        }
    }

    pub(super) fn choose(random: &mut Random) -> End {
        random.pick(&[
            End::Stop,
            End::Remount,
            End::ClientKilled,
            End::ClientKilled,
            End::SomeKilled,
            End::AllKilled,
            End::AllKilled,
        ])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(targets: Targets<'_>) -> BTreeSet<&'static str> {
        let mut random = Random::new(1);
        (0..1000).map(|_| Blow::choose(&mut random, targets).name()).collect()
    }

    #[test]
    fn every_blow_comes_and_none_that_cannot_be_borne() {
        let current = &[0, 2, 3][..];
        assert_eq!(names(Targets { current, bearable: 2, spare: true }).len(), 11);
        let without_spare = names(Targets { current, bearable: 1, spare: false });
        assert!(without_spare.len() == 8 && without_spare.contains("server killed for good"), "{without_spare:?}");
        let unbearable = names(Targets { current, bearable: 0, spare: true });
        assert_eq!(unbearable.len(), 5, "{unbearable:?}");
        let mut random = Random::new(2);
        let rotten = |_| match Blow::choose(&mut random, Targets { current, bearable: 2, spare: true }) {
            Blow::Rot { bricks } => Some(bricks),
            _ => None,
        };
        assert_eq!((0..1000).filter_map(rotten).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
    }
}
