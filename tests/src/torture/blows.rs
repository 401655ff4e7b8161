//! What servers and client have to endure.

use super::random::Random;

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
        }
    }

    /// The next blow to an array whose members `current` may be hit; one of them may be lost if `spare`.
    pub(super) fn choose(random: &mut Random, current: &[usize], spare: bool) -> Blow {
        let brick = random.pick(current);
        match random.below(100) {
            0..40 => Blow::Blink(brick),
            40..55 => Blow::BlinkAll,
            55..75 => Blow::Pause { brick, ms: 50 + random.below(900) },
            75..85 => Blow::PauseClient { ms: 50 + random.below(900) },
            85..93 if spare => Blow::Lose(brick),
            93.. if spare => Blow::Freeze(brick),
            _ => Blow::Blink(brick),
        }
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
