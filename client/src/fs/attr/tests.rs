use net_raid_proto::ids::Generation;
use net_raid_proto::layout::{Layout, Level};
use net_raid_proto::message::Entry;

use super::*;

const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 0 };
const OWNER: Caller = Caller { uid: 1000, gid: 50, pid: 0 };
const STRANGER: Caller = Caller { uid: 1000, gid: 60, pid: 0 };

fn attr(kind: Kind, mode: u32) -> Attr {
    let time = at(1);
    Attr { kind, mode, nlink: 1, uid: 1000, gid: 50, size: 0, brick_blocks: 0, atime: time, mtime: time, ctime: time }
}

fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

fn inode(mode: u32) -> Inode {
    let layout = Layout::new(Level::Raid1, 2);
    Inode::new(Entry { id: ObjectId(9), stamp: Generation(1), layout, attr: attr(Kind::File, mode) })
}

fn mode_after(set: SetAttrs, kind: Kind, mode: u32, caller: &Caller) -> Option<u32> {
    set.plan(&attr(kind, mode), caller, at(9)).mode
}

#[test]
fn chmod_sets_what_was_asked_for() {
    let set = SetAttrs { mode: Some(0o106755), ctime: Some(at(9)), ..SetAttrs::default() };
    assert_eq!(mode_after(set, Kind::File, 0o644, &OWNER), Some(0o6755));
}

#[test]
fn a_new_owner_clears_set_id_bits() {
    let set = SetAttrs { uid: Some(7), kill_suidgid: true, ctime: Some(at(9)), ..SetAttrs::default() };
    assert_eq!(mode_after(set, Kind::File, 0o6755, &ROOT), Some(0o755));
    assert_eq!(mode_after(set, Kind::File, 0o2644, &ROOT), None, "root keeps it where it is no execution");
    assert_eq!(mode_after(set, Kind::File, 0o2644, &OWNER), None, "so does a member of the group");
    assert_eq!(mode_after(set, Kind::File, 0o2644, &STRANGER), Some(0o644));
    assert_eq!(mode_after(set, Kind::File, 0o755, &ROOT), None, "nothing to clear");
    assert_eq!(mode_after(set, Kind::Directory, 0o6755, &ROOT), None, "not of directories");
}

#[test]
fn a_bare_ctime_clears_set_id_bits() {
    let set = SetAttrs { ctime: Some(at(9)), handle: Some(1), ..SetAttrs::default() };
    assert_eq!(mode_after(set, Kind::File, 0o4755, &ROOT), Some(0o755));
    let flush = SetAttrs { mtime: Some(SetTime::At(at(3))), ..set };
    assert_eq!(mode_after(flush, Kind::File, 0o4755, &ROOT), None, "times that the kernel flushes do not");
}

#[test]
fn now_is_the_time_of_the_change() {
    let set = SetAttrs { atime: Some(SetTime::Now), mtime: Some(SetTime::At(at(3))), ..SetAttrs::default() };
    let plan = set.plan(&attr(Kind::File, 0o644), &ROOT, at(9));
    assert_eq!((plan.atime, plan.mtime, plan.mode), (Some(at(9)), Some(at(3)), None));
}

fn flush(mtime: i64, ctime: i64) -> SetAttrs {
    SetAttrs { mtime: Some(SetTime::At(at(mtime))), ctime: Some(at(ctime)), ..SetAttrs::default() }
}

#[test]
fn a_ctime_alone_waits_in_memory() {
    let inode = inode(0o644);
    assert!(keep_times(&inode, &flush(1, 5)));
    assert_eq!(inode.stat().ctime, at(5));
    assert!(inode.state().ctime_unsent);
    inode.changed(at(6));
    assert!(!inode.state().ctime_unsent, "a later change carries a later one");
}

#[test]
fn a_new_mtime_goes_to_the_bricks() {
    let inode = inode(0o644);
    assert!(!keep_times(&inode, &flush(2, 5)));
    assert!(!keep_times(&inode, &SetAttrs { size: Some(0), ..flush(1, 5) }));
    assert!(!keep_times(&inode, &SetAttrs { mode: Some(0), ..flush(1, 5) }));
    assert!(!keep_times(&inode, &SetAttrs { mtime: Some(SetTime::Now), ..flush(1, 5) }));
}

#[test]
fn times_of_what_has_no_name_stay_in_memory() {
    let inode = inode(0o644);
    inode.begin_unlink();
    inode.finish_unlink(at(4), false);
    assert!(keep_times(&inode, &flush(7, 8)));
    assert_eq!((inode.stat().mtime, inode.stat().ctime), (at(7), at(8)));
}
