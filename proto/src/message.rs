//! Requests and replies. Bytes of files travel in the frame's payload, never in here.
//!
//! Every mutating request can be repeated safely: it names the object's id and the outcome, and a
//! brick that finds the outcome already there says yes when the frame carries the resend flag.

#[cfg(test)]
pub(crate) mod tests;

use serde::{Deserialize, Serialize};

use crate::ids::{BrickId, Digests, Epoch, Generation, Name, ObjectId, Timestamp, Transaction, VolumeId};
use crate::layout::Layout;
use crate::membership::{Label, Membership};
use crate::names::{NameParts, NameSums};

/// Oldest and newest protocol version that this build speaks. The enum of versions is the changelog.
pub const VERSION_MIN: u16 = Version::First as u16;
/// Newest version.
pub const VERSION_MAX: u16 = Version::First as u16;

/// Protocol versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Version {
    /// Objects, records, labels, epochs.
    First = 1,
}

/// Who holds, or asks for, a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Host name.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// Start time of the process, in clock ticks after boot: tells a pid that was used again.
    pub started_ticks: u64,
    /// Where the pid means this process: boot id of the host, and pid namespace. Elsewhere nothing is known of it.
    pub boot: String,
}

/// What a client asks of a brick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// First request of a connection.
    Hello {
        /// Oldest protocol version that the client speaks.
        version_min: u16,
        /// Newest.
        version_max: u16,
        /// Bits of optional features; none yet.
        features: u64,
    },
    /// Makes an empty brick a member or a spare.
    Format {
        /// Its label; `ownership` is set by the brick, which knows what it can do.
        label: Box<Label>,
    },
    /// Takes the volume: every frame of an older epoch is refused from now on, also after a restart.
    Own {
        /// The volume that the client means.
        volume: VolumeId,
        /// A new epoch, or the client's own one when it reconnects.
        epoch: Epoch,
        /// Generation that changes are stamped with from now on.
        generation: Generation,
        /// Who asks.
        holder: Holder,
        /// Take it even if the lease of the present holder runs, which is known to be dead; and, by its own holder, even if its
        /// machine lost what was not on its disk: nothing that it holds is read before it was brought up to date.
        take_over: bool,
    },
    /// Gives the volume up, after everything was synced.
    Disown,
    /// Writes a membership record with a higher version, durably.
    SetMembership {
        /// The record.
        membership: Membership,
    },
    /// Renews the lease.
    Ping,
    /// Tells a brick where an object is that it does not know (any more).
    Resolve {
        /// The object.
        id: ObjectId,
        /// Names from the root to it.
        path: Vec<Name>,
    },
    /// Finds a name in a directory.
    Lookup {
        /// The directory.
        parent: ObjectId,
        /// The name.
        name: Name,
    },
    /// Attributes of an object.
    GetAttr {
        /// The object.
        id: ObjectId,
    },
    /// One page of a directory.
    ReadDir {
        /// The directory.
        id: ObjectId,
        /// 0, or what the page before returned.
        cursor: u64,
        /// With attributes.
        attributes: bool,
    },
    /// Target of a symbolic link.
    ReadLink {
        /// The link.
        id: ObjectId,
    },
    /// Value of an extended attribute.
    GetXattr {
        /// The object.
        id: ObjectId,
        /// The attribute.
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
    },
    /// Names of the extended attributes.
    ListXattr {
        /// The object.
        id: ObjectId,
    },
    /// Space and inodes of the brick's file system.
    StatFs,
    /// Bytes and digests of parts of a file.
    Read {
        /// The file.
        id: ObjectId,
        /// What to read, in the order of the payload; offset and length are multiples of a block.
        parts: Vec<Part>,
    },
    /// Which parts of a brick's file hold data.
    Allocated {
        /// The file.
        id: ObjectId,
        /// First unit of interest.
        unit: u64,
        /// Number of units.
        count: u32,
    },
    /// A change; acknowledged when it would survive kill -9 of the brick.
    Change {
        /// Its number, the same on all members; later changes of an object have higher ones, also in later ownerships.
        transaction: Transaction,
        /// Generation in which it is made: not yet complete anywhere.
        generation: Generation,
        /// Slots of the members that it is sent to, one bit each.
        participants: u16,
        /// Time of the change: becomes the ctime, and the mtime where POSIX says so.
        now: Timestamp,
        /// What changes.
        change: Change,
    },
    /// Makes a file durable: its bytes, records, attributes, and its name.
    Fsync {
        /// The object.
        id: ObjectId,
        /// Times need not be durable.
        data_only: bool,
    },
    /// Makes everything that was changed in generations up to this one durable. All changes of these were answered.
    Checkpoint {
        /// The generation.
        generation: Generation,
    },
    /// Puts bytes that wait in the log in place, for generations up to this one: all current members have that checkpoint.
    Complete {
        /// The generation.
        generation: Generation,
    },
    /// Takes writes back: their blocks are what they were before. The sizes stay. Durable when answered.
    Abort {
        /// The writes, in any order; those that the log does not have need nothing.
        transactions: Vec<Transaction>,
    },
    /// One page of the writes and cuts in the log, in the order of the log.
    ReadLog {
        /// 0, or what the page before returned.
        cursor: u64,
    },
    /// The last open handle is closed: a good moment for work that can wait.
    Release {
        /// The object.
        id: ObjectId,
    },
    /// Removes what was unlinked while open, or detached, and is left from an earlier ownership.
    PurgeOrphans,
    /// One page of a directory, of which only what was changed after a generation is told.
    ReadChanged {
        /// The directory.
        id: ObjectId,
        /// 0, or what the page before returned.
        cursor: u64,
        /// Entries of objects with later stamps are told.
        since: Generation,
    },
    /// One page of the units of a file that were ever written, and when, as far as that is later than a generation.
    ReadUnits {
        /// The file.
        id: ObjectId,
        /// 0, or what the page before returned.
        cursor: u64,
        /// What was written up to this generation is told as written in it.
        since: Generation,
    },
    /// One page of the objects that are kept outside of the tree; their names are not those that they had.
    ReadOrphans {
        /// 0, or what the page before returned.
        cursor: u64,
    },
    /// What of an object attributes and bytes do not tell. What the brick can put right by itself, it does.
    Verify {
        /// The object.
        id: ObjectId,
    },
    /// Puts an object back where a name is lost, or what it names has no attribute that could be read, or is another object.
    ///
    /// What is left of it stays. Blocks of a file whose records are lost count as damaged until they are written.
    Restore {
        /// Its directory.
        parent: ObjectId,
        /// Its name there.
        name: Name,
        /// Its id.
        id: ObjectId,
        /// Everything else.
        spec: Box<NewObject>,
        /// Logical size of a file.
        size: u64,
        /// Bytes of the brick's file.
        brick_len: u64,
        /// Its ctime.
        now: Timestamp,
    },
    /// The note that was written last; nothing when there is none, or it is damaged.
    ReadNote,
    /// Keeps a note for later owners, durably, in place of the one before. The brick does not look into it.
    WriteNote {
        /// At most `NOTE_MAX` bytes.
        #[serde(with = "serde_bytes")]
        note: Vec<u8>,
    },
    /// What the brick has of its own is compared with what the server knows of it; what the server can put right, it does.
    ///
    /// What is damaged of a log goes with the next checkpoint.
    VerifyBrick,
    /// One page of a directory, of which only the names in some parts are told, without attributes.
    ReadNames {
        /// The directory.
        id: ObjectId,
        /// 0, or what the page before returned.
        cursor: u64,
        /// The parts.
        parts: NameParts,
    },
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Makes an object.
    Create {
        /// Its directory.
        parent: ObjectId,
        /// Its name there.
        name: Name,
        /// Its id.
        id: ObjectId,
        /// Everything else.
        spec: Box<NewObject>,
    },
    /// Adds a name to an object that is no directory.
    Link {
        /// The object.
        id: ObjectId,
        /// Directory of the new name.
        parent: ObjectId,
        /// The new name.
        name: Name,
    },
    /// Removes a name of an object that is no directory.
    Unlink {
        /// The directory.
        parent: ObjectId,
        /// The name.
        name: Name,
        /// What it names.
        id: ObjectId,
        /// Keep the object when this was its last name: a program has it open.
        keep: bool,
    },
    /// Removes an empty directory.
    Rmdir {
        /// Its directory.
        parent: ObjectId,
        /// Its name.
        name: Name,
        /// What it names.
        id: ObjectId,
    },
    /// Renames, replaces, or exchanges.
    Rename {
        /// Old directory.
        parent: ObjectId,
        /// Old name.
        name: Name,
        /// What it names.
        id: ObjectId,
        /// New directory.
        new_parent: ObjectId,
        /// New name.
        new_name: Name,
        /// What the new name names before.
        target: RenameTarget,
    },
    /// Sets attributes; those that are `None` stay. An atime, or nothing, does not take the ctime back: the client may have
    /// kept it in memory for a while.
    SetAttr {
        /// The object.
        id: ObjectId,
        /// Which.
        set: SetAttr,
    },
    /// Sets an extended attribute; the value is the payload.
    SetXattr {
        /// The object.
        id: ObjectId,
        /// The attribute.
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
        /// What must be there before.
        expect: XattrExpect,
        /// New permission bits: an access ACL changes them.
        mode: Option<u32>,
    },
    /// Removes an extended attribute.
    RemoveXattr {
        /// The object.
        id: ObjectId,
        /// The attribute.
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
    },
    /// Writes bytes (the payload) and their digests.
    Write {
        /// The file.
        id: ObjectId,
        /// Logical size after the write, when it grows.
        size: Option<u64>,
        /// New mtime; absent when the client sets it later, or bytes are only put back: without it and `mode` the ctime
        /// stays too.
        mtime: Option<Timestamp>,
        /// Permission bits after the write, when it takes set-id bits away.
        mode: Option<u32>,
        /// Where, in the order of the payload; offset and length are multiples of a block.
        parts: Vec<WritePart>,
    },
    /// Sets the logical size; the brick's file and its records end at `brick_len` at most.
    Truncate {
        /// The file.
        id: ObjectId,
        /// New logical size.
        size: u64,
        /// Bytes of the brick's file that stay; bytes up to there are already right.
        brick_len: u64,
        /// New mtime; without it and `mode` both times stay.
        mtime: Option<Timestamp>,
        /// Permission bits after it, when it takes set-id bits away.
        mode: Option<u32>,
    },
    /// Makes units holes; the logical size stays.
    Punch {
        /// The file.
        id: ObjectId,
        /// First unit.
        unit: u64,
        /// Number of units.
        count: u64,
        /// New mtime; without it both times stay.
        mtime: Option<Timestamp>,
    },
    /// Reserves space without changing content.
    Allocate {
        /// The file.
        id: ObjectId,
        /// Logical size after it, when it grows.
        size: Option<u64>,
        /// First byte in the brick's file.
        offset: u64,
        /// Bytes in the brick's file.
        len: u64,
        /// Do not make the brick's file longer.
        keep_size: bool,
    },
    /// Removes an object that lost its last name while open.
    Purge {
        /// The object.
        id: ObjectId,
    },
    /// Takes a name away and keeps the object outside of the tree, with all that is below a directory, until it is attached
    /// or the orphans are purged. A name of several just goes.
    Detach {
        /// The directory.
        parent: ObjectId,
        /// The name.
        name: Name,
        /// What it names.
        id: ObjectId,
    },
    /// Gives a detached object a name, which nothing has.
    Attach {
        /// The object.
        id: ObjectId,
        /// Directory of the new name.
        parent: ObjectId,
        /// The new name.
        name: Name,
    },
}

/// Type of an object, with what only that type has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device with its number.
    CharDevice(u64),
    /// A block device with its number.
    BlockDevice(u64),
}

/// A new object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewObject {
    /// Type.
    pub kind: Kind,
    /// Permission bits, set-id and sticky bits: 0 to 0o7777, umask and default ACL applied.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Target of a symbolic link; empty otherwise.
    #[serde(with = "serde_bytes")]
    pub target: Vec<u8>,
    /// How a file is laid out.
    pub layout: Layout,
    /// Extended attributes that it starts with (inherited ACLs): names and values.
    pub xattrs: Vec<(serde_bytes::ByteBuf, serde_bytes::ByteBuf)>,
}

/// What a rename finds at its new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenameTarget {
    /// Nothing.
    Absent,
    /// An object that is replaced.
    Replace {
        /// It.
        id: ObjectId,
        /// Keep it when this was its last name: a program has it open.
        keep: bool,
    },
    /// An object that goes to the old name.
    Exchange {
        /// It.
        id: ObjectId,
    },
}

/// Attributes to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Time of last access.
    pub atime: Option<Timestamp>,
    /// Time of last modification.
    pub mtime: Option<Timestamp>,
}

/// What must be there before an extended attribute is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrExpect {
    /// Anything.
    Any,
    /// Nothing (XATTR_CREATE).
    Absent,
    /// A value (XATTR_REPLACE).
    Present,
}

/// A piece of one unit of a brick's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The unit: stripe number.
    pub unit: u64,
    /// First byte within the unit.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// A piece of one unit to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WritePart {
    /// Where; `len` bytes of the payload. The brick's file may end within the last block: zeros at
    /// the end of the payload beyond `stored` are not written.
    pub part: Part,
    /// Bytes of the part that are stored; the rest, up to `len`, is zeros beyond the end of the file.
    pub stored: u32,
    /// One digest a block.
    pub digests: Digests,
}

/// What a brick answers, when it could do what was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing to say but yes.
    Done,
    /// To `Hello`.
    Welcome {
        /// Protocol version of the connection.
        version: u16,
        /// Features that both sides have.
        features: u64,
        /// What the brick is.
        brick: Box<BrickState>,
    },
    /// To `Lookup` and `GetAttr`.
    Entry(Box<Entry>),
    /// To `ReadDir`, `ReadNames` and `ReadOrphans`.
    Page {
        /// Entries.
        entries: Vec<DirEntry>,
        /// Cursor of the next page; `None` at the end.
        next: Option<u64>,
    },
    /// To `ReadLink`, `GetXattr`, `ListXattr` (names, each ended by NUL) and `ReadNote`.
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// To `StatFs`.
    Space(Space),
    /// To `Read`: one record a part; the payload holds exactly the bytes asked for, zeros where the
    /// brick's file has none.
    Read(Vec<PartRecord>),
    /// To `Allocated`: ranges of bytes of the brick's file with data, in order.
    Ranges {
        /// Start and end (exclusive).
        ranges: Vec<(u64, u64)>,
        /// There may be more: ask again from the end of the last range.
        more: bool,
    },
    /// To `Change::Write`.
    Written {
        /// Bytes that wait in the log for the next checkpoint.
        logged: u64,
    },
    /// To `ReadLog`.
    Log {
        /// What waits.
        entries: Vec<LogEntry>,
        /// Cursor of the next page; `None` at the end.
        next: Option<u64>,
    },
    /// To `Own`.
    Owned {
        /// The brick as it was taken: no earlier owner can change it any more.
        label: Box<Label>,
        /// Who had the volume, and did not give it up.
        before: Option<Holder>,
        /// Nothing that the brick was given was lost: its machine was not restarted since it was taken last, or it had been given up.
        is_whole: bool,
    },
    /// To `ReadChanged`.
    Changed {
        /// Entries of what was changed, with attributes.
        entries: Vec<DirEntry>,
        /// The other entries.
        others: NameSums,
        /// Cursor of the next page; `None` at the end.
        next: Option<u64>,
    },
    /// To `ReadUnits`.
    Units {
        /// What was written, ascending.
        runs: Vec<UnitRun>,
        /// Cursor of the next page; `None` at the end.
        next: Option<u64>,
    },
    /// To `Verify`.
    Verified {
        /// MD5 over the extended attributes, and the target of a symbolic link.
        extended: [u8; 16],
        /// How many extended attributes these are.
        count: u32,
        /// Its ctime as it is noted; that of attributes follows the mtime.
        ctime: Timestamp,
        /// Bytes of the brick's file.
        len: u64,
        /// A file ends as its records say.
        sound: bool,
        /// The digest for people was wrong, and is right now.
        mended: bool,
    },
    /// To `VerifyBrick`.
    BrickVerified {
        /// What was wrong, and is right now.
        mended: Vec<BrickFile>,
        /// What is wrong.
        damaged: Vec<BrickFile>,
    },
}

/// Something that a brick has beside the objects of the volume. By its number, where there are several of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BrickFile {
    /// A copy of the label.
    Label(u8),
    /// A log that is needed until the next checkpoint.
    Log(u8),
    /// The object attribute of the volume's root.
    Root,
}

impl std::fmt::Display for BrickFile {
    /// Where it is in the brick's directory.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BrickFile::Label(number) => write!(f, ".net_raid/label.{number}"),
            BrickFile::Log(number) => write!(f, ".net_raid/log.{number}"),
            BrickFile::Root => f.write_str("/"),
        }
    }
}

/// Consecutive units that were last written, or made holes, in the same generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRun {
    /// The first.
    pub unit: u64,
    /// How many.
    pub count: u64,
    /// When; the highest that there is for a unit whose record is damaged.
    pub generation: Generation,
    /// That made them holes.
    pub hole: bool,
}

/// A write or cut in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The number of the change.
    pub transaction: Transaction,
    /// Generation in which it was made.
    pub generation: Generation,
    /// Slots of the members that it was sent to, one bit each.
    pub participants: u16,
    /// The file.
    pub id: ObjectId,
    /// What it does.
    pub what: Logged,
    /// All of its bytes are here; a cut always is.
    pub whole: bool,
}

/// What a log entry does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Logged {
    /// It writes these parts.
    Write {
        /// In the order of the request.
        parts: Vec<Part>,
    },
    /// It cuts the file: as `Change::Truncate`.
    Truncate {
        /// New logical size.
        size: u64,
        /// Bytes of the brick's file that stay.
        brick_len: u64,
    },
    /// It makes units holes: as `Change::Punch`.
    Punch {
        /// First unit.
        unit: u64,
        /// Number of units.
        count: u64,
    },
}

/// What stands for a part that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Generation of the unit's last write; 0 when it was never written.
    pub generation: Generation,
    /// One digest a block of the part.
    pub digests: Digests,
}

/// What a brick is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "there is one for each connection")]
pub enum BrickState {
    /// An empty directory, ready to be formatted.
    Empty {
        /// The id that it will have.
        brick: BrickId,
    },
    /// A member or a spare of a volume.
    Labelled {
        /// Its label.
        label: Label,
        /// Who holds it, and for how many milliseconds nothing was heard from them.
        holder: Option<(Holder, u64)>,
    },
    /// It cannot serve: why, in one clause.
    Unusable {
        /// Why.
        why: String,
    },
}

/// An object and its attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id.
    pub id: ObjectId,
    /// Generation in which it, or anything below it, last changed.
    pub stamp: Generation,
    /// Layout of a file.
    pub layout: Layout,
    /// Attributes.
    pub attr: Attr,
}

/// Attributes of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    /// Type.
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Logical size.
    pub size: u64,
    /// 512-byte blocks that the brick's file takes.
    pub brick_blocks: u64,
    /// Time of last access.
    pub atime: Timestamp,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Time of last change.
    pub ctime: Timestamp,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: ObjectId,
    /// Its type.
    pub kind: Kind,
    /// All of it, when attributes were asked for.
    pub entry: Option<Box<Entry>>,
}

/// Space of a brick's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes free.
    pub free: u64,
    /// Bytes free for ordinary users.
    pub available: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes free.
    pub inodes_free: u64,
}

/// Why a brick did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// What a program would get: a Linux errno.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Errno(i32),
    /// The brick does not know where this object is: `Resolve` it and ask again.
    #[error("object {0} is not known here")]
    Unresolved(ObjectId),
    /// The frame's epoch is older than the brick's.
    #[error("the volume was taken over (epoch {0})")]
    StaleEpoch(Epoch),
    /// Somebody else has the volume.
    #[error("in use by process {} on {} (last heard of {age_ms} ms ago)", holder.pid, holder.host)]
    Held {
        /// Who.
        holder: Holder,
        /// For how many milliseconds nothing was heard from them.
        age_ms: u64,
    },
    /// The request does not fit the brick: another volume, no label, a label already there.
    #[error("{0}")]
    Refused(String),
    /// The brick lost data that it could not write and serves no more until it is restarted.
    #[error("the brick failed: {0}")]
    Failed(String),
    /// No common protocol version.
    #[error("speaks protocol versions {min} to {max} only")]
    Version {
        /// Oldest.
        min: u16,
        /// Newest.
        max: u16,
    },
}

/// What answers a request.
pub type Answer = Result<Reply, Fault>;
