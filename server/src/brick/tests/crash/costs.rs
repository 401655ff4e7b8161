//! What a sync and an abort cost, and that times and names are right all the same.

use net_raid_proto::message::SetAttr;

use super::*;

const FILE: u64 = 10;

fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 7 }
}

impl SimRig {
    /// What a kernel sends before it asks for a sync of pages that it wrote back.
    fn flush_times(&mut self, times: Timestamp) {
        self.owner.counter += 1;
        let set = SetAttr { mtime: Some(times), ..SetAttr::default() };
        let (transaction, generation) = (self.transaction(), Generation(self.owner.generation));
        let change = Change::SetAttr { id: id(FILE), set };
        let request = Request::Change { transaction, generation, participants: 1, now: times, change };
        self.ok(request);
    }

    fn times(&self) -> (Timestamp, Timestamp) {
        let Reply::Entry(entry) = self.ok(Request::GetAttr { id: id(FILE) }) else { panic!("no entry") };
        (entry.attr.mtime, entry.attr.ctime)
    }
}

#[test]
fn a_sync_of_an_overwrite_syncs_the_log_and_nothing_else() {
    for (ownership, level) in [(Ownership::Native, Level::Raid6), (Ownership::Recorded, Level::Raid1)] {
        let (mut rig, mut model) = (SimRig::new(ownership), Model::new());
        let steps = [
            Step::Create { path: "a", file: FILE, level },
            Step::Write { file: FILE, block: 0, len: BLOCKS * BLOCK_SIZE, seed: 1 },
            Step::Checkpoint,
            Step::Complete,
            // The first change of a generation stamps the file.
            Step::Write { file: FILE, block: 3, len: BLOCK_SIZE, seed: 2 },
            Step::Fsync { file: FILE },
        ];
        for step in steps {
            rig.step(&model, &step);
            model.apply(&step);
        }
        for (round, data_only) in [false, true, false].into_iter().enumerate() {
            let times = at(2_000_000_000 + round as i64);
            rig.write(FILE, &model.files[&FILE], (3, BLOCK_SIZE, 3 + round as u64)).expect("written");
            rig.flush_times(times);
            let before = rig.disk.calls();
            rig.ok(Request::Fsync { id: id(FILE), data_only });
            assert_eq!(rig.disk.calls() - before, 1);
            let after = SimRig::reopen(rig.disk.power_loss(round as u64), rig.owner.after_power_loss(), true);
            assert_eq!(after.times(), (times, times));
            assert_eq!(after.blocks(FILE)[3].0, Version { seed: (3 + round as u64) * 100, len: BLOCK_SIZE }.content());
        }
        rig.complete();
        let after = SimRig::reopen(rig.disk.power_loss(9), rig.owner.after_power_loss(), true);
        assert_eq!(after.times(), (at(2_000_000_002), at(2_000_000_002)));
    }
}

/// Fresh blocks beside each other are given back with one call.
#[test]
fn an_abort_of_many_blocks_is_few_calls() {
    let (mut rig, mut model) = (SimRig::new(Ownership::Native), Model::new());
    let create = Step::Create { path: "a", file: FILE, level: Level::Raid1 };
    rig.step(&model, &create);
    model.apply(&create);
    let mut calls = Vec::new();
    for blocks in [1, BLOCKS] {
        rig.write(FILE, &model.files[&FILE], (0, blocks * BLOCK_SIZE, 1)).expect("written");
        let before = rig.disk.calls();
        rig.ok(Request::Abort { transactions: vec![Transaction(rig.transaction().0)] });
        calls.push(rig.disk.calls() - before);
    }
    // The second unit has a record of its own.
    assert_eq!((BLOCKS, calls[1]), (24, calls[0] + 1));
}

#[test]
fn a_sync_covers_the_new_name_of_a_directory_above() {
    let mut rig = SimRig::new(Ownership::Recorded);
    let (parent, old, new) = (id(DIRECTORY), name("old"), name("new"));
    rig.change(Change::Create { parent, name: old.clone(), id: id(30), spec: Box::new(spec(Kind::Directory)) });
    rig.change(Change::Create { parent: id(30), name: name("a"), id: id(FILE), spec: Box::new(spec(Kind::File)) });
    rig.ok(Request::Fsync { id: id(FILE), data_only: true });
    let target = RenameTarget::Absent;
    rig.change(Change::Rename { parent, name: old, id: id(30), new_parent: parent, new_name: new.clone(), target });
    rig.ok(Request::Fsync { id: id(FILE), data_only: true });
    for seed in 0..8 {
        let after = SimRig::reopen(rig.disk.power_loss(seed), rig.owner.after_power_loss(), true);
        let found = after.query(Request::Lookup { parent, name: new.clone() });
        assert!(matches!(found, Ok(Reply::Entry(entry)) if entry.id == id(30)), "seed {seed}");
    }
}

#[test]
fn putting_bytes_in_place_changes_no_times() {
    for ownership in [Ownership::Native, Ownership::Recorded] {
        let (mut rig, mut model) = (SimRig::new(ownership), Model::new());
        let steps = [
            Step::Create { path: "a", file: FILE, level: Level::Raid1 },
            Step::Write { file: FILE, block: 0, len: BLOCKS * BLOCK_SIZE, seed: 1 },
            Step::Checkpoint,
            Step::Complete,
            Step::Write { file: FILE, block: 3, len: BLOCK_SIZE, seed: 2 },
        ];
        for step in steps {
            rig.step(&model, &step);
            model.apply(&step);
        }
        // As tar sets them: no log knows of it.
        let set = SetAttr { atime: Some(at(5)), mtime: Some(at(6)), ..SetAttr::default() };
        rig.change(Change::SetAttr { id: id(FILE), set });
        let before = rig.times();
        assert_eq!(before.0, at(6));
        rig.step(&model, &Step::Checkpoint);
        rig.disk.note_crashes();
        rig.step(&model, &Step::Complete);
        assert_eq!(rig.times(), before);
        for crash in rig.disk.take_crashes() {
            let mut after = SimRig::reopen(crash.killed(), rig.owner, false);
            assert_eq!(after.times(), before, "killed at call {}", crash.call);
            after.complete();
            assert_eq!(after.times(), before, "killed at call {}, and completed", crash.call);
        }
    }
}

/// A brick that is opened again waits for its disk only where a cut that was noted was not made: syncs may take long.
#[test]
fn a_start_syncs_nothing_but_the_note_of_a_cut_that_was_not_made() {
    for level in [Level::Raid1, Level::Raid6] {
        for last in [Step::Truncate { file: FILE, blocks: 3 }, Step::Punch { file: FILE, unit: 0 }] {
            let (mut rig, mut model) = (SimRig::new(Ownership::Native), Model::new());
            let steps = [
                Step::Create { path: "a", file: FILE, level },
                Step::Create { path: "b", file: FILE + 1, level },
                Step::Write { file: FILE, block: 0, len: BLOCKS * BLOCK_SIZE, seed: 1 },
                Step::Write { file: FILE + 1, block: 0, len: BLOCK_SIZE, seed: 2 },
            ];
            for step in steps {
                rig.step(&model, &step);
                model.apply(&step);
            }
            rig.disk.note_crashes();
            rig.step(&model, &last);
            let crashes = rig.disk.take_crashes();
            // Something else waits that is not durable.
            model.apply(&last);
            rig.step(&model, &Step::Write { file: FILE + 1, block: 0, len: BLOCK_SIZE, seed: 3 });
            let syncs_of = |disk: SimDisk| {
                rig.owner.open(&disk);
                disk.syncs()
            };
            let of_crashes: Vec<u64> = crashes.iter().map(|crash| syncs_of(crash.killed())).collect();
            assert!(of_crashes.contains(&2), "{level:?}, {last:?}: the note is made durable, {of_crashes:?}");
            assert_eq!(syncs_of(rig.disk.clone_as_killed()), 0, "{level:?}, {last:?}: all of it was done");
        }
    }
}
