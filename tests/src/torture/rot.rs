//! What rots on a brick, behind the back of its server.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::random::Random;
use crate::scrub::try_flip;

/// The most files of a brick that rot at once.
const MOST: u64 = 8;
/// Where a brick keeps what is not of the tree.
const AREA: &str = ".net_raid";

/// Something that is done to a file of a brick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rot {
    FlipData,
    CutData,
    Remove,
    FlipRecord,
    CutRecords,
}

impl Rot {
    /// A record file that goes is missed only when the brick opens it again (docs/faults.md), so that none is removed here.
    fn choose(random: &mut Random) -> Rot {
        random.pick(&[
            Rot::FlipData,
            Rot::FlipData,
            Rot::FlipData,
            Rot::CutData,
            Rot::Remove,
            Rot::FlipRecord,
            Rot::FlipRecord,
            Rot::CutRecords,
        ])
    }

    /// `false` where the file is empty.
    fn inflict(self, file: &Path, random: &mut Random) -> io::Result<bool> {
        let len = fs::metadata(file)?.len();
        if len == 0 {
            return Ok(false);
        }
        match self {
            Rot::FlipData | Rot::FlipRecord => try_flip(file, random.below(len)),
            Rot::CutData | Rot::CutRecords => {
                File::options().write(true).open(file)?.set_len(random.below(len)).map(|()| true)
            }
            Rot::Remove => fs::remove_file(file).map(|()| true),
        }
    }
}

/// Hurts some files of a brick; returns what was done to which.
///
/// # Panics
/// A file cannot be hurt for another reason than that it is gone by now.
pub(super) fn rot(brick: &Path, random: &mut Random) -> Vec<String> {
    let mut done = Vec::new();
    for _ in 0..1 + random.below(MOST) {
        let rot = Rot::choose(random);
        let files = match rot {
            Rot::FlipData | Rot::CutData | Rot::Remove => files(brick),
            Rot::FlipRecord | Rot::CutRecords => files(&brick.join(AREA).join("records")),
        };
        if files.is_empty() {
            continue;
        }
        let file = &files[random.below(files.len() as u64) as usize];
        match rot.inflict(file, random) {
            Ok(true) => done.push(format!("{rot:?} {}", file.strip_prefix(brick).unwrap_or(file).display())),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{rot:?} {}: {error}", file.display()),
        }
    }
    done
}

/// Files below `dir`, in the order of their names, but for what is in the brick's own area. Any may be gone by now.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && entry.file_name() != AREA => waiting.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::Workdir;

    #[test]
    fn what_rots_is_not_what_it_was() {
        let work = Workdir::new();
        let brick = work.make_dir("brick");
        let records = brick.join(AREA).join("records/0a");
        fs::create_dir_all(&records).unwrap();
        fs::write(brick.join(AREA).join("label.0"), "label").unwrap();
        let (data, record) = (brick.join("data"), records.join("1"));
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..100 {
            fs::write(&data, [1; 5000]).unwrap();
            fs::write(&record, [2; 264]).unwrap();
            let done = rot(&brick, &mut Random::new(seed));
            let is_hurt = fs::read(&data).ok() != Some(vec![1; 5000]) || fs::read(&record).unwrap() != [2; 264];
            // Two flips may undo each other.
            assert!(is_hurt || done.len() != 1, "{done:?}");
            kinds.extend(done.iter().map(|done| done.split(' ').next().unwrap().to_owned()));
        }
        assert_eq!(kinds.len(), 5, "{kinds:?}");
        assert_eq!(fs::read(brick.join(AREA).join("label.0")).unwrap(), b"label");
    }
}
