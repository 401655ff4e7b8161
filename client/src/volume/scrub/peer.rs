//! Asking members about objects whose path is known.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use net_raid_proto::ids::{Name, ObjectId, Slot, Timestamp};
use net_raid_proto::message::{Change, DirEntry, Entry, Fault, Reply, Request, UnitRun};
use tokio::time::timeout;

use super::Pass;
use crate::conn::{CallError, Response};
use crate::volume::query::nonsense;

/// Times that a member is told where an object is.
const SHOW_MAX: usize = 3;
/// A request that takes longer than this counts as not answered.
const HANG_MAX: Duration = Duration::from_secs(60);

/// An object, and the names from the root by which it was found.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) id: ObjectId,
    pub(super) path: Vec<Name>,
}

impl Spot {
    pub(super) fn root() -> Spot {
        Spot { id: ObjectId::ROOT, path: Vec::new() }
    }

    /// What a name in this directory names.
    pub(super) fn child(&self, id: ObjectId, name: &Name) -> Spot {
        Spot { id, path: self.path.iter().cloned().chain([name.clone()]).collect() }
    }

    /// The path in words.
    pub(super) fn words(&self) -> String {
        if self.path.is_empty() {
            return "/".into();
        }
        self.path.iter().map(|name| format!("/{name}")).collect()
    }
}

/// Why a member said nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It refused.
    Errno(i32),
    /// It is out of reach, or makes no sense.
    Lost(String),
}

impl Trouble {
    /// Whether the object is not there.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Trouble::Errno(libc::ENOENT | libc::ESTALE | libc::ENOTDIR))
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Errno(errno) => std::io::Error::from_raw_os_error(*errno).fmt(f),
            Trouble::Lost(why) => f.write_str(why),
        }
    }
}

pub(super) type Answer<T> = std::result::Result<T, Trouble>;

pub(super) fn unexpected() -> Trouble {
    Trouble::Lost(nonsense().to_string())
}

impl Pass<'_> {
    /// Asks one member about `spot`, and tells it where that is when it does not know. `lens` are the lengths of the parts of the
    /// answer's payload.
    pub(super) async fn ask(
        &self,
        slot: Slot,
        spot: &Spot,
        request: &Request,
        payload: &[Bytes],
        lens: &[usize],
    ) -> Answer<Response> {
        for _ in 0..SHOW_MAX {
            let dest = lens.iter().map(|len| crate::volume::gather::exact(*len)).collect();
            match self.call(slot, request, payload.to_vec(), dest).await {
                Err(CallError::Fault(Fault::Unresolved(_))) => {
                    let request = Request::Resolve { id: spot.id, path: spot.path.clone() };
                    match self.call(slot, &request, Vec::new(), Vec::new()).await {
                        Ok(_) => {}
                        Err(CallError::Fault(Fault::Unresolved(_))) => return Err(Trouble::Errno(libc::ESTALE)),
                        Err(error) => return Err(self.trouble(error)),
                    }
                }
                answer => return answer.map_err(|error| self.trouble(error)),
            }
        }
        Err(Trouble::Errno(libc::ESTALE))
    }

    async fn call(
        &self,
        slot: Slot,
        request: &Request,
        payload: Vec<Bytes>,
        dest: Vec<BytesMut>,
    ) -> Result<Response, CallError> {
        let call = self.core.members.conn(slot).call(request, payload, dest, false);
        timeout(HANG_MAX, call).await.unwrap_or_else(|_| Err(CallError::Lost("a request hangs".into())))
    }

    fn trouble(&self, error: CallError) -> Trouble {
        match error {
            CallError::Fault(Fault::Errno(errno)) => Trouble::Errno(errno),
            CallError::Fault(fault @ (Fault::StaleEpoch(_) | Fault::Held { .. })) => {
                self.core.members.note_taken_over(&fault);
                Trouble::Lost(fault.to_string())
            }
            error => Trouble::Lost(error.to_string()),
        }
    }

    /// A change of one member alone, which puts right what it has; the caller has paused all others.
    pub(super) async fn change(
        &self,
        slot: Slot,
        spot: &Spot,
        (now, change): (Timestamp, Change),
        payload: &[Bytes],
    ) -> Answer<()> {
        let ticket = self.core.checkpoints.generations.enter();
        let request = Request::Change {
            transaction: self.core.transaction(),
            generation: ticket.generation(),
            participants: 1 << slot.0,
            now,
            change,
        };
        if let Reply::Written { logged } = self.ask(slot, spot, &request, payload, &[]).await?.reply {
            self.core.checkpoints.note_logged(logged);
        }
        Ok(())
    }

    /// Attributes of an object on one member.
    pub(super) async fn entry(&self, slot: Slot, spot: &Spot) -> Answer<Entry> {
        match self.ask(slot, spot, &Request::GetAttr { id: spot.id }, &[], &[]).await?.reply {
            Reply::Entry(entry) if self.core.fits(&entry) => Ok(*entry),
            _ => Err(unexpected()),
        }
    }

    /// All names of a directory on one member, with attributes.
    pub(super) async fn list(&self, slot: Slot, dir: &Spot) -> Answer<Vec<DirEntry>> {
        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let request = Request::ReadDir { id: dir.id, cursor, attributes: true };
            let Reply::Page { entries, next } = self.ask(slot, dir, &request, &[], &[]).await?.reply else {
                return Err(unexpected());
            };
            all.extend(entries);
            let Some(next) = next else { return Ok(all) };
            cursor = next;
        }
    }

    /// One page of the units of a file that were written.
    pub(super) async fn units(&self, slot: Slot, spot: &Spot, cursor: u64) -> Answer<(Vec<UnitRun>, Option<u64>)> {
        let request = Request::ReadUnits { id: spot.id, cursor, since: Default::default() };
        match self.ask(slot, spot, &request, &[], &[]).await?.reply {
            Reply::Units { runs, next } => Ok((runs, next)),
            _ => Err(unexpected()),
        }
    }
}
