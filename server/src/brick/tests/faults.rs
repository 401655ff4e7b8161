//! Disks that fail and fill up, and many threads at once.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use net_raid_proto::message::Space;

use super::*;
use crate::disk::{DirItem, Disk, RealHandle, RenameMode, ShortWrite, Stat, XattrMode};

/// A real disk that fails where it is told to.
struct Faulty {
    disk: RealDisk,
    sync_fails: AtomicBool,
    read_fails: AtomicBool,
    /// Bytes that still fit.
    room: AtomicUsize,
    /// There is no room for longer attributes and for reservations.
    full: AtomicBool,
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

macro_rules! delegate {
    ($($call:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $call(&self, $($argument: $type),*) -> $result { self.disk.$call($($argument),*) })*
    };
}

type H = RealHandle;

impl Disk for Faulty {
    type Handle = H;

    delegate! {
        root() -> io::Result<H>;
        handles_max() -> usize;
        open(dir: &H, path: &[&Name]) -> io::Result<(H, Stat)>;
        create(dir: &H, name: &Name, mode: u32) -> io::Result<H>;
        mkdir(dir: &H, name: &Name, mode: u32) -> io::Result<()>;
        symlink(dir: &H, name: &Name, target: &[u8]) -> io::Result<()>;
        mknod(dir: &H, name: &Name, kind: &Kind, mode: u32) -> io::Result<()>;
        link(dir: &H, name: &Name, to: &H, to_name: &Name) -> io::Result<()>;
        unlink(dir: &H, name: &Name) -> io::Result<()>;
        rmdir(dir: &H, name: &Name) -> io::Result<()>;
        rename(dir: &H, name: &Name, to: &H, to_name: &Name, mode: RenameMode) -> io::Result<()>;
        read_dir(dir: &H, cursor: u64) -> io::Result<Vec<DirItem>>;
        read_link(link: &H) -> io::Result<Vec<u8>>;
        stat(object: &H) -> io::Result<Stat>;
        stat_at(dir: &H, name: &Name) -> io::Result<Stat>;
        set_mode(object: &H, mode: u32) -> io::Result<()>;
        set_owner(object: &H, uid: Option<u32>, gid: Option<u32>) -> io::Result<()>;
        set_times(object: &H, atime: Option<Timestamp>, mtime: Option<Timestamp>) -> io::Result<()>;
        get_xattr(object: &H, attr: &[u8]) -> io::Result<Option<Vec<u8>>>;
        get_xattr_at(dir: &H, name: &Name, attr: &[u8]) -> io::Result<Option<Vec<u8>>>;
        remove_xattr(object: &H, attr: &[u8]) -> io::Result<()>;
        list_xattr(object: &H) -> io::Result<Vec<u8>>;
        is_cached(file: &H, len: usize, offset: u64) -> bool;
        begin_write_back(file: &H) -> ();
        truncate(file: &H, len: u64) -> io::Result<()>;
        punch(file: &H, offset: u64, len: u64) -> io::Result<()>;
        next_data(file: &H, offset: u64) -> io::Result<Option<(u64, u64)>>;
        sync_data(file: &H) -> io::Result<()>;
        sync_fs() -> io::Result<()>;
        space() -> io::Result<Space>;
    }

    fn read_at(&self, file: &H, out: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<usize> {
        // One bad sector, in the second block of every file.
        let bad = (offset..offset + len as u64).contains(&(BLOCK_SIZE as u64));
        if bad && self.read_fails.load(Relaxed) {
            Err(error(libc::EIO))
        } else {
            self.disk.read_at(file, out, len, offset)
        }
    }

    fn write_at(&self, file: &H, data: &[u8], offset: u64) -> Result<(), ShortWrite> {
        let room = self.room.load(Relaxed).min(data.len());
        self.room.fetch_sub(room, Relaxed);
        self.disk.write_at(file, &data[..room], offset)?;
        if room == data.len() { Ok(()) } else { Err(ShortWrite { written: room, source: error(libc::ENOSPC) }) }
    }

    fn set_xattr(&self, object: &H, attr: &[u8], value: &[u8], mode: XattrMode) -> io::Result<()> {
        let before = self.disk.get_xattr(object, attr)?.unwrap_or_default();
        if self.full.load(Relaxed) && value.len() > before.len() {
            return Err(error(libc::ENOSPC));
        }
        self.disk.set_xattr(object, attr, value, mode)
    }

    fn allocate(&self, file: &H, offset: u64, len: u64, keep_size: bool) -> io::Result<()> {
        if self.full.load(Relaxed) {
            return Err(error(libc::ENOSPC));
        }
        self.disk.allocate(file, offset, len, keep_size)
    }

    fn sync_all(&self, object: &H) -> io::Result<()> {
        if self.sync_fails.load(Relaxed) { Err(error(libc::EIO)) } else { self.disk.sync_all(object) }
    }
}

struct FaultyRig {
    rig: Rig,
    brick: Brick<Faulty>,
}

impl FaultyRig {
    fn new() -> FaultyRig {
        let rig = Rig::new(Ownership::Recorded);
        rig.file("a", 10);
        let disk = Faulty {
            disk: RealDisk::open(rig.dir.path()).expect("opens"),
            sync_fails: AtomicBool::new(false),
            read_fails: AtomicBool::new(false),
            room: AtomicUsize::new(usize::MAX),
            full: AtomicBool::new(false),
        };
        let brick = Brick::open(disk, options(Ownership::Recorded, "boot")).expect("a brick");
        let faulty = FaultyRig { rig, brick };
        let (volume, epoch, generation) = (VOLUME, Epoch(1), Generation(1));
        faulty
            .ask(Request::Own { volume, epoch, generation, holder: holder(1), take_over: false }, b"")
            .expect("owned");
        faulty.ask(Request::Lookup { parent: ROOT, name: name("a") }, b"").expect("found");
        faulty
    }

    fn ask(&self, request: Request, payload: &[u8]) -> Answer {
        self.brick.handle(&self.rig.header(), &request, payload, 0, &mut Vec::new())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Answer {
        let (request, payload) = self.rig.write_request(id(10), offset, data, None);
        self.ask(request, &payload)
    }
}

#[test]
fn a_failed_sync_ends_the_brick() {
    let rig = FaultyRig::new();
    assert!(rig.write(0, b"x").is_ok());
    rig.brick.disk.sync_fails.store(true, Relaxed);
    let fsync = Request::Fsync { id: id(10), data_only: false };
    assert!(matches!(rig.ask(fsync.clone(), b""), Err(Fault::Failed(_))));
    rig.brick.disk.sync_fails.store(false, Relaxed);
    for request in [fsync, Request::GetAttr { id: ROOT }, Request::Ping] {
        assert!(matches!(rig.ask(request, b""), Err(Fault::Failed(_))));
    }
}

#[test]
fn a_write_that_finds_no_room_changes_nothing() {
    for (before, at, len) in [
        // Fresh bytes, overwrites, both.
        (0, 0, 4 * BLOCK_SIZE),
        (UNIT_SIZE, 0, UNIT_SIZE),
        (3 * UNIT_SIZE, UNIT_SIZE, 3 * UNIT_SIZE),
    ] {
        // In the bytes, in the middle of a block (as on a local file system of 1 KiB blocks), in the log.
        for room in [0, 1024, 2 * BLOCK_SIZE + 1024, len, len + 64] {
            let mut rig = FaultyRig::new();
            if before > 0 {
                assert!(rig.write(0, &pattern(1, before)).is_ok());
            }
            rig.brick.disk.room.store(room, Relaxed);
            let answer = rig.write(at as u64, &pattern(2, len));
            rig.brick.disk.room.store(usize::MAX, Relaxed);
            assert!(rig.ask(Request::GetAttr { id: id(10) }, b"").is_ok(), "a full disk is no failure");
            rig.rig.restart();
            rig.rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
            let read = rig.rig.read_checked(id(10), 0, before.max(at + len));
            let mut expected = pattern(1, before);
            expected.resize(before.max(at + len), 0);
            match answer {
                Err(fault) => assert_eq!(fault, Fault::Errno(libc::ENOSPC)),
                Ok(_) => expected[at..at + len].copy_from_slice(&pattern(2, len)),
            }
            assert!(read == expected, "{before} {at} {len} {room}");
            if room < len {
                assert_eq!(rig.rig.entry(id(10)).attr.size, before as u64);
            }
        }
    }
}

#[test]
fn a_record_that_finds_no_room_leaves_the_blocks_that_were() {
    for units in [1, 40] {
        let mut rig = FaultyRig::new();
        let (before, len) = (UNIT_SIZE / 2 * units, UNIT_SIZE * units);
        if units > 1 {
            assert!(rig.write(0, &pattern(1, before)).is_ok());
        }
        rig.brick.disk.full.store(true, Relaxed);
        assert_eq!(rig.write(before as u64, &pattern(2, len)), Err(Fault::Errno(libc::ENOSPC)));
        rig.rig.restart();
        rig.rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
        let read = rig.rig.read_checked(id(10), 0, before + len);
        if units > 1 {
            assert_eq!(read[..before], pattern(1, before));
        }
        assert!(read[before..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_bad_sector_costs_one_block() {
    let rig = FaultyRig::new();
    let data = pattern(1, 4 * BLOCK_SIZE);
    assert!(rig.write(0, &data).is_ok());
    rig.brick.disk.read_fails.store(true, Relaxed);
    let part = Part { unit: 0, offset: 0, len: 4 * BLOCK_SIZE as u32 };
    let mut out = Vec::new();
    let read = Request::Read { id: id(10), parts: vec![part] };
    assert!(rig.brick.handle(&rig.rig.header(), &read, b"", 0, &mut out).is_ok());
    let matches: Vec<bool> = out.chunks(BLOCK_SIZE).zip(data.chunks(BLOCK_SIZE)).map(|(a, b)| a == b).collect();
    assert_eq!(matches, [true, false, true, true]);
}

#[test]
fn many_threads_work_on_many_objects() {
    for rig in Rig::both() {
        let work = |thread: u64| {
            let directory = 1000 + thread;
            rig.change(rig.create(ROOT, &format!("d{thread}"), directory, Kind::Directory));
            for number in 0..60 {
                let file = 10_000 * (thread + 1) + number;
                rig.change(rig.create(id(directory), &format!("f{number}"), file, Kind::File));
                rig.write(id(file), 0, &pattern(file, 5000));
                let (to, target) = (name(&format!("t{thread}-{number}")), RenameTarget::Absent);
                let from = name(&format!("f{number}"));
                let (parent, new_parent, id) = (id(directory), ROOT, id(file));
                rig.change(Change::Rename { parent, name: from, id, new_parent, new_name: to, target });
                assert_eq!(rig.read_checked(id, 0, 8192)[..5000], pattern(file, 5000));
            }
        };
        let work = &work;
        std::thread::scope(|scope| (0..8).for_each(|thread| drop(scope.spawn(move || work(thread)))));
        assert_eq!(rig.names(ROOT, true).len(), 8 * 61);
    }
}
