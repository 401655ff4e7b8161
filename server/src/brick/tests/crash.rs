//! Histories of requests on a simulated disk, with a crash at every call that changes it: the process is killed, or the
//! machine loses power. Then the brick must open, and hold what it may hold.

mod history;
mod model;

use std::collections::BTreeSet;

use self::model::{File, Model, Names, Step, Version};
use super::*;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;

/// Blocks of each file that are looked at: a whole unit and a half.
const BLOCKS: usize = 24;
const DIRECTORY: u64 = 5;
const PATHS: [&str; 6] = ["a", "b", "c", "d/a", "d/b", "d/c"];

/// Who asks, and what the next request says.
#[derive(Clone, Copy)]
struct Owner {
    ownership: Ownership,
    /// Starts of the machine.
    boot: u32,
    epoch: u64,
    generation: u64,
    counter: u64,
}

impl Owner {
    /// The next one, which found the volume without an owner.
    fn next(self) -> Owner {
        Owner { epoch: self.epoch + 1, generation: self.generation + 10, ..self }
    }

    fn after_power_loss(self) -> Owner {
        Owner { boot: self.boot + 1, ..self.next() }
    }

    fn open(&self, disk: &SimDisk) -> Brick<SimDisk> {
        let opened = Brick::open(disk.clone(), options(self.ownership, &format!("boot {}", self.boot)));
        opened.unwrap_or_else(|error| panic!("the brick does not open: {error}"))
    }
}

struct SimRig {
    disk: SimDisk,
    brick: Brick<SimDisk>,
    owner: Owner,
}

/// Directory and name of a path.
fn place(path: &str) -> (ObjectId, Name) {
    match path.split_once('/') {
        Some((_, below)) => (id(DIRECTORY), name(below)),
        None => (ROOT, name(path)),
    }
}

impl SimRig {
    /// A formatted brick with one directory, all of it durable.
    fn new(ownership: Ownership) -> SimRig {
        let disk = SimDisk::new(64 << 20, 4096);
        let owner = Owner { ownership, boot: 0, epoch: 1, generation: 1, counter: 0 };
        let mut rig = SimRig { brick: owner.open(&disk), disk, owner };
        rig.ok(Request::Format { label: Box::new(label()) });
        rig.own();
        let spec = Box::new(spec(Kind::Directory));
        rig.change(Change::Create { parent: ROOT, name: name("d"), id: id(DIRECTORY), spec });
        rig.ok(Request::Checkpoint { generation: Generation(1) });
        rig.ok(Request::Complete { generation: Generation(1) });
        rig.owner.generation = 2;
        rig
    }

    /// The brick after a crash, for an owner that is the same or a new one.
    fn reopen(disk: SimDisk, owner: Owner, new: bool) -> SimRig {
        let rig = SimRig { brick: owner.open(&disk), disk, owner };
        rig.own();
        if new {
            rig.take_back_what_is_not_whole();
        }
        rig
    }

    fn own(&self) {
        self.ok(Request::Own {
            volume: VOLUME,
            epoch: Epoch(self.owner.epoch),
            generation: Generation(self.owner.generation),
            holder: holder(self.owner.epoch as u32),
            take_over: true,
        });
    }

    /// Asks again, as a client does, when the brick has forgotten where an object is.
    fn ask(&self, request: &Request, payload: &[u8], out: &mut Vec<u8>) -> Answer {
        let answer = self.ask_once(request, payload, out);
        if !matches!(answer, Err(Fault::Unresolved(_))) {
            return answer;
        }
        for dir in [ROOT, id(DIRECTORY)] {
            let listing = Request::ReadDir { id: dir, cursor: 0, attributes: false };
            self.ask_once(&listing, b"", &mut Vec::new())?;
        }
        self.ask_once(request, payload, out)
    }

    fn ask_once(&self, request: &Request, payload: &[u8], out: &mut Vec<u8>) -> Answer {
        let header = Header {
            version: 1,
            kind: FrameKind::Request,
            resend: false,
            request: RequestId(1),
            epoch: Epoch(self.owner.epoch),
            body_len: 0,
            payload_len: 0,
            content_crc: 0,
        };
        self.brick.handle(&header, request, payload, 0, out)
    }

    #[track_caller]
    fn ok(&self, request: Request) -> Reply {
        self.ask(&request, b"", &mut Vec::new()).unwrap_or_else(|fault| panic!("{request:?}: {fault:?}"))
    }

    #[track_caller]
    fn change(&mut self, change: Change) {
        self.change_with(change, b"");
    }

    #[track_caller]
    fn change_with(&mut self, change: Change, payload: &[u8]) {
        self.owner.counter += 1;
        let request = Request::Change {
            transaction: self.transaction(),
            generation: Generation(self.owner.generation),
            participants: 1,
            now: Timestamp { secs: 1000 + self.owner.counter as i64, nanos: 0 },
            change,
        };
        let answer = self.ask(&request, payload, &mut Vec::new());
        assert!(matches!(answer, Ok(Reply::Done | Reply::Written { .. })), "{answer:?}");
    }

    /// The number of the last change.
    fn transaction(&self) -> Transaction {
        Transaction(self.owner.epoch << 40 | self.owner.counter)
    }

    /// Does a step; the model is that of before it.
    fn step(&mut self, model: &Model, step: &Step) {
        match *step {
            Step::Create { path, file, level } => {
                let (parent, name) = place(path);
                let layout = Layout::new(level, if level == Level::Raid1 { 2 } else { 4 });
                let spec = Box::new(NewObject { layout, ..spec(Kind::File) });
                self.change(Change::Create { parent, name, id: id(file), spec });
            }
            Step::Write { file, block, len, seed } => self.write(file, &model.files[&file], (block, len, seed)),
            Step::Truncate { file, blocks } => {
                let brick_len = (blocks * BLOCK_SIZE) as u64;
                let size = model.files[&file].size_of(brick_len);
                self.change(Change::Truncate { id: id(file), size, brick_len, mtime: None, mode: None });
            }
            Step::Allocate { file, blocks } => {
                let (offset, len) = (0, (blocks * BLOCK_SIZE) as u64);
                let keep_size = model.files[&file].level != Level::Raid1;
                let size = Some(model.files[&file].size_of(len)).filter(|_| len > model.files[&file].len());
                self.change(Change::Allocate { id: id(file), size, offset, len, keep_size });
            }
            Step::Punch { file, unit } => self.change(Change::Punch { id: id(file), unit, count: 1, mtime: None }),
            Step::Link { file, path } => {
                let (parent, name) = place(path);
                self.change(Change::Link { id: id(file), parent, name });
            }
            Step::Rename { from, to, keep } => {
                let ((parent, name), (new_parent, new_name)) = (place(from), place(to));
                let victim = model.names().get(to);
                let target =
                    victim.map_or(RenameTarget::Absent, |victim| RenameTarget::Replace { id: id(*victim), keep });
                let id = id(model.names()[from]);
                self.change(Change::Rename { parent, name, id, new_parent, new_name, target });
            }
            Step::Unlink { path, keep } => {
                let (parent, name) = place(path);
                self.change(Change::Unlink { parent, name, id: id(model.names()[path]), keep });
            }
            Step::Fsync { file } => drop(self.ok(Request::Fsync { id: id(file), data_only: file.is_multiple_of(2) })),
            Step::Checkpoint => {
                self.ok(Request::Checkpoint { generation: Generation(self.owner.generation) });
                self.owner.generation += 1;
            }
            Step::Complete => drop(self.ok(Request::Complete { generation: Generation(self.owner.generation - 1) })),
            Step::Abort => drop(self.ok(Request::Abort { transactions: vec![self.transaction()] })),
        }
    }

    fn write(&mut self, number: u64, file: &File, (block, len, seed): (usize, usize, u64)) {
        let (mut payload, mut parts): (Vec<u8>, Vec<WritePart>) = (Vec::new(), Vec::new());
        for (index, at) in (0..len).step_by(BLOCK_SIZE).enumerate() {
            let version = Version { seed: seed * 100 + index as u64, len: (len - at).min(BLOCK_SIZE) };
            let content = version.content();
            let per_unit = UNIT_SIZE / BLOCK_SIZE;
            let (unit, within) = ((block + index) / per_unit, (block + index) % per_unit);
            let part = Part { unit: unit as u64, offset: (within * BLOCK_SIZE) as u32, len: BLOCK_SIZE as u32 };
            let one = WritePart { part, stored: version.len as u32, digests: Digests(vec![digest(&content)]) };
            payload.extend(content);
            match parts.last_mut().filter(|last| last.part.unit == part.unit) {
                Some(last) => {
                    last.part.len += one.part.len;
                    last.stored += one.stored;
                    last.digests.0.extend(one.digests.0);
                }
                None => parts.push(one),
            }
        }
        let size =
            Some(file.size_of((block * BLOCK_SIZE + len) as u64)).filter(|size| *size > file.size_of(file.len()));
        self.change_with(Change::Write { id: id(number), size, mtime: None, mode: None, parts }, &payload);
    }

    /// What a new owner does with writes that a power loss left in part, and with those on top of them.
    fn take_back_what_is_not_whole(&self) {
        use net_raid_proto::message::Logged;
        let (mut entries, mut cursor) = (Vec::new(), 0);
        loop {
            let Reply::Log { entries: page, next } = self.ok(Request::ReadLog { cursor }) else { panic!("no log") };
            entries.extend(page);
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        let mut dropped = Vec::new();
        let mut units = Vec::new();
        for entry in &entries {
            let Logged::Write { parts } = &entry.what else { continue };
            let places: Vec<_> = parts.iter().map(|part| (entry.id, part.unit)).collect();
            if !entry.whole || places.iter().any(|place| units.contains(place)) {
                dropped.push(entry.transaction);
                units.extend(places);
            }
        }
        self.ok(Request::Abort { transactions: dropped });
    }

    /// All that was written gets in place.
    fn complete(&mut self) {
        self.ok(Request::Checkpoint { generation: Generation(self.owner.generation) });
        self.ok(Request::Complete { generation: Generation(self.owner.generation) });
        self.owner.generation += 1;
    }

    fn list(&self, dir: ObjectId) -> Vec<(Name, ObjectId)> {
        let (mut found, mut cursor) = (Vec::new(), 0);
        loop {
            let Reply::Page { entries, next } = self.ok(Request::ReadDir { id: dir, cursor, attributes: false }) else {
                panic!("no page")
            };
            found.extend(entries.into_iter().map(|entry| (entry.name, entry.id)));
            match next {
                Some(next) => cursor = next,
                None => return found,
            }
        }
    }

    /// Every name of a file; listing tells the brick where they are.
    fn names(&self) -> Names {
        let root = self.list(ROOT);
        assert!(root.contains(&(name("d"), id(DIRECTORY))), "the directory is durable");
        let below = self.list(id(DIRECTORY));
        let find = |path: &&'static str| {
            let (parent, name) = place(path);
            let listed = if parent == ROOT { &root } else { &below };
            let (_, found) = listed.iter().find(|(other, _)| *other == name)?;
            Some((*path, found.0 & ((1 << 40) - 1)))
        };
        PATHS.iter().filter_map(find).collect()
    }

    /// Blocks of a file with their digests.
    fn blocks(&self, file: u64) -> Vec<(Vec<u8>, Digest)> {
        let part =
            |unit: usize, blocks: usize| Part { unit: unit as u64, offset: 0, len: (blocks * BLOCK_SIZE) as u32 };
        let per_unit = UNIT_SIZE / BLOCK_SIZE;
        let parts = vec![part(0, per_unit), part(1, BLOCKS - per_unit)];
        let mut out = Vec::new();
        let answer = self.ask(&Request::Read { id: id(file), parts }, b"", &mut out);
        let Ok(Reply::Read(records)) = answer else { panic!("{answer:?}") };
        let digests = records.iter().flat_map(|record| record.digests.0.clone());
        out.chunks(BLOCK_SIZE).map(<[u8]>::to_vec).zip(digests).collect()
    }

    fn size(&self, file: u64) -> u64 {
        match self.ok(Request::GetAttr { id: id(file) }) {
            Reply::Entry(entry) => entry.attr.size,
            other => panic!("{other:?}"),
        }
    }
}

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
            rig.write(number, file, (block, len, seed));
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
