//! SEEK_DATA and SEEK_HOLE, from what the bricks' files have allocated.

use std::sync::Arc;

use net_raid_proto::ids::Slot;
use net_raid_proto::layout::Level;
use net_raid_proto::message::{Fault, Reply, Request};

use super::query::nonsense;
use super::{Core, File, Seek, VolumeError};
use crate::conn::CallError;
use crate::layout::{SlotSet, UNIT};

/// Units that one question covers.
const WINDOW: u64 = u32::MAX as u64;

/// Allocated ranges of the brick's file in one slot, from some unit on.
struct Ranges {
    ranges: Vec<(u64, u64)>,
}

impl Ranges {
    /// Whether any byte of `start..end` is allocated.
    fn touches(&self, start: u64, end: u64) -> bool {
        let after = self.ranges.partition_point(|range| range.1 <= start);
        self.ranges.get(after).is_some_and(|range| range.0 < end)
    }

    /// The first allocated byte at or after `at`.
    fn next(&self, at: u64) -> Option<u64> {
        let after = self.ranges.partition_point(|range| range.1 <= at);
        self.ranges.get(after).map(|range| range.0.max(at))
    }
}

impl Core {
    pub(super) async fn seek(self: &Arc<Core>, file: &File, offset: u64, what: Seek) -> Result<u64, VolumeError> {
        let size = file.size();
        if offset >= size {
            return Err(VolumeError::Errno(libc::ENXIO));
        }
        let maps = self.allocated(file, offset / file.geometry.stripe_bytes()).await?;
        let found = match what {
            Seek::Data => next_data(file, &maps, offset, size).filter(|at| *at < size),
            Seek::Hole => Some(next_hole(file, &maps, offset, size)),
        };
        found.ok_or(VolumeError::Errno(libc::ENXIO))
    }

    /// What the readable members have allocated, by slot.
    async fn allocated(self: &Arc<Core>, file: &File, from: u64) -> Result<Vec<Option<Ranges>>, VolumeError> {
        let readable = self.members.readable();
        let slots: SlotSet = match file.geometry.level() {
            Level::Raid1 => readable.iter().take(1).collect(),
            _ => readable,
        };
        if slots.len() < file.geometry.data_units() {
            return Err(VolumeError::Lost("too few servers answer".into()));
        }
        let asks = slots.iter().map(|slot| self.allocated_at(file, slot, from));
        let mut maps: Vec<Option<Ranges>> = Vec::new();
        maps.resize_with(self.members.width(), || None);
        for (slot, ranges) in slots.iter().zip(futures_util::future::join_all(asks).await) {
            maps[slot.index()] = Some(ranges?);
        }
        Ok(maps)
    }

    async fn allocated_at(&self, file: &File, slot: Slot, from: u64) -> Result<Ranges, VolumeError> {
        let mut all: Vec<(u64, u64)> = Vec::new();
        let mut unit = from;
        loop {
            let request = Request::Allocated { id: file.id, unit, count: WINDOW as u32 };
            let reply = match self.ask(slot, &request, &[], false).await {
                Ok(response) => response.reply,
                Err(CallError::Fault(Fault::Errno(errno))) => return Err(VolumeError::Errno(errno)),
                Err(error) => return Err(VolumeError::Lost(error.to_string())),
            };
            let Reply::Ranges { ranges, more } = reply else { return Err(nonsense()) };
            all.extend(ranges);
            let last = all.last().map(|range| range.1 / UNIT);
            match last.filter(|last| more && *last > unit) {
                Some(last) => unit = last,
                None => return Ok(Ranges { ranges: all }),
            }
        }
    }
}

/// Whether a data unit holds data. One whose member is away does when the parity of its stripe does.
fn unit_has_data(file: &File, maps: &[Option<Ranges>], stripe: u64, index: usize) -> bool {
    let touched = |index: usize| {
        let map = maps[file.geometry.slot(stripe, index).index()].as_ref();
        map.map(|map| map.touches(stripe * UNIT, (stripe + 1) * UNIT))
    };
    if file.geometry.level() == Level::Raid1 {
        return (0..file.geometry.width()).filter_map(touched).any(|data| data);
    }
    let parity = || (file.geometry.data_units()..file.geometry.width()).filter_map(touched).any(|data| data);
    touched(index).unwrap_or_else(parity)
}

fn next_data(file: &File, maps: &[Option<Ranges>], offset: u64, size: u64) -> Option<u64> {
    let mut unit = offset / UNIT;
    while unit * UNIT < size {
        let data_units = file.geometry.data_units() as u64;
        let (stripe, index) = (unit / data_units, (unit % data_units) as usize);
        if unit_has_data(file, maps, stripe, index) {
            return Some((unit * UNIT).max(offset));
        }
        // Nothing in the whole stripe: go to the next one that any member has something of.
        unit = if index + 1 < data_units as usize {
            unit + 1
        } else {
            let next = maps.iter().flatten().filter_map(|map| map.next((stripe + 1) * UNIT)).min()?;
            (next / UNIT).max(stripe + 1) * data_units
        };
    }
    None
}

fn next_hole(file: &File, maps: &[Option<Ranges>], offset: u64, size: u64) -> u64 {
    let mut unit = offset / UNIT;
    let data_units = file.geometry.data_units() as u64;
    while unit * UNIT < size {
        if !unit_has_data(file, maps, unit / data_units, (unit % data_units) as usize) {
            return (unit * UNIT).max(offset);
        }
        unit += 1;
    }
    size
}
