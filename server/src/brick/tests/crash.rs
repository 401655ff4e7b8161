//! Histories of requests on a simulated disk, with a crash at every call that changes it: the process is killed, or the
//! machine loses power. Then the brick must open, and hold what it may hold.

mod costs;
mod failures;
mod history;
mod model;
mod rig;

use std::collections::BTreeSet;

use self::model::{File, Model, Names, Step, Version};
use self::rig::{Owner, SimRig};
use super::*;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;

/// Blocks of each file that are looked at: a whole unit and a half.
const BLOCKS: usize = 24;
const DIRECTORY: u64 = 5;
const PATHS: [&str; 6] = ["a", "b", "c", "d/a", "d/b", "d/c"];

/// A crash during a step: the models of before and after it.
#[derive(Clone, Copy)]
struct Scene<'a> {
    before: &'a Model,
    after: &'a Model,
    lost_power: bool,
}

impl Scene<'_> {
    fn check(&self, rig: &SimRig) {
        let found = rig.names();
        self.check_names(&found);
        for number in found.values().collect::<BTreeSet<_>>() {
            self.check_file(rig, *number);
        }
    }

    fn check_names(&self, found: &Names) {
        let allowed: Vec<&Names> = if self.lost_power {
            self.before.names.iter().chain(&self.after.names).collect()
        } else {
            vec![self.before.names(), self.after.names()]
        };
        assert!(allowed.contains(&found), "names are {found:?}, not one of {allowed:?}");
        for (number, file) in &self.before.files {
            let gone = !self.after.names().values().any(|named| named == number);
            let Some(synced) = file.synced_names.as_ref().filter(|_| !gone) else { continue };
            let after = self.after.names().iter().filter(|(_, named)| *named == number).map(|(path, _)| path);
            let kept = synced.iter().chain(after).any(|path| found.get(path) == Some(number));
            assert!(kept, "file {number} was synced as {synced:?} and is lost");
        }
    }

    fn check_file(&self, rig: &SimRig, number: u64) {
        let after = &self.after.files[&number];
        let before = self.before.files.get(&number).unwrap_or(after);
        let (blocks, size) = (rig.blocks(number), rig.size(number));
        let lens: Vec<u64> = if self.lost_power {
            before.lens.iter().chain(&after.lens).copied().collect()
        } else {
            vec![before.len(), after.len()]
        };
        let sizes = lens.iter().map(|len| after.size_of(*len));
        let (least, most) = (sizes.clone().min().unwrap_or(0), sizes.clone().max().unwrap_or(0));
        // A file may end between two lengths, in zeros: of a write that made it longer, not all was there.
        let right = (least..=most).contains(&size);
        assert!(right, "file {number} has size {size}, allowed are {:?}", sizes.collect::<Vec<_>>());
        for (index, (content, found)) in blocks.iter().enumerate() {
            self.check_block((before, after), index, content, *found);
        }
    }

    fn check_block(&self, (before, after): (&File, &File), index: usize, content: &[u8], found: Digest) {
        let zeros = content.iter().all(|byte| *byte == 0);
        let matches = if found == Digest::HOLE { zeros } else { found == digest(content) };
        assert!(matches, "block {index} does not match its digest (hole: {})", found == Digest::HOLE);
        let allowed: Vec<Version> = if self.lost_power {
            before.blocks[index].iter().chain(&after.blocks[index]).copied().collect()
        } else {
            vec![before.now(index), after.now(index)]
        };
        let known = allowed.iter().any(|version| version.content() == content);
        assert!(known, "block {index} is none of {allowed:?} (zeros: {zeros})");
    }

    /// The brick works on: a file can be overwritten, and all of it gets in place.
    fn go_on(&self, mut rig: SimRig) {
        if rig.owner.epoch > 1 {
            // As a new owner does it before it serves: generations of the last one are in place, and its logs free.
            rig.complete();
            self.check(&rig);
        }
        let Some(number) = rig.names().values().next().copied() else { return };
        let file = &self.after.files[&number];
        // Beyond what any step wrote, and over what one wrote: fresh and overwritten.
        let (block, len) = (BLOCKS - 2, 2 * BLOCK_SIZE);
        for seed in [9000, 9001] {
            rig.write(number, file, (block, len, seed)).expect("written");
        }
        rig.ok(Request::Fsync { id: id(number), data_only: true });
        rig.complete();
        let disk = rig.disk.power_loss(7);
        let rig = SimRig::reopen(disk, rig.owner.after_power_loss(), true);
        rig.names();
        for (index, (content, found)) in rig.blocks(number)[block..].iter().enumerate() {
            assert_eq!(*content, Version { seed: 900_100 + index as u64, len: BLOCK_SIZE }.content());
            assert_eq!(*found, digest(content));
        }
    }
}

/// How much is tried at each crash.
struct Effort {
    power_losses: u64,
    /// One of so many crashes is followed by work, and by crashes of the brick that opens after it.
    deep_one_in: usize,
    /// Internal file whose syncs do nothing.
    lying: Option<&'static str>,
}

impl Effort {
    /// Breaks what is to be broken of a disk.
    fn prepare(&self, disk: &SimDisk) {
        let Some(file) = self.lying else { return };
        let root = disk.root().expect("a root");
        let (file, _) = disk.open(&root, &[&name(".net_raid"), &name(file)]).expect("an internal file");
        disk.lie_about_syncs_of(&file);
    }
}

/// Runs a history, and checks every crash that could happen in it.
fn run(ownership: Ownership, mut steps: impl FnMut(&Model) -> Option<Step>, effort: &Effort) -> usize {
    let mut tried = 0;
    let (mut rig, mut before) = (SimRig::new(ownership), Model::new());
    effort.prepare(&rig.disk);
    while let Some(step) = steps(&before) {
        let mut after = before.clone();
        after.apply(&step);
        rig.disk.note_crashes();
        rig.step(&before, &step);
        let crashes = rig.disk.take_crashes();
        for crash in &crashes {
            tried += 1;
            let deep = tried % effort.deep_one_in == 0;
            println!("{step:?}, call {}, killed", crash.call);
            let scene = Scene { before: &before, after: &after, lost_power: false };
            survive(&scene, rig.owner, crash.killed(), deep);
            for seed in 0..effort.power_losses {
                let seed = seed << 32 | tried as u64;
                println!("{step:?}, call {}, power lost, seed {seed}", crash.call);
                let scene = Scene { lost_power: true, ..scene };
                survive(&scene, rig.owner, crash.power_loss(seed), deep);
            }
        }
        // What was answered holds without the next step, too.
        let scene = Scene { before: &after, after: &after, lost_power: false };
        survive(&scene, rig.owner, rig.disk.clone_as_killed(), false);
        before = after;
    }
    tried
}

/// The brick opens after a crash of `owner`'s time, holds what it may, and goes on.
fn survive(scene: &Scene<'_>, owner: Owner, disk: SimDisk, deep: bool) {
    let now = if scene.lost_power { owner.after_power_loss() } else { owner };
    if deep {
        disk.note_crashes();
    }
    let reopened = SimRig::reopen(disk.clone(), now, scene.lost_power);
    for crash in disk.take_crashes() {
        println!("again at call {}", crash.call);
        // Whether the new owner was accepted is not known: the next one is newer.
        let next = if scene.lost_power { now.next() } else { now };
        scene.check(&SimRig::reopen(crash.killed(), next, scene.lost_power));
        let scene = Scene { lost_power: true, ..*scene };
        scene.check(&SimRig::reopen(crash.power_loss(crash.call), now.after_power_loss(), true));
    }
    scene.check(&reopened);
    if deep {
        scene.go_on(reopened);
    }
}
