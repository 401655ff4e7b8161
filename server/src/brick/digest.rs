//! The digest of a whole file, for people and offline tools: `user.net_raid.md5`.
//!
//! It is there only while it is right: the first change takes it away, and it comes back when the
//! file is closed.

use std::sync::Arc;

use md5::{Digest as _, Md5};
use net_raid_proto::ids::ObjectId;
use net_raid_proto::limits::BLOCK_SIZE;
use net_raid_proto::message::{Kind, Reply};

use super::Brick;
use super::error::Result;
use super::locate::is_data;
use super::node::{FileDigest, Node, State};
use super::object::Records;
use crate::disk::{Disk, XattrMode};

const ATTR: &[u8] = b"user.net_raid.md5";

/// Takes the digest away.
pub(super) fn take_away<D: Disk>(disk: &D, file: &D::Handle) -> Result<()> {
    match disk.remove_xattr(file, ATTR) {
        Err(error) if error.raw_os_error() != Some(libc::ENODATA) => Err(error.into()),
        _ => Ok(()),
    }
}

fn text_of(digest: [u8; 16]) -> Vec<u8> {
    digest.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

impl<D: Disk> Brick<D> {
    /// Takes the digest away before the file changes.
    pub(super) fn outdate(&self, node: &Node<D>, state: &mut State<D>) -> Result<()> {
        if state.digest == FileDigest::Outdated {
            return Ok(());
        }
        take_away(&self.disk, &node.handle)?;
        state.digest = FileDigest::Outdated;
        Ok(())
    }

    pub(super) fn release(&self, id: ObjectId) -> Result<Reply> {
        if let Some(waiting) = self.waiting(id) {
            // Its bytes and records come at the checkpoint, and the digest with them.
            super::lock(&waiting).released = true;
        } else if let Some(node) = self.cache.get(id) {
            self.settle(&node);
        }
        Ok(Reply::Done)
    }

    /// Whether a release has many records to read.
    pub(super) fn release_is_slow(&self, id: ObjectId) -> bool {
        self.waiting(id).is_none()
            && self.cache.get(id).is_some_and(|node| {
                let state = node.state();
                state.meta.records == Records::Side && state.digest == FileDigest::Outdated
            })
    }

    /// Sets the digest of a changed file. Nothing depends on it, so a failure is only logged; that of the disk itself
    /// ends the brick all the same.
    pub(super) fn settle(&self, node: &Node<D>) {
        if node.kind != Kind::File || node.state().digest != FileDigest::Outdated {
            return;
        }
        if let Err(error) = self.try_settle(node) {
            tracing::warn!(id = node.id.0, %error, "file digest not set");
            self.fault(error);
        }
    }

    fn try_settle(&self, node: &Node<D>) -> Result<()> {
        let mut state = node.state_mut();
        if state.digest != FileDigest::Outdated || state.orphan || self.waiting(node.id).is_some() {
            return Ok(());
        }
        let Some(digest) = self.file_digest(node, &state)? else { return Ok(()) };
        self.disk.set_xattr(&node.handle, ATTR, &text_of(digest), XattrMode::Any)?;
        state.digest = FileDigest::Current;
        Ok(())
    }

    /// Sets the digest of a file that nobody changes; whether there was a wrong one.
    pub(super) fn mend_digest(&self, node: &Node<D>) -> Result<bool> {
        let state = node.state();
        if self.waiting(node.id).is_some() {
            return Ok(false);
        }
        if state.digest == FileDigest::Outdated {
            drop(state);
            self.settle(node);
            return Ok(false);
        }
        let found = self.disk.get_xattr(&node.handle, ATTR)?;
        let right = self.file_digest(node, &state)?.filter(|_| self.is_content_right(node, &state));
        let right = right.map(text_of).filter(|right| found.as_ref() != Some(right));
        let Some(right) = right else { return Ok(false) };
        self.disk.set_xattr(&node.handle, ATTR, &right, XattrMode::Any)?;
        Ok(found.is_some())
    }

    /// The digest of a file of one block is that of its content, which may be what is wrong.
    fn is_content_right(&self, node: &Node<D>, state: &State<D>) -> bool {
        let Records::Inline { digests, .. } = &state.meta.records else { return true };
        let [digest] = &digests[..] else { return true };
        let mut content = Vec::new();
        let read = self.disk.read_at(&node.handle, &mut content, BLOCK_SIZE, 0);
        content.resize(BLOCK_SIZE, 0);
        read.is_ok() && <[u8; 16]>::from(Md5::digest(&content)) == digest.0
    }

    /// Settles what an fsync may settle cheaply: files with few records.
    pub(super) fn settle_small(&self, node: &Node<D>) {
        if node.state().meta.records != Records::Side {
            self.settle(node);
        }
    }

    pub(super) fn settle_all(&self) {
        self.cache.all().iter().for_each(|node: &Arc<Node<D>>| self.settle(node));
    }

    /// `None` for a file that has no content here.
    fn file_digest(&self, node: &Node<D>, state: &State<D>) -> Result<Option<[u8; 16]>> {
        let mut hasher = Md5::new();
        let mut blocks = 0u64;
        match &state.meta.records {
            Records::None => return Ok(None),
            Records::Inline { digests, .. } if digests.len() <= 1 => return self.content_digest(node),
            Records::Inline { digests, .. } => {
                digests.iter().filter(|digest| is_data(digest)).for_each(|digest| hasher.update(digest.0));
                blocks = digests.len() as u64;
            }
            Records::Side => self.each_run(state, 0..u64::MAX, |_, _, run| {
                for digest in run.records.iter().flat_map(|record| &record.digests).filter(|digest| is_data(digest)) {
                    hasher.update(digest.0);
                    blocks += 1;
                }
                Ok(())
            })?,
        }
        Ok((blocks > 0).then(|| hasher.finalize().into()))
    }

    /// What `md5sum` says of a file of one block.
    fn content_digest(&self, node: &Node<D>) -> Result<Option<[u8; 16]>> {
        let mut content = Vec::new();
        self.disk.read_at(&node.handle, &mut content, BLOCK_SIZE + 1, 0)?;
        let short = !content.is_empty() && content.len() <= BLOCK_SIZE;
        Ok(short.then(|| Md5::digest(&content).into()))
    }
}
