//! What a scrub asks of an object beside its attributes and its bytes.

use md5::{Digest as _, Md5};
use net_raid_proto::ids::ObjectId;
use net_raid_proto::limits::{BLOCK_SIZE, BLOCKS_PER_UNIT};
use net_raid_proto::message::{Kind, Reply};

use super::Brick;
use super::error::{Result, is_disk_failure};
use super::locate::is_data;
use super::node::{Node, State};
use super::record::Record;
use crate::disk::Disk;

impl<D: Disk> Brick<D> {
    /// A digest over the extended attributes and a link's target; and whether the digest for people was wrong, which is put right.
    pub(super) fn verify(&self, id: ObjectId) -> Result<Reply> {
        let node = self.node(id)?;
        let mut all = Vec::new();
        if let Reply::Bytes(names) = self.list_xattr(id)? {
            for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
                if let Reply::Bytes(value) = self.get_xattr(id, name)? {
                    all.push((name.to_vec(), value));
                }
            }
        }
        if node.kind == Kind::Symlink
            && let Reply::Bytes(target) = self.read_link(id)?
        {
            all.push((Vec::new(), target));
        }
        all.sort_unstable();
        let mut hasher = Md5::new();
        for bytes in all.iter().flat_map(|(name, value)| [name, value]) {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        let is_file = node.kind == Kind::File;
        self.check_side(&node, &node.state())?;
        let mended = is_file && self.mend_digest(&node)?;
        let state = node.state();
        let len = if is_file { self.disk.stat(&node.handle)?.size } else { 0 };
        let sound = !is_file || self.is_sound(&node, &state)?;
        let ctime = state.meta.ctime;
        let count = all.len() as u32;
        Ok(Reply::Verified { extended: hasher.finalize().into(), count, ctime, len, sound, mended })
    }

    /// Whether the last block that was written is there, and nothing behind it.
    fn is_sound(&self, node: &Node<D>, state: &State<D>) -> Result<bool> {
        if self.waiting(node.id).is_some() {
            return Ok(true);
        }
        let mut last = None;
        let inline = state.meta.inline();
        let mut note = |unit: u64, record: &Record| {
            if let Some(block) = record.digests.iter().rposition(is_data) {
                last = Some((unit * BLOCKS_PER_UNIT as u64 + block as u64, record.digests[block]));
            }
        };
        note(0, &inline);
        self.each_run(state, 0..u64::MAX, |_, _, run| {
            (run.unit..).zip(&run.records).for_each(|(unit, record)| note(unit, record));
            Ok(())
        })?;
        let block = BLOCK_SIZE as u64;
        let (end, matches) = match last {
            None => (0, true),
            Some((number, digest)) => {
                let bytes = self.block(node, number * block)?;
                ((number + 1) * block, <[u8; 16]>::from(Md5::digest(&bytes)) == digest.0)
            }
        };
        let behind = match self.disk.next_data(&node.handle, end)? {
            Some((start, _)) => self.block(node, start.max(end))?.iter().any(|byte| *byte != 0),
            None => false,
        };
        Ok(matches && !behind)
    }

    /// A block, filled up with zeros; what cannot be read is zeros too.
    fn block(&self, node: &Node<D>, offset: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(BLOCK_SIZE);
        match self.disk.read_at(&node.handle, &mut bytes, BLOCK_SIZE, offset) {
            Err(error) if is_disk_failure(&error) => bytes.clear(),
            read => drop(read?),
        }
        bytes.resize(BLOCK_SIZE, 0);
        Ok(bytes)
    }
}
