//! What a scrub asks of what the brick has beside the objects of the volume: the label and the log. The server has in memory what
//! they say, so that of them only the next start of the brick would show what is damaged.

use net_raid_proto::ids::Epoch;
use net_raid_proto::message::{BrickFile, Reply};

use super::Brick;
use super::error::Result;
use super::log::Condition;
use crate::disk::Disk;

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
        Ok(Reply::BrickVerified { mended, damaged })
    }
}
