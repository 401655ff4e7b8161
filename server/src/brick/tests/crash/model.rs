//! What a brick may hold after a crash: everything since the last time that something was made durable.

use std::collections::BTreeMap;

use super::super::*;

/// Names by path, and what they name.
pub(super) type Names = BTreeMap<&'static str, u64>;

/// Content of a block: bytes that follow from a seed, then zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) seed: u64,
    pub(super) len: usize,
}

impl Version {
    pub(super) const ZEROS: Version = Version { seed: 0, len: 0 };

    pub(super) fn content(self) -> Vec<u8> {
        let mut content = pattern(self.seed, self.len);
        content.resize(BLOCK_SIZE, 0);
        content
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Create {
        path: &'static str,
        file: u64,
        level: Level,
    },
    /// Bytes from the start of a block on.
    Write {
        file: u64,
        block: usize,
        len: usize,
        seed: u64,
    },
    Truncate {
        file: u64,
        blocks: usize,
    },
    /// Space, and the length with it where that is shorter.
    Allocate {
        file: u64,
        blocks: usize,
    },
    Punch {
        file: u64,
        unit: u64,
    },
    Link {
        file: u64,
        path: &'static str,
    },
    Rename {
        from: &'static str,
        to: &'static str,
        keep: bool,
    },
    Unlink {
        path: &'static str,
        keep: bool,
    },
    Fsync {
        file: u64,
    },
    Checkpoint,
    Complete,
    /// Takes the last write back.
    Abort,
    /// The file ends where it did before that write, in the middle of a block too.
    EndAgain {
        file: u64,
        len: u64,
    },
}

/// A file: what it was since it was durable, oldest first.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) level: Level,
    pub(super) blocks: Vec<Vec<Version>>,
    /// Bytes of the brick's file.
    pub(super) lens: Vec<u64>,
    /// Names that it had when it was synced, or since.
    pub(super) synced_names: Option<Vec<&'static str>>,
}

impl File {
    fn new(level: Level) -> File {
        let blocks = vec![vec![Version::ZEROS]; super::BLOCKS];
        File { level, blocks, lens: vec![0], synced_names: None }
    }

    pub(super) fn now(&self, block: usize) -> Version {
        *self.blocks[block].last().expect("there is always one")
    }

    pub(super) fn len(&self) -> u64 {
        *self.lens.last().expect("there is always one")
    }

    /// Logical size for bytes of the brick's file: on RAID-1 the same.
    pub(super) fn size_of(&self, len: u64) -> u64 {
        if self.level == Level::Raid1 { len } else { 3 * len }
    }

    fn set(&mut self, block: usize, version: Version) {
        if self.now(block) != version {
            self.blocks[block].push(version);
        }
    }

    fn set_len(&mut self, len: u64) {
        self.lens.push(len);
    }

    fn durable(&mut self) {
        self.blocks.iter_mut().for_each(|versions| drop(versions.drain(..versions.len() - 1)));
        self.lens.drain(..self.lens.len() - 1);
    }
}

/// A write, and what was before it.
#[derive(Debug, Clone)]
pub(super) struct LastWrite {
    pub(super) file: u64,
    len: u64,
    blocks: Vec<(usize, Version)>,
}

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// Since the last checkpoint, oldest first.
    pub(super) names: Vec<Names>,
    pub(super) files: BTreeMap<u64, File>,
    /// A checkpoint that is not complete.
    pub(super) pending: bool,
    /// The last change, when it was a write.
    pub(super) last_write: Option<LastWrite>,
    /// The last change, when it was a write that was taken back: the file, and its length before.
    pub(super) taken_back: Option<(u64, u64)>,
}

impl Model {
    pub(super) fn new() -> Model {
        Model { names: vec![Names::new()], files: BTreeMap::new(), pending: false, last_write: None, taken_back: None }
    }

    pub(super) fn names(&self) -> &Names {
        self.names.last().expect("there is always one")
    }

    fn file(&mut self, file: u64) -> &mut File {
        self.files.get_mut(&file).expect("a step names a file that there is")
    }

    fn rename_to(&mut self, change: impl FnOnce(&mut Names)) {
        let mut names = self.names().clone();
        change(&mut names);
        for (number, file) in &mut self.files {
            let now = names.iter().filter(|(_, named)| *named == number).map(|(path, _)| *path);
            // A file whose last name went may be gone.
            match (&mut file.synced_names, names.values().any(|named| named == number)) {
                (Some(known), true) => known.extend(now),
                (known, _) => *known = None,
            }
        }
        self.names.push(names);
    }

    /// What the step leaves when it is answered.
    pub(super) fn apply(&mut self, step: &Step) {
        if !matches!(step, Step::Fsync { .. } | Step::Write { .. } | Step::Abort) {
            self.last_write = None;
        }
        self.taken_back = None;
        match *step {
            Step::Create { path, file, level } => {
                self.files.insert(file, File::new(level));
                self.rename_to(|names| names.extend([(path, file)]));
            }
            Step::Link { file, path } => self.rename_to(|names| names.extend([(path, file)])),
            Step::Rename { from, to, .. } => self.rename_to(|names| {
                let file = names.remove(from).expect("a name that there is");
                names.insert(to, file);
            }),
            Step::Unlink { path, .. } => self.rename_to(|names| names.retain(|named, _| *named != path)),
            Step::Write { file, block, len, seed } => self.write(file, block, len, seed),
            Step::Truncate { file, blocks } => {
                let file = self.file(file);
                file.set_len((blocks * BLOCK_SIZE) as u64);
                (blocks..super::BLOCKS).for_each(|block| file.set(block, Version::ZEROS));
            }
            Step::Allocate { file, blocks } => {
                let (file, len) = (self.file(file), (blocks * BLOCK_SIZE) as u64);
                if len > file.len() {
                    file.set_len(len);
                }
            }
            Step::Punch { file, unit } => {
                let per_unit = UNIT_SIZE / BLOCK_SIZE;
                let first = unit as usize * per_unit;
                let file = self.file(file);
                (first..(first + per_unit).min(super::BLOCKS)).for_each(|block| file.set(block, Version::ZEROS));
            }
            Step::Fsync { file: number } => {
                let names: Vec<_> = self.names().iter().filter(|(_, file)| **file == number).map(|(p, _)| *p).collect();
                let file = self.file(number);
                file.durable();
                file.synced_names = Some(names);
            }
            Step::Checkpoint => {
                self.names.drain(..self.names.len() - 1);
                self.files.values_mut().for_each(File::durable);
                self.pending = true;
            }
            Step::Complete => self.pending = false,
            Step::Abort => self.abort(),
            Step::EndAgain { file, len } => self.file(file).set_len(len),
        }
    }

    fn write(&mut self, number: u64, block: usize, len: usize, seed: u64) {
        let file = self.file(number);
        let (mut blocks, len_before) = (Vec::new(), file.len());
        for (index, at) in (0..len).step_by(BLOCK_SIZE).enumerate() {
            blocks.push((block + index, file.now(block + index)));
            file.set(block + index, Version { seed: seed * 100 + index as u64, len: (len - at).min(BLOCK_SIZE) });
        }
        let end = (block * BLOCK_SIZE + len) as u64;
        if end > file.len() {
            file.set_len(end);
        }
        self.last_write = Some(LastWrite { file: number, len: len_before, blocks });
    }

    /// The blocks are what they were; the size stays.
    fn abort(&mut self) {
        let LastWrite { file, len, blocks } = self.last_write.take().expect("a write to take back");
        self.taken_back = Some((file, len));
        let file = self.file(file);
        for (block, version) in blocks {
            let versions = &mut file.blocks[block];
            versions.pop();
            if versions.is_empty() {
                versions.push(version);
            }
        }
    }
}
