//! The command line of `net_raid_bench`.

use std::path::PathBuf;

use crate::array::Array;

/// What `--help` prints.
pub const HELP: &str = "\
Times the same workloads on volumes of all levels, with every server and the client on this machine and default settings,
and on what is to be compared with them. All take turns.

usage: net_raid_bench [--quick] [--raid 1|5|6]... [--peer] [--floor] [--rounds N] [--json FILE]

  --quick       small sizes, one round, in less than three minutes: says what is slow, not how fast
  --raid LEVEL  only this level; may be given again
  --peer        GlusterFS beside each level: replica 2, disperse 2+1, disperse 4+2
  --floor       a FUSE file system that passes everything on to a local directory
  --rounds N    turns of each; a figure is the median of them (3)
  --json FILE   where all figures go, beside the table (bench.json)

Exit status: 0; 1 when something could not be measured; 2 for a wrong command line.";

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Small sizes.
    pub quick: bool,
    /// Of these.
    pub arrays: Vec<Array>,
    /// And of the peer's like.
    pub peer: bool,
    /// And of what FUSE allows.
    pub floor: bool,
    /// How many turns each has.
    pub rounds: usize,
    /// Where the figures go.
    pub json: PathBuf,
}

impl Options {
    /// Reads the arguments; `None` when help is asked for.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Options>, String> {
        let (mut quick, mut peer, mut floor, mut rounds) = (false, false, false, None);
        let (mut arrays, mut json) = (Vec::new(), PathBuf::from("bench.json"));
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => quick = true,
                "--peer" => peer = true,
                "--floor" => floor = true,
                "--raid" => arrays.push(array_of(&value()?)?),
                "--rounds" => rounds = Some(value()?.parse().map_err(|_| "--rounds needs a number".to_string())?),
                "--json" => json = value()?.into(),
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("unknown argument {other}")),
            }
        }
        if arrays.is_empty() {
            arrays = vec![Array::RAID1, Array::RAID5, Array::RAID6];
        }
        let rounds = rounds.unwrap_or(if quick { 1 } else { 3 });
        if rounds == 0 {
            return Err("--rounds 0: at least one".into());
        }
        Ok(Some(Options { quick, arrays, peer, floor, rounds, json }))
    }
}

fn array_of(level: &str) -> Result<Array, String> {
    match level {
        "1" => Ok(Array::RAID1),
        "5" => Ok(Array::RAID5),
        "6" => Ok(Array::RAID6),
        other => Err(format!("--raid {other}: 1, 5 or 6")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments() {
        let all = parse("").unwrap().unwrap();
        assert_eq!((all.rounds, all.arrays.len(), all.quick), (3, 3, false));
        assert_eq!(parse("--quick").unwrap().unwrap().rounds, 1);
        let some = parse("--raid 1 --raid 6 --rounds 5 --peer --json x").unwrap().unwrap();
        let wanted = vec![Array::RAID1, Array::RAID6];
        assert_eq!(
            some,
            Options { quick: false, arrays: wanted, peer: true, floor: false, rounds: 5, json: "x".into() }
        );
        assert_eq!(parse("--peer --help"), Ok(None));
        for wrong in ["--raid 2", "--raid", "--rounds 0", "--rounds x", "--json", "now"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
