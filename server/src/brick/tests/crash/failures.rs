//! Histories in which each call to the disk fails in turn, for want of space or for good.

use super::*;

/// What became of a request while one call failed.
struct Outcome {
    rig: SimRig,
    answer: Answer,
    errno: i32,
}

/// Does something as often as it makes calls, on a brick that is opened anew each time; another call fails each time.
fn each_failure(
    base: &SimRig,
    errno: i32,
    act: impl Fn(&mut SimRig) -> Answer,
    mut verify: impl FnMut(Outcome),
) -> usize {
    for number in 0.. {
        let mut rig = SimRig::reopen(base.disk.clone_as_killed(), base.owner, false);
        let call = rig.disk.calls() + number;
        rig.disk.fail(call, errno);
        let answer = act(&mut rig);
        if rig.disk.calls() <= call {
            return number as usize;
        }
        println!("call {number} fails with {errno}: {answer:?}");
        verify(Outcome { rig, answer, errno });
    }
    unreachable!("a request ends")
}

impl Outcome {
    /// The promise: a full disk is told to the caller and changes nothing, and the request can be made again; any other
    /// failure, and every failed sync, ends the brick until it is started again. What it holds then is in `scene`.
    ///
    /// `noted`: the request may be in the log for good before it wants space.
    fn check(mut self, scene: &Scene<'_>, noted: bool, act: impl Fn(&mut SimRig) -> Answer) {
        let (before, after) = (scene.before, scene.after);
        let synced = !self.rig.disk.sync_has_failed();
        match &self.answer {
            Ok(_) => assert!(synced, "a failed sync was hidden"),
            Err(Fault::Errno(errno)) => {
                assert!(synced && *errno == libc::ENOSPC && self.errno == libc::ENOSPC, "{errno}");
                Scene { after: before, ..*scene }.check(&self.rig);
                act(&mut self.rig).expect("there is space again");
            }
            Err(Fault::Failed(_)) => {
                assert!(!synced || noted || self.errno == libc::EIO, "a full disk is no failure");
                for request in
                    [Request::Ping, Request::GetAttr { id: ROOT }, Request::Fsync { id: ROOT, data_only: true }]
                {
                    assert!(matches!(self.rig.query(request), Err(Fault::Failed(_))), "it goes on");
                }
            }
            other => panic!("{other:?}"),
        }
        let exact = Scene { before: after, ..*scene };
        let scene = if matches!(self.answer, Err(Fault::Failed(_))) { scene } else { &exact };
        if self.rig.query(Request::Ping).is_ok() {
            scene.check(&self.rig);
        }
        let owner = self.rig.owner;
        scene.check(&SimRig::reopen(self.rig.disk.clone_as_killed(), owner, false));
    }
}

fn history(level: Level) -> Vec<Step> {
    let write = |block, len, seed| Step::Write { file: 10, block, len, seed };
    vec![
        Step::Create { path: "a", file: 10, level },
        write(0, 3 * BLOCK_SIZE + 10, 1),
        Step::Fsync { file: 10 },
        write(1, 2 * BLOCK_SIZE, 2),
        write(2, 18 * BLOCK_SIZE, 3),
        Step::Abort,
        write(15, 4 * BLOCK_SIZE, 4),
        Step::Link { file: 10, path: "d/b" },
        Step::Checkpoint,
        write(0, 5 * BLOCK_SIZE, 5),
        Step::Complete,
        Step::Truncate { file: 10, blocks: 17 },
        write(17, 3 * BLOCK_SIZE, 6),
        Step::Punch { file: 10, unit: 0 },
        Step::Allocate { file: 10, blocks: 23 },
        Step::Create { path: "c", file: 11, level },
        Step::Rename { from: "c", to: "a", keep: true },
        Step::Checkpoint,
        Step::Complete,
        Step::Rename { from: "d/b", to: "b", keep: false },
        Step::Unlink { path: "a", keep: false },
        Step::Fsync { file: 10 },
    ]
}

fn run_with_failures(ownership: Ownership, level: Level, errno: i32) {
    let (mut rig, mut before, mut tried) = (SimRig::new(ownership), Model::new(), 0);
    for step in history(level) {
        println!("{step:?}");
        let mut after = before.clone();
        after.apply(&step);
        let scene = Scene { before: &before, after: &after, lost_power: false };
        let noted = matches!(step, Step::Truncate { .. } | Step::Punch { .. });
        let act = |rig: &mut SimRig| rig.attempt(&before, &step);
        tried += each_failure(&rig, errno, act, |outcome| outcome.check(&scene, noted, act));
        rig.step(&before, &step);
        before = after;
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn a_full_disk_is_told_and_forgotten_at_every_call() {
    run_with_failures(Ownership::Recorded, Level::Raid1, libc::ENOSPC);
    run_with_failures(Ownership::Native, Level::Raid5, libc::ENOSPC);
}

#[test]
fn a_broken_disk_ends_the_brick_at_every_call() {
    run_with_failures(Ownership::Recorded, Level::Raid5, libc::EIO);
    run_with_failures(Ownership::Native, Level::Raid1, libc::EIO);
}

/// What is written to the label, and what is done as a brick opens.
#[test]
fn labels_and_starts_bear_every_failure() {
    let (mut rig, mut model) = (SimRig::new(Ownership::Recorded), Model::new());
    for step in history(Level::Raid5).into_iter().take(11) {
        rig.step(&model, &step);
        model.apply(&step);
    }
    let scene = Scene { before: &model, after: &model, lost_power: false };
    for errno in [libc::ENOSPC, libc::EIO] {
        let membership = Membership { version: 2, ..label().membership };
        let set = |rig: &mut SimRig| rig.query(Request::SetMembership { membership: membership.clone() });
        assert!(each_failure(&rig, errno, set, |outcome| outcome.check(&scene, false, set)) >= 3);
        let own = |rig: &mut SimRig| {
            rig.owner.epoch += 1;
            let answer = rig.try_own();
            // The owner before goes on.
            rig.owner.epoch -= u64::from(matches!(answer, Err(Fault::Errno(_))));
            answer
        };
        assert!(each_failure(&rig, errno, own, |outcome| outcome.check(&scene, false, own)) >= 3);
        for owner in [rig.owner, rig.owner.after_power_loss()] {
            opens_after_each_failure(&rig.disk, owner, errno, &scene);
        }
    }
}

fn opens_after_each_failure(disk: &SimDisk, owner: Owner, errno: i32, scene: &Scene<'_>) {
    for call in 0.. {
        let disk = disk.clone_as_killed();
        disk.fail(call, errno);
        let opened = owner.try_open(&disk).map(drop);
        if disk.calls() <= call {
            break;
        }
        println!("opening, call {call} fails with {errno}: {opened:?}");
        scene.check(&SimRig::reopen(disk.clone_as_killed(), owner, false));
    }
}

/// A disk without a free block: what is there can be overwritten for ever, cut and removed, and then there is space.
#[test]
fn a_full_disk_wedges_nothing() {
    for ownership in [Ownership::Recorded, Ownership::Native] {
        let (mut rig, mut model) = (SimRig::new(ownership), Model::new());
        let step = |rig: &mut SimRig, model: &mut Model, step: Step| {
            rig.step(model, &step);
            model.apply(&step);
        };
        let level = Level::Raid1;
        for (path, file) in [("a", 10), ("b", 11)] {
            step(&mut rig, &mut model, Step::Create { path, file, level });
            step(&mut rig, &mut model, Step::Write { file, block: 0, len: BLOCKS * BLOCK_SIZE, seed: file });
        }
        step(&mut rig, &mut model, Step::Checkpoint);
        step(&mut rig, &mut model, Step::Complete);
        rig.disk.set_capacity(0);
        let mut full = 0;
        for seed in 100..200 {
            let write = Step::Write { file: 10, block: 1, len: 20 * BLOCK_SIZE, seed };
            if rig.attempt(&model, &write).is_err_and(|fault| fault == Fault::Errno(libc::ENOSPC)) {
                full += 1;
                // The log is: a checkpoint makes room, and taking back and cutting go on.
                step(&mut rig, &mut model, Step::Punch { file: 11, unit: 1 });
                rig.disk.set_capacity(0);
                step(&mut rig, &mut model, Step::Checkpoint);
                step(&mut rig, &mut model, Step::Complete);
                rig.step(&model, &write);
            }
            model.apply(&write);
        }
        assert!(full > 2, "the log was full {full} times");
        let fresh = Step::Write { file: 11, block: 20, len: BLOCK_SIZE, seed: 300 };
        assert_eq!(rig.attempt(&model, &fresh), Err(Fault::Errno(libc::ENOSPC)));
        let scene = Scene { before: &model, after: &model, lost_power: false };
        scene.check(&rig);
        scene.check(&SimRig::reopen(rig.disk.clone_as_killed(), rig.owner, false));
        step(&mut rig, &mut model, Step::Truncate { file: 10, blocks: 0 });
        step(&mut rig, &mut model, Step::Unlink { path: "a", keep: false });
        step(&mut rig, &mut model, fresh);
        step(&mut rig, &mut model, Step::Checkpoint);
        step(&mut rig, &mut model, Step::Complete);
        Scene { before: &model, after: &model, lost_power: false }.check(&rig);
    }
}
