//! The simulated file system: what the kernel sees, what is durable, and the journal between them.
//!
//! Every change of metadata is one journal record: the inodes as they are after it. The journal is written in order,
//! so after a power loss a prefix of its records counts. Blocks that a write takes get their place later, as ext4's
//! delayed allocation does it; until then they may be lost although later records survive.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use net_raid_proto::ids::{Name, Timestamp};
use net_raid_proto::message::{Kind, Space};

use super::inode::{Allocation, BlockId, Extent, Ino, Inode};
use crate::disk::ShortWrite;

/// Inode of the root directory.
pub(super) const ROOT: Ino = 1;
/// Longest file: the limit of ext4 with blocks of 4 KiB.
const SIZE_MAX: u64 = (1 << 44) - 4096;
const INODES_MAX: u64 = 1 << 20;

pub(super) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

pub(super) type Inodes = BTreeMap<Ino, Arc<Inode>>;
/// Inodes as they are after a change; `None` when they are gone.
pub(super) type JournalRecord = Arc<[(Ino, Option<Arc<Inode>>)]>;

/// Content of one block of the device.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// In memory.
    pub(super) now: Arc<[u8]>,
    /// On the device.
    pub(super) stable: Arc<[u8]>,
    /// Its write-back failed: the kernel reports that once and then takes the block for clean.
    pub(super) lost: bool,
}

#[derive(Debug, Clone)]
pub(super) struct FileSystem {
    pub(super) inodes: Inodes,
    pub(super) durable: Inodes,
    pub(super) journal: Vec<JournalRecord>,
    pub(super) blocks: BTreeMap<BlockId, Block>,
    pub(super) block_len: usize,
    /// Blocks of the device, and how many are taken.
    pub(super) capacity: u64,
    pub(super) used: u64,
    pub(super) zeros: Arc<[u8]>,
    ino_next: Ino,
    block_next: BlockId,
    clock: i64,
}

pub(super) fn apply(inodes: &mut Inodes, record: &JournalRecord) {
    for (ino, inode) in record.iter() {
        match inode {
            Some(inode) => drop(inodes.insert(*ino, inode.clone())),
            None => drop(inodes.remove(ino)),
        }
    }
}

impl FileSystem {
    /// An empty one, durable.
    pub(super) fn new(capacity: u64, block_len: usize) -> FileSystem {
        let mut root = Inode::new(Kind::Directory, 0o755, (0, 0), Timestamp { secs: 0, nanos: 0 });
        root.parent = ROOT;
        let used = root.cost(block_len);
        let inodes = Inodes::from([(ROOT, Arc::new(root))]);
        FileSystem {
            durable: inodes.clone(),
            inodes,
            journal: Vec::new(),
            blocks: BTreeMap::new(),
            block_len,
            capacity: capacity / block_len as u64,
            used,
            zeros: vec![0; block_len].into(),
            ino_next: ROOT + 1,
            block_next: 1,
            clock: 1,
        }
    }

    /// The time of the next event: a counter, so that runs repeat.
    pub(super) fn tick(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp { secs: self.clock, nanos: 0 }
    }

    pub(super) fn inode(&self, ino: Ino) -> &Arc<Inode> {
        self.inodes.get(&ino).expect("an open object keeps its inode")
    }

    /// A copy to change and hand to [`FileSystem::change`].
    pub(super) fn copy(&self, ino: Ino) -> Inode {
        Inode::clone(self.inode(ino))
    }

    pub(super) fn directory(&self, ino: Ino) -> io::Result<&Arc<Inode>> {
        let inode = self.inode(ino);
        if inode.is_directory() { Ok(inode) } else { Err(errno(libc::ENOTDIR)) }
    }

    pub(super) fn lookup(&self, dir: Ino, name: &Name) -> io::Result<Ino> {
        self.directory(dir)?.names.get(name).map(|entry| entry.ino).ok_or_else(|| errno(libc::ENOENT))
    }

    pub(super) fn ino_fresh(&mut self) -> Ino {
        self.ino_next += 1;
        self.ino_next - 1
    }

    /// Makes a change of metadata: all of it or, on a full disk, nothing.
    pub(super) fn change(&mut self, changes: Vec<(Ino, Option<Inode>)>) -> io::Result<()> {
        let cost = |inode: Option<&Inode>| inode.map_or(0, |inode| inode.cost(self.block_len));
        let before: u64 = changes.iter().map(|(ino, _)| cost(self.inodes.get(ino).map(|inode| &**inode))).sum();
        let after: u64 = changes.iter().map(|(_, inode)| cost(inode.as_ref())).sum();
        if after > before && self.used + after - before > self.capacity {
            return Err(errno(libc::ENOSPC));
        }
        self.used = self.used + after - before;
        let record: JournalRecord = changes.into_iter().map(|(ino, inode)| (ino, inode.map(Arc::new))).collect();
        apply(&mut self.inodes, &record);
        self.journal.push(record);
        Ok(())
    }

    /// Removes an object that has no name.
    pub(super) fn reap(&mut self, ino: Ino) {
        if self.inodes.get(&ino).is_some_and(|inode| inode.nlink == 0) {
            self.change(vec![(ino, None)]).expect("removing takes no space");
        }
    }

    /// What a process that ends leaves: without open files, nothing keeps objects that have no name.
    pub(super) fn reap_all(&mut self) {
        let unnamed: Vec<Ino> = self.inodes.iter().filter(|(_, inode)| inode.nlink == 0).map(|(ino, _)| *ino).collect();
        unnamed.into_iter().for_each(|ino| self.reap(ino));
    }

    fn file(&self, ino: Ino) -> io::Result<&Arc<Inode>> {
        let inode = self.inode(ino);
        match inode.kind {
            Kind::File => Ok(inode),
            Kind::Directory => Err(errno(libc::EISDIR)),
            _ => Err(errno(libc::EBADF)),
        }
    }

    /// A file that is changed through its handle: those of anything else are not open for writing.
    fn writable(&self, ino: Ino, otherwise: i32) -> io::Result<Inode> {
        match self.inode(ino).kind {
            Kind::File => Ok(self.copy(ino)),
            Kind::Directory => Err(errno(otherwise)),
            _ => Err(errno(libc::EBADF)),
        }
    }

    pub(super) fn read(&self, ino: Ino, out: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<usize> {
        let inode = self.file(ino)?;
        let end = offset.saturating_add(len as u64).min(inode.size);
        let (start, block_len) = (out.len(), self.block_len as u64);
        let mut at = offset;
        while at < end {
            let within = (at % block_len) as usize;
            let count = (end - at).min(block_len - within as u64) as usize;
            let content = inode.extents.get(&(at / block_len)).map_or(&self.zeros, |e| &self.blocks[&e.block].now);
            out.extend_from_slice(&content[within..within + count]);
            at += count as u64;
        }
        Ok(out.len() - start)
    }

    fn block_fresh(&mut self) -> BlockId {
        let block = Block { now: self.zeros.clone(), stable: self.zeros.clone(), lost: false };
        self.blocks.insert(self.block_next, block);
        self.block_next += 1;
        self.block_next - 1
    }

    /// Changes the content of a block in memory.
    fn overwrite(&mut self, block: BlockId, within: usize, data: &[u8]) {
        let block = self.blocks.get_mut(&block).expect("a block of a file");
        let mut content = block.now.to_vec();
        content[within..within + data.len()].copy_from_slice(data);
        block.now = content.into();
        block.lost = false;
    }

    pub(super) fn write(&mut self, ino: Ino, data: &[u8], offset: u64) -> Result<(), ShortWrite> {
        let failed = |source| ShortWrite { written: 0, source };
        let mut inode = self.writable(ino, libc::EBADF).map_err(failed)?;
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= i64::MAX as u64);
        let end = end.ok_or_else(|| failed(errno(libc::EINVAL)))?;
        if data.is_empty() {
            return Ok(());
        }
        if end > SIZE_MAX {
            return Err(failed(errno(libc::EFBIG)));
        }
        let written = self.write_blocks(&mut inode, data, offset);
        if written > 0 {
            inode.size = inode.size.max(offset + written as u64);
            inode.mtime = self.tick();
            self.change(vec![(ino, Some(inode))]).map_err(failed)?;
        }
        if written == data.len() { Ok(()) } else { Err(ShortWrite { written, source: errno(libc::ENOSPC) }) }
    }

    /// How many bytes found room.
    fn write_blocks(&mut self, inode: &mut Inode, data: &[u8], offset: u64) -> usize {
        let block_len = self.block_len as u64;
        let mut room = self.capacity.saturating_sub(self.used);
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (number, within) = (at / block_len, (at % block_len) as usize);
            let count = (data.len() - done).min(self.block_len - within);
            let block = match inode.extents.get(&number).copied() {
                Some(extent) => {
                    if extent.allocation == Allocation::Unwritten {
                        let converting = Extent { allocation: Allocation::Converting, ..extent };
                        Arc::make_mut(&mut inode.extents).insert(number, converting);
                    }
                    extent.block
                }
                None if room == 0 => break,
                None => {
                    room -= 1;
                    let block = self.block_fresh();
                    let extent = Extent { block, allocation: Allocation::Delayed };
                    Arc::make_mut(&mut inode.extents).insert(number, extent);
                    block
                }
            };
            self.overwrite(block, within, &data[done..done + count]);
            done += count;
        }
        done
    }

    /// Zeros in `range` of a file where it has blocks that stay.
    fn clear(&mut self, inode: &Inode, range: std::ops::Range<u64>) {
        let block_len = self.block_len as u64;
        let mut at = range.start;
        while at < range.end {
            let (number, within) = (at / block_len, (at % block_len) as usize);
            let count = (range.end - at).min(block_len - within as u64) as usize;
            if let Some(extent) = inode.extents.get(&number) {
                self.overwrite(extent.block, within, &vec![0; count]);
            }
            at += count as u64;
        }
    }

    /// As the kernel does it, the rest of the last block becomes zeros in memory: that is data, so these zeros may become
    /// durable without the new length.
    pub(super) fn truncate(&mut self, ino: Ino, len: u64) -> io::Result<()> {
        let mut inode = self.writable(ino, libc::EINVAL)?;
        match len {
            len if len > i64::MAX as u64 => return Err(errno(libc::EINVAL)),
            len if len > SIZE_MAX => return Err(errno(libc::EFBIG)),
            _ => {}
        }
        if len <= inode.size {
            let keep = len.div_ceil(self.block_len as u64);
            if inode.extents.range(keep..).next().is_some() {
                drop(Arc::make_mut(&mut inode.extents).split_off(&keep));
            }
            self.clear(&inode, len..len.next_multiple_of(self.block_len as u64));
        }
        (inode.size, inode.size_journaled) = (len, len);
        inode.mtime = self.tick();
        self.change(vec![(ino, Some(inode))])
    }

    pub(super) fn punch(&mut self, ino: Ino, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.checked_add(len).filter(|end| len > 0 && *end <= i64::MAX as u64);
        let mut end = end.ok_or_else(|| errno(libc::EINVAL))?;
        let mut inode = self.writable(ino, libc::EBADF)?;
        let block_len = self.block_len as u64;
        if end >= inode.size {
            end = end.next_multiple_of(block_len);
        }
        let (first, last) = (offset.div_ceil(block_len), end / block_len);
        if first < last {
            Arc::make_mut(&mut inode.extents).retain(|number, _| !(first..last).contains(number));
        }
        self.clear(&inode, offset..end.min(first * block_len));
        self.clear(&inode, offset.max(last * block_len)..end);
        inode.mtime = self.tick();
        self.change(vec![(ino, Some(inode))])
    }

    pub(super) fn allocate(&mut self, ino: Ino, offset: u64, len: u64, keep_size: bool) -> io::Result<()> {
        let end = offset.checked_add(len).filter(|end| len > 0 && *end <= i64::MAX as u64);
        let end = end.ok_or_else(|| errno(libc::EINVAL))?;
        let mut inode = self.writable(ino, libc::EBADF)?;
        if end > SIZE_MAX {
            return Err(errno(libc::EFBIG));
        }
        let block_len = self.block_len as u64;
        let numbers = offset / block_len..end.div_ceil(block_len);
        let missing: Vec<u64> = numbers.filter(|number| !inode.extents.contains_key(number)).collect();
        if self.used + missing.len() as u64 > self.capacity {
            return Err(errno(libc::ENOSPC));
        }
        for number in missing {
            let extent = Extent { block: self.block_fresh(), allocation: Allocation::Unwritten };
            Arc::make_mut(&mut inode.extents).insert(number, extent);
        }
        if !keep_size && end > inode.size {
            (inode.size, inode.size_journaled) = (end, end);
            inode.mtime = self.tick();
        }
        self.change(vec![(ino, Some(inode))])
    }

    pub(super) fn next_data(&self, ino: Ino, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let inode = self.file(ino)?;
        let block_len = self.block_len as u64;
        let has_data = |number: u64| inode.extents.get(&number).is_some_and(|e| e.allocation != Allocation::Unwritten);
        if offset >= inode.size {
            return Ok(None);
        }
        let mut numbers = inode.extents.range(offset / block_len..).map(|(number, _)| *number);
        let Some(first) = numbers.find(|number| has_data(*number)) else { return Ok(None) };
        let start = offset.max(first * block_len);
        if start >= inode.size {
            return Ok(None);
        }
        let mut last = first;
        while has_data(last + 1) {
            last += 1;
        }
        Ok(Some((start, ((last + 1) * block_len).min(inode.size))))
    }

    /// Blocks of a file reach the device. Without `success` they are lost instead.
    fn write_back(&mut self, ino: Ino, success: bool) {
        let extents = self.inode(ino).extents.clone();
        for extent in extents.values() {
            let block = self.blocks.get_mut(&extent.block).expect("a block of a file");
            if Arc::ptr_eq(&block.now, &block.stable) {
                continue;
            }
            if !success {
                block.lost = true;
            } else if !block.lost {
                block.stable = block.now.clone();
            }
        }
    }

    /// The whole journal becomes durable.
    fn commit(&mut self) {
        for record in self.journal.drain(..) {
            apply(&mut self.durable, &record);
        }
    }

    fn sync_file(&mut self, ino: Ino) {
        self.write_back(ino, true);
        if self.inode(ino).is_delayed() {
            let mut inode = self.copy(ino);
            inode.settle();
            self.change(vec![(ino, Some(inode))]).expect("it takes no more space");
        }
    }

    /// A sync that fails loses what it should have written.
    pub(super) fn sync_failed(&mut self, ino: Option<Ino>) {
        let files: Vec<Ino> = ino.map_or_else(|| self.inodes.keys().copied().collect(), |ino| vec![ino]);
        files.into_iter().for_each(|ino| self.write_back(ino, false));
    }

    /// The file's data; the journal only when it says where that data is, or how long the file is.
    pub(super) fn sync_data(&mut self, ino: Ino) {
        self.sync_file(ino);
        let now = self.inode(ino);
        let same = |old: &Arc<Inode>| old.size == now.size && old.extents == now.extents && old.nlink > 0;
        if !self.durable.get(&ino).is_some_and(same) {
            self.commit();
        }
    }

    pub(super) fn sync_all(&mut self, ino: Ino) {
        self.sync_file(ino);
        self.commit();
    }

    pub(super) fn sync_fs(&mut self) {
        let files: Vec<Ino> = self.inodes.keys().copied().collect();
        files.into_iter().for_each(|ino| self.sync_file(ino));
        self.commit();
        self.forget_blocks();
    }

    /// Forgets blocks that no file has any more; only when there is no journal that could bring one back.
    pub(super) fn forget_blocks(&mut self) {
        let mut blocks = BTreeMap::new();
        for extent in self.inodes.values().flat_map(|inode| inode.extents.values()) {
            let block = self.blocks.get(&extent.block).expect("a block of a file");
            blocks.insert(extent.block, block.clone());
        }
        self.blocks = blocks;
    }

    /// Flips bits of one byte of a file, on the device and in memory. Returns whether the file has a block there.
    pub(super) fn flip(&mut self, ino: Ino, offset: u64, mask: u8) -> bool {
        let (number, within) = (offset / self.block_len as u64, (offset % self.block_len as u64) as usize);
        let Some(extent) = self.inode(ino).extents.get(&number).copied() else { return false };
        let block = self.blocks.get_mut(&extent.block).expect("a block of a file");
        let flipped = |content: &Arc<[u8]>| {
            let mut content = content.to_vec();
            content[within] ^= mask;
            Arc::from(content)
        };
        let clean = Arc::ptr_eq(&block.now, &block.stable);
        block.now = flipped(&block.now);
        block.stable = if clean { block.now.clone() } else { flipped(&block.stable) };
        true
    }

    pub(super) fn space(&self) -> Space {
        let free = self.capacity.saturating_sub(self.used) * self.block_len as u64;
        Space {
            total: self.capacity * self.block_len as u64,
            free,
            available: free,
            inodes: INODES_MAX,
            inodes_free: INODES_MAX.saturating_sub(self.inodes.len() as u64),
        }
    }
}
