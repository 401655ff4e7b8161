//! Data that says what it is: every 16 bytes name their object, version and offset, so that a
//! misplaced or stale block names itself in the message of the test that finds it.
//!
//! The second half of a cell is a scrambled copy of the first. Without it, parity over cells that
//! count upwards would often be right by accident.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const CELL: u64 = 16;
/// The bits of a cell's name that count cells from the start of the file; 1 TiB of them.
const INDEX: u64 = (1 << 36) - 1;
/// Bytes that [`write_file`] and [`verify_file`] move at once.
const CHUNK: usize = 1024 * 1024;

/// Which data: two patterns differ in every cell unless both numbers are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Names the file.
    pub object: u16,
    /// Counts its overwrites.
    pub version: u16,
}

impl Pattern {
    /// The first version of a file's data.
    pub fn of(object: u16) -> Pattern {
        Pattern { object, version: 0 }
    }

    /// The next version of the same file's data.
    pub fn next(self) -> Pattern {
        Pattern { version: self.version + 1, ..self }
    }

    fn cell(self, index: u64) -> [u8; CELL as usize] {
        let name = u64::from(self.object) << 48 | u64::from(self.version) << 36 | index;
        let mut cell = [0; CELL as usize];
        cell[..8].copy_from_slice(&name.to_le_bytes());
        cell[8..].copy_from_slice(&scramble(name).to_le_bytes());
        cell
    }

    /// Fills `buffer` with the bytes of this pattern from `offset` of the file on.
    pub fn fill(self, offset: u64, buffer: &mut [u8]) {
        let mut at = 0;
        while at < buffer.len() {
            let position = offset + at as u64;
            let skip = (position % CELL) as usize;
            let take = (CELL as usize - skip).min(buffer.len() - at);
            let cell = self.cell(position / CELL);
            buffer[at..at + take].copy_from_slice(&cell[skip..skip + take]);
            at += take;
        }
    }

    /// `length` bytes of this pattern from `offset` of the file on.
    pub fn bytes(self, offset: u64, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length];
        self.fill(offset, &mut buffer);
        buffer
    }

    /// The offset in the file that `bytes` begin with, if they are of this pattern: what tells a unit of
    /// data from one of parity.
    pub fn locate(self, bytes: &[u8]) -> Option<u64> {
        let name = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let index = name & INDEX;
        (bytes.get(..CELL as usize)? == self.cell(index)).then_some(index * CELL)
    }

    /// Compares bytes read at `offset` with this pattern; the error describes the first difference.
    pub fn check(self, offset: u64, found: &[u8]) -> Result<(), String> {
        let wanted = self.bytes(offset, found.len());
        let Some(at) = (0..found.len()).find(|&i| wanted[i] != found[i]) else {
            return Ok(());
        };
        let position = offset + at as u64;
        Err(format!("at byte {position}: wanted {self:?}, found {}", describe(position, at, found)))
    }
}

/// What the cell around `found[at]` says about itself.
fn describe(position: u64, at: usize, found: &[u8]) -> String {
    let start = at.checked_sub((position % CELL) as usize);
    let cell = start.and_then(|s| found.get(s..s + CELL as usize));
    let Some(cell) = cell else {
        return format!("byte {:#04x}", found[at]);
    };
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let (name, check) = (word(&cell[..8]), word(&cell[8..]));
    if name == 0 && check == 0 {
        "zeros".into()
    } else if scramble(name) == check {
        let (object, version) = (name >> 48, name >> 36 & 0xfff);
        let offset = (name & INDEX) * CELL;
        format!("object {object} version {version} of byte {offset}")
    } else {
        format!("no pattern: {cell:02x?}")
    }
}

/// A bijection that is linear neither in XOR nor in GF(2^8) (splitmix64).
fn scramble(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes `length` bytes of `pattern` into `file` from `offset` on.
pub fn write_range(file: &File, pattern: Pattern, offset: u64, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    while done < length {
        let take = (length - done).min(CHUNK as u64) as usize;
        pattern.fill(offset + done, &mut buffer[..take]);
        file.write_all_at(&buffer[..take], offset + done)?;
        done += take as u64;
    }
    Ok(())
}

/// Reads `length` bytes of `file` from `offset` on and compares them with `pattern`.
///
/// # Panics
/// At the first difference, which it describes.
pub fn verify_range(file: &File, pattern: Pattern, offset: u64, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    while done < length {
        let take = (length - done).min(CHUNK as u64) as usize;
        file.read_exact_at(&mut buffer[..take], offset + done)?;
        if let Err(difference) = pattern.check(offset + done, &buffer[..take]) {
            panic!("{difference}");
        }
        done += take as u64;
    }
    Ok(())
}

/// Creates `path` with `length` bytes of `pattern`, not synced.
pub fn write_file(path: &std::path::Path, pattern: Pattern, length: u64) -> io::Result<()> {
    write_range(&File::create(path)?, pattern, 0, length)
}

/// Checks that `path` holds exactly `length` bytes of `pattern`.
///
/// # Panics
/// When it does not, naming the file and the first difference.
pub fn verify_file(path: &std::path::Path, pattern: Pattern, length: u64) -> io::Result<()> {
    let file = File::open(path)?;
    assert_eq!(file.metadata()?.len(), length, "length of {}", path.display());
    verify_range(&file, pattern, 0, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_of_a_pattern_is_the_same_bytes() {
        let whole = Pattern::of(7).bytes(0, 4096);
        for (from, to) in [(0, 1), (1, 17), (15, 16), (16, 48), (5, 4096)] {
            assert_eq!(Pattern::of(7).bytes(from as u64, to - from), whole[from..to]);
        }
    }

    #[test]
    fn a_stale_or_misplaced_block_names_itself() {
        let pattern = Pattern::of(3).next();
        let stale = Pattern::of(3).bytes(4096, 64);
        let told = pattern.check(4096, &stale).unwrap_err();
        assert!(told.contains("object 3 version 0 of byte 4096"), "{told}");
        assert_eq!((Pattern::of(3).locate(&stale), pattern.locate(&stale)), (Some(4096), None));
        let misplaced = pattern.bytes(65536, 64);
        let told = pattern.check(0, &misplaced).unwrap_err();
        assert!(told.contains("object 3 version 1 of byte 65536"), "{told}");
    }
}
