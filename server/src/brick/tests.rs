//! The brick on a real disk, in both ways of keeping owners.

mod changes;
mod crash;
mod damage;
mod data;
mod detach;
mod faults;
mod formats;
mod labels;
mod log;
mod ownership;
mod random;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use md5::{Digest as _, Md5};
use net_raid_proto::frame::{FrameKind, Header};
use net_raid_proto::ids::{
    BrickId, Digest, Digests, Epoch, Generation, Name, ObjectId, RequestId, Timestamp, Transaction, VolumeId,
};
use net_raid_proto::layout::{Layout, Level};
use net_raid_proto::limits::{BLOCK_SIZE, UNIT_SIZE};
use net_raid_proto::membership::{Label, Membership, Ownership, SlotRecord, SlotState};
use net_raid_proto::message::{
    Answer, BrickFile, Change, Entry, Fault, Holder, Kind, NewObject, Part, PartRecord, RenameTarget, Reply, Request,
    WritePart,
};

use super::{Brick, BrickOptions, OpenError};
use crate::disk::RealDisk;

const ROOT: ObjectId = ObjectId::ROOT;
const BRICK: BrickId = BrickId([7; 16]);
const VOLUME: VolumeId = VolumeId([9; 16]);

/// A brick in a directory of its own that goes with it.
struct Rig {
    dir: tempfile::TempDir,
    brick: Brick<RealDisk>,
    ownership: Ownership,
    epoch: Epoch,
    resend: bool,
    now: Timestamp,
    generation: AtomicU64,
    transaction: AtomicU64,
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

fn id(number: u64) -> ObjectId {
    ObjectId(1 << 40 | number)
}

fn holder(pid: u32) -> Holder {
    Holder { host: "here".into(), pid, started_ticks: 1, boot: "b".into() }
}

fn membership() -> Membership {
    let slot = |number: u8| SlotRecord { brick: BrickId([number; 16]), state: SlotState::Current };
    let slots = vec![SlotRecord { brick: BRICK, state: SlotState::Current }, slot(1)];
    Membership {
        version: 1,
        level: Level::Raid1,
        voters: slots.iter().map(|slot| slot.brick).collect(),
        slots,
        formers: Vec::new(),
    }
}

fn label() -> Label {
    Label {
        volume: VOLUME,
        name: "V".into(),
        brick: BRICK,
        ownership: Ownership::Native,
        epoch: Epoch(0),
        complete: Generation(0),
        membership: membership(),
    }
}

fn spec(kind: Kind) -> NewObject {
    let target = if kind == Kind::Symlink { b"some/where".to_vec() } else { Vec::new() };
    let layout = Layout::new(Level::Raid1, 2);
    NewObject { kind, mode: 0o640, uid: 1000, gid: 1001, target, layout, xattrs: Vec::new() }
}

fn digest(block: &[u8]) -> Digest {
    let mut padded = block.to_vec();
    padded.resize(BLOCK_SIZE, 0);
    Digest(Md5::digest(&padded).into())
}

/// What a brick is told on a machine that started with `boot`.
fn options(ownership: Ownership, boot: &str) -> BrickOptions {
    BrickOptions { ownership, brick: BRICK, boot: boot.into() }
}

fn open(path: &Path, ownership: Ownership) -> Result<Brick<RealDisk>, OpenError> {
    let disk = RealDisk::open(path).expect("a directory");
    Brick::open(disk, options(ownership, "boot"))
}

impl Rig {
    fn new(ownership: Ownership) -> Rig {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let brick = open(dir.path(), ownership).expect("a brick");
        let now = Timestamp { secs: 1_000_000, nanos: 5 };
        let mut rig = Rig {
            dir,
            brick,
            ownership,
            epoch: Epoch(0),
            resend: false,
            now,
            generation: AtomicU64::new(1),
            transaction: AtomicU64::new(1),
        };
        rig.ok(Request::Format { label: Box::new(label()) });
        rig.own(1);
        rig
    }

    /// Both ways where the tests run as root, otherwise the one that works.
    fn both() -> Vec<Rig> {
        let native = rustix::process::geteuid().is_root().then(|| Rig::new(Ownership::Native));
        native.into_iter().chain([Rig::new(Ownership::Recorded)]).collect()
    }

    fn own(&mut self, epoch: u64) {
        self.generation.fetch_max(epoch, Relaxed);
        let (epoch, generation) = (Epoch(epoch), self.generation());
        let volume = VOLUME;
        self.ok(Request::Own { volume, epoch, generation, holder: holder(1), take_over: false });
        self.epoch = epoch;
    }

    fn generation(&self) -> Generation {
        Generation(self.generation.load(Relaxed))
    }

    /// A checkpoint: everything is in its place afterwards.
    #[track_caller]
    fn checkpoint(&self) {
        let generation = Generation(self.generation.fetch_add(1, Relaxed));
        self.ok(Request::Checkpoint { generation });
        self.ok(Request::Complete { generation });
    }

    /// As after kill -9 of the server.
    fn restart(&mut self) {
        self.brick = open(self.dir.path(), self.ownership).expect("a brick");
        self.own(self.epoch.0);
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn header(&self) -> Header {
        Header {
            version: 1,
            kind: FrameKind::Request,
            resend: self.resend,
            request: RequestId(1),
            epoch: self.epoch,
            body_len: 0,
            payload_len: 0,
            content_crc: 0,
        }
    }

    fn ask(&self, request: Request, payload: &[u8]) -> (Answer, Vec<u8>) {
        let mut out = Vec::new();
        let answer = self.brick.handle(&self.header(), &request, payload, 0, &mut out);
        (answer, out)
    }

    #[track_caller]
    fn ok(&self, request: Request) -> Reply {
        let shown = format!("{request:?}");
        self.ask(request, b"").0.unwrap_or_else(|fault| panic!("{shown}: {fault:?}"))
    }

    #[track_caller]
    fn fails(&self, request: Request, number: i32) {
        assert_eq!(self.ask(request, b"").0, Err(Fault::Errno(number)));
    }

    fn changing(&self, change: Change) -> Request {
        Request::Change {
            transaction: Transaction(self.transaction.fetch_add(u64::from(!self.resend), Relaxed)),
            generation: self.generation(),
            participants: 1,
            now: self.now,
            change,
        }
    }

    #[track_caller]
    fn change(&self, change: Change) {
        assert_eq!(self.ok(self.changing(change)), Reply::Done);
    }

    #[track_caller]
    fn change_fails(&self, change: Change, number: i32) {
        self.fails(self.changing(change), number);
    }

    /// Does a change, then again as a client that lost the answer.
    #[track_caller]
    fn twice(&mut self, change: Change) {
        self.change(change.clone());
        self.resend = true;
        self.change(change);
        self.resend = false;
    }

    fn create(&self, parent: ObjectId, text: &str, number: u64, kind: Kind) -> Change {
        self.create_with(parent, text, number, spec(kind))
    }

    fn create_with(&self, parent: ObjectId, text: &str, number: u64, spec: NewObject) -> Change {
        Change::Create { parent, name: name(text), id: id(number), spec: Box::new(spec) }
    }

    #[track_caller]
    fn file(&self, text: &str, number: u64) {
        self.change(self.create(ROOT, text, number, Kind::File));
    }

    #[track_caller]
    fn entry(&self, id: ObjectId) -> Entry {
        match self.ok(Request::GetAttr { id }) {
            Reply::Entry(entry) => *entry,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn found(&self, parent: ObjectId, text: &str) -> Option<ObjectId> {
        match self.ask(Request::Lookup { parent, name: name(text) }, b"").0 {
            Ok(Reply::Entry(entry)) => Some(entry.id),
            Err(Fault::Errno(libc::ENOENT)) => None,
            other => panic!("{other:?}"),
        }
    }

    fn names(&self, id: ObjectId, attributes: bool) -> Vec<String> {
        let (mut names, mut cursor) = (Vec::new(), 0);
        loop {
            let Reply::Page { entries, next } = self.ok(Request::ReadDir { id, cursor, attributes }) else {
                panic!("no page")
            };
            names.extend(entries.iter().map(|entry| entry.name.to_string()));
            match next {
                Some(next) => cursor = next,
                None => return names,
            }
        }
    }

    fn write_request(&self, id: ObjectId, offset: u64, data: &[u8], size: Option<u64>) -> (Request, Vec<u8>) {
        let mut payload = data.to_vec();
        payload.resize(data.len().next_multiple_of(BLOCK_SIZE), 0);
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < payload.len() {
            let (unit, within) = ((offset + at as u64) / UNIT_SIZE as u64, (offset as usize + at) % UNIT_SIZE);
            let len = (payload.len() - at).min(UNIT_SIZE - within);
            let digests = payload[at..at + len].chunks(BLOCK_SIZE).map(digest).collect();
            let part = Part { unit, offset: within as u32, len: len as u32 };
            let stored = data.len().saturating_sub(at).min(len) as u32;
            parts.push(WritePart { part, stored, digests: Digests(digests) });
            at += len;
        }
        (self.changing(Change::Write { id, size, mtime: None, mode: None, parts }), payload)
    }

    #[track_caller]
    fn write(&self, id: ObjectId, offset: u64, data: &[u8]) {
        let (request, payload) = self.write_request(id, offset, data, Some(offset + data.len() as u64));
        assert!(matches!(self.ask(request, &payload).0, Ok(Reply::Written { .. })));
    }

    /// Whole blocks, with the records of their units.
    #[track_caller]
    fn read(&self, id: ObjectId, offset: u64, len: usize) -> (Vec<u8>, Vec<PartRecord>) {
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < len {
            let within = (offset as usize + at) % UNIT_SIZE;
            let count = (len - at).min(UNIT_SIZE - within);
            let unit = (offset + at as u64) / UNIT_SIZE as u64;
            parts.push(Part { unit, offset: within as u32, len: count as u32 });
            at += count;
        }
        match self.ask(Request::Read { id, parts }, b"") {
            (Ok(Reply::Read(records)), bytes) => (bytes, records),
            other => panic!("{:?}", other.0),
        }
    }

    /// Reads and checks every block against its digest.
    #[track_caller]
    fn read_checked(&self, id: ObjectId, offset: u64, len: usize) -> Vec<u8> {
        let (bytes, records) = self.read(id, offset, len);
        let digests = records.iter().flat_map(|record| &record.digests.0);
        for (index, (block, found)) in bytes.chunks(BLOCK_SIZE).zip(digests).enumerate() {
            let hole = *found == Digest::HOLE && block.iter().all(|&byte| byte == 0);
            assert!(hole || *found == digest(block), "block {index} does not match");
        }
        bytes
    }

    fn xattr(&self, below: &str, attr: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 4096];
        let len = rustix::fs::lgetxattr(self.path(below), attr, &mut value[..]).ok()?;
        value.truncate(len);
        Some(value)
    }

    fn unlink(&self, text: &str, number: u64, keep: bool) -> Change {
        Change::Unlink { parent: ROOT, name: name(text), id: id(number), keep }
    }

    fn rename(&self, text: &str, number: u64, new: &str, target: RenameTarget) -> Change {
        let (name, new_name) = (name(text), name(new));
        Change::Rename { parent: ROOT, name, id: id(number), new_parent: ROOT, new_name, target }
    }
}

/// Bytes that name their own place.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64 / 8 + 1).flat_map(|at| (seed << 40 | at).to_le_bytes()).take(len).collect()
}
