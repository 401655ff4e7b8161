//! What ext4 does with names and attributes, the mount does: one test for each promise, on every
//! array, healthy and degraded. Data is in `posix_data.rs`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use net_raid_tests::fsops::{forget, xattr, xattr_names};
use net_raid_tests::places::long_run;
use net_raid_tests::process::sh;
use net_raid_tests::user::{ALICE, BOB, as_user, as_user_in};
use net_raid_tests::{Array, Health, Rig, on_every_array, on_every_healthy_array};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags, lremovexattr, lsetxattr,
    mknodat, openat, removexattr, renameat_with, setxattr, statvfs, utimensat,
};
use rustix::io::Errno;

on_every_array!(
    directories_and_symlinks,
    hard_links,
    fifos_sockets_and_devices,
    permissions_hold_for_several_users,
    umask_setgid_and_sticky,
    suid_and_sgid_are_cleared,
    times_have_nanoseconds,
    times_move_as_they_should,
    xattrs,
    acls,
    acls_are_inherited,
    rename_replaces_atomically,
    rename_flags,
    names_of_any_bytes,
    paths_up_to_path_max,
    large_directories_stay_stable,
    statfs_has_true_numbers,
);
on_every_healthy_array!(inode_numbers_survive_a_remount, everything_survives_a_remount);

/// The error number of a failed call of the standard library.
fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    result.err().and_then(|e| Errno::from_io_error(&e))
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn directories_and_symlinks(rig: &Rig) {
    let dir = rig.path("dir");
    fs::create_dir(&dir).unwrap();
    assert_eq!(errno(fs::create_dir(&dir)), Some(Errno::EXIST));
    fs::create_dir(dir.join("sub")).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().nlink(), 3);
    assert_eq!(errno(fs::remove_dir(&dir)), Some(Errno::NOTEMPTY));
    fs::remove_dir(dir.join("sub")).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().nlink(), 2);

    let (link, target) = (rig.path("link"), "a/target that/does not exist");
    symlink(target, &link).unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
    assert_eq!(fs::symlink_metadata(&link).unwrap().len(), target.len() as u64);
    let longest = "x".repeat(4000);
    symlink(&longest, rig.path("long")).unwrap();
    assert_eq!(fs::read_link(rig.path("long")).unwrap(), Path::new(&longest));
    symlink("dir", rig.path("to_dir")).unwrap();
    fs::write(rig.path("to_dir/through"), "x").unwrap();
    assert_eq!(fs::read(dir.join("through")).unwrap(), b"x");
    symlink("loop", rig.path("loop")).unwrap();
    assert_eq!(errno(File::open(rig.path("loop"))), Some(Errno::LOOP));
    assert_eq!(errno(fs::remove_dir(&link)), Some(Errno::NOTDIR));
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(errno(fs::metadata(rig.path("to_dir"))), Some(Errno::NOENT));
}

fn hard_links(rig: &Rig) {
    let (first, second) = (rig.path("first"), rig.path("d/second"));
    fs::create_dir(rig.path("d")).unwrap();
    fs::write(&first, "one").unwrap();
    fs::hard_link(&first, &second).unwrap();
    let (a, b) = (fs::metadata(&first).unwrap(), fs::metadata(&second).unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    fs::write(&second, "changed").unwrap();
    set_mode(&second, 0o640);
    assert_eq!((fs::read(&first).unwrap(), mode_of(&first)), (b"changed".to_vec(), 0o640));
    assert_eq!(errno(fs::hard_link(&first, &second)), Some(Errno::EXIST));
    assert_eq!(errno(fs::hard_link(rig.path("d"), rig.path("e"))), Some(Errno::PERM));
    fs::remove_file(&first).unwrap();
    assert_eq!(fs::metadata(&second).unwrap().nlink(), 1);
    assert_eq!(fs::read(&second).unwrap(), b"changed");
    symlink("nowhere", rig.path("link")).unwrap();
    fs::hard_link(rig.path("link"), rig.path("link2")).unwrap();
    assert_eq!(fs::symlink_metadata(rig.path("link2")).unwrap().nlink(), 2);
}

fn fifos_sockets_and_devices(rig: &Rig) {
    let make = |name: &str, kind, device| mknodat(CWD, rig.path(name), kind, Mode::from_raw_mode(0o622), device);
    make("fifo", FileType::Fifo, 0).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| fs::write(rig.path("fifo"), "through the pipe").unwrap());
        assert_eq!(fs::read(rig.path("fifo")).unwrap(), b"through the pipe");
    });

    let listener = UnixListener::bind(rig.path("socket")).unwrap();
    assert!(fs::metadata(rig.path("socket")).unwrap().file_type().is_socket());
    let mut sent = UnixStream::connect(rig.path("socket")).unwrap();
    sent.write_all(b"hi").unwrap();
    drop(sent);
    let mut received = String::new();
    listener.accept().unwrap().0.read_to_string(&mut received).unwrap();
    assert_eq!(received, "hi");

    make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)).unwrap();
    fs::write(rig.path("null"), "into the void").unwrap();
    assert_eq!(fs::read(rig.path("null")).unwrap(), b"");
    make("disk", FileType::BlockDevice, rustix::fs::makedev(259, 65_537)).unwrap();
    let disk = fs::metadata(rig.path("disk")).unwrap();
    assert!(disk.file_type().is_block_device());
    assert_eq!(disk.rdev(), rustix::fs::makedev(259, 65_537));
    let denied = as_user(ALICE, || make("alices", FileType::CharacterDevice, rustix::fs::makedev(1, 3)));
    assert!(matches!(denied, Err(Errno::PERM | Errno::ACCESS)), "{denied:?}");
}

fn permissions_hold_for_several_users(rig: &Rig) {
    let home = rig.path("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(ALICE.uid), Some(ALICE.gid)).unwrap();
    set_mode(&home, 0o755);
    let file = home.join("diary");
    as_user(ALICE, || fs::write(&file, "secret")).unwrap();
    let meta = fs::metadata(&file).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (ALICE.uid, ALICE.gid));

    set_mode(&file, 0o640);
    assert_eq!(errno(as_user(BOB, || fs::read(&file))), Some(Errno::ACCESS));
    assert_eq!(as_user_in(BOB, &[ALICE.gid], || fs::read(&file)).unwrap(), b"secret");
    let bob_writes = as_user_in(BOB, &[ALICE.gid], || File::options().append(true).open(&file));
    assert_eq!(errno(bob_writes), Some(Errno::ACCESS));
    assert_eq!(errno(as_user(BOB, || fs::remove_file(&file))), Some(Errno::ACCESS));
    assert_eq!(errno(as_user(BOB, || fs::write(home.join("bobs"), "x"))), Some(Errno::ACCESS));
    let bob_chmods = as_user(BOB, || fs::set_permissions(&file, fs::Permissions::from_mode(0o777)));
    assert_eq!(errno(bob_chmods), Some(Errno::PERM));
    assert_eq!(errno(as_user(ALICE, || chown(&file, Some(BOB.uid), None))), Some(Errno::PERM));
    assert_eq!(errno(as_user(ALICE, || chown(&file, None, Some(BOB.gid)))), Some(Errno::PERM));
    as_user_in(ALICE, &[BOB.gid], || chown(&file, None, Some(BOB.gid))).unwrap();
    assert_eq!(as_user(BOB, || fs::read(&file)).unwrap(), b"secret");
    chown(&file, Some(BOB.uid), Some(BOB.gid)).unwrap();
    assert_eq!(errno(as_user(ALICE, || fs::read(&file))), Some(Errno::ACCESS));

    set_mode(&home, 0o700);
    assert_eq!(errno(as_user(BOB, || fs::metadata(&file))), Some(Errno::ACCESS));
    set_mode(&file, 0);
    assert_eq!(fs::read(&file).unwrap(), b"secret", "root reads everything");
}

fn umask_setgid_and_sticky(rig: &Rig) {
    sh(&rig.root(), "umask 027; touch file; mkdir dir; umask 0; touch open");
    let modes = ["file", "dir", "open"].map(|name| mode_of(&rig.path(name)));
    assert_eq!(modes, [0o640, 0o750, 0o666]);

    let shared = rig.path("shared");
    fs::create_dir(&shared).unwrap();
    chown(&shared, Some(ALICE.uid), Some(BOB.gid)).unwrap();
    set_mode(&shared, 0o2777);
    as_user(ALICE, || fs::write(shared.join("file"), "x").and_then(|()| fs::create_dir(shared.join("dir")))).unwrap();
    assert_eq!(fs::metadata(shared.join("file")).unwrap().gid(), BOB.gid);
    let dir = fs::metadata(shared.join("dir")).unwrap();
    assert_eq!((dir.gid(), dir.mode() & 0o2000), (BOB.gid, 0o2000), "directories inherit setgid");

    let sticky = rig.path("tmp");
    fs::create_dir(&sticky).unwrap();
    set_mode(&sticky, 0o1777);
    let file = sticky.join("alices");
    as_user(ALICE, || fs::write(&file, "x")).unwrap();
    assert_eq!(errno(as_user(BOB, || fs::remove_file(&file))), Some(Errno::PERM));
    assert_eq!(errno(as_user(BOB, || fs::rename(&file, sticky.join("bobs")))), Some(Errno::PERM));
    as_user(ALICE, || fs::remove_file(&file)).unwrap();
}

fn suid_and_sgid_are_cleared(rig: &Rig) {
    let file = rig.path("program");
    let reset = || {
        fs::write(&file, "#!/bin/sh").unwrap();
        chown(&file, Some(ALICE.uid), Some(ALICE.gid)).unwrap();
        set_mode(&file, 0o6777);
    };
    reset();
    assert_eq!(mode_of(&file), 0o6777);
    as_user(BOB, || File::options().append(true).open(&file).and_then(|mut f| f.write_all(b"x"))).unwrap();
    assert_eq!(mode_of(&file), 0o777, "after a write by another user");
    reset();
    as_user(BOB, || File::options().write(true).open(&file).and_then(|f| f.set_len(1))).unwrap();
    assert_eq!(mode_of(&file), 0o777, "after a truncate by another user");
    reset();
    chown(&file, Some(BOB.uid), None).unwrap();
    assert_eq!(mode_of(&file), 0o777, "after chown");
    reset();
    as_user_in(ALICE, &[BOB.gid], || chown(&file, None, Some(BOB.gid))).unwrap();
    assert_eq!(mode_of(&file), 0o777, "after chgrp by the owner");
    reset();
    File::options().append(true).open(&file).unwrap().write_all(b"x").unwrap();
    assert_eq!(mode_of(&file), 0o6777, "root's writes keep it");
}

fn set_times(path: &Path, atime: (i64, i64), mtime: (i64, i64)) {
    let stamp = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: stamp(atime), last_modification: stamp(mtime) };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn times_have_nanoseconds(rig: &Rig) {
    fs::write(rig.path("file"), "x").unwrap();
    fs::create_dir(rig.path("dir")).unwrap();
    symlink("file", rig.path("link")).unwrap();
    // Before 1970, now-ish, and beyond 2038.
    for seconds in [-86_400, 1_700_000_000, 5_000_000_000] {
        for name in ["file", "dir", "link"] {
            let path = rig.path(name);
            set_times(&path, (seconds, 123_456_789), (seconds + 1, 987_654_321));
            let meta = fs::symlink_metadata(&path).unwrap();
            assert_eq!((meta.atime(), meta.atime_nsec()), (seconds, 123_456_789), "{name}");
            assert_eq!((meta.mtime(), meta.mtime_nsec()), (seconds + 1, 987_654_321), "{name}");
            assert!(meta.ctime() > 1_700_000_000, "{name}: ctime is now");
        }
    }
}

fn times_move_as_they_should(rig: &Rig) {
    let (dir, file) = (rig.path("dir"), rig.path("dir/file"));
    fs::create_dir(&dir).unwrap();
    fs::write(&file, "x").unwrap();
    let old = |path: &Path| set_times(path, (1000, 0), (1000, 0));
    let mtime = |path: &Path| fs::metadata(path).unwrap().mtime();
    let ctime = |path: &Path| {
        let meta = fs::metadata(path).unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    old(&file);
    File::options().append(true).open(&file).unwrap().write_all(b"y").unwrap();
    assert!(mtime(&file) > 1000, "a write moves mtime");
    old(&file);
    File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    assert!(mtime(&file) > 1000, "a truncate moves mtime");
    for (what, change) in [("create", "touch new"), ("rename", "mv new newer"), ("unlink", "rm newer")] {
        old(&dir);
        sh(&dir, change);
        assert!(mtime(&dir) > 1000, "{what} moves the directory's mtime");
    }
    let before = ctime(&file);
    net_raid_tests::deadline::wait_until("chmod moves ctime", Duration::from_secs(2), || {
        set_mode(&file, 0o600);
        ctime(&file) > before
    });

    fs::write(&file, "content").unwrap();
    old(&file);
    let opened = File::open(&file).unwrap();
    forget(&opened);
    assert_eq!(fs::read(&file).unwrap(), b"content");
    assert!(fs::metadata(&file).unwrap().atime() > 1000, "a read moves an atime that is not after mtime");
}

fn xattrs(rig: &Rig) {
    let file = rig.path("file");
    fs::write(&file, "x").unwrap();
    assert_eq!(xattr_names(&file), Vec::<OsString>::new(), "a new file has none");
    let set = |name: &str, value: &[u8], flags| setxattr(&file, name, value, flags);
    set("user.a", b"1", XattrFlags::CREATE).unwrap();
    assert_eq!(set("user.a", b"2", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(set("user.b", b"2", XattrFlags::REPLACE), Err(Errno::NODATA));
    set("user.a", b"two", XattrFlags::REPLACE).unwrap();
    set("user.empty", b"", XattrFlags::empty()).unwrap();
    set("trusted.root", b"\0\xff", XattrFlags::empty()).unwrap();
    let long_name = format!("user.{}", "n".repeat(250));
    set(&long_name, b"v", XattrFlags::empty()).unwrap();
    set("user.large", &[7; 2000], XattrFlags::empty()).unwrap();
    assert_eq!(xattr(&file, "user.a").unwrap(), b"two");
    assert_eq!(xattr(&file, "user.empty").unwrap(), b"");
    assert_eq!(xattr(&file, "trusted.root").unwrap(), b"\0\xff");
    assert_eq!(xattr(&file, "user.large").unwrap(), [7; 2000]);
    let names = ["trusted.root", "user.a", "user.empty", "user.large", long_name.as_str()];
    let mut names = names.map(OsString::from).to_vec();
    names.sort();
    assert_eq!(xattr_names(&file), names);
    removexattr(&file, "user.large").unwrap();
    assert_eq!(removexattr(&file, "user.large"), Err(Errno::NODATA));
    assert_eq!(xattr(&file, "user.large"), Err(Errno::NODATA));
    assert_eq!(set(&format!("user.{}", "n".repeat(251)), b"", XattrFlags::empty()), Err(Errno::RANGE));
    let too_much = set("user.huge", &[1; 60_000], XattrFlags::empty());
    assert!(matches!(too_much, Err(Errno::NOSPC | Errno::TOOBIG)) || xattr(&file, "user.huge").is_ok(), "{too_much:?}");

    let hidden = as_user(ALICE, || xattr(&file, "trusted.root"));
    assert!(matches!(hidden, Err(Errno::NODATA | Errno::PERM)), "{hidden:?}");
    symlink("file", rig.path("link")).unwrap();
    assert_eq!(lsetxattr(rig.path("link"), "user.a", b"", XattrFlags::empty()), Err(Errno::PERM));
    assert_eq!(lremovexattr(rig.path("link"), "user.a").err(), Some(Errno::PERM));
    fs::create_dir(rig.path("dir")).unwrap();
    setxattr(rig.path("dir"), "user.on_a_directory", b"yes", XattrFlags::empty()).unwrap();
    assert_eq!(xattr(&rig.path("dir"), "user.on_a_directory").unwrap(), b"yes");
}

fn acls(rig: &Rig) {
    let file = rig.path("file");
    fs::write(&file, "x").unwrap();
    set_mode(&file, 0o600);
    assert_eq!(errno(as_user(ALICE, || fs::read(&file))), Some(Errno::ACCESS));
    sh(&rig.root(), &format!("setfacl -m u:{}:r-- file", ALICE.uid));
    assert_eq!(mode_of(&file), 0o640, "the mask is shown as the group's bits");
    assert_eq!(as_user(ALICE, || fs::read(&file)).unwrap(), b"x");
    assert_eq!(errno(as_user(ALICE, || File::options().append(true).open(&file))), Some(Errno::ACCESS));
    assert_eq!(errno(as_user(BOB, || fs::read(&file))), Some(Errno::ACCESS));
    let listed = sh(&rig.root(), "getfacl -np file");
    assert!(listed.contains(&format!("user:{}:r--", ALICE.uid)) && listed.contains("mask::r--"), "{listed}");
    set_mode(&file, 0o600);
    assert_eq!(errno(as_user(ALICE, || fs::read(&file))), Some(Errno::ACCESS), "chmod changes the mask");
    sh(&rig.root(), &format!("setfacl -b file; setfacl -m g:{}:rw file", BOB.gid));
    as_user(BOB, || File::options().append(true).open(&file)).unwrap();
    sh(&rig.root(), "setfacl -b file");
    assert_eq!(errno(as_user(BOB, || fs::read(&file))), Some(Errno::ACCESS));
    assert!(!xattr_names(&file).contains(&"system.posix_acl_access".into()));
}

fn acls_are_inherited(rig: &Rig) {
    let script = "mkdir dir; setfacl -d -m u:60001:rwx,g:60002:r-x,o::--- dir; umask 0
        touch dir/file; mkdir dir/sub; touch dir/sub/deep; getfacl -np dir/file dir/sub dir/sub/deep";
    let listed = sh(&rig.root(), script);
    assert_eq!(listed.matches("default:user:60001:rwx").count(), 1, "only directories have defaults:\n{listed}");
    let named = |line: &&str| line.starts_with("user:60001:rwx");
    assert_eq!(listed.lines().filter(named).count(), 3, "{listed}");
    assert_eq!(mode_of(&rig.path("dir/file")), 0o660, "the mode of the call is a limit");
    assert_eq!(mode_of(&rig.path("dir/sub")), 0o770);
    as_user(ALICE, || fs::write(rig.path("dir/sub/deep"), "alice")).unwrap();
    assert_eq!(as_user(BOB, || fs::read(rig.path("dir/sub/deep"))).unwrap(), b"alice");
    assert_eq!(errno(as_user(BOB, || fs::write(rig.path("dir/sub/deep"), ""))), Some(Errno::ACCESS));
    sh(&rig.root(), "setfacl -k dir; touch dir/later");
    assert_eq!(xattr_names(&rig.path("dir/later")), Vec::<OsString>::new());
}

fn rename_replaces_atomically(rig: &Rig) {
    fs::create_dir_all(rig.path("a/b")).unwrap();
    fs::write(rig.path("a/new"), "new").unwrap();
    fs::write(rig.path("target"), "old").unwrap();
    let held = File::open(rig.path("target")).unwrap();
    fs::rename(rig.path("a/new"), rig.path("target")).unwrap();
    assert_eq!(fs::read(rig.path("target")).unwrap(), b"new");
    assert_eq!(errno(fs::metadata(rig.path("a/new"))), Some(Errno::NOENT));
    let mut old = String::new();
    (&held).read_to_string(&mut old).unwrap();
    assert_eq!((old.as_str(), held.metadata().unwrap().nlink()), ("old", 0), "who has it open keeps it");

    assert_eq!(errno(fs::rename(rig.path("a"), rig.path("a/b/c"))), Some(Errno::INVAL));
    assert_eq!(errno(fs::rename(rig.path("target"), rig.path("a"))), Some(Errno::ISDIR));
    assert_eq!(errno(fs::rename(rig.path("a"), rig.path("target"))), Some(Errno::NOTDIR));
    fs::create_dir_all(rig.path("full/x")).unwrap();
    assert_eq!(errno(fs::rename(rig.path("a"), rig.path("full"))), Some(Errno::NOTEMPTY));
    fs::rename(rig.path("a"), rig.path("full/x")).unwrap();
    assert!(rig.path("full/x/b").is_dir());
    fs::hard_link(rig.path("target"), rig.path("same")).unwrap();
    fs::rename(rig.path("same"), rig.path("target")).unwrap();
    assert!(rig.path("same").exists(), "two names of one file: nothing happens");
    let parent = fs::metadata(rig.path("full/x/b/..")).unwrap().ino();
    assert_eq!(parent, fs::metadata(rig.path("full/x")).unwrap().ino());
}

fn rename_flags(rig: &Rig) {
    fs::write(rig.path("file"), "file").unwrap();
    fs::create_dir_all(rig.path("dir/inside")).unwrap();
    let rename = |from: &str, to: &str, flags| renameat_with(CWD, rig.path(from), CWD, rig.path(to), flags);
    assert_eq!(rename("file", "dir", RenameFlags::NOREPLACE), Err(Errno::EXIST));
    rename("file", "moved", RenameFlags::NOREPLACE).unwrap();
    rename("moved", "dir", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(rig.path("dir")).unwrap(), b"file");
    assert!(rig.path("moved/inside").is_dir());
    assert_eq!(rename("dir", "nothing", RenameFlags::EXCHANGE), Err(Errno::NOENT));
    assert_eq!(rename("dir", "x", RenameFlags::EXCHANGE | RenameFlags::NOREPLACE), Err(Errno::INVAL));
    fs::create_dir(rig.path("other")).unwrap();
    rename("moved/inside", "other", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::metadata(rig.root()).unwrap().nlink(), 4, "two directories are left at the top");
}

fn names_of_any_bytes(rig: &Rig) {
    let every_byte: Vec<u8> = (1..=255).filter(|&b| b != b'/').collect();
    let longest = [0xff; 255];
    let names: [&[u8]; 7] = [b"\xff\xfe", b"new\nline", b" ", b"\\", b"...", &every_byte, &longest];
    let path = |name: &[u8]| rig.root().join(OsStr::from_bytes(name));
    for (i, name) in names.iter().enumerate() {
        fs::write(path(name), format!("file {i}")).unwrap();
    }
    let listed: BTreeSet<OsString> = fs::read_dir(rig.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(listed, names.iter().map(|name| OsStr::from_bytes(name).to_owned()).collect());
    for (i, name) in names.iter().enumerate() {
        assert_eq!(fs::read(path(name)).unwrap(), format!("file {i}").as_bytes());
    }
    assert_eq!(errno(fs::write(path(&[b'x'; 256]), "")), Some(Errno::NAMETOOLONG));
    fs::rename(path(&longest), path(b"short")).unwrap();
    assert_eq!(fs::read(path(b"short")).unwrap(), b"file 6");
    // Names of our own side files are free to use, or refused cleanly, but never shown.
    assert!(!rig.path(".net_raid").exists());
}

fn paths_up_to_path_max(rig: &Rig) {
    let name = "d".repeat(200);
    let mut path = rig.root();
    while path.as_os_str().len() + 2 * name.len() < 4096 {
        path.push(&name);
        fs::create_dir(&path).unwrap();
    }
    let file = path.join("f".repeat(4095 - path.as_os_str().len() - 1));
    assert_eq!(file.as_os_str().len(), 4095);
    fs::write(&file, "deep").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"deep");
    assert_eq!(errno(fs::write(path.join("f".repeat(255)), "")), Some(Errno::NAMETOOLONG));
    // Relative to a directory it goes on beyond PATH_MAX.
    let mut here = File::open(&path).unwrap();
    for _ in 0..5 {
        rustix::fs::mkdirat(&here, name.as_str(), Mode::from_raw_mode(0o755)).unwrap();
        here = openat(&here, name.as_str(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap().into();
    }
    openat(&here, "bottom", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644)).unwrap();
    fs::remove_dir_all(rig.path(&name)).unwrap();
    assert_eq!(fs::read_dir(rig.root()).unwrap().count(), 0);
}

/// Entries that are there all the time are listed exactly once while others come and go.
fn large_directories_stay_stable(rig: &Rig) {
    let largest = rig.array == Array::RAID6 && rig.health == Health::Healthy;
    let count = match (long_run(), largest) {
        (true, _) => 100_000,
        (false, true) => 15_000,
        (false, false) => 1_500,
    };
    let dir = rig.path("large");
    fs::create_dir(&dir).unwrap();
    (0..count).for_each(|i| drop(File::create(dir.join(format!("stays{i}"))).unwrap()));
    let mut listing = fs::read_dir(&dir).unwrap();
    let mut seen = BTreeSet::new();
    for i in 0.. {
        let Some(entry) = listing.next() else { break };
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("stays") {
            assert!(seen.insert(name.clone()), "{name} is listed twice");
        }
        if i % 10 == 0 && i < 20_000 {
            fs::write(dir.join(format!("comes{i}")), "").unwrap();
            fs::rename(dir.join(format!("comes{i}")), dir.join(format!("moves{i}"))).unwrap();
        } else if i % 10 == 5 && i < 20_000 {
            fs::remove_file(dir.join(format!("moves{}", i - 5))).unwrap();
        }
    }
    assert_eq!(seen.len(), count, "entries are missing");
    let fresh = fs::read_dir(&dir).unwrap().filter(|e| e.as_ref().unwrap().file_name().as_bytes()[0] == b's').count();
    assert_eq!(fresh, count);
}

fn statfs_has_true_numbers(rig: &Rig) {
    let (ours, brick) = (statvfs(rig.root()).unwrap(), statvfs(rig.cluster[1].dir()).unwrap());
    let times = rig.array.data_bricks() as f64;
    let same = |what: &str, ours: u64, one: u64, tolerance: f64| {
        let (ours, wanted) = (ours as f64, one as f64 * times);
        assert!((ours - wanted).abs() <= wanted * tolerance, "{what}: {ours}, wanted about {wanted}");
    };
    same("total", ours.f_blocks * ours.f_frsize, brick.f_blocks * brick.f_frsize, 0.001);
    same("free", ours.f_bfree * ours.f_frsize, brick.f_bfree * brick.f_frsize, 0.05);
    same("available", ours.f_bavail * ours.f_frsize, brick.f_bavail * brick.f_frsize, 0.05);
    assert!(ours.f_files > 0 && ours.f_ffree > 0 && ours.f_ffree <= brick.f_files, "inodes are not shared out");
    assert_eq!(ours.f_namemax, 255);
}

/// Everything that `stat` says about each name, sorted.
fn inventory(dir: &Path) -> String {
    let script = "find . -mindepth 1 -printf '%P %i %y %m %U %G %s %n %T@ %l\\n' | sort
        getfattr -Rd -m - . 2>/dev/null; getfacl -Rnp . | sed 's/#.*//'; find . -type f | sort | xargs md5sum";
    sh(dir, script)
}

fn inode_numbers_survive_a_remount(rig: &Rig) {
    sh(&rig.root(), "mkdir d; touch d/a b; ln b c; ln -s b l; mkfifo f");
    let inodes = || sh(&rig.root(), "find . -printf '%P %i\\n' | sort");
    let before = inodes();
    rig.client.remount();
    assert_eq!(inodes(), before);
}

fn everything_survives_a_remount(rig: &mut Rig) {
    let script = "mkdir -p a/b; seq 100000 >a/numbers; cp a/numbers a/b/copy; ln a/numbers hard; ln -s a/numbers soft
        mkfifo fifo; mknod null c 1 3; truncate -s 1G sparse; echo end >>sparse; truncate -s 20M sparse
        chown 5:6 a/b/copy; chmod 4750 a/b/copy; touch -d '2001-02-03 04:05:06.789012345' a/b
        setfattr -n user.x -v y a/b/copy; setfacl -m u:9:rwx hard; setfacl -d -m u:8:r a; seq 9 >gone; rm gone";
    sh(&rig.root(), script);
    let before = inventory(&rig.root());
    rig.client.remount();
    assert_eq!(inventory(&rig.root()), before, "after a clean remount");
    rig.client.unmount();
    rig.restart_all();
    rig.client.mount();
    assert_eq!(inventory(&rig.root()), before, "after a restart of every server");
    rig.kill_victims();
    assert_eq!(inventory(&rig.root()), before, "after the loss of {:?}", rig.array.victims());
    rig.client.remount();
    assert_eq!(inventory(&rig.root()), before, "after mounting without {:?}", rig.array.victims());
}
