//! Files that are written whole under another name, renamed over the old ones, and removed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::block::{self, BLOCK, NOTHING};
use super::record::Cell;
use super::report::Tally;
use crate::random::Random;

/// Names in the directory.
const NAMES: u64 = 12;
/// The most blocks of a file.
const LONGEST: u32 = 6;

/// A directory of such files, and its record.
#[derive(Debug)]
pub(super) struct Names {
    dir: String,
    number: u32,
    cells: Vec<Cell>,
    version: u32,
    /// Something failed. It may be done later, when servers are back, and its names are best left alone until then.
    failed: bool,
}

impl Names {
    /// Makes the directory, empty.
    pub(super) fn create(root: &Path, number: u32) -> io::Result<Names> {
        let dir = format!("names{number}");
        fs::create_dir(root.join(&dir))?;
        Ok(Names { dir, number, cells: vec![Cell::new(NOTHING); NAMES as usize], version: 0, failed: false })
    }

    /// One operation of any kind, unless one failed since the last comparison. Names are safe as soon as the call that changes them has returned.
    pub(super) fn step(&mut self, root: &Path, random: &mut Random, tally: &mut Tally) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        let done = self.try_step(root, random, tally);
        self.failed = done.is_err();
        done
    }

    fn try_step(&mut self, root: &Path, random: &mut Random, tally: &mut Tally) -> io::Result<()> {
        let which = random.below(NAMES) as usize;
        let path = root.join(&self.dir).join(which.to_string());
        match self.cells[which].seen() {
            Some(version) if version != NOTHING && random.percent(25) => {
                self.change(which, NOTHING, || fs::remove_file(&path))
            }
            _ => self.replace(root, which, &path, random.percent(30), tally),
        }
    }

    fn change(&mut self, which: usize, version: u32, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let cell = &mut self.cells[which];
        cell.begin(version);
        change()?;
        cell.written(version);
        cell.settle();
        Ok(())
    }

    /// Writes a new file, in a directory of its own if `apart`, and renames it over the old one.
    fn replace(&mut self, root: &Path, which: usize, path: &Path, apart: bool, tally: &mut Tally) -> io::Result<()> {
        self.version += 1;
        let (version, spool) = (self.version, self.spool(root));
        if apart {
            fs::create_dir(&spool).or_else(|error| ok_if(error, ErrorKind::AlreadyExists))?;
        }
        let temporary = if apart { spool.join("new") } else { path.with_extension("new") };
        let mut file = File::create(&temporary)?;
        let content = content(self.number, which, version);
        file.write_all(&content)?;
        file.sync_all()?;
        drop(file);
        self.change(which, version, || fs::rename(&temporary, path))?;
        tally.bytes += content.len() as u64;
        if apart { fs::remove_dir(&spool) } else { Ok(()) }
    }

    fn spool(&self, root: &Path) -> PathBuf {
        root.join(&self.dir).join("spool")
    }

    /// Compares what the volume holds with the record; what is found is decided from now on.
    ///
    /// # Errors
    /// What is lost, in words.
    pub(super) fn verify(&mut self, root: &Path) -> Result<u64, String> {
        let dir = root.join(&self.dir);
        let failed = |error: io::Error| format!("{}: {error}", self.dir);
        let entries = fs::read_dir(&dir).map_err(failed)?.collect::<io::Result<Vec<_>>>().map_err(failed)?;
        let listed: BTreeSet<String> = entries.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        let mut bytes = 0;
        for (which, cell) in self.cells.iter_mut().enumerate() {
            let described = |what: String| format!("{}/{which}: {what}", self.dir);
            let found = match fs::read(dir.join(which.to_string())) {
                Ok(found) => found,
                Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(described(error.to_string())),
            };
            let version = version_of(self.number, which, &found).map_err(described)?;
            if listed.contains(&which.to_string()) != (version != NOTHING) {
                return Err(described(format!("version {version} is read, but the directory says otherwise")));
            }
            cell.found(version).map_err(|what| described(format!("found version {version}, but {what}")))?;
            bytes += found.len() as u64;
        }
        let known =
            |name: &String| name == "spool" || name.trim_end_matches(".new").parse().is_ok_and(|n: u64| n < NAMES);
        self.failed = false;
        match listed.iter().find(|name| !known(name)) {
            None => Ok(bytes),
            Some(name) => Err(format!("{}/{name}: nobody made it", self.dir)),
        }
    }
}

fn ok_if(error: io::Error, kind: ErrorKind) -> io::Result<()> {
    if error.kind() == kind { Ok(()) } else { Err(error) }
}

/// The file number by which blocks of a name know where they are.
fn number_of(number: u32, which: usize) -> u32 {
    number << 8 | which as u32
}

fn blocks_of(version: u32) -> u32 {
    1 + version % LONGEST
}

fn content(number: u32, which: usize, version: u32) -> Vec<u8> {
    (0..blocks_of(version)).flat_map(|index| block::bytes(number_of(number, which), index, version)).collect()
}

/// The version that a whole file is.
fn version_of(number: u32, which: usize, found: &[u8]) -> Result<u32, String> {
    if found.is_empty() {
        return Ok(NOTHING);
    }
    let version = block::version(number_of(number, which), 0, &found[..BLOCK.min(found.len())])?;
    if version != NOTHING && found == content(number, which, version) {
        Ok(version)
    } else {
        Err(format!("{} bytes that begin as version {version} does, but are not it", found.len()))
    }
}
