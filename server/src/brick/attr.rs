//! Attributes as the volume sees them.

use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::layout::{Layout, Level};
use net_raid_proto::message::{Attr, Entry, Fault, Kind, Reply, SetAttr};

use super::error::{Error, Result};
use super::log::Body;
use super::node::{Node, State};
use super::object::Meta;
use super::waiting::{self, What};
use super::{Brick, Ticket, lock};
use crate::disk::{Disk, Stat};

/// An object with its attributes.
pub(super) fn entry(meta: &Meta, stat: &Stat, orphan: bool) -> Entry {
    let recorded = meta.recorded.as_ref();
    let kind = recorded.map_or(&stat.kind, |recorded| &recorded.kind).clone();
    let size = match kind {
        Kind::File => meta.size.unwrap_or(stat.size),
        Kind::Directory | Kind::Symlink => stat.size,
        _ => 0,
    };
    let attr = Attr {
        kind,
        mode: recorded.map_or(stat.mode, |recorded| recorded.mode),
        nlink: links(meta.id, stat.nlink, orphan),
        uid: recorded.map_or(stat.uid, |recorded| recorded.uid),
        gid: recorded.map_or(stat.gid, |recorded| recorded.gid),
        size,
        brick_blocks: stat.blocks,
        atime: stat.atime,
        mtime: stat.mtime,
        ctime: reported_ctime(meta, stat.mtime),
    };
    // Only files have a layout; for the others the field is there without a meaning.
    let layout = meta.layout.unwrap_or_else(|| Layout::new(Level::Raid1, 2));
    Entry { id: meta.id, stamp: meta.stamp, layout, attr }
}

/// Links that the volume sees: without the name among the orphans, and in the root without the brick's own directory
/// (where directories are counted: on btrfs each has one link).
fn links(id: ObjectId, links: u32, orphan: bool) -> u32 {
    let hidden = orphan || (id == ObjectId::ROOT && links > 2);
    links - u32::from(hidden && links > 0)
}

/// What a kernel sends that wrote dirty pages back.
fn is_mtime_alone(set: &SetAttr) -> bool {
    set.mtime.is_some() && SetAttr { mtime: None, ..*set } == SetAttr::default()
}

pub(super) fn reported_ctime(meta: &Meta, mtime: Timestamp) -> Timestamp {
    if meta.early_ctime { meta.ctime } else { meta.ctime.max(mtime) }
}

impl<D: Disk> Brick<D> {
    pub(super) fn get_attr(&self, id: ObjectId) -> Result<Reply> {
        if let Some(entry) = self.peek(id)? {
            return Ok(Reply::Entry(Box::new(entry)));
        }
        let node = self.node(id)?;
        let state = node.state();
        let stat = self.disk.stat(&node.handle)?;
        if stat.nlink == 0 {
            // Its last name went, and the brick did not take it: what is open here only is nowhere after a restart.
            self.cache.remove_this(&node);
            return Err(Fault::Unresolved(id).into());
        }
        Ok(Reply::Entry(Box::new(entry(&state.meta, &stat, state.orphan))))
    }

    /// Attributes of an object that is not open, without opening it.
    fn peek(&self, id: ObjectId) -> Result<Option<Entry>> {
        if id == ObjectId::ROOT || self.cache.get(id).is_some() {
            return Ok(None);
        }
        let Some(place) = self.table.get(id) else { return Ok(None) };
        let dir = self.directory(place.parent)?;
        let _names = dir.names();
        let child = self.child(&dir, &place.name)?.filter(|child| child.meta.id == id);
        Ok(child.map(|child| entry(&child.meta, &child.stat, false)))
    }

    pub(super) fn set_attr(&self, ticket: &Ticket, id: ObjectId, set: &SetAttr, now: Timestamp) -> Result<Reply> {
        self.stamp(id)?;
        let node = self.node(id)?;
        let mut state = node.state_mut();
        let mut meta = state.meta.clone();
        if let Some(recorded) = &mut meta.recorded {
            recorded.mode = set.mode.map_or(recorded.mode, |mode| mode & 0o7777);
            recorded.uid = set.uid.unwrap_or(recorded.uid);
            recorded.gid = set.gid.unwrap_or(recorded.gid);
        } else {
            self.set_native(&node, set)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            self.disk.set_times(&node.handle, set.atime, set.mtime)?;
        }
        let mtime = self.disk.stat(&node.handle)?.mtime;
        // An atime, or a ctime alone, may have been kept back by the client while other changes overtook it.
        let kept_back = SetAttr { atime: None, ..*set } == SetAttr::default();
        let now = if kept_back { now.max(reported_ctime(&meta, mtime)) } else { now };
        let changes = state.changes + 1;
        let logged = node.kind == Kind::File && is_mtime_alone(set) && self.log_times(ticket, id, mtime, now)?;
        if !(logged && mtime == now && meta.follows_mtime(now)) {
            meta.set_times(now, mtime);
        }
        self.put_meta(&node, &mut state, meta)?;
        state.changes = if logged { changes - 1 } else { changes };
        Ok(Reply::Done)
    }

    /// Notes the times of a file; `false` when the log has no room: then they are durable with the file's own attributes.
    fn log_times(&self, ticket: &Ticket, id: ObjectId, mtime: Timestamp, ctime: Timestamp) -> Result<bool> {
        let waiting = self.waiting_mut(id);
        let mut waiting = lock(&waiting);
        let Ticket { transaction, generation, .. } = *ticket;
        let index = match self.append_log(generation, &Body::Times { transaction, id, mtime, ctime }, &[], false) {
            Ok((index, _)) => index,
            Err(Error::Os(error)) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(false),
            Err(error) => return Err(error),
        };
        let what = What::Times { mtime, ctime };
        waiting.entries.push(waiting::Entry { transaction, generation, index, participants: 0, what, whole: true });
        Ok(true)
    }

    fn set_native(&self, node: &Node<D>, set: &SetAttr) -> Result<()> {
        let mut mode = set.mode.map(|mode| mode & 0o7777);
        if set.uid.is_some() || set.gid.is_some() {
            // The kernel takes set-id bits away at a change of owner; whether the volume does is the client's say.
            let before = self.disk.stat(&node.handle)?.mode;
            self.disk.set_owner(&node.handle, set.uid, set.gid)?;
            mode = mode.or((before & 0o6000 != 0).then_some(before));
        }
        match mode {
            // A symbolic link's own mode is always 0777 on Linux.
            Some(mode) if node.kind != Kind::Symlink => Ok(self.disk.set_mode(&node.handle, mode)?),
            _ => Ok(()),
        }
    }

    /// Sets permission bits together with another change of the object.
    pub(super) fn set_mode_with(&self, node: &Node<D>, state: &mut State<D>, mode: u32) -> Result<()> {
        let mut meta = state.meta.clone();
        if let Some(recorded) = &mut meta.recorded {
            recorded.mode = mode & 0o7777;
            return self.put_meta(node, state, meta);
        }
        self.disk.set_mode(&node.handle, mode & 0o7777)?;
        state.changes += 1;
        Ok(())
    }
}
