//! The workloads. Each works in a directory of its own, which it leaves empty or removed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::figures::{Figures, Unit};
use super::machine::{busy, drop_caches, peak_mib};
use super::target::Target;
use crate::fsops::forget;
use crate::pattern::Pattern;
use crate::process::run_ok;
use crate::random::Random;

const MIB: u64 = 1 << 20;
const BLOCK: usize = 4096;
const CHUNK: usize = MIB as usize;
const JOBS: u64 = 4;
const READERS: u64 = 8;
/// No single program may take longer.
const WITHIN: Duration = Duration::from_secs(900);

/// How much is done.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Bytes of a large file.
    pub(super) large: u64,
    /// How long blocks at random places are read, or written.
    pub(super) random: Duration,
    /// Files of one block, and the directories that they are in.
    pub(super) small: usize,
    pub(super) directories: usize,
    /// Names that are made, changed and removed one by one.
    pub(super) names: usize,
}

impl Sizes {
    pub(super) const FULL: Sizes =
        Sizes { large: 1024 * MIB, random: Duration::from_secs(10), small: 2000, directories: 20, names: 500 };
    pub(super) const QUICK: Sizes =
        Sizes { large: 256 * MIB, random: Duration::from_secs(1), small: 500, directories: 10, names: 200 };
}

/// Files on a local disk that programs bring to the target.
pub(super) struct Inputs {
    /// An archive of many small files and some larger ones.
    pub(super) archive: PathBuf,
    /// A repository of git.
    pub(super) repository: PathBuf,
}

/// A target, and where its figures go.
pub(super) struct Bench<'a> {
    pub(super) target: &'a mut dyn Target,
    pub(super) sizes: Sizes,
    pub(super) inputs: &'a Inputs,
    pub(super) figures: &'a mut Figures,
}

/// Middle and slowest hundredth of what operations took, and how many there were in a second.
struct Latencies {
    per_second: f64,
    middle: Duration,
    slow: Duration,
}

impl Latencies {
    fn of(mut times: Vec<Duration>, all: Duration) -> Latencies {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        Latencies { per_second: times.len() as f64 / all.as_secs_f64(), middle: at(50), slow: at(99) }
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn program(name: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) {
    let mut command = Command::new(name);
    arguments.iter().for_each(|argument| {
        command.arg(argument.as_ref());
    });
    run_ok(&mut command, WITHIN);
}

fn write_through(path: &Path, pattern: Pattern, bytes: u64) {
    let mut file = File::create(path).expect("create");
    let chunk = pattern.bytes(0, CHUNK);
    for _ in 0..bytes / MIB {
        file.write_all(&chunk).expect("write");
    }
    file.sync_all().expect("fsync");
}

fn read_through(path: &Path) {
    let (mut file, mut chunk) = (File::open(path).expect("open"), vec![0; CHUNK]);
    while file.read(&mut chunk).expect("read") > 0 {}
}

impl Bench<'_> {
    /// Everything.
    pub(super) fn run(&mut self) {
        self.large_files();
        self.random_blocks();
        self.small_files();
        self.programs();
        self.names();
        self.memory();
    }

    fn put(&mut self, figure: &str, unit: Unit, value: f64) {
        let name = self.target.name();
        self.figures.put(&name, figure, unit, value);
    }

    fn put_rate(&mut self, figure: &str, bytes: u64, took: Duration) {
        self.put(figure, Unit::MegabytesPerSecond, bytes as f64 / 1e6 / took.as_secs_f64());
    }

    fn put_count(&mut self, figure: &str, count: usize, took: Duration) {
        self.put(figure, Unit::PerSecond, count as f64 / took.as_secs_f64());
    }

    fn put_latencies(&mut self, figure: &str, latencies: &Latencies) {
        self.put(figure, Unit::PerSecond, latencies.per_second);
        self.put(&format!("{figure} p50"), Unit::Microseconds, latencies.middle.as_secs_f64() * 1e6);
        self.put(&format!("{figure} p99"), Unit::Microseconds, latencies.slow.as_secs_f64() * 1e6);
    }

    /// Nobody remembers anything.
    fn cool(&mut self) {
        drop_caches();
        self.target.remount();
        drop_caches();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.target.root().join(name)
    }

    fn large_files(&mut self) {
        let (path, bytes) = (self.path("large"), self.sizes.large);
        let gib = bytes as f64 / (1 << 30) as f64;
        let before = busy();
        let took = timed(|| write_through(&path, Pattern::of(1), bytes));
        let cpu = (busy() - before).as_secs_f64() / gib;
        self.put_rate("sequential write, fsync", bytes, took);
        self.put("write, whole machine", Unit::CpuSecondsPerGib, cpu);
        self.cool();
        let before = busy();
        let took = timed(|| read_through(&path));
        let cpu = (busy() - before).as_secs_f64() / gib;
        self.put_rate("sequential read, cold", bytes, took);
        self.put("read, whole machine", Unit::CpuSecondsPerGib, cpu);
        forget(&File::open(&path).expect("open"));
        let took = timed(|| read_through(&path));
        self.put_rate("sequential read, servers warm", bytes, took);
        let each = bytes / JOBS;
        let paths: Vec<PathBuf> = (0..JOBS).map(|job| self.path(&format!("parallel{job}"))).collect();
        let took = timed(|| in_parallel(&paths, |path| write_through(path, Pattern::of(2), each)));
        self.put_rate("4 writers, fsync", bytes, took);
        self.cool();
        let took = timed(|| in_parallel(&paths, read_through));
        self.put_rate("4 readers, cold", bytes, took);
        paths.iter().for_each(|path| fs::remove_file(path).expect("remove"));
    }

    /// Of the large file that is there.
    fn random_blocks(&mut self) {
        let (path, bytes, long) = (self.path("large"), self.sizes.large, self.sizes.random);
        let file = File::options().read(true).write(true).open(&path).expect("open");
        let read = |job: u64| {
            let mut block = vec![0; BLOCK];
            at_random(job, bytes, long, |at| file.read_exact_at(&mut block, at).expect("read"))
        };
        for (figure, jobs) in [("random 4 KiB read", 1), ("random 4 KiB read, 8 jobs", READERS)] {
            forget(&file);
            let begin = Instant::now();
            let times = std::thread::scope(|scope| {
                let jobs: Vec<_> = (0..jobs).map(|job| scope.spawn(move || read(job))).collect();
                jobs.into_iter().flat_map(|job| job.join().expect("no job panics")).collect()
            });
            self.put_latencies(figure, &Latencies::of(times, begin.elapsed()));
        }
        let block = Pattern::of(3).bytes(0, BLOCK);
        let begin = Instant::now();
        let times = at_random(9, bytes / 4, long, |at| file.write_all_at(&block, at).expect("write"));
        // What was written has to be where it is safe.
        file.sync_all().expect("fsync");
        self.put_latencies("random 4 KiB write, buffered", &Latencies::of(times, begin.elapsed()));
        let begin = Instant::now();
        let times = at_random(10, bytes / 4, long, |at| {
            file.write_all_at(&block, at).and_then(|()| file.sync_all()).expect("write and fsync");
        });
        self.put_latencies("random 4 KiB write + fsync", &Latencies::of(times, begin.elapsed()));
        drop(file);
        fs::remove_file(&path).expect("remove");
    }

    fn small_files(&mut self) {
        let Sizes { small, directories, .. } = self.sizes;
        let root = self.path("small");
        let paths: Vec<PathBuf> =
            (0..small).map(|i| root.join(format!("d{:02}", i % directories)).join(format!("f{i:04}"))).collect();
        fs::create_dir(&root).expect("mkdir");
        (0..directories).for_each(|i| fs::create_dir(root.join(format!("d{i:02}"))).expect("mkdir"));
        let block = Pattern::of(4).bytes(0, BLOCK);
        let create = |path: &PathBuf| fs::write(path, &block).expect("create");
        let stat = |path: &PathBuf| {
            fs::symlink_metadata(path).expect("stat");
        };
        let read = |path: &PathBuf| assert_eq!(fs::read(path).expect("read"), block, "{}", path.display());
        let took = timed(|| paths.iter().for_each(create));
        self.put_count("create 4 KiB files", small, took);
        let took = timed(|| paths.iter().for_each(stat));
        self.put_count("stat, warm", small, took);
        self.cool();
        let took = timed(|| paths.iter().for_each(stat));
        self.put_count("stat, cold", small, took);
        self.cool();
        let took = timed(|| paths.iter().for_each(read));
        self.put_count("read small files, cold", small, took);
        let took = timed(|| paths.iter().for_each(read));
        self.put_count("read small files, warm", small, took);
        self.cool();
        let took = timed(|| program("ls", &[&"-lR", &root]));
        self.put("ls -lR, cold", Unit::Seconds, took.as_secs_f64());
        let took = timed(|| paths.iter().for_each(|path| fs::remove_file(path).expect("unlink")));
        self.put_count("unlink", small, took);
        fs::remove_dir_all(&root).expect("remove");
    }

    fn programs(&mut self) {
        let (root, tree, clone) = (self.target.root(), self.path("tree"), self.path("clone"));
        let inputs = self.inputs;
        let took = timed(|| program("tar", &[&"-xf", &inputs.archive, &"-C", &root]));
        self.put("untar", Unit::Seconds, took.as_secs_f64());
        self.cool();
        let took = timed(|| program("sh", &[&"-c", &"tar -cf - -C \"$1\" . | cat >/dev/null", &"sh", &tree]));
        self.put("tar of that, cold", Unit::Seconds, took.as_secs_f64());
        let took = timed(|| program("rm", &[&"-rf", &tree]));
        self.put("rm -rf of it", Unit::Seconds, took.as_secs_f64());
        let took = timed(|| program("git", &[&"clone", &"-q", &"--no-local", &inputs.repository, &clone]));
        self.put("git clone", Unit::Seconds, took.as_secs_f64());
        let took = timed(|| program("git", &[&"-C", &clone, &"status", &"--porcelain"]));
        self.put("git status", Unit::Seconds, took.as_secs_f64());
        fs::remove_dir_all(&clone).expect("remove");
    }

    fn names(&mut self) {
        let (root, count) = (self.path("names"), self.sizes.names);
        fs::create_dir(&root).expect("mkdir");
        let path = |kind: &str, i: usize| root.join(format!("{kind}{i}"));
        let mut each = |figure: &str, step: &dyn Fn(usize)| {
            let took = timed(|| (0..count).for_each(step));
            self.put_count(figure, count, took);
        };
        each("mkdir", &|i| fs::create_dir(path("d", i)).expect("mkdir"));
        each("rmdir", &|i| fs::remove_dir(path("d", i)).expect("rmdir"));
        each("create empty files", &|i| {
            let mut options = File::options();
            drop(options.write(true).create_new(true).mode(0o644).open(path("e", i)).expect("create"));
        });
        each("rename", &|i| fs::rename(path("e", i), path("r", i)).expect("rename"));
        each("chmod", &|i| fs::set_permissions(path("r", i), fs::Permissions::from_mode(0o600)).expect("chmod"));
        fs::remove_dir_all(&root).expect("remove");
    }

    fn memory(&mut self) {
        let most = |pids: Vec<i32>| pids.into_iter().map(peak_mib).fold(0.0, f64::max);
        let (client, server) = (most(self.target.clients()), most(self.target.servers()));
        self.put("memory of the client, peak", Unit::Mebibytes, client);
        if server > 0.0 {
            self.put("memory of a server, peak", Unit::Mebibytes, server);
        }
    }
}

fn in_parallel(paths: &[PathBuf], work: impl Fn(&Path) + Sync) {
    let work = &work;
    std::thread::scope(|scope| paths.iter().for_each(|path| drop(scope.spawn(move || work(path)))));
}

/// Does something at blocks at random places for some time; what each took.
fn at_random(seed: u64, bytes: u64, long: Duration, mut step: impl FnMut(u64)) -> Vec<Duration> {
    let (mut random, begin, mut times) = (Random::new(seed), Instant::now(), Vec::new());
    while times.is_empty() || begin.elapsed() < long {
        let at = random.below(bytes / BLOCK as u64) * BLOCK as u64;
        times.push(timed(|| step(at)));
    }
    times
}
