//! Stamps and the object attribute: what changed in which generation, and when.

use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::message::{Fault, Kind};

use super::Brick;
use super::error::Result;
use super::node::{Node, State};
use super::object::{Meta, Records};
use super::sabotage::{Sabotage, is_chosen};
use crate::disk::{Disk, XattrMode};

impl<D: Disk> Brick<D> {
    /// Stamps an object and everything above it with the present generation, before it changes.
    ///
    /// From the root down: at any moment, a stamped directory's ancestors are stamped, and those of the name by which an object
    /// was stamped; so one look at the object is enough the next time.
    pub(super) fn stamp(&self, id: ObjectId) -> Result<()> {
        if is_chosen(Sabotage::ForgetStamp) {
            return Ok(());
        }
        let generation = self.generation();
        let mut chain = Vec::new();
        let mut at = id;
        loop {
            let node = self.node(at)?;
            let (stamped, orphan) = {
                let state = node.state();
                let anchored = state.anchored || node.kind == Kind::Directory;
                (state.meta.stamp >= generation && anchored, state.orphan)
            };
            if stamped {
                break;
            }
            chain.push(node);
            if at == ObjectId::ROOT || orphan {
                break;
            }
            at = self.table.get(at).ok_or(Fault::Unresolved(at))?.parent;
        }
        for node in chain.iter().rev() {
            let mut state = node.state_mut();
            if state.meta.stamp < generation {
                let meta = Meta { stamp: generation, ..state.meta.clone() };
                self.put_meta(node, &mut state, meta)?;
            }
        }
        if let Some(node) = chain.first() {
            node.state_mut().anchored = true;
        }
        Ok(())
    }

    /// Writes an object's attribute; in memory it changes only when the disk took it. Records are written before it: all that there are
    /// when it is, there must be afterwards.
    pub(super) fn put_meta(&self, node: &Node<D>, state: &mut State<D>, mut meta: Meta) -> Result<()> {
        meta.side_units = (meta.records == Records::Side).then_some(state.side_units);
        if meta == state.meta {
            return Ok(());
        }
        self.disk.set_xattr(&node.handle, self.attr_name(), &meta.encode(), XattrMode::Any)?;
        state.meta = meta;
        state.changes += 1;
        Ok(())
    }

    /// Sets the time of the last change.
    pub(super) fn touch(&self, node: &Node<D>, now: Timestamp) -> Result<()> {
        let mut state = node.state_mut();
        let meta = Meta { ctime: now, ..state.meta.clone() };
        self.put_meta(node, &mut state, meta)
    }

    /// A directory's names changed: its mtime, from which its ctime follows.
    pub(super) fn touch_names(&self, dir: &Node<D>, now: Timestamp) -> Result<()> {
        self.disk.set_times(&dir.handle, None, Some(now))?;
        if dir.state().meta.follows_mtime(now) {
            return Ok(());
        }
        let mut state = dir.state_mut();
        let mut meta = state.meta.clone();
        meta.set_times(now, now);
        self.put_meta(dir, &mut state, meta)
    }
}
