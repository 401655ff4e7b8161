//! A brick that is asked what a history says, and asked what it holds.

use super::*;

/// Who asks, and what the next request says.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    pub(super) ownership: Ownership,
    /// Starts of the machine.
    boot: u32,
    pub(super) epoch: u64,
    pub(super) generation: u64,
    pub(super) counter: u64,
}

impl Owner {
    /// The next one, which found the volume without an owner.
    pub(super) fn next(self) -> Owner {
        Owner { epoch: self.epoch + 1, generation: self.generation + 10, ..self }
    }

    pub(super) fn after_power_loss(self) -> Owner {
        Owner { boot: self.boot + 1, ..self.next() }
    }

    pub(super) fn try_open(&self, disk: &SimDisk) -> Result<Brick<SimDisk>, OpenError> {
        Brick::open(disk.clone(), options(self.ownership, &format!("boot {}", self.boot)))
    }

    pub(super) fn open(&self, disk: &SimDisk) -> Brick<SimDisk> {
        self.try_open(disk).unwrap_or_else(|error| panic!("the brick does not open: {error}"))
    }
}

/// A brick on a simulated disk, and its owner.
pub(super) struct SimRig {
    pub(super) disk: SimDisk,
    pub(super) brick: Brick<SimDisk>,
    pub(super) owner: Owner,
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
    pub(super) fn new(ownership: Ownership) -> SimRig {
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
    pub(super) fn reopen(disk: SimDisk, owner: Owner, new: bool) -> SimRig {
        let rig = SimRig { brick: owner.open(&disk), disk, owner };
        rig.own();
        if new {
            rig.take_back_what_is_not_whole();
        }
        rig
    }

    pub(super) fn own(&self) {
        self.try_own().expect("it may be owned");
    }

    pub(super) fn try_own(&self) -> Answer {
        self.query(Request::Own {
            volume: VOLUME,
            epoch: Epoch(self.owner.epoch),
            generation: Generation(self.owner.generation),
            holder: holder(self.owner.epoch as u32),
            take_over: true,
        })
    }

    /// Asks again, as a client does, when the brick has forgotten where an object is.
    pub(super) fn ask(&self, request: &Request, payload: &[u8], out: &mut Vec<u8>) -> Answer {
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
    pub(super) fn ok(&self, request: Request) -> Reply {
        self.ask(&request, b"", &mut Vec::new()).unwrap_or_else(|fault| panic!("{request:?}: {fault:?}"))
    }

    #[track_caller]
    pub(super) fn change(&mut self, change: Change) {
        let answer = self.try_change(change, b"");
        assert!(matches!(answer, Ok(Reply::Done | Reply::Written { .. })), "{answer:?}");
    }

    fn try_change(&mut self, change: Change, payload: &[u8]) -> Answer {
        self.owner.counter += 1;
        let request = Request::Change {
            transaction: self.transaction(),
            generation: Generation(self.owner.generation),
            participants: 1,
            now: Timestamp { secs: 1000 + self.owner.counter as i64, nanos: 0 },
            change,
        };
        self.ask(&request, payload, &mut Vec::new())
    }

    pub(super) fn query(&self, request: Request) -> Answer {
        self.ask(&request, b"", &mut Vec::new())
    }

    /// The number of the last change.
    pub(super) fn transaction(&self) -> Transaction {
        Transaction(self.owner.epoch << 40 | self.owner.counter)
    }

    /// Does a step; the model is that of before it.
    #[track_caller]
    pub(super) fn step(&mut self, model: &Model, step: &Step) {
        let answer = self.attempt(model, step);
        assert!(matches!(answer, Ok(Reply::Done | Reply::Written { .. })), "{step:?}: {answer:?}");
    }

    pub(super) fn attempt(&mut self, model: &Model, step: &Step) -> Answer {
        match *step {
            Step::Create { path, file, level } => {
                let (parent, name) = place(path);
                let layout = Layout::new(level, if level == Level::Raid1 { 2 } else { 4 });
                let spec = Box::new(NewObject { layout, ..spec(Kind::File) });
                self.try_change(Change::Create { parent, name, id: id(file), spec }, b"")
            }
            Step::Write { file, block, len, seed } => self.write(file, &model.files[&file], (block, len, seed)),
            Step::Truncate { file, blocks } => {
                let brick_len = (blocks * BLOCK_SIZE) as u64;
                let size = model.files[&file].size_of(brick_len);
                self.try_change(Change::Truncate { id: id(file), size, brick_len, mtime: None, mode: None }, b"")
            }
            Step::EndAgain { file, len } => {
                let size = model.files[&file].size_of(len);
                self.try_change(Change::Truncate { id: id(file), size, brick_len: len, mtime: None, mode: None }, b"")
            }
            Step::Allocate { file, blocks } => {
                let (offset, len) = (0, (blocks * BLOCK_SIZE) as u64);
                let keep_size = model.files[&file].level != Level::Raid1;
                let size = Some(model.files[&file].size_of(len)).filter(|_| len > model.files[&file].len());
                self.try_change(Change::Allocate { id: id(file), size, offset, len, keep_size }, b"")
            }
            Step::Punch { file, unit } => {
                self.try_change(Change::Punch { id: id(file), unit, count: 1, mtime: None }, b"")
            }
            Step::Link { file, path } => {
                let (parent, name) = place(path);
                self.try_change(Change::Link { id: id(file), parent, name }, b"")
            }
            Step::Rename { from, to, keep } => {
                let ((parent, name), (new_parent, new_name)) = (place(from), place(to));
                let victim = model.names().get(to);
                let target =
                    victim.map_or(RenameTarget::Absent, |victim| RenameTarget::Replace { id: id(*victim), keep });
                let id = id(model.names()[from]);
                self.try_change(Change::Rename { parent, name, id, new_parent, new_name, target }, b"")
            }
            Step::Unlink { path, keep } => {
                let (parent, name) = place(path);
                self.try_change(Change::Unlink { parent, name, id: id(model.names()[path]), keep }, b"")
            }
            Step::Fsync { file } => self.query(Request::Fsync { id: id(file), data_only: file.is_multiple_of(2) }),
            Step::Checkpoint => {
                let answer = self.query(Request::Checkpoint { generation: Generation(self.owner.generation) });
                self.owner.generation += u64::from(answer.is_ok());
                answer
            }
            Step::Complete => self.query(Request::Complete { generation: Generation(self.owner.generation - 1) }),
            Step::Abort => self.query(Request::Abort { transactions: vec![self.transaction()] }),
        }
    }

    pub(super) fn write(&mut self, number: u64, file: &File, (block, len, seed): (usize, usize, u64)) -> Answer {
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
        self.try_change(Change::Write { id: id(number), size, mtime: None, mode: None, parts }, &payload)
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
    pub(super) fn complete(&mut self) {
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
    pub(super) fn names(&self) -> Names {
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
    pub(super) fn blocks(&self, file: u64) -> Vec<(Vec<u8>, Digest)> {
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

    pub(super) fn size(&self, file: u64) -> u64 {
        match self.ok(Request::GetAttr { id: id(file) }) {
            Reply::Entry(entry) => entry.attr.size,
            other => panic!("{other:?}"),
        }
    }
}
