//! A file system in memory, as simple as it can be: what [`Fs`](net_raid_client::fs::Fs) has to look like.

pub mod acl;
pub mod driver;
pub mod generate;

use std::collections::BTreeMap;

use net_raid_client::fs::{Caller, Errno, SetAttrs, SetTime};
use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::message::Kind;

use acl::Acl;

/// Bytes of the longest name.
const NAME_MAX: usize = 255;

/// A random generator good enough for tests: xorshift64*.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// Bytes that tell what wrote them and where they belong: number of the write, and offset, every 8 bytes.
pub fn pattern(version: u64, offset: u64, len: usize) -> Vec<u8> {
    let word = |at: u64| ((version << 32) | (at / 8) | (1 << 63)).to_be_bytes()[(at % 8) as usize];
    (offset..offset + len as u64).map(word).collect()
}

/// What only one type of object has.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    File(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, ObjectId>),
    Symlink(Vec<u8>),
    Special(Kind),
}

/// An object.
#[derive(Debug, Clone)]
pub struct Object {
    pub content: Content,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub access: Option<Acl>,
    pub default: Option<Acl>,
    pub names: Vec<(ObjectId, Vec<u8>)>,
    pub handles: Vec<u64>,
}

impl Object {
    pub fn kind(&self) -> Kind {
        match &self.content {
            Content::File(_) => Kind::File,
            Content::Directory(_) => Kind::Directory,
            Content::Symlink(_) => Kind::Symlink,
            Content::Special(kind) => kind.clone(),
        }
    }

    pub fn entries(&self) -> Option<&BTreeMap<Vec<u8>, ObjectId>> {
        if let Content::Directory(entries) = &self.content { Some(entries) } else { None }
    }

    pub fn is_directory(&self) -> bool {
        self.entries().is_some()
    }

    pub fn bytes(&self) -> Option<&Vec<u8>> {
        if let Content::File(bytes) = &self.content { Some(bytes) } else { None }
    }

    /// Of files and symbolic links.
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::File(bytes) | Content::Symlink(bytes) => bytes.len() as u64,
            _ => 0,
        }
    }

    /// All extended attributes, the ACLs among them.
    pub fn all_xattrs(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut all = self.xattrs.clone();
        let acls = [(acl::ACCESS, &self.access), (acl::DEFAULT, &self.default)];
        all.extend(acls.into_iter().filter_map(|(name, acl)| Some((name.to_vec(), acl.as_ref()?.encode()))));
        all
    }
}

/// What is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Make {
    Mkdir,
    Symlink(Vec<u8>),
    Mknod(Kind),
    Create,
}

/// One operation.
#[derive(Debug, Clone)]
pub enum Op {
    Make {
        caller: Caller,
        parent: ObjectId,
        name: Vec<u8>,
        make: Make,
        mode: u32,
        umask: u32,
    },
    Link {
        id: ObjectId,
        parent: ObjectId,
        name: Vec<u8>,
    },
    Unlink {
        parent: ObjectId,
        name: Vec<u8>,
    },
    Rmdir {
        parent: ObjectId,
        name: Vec<u8>,
    },
    Rename {
        parent: ObjectId,
        name: Vec<u8>,
        new_parent: ObjectId,
        new_name: Vec<u8>,
        flags: u32,
    },
    SetAttr {
        id: ObjectId,
        set: SetAttrs,
    },
    /// What a kernel sends after others: the times that it keeps.
    FlushTimes {
        id: ObjectId,
        mtime: Timestamp,
        ctime: Timestamp,
    },
    Write {
        id: ObjectId,
        offset: u64,
        len: usize,
        append: bool,
        kill: bool,
        from_cache: bool,
    },
    Fallocate {
        id: ObjectId,
        offset: u64,
        len: u64,
        mode: i32,
    },
    Read {
        id: ObjectId,
        offset: u64,
        len: usize,
    },
    Open {
        id: ObjectId,
        truncate: bool,
    },
    Release {
        id: ObjectId,
        handle: u64,
    },
    SetXattr {
        id: ObjectId,
        name: Vec<u8>,
        value: Vec<u8>,
        flags: i32,
    },
    RemoveXattr {
        id: ObjectId,
        name: Vec<u8>,
    },
    Fsync {
        id: ObjectId,
        data_only: bool,
    },
}

/// What became of the times of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// The ctime is that of the operation.
    Change,
    /// The mtime too.
    Modify,
    /// Only these, given by the operation.
    Given,
}

/// The whole tree.
pub struct Model {
    pub objects: BTreeMap<ObjectId, Object>,
    pub writes: u64,
}

type Touched = Vec<(ObjectId, Touch)>;

impl Model {
    /// An empty volume, its root as a brick told it.
    pub fn new(root: Object) -> Model {
        Model { objects: BTreeMap::from([(ObjectId::ROOT, root)]), writes: 0 }
    }

    pub fn get(&self, id: ObjectId) -> &Object {
        &self.objects[&id]
    }

    fn get_mut(&mut self, id: ObjectId) -> &mut Object {
        self.objects.get_mut(&id).expect("an object of the model")
    }

    /// The names from the root to an object; `None` when it has none.
    pub fn path(&self, id: ObjectId) -> Option<Vec<(ObjectId, Vec<u8>)>> {
        let mut path = Vec::new();
        let mut at = id;
        while at != ObjectId::ROOT {
            let (parent, name) = self.get(at).names.first()?;
            path.push((*parent, name.clone()));
            at = *parent;
        }
        path.reverse();
        Some(path)
    }

    pub fn child(&self, parent: ObjectId, name: &[u8]) -> Option<ObjectId> {
        self.get(parent).entries()?.get(name).copied()
    }

    pub fn nlink(&self, id: ObjectId) -> u32 {
        let object = self.get(id);
        match object.entries() {
            None => object.names.len() as u32,
            Some(_) if id != ObjectId::ROOT && object.names.is_empty() => 0,
            Some(entries) => 2 + entries.values().filter(|id| self.get(**id).is_directory()).count() as u32,
        }
    }

    fn is_ancestor(&self, id: ObjectId, of: ObjectId) -> bool {
        of == id || self.path(of).is_some_and(|path| path.iter().any(|(parent, _)| *parent == id))
    }

    /// What the operation must answer.
    pub fn expect(&self, op: &Op) -> Result<(), Errno> {
        match op {
            Op::Make { parent, name, .. } => self.expect_fresh(*parent, name),
            Op::Link { id, parent, name } => {
                self.check_directory(*parent)?;
                check_new(*parent, name)?;
                match self.get(*id) {
                    object if object.is_directory() => Err(Errno::EPERM),
                    object if object.names.is_empty() => Err(Errno::ENOENT),
                    _ => self.expect_fresh(*parent, name),
                }
            }
            Op::Unlink { parent, name } => match self.expect_there(*parent, name)? {
                id if self.get(id).is_directory() => Err(Errno::EISDIR),
                _ => Ok(()),
            },
            Op::Rmdir { parent, name } => match self.get(self.expect_there(*parent, name)?).entries() {
                None => Err(Errno::ENOTDIR),
                Some(entries) if !entries.is_empty() => Err(Errno::ENOTEMPTY),
                Some(_) => Ok(()),
            },
            Op::Rename { parent, name, new_parent, new_name, flags } => {
                self.expect_rename((*parent, name), (*new_parent, new_name), *flags)
            }
            Op::SetAttr { id, set } if set.size.is_some() => self.check_file(*id),
            Op::Write { id, .. } | Op::Fallocate { id, .. } | Op::Read { id, .. } | Op::Open { id, .. } => {
                self.check_file(*id)
            }
            Op::SetXattr { id, name, flags, .. } => self.expect_set_xattr(*id, name, *flags),
            Op::RemoveXattr { id, name } => self.expect_remove_xattr(*id, name),
            Op::SetAttr { .. } | Op::FlushTimes { .. } | Op::Release { .. } | Op::Fsync { .. } => Ok(()),
        }
    }

    fn check_file(&self, id: ObjectId) -> Result<(), Errno> {
        match self.get(id).content {
            Content::File(_) => Ok(()),
            Content::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    fn check_directory(&self, id: ObjectId) -> Result<(), Errno> {
        if self.get(id).is_directory() { Ok(()) } else { Err(Errno::ENOTDIR) }
    }

    fn expect_fresh(&self, parent: ObjectId, name: &[u8]) -> Result<(), Errno> {
        self.check_directory(parent)?;
        check_new(parent, name)?;
        if self.child(parent, name).is_some() { Err(Errno::EEXIST) } else { Ok(()) }
    }

    fn expect_there(&self, parent: ObjectId, name: &[u8]) -> Result<ObjectId, Errno> {
        self.check_directory(parent)?;
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.child(parent, name).ok_or(Errno::ENOENT)
    }

    fn expect_rename(
        &self,
        (parent, name): (ObjectId, &[u8]),
        (new_parent, new_name): (ObjectId, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        let (no_replace, exchange) = (flags & libc::RENAME_NOREPLACE != 0, flags & libc::RENAME_EXCHANGE != 0);
        if no_replace && exchange || flags & libc::RENAME_WHITEOUT != 0 {
            return Err(Errno::EINVAL);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if is_hidden(parent, name) {
            return Err(Errno::ENOENT);
        }
        check_new(new_parent, new_name)?;
        self.check_directory(parent)?;
        self.check_directory(new_parent)?;
        let source = self.expect_there(parent, name)?;
        let into_itself = self.get(source).is_directory() && self.is_ancestor(source, new_parent);
        match self.child(new_parent, new_name) {
            Some(_) if no_replace => Err(Errno::EEXIST),
            Some(target) if target == source => Ok(()),
            Some(target) if exchange => {
                let target_above = self.get(target).is_directory() && self.is_ancestor(target, parent);
                if into_itself || target_above { Err(Errno::EINVAL) } else { Ok(()) }
            }
            Some(target) => self.expect_replace(source, target, into_itself),
            None if exchange => Err(Errno::ENOENT),
            None if into_itself => Err(Errno::EINVAL),
            None => Ok(()),
        }
    }

    fn expect_replace(&self, source: ObjectId, target: ObjectId, into_itself: bool) -> Result<(), Errno> {
        match (self.get(source).entries(), self.get(target).entries()) {
            (Some(_), None) => Err(Errno::ENOTDIR),
            (None, Some(_)) => Err(Errno::EISDIR),
            (Some(_), Some(_)) if into_itself => Err(Errno::EINVAL),
            (Some(_), Some(entries)) if !entries.is_empty() => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    fn expect_set_xattr(&self, id: ObjectId, name: &[u8], flags: i32) -> Result<(), Errno> {
        let object = self.get(id);
        check_namespace(name, &object.kind())?;
        if name == acl::DEFAULT && !object.is_directory() {
            return Err(Errno::EACCES);
        }
        let there = object.all_xattrs().contains_key(name);
        match flags {
            libc::XATTR_CREATE if there => Err(Errno::EEXIST),
            libc::XATTR_REPLACE if !there => Err(Errno::ENODATA),
            _ => Ok(()),
        }
    }

    fn expect_remove_xattr(&self, id: ObjectId, name: &[u8]) -> Result<(), Errno> {
        let object = self.get(id);
        check_namespace(name, &object.kind())?;
        let is_acl = name == acl::ACCESS || name == acl::DEFAULT;
        if is_acl || object.xattrs.contains_key(name) { Ok(()) } else { Err(Errno::ENODATA) }
    }

    /// Does what was expected to work; whose times changed. `made` is the id of what was made, or a handle's number.
    pub fn commit(&mut self, op: &Op, made: u64) -> Touched {
        match op {
            Op::Make { caller, parent, name, make, mode, umask } => {
                let id = ObjectId(made);
                let object = self.new_object(caller, *parent, make, *mode, *umask);
                self.objects.insert(id, object);
                self.add_name(*parent, name, id);
                vec![(*parent, Touch::Modify), (id, Touch::Modify)]
            }
            Op::Link { id, parent, name } => {
                self.add_name(*parent, name, *id);
                vec![(*parent, Touch::Modify), (*id, Touch::Change)]
            }
            Op::Unlink { parent, name } | Op::Rmdir { parent, name } => {
                let id = self.remove_name(*parent, name);
                vec![(*parent, Touch::Modify), (id, Touch::Change)]
            }
            Op::Rename { parent, name, new_parent, new_name, flags } => {
                self.rename((*parent, name), (*new_parent, new_name), *flags)
            }
            Op::SetAttr { id, set } => self.set_attr(*id, set),
            Op::FlushTimes { id, mtime, ctime } => {
                let object = self.get_mut(*id);
                // Without a new mtime it is only kept in memory, and a ctime does not go back: the kernel's clock has ticks.
                object.ctime = if *mtime == object.mtime { object.ctime.max(*ctime) } else { *ctime };
                object.mtime = *mtime;
                vec![(*id, Touch::Given)]
            }
            Op::Write { id, offset, len, append, kill, from_cache } => {
                self.write(*id, *offset, *len, *append, *kill && *len > 0);
                match (len, from_cache) {
                    (0, _) => vec![],
                    // The kernel sends the times later.
                    (_, true) => vec![(*id, Touch::Given)],
                    (_, false) => vec![(*id, Touch::Modify)],
                }
            }
            Op::Fallocate { id, offset, len, mode } => self.fallocate(*id, *offset, *len, *mode),
            Op::Open { id, truncate } => {
                let object = self.get_mut(*id);
                object.handles.push(made);
                if !*truncate {
                    return vec![];
                }
                object.content = Content::File(Vec::new());
                vec![(*id, Touch::Modify)]
            }
            Op::Release { id, handle } => {
                self.get_mut(*id).handles.retain(|h| h != handle);
                vec![]
            }
            Op::SetXattr { id, name, value, .. } => self.set_xattr(*id, name, value),
            Op::RemoveXattr { id, name } => self.remove_xattr(*id, name),
            Op::Read { .. } | Op::Fsync { .. } => vec![],
        }
    }

    fn new_object(&self, caller: &Caller, parent: ObjectId, make: &Make, mode: u32, umask: u32) -> Object {
        let directory = self.get(parent);
        let inherits = directory.mode & libc::S_ISGID != 0;
        let content = match make {
            Make::Mkdir => Content::Directory(BTreeMap::new()),
            Make::Symlink(target) => Content::Symlink(target.clone()),
            Make::Mknod(Kind::File) | Make::Create => Content::File(Vec::new()),
            Make::Mknod(kind) => Content::Special(kind.clone()),
        };
        let passed = if inherits && *make == Make::Mkdir { libc::S_ISGID } else { 0 };
        let (mode, access, default) = match (make, &directory.default) {
            (Make::Symlink(_), _) => (0o777, None, None),
            (_, None) => (mode & !umask | passed, None, None),
            (_, Some(default)) => {
                let (mode, access) = default.inherit(mode | passed);
                (mode, access, (*make == Make::Mkdir).then(|| default.clone()))
            }
        };
        Object {
            content,
            mode,
            uid: caller.uid,
            gid: if inherits { directory.gid } else { caller.gid },
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            xattrs: BTreeMap::new(),
            access,
            default,
            names: Vec::new(),
            handles: Vec::new(),
        }
    }

    fn entries_mut(&mut self, id: ObjectId) -> &mut BTreeMap<Vec<u8>, ObjectId> {
        match &mut self.get_mut(id).content {
            Content::Directory(entries) => entries,
            other => panic!("{other:?} is no directory"),
        }
    }

    fn bytes_mut(&mut self, id: ObjectId) -> &mut Vec<u8> {
        match &mut self.get_mut(id).content {
            Content::File(bytes) => bytes,
            other => panic!("{other:?} is no file"),
        }
    }

    fn add_name(&mut self, parent: ObjectId, name: &[u8], id: ObjectId) {
        self.entries_mut(parent).insert(name.to_vec(), id);
        self.get_mut(id).names.push((parent, name.to_vec()));
    }

    fn remove_name(&mut self, parent: ObjectId, name: &[u8]) -> ObjectId {
        let id = self.entries_mut(parent).remove(name).expect("a name of the model");
        self.get_mut(id).names.retain(|(p, n)| (*p, &n[..]) != (parent, name));
        id
    }

    fn rename(&mut self, old: (ObjectId, &[u8]), new: (ObjectId, &[u8]), flags: u32) -> Touched {
        let (source, target) = (self.child(old.0, old.1).expect("a source"), self.child(new.0, new.1));
        if target == Some(source) {
            return vec![];
        }
        self.remove_name(old.0, old.1);
        let mut touched = vec![(old.0, Touch::Modify), (new.0, Touch::Modify), (source, Touch::Change)];
        if let Some(target) = target {
            self.remove_name(new.0, new.1);
            touched.push((target, Touch::Change));
            if flags & libc::RENAME_EXCHANGE != 0 {
                self.add_name(old.0, old.1, target);
            }
        }
        self.add_name(new.0, new.1, source);
        touched
    }

    fn set_attr(&mut self, id: ObjectId, set: &SetAttrs) -> Touched {
        let object = self.get_mut(id);
        let mut touch = Touch::Change;
        if let Some(mode) = set.mode {
            object.mode = mode;
            if let Some(access) = &mut object.access {
                access.chmod(mode);
            }
        }
        if set.kill_suidgid && object.bytes().is_some() {
            // Root is in every group.
            object.mode = without_set_id(object.mode);
        }
        object.uid = set.uid.unwrap_or(object.uid);
        object.gid = set.gid.unwrap_or(object.gid);
        if let Some(SetTime::At(atime)) = set.atime {
            object.atime = atime;
        }
        if let (Some(size), Content::File(bytes)) = (set.size, &mut object.content) {
            if bytes.len() as u64 != size {
                touch = Touch::Modify;
            }
            bytes.resize(size as usize, 0);
        }
        match set.mtime {
            Some(SetTime::At(mtime)) => {
                object.mtime = mtime;
                touch = Touch::Change;
            }
            Some(SetTime::Now) => touch = Touch::Modify,
            None => {}
        }
        if let Some(ctime) = set.ctime {
            object.ctime = ctime;
            touch = Touch::Given;
        }
        vec![(id, touch)]
    }

    fn write(&mut self, id: ObjectId, offset: u64, len: usize, append: bool, kill: bool) {
        let version = self.writes;
        let bytes = self.bytes_mut(id);
        let start = if append { bytes.len() } else { offset as usize };
        if len > 0 {
            bytes.resize(bytes.len().max(start + len), 0);
            bytes[start..start + len].copy_from_slice(&pattern(version, if append { 0 } else { offset }, len));
        }
        if kill {
            let object = self.get_mut(id);
            object.mode = without_set_id(object.mode);
        }
        self.writes += 1;
    }

    fn fallocate(&mut self, id: ObjectId, offset: u64, len: u64, mode: i32) -> Touched {
        let bytes = self.bytes_mut(id);
        let (start, end) = (offset as usize, (offset + len) as usize);
        let reserve = mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) == 0;
        let (old, stop) = (bytes.len(), end.min(bytes.len()));
        if !reserve && start < stop {
            bytes[start..stop].fill(0);
        }
        if mode & libc::FALLOC_FL_KEEP_SIZE == 0 && end > old {
            bytes.resize(end, 0);
        }
        vec![(id, if reserve { Touch::Change } else { Touch::Modify })]
    }

    fn set_xattr(&mut self, id: ObjectId, name: &[u8], value: &[u8]) -> Touched {
        let object = self.get_mut(id);
        match (Acl::decode(value), name) {
            (Some(acl), acl::ACCESS) => {
                object.mode = object.mode & !0o777 | acl.mode();
                object.access = acl.is_more_than_mode().then_some(acl);
            }
            (Some(acl), acl::DEFAULT) => object.default = Some(acl),
            _ => {
                object.xattrs.insert(name.to_vec(), value.to_vec());
            }
        }
        vec![(id, Touch::Change)]
    }

    fn remove_xattr(&mut self, id: ObjectId, name: &[u8]) -> Touched {
        let object = self.get_mut(id);
        let removed = match name {
            acl::ACCESS => object.access.take().is_some(),
            acl::DEFAULT => object.default.take().is_some(),
            _ => object.xattrs.remove(name).is_some(),
        };
        if removed { vec![(id, Touch::Change)] } else { vec![] }
    }

    /// Forgets objects that have neither name nor handle.
    pub fn sweep(&mut self) {
        self.objects
            .retain(|id, object| *id == ObjectId::ROOT || !object.names.is_empty() || !object.handles.is_empty());
    }
}

fn without_set_id(mode: u32) -> u32 {
    let group = if mode & libc::S_IXGRP != 0 { libc::S_ISGID } else { 0 };
    mode & !(libc::S_ISUID | group)
}

fn is_hidden(parent: ObjectId, name: &[u8]) -> bool {
    parent == ObjectId::ROOT && name == b".net_raid"
}

fn check_new(parent: ObjectId, name: &[u8]) -> Result<(), Errno> {
    match name.len() {
        _ if is_hidden(parent, name) => Err(Errno::EPERM),
        ..=NAME_MAX => Ok(()),
        _ => Err(Errno::ENAMETOOLONG),
    }
}

fn check_namespace(name: &[u8], kind: &Kind) -> Result<(), Errno> {
    let holds_users = matches!(kind, Kind::File | Kind::Directory);
    match name {
        _ if name.starts_with(b"user.net_raid") || name.starts_with(b"trusted.net_raid") => Err(Errno::EPERM),
        _ if name.starts_with(b"user.") && !holds_users => Err(Errno::EPERM),
        _ if name.starts_with(b"system.") && *kind == Kind::Symlink => Err(Errno::EOPNOTSUPP),
        _ => Ok(()),
    }
}
