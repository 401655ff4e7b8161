//! A file that grows at its end, by pieces of any length.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::block::{self, BLOCK};
use super::report::Tally;
use crate::fsops::open_with;
use crate::random::Random;

/// The longest that it gets.
const MOST: u64 = 3 << 20;
/// The only version of its blocks: where a byte is says what it is.
const VERSION: u32 = 1;

/// The file and its record.
#[derive(Debug)]
pub(super) struct Grown {
    name: String,
    number: u32,
    /// Bytes that are safe.
    settled: u64,
    /// What it may have grown to.
    most: u64,
    /// Its length as programs see it; unknown after an error, until it was cut to what is safe.
    length: Option<u64>,
    open: Option<File>,
}

impl Grown {
    /// Makes the file, empty.
    pub(super) fn create(root: &Path, number: u32) -> io::Result<Grown> {
        let name = format!("grown{number}");
        File::create_new(root.join(&name))?.sync_all()?;
        Ok(Grown { name, number, settled: 0, most: 0, length: Some(0), open: None })
    }

    fn path(&self, root: &Path) -> PathBuf {
        root.join(&self.name)
    }

    /// One operation of any kind.
    pub(super) fn step(&mut self, root: &Path, random: &mut Random, tally: &mut Tally) -> io::Result<()> {
        let done = self.try_step(root, random, tally);
        if done.is_err() {
            self.doubt();
        }
        done
    }

    fn try_step(&mut self, root: &Path, random: &mut Random, tally: &mut Tally) -> io::Result<()> {
        if self.open.is_none() {
            self.open = Some(open_with(&self.path(root), OFlags::WRONLY | OFlags::APPEND)?);
        }
        match self.length {
            // What a failed append has left is cut off, and so is everything when there is much.
            None => self.cut(self.settled),
            Some(length) if length >= MOST => self.cut(random.below(length)),
            Some(length) if random.percent(80) => self.append(length, 1 + random.below(30_000)),
            Some(_) => self.sync(tally),
        }
    }

    fn append(&mut self, length: u64, more: u64) -> io::Result<()> {
        self.most = self.most.max(length + more);
        self.length = None;
        self.file().write_all(&content(self.number, length, length + more))?;
        self.length = Some(length + more);
        Ok(())
    }

    /// A file that was cut is short on all members at once. Its bytes up to there need a sync as before.
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.settled = self.settled.min(length);
        self.length = None;
        self.file().set_len(length)?;
        self.most = length;
        self.length = Some(length);
        Ok(())
    }

    fn file(&self) -> &File {
        self.open.as_ref().expect("opened by the step")
    }

    fn sync(&mut self, tally: &mut Tally) -> io::Result<()> {
        self.file().sync_data()?;
        if let Some(length) = self.length {
            tally.bytes += length - self.settled;
            (self.settled, self.most) = (length, length);
        }
        Ok(())
    }

    /// Makes all that was written safe, and lets go of the file.
    pub(super) fn settle(&mut self, tally: &mut Tally) -> io::Result<()> {
        let done = if self.open.is_some() { self.sync(tally) } else { Ok(()) };
        if done.is_err() {
            self.doubt();
        }
        self.open = None;
        done
    }

    /// Lets go of the file, whose mount is dead.
    pub(super) fn abandon(&mut self) {
        self.doubt();
    }

    fn doubt(&mut self) {
        if self.most > self.settled {
            self.length = None;
        }
        self.open = None;
    }

    /// Compares what the volume holds with the record. Beyond what is safe each block may be there or be a hole.
    ///
    /// # Errors
    /// What is lost, in words.
    pub(super) fn verify(&mut self, root: &Path) -> Result<u64, String> {
        let found = std::fs::read(self.path(root)).map_err(|error| format!("{}: {error}", self.name))?;
        let length = found.len() as u64;
        let Grown { name, settled, most, .. } = &*self;
        if length < *settled || length > *most {
            return Err(format!("{name} has {length} bytes; {settled} were acknowledged, {most} written"));
        }
        let wanted = content(self.number, 0, length);
        for start in (0..found.len()).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(found.len());
            let Some(first) = block.clone().find(|&at| found[at] != wanted[at]) else { continue };
            // A block that grew by several appends may have some of them, and zeros after that.
            if (first as u64) < *settled || found[first..block.end].iter().any(|&byte| byte != 0) {
                return Err(format!("{name}: byte {first} is wrong; {settled} were acknowledged, {most} written"));
            }
        }
        self.most = length;
        self.doubt();
        Ok(length)
    }
}

/// The bytes of a range.
fn content(number: u32, from: u64, to: u64) -> Vec<u8> {
    let blocks = from / BLOCK as u64..to.div_ceil(BLOCK as u64);
    let start = (from - blocks.start * BLOCK as u64) as usize;
    let all: Vec<u8> = blocks.flat_map(|index| block::bytes(number, index as u32, VERSION)).collect();
    all[start..start + (to - from) as usize].to_vec()
}
