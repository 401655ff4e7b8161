//! Who has which slot, and who is out, as the error log tells.

use std::collections::BTreeSet;

/// What the members of a volume are so far. Bricks are numbered as in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Members {
    /// The brick of each slot.
    bricks: Vec<usize>,
    /// Slots whose brick was dropped, or is a spare that was put there, and has not caught up since.
    out: BTreeSet<usize>,
    /// How often each brick had its slot taken by a spare.
    replaced: Vec<usize>,
}

impl Members {
    /// From the error log of a volume whose slots had the first of the bricks at `addresses` when it was formed.
    pub(super) fn read(log: &str, addresses: &[String], slots: usize) -> Members {
        let mut members =
            Members { bricks: (0..slots).collect(), out: BTreeSet::new(), replaced: vec![0; addresses.len()] };
        for line in log.lines() {
            // Time, volume, server, and what happened.
            let mut words = line.splitn(4, ' ').skip(2);
            let (Some(server), Some(event)) = (words.next(), words.next()) else { continue };
            if let Some(brick) = addresses.iter().position(|address| address == server) {
                members.note(brick, event);
            }
        }
        members
    }

    fn note(&mut self, brick: usize, event: &str) {
        if event.starts_with("server back, stays out until caught up") {
            self.out.extend(self.slot_of(brick));
            return;
        }
        let Some((what, rest)) = event.split_once(", slot ") else { return };
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let Some(slot) = number.parse().ok().filter(|slot| *slot < self.bricks.len()) else { return };
        let is_out = match what {
            "member dropped" | "copy to spare started" | "catch-up started" => true,
            "member caught up" => false,
            _ => return,
        };
        let before = std::mem::replace(&mut self.bricks[slot], brick);
        if before != brick {
            self.replaced[before] += 1;
        }
        if is_out {
            self.out.insert(slot)
        } else {
            self.out.remove(&slot)
        };
    }

    fn slot_of(&self, brick: usize) -> Option<usize> {
        self.bricks.iter().position(|member| *member == brick)
    }

    /// Whether a brick has a slot.
    pub(super) fn has(&self, brick: usize) -> bool {
        self.slot_of(brick).is_some()
    }

    /// Whether a brick has a slot, and misses something.
    pub(super) fn is_out(&self, brick: usize) -> bool {
        self.slot_of(brick).is_some_and(|slot| self.out.contains(&slot))
    }

    /// How many slots have a brick that misses something.
    pub(super) fn out(&self) -> usize {
        self.out.len()
    }

    /// Bricks that miss nothing.
    pub(super) fn current(&self) -> Vec<usize> {
        self.bricks.iter().copied().filter(|brick| !self.is_out(*brick)).collect()
    }

    /// How often a spare took the slot of a brick.
    pub(super) fn replaced(&self, brick: usize) -> usize {
        self.replaced[brick]
    }

    /// How often a spare took a slot.
    pub(super) fn replacements(&self) -> usize {
        self.replaced.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(events: &[(usize, &str)]) -> Members {
        let addresses: Vec<String> = (0..4).map(|brick| format!("127.0.0.1:{brick}")).collect();
        let line =
            |(brick, event): &(usize, &str)| format!("2026-11-30T01:00:00.000Z V {} {event}\n", addresses[*brick]);
        let log: String = events.iter().map(line).collect();
        Members::read(&log, &addresses, 3)
    }

    #[test]
    fn who_is_dropped_is_out_until_it_has_caught_up() {
        let mut events = vec![(0, "connected at start"), (1, "member dropped, slot 1: it missed something")];
        assert_eq!((members(&events).current(), members(&events).out()), (vec![0, 2], 1));
        events.push((1, "member caught up, slot 1: files 1, bytes 2, seconds 3"));
        assert_eq!((members(&events).current(), members(&events).out()), (vec![0, 1, 2], 0));
        events.push((2, "server back, stays out until caught up"));
        assert!(members(&events).is_out(2), "the client before dropped it, and said nothing");
        events.push((2, "server back, up to date"));
        assert!(members(&events).is_out(2), "its connection, not its bytes");
    }

    #[test]
    fn a_spare_has_the_slot_and_is_out_until_it_has_everything() {
        for event in ["copy to spare started, slot 0", "catch-up started, slot 0"] {
            let mut events = vec![(0, "member dropped, slot 0: it was out of reach"), (3, event)];
            let with_spare = members(&events);
            assert!(
                with_spare.has(3) && with_spare.is_out(3) && !with_spare.has(0) && !with_spare.is_out(0),
                "{event}"
            );
            assert_eq!((with_spare.out(), with_spare.replaced(0), with_spare.replacements()), (1, 1, 1));
            events.push((3, "member caught up, slot 0: files 1, bytes 2, seconds 3"));
            assert_eq!((members(&events).current(), members(&events).out()), (vec![3, 1, 2], 0));
        }
    }

    #[test]
    fn other_lines_say_nothing() {
        let all = members(&[]);
        let events =
            [(0, "server lost: connection reset"), (0, "catch-up broken off, and tried again, slot 7: x"), (1, "")];
        assert_eq!(members(&events), all);
        assert_eq!(Members::read("no line\n\nof a V - volume", &["-".into()], 1).out(), 0);
    }
}
