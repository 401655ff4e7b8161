//! A file of fixed length whose blocks are overwritten in place.

use std::fs::File;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};

use super::block::{self, BLOCK, NOTHING};
use super::record::Cell;
use super::report::Tally;
use super::signs::Signs;
use crate::fsops::open_with;
use crate::random::Random;

/// Blocks of the file: many stripes of any array.
const BLOCKS: u32 = 768;

/// The file and its record.
#[derive(Debug)]
pub(super) struct Overwritten {
    name: String,
    number: u32,
    cells: Vec<Cell>,
    version: u32,
    open: Option<Handles>,
}

#[derive(Debug)]
struct Handles {
    lazy: File,
    eager: File,
}

impl Overwritten {
    /// Makes the file, with the first version of every block.
    pub(super) fn create(root: &Path, number: u32) -> io::Result<Overwritten> {
        let name = format!("overwritten{number}");
        let file = File::create_new(root.join(&name))?;
        let all: Vec<u8> = (0..BLOCKS).flat_map(|index| block::bytes(number, index, 1)).collect();
        file.write_all_at(&all, 0)?;
        file.sync_all()?;
        Ok(Overwritten { name, number, cells: vec![Cell::new(1); BLOCKS as usize], version: 1, open: None })
    }

    fn path(&self, root: &Path) -> PathBuf {
        root.join(&self.name)
    }

    fn handles(&mut self, root: &Path) -> io::Result<&Handles> {
        if self.open.is_none() {
            let path = self.path(root);
            let lazy = open_with(&path, OFlags::RDWR)?;
            self.open = Some(Handles { lazy, eager: open_with(&path, OFlags::RDWR | OFlags::SYNC)? });
        }
        Ok(self.open.as_ref().expect("just opened"))
    }

    /// One operation of any kind. After an error nothing is known that was not safe before.
    pub(super) fn step(
        &mut self,
        root: &Path,
        random: &mut Random,
        signs: &Signs,
        tally: &mut Tally,
    ) -> io::Result<()> {
        self.handles(root)?;
        let done = match random.below(100) {
            0..55 => self.write(random, false, tally),
            55..72 => self.write(random, true, tally),
            72..76 => self.punch(random),
            76..88 => self.sync(tally),
            88..92 => self.close(signs, tally),
            _ => self.read_back(random, tally),
        };
        if done.is_err() {
            self.doubt();
        }
        done
    }

    /// Makes all that was written safe, and lets go of the file.
    pub(super) fn settle(&mut self, root: &Path, tally: &mut Tally) -> io::Result<()> {
        let done = self.handles(root).map(|_| ()).and_then(|()| self.sync(tally));
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
        self.cells.iter_mut().for_each(Cell::doubt);
        self.open = None;
    }

    fn range(random: &mut Random) -> std::ops::Range<u32> {
        let longest = random.pick(&[1, 1, 2, 4, 40, 200]);
        let length = 1 + random.below(longest) as u32;
        let first = random.below(u64::from(BLOCKS - length + 1)) as u32;
        first..first + length
    }

    fn cells(&mut self, range: &std::ops::Range<u32>) -> &mut [Cell] {
        &mut self.cells[range.start as usize..range.end as usize]
    }

    fn opened(&self) -> &Handles {
        self.open.as_ref().expect("opened by the step")
    }

    fn write(&mut self, random: &mut Random, eager: bool, tally: &mut Tally) -> io::Result<()> {
        let range = Self::range(random);
        self.version += 1;
        let version = self.version;
        let bytes: Vec<u8> = range.clone().flat_map(|index| block::bytes(self.number, index, version)).collect();
        self.cells(&range).iter_mut().for_each(|cell| cell.begin(version));
        let file = if eager { &self.opened().eager } else { &self.opened().lazy };
        file.write_all_at(&bytes, u64::from(range.start) * BLOCK as u64)?;
        for cell in self.cells(&range) {
            cell.written(version);
            if eager {
                cell.settle();
            }
        }
        tally.bytes += if eager { bytes.len() as u64 } else { 0 };
        Ok(())
    }

    /// A hole is acknowledged by all members at once, without a sync.
    fn punch(&mut self, random: &mut Random) -> io::Result<()> {
        let range = Self::range(random);
        self.cells(&range).iter_mut().for_each(|cell| cell.begin(NOTHING));
        let (at, length) = (u64::from(range.start) * BLOCK as u64, range.len() as u64 * BLOCK as u64);
        fallocate(&self.opened().lazy, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, length)?;
        for cell in self.cells(&range) {
            cell.written(NOTHING);
            cell.settle();
        }
        Ok(())
    }

    fn sync(&mut self, tally: &mut Tally) -> io::Result<()> {
        self.opened().lazy.sync_data()?;
        self.settle_cells(tally);
        Ok(())
    }

    fn settle_cells(&mut self, tally: &mut Tally) {
        for cell in &mut self.cells {
            tally.bytes += if cell.is_waiting() { BLOCK as u64 } else { 0 };
            cell.settle();
        }
    }

    /// close(2) says what became of the bytes, which a `File` does not listen to. Where writes fail, it says so not always:
    /// the kernel may have told somebody else.
    fn close(&mut self, signs: &Signs, tally: &mut Tally) -> io::Result<()> {
        let handles = self.open.take().expect("opened by the step");
        nix::unistd::close(handles.lazy.into_raw_fd())?;
        if !signs.may_fail() {
            self.settle_cells(tally);
        }
        Ok(())
    }

    /// Reads some blocks, from the kernel's memory or from the bricks.
    fn read_back(&mut self, random: &mut Random, tally: &mut Tally) -> io::Result<()> {
        if random.percent(50) {
            self.sync(tally)?;
            fadvise(&self.opened().lazy, 0, None, Advice::DontNeed)?;
        }
        let range = Self::range(random);
        let mut bytes = vec![0; range.len() * BLOCK];
        self.opened().lazy.read_exact_at(&mut bytes, u64::from(range.start) * BLOCK as u64)?;
        for (index, found) in range.zip(bytes.chunks(BLOCK)) {
            let Some(wanted) = self.cells[index as usize].seen() else { continue };
            let found = block::version(self.number, index, found);
            let name = &self.name;
            assert!(found == Ok(wanted), "{name}, block {index}: {found:?} is read, but {wanted} was written last");
        }
        Ok(())
    }

    /// Compares what the volume holds with the record; what is found is decided from now on.
    ///
    /// # Errors
    /// What is lost, in words.
    pub(super) fn verify(&mut self, root: &Path) -> Result<u64, String> {
        let bytes = std::fs::read(self.path(root)).map_err(|error| format!("{}: {error}", self.name))?;
        if bytes.len() != self.cells.len() * BLOCK {
            return Err(format!("{} has {} bytes", self.name, bytes.len()));
        }
        for ((index, found), cell) in (0..).zip(bytes.chunks(BLOCK)).zip(&mut self.cells) {
            let described = |what: String| format!("{}, block {index}: {what}", self.name);
            let version = block::version(self.number, index, found).map_err(described)?;
            cell.found(version).map_err(|what| described(format!("found version {version}, but {what}")))?;
        }
        Ok(bytes.len() as u64)
    }

    /// Claims that a block was acknowledged that was not.
    pub(super) fn lie(&mut self) {
        self.cells[BLOCKS as usize / 2].lie();
    }
}
