//! Where the scrub in the background is, kept on all members: whoever has the volume next goes on from there.

use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::join_all;
use net_raid_proto::codec;
use net_raid_proto::ids::{Name, ObjectId};
use net_raid_proto::limits::NOTE_MAX;
use net_raid_proto::message::{Reply, Request};
use serde::{Deserialize, Serialize};

use super::Pass;
use super::peer::Spot;

const FORMAT: u16 = 1;

/// What is kept. See docs/on-disk.md.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) format: u16,
    /// Who wrote it, and which of its notes it is: the highest is the newest.
    pub(super) age: (u64, u64),
    /// When the pass began, in seconds since 1970.
    pub(super) begun: u64,
    /// Work of the pass before; 0 if there was none.
    pub(super) last: u64,
    pub(super) sums: Sums,
    /// What comes next; nothing when the pass is done.
    pub(super) place: Option<Place>,
}

/// What was seen and done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Files.
    pub files: u64,
    /// Bytes that were read, on all members together.
    pub bytes: u64,
    /// Objects on members that were put right.
    pub mended: u64,
    /// Objects that cannot be.
    pub damaged: u64,
    /// As a pace counts it.
    pub work: u64,
    /// How long somebody was at it.
    pub seconds: u64,
}

/// A stripe of the object of that name, or the beginning of that name. The root: the beginning of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) path: Vec<Name>,
    pub(super) id: u64,
    pub(super) stripe: u64,
}

impl Place {
    pub(super) fn words(&self) -> String {
        let spot = Spot { id: ObjectId(self.id), path: self.path.clone() };
        format!("{} stripe {}", spot.words(), self.stripe)
    }
}

impl Note {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut note = Note { format: FORMAT, ..self.clone() };
        // A path that is too long begins in one of its directories.
        while codec::encode(&note, NOTE_MAX, &mut bytes).is_err() {
            bytes.clear();
            let Some(place) = &mut note.place else { break };
            place.path.truncate(place.path.len() / 2);
            (place.id, place.stripe) = (0, 0);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Note> {
        codec::decode::<Note>(bytes, NOTE_MAX).ok().filter(|note| note.format == FORMAT)
    }
}

impl Pass<'_> {
    /// The newest note of those that members have.
    pub(super) async fn read_note(&self) -> Option<Note> {
        let asks = self.members().iter().map(|slot| async move {
            match self.ask(slot, &Spot::root(), &Request::ReadNote, &[], &[]).await.ok()?.reply {
                Reply::Bytes(bytes) => Note::decode(&bytes),
                _ => None,
            }
        });
        join_all(asks.collect::<Vec<_>>()).await.into_iter().flatten().max_by_key(|note| note.age)
    }

    /// Leaves a note with all members. Who does not take it may have an older one.
    pub(super) async fn write_note(&self, note: &Note) {
        let number = self.core.scrubs.notes.fetch_add(1, Relaxed);
        let note = Note { age: (self.core.members.epoch().0, number), ..note.clone() };
        let request = Request::WriteNote { note: note.encode() };
        for (slot, answer) in self.members().iter().zip(
            join_all(self.members().iter().map(|slot| self.ask(slot, &ROOT, &request, &[], &[])).collect::<Vec<_>>())
                .await,
        ) {
            if let Err(trouble) = answer {
                tracing::debug!(%slot, %trouble, "a note was not taken");
            }
        }
    }
}

static ROOT: Spot = Spot { id: ObjectId::ROOT, path: Vec::new() };

#[cfg(test)]
mod tests;
