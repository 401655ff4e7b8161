//! What programs bring to a target: made anew each time, always the same.

use std::fs;
use std::path::Path;

use super::workloads::Inputs;
use crate::process::sh;
use crate::random::Random;

/// Files of the tree: as in the sources of a larger program.
const FILES: usize = 4000;
const SMALLEST: u64 = 200;
const LARGEST: u64 = 1 << 17;

/// Makes an archive and a repository below `dir`, of a part of the full size.
pub(super) fn make(dir: &Path, part: usize) -> Inputs {
    let (mut random, tree) = (Random::new(42), dir.join("tree"));
    for i in 0..FILES / part {
        let home = tree.join(format!("a{}/b{}/c{}", i % 5, i % 25, i % 200));
        fs::create_dir_all(&home).expect("mkdir");
        fs::write(home.join(format!("file{i:04}.txt")), text(&mut random)).expect("write");
    }
    let (archive, repository) = (dir.join("tree.tar"), dir.join("repository"));
    sh(dir, "tar -cf tree.tar tree; mv tree repository; git init -q repository");
    // A quarter of it, in a few commits.
    let commit = "git -c user.name=a -c user.email=a@b -c gc.auto=0 commit -q -m";
    sh(&repository, &format!("for i in 0 1 2 3 4; do git add a$i/b$i a$i/b$((i + 5)); {commit} $i; done; rm -rf a?"));
    Inputs { archive, repository }
}

/// Words, of a length that halves as it doubles: most are small, some large.
fn text(random: &mut Random) -> Vec<u8> {
    let mut len = SMALLEST + random.below(8 * SMALLEST);
    while len < LARGEST && random.percent(50) {
        len *= 2;
    }
    let mut text = Vec::with_capacity(len as usize);
    while (text.len() as u64) < len {
        text.extend(format!("w{} ", random.below(5000)).bytes());
    }
    text
}
