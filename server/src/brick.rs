//! Objects, records and digests of one brick. It knows no RAID level, starts no thread and reads no clock.
//!
//! A [`Brick`] answers one request at a time per calling thread and may be called from many at once.
//! It locks directories and objects one by one, never all of them, while it waits for the disk.
//! Lock order: `sequence`, `standing`, names of directories ascending by id, one object's state.

mod attr;
mod checkpoint;
mod create;
mod data;
mod detach;
mod digest;
mod error;
mod label;
mod lease;
mod locate;
mod log;
mod names;
mod node;
mod note;
mod object;
mod open;
mod orphans;
mod own_files;
mod record;
mod records;
mod remove;
mod rename;
mod replay;
mod resize;
mod restore;
pub mod sabotage;
mod stamp;
mod sync;
mod table;
#[cfg(test)]
mod tests;
mod units;
mod verify;
mod waiting;
mod xattrs;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};

use net_raid_proto::frame::Header;
use net_raid_proto::ids::{BrickId, Generation, ObjectId, Timestamp, Transaction};
use net_raid_proto::membership::Ownership;
use net_raid_proto::message::{Answer, Change, Fault, Reply, Request};

use crate::disk::Disk;
use error::{Error, Result, is_disk_failure};
use lease::Standing;
use node::Cache;
use open::Areas;
use table::Table;
use waiting::Waiting;

/// What a brick must be told.
#[derive(Debug, Clone)]
pub struct BrickOptions {
    /// What the process can do: [`crate::disk::RealDisk::ownership`].
    pub ownership: Ownership,
    /// Random id for the brick, used when it has none yet.
    pub brick: BrickId,
    /// Boot id of the machine: under another one, what was not synced is lost.
    pub boot: String,
}

/// Why a directory cannot be opened as a brick.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by a newer version.
    #[error("brick format {version} is newer than this program, which knows up to {known}")]
    NewerFormat {
        /// Format of the brick.
        version: u16,
        /// Newest known.
        known: u16,
    },
    /// The log was written by a newer version.
    #[error(
        "the log has records of format {format}, and this program knows up to {known}: start the newer program again, and \
         unmount the volume, which empties the log, before going back"
    )]
    NewerLog {
        /// Format of the record.
        format: u16,
        /// Newest known.
        known: u16,
    },
    /// Changes are lost in the middle of the log.
    #[error(
        "record {record} of .net_raid/log.{file} is damaged, and others follow it: the brick has lost changes that the \
         other servers have, and must be replaced"
    )]
    LogDamaged {
        /// Number of the file.
        file: usize,
        /// Number of the record in it.
        record: u64,
    },
    /// No copy of the label can be read.
    #[error("both copies of the label in .net_raid are missing or damaged")]
    LabelsDamaged,
    /// An ordinary user cannot serve it.
    #[error("the brick was formatted by root and keeps owners natively; only root can serve it")]
    NeedsRoot,
    /// The root directory does not carry its attribute.
    #[error("the root directory has lost its net_raid attribute")]
    RootDamaged,
    /// The disk.
    #[error(transparent)]
    Os(#[from] io::Error),
}

/// One directory of a volume, served.
pub struct Brick<D: Disk> {
    disk: D,
    options: BrickOptions,
    /// Sequence number of the newest label; held while a label is written.
    sequence: Mutex<u64>,
    standing: RwLock<Standing>,
    /// When the owner was last heard, on the caller's clock; set by the first request after the start.
    heard_ms: AtomicU64,
    started: AtomicBool,
    generation: AtomicU64,
    areas: OnceLock<(Areas<D>, Ownership)>,
    table: Table,
    cache: Cache<D>,
    /// What waits in the log, by object.
    waiting: Mutex<BTreeMap<ObjectId, Arc<Mutex<Waiting>>>>,
    /// Something that waited was removed since the disk was synced: a power loss would bring it back.
    unsynced_removal: AtomicBool,
    /// One at a time puts what waits in place.
    completing: Mutex<()>,
    /// One at a time writes the note.
    noting: Mutex<()>,
    /// Nothing that was written was lost since the newest epoch was taken.
    intact: AtomicBool,
    /// Newest generation whose log may be used anew.
    applied: AtomicU64,
    /// Newest generation that all members have durably.
    completed: AtomicU64,
    /// Rounds of `Checkpoint`: the one that new names belong to, and the last that is durable.
    round: AtomicU32,
    durable_round: AtomicU32,
    /// Unlinked in this ownership: still open somewhere.
    fresh_orphans: Mutex<HashSet<ObjectId>>,
    failed: AtomicBool,
    failure: OnceLock<String>,
    foreign_logged: AtomicU32,
}

/// What the log keeps of a change beside what it does.
struct Ticket {
    transaction: Transaction,
    generation: Generation,
    participants: u16,
    resend: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl<D: Disk> Brick<D> {
    /// One request.
    ///
    /// `now_ms` is a monotonic clock for the lease. `payload` are the request's bytes; bytes to send
    /// back are appended to `out`.
    pub fn handle(&self, header: &Header, request: &Request, payload: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Answer {
        if !self.started.swap(true, Relaxed) {
            self.heard_ms.fetch_max(now_ms, Relaxed);
        }
        if let (Some(why), false) = (self.failure(), matches!(request, Request::Hello { .. })) {
            return Err(Fault::Failed(why));
        }
        let start = out.len();
        let result = self.dispatch(header, request, payload, now_ms, out);
        if result.is_err() {
            out.truncate(start);
        }
        result.map_err(|error| self.fault(error))
    }

    fn dispatch(
        &self,
        header: &Header,
        request: &Request,
        payload: &[u8],
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Result<Reply> {
        match request {
            Request::Hello { version_min, version_max, .. } => self.hello(*version_min, *version_max, now_ms),
            Request::Ping => self.ping(header.epoch, now_ms),
            Request::Format { label } => self.format(label),
            Request::Own { volume, epoch, generation, holder, take_over } => {
                self.own(*volume, (*epoch, *generation), holder, *take_over, now_ms)
            }
            Request::Disown => {
                drop(self.admit(header.epoch, now_ms)?);
                self.disown(header.epoch)
            }
            Request::SetMembership { membership } => {
                drop(self.admit(header.epoch, now_ms)?);
                self.set_membership(header.epoch, membership)
            }
            Request::Complete { generation } => {
                drop(self.admit(header.epoch, now_ms)?);
                self.complete(header.epoch, *generation)
            }
            Request::VerifyBrick => {
                drop(self.admit(header.epoch, now_ms)?);
                self.verify_brick(header.epoch)
            }
            Request::Change { transaction, generation, participants, now, change } => {
                let _owner = self.admit(header.epoch, now_ms)?;
                let ticket = Ticket {
                    transaction: *transaction,
                    generation: *generation,
                    participants: *participants,
                    resend: header.resend,
                };
                self.generation.fetch_max(generation.0, Relaxed);
                self.change(change, *now, &ticket, payload)
            }
            other => {
                let _owner = self.admit(header.epoch, now_ms)?;
                self.query(other, out)
            }
        }
    }

    fn query(&self, request: &Request, out: &mut Vec<u8>) -> Result<Reply> {
        match request {
            Request::Resolve { id, path } => self.resolve(*id, path),
            Request::Lookup { parent, name } => self.lookup(*parent, name),
            Request::GetAttr { id } => self.get_attr(*id),
            Request::ReadDir { id, cursor, attributes } => self.read_dir(*id, *cursor, *attributes),
            Request::ReadNames { id, cursor, parts } => self.read_names(*id, *cursor, *parts),
            Request::ReadChanged { id, cursor, since } => self.read_changed(*id, *cursor, *since),
            Request::ReadUnits { id, cursor, since } => self.read_units(*id, *cursor, *since),
            Request::ReadOrphans { cursor } => self.read_orphans(*cursor),
            Request::ReadLink { id } => self.read_link(*id),
            Request::GetXattr { id, name } => self.get_xattr(*id, name),
            Request::ListXattr { id } => self.list_xattr(*id),
            Request::StatFs => Ok(Reply::Space(self.disk.space()?)),
            Request::Read { id, parts } => self.read(*id, parts, out),
            Request::Allocated { id, unit, count } => self.allocated(*id, *unit, *count),
            Request::Fsync { id, data_only } => self.fsync(*id, *data_only),
            Request::Checkpoint { .. } => self.sync_all(),
            Request::Abort { transactions } => self.abort(transactions),
            Request::ReadLog { cursor } => self.read_log(*cursor),
            Request::Release { id } => self.release(*id),
            Request::PurgeOrphans => self.purge_orphans(),
            Request::Verify { id } => self.verify(*id),
            Request::Restore { parent, name, id, spec, size, brick_len, now } => {
                self.restore((*parent, name), *id, spec, (*size, *brick_len), *now)
            }
            Request::ReadNote => self.read_note(),
            Request::WriteNote { note } => self.write_note(note),
            // Told apart in `dispatch`.
            _ => Err(Fault::Refused("not a query".into()).into()),
        }
    }

    fn change(&self, change: &Change, now: Timestamp, ticket: &Ticket, payload: &[u8]) -> Result<Reply> {
        let resend = ticket.resend;
        match change {
            Change::Create { parent, name, id, spec } => self.create(*parent, name, *id, spec, (now, resend)),
            Change::Link { id, parent, name } => self.link(*id, *parent, name, (now, resend)),
            Change::Unlink { parent, name, id, keep } => self.unlink(*parent, name, *id, *keep, (now, resend)),
            Change::Rmdir { parent, name, id } => self.rmdir(*parent, name, *id, (now, resend)),
            Change::Rename { parent, name, id, new_parent, new_name, target } => {
                self.rename((*parent, name), *id, (*new_parent, new_name), *target, (now, resend))
            }
            Change::SetAttr { id, set } => self.set_attr(ticket, *id, set, now),
            Change::SetXattr { id, name, expect, mode } => {
                self.set_xattr(*id, name, payload, (*expect, *mode), (now, resend))
            }
            Change::RemoveXattr { id, name } => self.remove_xattr(*id, name, (now, resend)),
            Change::Write { id, size, mtime, mode, parts } => {
                let meta = data::WriteMeta { size: *size, mtime: *mtime, mode: *mode, now };
                self.write(ticket, *id, &meta, parts, payload)
            }
            Change::Truncate { id, size, brick_len, mtime, mode } => {
                self.truncate(ticket, *id, (*size, *brick_len), (*mtime, *mode, now))
            }
            Change::Punch { id, unit, count, mtime } => self.punch(ticket, *id, (*unit, *count), *mtime, now),
            Change::Allocate { id, size, offset, len, keep_size } => {
                self.allocate(ticket, *id, *size, (*offset, *len), *keep_size, now)
            }
            Change::Purge { id } => self.purge(*id),
            Change::Detach { parent, name, id } => self.detach(*parent, name, *id, (now, resend)),
            Change::Attach { id, parent, name } => self.attach(*id, *parent, name, (now, resend)),
        }
    }

    /// Whether the request may block on the disk for long, so that it should run where waiting harms nobody.
    pub fn is_slow(&self, request: &Request) -> bool {
        match request {
            Request::Format { .. }
            | Request::Own { .. }
            | Request::Disown
            | Request::SetMembership { .. }
            | Request::Fsync { .. }
            | Request::Checkpoint { .. }
            | Request::Complete { .. }
            | Request::Abort { .. }
            | Request::ReadLog { .. }
            | Request::ReadDir { .. }
            | Request::ReadNames { .. }
            | Request::ReadChanged { .. }
            | Request::ReadUnits { .. }
            | Request::ReadOrphans { .. }
            | Request::Resolve { .. }
            | Request::Allocated { .. }
            | Request::Verify { .. }
            | Request::VerifyBrick
            | Request::Restore { .. }
            | Request::ReadNote
            | Request::WriteNote { .. }
            | Request::PurgeOrphans => true,
            Request::Read { id, parts } => !self.is_cached(*id, parts),
            Request::Release { id } => self.release_is_slow(*id),
            Request::Change { change, .. } => match change {
                Change::Truncate { .. } | Change::Punch { .. } | Change::Allocate { .. } | Change::Purge { .. } => true,
                Change::Unlink { keep, .. } => !keep,
                _ => false,
            },
            _ => false,
        }
    }

    /// Clean shutdown: everything durable.
    ///
    /// # Errors
    /// What the disk said; then what was not synced before may be lost.
    pub fn close(&self) -> io::Result<()> {
        if self.areas.get().is_none() || self.failed.load(Relaxed) {
            return Ok(());
        }
        self.settle_all();
        self.disk.sync_fs()
    }

    /// Why the brick serves no more.
    fn failure(&self) -> Option<String> {
        if !self.failed.load(Relaxed) {
            return None;
        }
        Some(self.failure.get().cloned().unwrap_or_else(|| "the disk failed".into()))
    }

    /// Stops the brick for good: after a failed write or sync nobody knows what is on the disk.
    fn fail(&self, why: &io::Error) -> Fault {
        let why = self.failure.get_or_init(|| why.to_string());
        self.failed.store(true, Relaxed);
        tracing::error!(why, "brick failed");
        Fault::Failed(why.clone())
    }

    fn fault(&self, error: Error) -> Fault {
        match error {
            Error::Fault(fault) => fault,
            Error::Os(error) if is_disk_failure(&error) => self.fail(&error),
            Error::Os(error) => Fault::Errno(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}
