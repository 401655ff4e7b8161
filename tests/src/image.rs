//! A small disk: an ext4 file system in a file, mounted through a loop device.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::deadline::reached;
use crate::process::{run, run_ok};

const WITHIN: Duration = Duration::from_secs(30);

/// A mounted image. A test program that is killed leaves a mount in its directory, which goes with everything else there.
#[derive(Debug)]
pub struct Image {
    file: PathBuf,
    mountpoint: PathBuf,
}

impl Image {
    /// A new file system of `bytes` in the file `dir/name.img`, mounted on the new directory `dir/name`.
    ///
    /// # Panics
    /// When it cannot be made or mounted, because the caller is not root for example.
    pub fn mount(dir: &Path, name: &str, bytes: u64) -> Image {
        let image = Image { file: dir.join(format!("{name}.img")), mountpoint: dir.join(name) };
        File::create_new(&image.file).and_then(|file| file.set_len(bytes)).expect("create an image");
        fs::create_dir(&image.mountpoint).expect("create a mountpoint");
        // Nothing is kept back for root: a server of root's fills it as one of an ordinary user does.
        run_ok(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-m", "0"]).arg(&image.file), WITHIN);
        // The loop device goes with the mount.
        run_ok(Command::new("mount").args(["-o", "loop"]).arg(&image.file).arg(&image.mountpoint), WITHIN);
        image
    }

    /// Where the file system is.
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// Leaves no byte free.
    ///
    /// # Panics
    /// When the file system did not get full.
    pub fn fill(&self) {
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "bs=1M", "conv=fsync"]).arg(format!("of={}", self.ballast().display()));
        let finished = run(&mut dd, WITHIN);
        assert!(finished.stderr.contains("No space left"), "{}", finished.words());
    }

    /// Takes away what [`Image::fill`] wrote.
    pub fn relieve(&self) {
        fs::remove_file(self.ballast()).expect("remove the ballast");
    }

    fn ballast(&self) -> PathBuf {
        self.mountpoint.join("ballast")
    }

    /// The loop devices on the image, one line each.
    pub fn loop_devices(file: &Path) -> String {
        run_ok(Command::new("losetup").arg("-j").arg(file), WITHIN)
    }

    /// The file that the image is in.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Servers that were just killed may hold it a moment longer; whoever does that longer loses it to `end_all`.
        let unmounted = || run(Command::new("umount").arg(&self.mountpoint), WITHIN).code() == 0;
        if !reached(Duration::from_secs(5), unmounted) {
            eprintln!("{} is busy", self.mountpoint.display());
        }
    }
}
