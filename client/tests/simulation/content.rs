//! The bytes of a file, in blocks that versions share.

use std::sync::Arc;

/// What is old or new as a whole.
pub const BLOCK: u64 = 4096;

/// Bytes of a file; behind its end there are zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    pub size: u64,
    /// `None`: zeros. Always as long as the size says.
    blocks: Vec<Option<Arc<[u8]>>>,
}

impl Content {
    /// All bytes of a file.
    pub fn of(bytes: &[u8]) -> Content {
        Content::default().written(0, bytes)
    }

    /// With `data` at `offset`.
    pub fn written(&self, offset: u64, data: &[u8]) -> Content {
        let mut next = self.sized(self.size.max(offset + data.len() as u64));
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (number, within) = ((at / BLOCK) as usize, (at % BLOCK) as usize);
            let count = (data.len() - done).min(BLOCK as usize - within);
            next.change(number, |block| block[within..within + count].copy_from_slice(&data[done..done + count]));
            done += count;
        }
        next
    }

    /// Cut or extended.
    pub fn sized(&self, size: u64) -> Content {
        let mut next = self.clone();
        next.blocks.resize(size.div_ceil(BLOCK) as usize, None);
        if size < self.size && !size.is_multiple_of(BLOCK) {
            next.change((size / BLOCK) as usize, |block| block[(size % BLOCK) as usize..].fill(0));
        }
        next.size = size;
        next
    }

    /// With zeros in a range.
    pub fn zeroed(&self, offset: u64, len: u64, keep_size: bool) -> Content {
        let end = if keep_size { (offset + len).min(self.size) } else { offset + len };
        if end <= offset { self.clone() } else { self.written(offset, &vec![0; (end - offset) as usize]) }
    }

    fn change(&mut self, number: usize, change: impl FnOnce(&mut [u8])) {
        let mut block = self.block(number).map_or_else(|| vec![0; BLOCK as usize], <[u8]>::to_vec);
        change(&mut block);
        self.blocks[number] = Some(block.into());
    }

    /// One block; `None` for zeros.
    fn block(&self, number: usize) -> Option<&[u8]> {
        self.blocks.get(number)?.as_deref()
    }

    /// Bytes of a range, as far as the file reaches.
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = self.size.min(offset + len as u64);
        let mut bytes = Vec::new();
        let mut at = offset;
        while at < end {
            let (number, within) = ((at / BLOCK) as usize, (at % BLOCK) as usize);
            let count = ((end - at) as usize).min(BLOCK as usize - within);
            match self.block(number) {
                Some(block) => bytes.extend_from_slice(&block[within..within + count]),
                None => bytes.resize(bytes.len() + count, 0),
            }
            at += count as u64;
        }
        bytes
    }

    /// Whether this has in block `number` what `other` has, up to byte `end` of the file.
    fn agrees(&self, other: &Content, number: usize, end: u64) -> bool {
        let (one, two) = (self.block(number), other.block(number));
        let count = end.saturating_sub(number as u64 * BLOCK).min(BLOCK) as usize;
        match (one, two) {
            (None, None) => true,
            (Some(block), None) | (None, Some(block)) => block[..count].iter().all(|byte| *byte == 0),
            (Some(one), Some(two)) => one[..count] == two[..count],
        }
    }

    /// Whether each block is that of one of these versions; the first that is not.
    pub fn mixed_of(&self, versions: &[&Content]) -> Result<(), String> {
        for number in 0..self.size.div_ceil(BLOCK) as usize {
            if !versions.iter().any(|version| self.agrees(version, number, self.size)) {
                let start: Vec<u8> = self.read(number as u64 * BLOCK, 16);
                return Err(format!(
                    "block {number} (size {}) is that of none of {} versions: {start:02x?}",
                    self.size,
                    versions.len()
                ));
            }
        }
        Ok(())
    }
}
