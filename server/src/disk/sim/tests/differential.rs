//! The same random calls on a simulated disk and on the file system of this machine.

use net_raid_proto::ids::Timestamp;
use net_raid_proto::message::Kind;

use super::*;
use crate::disk::{RealDisk, RealHandle, RenameMode, ShortWrite, Stat};

/// A call with everything that it says, so that two disks can be compared.
struct Pair {
    real: RealDisk,
    sim: SimDisk,
    /// Open objects on both, and whether they are directories.
    open: Vec<(RealHandle, SimHandle)>,
    random: Random,
}

/// What counts of an answer: the value or the errno.
fn outcome<T>(result: io::Result<T>) -> Result<T, i32> {
    result.map_err(|error| error.raw_os_error().unwrap_or(-1))
}

/// The comparison was the point.
fn ignore<T>(_: T) {}

/// Both answers, which must be the same.
macro_rules! both {
    ($pair:expr, $disk:ident, $handle:ident = $index:expr, $call:expr) => {{
        let real = {
            let ($disk, $handle) = (&$pair.real, &$pair.open[$index].0);
            outcome($call)
        };
        let sim = {
            let ($disk, $handle) = (&$pair.sim, &$pair.open[$index].1);
            outcome($call)
        };
        assert_eq!(real, sim, "{}", stringify!($call));
        real
    }};
    ($pair:expr, $disk:ident, $one:ident = $first:expr, $other:ident = $second:expr, $call:expr) => {{
        let real = {
            let ($disk, $one, $other) = (&$pair.real, &$pair.open[$first].0, &$pair.open[$second].0);
            outcome($call)
        };
        let sim = {
            let ($disk, $one, $other) = (&$pair.sim, &$pair.open[$first].1, &$pair.open[$second].1);
            outcome($call)
        };
        assert_eq!(real, sim, "{}", stringify!($call));
    }};
}

/// What two file systems agree on: not the time of a change, the size of a directory, and where blocks are kept in reserve.
fn comparable(stat: Stat) -> Stat {
    let zero = Timestamp { secs: 0, nanos: 0 };
    let size = if stat.kind == Kind::Directory { 0 } else { stat.size };
    Stat { size, blocks: 0, atime: zero, mtime: zero, ..stat }
}

impl Pair {
    fn pick(&mut self) -> usize {
        self.random.below(self.open.len() as u64) as usize
    }

    fn name(&mut self) -> Name {
        name(["a", "b", "c", "d", "e"][self.random.below(5) as usize])
    }

    fn offset(&mut self) -> u64 {
        let block = BLOCK as u64 * self.random.below(12);
        if self.random.chance(4) { block } else { block + self.random.below(BLOCK as u64) }
    }

    fn open(&mut self) {
        let (at, path) = (self.pick(), [self.name(), self.name()]);
        let path = &[&path[0], &path[1]][..self.random.below(3) as usize];
        let (real, sim) = (self.real.open(&self.open[at].0, path), self.sim.open(&self.open[at].1, path));
        match (outcome(real), outcome(sim)) {
            (Ok((real, real_stat)), Ok((sim, sim_stat))) => {
                assert_eq!(comparable(real_stat), comparable(sim_stat));
                self.open.push((real, sim));
                if self.open.len() > 12 {
                    drop(self.open.remove(1));
                }
            }
            (real, sim) => assert_eq!(real.map(|_| ()), sim.map(|_| ())),
        }
    }

    fn names(&mut self) {
        let (at, to, one, other) = (self.pick(), self.pick(), self.name(), self.name());
        let (one, other) = (&one, &other);
        match self.random.below(10) {
            0 | 1 => ignore(both!(self, disk, dir = at, disk.create(dir, one, 0o4640).map(drop))),
            2 | 3 => ignore(both!(self, disk, dir = at, disk.mkdir(dir, one, 0o750))),
            4 => ignore(both!(self, disk, dir = at, disk.symlink(dir, one, b"some/where"))),
            5 => ignore(both!(self, disk, dir = at, disk.mknod(dir, one, &Kind::Fifo, 0o600))),
            6 => ignore(both!(self, disk, dir = at, disk.unlink(dir, one))),
            7 => ignore(both!(self, disk, dir = at, disk.rmdir(dir, one))),
            8 => both!(self, disk, dir = at, new = to, disk.link(dir, one, new, other)),
            _ => {
                let modes = [RenameMode::Replace, RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange];
                let mode = modes[self.random.below(4) as usize];
                both!(self, disk, dir = at, new = to, disk.rename(dir, one, new, other, mode));
            }
        }
    }

    fn data(&mut self) {
        let (at, offset, len) = (self.pick(), self.offset(), self.offset() + 1);
        let data = vec![self.random.below(255) as u8 + 1; len as usize];
        let keep = self.random.chance(4);
        match self.random.below(8) {
            0..=2 => {
                let written = |short: ShortWrite| short.source;
                ignore(both!(self, disk, file = at, disk.write_at(file, &data, offset).map_err(written)));
            }
            3 => ignore(both!(self, disk, file = at, disk.truncate(file, offset))),
            4 => ignore(both!(self, disk, file = at, disk.punch(file, offset, len))),
            5 => ignore(both!(self, disk, file = at, disk.allocate(file, offset, len, keep))),
            6 => ignore(both!(self, disk, file = at, disk.sync_data(file).or_else(ignore_special))),
            _ => self.compare(at),
        }
    }

    fn attributes(&mut self) {
        let (at, value) = (self.pick(), self.random.below(100));
        let attr = ["user.a", "user.b", "trusted.a", "odd.a"][self.random.below(4) as usize].as_bytes();
        let mode = [XattrMode::Any, XattrMode::Create, XattrMode::Replace][self.random.below(3) as usize];
        match self.random.below(6) {
            0 | 1 => ignore(both!(self, disk, object = at, disk.set_xattr(object, attr, &[7; 30], mode))),
            2 => ignore(both!(self, disk, object = at, disk.remove_xattr(object, attr))),
            3 => ignore(both!(self, disk, object = at, disk.set_owner(object, Some(value as u32), None))),
            4 => ignore(both!(self, disk, object = at, disk.set_mode(object, 0o6000 | value as u32 & 0o777))),
            _ => {
                let time = Some(Timestamp { secs: value as i64, nanos: 7 });
                let times = both!(self, disk, object = at, {
                    disk.set_times(object, time, time)
                        .and_then(|()| disk.stat(object))
                        .map(|stat| (stat.atime, stat.mtime))
                });
                assert_eq!(times.map(|(atime, mtime)| (Some(atime), Some(mtime))), Ok((time, time)));
            }
        }
        ignore(both!(self, disk, object = at, disk.get_xattr(object, attr)));
        ignore(both!(self, disk, object = at, disk.list_xattr(object).map(sorted)));
    }

    fn compare(&mut self, at: usize) {
        let offset = self.offset();
        let stat = both!(self, disk, object = at, disk.stat(object).map(comparable));
        let directory = stat.is_ok_and(|stat| stat.kind == Kind::Directory);
        ignore(both!(self, disk, file = at, {
            let mut out = Vec::new();
            disk.read_at(file, &mut out, 1 << 20, offset).map(|len| (len, out))
        }));
        if directory {
            ignore(both!(self, disk, dir = at, list(disk, dir)));
        } else {
            self.compare_data(at, offset);
            ignore(both!(self, disk, link = at, disk.read_link(link)));
        }
    }
}

impl Pair {
    /// ext4 writes zeros into a reserved block that is cut in its middle, so it may see data earlier.
    fn compare_data(&mut self, at: usize, offset: u64) {
        let real = outcome(self.real.next_data(&self.open[at].0, offset));
        match (real, outcome(self.sim.next_data(&self.open[at].1, offset))) {
            (Ok(Some((real, _))), Ok(Some((sim, _)))) => assert!(real <= sim),
            (Ok(_), Ok(None)) => {}
            (real, sim) => assert_eq!(real, sim),
        }
    }
}

/// Handles without data cannot be synced on a real disk.
fn ignore_special(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::EBADF) { Ok(()) } else { Err(error) }
}

fn sorted(names: Vec<u8>) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = names.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    names.sort();
    names
}

fn list<D: Disk>(disk: &D, dir: &D::Handle) -> io::Result<Vec<(Name, Stat)>> {
    let (mut found, mut cursor) = (Vec::new(), 0);
    loop {
        let page = disk.read_dir(dir, cursor)?;
        let Some(last) = page.last() else { break };
        cursor = last.next;
        for item in page {
            let stat = disk.stat_at(dir, &item.name)?;
            found.push((item.name, comparable(stat)));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

#[test]
fn random_calls_have_the_results_of_a_real_file_system() {
    // Owners and trusted attributes are for root, and the allocation of blocks is that of ext4.
    let ext4 = rustix::fs::statfs("/var/tmp").is_ok_and(|fs| fs.f_type as u64 == 0xef53);
    if !rustix::process::geteuid().is_root() || !ext4 {
        return;
    }
    for seed in 0..12 {
        println!("seed {seed}");
        let dir = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let (real, sim) = (RealDisk::open(dir.path()).expect("opens"), disk());
        let roots = (real.root().expect("root"), sim.root().expect("root"));
        sim.set_mode(&roots.1, real.stat(&roots.0).expect("stat").mode).expect("set");
        let mut pair = Pair { real, sim, open: vec![roots], random: Random::new(seed) };
        for _ in 0..600 {
            match pair.random.below(8) {
                0 | 1 => pair.open(),
                2..=4 => pair.names(),
                5 | 6 => pair.data(),
                _ => pair.attributes(),
            }
        }
        (0..pair.open.len()).for_each(|at| pair.compare(at));
    }
}
