//! A note that owners leave for those after them. The brick does not look into it, and one that is lost costs little.

use net_raid_proto::limits::NOTE_MAX;
use net_raid_proto::message::{Fault, Reply};

use super::error::Result;
use super::label::internal;
use super::{Brick, lock};
use crate::disk::{Disk, RenameMode};

const CRC_LEN: usize = 4;

impl<D: Disk> Brick<D> {
    /// The note, or nothing.
    pub(super) fn read_note(&self) -> Result<Reply> {
        let mut bytes = Vec::new();
        match self.disk.open(&self.areas()?.area, &[&internal("note")]) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            opened => drop(self.disk.read_at(&opened?.0, &mut bytes, CRC_LEN + NOTE_MAX, 0)?),
        }
        let note = bytes
            .split_first_chunk::<CRC_LEN>()
            .filter(|(crc, note)| u32::from_le_bytes(**crc) == crc32c::crc32c(note));
        Ok(Reply::Bytes(note.map_or_else(Vec::new, |(_, note)| note.to_vec())))
    }

    /// A new file takes the place of the one before, so that a power loss leaves one of them.
    pub(super) fn write_note(&self, note: &[u8]) -> Result<Reply> {
        if note.len() > NOTE_MAX {
            return Err(Fault::Refused("the note is too long".into()).into());
        }
        let _one_at_a_time = lock(&self.noting);
        let area = &self.areas()?.area;
        let (fresh, name) = (internal("note.new"), internal("note"));
        match self.disk.unlink(area, &fresh) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error.into()),
            _ => {}
        }
        let file = self.disk.create(area, &fresh, 0o600)?;
        let bytes = [&crc32c::crc32c(note).to_le_bytes(), note].concat();
        self.disk.write_at(&file, &bytes, 0).map_err(|short| short.source)?;
        self.disk.sync_all(&file).map_err(|error| self.sync_failed(error.into()))?;
        self.disk.rename(area, &fresh, area, &name, RenameMode::Replace)?;
        self.disk.sync_all(area).map_err(|error| self.sync_failed(error.into()))?;
        Ok(Reply::Done)
    }
}
