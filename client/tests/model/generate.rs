//! Random operations: mostly sensible ones, on few names, so that they meet each other.

use net_raid_client::fs::{Caller, SetAttrs, SetTime};
use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::message::Kind;

use super::acl::{self, Acl};
use super::{Make, Model, Op, Rng};

const MODES: [u32; 8] = [0o644, 0o755, 0o600, 0o4755, 0o2755, 0o6711, 0o1777, 0o000];
const OWNERS: [u32; 3] = [0, 1000, 65_534];
const XATTRS: [&[u8]; 6] =
    [b"user.a", b"user.b", b"trusted.t", b"security.test", b"user.net_raid.md5", b"trusted.net_raid"];
const FLAGS: [u32; 7] = [
    0,
    0,
    0,
    libc::RENAME_NOREPLACE,
    libc::RENAME_EXCHANGE,
    libc::RENAME_EXCHANGE,
    libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE,
];

/// Chooses operations.
pub struct Chooser<'a> {
    pub model: &'a Model,
    pub rng: &'a mut Rng,
    /// Files stay below this size.
    pub size_max: u64,
    /// The time that the client's clock told last.
    pub now: Timestamp,
}

impl Chooser<'_> {
    pub fn op(&mut self) -> Op {
        match self.rng.below(100) {
            0..22 => self.make(),
            22..27 => Op::Link { id: self.any(), parent: self.directory(), name: self.name() },
            27..33 => self.named(|parent, name| Op::Unlink { parent, name }),
            33..36 => self.named(|parent, name| Op::Rmdir { parent, name }),
            36..48 => self.rename(),
            48..56 => self.set_attr(),
            56..59 => self.truncate(),
            59..61 => self.flush_times(),
            61..74 => self.write(),
            74..78 => self.fallocate(),
            78..84 => Op::Read { id: self.file(), offset: self.offset(), len: self.len() },
            84..88 => Op::Open { id: self.file(), truncate: self.rng.one_in(5) },
            88..92 => self.release(),
            92..98 => self.xattr(),
            _ => Op::Fsync { id: self.any(), data_only: self.rng.one_in(2) },
        }
    }

    fn ids(&self, wanted: impl Fn(&ObjectId) -> bool) -> Vec<ObjectId> {
        self.model.objects.keys().copied().filter(wanted).collect()
    }

    fn any(&mut self) -> ObjectId {
        let all = self.ids(|_| true);
        *self.rng.pick(&all)
    }

    fn named_object(&mut self) -> ObjectId {
        let named = self.ids(|id| self.model.path(*id).is_some());
        *self.rng.pick(&named)
    }

    fn directory(&mut self) -> ObjectId {
        if self.rng.one_in(40) {
            return self.named_object();
        }
        let directories = self.ids(|id| self.model.get(*id).is_directory());
        *self.rng.pick(&directories)
    }

    fn file(&mut self) -> ObjectId {
        let files = self.ids(|id| self.model.get(*id).bytes().is_some());
        if files.is_empty() || self.rng.one_in(40) { self.any() } else { *self.rng.pick(&files) }
    }

    fn name(&mut self) -> Vec<u8> {
        match self.rng.below(60) {
            0 => vec![0xff; 255],
            1 => vec![b'n'; 256],
            2 => b".net_raid".to_vec(),
            n => vec![b'a' + (n % 7) as u8],
        }
    }

    /// Mostly a name that is there.
    fn there(&mut self) -> (ObjectId, Vec<u8>) {
        let id = self.named_object();
        match self.model.get(id).names.first() {
            Some((parent, name)) if !self.rng.one_in(8) => (*parent, name.clone()),
            _ => (self.directory(), self.name()),
        }
    }

    fn named(&mut self, op: impl FnOnce(ObjectId, Vec<u8>) -> Op) -> Op {
        let (parent, name) = self.there();
        op(parent, name)
    }

    fn make(&mut self) -> Op {
        let make = match self.rng.below(10) {
            0..3 => Make::Mkdir,
            3..7 => Make::Create,
            7 => Make::Symlink(vec![b't'; 1 + self.rng.below(200) as usize]),
            8 => Make::Mknod(Kind::Fifo),
            _ => Make::Mknod(if self.rng.one_in(2) { Kind::File } else { Kind::CharDevice(0x105) }),
        };
        let caller = Caller { uid: *self.rng.pick(&OWNERS), gid: *self.rng.pick(&OWNERS), pid: 0 };
        let (parent, name, mode) = (self.directory(), self.name(), *self.rng.pick(&MODES));
        Op::Make { caller, parent, name, make, mode, umask: *self.rng.pick(&[0, 0o22, 0o77]) }
    }

    fn rename(&mut self) -> Op {
        let (parent, name) = self.there();
        let (new_parent, new_name) = if self.rng.one_in(2) { self.there() } else { (self.directory(), self.name()) };
        Op::Rename { parent, name, new_parent, new_name, flags: *self.rng.pick(&FLAGS) }
    }

    /// From long ago to far in the future, with nanoseconds.
    fn time(&mut self) -> Timestamp {
        let secs = *self.rng.pick(&[-86_400 * 365, 1, 1_234_567_890, 4_102_444_800]) + self.rng.below(1000) as i64;
        Timestamp { secs, nanos: self.rng.below(1_000_000_000) as u32 }
    }

    /// A kernel's clock is near ours, and never ahead.
    fn kernel_time(&mut self) -> Timestamp {
        Timestamp { nanos: self.now.nanos + 1 + self.rng.below(1000) as u32, ..self.now }
    }

    fn set_attr(&mut self) -> Op {
        let id = self.any();
        let object = self.model.get(id);
        let is_link = matches!(object.content, super::Content::Symlink(_));
        let mut set = SetAttrs::default();
        match self.rng.below(3) {
            0 if !is_link => set.mode = Some(*self.rng.pick(&MODES)),
            1 => {
                set.uid = self.rng.one_in(2).then(|| *self.rng.pick(&OWNERS));
                set.gid = Some(*self.rng.pick(&OWNERS));
                set.kill_suidgid = true;
            }
            _ => {
                set.atime = self.rng.one_in(2).then(|| SetTime::At(self.time()));
                set.mtime = Some(if self.rng.one_in(3) { SetTime::Now } else { SetTime::At(self.time()) });
            }
        }
        if object.bytes().is_some() && set.mtime.is_none() && self.rng.one_in(2) {
            set.ctime = Some(self.kernel_time());
        }
        Op::SetAttr { id, set }
    }

    fn truncate(&mut self) -> Op {
        let id = self.file();
        let size = if self.rng.one_in(5) { self.model.get(id).size() } else { self.offset() };
        let mut set = SetAttrs { size: Some(size), ..SetAttrs::default() };
        if self.rng.one_in(2) {
            let time = self.kernel_time();
            (set.mtime, set.ctime) = (Some(SetTime::At(time)), Some(time));
        }
        Op::SetAttr { id, set }
    }

    fn flush_times(&mut self) -> Op {
        let files = self.ids(|id| self.model.get(*id).bytes().is_some());
        if files.is_empty() {
            return self.make();
        }
        let id = *self.rng.pick(&files);
        Op::FlushTimes { id, mtime: self.model.get(id).mtime, ctime: self.kernel_time() }
    }

    fn offset(&mut self) -> u64 {
        let size_max = self.size_max;
        match self.rng.below(4) {
            0 => 0,
            1 => self.rng.below(5000),
            2 => self.rng.below(size_max / 4096) * 4096,
            _ => self.rng.below(size_max),
        }
    }

    fn len(&mut self) -> usize {
        let len = match self.rng.below(8) {
            0 => self.rng.below(self.size_max),
            1 => 65_536,
            2 => 4096,
            3 => 0,
            _ => self.rng.below(10_000),
        };
        len as usize
    }

    fn write(&mut self) -> Op {
        let (append, kill, from_cache) = (self.rng.one_in(4), self.rng.one_in(4), self.rng.one_in(3));
        let (id, offset, len) = (self.file(), self.offset(), self.len());
        let len = if append && self.model.get(id).size() > self.size_max { 10 } else { len };
        Op::Write { id, offset, len, append, kill: kill && !from_cache, from_cache: from_cache && !append }
    }

    fn fallocate(&mut self) -> Op {
        let mode = *self.rng.pick(&[
            0,
            libc::FALLOC_FL_KEEP_SIZE,
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            libc::FALLOC_FL_ZERO_RANGE,
            libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
        ]);
        Op::Fallocate { id: self.file(), offset: self.offset(), len: self.len() as u64 + 1, mode }
    }

    fn release(&mut self) -> Op {
        let open = self.ids(|id| !self.model.get(*id).handles.is_empty());
        if open.is_empty() {
            return self.write();
        }
        let id = *self.rng.pick(&open);
        let handle = *self.rng.pick(&self.model.get(id).handles);
        Op::Release { id, handle }
    }

    fn xattr(&mut self) -> Op {
        let id = self.any();
        if self.rng.one_in(3) {
            let name = if self.rng.one_in(2) { acl::ACCESS } else { acl::DEFAULT };
            if self.rng.one_in(4) {
                return Op::RemoveXattr { id, name: name.to_vec() };
            }
            let acl = Acl::new(self.rng.below(1 << 15) as u32, (!self.rng.one_in(3)).then_some(1000));
            return Op::SetXattr { id, name: name.to_vec(), value: acl.encode(), flags: 0 };
        }
        let name = self.rng.pick(&XATTRS).to_vec();
        if self.rng.one_in(4) {
            return Op::RemoveXattr { id, name };
        }
        let value = vec![b'v'; self.rng.below(150) as usize];
        Op::SetXattr { id, name, value, flags: *self.rng.pick(&[0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE]) }
    }
}
