//! Questions that one member can answer: names, attributes, directories; and space, which all are asked for.

use std::collections::HashSet;

use net_raid_proto::ids::{Name, ObjectId, Slot};
use net_raid_proto::layout::Level;
use net_raid_proto::message::{DirEntry, Entry, Fault, Reply, Request, Space};

use super::{Core, VolumeError};
use crate::conn::{CallError, Class, Response};
use crate::layout::SlotSet;

impl Core {
    /// Asks one member after the other until one answers, for at most `timeout`.
    pub(super) async fn query(&self, id: ObjectId, request: &Request) -> Result<(Slot, Response), VolumeError> {
        let deadline = self.patience_ends();
        let mut seen = self.members.watch();
        // Who is late is waited for only when all are.
        let (mut late, class) = (false, Class::of(request));
        loop {
            self.members.check_owned()?;
            let patient = std::mem::take(&mut late);
            for slot in self.spread(id.0) {
                let ask = self.ask(slot, request, &[], false);
                let answer = if patient { Some(ask.await) } else { self.in_good_time(slot, class, ask).await };
                match answer {
                    None => late = true,
                    Some(Ok(response)) => return Ok((slot, response)),
                    Some(Err(CallError::Fault(Fault::Errno(errno)))) => return Err(VolumeError::Errno(errno)),
                    Some(Err(CallError::Fault(fault @ (Fault::StaleEpoch(_) | Fault::Held { .. })))) => {
                        self.members.note_taken_over(&fault);
                    }
                    Some(Err(error)) => tracing::debug!(%slot, %error, "asking another server"),
                }
            }
            if late {
                continue;
            }
            self.members.check_owned()?;
            if !self.members.wait_change(&mut seen, deadline).await {
                return Err(VolumeError::Lost("no server with current data answers".into()));
            }
        }
    }

    /// Current members, those that answer first, beginning at a place that depends on `seed`: so that
    /// questions are spread, and the same question goes to the same member.
    fn spread(&self, seed: u64) -> Vec<Slot> {
        let (current, prompt) = (self.members.current(), self.prompt());
        let others = SlotSet(current.0 & !prompt.0);
        let mut slots: Vec<Slot> = prompt.iter().collect();
        if !slots.is_empty() {
            let first = (seed % slots.len() as u64) as usize;
            slots.rotate_left(first);
        }
        slots.extend(others.iter());
        slots
    }

    pub(super) async fn entry(&self, id: ObjectId, request: &Request) -> Result<Entry, VolumeError> {
        match self.query(id, request).await?.1.reply {
            Reply::Entry(entry) if self.fits(&entry) => Ok(*entry),
            _ => Err(nonsense()),
        }
    }

    /// Whether the layout that a brick tells is one that this volume can have.
    pub(super) fn fits(&self, entry: &Entry) -> bool {
        let layout = &entry.layout;
        let slots = self.members.width();
        layout.is_valid() && (0..usize::from(layout.width)).all(|position| layout.slot_at(position) < slots)
    }

    pub(super) async fn bytes(&self, id: ObjectId, request: &Request) -> Result<Vec<u8>, VolumeError> {
        match self.query(id, request).await?.1.reply {
            Reply::Bytes(bytes) => Ok(bytes),
            _ => Err(nonsense()),
        }
    }

    /// Page after page from one member; a cursor means nothing to another one, so that when the member is
    /// lost the listing goes on from the start of the next one, without what was already seen.
    pub(super) async fn read_dir(&self, id: ObjectId, attributes: bool) -> Result<Vec<DirEntry>, VolumeError> {
        let mut entries: Vec<DirEntry> = Vec::new();
        let mut seen: HashSet<Name> = HashSet::new();
        let (mut cursor, mut from) = (0, None);
        loop {
            let request = Request::ReadDir { id, cursor, attributes };
            let answer = match from {
                None => self.query(id, &request).await.map(Some)?,
                Some(slot) => self.page_from(slot, &request).await?,
            };
            let Some((slot, response)) = answer else {
                seen.extend(entries.iter().map(|entry| entry.name.clone()));
                (cursor, from) = (0, None);
                continue;
            };
            let Reply::Page { entries: page, next } = response.reply else { return Err(nonsense()) };
            if page.iter().filter_map(|item| item.entry.as_deref()).any(|entry| !self.fits(entry)) {
                return Err(nonsense());
            }
            entries.extend(page.into_iter().filter(|entry| !seen.contains(&entry.name)));
            match next {
                None => return Ok(entries),
                Some(next) => (cursor, from) = (next, Some(slot)),
            }
        }
    }

    /// The next page from the member that the page before came from; `None` when it is gone.
    async fn page_from(&self, slot: Slot, request: &Request) -> Result<Option<(Slot, Response)>, VolumeError> {
        match self.ask(slot, request, &[], false).await {
            Ok(response) => Ok(Some((slot, response))),
            Err(CallError::Fault(Fault::Errno(errno))) => Err(VolumeError::Errno(errno)),
            Err(_) => Ok(None),
        }
    }

    /// What can be stored: the smallest member counts, times the data units of a stripe.
    pub(super) async fn stat_fs(&self) -> Result<Space, VolumeError> {
        let slots: Vec<Slot> = self.members.readable().iter().collect();
        let asks = slots.iter().map(|slot| self.ask(*slot, &Request::StatFs, &[], false));
        let answers = futures_util::future::join_all(asks).await;
        let spaces = answers.into_iter().filter_map(|answer| match answer.ok()?.reply {
            Reply::Space(space) => Some(space),
            _ => None,
        });
        let smallest = spaces.reduce(|a, b| Space {
            total: a.total.min(b.total),
            free: a.free.min(b.free),
            available: a.available.min(b.available),
            inodes: a.inodes.min(b.inodes),
            inodes_free: a.inodes_free.min(b.inodes_free),
        });
        let smallest = smallest.ok_or_else(|| VolumeError::Lost("no server answers".into()))?;
        let times = match self.layout.level {
            Level::Raid1 => 1,
            _ => self.layout.data_units() as u64,
        };
        let scale = |bytes: u64| bytes.saturating_mul(times);
        Ok(Space {
            total: scale(smallest.total),
            free: scale(smallest.free),
            available: scale(smallest.available),
            ..smallest
        })
    }
}

/// A brick answered with another kind of reply than belongs to the request.
pub(super) fn nonsense() -> VolumeError {
    VolumeError::Lost("a server's answer does not fit the question".into())
}
