//! What a scrub asks of what a brick cannot be opened without: the label, the log, the root's object attribute. The server has in
//! memory what they say, so that only the next start of the brick would show what is damaged of them.

use net_raid_proto::ids::{Epoch, ObjectId};
use net_raid_proto::message::{BrickFile, Reply};

use super::Brick;
use super::error::Result;
use super::log::Condition;
use super::object::Meta;
use crate::disk::{Disk, XattrMode};

impl<D: Disk> Brick<D> {
    /// Copies of the label are written anew. A log with something that waits is only told of: a checkpoint puts that in place, from
    /// memory but for bytes, of which their digests tell whether they are right.
    ///
    /// The caller must not hold a guard of `standing`.
    pub(super) fn verify_brick(&self, epoch: Epoch) -> Result<Reply> {
        let (mut mended, mut damaged) = (self.mend_labels(epoch)?, Vec::new());
        let areas = self.areas()?;
        for number in [0, 1] {
            let file = BrickFile::Log(number);
            match areas.log.verify(&self.disk, &areas.area, number.into())? {
                Condition::Whole => {}
                Condition::Mended => mended.push(file),
                Condition::Damaged => damaged.push(file),
            }
        }
        if self.mend_root()? {
            mended.push(BrickFile::Root);
        }
        Ok(Reply::BrickVerified { mended, damaged })
    }

    /// Writes the root's object attribute anew where it is not what was written last; whether that was so.
    fn mend_root(&self) -> Result<bool> {
        let root = self.node(ObjectId::ROOT)?;
        // Nobody writes it meanwhile.
        let state = root.state_mut();
        let found = self.disk.get_xattr(&root.handle, self.attr_name())?;
        if found.as_deref().and_then(Meta::decode).as_ref() == Some(&state.meta) {
            return Ok(false);
        }
        tracing::warn!("the object attribute of the root is damaged");
        self.disk.set_xattr(&root.handle, self.attr_name(), &state.meta.encode(), XattrMode::Any)?;
        self.disk.sync_all(&root.handle).map_err(|error| self.sync_failed(error.into()))?;
        Ok(true)
    }
}
