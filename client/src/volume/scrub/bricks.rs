//! What a brick cannot be opened without, label, log and the root's attribute: each looks at it by itself, because its server knows
//! what it must say.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::join_all;
use net_raid_proto::ids::Slot;
use net_raid_proto::message::{BrickFile, Reply, Request};

use super::peer::{Answer, Spot, Trouble, unexpected};
use super::{Halt, Pass};
use crate::events::Event;
use crate::layout::SlotSet;

/// What was found on all members.
#[derive(Default)]
struct Found {
    mended: BTreeSet<(Slot, BrickFile)>,
    damaged: BTreeSet<(Slot, BrickFile)>,
}

fn wrong(file: BrickFile) -> String {
    let of = if file == BrickFile::Root { "its attribute" } else { "it" };
    format!("{of} is not what the server has written")
}

impl Pass<'_> {
    /// Of a damaged log a checkpoint puts in place what waits. Whether the bytes were right their digests tell when the files are
    /// compared.
    pub(super) async fn scrub_bricks(&self) -> Result<(), Halt> {
        let Found { mut mended, damaged } = self.verify_bricks().await;
        let mut left = BTreeSet::new();
        if !damaged.is_empty() {
            self.core.checkpoint().await.map_err(|error| Halt(error.to_string()))?;
            let again = self.verify_bricks().await;
            mended.extend(again.mended);
            mended.extend(damaged.difference(&again.damaged));
            left = again.damaged;
        }
        for (slot, file) in mended {
            let what = match file {
                BrickFile::Label(_) | BrickFile::Root => "written anew",
                BrickFile::Log(_) => "what waited in it was put in place",
            };
            let from = SlotSet::EMPTY.with(slot);
            self.tell_mended(slot, file.to_string(), (wrong(file), what.to_owned()), from);
        }
        for (slot, file) in left {
            self.counts.damaged.fetch_add(1, Relaxed);
            self.core.log(Some(slot), &Event::Damaged { object: file.to_string(), what: wrong(file) });
        }
        Ok(())
    }

    async fn verify_bricks(&self) -> Found {
        let asked = self.members();
        let mut found = Found::default();
        let answers = join_all(asked.iter().map(|slot| self.verify_brick(slot))).await;
        for (slot, answer) in asked.iter().zip(answers) {
            match answer {
                Ok((mended, damaged)) => {
                    found.mended.extend(mended.into_iter().map(|file| (slot, file)));
                    found.damaged.extend(damaged.into_iter().map(|file| (slot, file)));
                }
                Err(Trouble::Errno(errno)) => self.refused(slot, &Spot::root(), &Trouble::Errno(errno)),
                // One that just went leaves the comparison.
                Err(trouble) => tracing::debug!(%slot, %trouble, "scrub"),
            }
        }
        found
    }

    async fn verify_brick(&self, slot: Slot) -> Answer<(Vec<BrickFile>, Vec<BrickFile>)> {
        match self.ask(slot, &Spot::root(), &Request::VerifyBrick, &[], &[]).await?.reply {
            Reply::BrickVerified { mended, damaged } => Ok((mended, damaged)),
            _ => Err(unexpected()),
        }
    }
}
