//! Blocks that say which file, place and version they are of.

use crate::random::Random;

/// Bytes of a block.
pub(super) const BLOCK: usize = 4096;
/// A hole, and a name that is not there. Versions that are written begin with 1.
pub(super) const NOTHING: u32 = 0;

const WORD: usize = 8;

/// The bytes of version `version` of block `index` of file `file`; [`NOTHING`] is zeros.
pub(super) fn bytes(file: u32, index: u32, version: u32) -> Vec<u8> {
    if version == NOTHING {
        return vec![0; BLOCK];
    }
    let place = u64::from(file) << 32 | u64::from(index);
    let mut words = vec![place, u64::from(version)];
    // The rest follows from the first two words, and is its checksum.
    let mut rest = Random::new(Random::new(place).number() ^ u64::from(version));
    words.resize_with(BLOCK / WORD, || rest.number());
    words[0..2].copy_from_slice(&[place, u64::from(version)]);
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// The version of the block that `found` is.
///
/// # Errors
/// It is not whole, or another one; in words.
pub(super) fn version(file: u32, index: u32, found: &[u8]) -> Result<u32, String> {
    let word = |at: usize| u64::from_le_bytes(found[at..at + WORD].try_into().expect("eight bytes"));
    if found.len() != BLOCK {
        return Err(format!("{} bytes of a block", found.len()));
    }
    if found.iter().all(|&byte| byte == 0) {
        return Ok(NOTHING);
    }
    let (place, version) = (word(0), word(WORD));
    let (of_file, of_index) = ((place >> 32) as u32, place as u32);
    let Ok(version) = u32::try_from(version) else { return Err(format!("nonsense: {:02x?}", &found[..2 * WORD])) };
    let wanted = bytes(of_file, of_index, version);
    if let Some(at) = (0..BLOCK).find(|&at| wanted[at] != found[at]) {
        return Err(format!("torn: byte {at} is not of version {version} of block {of_index} of file {of_file}"));
    }
    if (of_file, of_index) != (file, index) {
        return Err(format!("version {version} of block {of_index} of file {of_file}"));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_names_itself() {
        for (file, index, of) in [(1, 0, 1), (7, 1023, 5), (u32::MAX, u32::MAX, u32::MAX), (3, 3, NOTHING)] {
            assert_eq!(version(file, index, &bytes(file, index, of)), Ok(of));
        }
        assert!(version(1, 3, &bytes(1, 2, 9)).unwrap_err().contains("block 2"));
        assert!(version(2, 2, &bytes(1, 2, 9)).unwrap_err().contains("file 1"));
    }

    #[test]
    fn any_flipped_byte_is_seen() {
        let block = bytes(1, 2, 3);
        for at in (0..16).chain((16..BLOCK).step_by(97)).chain([BLOCK - 1]) {
            let mut flipped = block.clone();
            flipped[at] ^= 0x10;
            assert!(version(1, 2, &flipped).is_err(), "byte {at}");
        }
        let mut torn = bytes(1, 2, 3);
        torn[BLOCK / 2..].copy_from_slice(&bytes(1, 2, 4)[BLOCK / 2..]);
        assert!(version(1, 2, &torn).unwrap_err().contains("torn"));
        torn[..BLOCK / 2].fill(0);
        assert!(version(1, 2, &torn).is_err());
    }
}
