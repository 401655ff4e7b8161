//! The reference: what was done, acknowledged and made durable, and so what may be found after a crash.
//!
//! Each actor has a directory and everything below it to itself, and does one thing at a time: at a crash there is one
//! operation of which nobody knows whether it was done.

use std::collections::BTreeMap;

use net_raid_proto::ids::ObjectId;

use crate::content::Content;

/// Stands for an object that is being made, and whose id is not known yet.
pub const NEW: ObjectId = ObjectId(u64::MAX);

/// A name in a directory.
pub type Place = (ObjectId, String);
/// What places name.
pub type Names = BTreeMap<Place, ObjectId>;

/// Versions of something, from the last that is durable on.
#[derive(Debug, Clone)]
pub struct Window<T> {
    /// With the moment when each was acknowledged.
    versions: Vec<(u64, T)>,
    /// Under way.
    pending: Option<T>,
}

impl<T: Clone> Window<T> {
    pub fn new(tick: u64, value: T) -> Window<T> {
        Window { versions: vec![(tick, value)], pending: None }
    }

    /// The last that was acknowledged.
    pub fn last(&self) -> &T {
        &self.versions.last().expect("there is always one").1
    }

    pub fn begin(&mut self, value: T) {
        self.pending = Some(value);
    }

    /// What is under way is done.
    pub fn done(&mut self, tick: u64) {
        if let Some(value) = self.pending.take() {
            self.versions.push((tick, value));
        }
    }

    /// What is under way was refused, or taken back: for a moment it may have been there.
    pub fn refused(&mut self) {
        let (tick, before) = self.versions.last().expect("there is always one").clone();
        if let Some(value) = self.pending.take() {
            self.versions.extend([(tick, value), (tick, before)]);
        }
    }

    /// A value that is there, whatever was under way.
    pub fn put(&mut self, tick: u64, value: T) {
        self.pending = None;
        self.versions.push((tick, value));
    }

    /// All that was acknowledged up to `tick` is durable.
    pub fn durable(&mut self, tick: u64) {
        self.versions.drain(..self.first_since(tick));
    }

    fn first_since(&self, tick: u64) -> usize {
        self.versions.partition_point(|(at, _)| *at <= tick).saturating_sub(1)
    }

    /// What may be found, when what was acknowledged up to `tick` is durable.
    pub fn since(&self, tick: u64) -> impl Iterator<Item = &T> {
        self.versions[self.first_since(tick)..].iter().map(|(_, value)| value).chain(&self.pending)
    }

    /// What may be found after a crash, with what the kernels kept or (`lossy`) without.
    pub fn possible(&self, lossy: bool) -> Vec<&T> {
        self.since(if lossy { 0 } else { u64::MAX }).collect()
    }

    pub fn pending(&self) -> Option<&T> {
        self.pending.as_ref()
    }
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    File,
    Directory,
    Symlink,
}

/// A file.
#[derive(Debug, Clone)]
pub struct FileHistory {
    pub content: Window<Content>,
    pub mode: Window<u32>,
    pub xattr: Window<Option<Vec<u8>>>,
    /// The change of content that is under way is a write, of which a part may be done.
    pub writing: bool,
}

impl FileHistory {
    pub fn new(tick: u64, content: Content, mode: u32, xattr: Option<Vec<u8>>) -> FileHistory {
        FileHistory {
            content: Window::new(tick, content),
            mode: Window::new(tick, mode),
            xattr: Window::new(tick, xattr),
            writing: false,
        }
    }

    fn durable(&mut self, tick: u64) {
        self.content.durable(tick);
        self.mode.durable(tick);
        self.xattr.durable(tick);
    }
}

/// What one actor did.
#[derive(Debug, Clone)]
pub struct ActorHistory {
    pub names: Window<Names>,
    pub files: BTreeMap<ObjectId, FileHistory>,
    pub sorts: BTreeMap<ObjectId, Sort>,
    /// Until when the names in a directory, one name, and some name of an object are durable.
    pub dirs: BTreeMap<ObjectId, u64>,
    pub places: BTreeMap<Place, u64>,
    pub objects: BTreeMap<ObjectId, u64>,
}

impl ActorHistory {
    pub fn new(names: Names) -> ActorHistory {
        ActorHistory {
            names: Window::new(0, names),
            files: BTreeMap::new(),
            sorts: BTreeMap::new(),
            dirs: BTreeMap::new(),
            places: BTreeMap::new(),
            objects: BTreeMap::new(),
        }
    }

    /// Everything up to `tick` is durable.
    pub fn durable(&mut self, tick: u64) {
        self.names.durable(tick);
        self.files.values_mut().for_each(|file| file.durable(tick));
    }

    /// A file was synced: its bytes, its only name, and with `all` its attributes.
    pub fn file_durable(&mut self, id: ObjectId, tick: u64, all: bool) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.content.durable(tick);
        if all {
            file.mode.durable(tick);
            file.xattr.durable(tick);
        }
        self.object_durable(id, tick);
    }

    /// A directory was synced: the names in it, and its own.
    pub fn dir_durable(&mut self, id: ObjectId, tick: u64) {
        self.dirs.insert(id, tick);
        let named: Vec<ObjectId> =
            self.names.last().iter().filter(|((dir, _), _)| *dir == id).map(|(_, id)| *id).collect();
        self.objects.extend(named.into_iter().map(|id| (id, tick)));
        self.object_durable(id, tick);
    }

    fn object_durable(&mut self, id: ObjectId, tick: u64) {
        self.objects.insert(id, tick);
        let names = self.names.last();
        let mut at = id;
        // Directories have one name. Of a file with several, nobody knows which one is meant.
        loop {
            let mut named = names.iter().filter(|(_, named)| **named == at).map(|(place, _)| place.clone());
            let (Some(place), None) = (named.next(), named.next()) else { return };
            at = place.0;
            self.places.insert(place, tick);
            self.objects.insert(at, tick);
        }
    }
}

/// What all actors did.
#[derive(Debug, Default)]
pub struct History {
    /// Counts acknowledgements.
    pub tick: u64,
    pub actors: Vec<ActorHistory>,
    /// More servers were away than the redundancy bears: operations may fail.
    pub beyond: bool,
    /// Some disk was full: so may they.
    pub full: bool,
    /// What must not be.
    pub violation: Option<String>,
}

impl History {
    pub fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Notes what must not be; the first counts.
    pub fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// What was acknowledged up to `tick` survives everything.
    pub fn durable(&mut self, tick: u64) {
        self.actors.iter_mut().for_each(|actor| actor.durable(tick));
    }
}
