//! What ext4 does with the bytes of files, the mount does: one test for each promise, on every
//! array, healthy and degraded.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use net_raid_tests::fsops::{disk_usage, forget, map_shared, open_with, seek_data, seek_hole};
use net_raid_tests::pattern::{Pattern, verify_file, verify_range, write_file, write_range};
use net_raid_tests::process::sh;
use net_raid_tests::{Rig, on_every_array};
use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, copy_file_range, fallocate, flock};
use rustix::io::Errno;

on_every_array!(
    files_of_every_awkward_length,
    small_overwrites_anywhere,
    open_flags,
    appends_of_two_processes_never_mix,
    unlinked_files_live_until_they_are_closed,
    direct_io,
    synchronous_writes,
    shared_mappings,
    sparse_files,
    truncate_down_and_up,
    fallocate_modes,
    copies_of_ranges,
    locks,
    many_threads,
);

const MIB: u64 = 1024 * 1024;

fn files_of_every_awkward_length(rig: &Rig) {
    let stripe = rig.array.stripe_bytes();
    let around = |n: u64| [n - 1, n, n + 1];
    let mut lengths = vec![0, 1, 15, 511];
    for edge in [4096, 65_536, stripe, 2 * stripe, 3 * stripe + 4096, 5 * MIB] {
        lengths.extend(around(edge));
    }
    let path = |i: usize| rig.path(&format!("file{i}"));
    for (i, &length) in lengths.iter().enumerate() {
        write_file(&path(i), Pattern::of(i as u16), length).unwrap();
    }
    for (i, &length) in lengths.iter().enumerate() {
        forget(&File::open(path(i)).unwrap());
        verify_file(&path(i), Pattern::of(i as u16), length).unwrap();
    }
}

/// Ranges that begin and end anywhere keep every byte around them.
fn small_overwrites_anywhere(rig: &Rig) {
    let stripe = rig.array.stripe_bytes();
    let (old, length) = (Pattern::of(1), 3 * stripe + 777);
    let path = rig.path("file");
    write_file(&path, old, length).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    forget(&file);
    let places = [0, 1, 4095, 65_535, 65_536, stripe - 1, stripe, stripe + 4097, 2 * stripe - 3, 3 * stripe + 700];
    let mut image = old.bytes(0, length as usize);
    for (i, &at) in places.iter().enumerate() {
        for size in [1, 13, 70, 4096, 9000] {
            let size = size.min((length - at) as usize);
            let new = Pattern { object: 2, version: i as u16 }.bytes(at, size);
            file.write_all_at(&new, at).unwrap();
            image[at as usize..at as usize + size].copy_from_slice(&new);
        }
        forget(&file);
    }
    let mut found = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut found).unwrap();
    let first = found.iter().zip(&image).position(|(a, b)| a != b);
    assert_eq!((found.len(), first), (image.len(), None), "length and first difference");
}

fn open_flags(rig: &Rig) {
    let path = rig.path("file");
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    assert_eq!(open_with(&path, OFlags::RDONLY).err(), Some(Errno::NOENT));
    open_with(&path, create).unwrap().write_all(b"content").unwrap();
    assert_eq!(open_with(&path, create).err(), Some(Errno::EXIST));
    open_with(&path, OFlags::RDONLY).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"content");
    open_with(&path, OFlags::WRONLY | OFlags::TRUNC).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
    assert_eq!(open_with(&path, OFlags::RDONLY | OFlags::DIRECTORY).err(), Some(Errno::NOTDIR));
    assert_eq!(open_with(&rig.root(), OFlags::WRONLY).err(), Some(Errno::ISDIR));
    let append = open_with(&path, OFlags::WRONLY | OFlags::APPEND).unwrap();
    append.write_all_at(b"one", 0).unwrap();
    append.write_all_at(b"two", 0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"onetwo", "O_APPEND ignores the offset");
}

fn appends_of_two_processes_never_mix(rig: &Rig) {
    let script = "for who in one two; do
            (exec >>log; i=0; while [ $i -lt 1000 ]; do echo \"$who line $i of a certain length\"; i=$((i+1)); done) &
        done; wait
        test $(wc -l <log) = 2000
        for who in one two; do grep \"^$who\" log | diff - <(seq 0 999 | sed \"s/.*/$who line & of a certain length/\"); done";
    sh(&rig.root(), script);
}

fn unlinked_files_live_until_they_are_closed(rig: &Rig) {
    let (path, length) = (rig.path("file"), 3 * MIB);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    write_range(&file, Pattern::of(1), 0, MIB).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(fs::read_dir(rig.root()).unwrap().count(), 0, "no trace of it in the directory");
    write_range(&file, Pattern::of(1), MIB, length - MIB).unwrap();
    forget(&file);
    verify_range(&file, Pattern::of(1), 0, length).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    file.set_len(5).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"more").unwrap();
    assert_eq!(file.metadata().unwrap().len(), 9);
    fs::write(&path, "another file of the same name").unwrap();
    verify_range(&file, Pattern::of(1), 0, 5).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"another file of the same name");
}

/// Memory at a multiple of 4096, as O_DIRECT wants it.
fn aligned(length: usize) -> memmap2::MmapMut {
    memmap2::MmapMut::map_anon(length).unwrap()
}

fn direct_io(rig: &Rig) {
    let (path, length) = (rig.path("file"), 4 * rig.array.stripe_bytes());
    let file = open_with(&path, OFlags::CREATE | OFlags::RDWR | OFlags::DIRECT).unwrap();
    let mut buffer = aligned(length as usize);
    Pattern::of(1).fill(0, &mut buffer);
    file.write_all_at(&buffer, 0).unwrap();
    verify_file(&path, Pattern::of(1), length).unwrap();
    let new = Pattern::of(1).next();
    let mut block = aligned(4096);
    new.fill(69_632, &mut block);
    file.write_all_at(&block, 69_632).unwrap();
    verify_range(&File::open(&path).unwrap(), new, 69_632, 4096).unwrap();
    let cached = File::options().write(true).open(&path).unwrap();
    cached.write_all_at(&new.bytes(0, 4096), 0).unwrap();
    file.read_exact_at(&mut block, 0).unwrap();
    new.check(0, &block).unwrap();
    assert_eq!(file.read_at(&mut block, length).unwrap(), 0, "nothing beyond the end");
}

fn synchronous_writes(rig: &Rig) {
    for (name, flag) in [("sync", OFlags::SYNC), ("dsync", OFlags::DSYNC)] {
        let file = open_with(&rig.path(name), OFlags::CREATE | OFlags::RDWR | flag).unwrap();
        for i in 0..20 {
            write_range(&file, Pattern::of(1), i * 5000, 5000).unwrap();
        }
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        verify_file(&rig.path(name), Pattern::of(1), 100_000).unwrap();
    }
    let dir = File::open(rig.root()).unwrap();
    dir.sync_all().unwrap();
    rustix::fs::syncfs(&dir).unwrap();
}

fn shared_mappings(rig: &Rig) {
    let (path, length) = (rig.path("file"), 2 * rig.array.stripe_bytes() + 12_345);
    write_file(&path, Pattern::of(1), length).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    forget(&file);
    let new = Pattern::of(1).next();
    let mut map = map_shared(&file);
    Pattern::of(1).check(0, &map).unwrap();
    new.fill(60_000, &mut map[60_000..130_000]);
    new.check(60_000, &map_shared(&File::options().read(true).write(true).open(&path).unwrap())[60_000..130_000])
        .unwrap();
    verify_range(&file, new, 60_000, 70_000).unwrap();
    file.write_all_at(&new.bytes(0, 5000), 0).unwrap();
    new.check(0, &map[..5000]).unwrap();
    map.flush().unwrap();
    drop(map);
    forget(&file);
    verify_range(&file, new, 0, 5000).unwrap();
    verify_range(&file, Pattern::of(1), 5000, 55_000).unwrap();
    verify_range(&file, new, 60_000, 70_000).unwrap();
    verify_range(&file, Pattern::of(1), 130_000, length - 130_000).unwrap();
    fs::copy("/bin/true", rig.path("program")).unwrap();
    sh(&rig.root(), "./program");
}

fn sparse_files(rig: &Rig) {
    let path = rig.path("sparse");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let (far, stripe) = (64 * MIB, rig.array.stripe_bytes());
    write_range(&file, Pattern::of(1), 0, 65_536).unwrap();
    write_range(&file, Pattern::of(1), far, 65_536).unwrap();
    file.set_len(100 * MIB).unwrap();
    forget(&file);
    assert_eq!(seek_data(&file, 0), Some(0));
    let hole = seek_hole(&file, 0).unwrap();
    assert!((65_536..=65_536 + stripe).contains(&hole), "the hole begins at {hole}");
    let data = seek_data(&file, 10 * MIB).unwrap();
    assert!((far - stripe..=far).contains(&data), "data begins again at {data}");
    let end = seek_hole(&file, far).unwrap();
    assert!((far + 65_536..=far + 65_536 + stripe).contains(&end), "the last hole begins at {end}");
    assert_eq!(seek_data(&file, far + 2 * stripe), None, "no data behind it");
    assert_eq!(seek_hole(&file, 100 * MIB), None, "no hole beyond the end");
    assert!(disk_usage(&file) < 4 * MIB, "{} bytes for two blocks", disk_usage(&file));
    let mut buffer = vec![1; MIB as usize];
    file.read_exact_at(&mut buffer, 20 * MIB).unwrap();
    assert!(buffer.iter().all(|&b| b == 0), "a hole reads as zeros");
    verify_range(&file, Pattern::of(1), far, 65_536).unwrap();
    sh(&rig.root(), "cp --sparse=always sparse copy; cmp sparse copy");
}

fn truncate_down_and_up(rig: &Rig) {
    let stripe = rig.array.stripe_bytes();
    let path = rig.path("file");
    let mut cuts = [3 * stripe + 5000, 3 * stripe, 2 * stripe + 65_536 + 17, stripe + 4096, stripe - 1, 4097, 1];
    cuts.sort_by(|a, b| b.cmp(a));
    write_file(&path, Pattern::of(1), 4 * stripe).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    for cut in cuts {
        file.set_len(cut).unwrap();
        forget(&file);
        verify_file(&path, Pattern::of(1), cut).unwrap();
        file.set_len(4 * stripe + 99).unwrap();
        forget(&file);
        verify_range(&file, Pattern::of(1), 0, cut).unwrap();
        let mut tail = vec![1; (4 * stripe + 99 - cut) as usize];
        file.read_exact_at(&mut tail, cut).unwrap();
        let stale = tail.iter().position(|&b| b != 0).map(|at| cut + at as u64);
        assert_eq!(stale, None, "what was cut off at {cut} came back");
    }
    file.set_len(0).unwrap();
    assert_eq!((file.metadata().unwrap().len(), disk_usage(&file)), (0, 0));
}

fn all_zero(file: &File, offset: u64, length: u64) {
    let mut buffer = vec![1; length as usize];
    file.read_exact_at(&mut buffer, offset).unwrap();
    let first = buffer.iter().position(|&b| b != 0).map(|at| offset + at as u64);
    assert_eq!(first, None, "the first byte that is not zero in {offset}+{length}");
}

fn fallocate_modes(rig: &Rig) {
    let (path, length) = (rig.path("file"), 4 * MIB);
    write_file(&path, Pattern::of(1), length).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let before = disk_usage(&file);
    fallocate(&file, punch, 100_001, 2 * MIB).unwrap();
    forget(&file);
    verify_range(&file, Pattern::of(1), 0, 100_001).unwrap();
    all_zero(&file, 100_001, 2 * MIB);
    verify_range(&file, Pattern::of(1), 100_001 + 2 * MIB, length - 2 * MIB - 100_001).unwrap();
    assert!(disk_usage(&file) + MIB < before, "a punched hole gives space back");

    fallocate(&file, FallocateFlags::ZERO_RANGE, 3 * MIB + 7, 70_000).unwrap();
    forget(&file);
    all_zero(&file, 3 * MIB + 7, 70_000);
    verify_range(&file, Pattern::of(1), 3 * MIB + 70_007, MIB - 70_007).unwrap();
    fallocate(&file, FallocateFlags::ZERO_RANGE, length, 1000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), length + 1000);
    all_zero(&file, length, 1000);

    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 6 * MIB).unwrap();
    assert_eq!(file.metadata().unwrap().len(), length + 1000);
    fallocate(&file, FallocateFlags::empty(), 5 * MIB, MIB).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 6 * MIB);
    all_zero(&file, length, 2 * MIB);
    verify_range(&file, Pattern::of(1), 0, 100_001).unwrap();
    assert_eq!(fallocate(&file, FallocateFlags::PUNCH_HOLE, 0, 10), Err(Errno::OPNOTSUPP));
    assert_eq!(fallocate(&file, punch, 0, 0), Err(Errno::INVAL));
}

fn copies_of_ranges(rig: &Rig) {
    write_file(&rig.path("from"), Pattern::of(1), 3 * MIB).unwrap();
    let from = File::open(rig.path("from")).unwrap();
    let to = File::options().read(true).write(true).create_new(true).open(rig.path("to")).unwrap();
    let (mut source, mut target, mut left) = (0, 0, 3 * MIB);
    while left > 0 {
        let copied = copy_file_range(&from, Some(&mut source), &to, Some(&mut target), left as usize).unwrap();
        assert!(copied > 0, "it stopped at {source}");
        left -= copied as u64;
    }
    verify_file(&rig.path("to"), Pattern::of(1), 3 * MIB).unwrap();
    (source, target) = (100, 2 * MIB + 16_100);
    let copied = copy_file_range(&to, Some(&mut source), &to, Some(&mut target), 50_000).unwrap() as u64;
    let found = |offset| {
        let mut buffer = vec![0; copied as usize];
        to.read_exact_at(&mut buffer, offset).unwrap();
        buffer
    };
    assert_eq!(found(2 * MIB + 16_100), Pattern::of(1).bytes(100, copied as usize));
    verify_range(&to, Pattern::of(1), 2 * MIB, 16_100).unwrap();
}

fn locks(rig: &Rig) {
    let path = rig.path("file");
    fs::write(&path, "0123456789").unwrap();
    let open = || File::options().read(true).write(true).open(&path).unwrap();
    let (first, second) = (open(), open());
    let try_lock = |file: &File, how| flock(file, how);
    try_lock(&first, FlockOperation::LockExclusive).unwrap();
    assert_eq!(try_lock(&second, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK));
    try_lock(&first, FlockOperation::LockShared).unwrap();
    try_lock(&second, FlockOperation::NonBlockingLockShared).unwrap();
    drop(first);
    try_lock(&second, FlockOperation::NonBlockingLockExclusive).unwrap();
    sh(&rig.root(), "! flock -n file true");
    drop(second);
    sh(&rig.root(), "flock -n file true");

    let (first, second) = (open(), open());
    record_lock(&first, nix::libc::F_WRLCK, 0, 5).unwrap();
    assert!(record_lock(&second, nix::libc::F_RDLCK, 4, 1).is_err(), "a lock on one byte of it");
    record_lock(&second, nix::libc::F_WRLCK, 5, 5).unwrap();
    record_lock(&first, nix::libc::F_UNLCK, 0, 3).unwrap();
    record_lock(&second, nix::libc::F_RDLCK, 0, 3).unwrap();
    other_process_is_locked_out(&path);
}

/// Takes or gives back a lock on a range, owned by the open file.
fn record_lock(file: &File, kind: i32, start: i64, len: i64) -> nix::Result<i32> {
    let (l_type, l_whence) = (kind as i16, nix::libc::SEEK_SET as i16);
    let lock = nix::libc::flock { l_type, l_whence, l_start: start, l_len: len, l_pid: 0 };
    assert!(file.as_raw_fd() >= 0);
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock))
}

/// sqlite uses the locks of fcntl between processes.
fn other_process_is_locked_out(file: &Path) {
    let script = "sqlite3 db 'create table t(a)'
        coproc sqlite3 db; echo 'begin exclusive; select 1;' >&${COPROC[1]}; read -r one <&${COPROC[0]}
        ! sqlite3 db 'insert into t values(1)' 2>/dev/null
        echo 'commit; select 2;' >&${COPROC[1]}; read -r two <&${COPROC[0]}
        sqlite3 db 'insert into t values(1)'";
    sh(file.parent().expect("in a directory"), script);
}

/// Threads create, write, read, rename and delete at once, each in its own files and all in one directory.
fn many_threads(rig: &Rig) {
    let dir = rig.path("dir");
    fs::create_dir(&dir).unwrap();
    let shared = File::options().read(true).write(true).create_new(true).open(dir.join("shared")).unwrap();
    let work = |thread: u16| {
        for round in 0..20u16 {
            let (path, moved) = (dir.join(format!("{thread}.{round}")), dir.join(format!("{thread}.{round}.moved")));
            let (pattern, length) = (Pattern { object: thread, version: round }, 1000 * u64::from(thread + round) + 1);
            write_file(&path, pattern, length).unwrap();
            fs::rename(&path, &moved).unwrap();
            verify_file(&moved, pattern, length).unwrap();
            write_range(&shared, Pattern::of(99), u64::from(thread) * 100_003 + u64::from(round) * 5000, 5000).unwrap();
            if round % 2 == 0 {
                fs::remove_file(&moved).unwrap();
            }
        }
    };
    std::thread::scope(|scope| (0..16).for_each(|thread| drop(scope.spawn(move || work(thread)))));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 16 * 10 + 1);
    forget(&shared);
    for thread in 0..16 {
        verify_range(&shared, Pattern::of(99), thread * 100_003, 100_000).unwrap();
    }
}
