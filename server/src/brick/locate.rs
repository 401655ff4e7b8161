//! From an id to an open object, and from a name to an id. Whatever is opened by name is believed only
//! when its attribute carries the id.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use net_raid_proto::ids::{Digest, Name, ObjectId};
use net_raid_proto::limits::UNIT_SIZE;
use net_raid_proto::message::{Fault, Kind};

use super::Brick;
use super::error::{Result, errno};
use super::label::internal;
use super::node::{FileDigest, Node, State};
use super::object::{Meta, Records};
use super::open::AREA;
use super::record::{RECORD_LEN, Record};
use super::records::RECORDS_PER_READ;
use crate::disk::{Disk, Stat};

/// Most directories between the root and an object: more means a loop in the table.
pub(super) const DEPTH_MAX: usize = 100_000;
/// Names opened in one call: 15 of the longest stay below PATH_MAX.
const NAMES_PER_OPEN: usize = 15;
/// Foreign objects that are logged before the brick falls silent about them.
const FOREIGN_LOGGED_MAX: u32 = 100;

/// What a name names.
pub(super) struct Child {
    pub(super) meta: Meta,
    pub(super) stat: Stat,
}

/// Name of a file that belongs to an id.
pub(super) fn hex_name(id: ObjectId) -> Name {
    internal(&format!("{:016x}", id.0))
}

/// Whether errors of opening a path mean that the path is outdated.
fn is_absent(number: Option<i32>) -> bool {
    matches!(number, Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EXDEV))
}

impl<D: Disk> Brick<D> {
    /// The open object.
    pub(super) fn node(&self, id: ObjectId) -> Result<Arc<Node<D>>> {
        loop {
            if let Some(node) = self.cache.get(id) {
                return Ok(node);
            }
            let removals = self.cache.removals(id);
            let node = self.load(id)?;
            if let Some(node) = self.cache.insert(node, removals) {
                self.trim(id);
                return Ok(node);
            }
        }
    }

    /// The open object, if it is a directory.
    pub(super) fn directory(&self, id: ObjectId) -> Result<Arc<Node<D>>> {
        let node = self.node(id)?;
        if node.kind == Kind::Directory { Ok(node) } else { Err(errno(libc::ENOTDIR)) }
    }

    /// The open object, if it is a regular file.
    pub(super) fn file(&self, id: ObjectId) -> Result<Arc<Node<D>>> {
        let node = self.node(id)?;
        match node.kind {
            Kind::File => Ok(node),
            Kind::Directory => Err(errno(libc::EISDIR)),
            _ => Err(errno(libc::EINVAL)),
        }
    }

    /// Closes what is too much to keep open.
    pub(super) fn trim(&self, near: ObjectId) {
        if let Some(node) = self.cache.surplus(near) {
            self.settle(&node);
            self.cache.evict(node);
        }
    }

    fn load(&self, id: ObjectId) -> Result<Node<D>> {
        if id == ObjectId::ROOT {
            let handle = self.disk.root()?;
            let stat = self.disk.stat(&handle)?;
            return self.adopt(id, handle, &stat, false)?.ok_or_else(|| errno(libc::EIO));
        }
        // A rename under way may hide a name for a moment: what the table says afterwards counts.
        while let Some(place) = self.table.get(id) {
            if let Some(node) = self.load_named(id)? {
                return Ok(node);
            }
            if self.table.get(id).as_ref() == Some(&place) {
                self.table.forget(id);
            }
        }
        let orphan = self.disk.open(&self.areas()?.orphans, &[&hex_name(id)]);
        match orphan {
            Ok((handle, stat)) => self.adopt(id, handle, &stat, true)?.ok_or(Fault::Unresolved(id).into()),
            Err(error) if is_absent(error.raw_os_error()) => Err(Fault::Unresolved(id).into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens an object by the names that the table has; `None` when something else is there.
    fn load_named(&self, id: ObjectId) -> Result<Option<Node<D>>> {
        let mut names = Vec::new();
        let mut at = id;
        let base = loop {
            let Some(place) = self.table.get(at) else { return Err(Fault::Unresolved(at).into()) };
            names.push(place.name);
            at = place.parent;
            if at == ObjectId::ROOT {
                break None;
            }
            if let Some(node) = self.cache.get(at) {
                break Some(node);
            }
            if names.len() > DEPTH_MAX {
                return Err(Fault::Unresolved(id).into());
            }
        };
        names.reverse();
        let root = &self.areas()?.root;
        let mut opened = None;
        for names in names.chunks(NAMES_PER_OPEN) {
            let from = opened.as_ref().map_or_else(|| base.as_ref().map_or(root, |node| &node.handle), |(dir, _)| dir);
            let path: Vec<&Name> = names.iter().collect();
            match self.disk.open(from, &path) {
                Ok(next) => opened = Some(next),
                Err(error) if is_absent(error.raw_os_error()) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        let Some((handle, stat)) = opened else { return Ok(None) };
        self.adopt(id, handle, &stat, false)
    }

    /// An object out of a handle, if it carries the id.
    fn adopt(&self, id: ObjectId, handle: D::Handle, stat: &Stat, orphan: bool) -> Result<Option<Node<D>>> {
        let value = self.disk.get_xattr(&handle, self.attr_name())?;
        let Some(meta) = value.as_deref().and_then(Meta::decode).filter(|meta| meta.id == id) else { return Ok(None) };
        let kind = meta.recorded.as_ref().map_or(&stat.kind, |recorded| &recorded.kind).clone();
        // Everything that is no directory is kept as a file here, so a type that cannot be is damage.
        if meta.recorded.is_some() && (kind == Kind::Directory) != (stat.kind == Kind::Directory) {
            return Err(errno(libc::EIO));
        }
        let side = if meta.records == Records::Side { Some(self.open_side(&meta, stat.size)?) } else { None };
        let mut state = State::new(meta, side, FileDigest::Found, orphan);
        self.mend_records(id, &mut state)?;
        Ok(Some(Node::new(kind, handle, state)))
    }

    /// The record file of a file of `len` bytes, made when it is missing: then no block matches, and all are repaired from the
    /// other bricks. The same goes for what was cut off.
    fn open_side(&self, meta: &Meta, len: u64) -> Result<(D::Handle, u64)> {
        let id = meta.id;
        let (bucket, name) = side_path(id);
        let records = &self.areas()?.records;
        match self.disk.open(records, &[&bucket, &name]) {
            Ok((side, stat)) => {
                let (units, noted) = (stat.size / RECORD_LEN as u64, meta.side_units.unwrap_or_default());
                // What a power loss took is in the log.
                if units >= noted || self.waiting(id).is_some() {
                    return Ok((side, units));
                }
                self.complete_side(&side, units..noted, len)?;
                Ok((side, noted))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                tracing::warn!(id = id.0, "record file is missing");
                // What a power loss took is in the log.
                let len = if self.waiting(id).is_some() { 0 } else { len };
                Ok((self.make_lost_side(id, len)?, len.div_ceil(UNIT_SIZE as u64)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// An empty record file.
    pub(super) fn make_side(&self, id: ObjectId) -> Result<D::Handle> {
        let (bucket, name) = side_path(id);
        let (bucket, _) = self.disk.open(&self.areas()?.records, &[&bucket])?;
        match self.disk.create(&bucket, &name, 0o600) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                // Left by a crash between making it and noting it.
                let (side, _) = self.disk.open(&bucket, &[&name])?;
                self.disk.truncate(&side, 0)?;
                Ok(side)
            }
            side => Ok(side?),
        }
    }

    /// Whether there is a record file.
    pub(super) fn has_side(&self, id: ObjectId) -> Result<bool> {
        let (bucket, name) = side_path(id);
        match self.disk.open(&self.areas()?.records, &[&bucket, &name]) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The record file of a file of which nobody knows what was written: of the records of its first `len` bytes, those that it
    /// does not have are unknown.
    pub(super) fn doubt_side(&self, id: ObjectId, len: u64) -> Result<()> {
        let (bucket, name) = side_path(id);
        match self.disk.open(&self.areas()?.records, &[&bucket, &name]) {
            Ok((side, stat)) => self.fill_unknown(&side, stat.size / RECORD_LEN as u64, len),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.make_lost_side(id, len).map(drop),
            Err(error) => Err(error.into()),
        }
    }

    /// A record file of which nobody knows what was written in the first `len` bytes.
    fn make_lost_side(&self, id: ObjectId, len: u64) -> Result<D::Handle> {
        let side = self.make_side(id)?;
        self.fill_unknown(&side, 0, len)?;
        Ok(side)
    }

    /// Sees to it that a record file that is open has all records that it had: what somebody cut off is unknown.
    pub(super) fn check_side(&self, node: &Node<D>, state: &State<D>) -> Result<()> {
        let Some(side) = &state.side else { return Ok(()) };
        let units = self.disk.stat(side)?.size / RECORD_LEN as u64;
        if units >= state.side_units {
            return Ok(());
        }
        self.complete_side(side, units..state.side_units, self.disk.stat(&node.handle)?.size)
    }

    /// Puts records where some were cut off, of a file of `len` bytes. In this order: until all is there, it is too short.
    fn complete_side(&self, side: &D::Handle, missing: std::ops::Range<u64>, len: u64) -> Result<()> {
        tracing::warn!(units = missing.end, "a record file was cut after unit {}", missing.start);
        self.fill_unknown(side, missing.start, len)?;
        let end = missing.end * RECORD_LEN as u64;
        if self.disk.stat(side)?.size < end {
            self.disk.truncate(side, end)?;
        }
        Ok(())
    }

    /// Makes the records from a unit on unknown, up to the last block of a file of `len` bytes.
    fn fill_unknown(&self, side: &D::Handle, first: u64, len: u64) -> Result<()> {
        let (mut unit, end) = (first, len.div_ceil(UNIT_SIZE as u64));
        while unit < end {
            let until = end.min(unit + RECORDS_PER_READ);
            let left = |unit: u64| len - unit * UNIT_SIZE as u64;
            let bytes: Vec<u8> = (unit..until).flat_map(|unit| Record::unknown(left(unit)).encode()).collect();
            self.disk.write_at(side, &bytes, unit * RECORD_LEN as u64).map_err(|short| short.source)?;
            unit = until;
        }
        // Its name too: the attribute that says it is there may be durable first.
        self.disk.sync_all(side).map_err(|error| self.sync_failed(error.into()))
    }

    pub(super) fn remove_side(&self, id: ObjectId) -> Result<()> {
        let (bucket, name) = side_path(id);
        let (bucket, _) = self.disk.open(&self.areas()?.records, &[&bucket])?;
        match self.disk.unlink(&bucket, &name) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// What a name in a directory names: nothing when it is free, or when what is there is not of the volume.
    pub(super) fn child(&self, dir: &Node<D>, name: &Name) -> Result<Option<Child>> {
        let Some(meta) = self.child_meta(dir, name)? else { return Ok(None) };
        match self.disk.stat_at(&dir.handle, name) {
            Ok(stat) => Ok(Some(Child { meta, stat })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The attribute of what a name names.
    pub(super) fn child_meta(&self, dir: &Node<D>, name: &Name) -> Result<Option<Meta>> {
        if is_reserved(dir.id, name) {
            return Ok(None);
        }
        let value = match self.disk.get_xattr_at(&dir.handle, name, self.attr_name()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            // Attributes of such a type do not exist here, so it is none of ours.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM)) => None,
            value => value?,
        };
        let meta = value.as_deref().and_then(Meta::decode);
        if meta.is_none() {
            self.log_foreign(dir.id, name);
        }
        Ok(meta)
    }

    fn log_foreign(&self, dir: ObjectId, name: &Name) {
        if self.foreign_logged.load(Relaxed) < FOREIGN_LOGGED_MAX {
            self.foreign_logged.fetch_add(1, Relaxed);
            tracing::warn!(dir = dir.0, %name, "object without a net_raid attribute is ignored");
        }
    }

    /// Clears a name that is held by what an interrupted create left: no attribute and no content.
    /// Returns whether the name is free now.
    pub(super) fn clear_debris(&self, dir: &Node<D>, name: &Name) -> Result<bool> {
        if is_reserved(dir.id, name) || self.child_meta(dir, name)?.is_some() {
            return Ok(false);
        }
        let stat = match self.disk.stat_at(&dir.handle, name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(true),
            stat => stat?,
        };
        let removed = match stat.kind {
            Kind::Directory => self.disk.rmdir(&dir.handle, name),
            Kind::File if stat.size > 0 => return Ok(false),
            _ => self.disk.unlink(&dir.handle, name),
        };
        match removed {
            Ok(()) => {
                tracing::warn!(dir = dir.id.0, %name, "removed what an interrupted create left");
                Ok(true)
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Directory and name of a record file below `records/`.
fn side_path(id: ObjectId) -> (Name, Name) {
    (internal(&format!("{:02x}", id.0 as u8)), hex_name(id))
}

/// The place that the volume never sees.
pub(super) fn is_reserved(dir: ObjectId, name: &Name) -> bool {
    dir == ObjectId::ROOT && name.as_bytes() == AREA
}

/// Whether a digest stands for content.
pub(super) fn is_data(digest: &Digest) -> bool {
    *digest != Digest::HOLE
}
