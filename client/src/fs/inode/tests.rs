use net_raid_proto::ids::Generation;
use net_raid_proto::layout::Level;

use super::*;

fn entry(kind: Kind, size: u64, brick_blocks: u64, level: Level) -> Entry {
    let time = Timestamp::default();
    let nlink = if kind == Kind::Directory { 2 } else { 1 };
    let attr =
        Attr { kind, mode: 0o644, nlink, uid: 0, gid: 0, size, brick_blocks, atime: time, mtime: time, ctime: time };
    Entry { id: ObjectId(9), stamp: Generation(1), layout: Layout::new(level, 4), attr }
}

fn file(size: u64, brick_blocks: u64) -> Inode {
    Inode::new(entry(Kind::File, size, brick_blocks, Level::Raid1))
}

fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

// Each takes the lock for itself: two guards in one statement would wait for each other.
fn life(inode: &Inode) -> Life {
    inode.state().life
}

fn blocks(inode: &Inode) -> (u64, bool) {
    let state = inode.state();
    (state.attr.brick_blocks, state.blocks_known)
}

#[test]
fn unlinking_what_is_closed_ends_it() {
    let inode = file(0, 0);
    assert!(!inode.begin_unlink());
    assert_eq!(life(&inode), Life::Leaving);
    assert_eq!(inode.opened(false), Err(Errno::ENOENT));
    assert!(!inode.finish_unlink(at(5), false));
    assert_eq!(life(&inode), Life::Gone);
    assert_eq!((inode.stat().nlink, inode.stat().ctime), (0, at(5)));
    assert_eq!(inode.opened(false), Err(Errno::ENOENT));
}

#[test]
fn unlinking_what_is_open_keeps_it_until_it_is_closed() {
    let inode = file(0, 0);
    inode.opened(true).unwrap();
    assert!(inode.begin_unlink());
    assert!(!inode.finish_unlink(at(5), true));
    assert_eq!(life(&inode), Life::Orphan);
    // Through /proc/self/fd.
    inode.opened(false).unwrap();
    assert!(!inode.closed(true));
    assert!(inode.closed(false), "to be purged");
    assert_eq!(life(&inode), Life::Gone);
}

#[test]
fn closing_while_the_bricks_unlink_purges_once() {
    let inode = file(0, 0);
    inode.opened(true).unwrap();
    let kept = inode.begin_unlink();
    assert!(!inode.closed(true), "it still has its name");
    assert!(inode.finish_unlink(at(5), kept), "to be purged");
}

#[test]
fn a_failed_unlink_changes_nothing() {
    let inode = file(0, 0);
    inode.begin_unlink();
    inode.cancel_unlink();
    assert_eq!(life(&inode), Life::Named);
    inode.opened(false).unwrap();
}

#[test]
fn one_of_two_names_ends_nothing() {
    let inode = file(0, 0);
    inode.linked(at(1));
    assert!(!inode.begin_unlink());
    inode.opened(false).unwrap();
    assert!(!inode.finish_unlink(at(2), false));
    assert_eq!(life(&inode), Life::Named);
    assert_eq!(inode.stat().nlink, 1);
}

#[test]
fn directories_count_their_subdirectories() {
    let inode = Inode::new(entry(Kind::Directory, 4096, 8, Level::Raid1));
    inode.names_changed(at(1), 1);
    inode.names_changed(at(2), 0);
    assert_eq!((inode.stat().nlink, inode.stat().mtime), (3, at(2)));
    assert_eq!(inode.state().version, 2);
    inode.names_changed(at(3), -1);
    assert_eq!(inode.stat().nlink, 2);
}

#[test]
fn a_file_that_grows_at_its_end_needs_no_question_about_blocks() {
    for level in [Level::Raid1, Level::Raid5, Level::Raid6] {
        let inode = Inode::new(entry(Kind::File, 0, 0, level));
        inode.wrote(0, 5000, 0, None);
        assert!(inode.state().blocks_known);
        inode.wrote(5000, 1 << 20, 5000, None);
        inode.wrote(0, 1 << 20, 5000 + (1 << 20), None);
        let state = inode.state();
        assert!(state.blocks_known, "{level}");
        let attr = Attr { size: 5000 + (1 << 20), ..state.attr.clone() };
        assert_eq!(Stat::new(inode.id, &inode.layout, &attr).blocks, dense_blocks(5000 + (1 << 20)), "{level}");
    }
}

#[test]
fn holes_make_blocks_unknown_and_never_too_few() {
    let inode = file(0, 0);
    inode.wrote(1 << 20, 4096, 0, None);
    assert!(!inode.state().blocks_known);
    let sparse = file(1 << 20, 8);
    sparse.wrote(0, 4096, 1 << 20, None);
    assert!(!sparse.state().blocks_known);
    assert_eq!(sparse.stat().blocks, 2048, "as one without holes until a brick is asked");
}

#[test]
fn truncating_keeps_what_is_known() {
    let inode = file(1 << 20, 2048);
    inode.truncated(1 << 20, 4097);
    assert_eq!(blocks(&inode), (16, true));
    inode.truncated(4097, 1 << 30);
    assert_eq!(blocks(&inode), (16, true), "a hole takes nothing");
    inode.truncated(1 << 30, 1 << 20);
    assert!(!inode.state().blocks_known, "what is left of a file with holes");
}

#[test]
fn a_file_that_may_have_dirty_pages_is_never_all_hole() {
    let inode = file(0, 0);
    inode.opened(true).unwrap();
    assert_eq!(inode.stat().blocks, 8);
    inode.state().unflushed = false;
    assert_eq!(inode.stat().blocks, 0);
}
