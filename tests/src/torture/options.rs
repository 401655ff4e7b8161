//! The command line of `net_raid_torture`.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::array::Array;

/// What `--help` prints.
pub const HELP: &str = "\
Writes self-describing blocks to a mounted volume while its servers and its client are killed with -9, frozen and
started again, servers are replaced by spares, and files on bricks rot, and checks that every acknowledged byte is
there.

usage: net_raid_torture [--minutes M] [--raid 1|5|6] [--servers N] [--seed S]

  --minutes M   how long (1)
  --raid LEVEL  1, 5 or 6 (6)
  --servers N   how many (2, 3 or 4, the fewest of the level)
  --seed S      repeats the choices of an earlier run, as far as processes do the same twice

Exit status: 0 when nothing was lost; 1 when something was, which is described, and the bricks are kept; 2 for a wrong
command line.";

/// What to torture, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How long.
    pub minutes: f64,
    /// Of what.
    pub array: Array,
    /// What all choices come from.
    pub seed: u64,
    /// Claim once that something was acknowledged that was not: the checker has to find out.
    pub lie: bool,
}

impl Options {
    /// Reads the arguments; `None` when help is asked for.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Options>, String> {
        let (mut minutes, mut level, mut bricks, mut seed, mut lie) = (1.0, 6, None, clock(), false);
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--minutes" => minutes = number(&argument, &value()?)?,
                "--raid" => level = number(&argument, &value()?)?,
                "--servers" => bricks = Some(number(&argument, &value()?)?),
                "--seed" => seed = number(&argument, &value()?)?,
                "--lie" => lie = true,
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("unknown argument {other}")),
            }
        }
        let fewest = match level {
            1 => 2,
            5 => 3,
            6 => 4,
            other => return Err(format!("--raid {other}: 1, 5 or 6")),
        };
        let bricks = bricks.unwrap_or(fewest);
        if !(fewest..=16).contains(&bricks) {
            return Err(format!("--servers {bricks}: {fewest} to 16 for RAID-{level}"));
        }
        if !(minutes > 0.0 && minutes < 1e6) {
            return Err(format!("--minutes {minutes}: more than 0"));
        }
        Ok(Some(Options { minutes, array: Array { level, bricks }, seed, lie }))
    }
}

fn number<T: std::str::FromStr>(argument: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{argument} {value}: not a number"))
}

fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments() {
        let array = Array { level: 5, bricks: 4 };
        let wanted = Options { minutes: 0.5, array, seed: 7, lie: true };
        assert_eq!(parse("--minutes 0.5 --raid 5 --servers 4 --seed 7 --lie"), Ok(Some(wanted)));
        assert_eq!(parse("").unwrap().unwrap().array, Array::RAID6_NARROW);
        assert_eq!(parse("--raid 1 --help"), Ok(None));
        for wrong in ["--raid 2", "--raid", "--servers 3 --raid 6", "--minutes 0", "--minutes x", "--seed -1", "now"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
