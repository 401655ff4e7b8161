//! Arbitrary messages. `variants.rs` fails when one of them can never come out of here.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::super::*;
use crate::ids::{Digest, Slot};
use crate::layout::Level;
use crate::membership::{Former, Ownership, SlotRecord, SlotState};

macro_rules! number {
    ($name:ident, $ty:ident) => {
        fn $name() -> impl Strategy<Value = $ty> {
            any::<u64>().prop_map($ty)
        }
    };
}
number!(id, ObjectId);
number!(epoch, Epoch);
number!(generation, Generation);
number!(transaction, Transaction);

pub fn a_layout() -> Layout {
    Layout::new(Level::Raid6, 6)
}

pub fn level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::Raid1), Just(Level::Raid5), Just(Level::Raid6)]
}

pub fn name() -> impl Strategy<Value = Name> {
    vec(any::<u8>(), 1..=255).prop_filter_map("not a name", |bytes| Name::new(&bytes).ok())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0u32..1_000_000_000).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

fn digests() -> impl Strategy<Value = Digests> {
    vec(any::<[u8; 16]>().prop_map(Digest), 0..=16).prop_map(Digests)
}

fn holder() -> impl Strategy<Value = Holder> {
    (".{0,20}", any::<u32>(), any::<u64>(), ".{0,36}").prop_map(|(host, pid, started_ticks, boot)| Holder {
        host,
        pid,
        started_ticks,
        boot,
    })
}

pub fn slot_state() -> impl Strategy<Value = SlotState> {
    prop_oneof![Just(SlotState::Current), generation().prop_map(|since| SlotState::Stale { since })]
}

pub fn former() -> impl Strategy<Value = Former> {
    let brick = || any::<[u8; 16]>().prop_map(BrickId);
    prop_oneof![
        (brick(), 0..16u8, generation()).prop_map(|(brick, slot, since)| Former::Replaced {
            brick,
            slot: Slot(slot),
            since
        }),
        brick().prop_map(|brick| Former::Released { brick }),
    ]
}

fn membership() -> impl Strategy<Value = Membership> {
    let slot = (any::<[u8; 16]>(), slot_state()).prop_map(|(brick, state)| SlotRecord { brick: BrickId(brick), state });
    let voters = vec(any::<[u8; 16]>().prop_map(BrickId), 0..20);
    (any::<u64>(), level(), vec(slot, 0..=16), voters, vec(former(), 0..4))
        .prop_map(|(version, level, slots, voters, formers)| Membership { version, level, slots, voters, formers })
}

pub fn ownership() -> impl Strategy<Value = Ownership> {
    prop_oneof![Just(Ownership::Native), Just(Ownership::Recorded)]
}

fn label() -> impl Strategy<Value = Label> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(volume, brick)| (VolumeId(volume), BrickId(brick)));
    (ids, ".{0,40}", ownership(), epoch(), generation(), membership()).prop_map(
        |((volume, brick), name, ownership, epoch, complete, membership)| Label {
            volume,
            name,
            brick,
            ownership,
            epoch,
            complete,
            membership,
        },
    )
}

pub fn layout() -> impl Strategy<Value = Layout> {
    (level(), any::<u8>(), any::<u8>(), any::<u64>()).prop_map(|(level, unit_log2, width, slots)| Layout {
        level,
        unit_log2,
        width,
        slots,
    })
}

pub fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::File),
        Just(Kind::Directory),
        Just(Kind::Symlink),
        Just(Kind::Fifo),
        Just(Kind::Socket),
        any::<u64>().prop_map(Kind::CharDevice),
        any::<u64>().prop_map(Kind::BlockDevice),
    ]
}

fn new_object() -> impl Strategy<Value = NewObject> {
    let xattr = (bytes(), bytes()).prop_map(|(name, value)| (name.into(), value.into()));
    (kind(), any::<u32>(), any::<u32>(), any::<u32>(), bytes(), layout(), vec(xattr, 0..4)).prop_map(
        |(kind, mode, uid, gid, target, layout, xattrs)| NewObject { kind, mode, uid, gid, target, layout, xattrs },
    )
}

pub fn rename_target() -> impl Strategy<Value = RenameTarget> {
    prop_oneof![
        Just(RenameTarget::Absent),
        (id(), any::<bool>()).prop_map(|(id, keep)| RenameTarget::Replace { id, keep }),
        id().prop_map(|id| RenameTarget::Exchange { id }),
    ]
}

pub fn xattr_expect() -> impl Strategy<Value = XattrExpect> {
    prop_oneof![Just(XattrExpect::Any), Just(XattrExpect::Absent), Just(XattrExpect::Present)]
}

fn set_attr() -> impl Strategy<Value = SetAttr> {
    (of(any::<u32>()), of(any::<u32>()), of(any::<u32>()), of(timestamp()), of(timestamp()))
        .prop_map(|(mode, uid, gid, atime, mtime)| SetAttr { mode, uid, gid, atime, mtime })
}

fn part() -> impl Strategy<Value = Part> {
    (any::<u64>(), any::<u32>(), any::<u32>()).prop_map(|(unit, offset, len)| Part { unit, offset, len })
}

fn write_part() -> impl Strategy<Value = WritePart> {
    (part(), any::<u32>(), digests()).prop_map(|(part, stored, digests)| WritePart { part, stored, digests })
}

fn named_change() -> impl Strategy<Value = Change> {
    let rename = (id(), name(), id(), id(), name(), rename_target());
    prop_oneof![
        (id(), name(), id(), new_object().prop_map(Box::new)).prop_map(|(parent, name, id, spec)| Change::Create {
            parent,
            name,
            id,
            spec
        }),
        (id(), id(), name()).prop_map(|(id, parent, name)| Change::Link { id, parent, name }),
        (id(), name(), id(), any::<bool>()).prop_map(|(parent, name, id, keep)| Change::Unlink {
            parent,
            name,
            id,
            keep
        }),
        (id(), name(), id()).prop_map(|(parent, name, id)| Change::Rmdir { parent, name, id }),
        rename.prop_map(|(parent, name, id, new_parent, new_name, target)| Change::Rename {
            parent,
            name,
            id,
            new_parent,
            new_name,
            target
        }),
    ]
}

fn attribute_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (id(), set_attr()).prop_map(|(id, set)| Change::SetAttr { id, set }),
        (id(), bytes(), xattr_expect(), of(any::<u32>())).prop_map(|(id, name, expect, mode)| Change::SetXattr {
            id,
            name,
            expect,
            mode
        }),
        (id(), bytes()).prop_map(|(id, name)| Change::RemoveXattr { id, name }),
        id().prop_map(|id| Change::Purge { id }),
        (id(), name(), id()).prop_map(|(parent, name, id)| Change::Detach { parent, name, id }),
        (id(), id(), name()).prop_map(|(id, parent, name)| Change::Attach { id, parent, name }),
    ]
}

fn data_change() -> impl Strategy<Value = Change> {
    let write = (id(), of(any::<u64>()), of(timestamp()), of(any::<u32>()), vec(write_part(), 0..8));
    prop_oneof![
        write.prop_map(|(id, size, mtime, mode, parts)| Change::Write { id, size, mtime, mode, parts }),
        (id(), any::<u64>(), any::<u64>(), of(timestamp()), of(any::<u32>()))
            .prop_map(|(id, size, brick_len, mtime, mode)| Change::Truncate { id, size, brick_len, mtime, mode }),
        (id(), any::<u64>(), any::<u64>(), of(timestamp())).prop_map(|(id, unit, count, mtime)| Change::Punch {
            id,
            unit,
            count,
            mtime
        }),
        (id(), of(any::<u64>()), any::<u64>(), any::<u64>(), any::<bool>())
            .prop_map(|(id, size, offset, len, keep_size)| Change::Allocate { id, size, offset, len, keep_size }),
    ]
}

pub fn change() -> impl Strategy<Value = Change> {
    prop_oneof![5 => named_change(), 4 => attribute_change(), 4 => data_change()]
}

fn control_request() -> impl Strategy<Value = Request> {
    let own = (any::<[u8; 16]>(), epoch(), generation(), holder(), any::<bool>());
    prop_oneof![
        (any::<u16>(), any::<u16>(), any::<u64>()).prop_map(|(version_min, version_max, features)| Request::Hello {
            version_min,
            version_max,
            features
        }),
        label().prop_map(|label| Request::Format { label: Box::new(label) }),
        own.prop_map(|(volume, epoch, generation, holder, take_over)| Request::Own {
            volume: VolumeId(volume),
            epoch,
            generation,
            holder,
            take_over
        }),
        Just(Request::Disown),
        membership().prop_map(|membership| Request::SetMembership { membership }),
        Just(Request::Ping),
        (id(), vec(name(), 0..10)).prop_map(|(id, path)| Request::Resolve { id, path }),
        generation().prop_map(|generation| Request::Checkpoint { generation }),
        generation().prop_map(|generation| Request::Complete { generation }),
        vec(transaction(), 0..20).prop_map(|transactions| Request::Abort { transactions }),
        any::<u64>().prop_map(|cursor| Request::ReadLog { cursor }),
        Just(Request::PurgeOrphans),
        (id(), any::<u64>(), generation()).prop_map(|(id, cursor, since)| Request::ReadChanged { id, cursor, since }),
        (id(), any::<u64>(), generation()).prop_map(|(id, cursor, since)| Request::ReadUnits { id, cursor, since }),
        any::<u64>().prop_map(|cursor| Request::ReadOrphans { cursor }),
        id().prop_map(|id| Request::Verify { id }),
        restore(),
        Just(Request::ReadNote),
        vec(any::<u8>(), 0..100).prop_map(|note| Request::WriteNote { note }),
        Just(Request::VerifyBrick),
        (id(), any::<u64>(), any::<u64>()).prop_map(|(id, cursor, parts)| Request::ReadNames {
            id,
            cursor,
            parts: NameParts(parts)
        }),
    ]
}

fn restore() -> impl Strategy<Value = Request> {
    (id(), name(), id(), new_object(), any::<(u64, u64)>(), timestamp()).prop_map(
        |(parent, name, id, spec, (size, brick_len), now)| Request::Restore {
            parent,
            name,
            id,
            spec: Box::new(spec),
            size,
            brick_len,
            now,
        },
    )
}

fn object_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (id(), name()).prop_map(|(parent, name)| Request::Lookup { parent, name }),
        id().prop_map(|id| Request::GetAttr { id }),
        (id(), any::<u64>(), any::<bool>()).prop_map(|(id, cursor, attributes)| Request::ReadDir {
            id,
            cursor,
            attributes
        }),
        id().prop_map(|id| Request::ReadLink { id }),
        (id(), bytes()).prop_map(|(id, name)| Request::GetXattr { id, name }),
        id().prop_map(|id| Request::ListXattr { id }),
        Just(Request::StatFs),
        (id(), vec(part(), 0..128)).prop_map(|(id, parts)| Request::Read { id, parts }),
        (id(), any::<u64>(), any::<u32>()).prop_map(|(id, unit, count)| Request::Allocated { id, unit, count }),
        (id(), any::<bool>()).prop_map(|(id, data_only)| Request::Fsync { id, data_only }),
        id().prop_map(|id| Request::Release { id }),
    ]
}

pub fn request() -> impl Strategy<Value = Request> {
    let change = (transaction(), generation(), any::<u16>(), timestamp(), change());
    prop_oneof![
        12 => control_request(),
        11 => object_request(),
        6 => change.prop_map(|(transaction, generation, participants, now, change)| Request::Change {
            transaction,
            generation,
            participants,
            now,
            change
        }),
    ]
}

fn attr() -> impl Strategy<Value = Attr> {
    let times = (timestamp(), timestamp(), timestamp());
    (kind(), any::<u32>(), any::<u32>(), (any::<u32>(), any::<u32>()), any::<u64>(), any::<u64>(), times).prop_map(
        |(kind, mode, nlink, (uid, gid), size, brick_blocks, (atime, mtime, ctime))| Attr {
            kind,
            mode,
            nlink,
            uid,
            gid,
            size,
            brick_blocks,
            atime,
            mtime,
            ctime,
        },
    )
}

fn unit_run() -> impl Strategy<Value = UnitRun> {
    (any::<u64>(), any::<u64>(), generation(), any::<bool>()).prop_map(|(unit, count, generation, hole)| UnitRun {
        unit,
        count,
        generation,
        hole,
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    (id(), generation(), layout(), attr()).prop_map(|(id, stamp, layout, attr)| Entry { id, stamp, layout, attr })
}

fn dir_entry() -> impl Strategy<Value = DirEntry> {
    (name(), id(), kind(), of(entry().prop_map(Box::new))).prop_map(|(name, id, kind, entry)| DirEntry {
        name,
        id,
        kind,
        entry,
    })
}

pub fn brick_state() -> impl Strategy<Value = BrickState> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(|brick| BrickState::Empty { brick: BrickId(brick) }),
        (label(), of((holder(), any::<u64>()))).prop_map(|(label, holder)| BrickState::Labelled { label, holder }),
        ".{0,60}".prop_map(|why| BrickState::Unusable { why }),
    ]
}

pub fn logged() -> impl Strategy<Value = Logged> {
    prop_oneof![
        vec(part(), 0..8).prop_map(|parts| Logged::Write { parts }),
        any::<(u64, u64)>().prop_map(|(size, brick_len)| Logged::Truncate { size, brick_len }),
        any::<(u64, u64)>().prop_map(|(unit, count)| Logged::Punch { unit, count }),
    ]
}

fn log_entry() -> impl Strategy<Value = LogEntry> {
    (transaction(), generation(), any::<u16>(), id(), logged(), any::<bool>()).prop_map(
        |(transaction, generation, participants, id, what, whole)| LogEntry {
            transaction,
            generation,
            participants,
            id,
            what,
            whole,
        },
    )
}

pub fn reply() -> impl Strategy<Value = Reply> {
    let space = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let record = (generation(), digests()).prop_map(|(generation, digests)| PartRecord { generation, digests });
    prop_oneof![
        Just(Reply::Done),
        (any::<u16>(), any::<u64>(), brick_state()).prop_map(|(version, features, brick)| Reply::Welcome {
            version,
            features,
            brick: Box::new(brick)
        }),
        entry().prop_map(|entry| Reply::Entry(Box::new(entry))),
        (vec(dir_entry(), 0..8), of(any::<u64>())).prop_map(|(entries, next)| Reply::Page { entries, next }),
        bytes().prop_map(Reply::Bytes),
        space.prop_map(|(total, free, available, inodes, inodes_free)| {
            Reply::Space(Space { total, free, available, inodes, inodes_free })
        }),
        vec(record, 0..8).prop_map(Reply::Read),
        (vec(any::<(u64, u64)>(), 0..20), any::<bool>()).prop_map(|(ranges, more)| Reply::Ranges { ranges, more }),
        any::<u64>().prop_map(|logged| Reply::Written { logged }),
        (vec(log_entry(), 0..8), of(any::<u64>())).prop_map(|(entries, next)| Reply::Log { entries, next }),
        (label(), of(holder()), any::<bool>()).prop_map(|(label, before, is_whole)| Reply::Owned {
            label: Box::new(label),
            before,
            is_whole
        }),
        (vec(dir_entry(), 0..8), vec((name(), id()), 0..20), of(any::<u64>())).prop_map(|(entries, names, next)| {
            let mut others = NameSums::default();
            names.iter().for_each(|(name, id)| others.add(name, *id));
            Reply::Changed { entries, others, next }
        }),
        (vec(unit_run(), 0..8), of(any::<u64>())).prop_map(|(runs, next)| Reply::Units { runs, next }),
        (any::<([u8; 16], u32, u64, bool, bool)>(), timestamp()).prop_map(
            |((extended, count, len, sound, mended), ctime)| Reply::Verified {
                extended,
                count,
                ctime,
                len,
                sound,
                mended
            }
        ),
        (vec(brick_file(), 0..4), vec(brick_file(), 0..4))
            .prop_map(|(mended, damaged)| Reply::BrickVerified { mended, damaged }),
    ]
}

pub fn brick_file() -> impl Strategy<Value = BrickFile> {
    prop_oneof![any::<u8>().prop_map(BrickFile::Label), any::<u8>().prop_map(BrickFile::Log), Just(BrickFile::Root)]
}

pub fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        any::<i32>().prop_map(Fault::Errno),
        id().prop_map(Fault::Unresolved),
        epoch().prop_map(Fault::StaleEpoch),
        (holder(), any::<u64>()).prop_map(|(holder, age_ms)| Fault::Held { holder, age_ms }),
        ".{0,60}".prop_map(Fault::Refused),
        ".{0,60}".prop_map(Fault::Failed),
        (any::<u16>(), any::<u16>()).prop_map(|(min, max)| Fault::Version { min, max }),
    ]
}

pub fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![reply().prop_map(Ok), fault().prop_map(Err)]
}
