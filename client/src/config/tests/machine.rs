//! Mountpoints on real directories, with a mount table and dead mounts of our own.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;

use super::super::mounts::{Machine, Mount, ThisMachine, check_on, parse_mountinfo};
use super::*;

/// This machine, but for a mount table and a path below which a daemon has died.
struct Staged {
    mountinfo: String,
    dead: Option<PathBuf>,
    /// The kernel still has the attributes of what is dead.
    cached: bool,
}

impl Staged {
    fn new() -> Self {
        Self { mountinfo: String::new(), dead: None, cached: false }
    }

    fn mount(mut self, path: &Path, fs_type: &str) -> Self {
        let point = path.display().to_string().replace(' ', "\\040");
        self.mountinfo += &format!("50 24 0:42 / {point} rw,nosuid shared:7 master:1 - {fs_type} src rw\n");
        self
    }

    fn dead(mut self, path: &Path) -> Self {
        self.dead = Some(path.to_owned());
        self
    }

    fn pass(&self, path: &Path) -> io::Result<()> {
        if self.dead.as_ref().is_some_and(|dead| path.starts_with(dead)) {
            return Err(io::Error::from_raw_os_error(nix::errno::Errno::ENOTCONN as i32));
        }
        Ok(())
    }
}

impl Machine for Staged {
    fn mountinfo(&self) -> io::Result<Vec<u8>> {
        Ok(self.mountinfo.clone().into_bytes())
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        if !self.cached {
            self.pass(path)?;
        }
        ThisMachine.is_dir(path)
    }

    fn is_empty(&self, path: &Path) -> io::Result<bool> {
        self.pass(path)?;
        ThisMachine.is_empty(path)
    }

    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        if !self.cached {
            self.pass(path)?;
        }
        ThisMachine.real_path(path)
    }
}

/// A directory with the empty directories `a`, `b` and `my files` in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["a", "b", "my files"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        // The table of mounts has real paths.
        self.0.path().canonicalize().expect("a real path").join(name)
    }

    /// Checks the messages for volumes mounted on these paths; `DIR` stands for the place.
    #[track_caller]
    fn check(&self, machine: &Staged, mountpoints: &[&str], messages: &[&str]) {
        let dir = self.path("").display().to_string();
        let dir = dir.trim_end_matches('/');
        let mut text = "raid = 1\n".to_owned();
        for (index, mountpoint) in mountpoints.iter().enumerate() {
            let mountpoint = mountpoint.replace("DIR", dir);
            text += &format!("diskname = V{index}\nmountpoint = {mountpoint}\nservers = v{index}:1, v{index}:2\n");
        }
        let path = Path::new("f");
        let found = check_on(machine, path, &text).err().map(|errors| errors.to_string());
        let expected: Vec<String> =
            messages.iter().map(|message| format!("f:{}", message.replace("DIR", dir))).collect();
        assert_eq!(found.unwrap_or_default(), expected.join("\n"));
    }
}

#[test]
fn empty_directories_are_fine() {
    let place = Place::new();
    symlink(place.path("b"), place.path("link")).expect("a symlink");
    place.check(&Staged::new(), &["DIR/a", "DIR/link", "DIR/my files"], &[]);
}

#[test]
fn what_is_no_empty_directory() {
    let place = Place::new();
    fs::write(place.path("file"), "").expect("a file");
    fs::write(place.path("b/file"), "").expect("a file");
    place.check(
        &Staged::new(),
        &["DIR/no", "DIR/file", "DIR/file/x", "DIR/b", "a"],
        &[
            "3: the mountpoint does not exist: `mountpoint = DIR/no`; create it: `mkdir -p DIR/no`",
            "6: the mountpoint is not a directory: `mountpoint = DIR/file`; name an empty directory",
            "9: a part of the mountpoint's path is not a directory: `mountpoint = DIR/file/x`; name an empty directory",
            "9: the mountpoint is inside that of volume `V1`: `mountpoint = DIR/file/x`; line 6 has `DIR/file`",
            "12: the mountpoint is not empty: `mountpoint = DIR/b`; name an empty directory: a mount would hide the files",
            "15: the path is not absolute: `mountpoint = a`; begin it with `/`",
        ],
    );
}

#[test]
fn commands_can_be_pasted() {
    Place::new().check(
        &Staged::new(),
        &["DIR/it's mine"],
        &["3: the mountpoint does not exist: `mountpoint = DIR/it's mine`; create it: `mkdir -p 'DIR/it'\\''s mine'`"],
    );
}

#[test]
fn mountpoints_inside_each_other() {
    let place = Place::new();
    symlink(place.path("a"), place.path("link")).expect("a symlink");
    place.check(
        &Staged::new(),
        &["DIR/b/../a/x", "DIR/link", "DIR/a", "DIR/ab"],
        &[
            "3: the mountpoint does not exist: `mountpoint = DIR/b/../a/x`; create it: `mkdir -p DIR/b/../a/x`",
            "9: the mountpoint is the same directory as that of volume `V1`: `mountpoint = DIR/a`; line 6 has `DIR/a`",
            "12: the mountpoint does not exist: `mountpoint = DIR/ab`; create it: `mkdir -p DIR/ab`",
        ],
    );
    fs::create_dir(place.path("a/x")).expect("a directory");
    place.check(
        &Staged::new(),
        &["DIR/link/x", "DIR/a"],
        &[
            "3: the mountpoint is inside that of volume `V1`: `mountpoint = DIR/link/x`; line 6 has `DIR/a`",
            "6: the mountpoint is not empty: `mountpoint = DIR/a`; name an empty directory: a mount would hide the files",
        ],
    );
}

#[test]
fn what_is_mounted_already() {
    let place = Place::new();
    symlink(place.path("my files"), place.path("link")).expect("a symlink");
    let machine = Staged::new().mount(&place.path("a"), "ext4").mount(&place.path("my files"), "fuse.net_raid");
    place.check(
        &machine,
        &["DIR/b", "DIR/a", "DIR/link"],
        &[
            "6: ext4 is already mounted there: `mountpoint = DIR/a`; unmount it: `umount DIR/a`",
            "9: fuse.net_raid is already mounted there: `mountpoint = DIR/link`; unmount it: `umount DIR/link`",
        ],
    );
}

#[test]
fn what_a_dead_daemon_left_is_fine_but_not_what_is_below_it() {
    let place = Place::new();
    let machine = || Staged::new().dead(&place.path("a"));
    place.check(&machine().mount(&place.path("a"), "fuse.net_raid"), &["DIR/a", "DIR/b"], &[]);
    place.check(
        &machine().mount(&place.path("a"), "fuse.net_raid"),
        &["DIR/a/x"],
        &["3: the mountpoint lies on a mount whose daemon is dead: `mountpoint = DIR/a/x`; unmount that first"],
    );
    let cached = Staged { cached: true, ..machine().mount(&place.path("a"), "fuse.net_raid") };
    place.check(&cached, &["DIR/a", "DIR/b"], &[]);
    // A network file system can say ENOTCONN as well, and is not ours to detach.
    place.check(
        &machine().mount(&place.path("a"), "nfs4"),
        &["DIR/a"],
        &["3: the mountpoint lies on a mount whose daemon is dead: `mountpoint = DIR/a`; unmount that first"],
    );
}

#[test]
fn the_real_machine_has_its_root_mounted() {
    let text = VOLUME.replace("/mnt/a", "/");
    let errors = check_mountpoints(Path::new("f"), &text).expect_err("the root is mounted");
    let errors = errors.to_string();
    assert!(errors.contains("is already mounted there: `mountpoint = /`; unmount it"), "{errors}");
}

#[test]
fn the_mount_table_is_read_with_its_escapes() {
    let table = b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        36 35 98:0 /mnt1 /mnt/a\\040b\\011\\134\\012\\303\\266 rw,noatime master:1 shared:2 - fuse.x src rw\n\
        40 35 0:5 / /mnt/\\9\\04 rw - tmpfs - rw\n\
        not a line\n\
        1 2 3 4 /mnt/cut rw -";
    let mount = |point: &str, fs_type: &str| Mount { point: point.into(), fs_type: fs_type.into() };
    let expected = [mount("/", "ext4"), mount("/mnt/a b\t\\\nö", "fuse.x"), mount("/mnt/\\9\\04", "tmpfs")];
    assert_eq!(parse_mountinfo(table), expected);
}
