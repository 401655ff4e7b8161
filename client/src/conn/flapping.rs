//! A server that breaks off again and again is left alone, for longer and longer.
//!
//! Each break delays what is under way, and each return costs the other servers work. A server whose power supply or cable is failing
//! would wear the volume out.

use std::time::Duration;

use tokio::time::Instant;

/// A stream that lasted for so long was a good one: breaks before it do not count any more.
const CALM: Duration = Duration::from_secs(60);
/// Breaks, each less than `CALM` after the one before, that are just breaks: somebody restarts a server, or works at a cable.
const BREAKS: u32 = 5;
/// How long it is left alone after one more, and at most; each break doubles it.
const ALONE: Duration = Duration::from_secs(5);
const ALONE_MAX: Duration = Duration::from_secs(600);

/// How often one server broke off lately.
#[derive(Debug, Default)]
pub(super) struct Flapping {
    breaks: u32,
    alone_until: Option<Instant>,
}

impl Flapping {
    /// A stream broke that began at `since`; for how long the server is left alone for that, if it is.
    pub(super) fn broke(&mut self, since: Instant, now: Instant) -> Option<Duration> {
        self.breaks = if now.duration_since(since) < CALM { self.breaks.saturating_add(1) } else { 1 };
        let more = self.breaks.checked_sub(BREAKS + 1)?;
        let alone = ALONE.saturating_mul(1 << more.min(16)).min(ALONE_MAX);
        self.alone_until = Some(now + alone);
        Some(alone)
    }

    /// Until when the server is left alone; not in the past.
    pub(super) fn alone_until(&self, now: Instant) -> Option<Instant> {
        self.alone_until.filter(|until| *until > now)
    }

    /// It is needed.
    pub(super) fn pardon(&mut self) {
        self.alone_until = None;
    }

    /// How it is said.
    pub(super) fn words(&self, alone: Duration) -> String {
        format!("its connection broke {} times in short order: left alone for {} s", self.breaks, alone.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of breaks, each so many seconds after the stream began.
    fn alone(flapping: &mut Flapping, mut now: Instant, lasted: &[u64]) -> Vec<Option<u64>> {
        let mut broke = |lasted: &u64| {
            let since = now;
            now += Duration::from_secs(*lasted);
            let alone = flapping.broke(since, now);
            assert_eq!(flapping.alone_until(now), alone.map(|alone| now + alone));
            now += alone.unwrap_or_default();
            assert_eq!(flapping.alone_until(now), None);
            alone.map(|alone| alone.as_secs())
        };
        lasted.iter().map(&mut broke).collect()
    }

    #[test]
    fn a_server_that_flaps_is_left_alone_longer_and_longer() {
        let mut flapping = Flapping::default();
        let start = Instant::now();
        assert_eq!(alone(&mut flapping, start, &[6; 5]), [None; 5]);
        assert_eq!(alone(&mut flapping, start, &[6; 9]), [5, 10, 20, 40, 80, 160, 320, 600, 600].map(Some));
        assert_eq!(alone(&mut flapping, start + ALONE_MAX * 4, &[60, 6]), [None; 2]);
    }

    #[test]
    fn a_break_now_and_then_is_a_break() {
        let breaks = [3600, 1, 60, 1, 1, 300, 1, 1, 1, 1];
        assert_eq!(alone(&mut Flapping::default(), Instant::now(), &breaks), [None; 10]);
    }

    #[test]
    fn who_is_needed_is_pardoned() {
        let (mut flapping, now) = (Flapping::default(), Instant::now());
        let alone = (0..=BREAKS).filter(|_| flapping.broke(now, now).is_some()).count();
        assert_eq!((alone, flapping.alone_until(now).is_some()), (1, true));
        flapping.pardon();
        assert_eq!(flapping.alone_until(now), None);
    }
}
