//! The command line of `net_raid_client`: what it accepts, what it says, when it returns, how it ends.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use net_raid_tests::binaries;
use net_raid_tests::client::{END_WITHIN, TIMEOUT, is_mounted};
use net_raid_tests::deadline::wait_until;
use net_raid_tests::pattern::{Pattern, verify_file, write_range};
use net_raid_tests::process::{Finished, is_alive, kill_group, run, run_ok, sh, wait};
use net_raid_tests::workdir::Workdir;
use net_raid_tests::{Array, Client, Cluster, Health, Rig, Volume, on_every_array, on_every_healthy_array};

const WITHIN: Duration = Duration::from_secs(20);

on_every_array!(umount_ends_the_daemon, sigterm_ends_everything);
on_every_healthy_array!(
    a_dead_mount_is_detached_and_mounted_anew,
    refused_when_too_many_servers_are_missing,
    closed_files_survive_a_killed_client,
);

fn client(arguments: &[&str]) -> Finished {
    run(Command::new(binaries::client()).args(arguments).current_dir("/"), WITHIN)
}

/// Writes `text` as a config, with `{dir}` for the directory of the test, and checks it.
fn check(work: &Workdir, text: &str) -> Finished {
    let config = work.path().join("net_raid.conf");
    let text = text.replace("{dir}", work.path().to_str().expect("plain path"));
    fs::write(&config, text).unwrap();
    client(&["--check", config.to_str().unwrap()])
}

/// A directory with the mountpoints `m1` and `m2`.
fn with_mountpoints() -> Workdir {
    let work = Workdir::new();
    work.make_dir("m1");
    work.make_dir("m2");
    work
}

/// Exit 2, and each of `wanted` somewhere in what was said, lines and decoration apart.
#[track_caller]
fn refused(finished: &Finished, wanted: &[&str]) {
    let said = finished.words();
    assert_eq!(finished.code(), 2, "{said}");
    for words in wanted {
        assert!(said.contains(words), "{words:?} is missing in: {said}");
    }
}

/// The config of the issue, with mountpoints that exist.
const SAMPLE: &str = "errorlog = {dir}/error.log
cache_size = 1024M
cache_replacment = rlu
timeout = 10

diskname = STORAGE1
mountpoint = {dir}/m1
raid = 1
servers = 127.0.0.1:10001, 127.0.0.1:10002
hotswap = 127.0.0.1:11111

diskname = STORAGE2
mountpoint = {dir}/m2
raid = 5
servers = 127.0.0.1:10011, 127.0.0.1:10012, 127.0.0.1:10013
hotswap = 127.0.0.1:22222
";

#[test]
fn help_version_and_usage() {
    let help = client(&["--help"]);
    assert_eq!(help.code(), 0);
    assert!(["--check", "--foreground", "CONFIG"].iter().all(|w| help.stdout.contains(w)), "{}", help.stdout);
    let version = client(&["--version"]);
    assert_eq!(version.code(), 0);
    assert!(version.stdout.starts_with("net_raid_client "), "{}", version.stdout);
    refused(&client(&[]), &[]);
    refused(&client(&["one", "two"]), &["two"]);
    refused(&client(&["--no-such-option"]), &["--no-such-option"]);
    refused(&client(&["/no/such/file"]), &["/no/such/file"]);
}

#[test]
fn the_sample_is_accepted_in_every_spelling() {
    let work = with_mountpoints();
    let blocks = SAMPLE.replace("\n\n", "\n");
    let other = SAMPLE.replace("replacment = rlu", "replacement = lru").replace("1024M", "1G");
    let variants = [
        SAMPLE.to_owned(),
        SAMPLE.replace('\n', "\r\n"),
        blocks,
        other.replace("timeout = 10", "timeout = 3\nstall = 500ms"),
        SAMPLE.replace("timeout = 10", "timeout = 500ms"),
        format!("# a comment\n\n\n{SAMPLE}\n\n  # another\n\n"),
        SAMPLE.trim_end().to_owned(),
        SAMPLE.replace("hotswap = 127.0.0.1:11111\n", ""),
        SAMPLE.replace("127.0.0.1:11111", "[::1]:11111, localhost:11112"),
        SAMPLE.replace("raid = 5", "raid = 6").replace("127.0.0.1:10013", "127.0.0.1:10013, 127.0.0.1:10014"),
        SAMPLE.replace("raid = 5", "raid = 5\ncache_size = 10M\ntimeout = 20\nerrorlog = {dir}/other.log"),
    ];
    for text in variants {
        let finished = check(&work, &text);
        assert_eq!(finished.code(), 0, "{text}\n{}", finished.stderr);
    }
    assert!(!is_mounted(&work.path().join("m1")), "--check mounts nothing");
}

/// Everything that is wrong is said at once, with its line.
#[test]
fn all_errors_of_a_config_are_reported_at_once() {
    let work = with_mountpoints();
    let text = "errorlog = {dir}/error.log
cache_sise = 1024M
timeout = soon

diskname = STORAGE1
mountpoint = {dir}/missing
raid = 4
servers = 127.0.0.1:10001, 127.0.0.1:10001

diskname = STORAGE2
mountpoint = {dir}/m2
mountpoint = {dir}/m1
raid = 6
servers = 127.0.0.1:10001, 127.0.0.1:10012, 127.0.0.1:10013
";
    let finished = check(&work, text);
    let wanted = [
        "net_raid.conf:2",
        "cache_sise",
        "did you mean",
        "cache_size",
        "net_raid.conf:3",
        "timeout = soon",
        "net_raid.conf:6",
        "net_raid.conf:7",
        "raid = 4",
        "net_raid.conf:8",
        "net_raid.conf:12",
        "net_raid.conf:14",
    ];
    refused(&finished, &wanted);
}

#[test]
fn each_mistake_in_a_config_is_refused() {
    let work = with_mountpoints();
    let cases = [
        ("raid = 1\n", "", "raid"),
        ("servers = 127.0.0.1:10001, 127.0.0.1:10002\n", "", "servers"),
        ("mountpoint = {dir}/m1\n", "", "mountpoint"),
        ("127.0.0.1:10012, 127.0.0.1:10013", "127.0.0.1:10012", "RAID-5"),
        ("127.0.0.1:10013", "127.0.0.1:10001", "127.0.0.1:10001"),
        ("127.0.0.1:22222", "127.0.0.1:11111", "127.0.0.1:11111"),
        ("127.0.0.1:22222", "127.0.0.1:10011", "127.0.0.1:10011"),
        ("127.0.0.1:10001", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:10001", "127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:10001", "127.0.0.1:70000", "70000"),
        ("STORAGE2", "STORAGE1", "STORAGE1"),
        ("{dir}/m2", "{dir}/m1", "m1"),
        ("{dir}/m2", "{dir}/m1/inside", "m1/inside"),
        ("{dir}/m2", "{dir}/missing", "missing"),
        ("{dir}/m2", "{dir}/net_raid.conf", "net_raid.conf"),
        ("{dir}/m2", "relative", "relative"),
        ("1024M", "1024X", "1024X"),
        ("1024M", "-1", "-1"),
        ("= rlu", "= fifo", "fifo"),
        ("timeout = 10", "timeout = 10\ntimeout = 11", "timeout"),
        ("timeout = 10", "timeout 10", "timeout 10"),
        ("timeout = 10", "timout = 10", "did you mean"),
        ("raid = 5", "raid = 7", "raid = 7"),
        ("raid = 5", "raid = five", "five"),
    ];
    for (from, to, wanted) in cases {
        refused(&check(&work, &SAMPLE.replace(from, to)), &["net_raid.conf", wanted]);
    }
    let many: Vec<String> = (0..17).map(|i| format!("127.0.0.1:{}", 12_000 + i)).collect();
    let servers = "127.0.0.1:10001, 127.0.0.1:10002";
    refused(&check(&work, &SAMPLE.replace(servers, &many.join(", "))), &["16"]);
}

#[test]
fn mountpoints_that_are_in_use_are_refused() {
    let work = with_mountpoints();
    fs::write(work.path().join("m1/file"), "in the way").unwrap();
    refused(&check(&work, SAMPLE), &["m1", "empty"]);
    fs::remove_file(work.path().join("m1/file")).unwrap();
    run_ok(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(work.path().join("m2")), WITHIN);
    refused(&check(&work, SAMPLE), &["m2", "mounted"]);
}

#[test]
fn a_bad_config_mounts_nothing() {
    let cluster = Cluster::start(2);
    let client = Client::new(cluster.path(), "c", &[Volume::new(&cluster, "V", Array::RAID1, 0)]);
    let good = fs::read_to_string(client.config()).unwrap();
    client.rewrite(&format!("{good}\ndiskname = BAD\n"));
    refused(&client.try_mount(), &["BAD"]);
    assert!(!is_mounted(&cluster.path().join("V")));
}

fn umount_ends_the_daemon(rig: &Rig) {
    fs::write(rig.path("file"), "x").unwrap();
    rig.client.remount();
    assert_eq!(fs::read(rig.path("file")).unwrap(), b"x");
    rig.client.unmount();
    assert!(!rig.path("file").exists());
}

fn sigterm_ends_everything(rig: &Rig) {
    fs::write(rig.path("file"), "x").unwrap();
    assert!(rig.client.terminate(), "the daemon or its mount is still there");
    rig.client.mount();
    assert_eq!(fs::read(rig.path("file")).unwrap(), b"x");
}

fn a_dead_mount_is_detached_and_mounted_anew(rig: &Rig) {
    fs::write(rig.path("file"), "x").unwrap();
    for _ in 0..2 {
        rig.client.kill9();
        assert!(fs::read(rig.path("file")).is_err(), "a dead mount");
        rig.client.mount();
        assert_eq!(fs::read(rig.path("file")).unwrap(), b"x");
    }
    rig.client.unmount();
    assert!(!is_mounted(&rig.root()), "no dead mount is left below");
}

fn refused_when_too_many_servers_are_missing(rig: &mut Rig) {
    rig.client.unmount();
    let missing: Vec<usize> = (0..=rig.array.losses()).collect();
    rig.cluster.kill9(&missing);
    let finished = rig.client.try_mount();
    assert_eq!(finished.code(), 1, "{}", finished.words());
    for &i in &missing {
        assert!(finished.words().contains(&rig.cluster[i].address()), "{}", finished.words());
    }
    assert!(finished.words().contains("VOLUME") && !is_mounted(&rig.root()));
    rig.cluster.restart(&missing);
    rig.client.mount();
}

/// A file whose close(2) is looked at, which dropping it does not do.
fn write_and_close(path: &Path, pattern: Pattern) -> bool {
    let Ok(file) = fs::File::create_new(path) else { return false };
    write_range(&file, pattern, 0, 300_000).is_ok() && nix::unistd::close(file).is_ok()
}

/// Whole files, one after the other, until something fails; returns how many were closed.
fn write_files(dir: &Path) -> u16 {
    let one = |number: &u16| write_and_close(&dir.join(format!("f{number}")), Pattern::of(*number));
    (0..2000).take_while(one).count() as u16
}

/// Runs `disturb` while files are written, and returns how many were closed.
fn while_writing(rig: &Rig, disturb: impl FnOnce()) -> u16 {
    // A directory of the volume, which goes with the mount.
    let dir = rig.path("dir");
    fs::create_dir(&dir).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_files(&dir));
        wait_until("files are written", WITHIN, || dir.join("f5").exists());
        disturb();
        writer.join().expect("the writer")
    })
}

fn verify_files(rig: &Rig, count: u16) {
    assert!(count >= 5, "{count} files");
    for number in 0..count {
        verify_file(&rig.path(&format!("dir/f{number}")), Pattern::of(number), 300_000).unwrap();
    }
}

/// P2: what was closed is whole after kill -9 of the client in the middle of writes.
fn closed_files_survive_a_killed_client(rig: &mut Rig) {
    let closed = while_writing(rig, || rig.client.kill9());
    rig.client.mount();
    verify_files(rig, closed);
    fs::write(rig.path("new"), "x").unwrap();
    rig.client.remount();
    verify_files(rig, closed);
}

#[test]
fn sigterm_while_a_program_writes_keeps_what_was_closed() {
    Rig::run(Array::RAID6, Health::Healthy, |rig| {
        let closed = while_writing(rig, || assert!(rig.client.terminate(), "the daemon or its mount is still there"));
        rig.client.mount();
        verify_files(rig, closed);
    });
}

#[test]
fn a_busy_mount_is_not_unmounted_and_goes_on() {
    Rig::run(Array::RAID5, Health::Healthy, |rig| {
        let file = fs::File::create(rig.path("file")).unwrap();
        let umount = run(Command::new("umount").arg(rig.root()), WITHIN);
        assert_ne!(umount.code(), 0);
        assert!(umount.words().contains("busy"), "{}", umount.words());
        fs::write(rig.path("file"), "x").unwrap();
        drop(file);
        rig.client.remount();
        assert_eq!(fs::read(rig.path("file")).unwrap(), b"x");
    });
}

/// Two volumes; one cannot be assembled. The other is mounted all the same.
#[test]
fn a_volume_that_cannot_be_assembled_does_not_hold_up_the_others() {
    let mut cluster = Cluster::start(5);
    let volumes = [Volume::new(&cluster, "GOOD", Array::RAID1, 0), Volume::new(&cluster, "BROKEN", Array::RAID5, 2)];
    let client = Client::new(cluster.path(), "c", &volumes);
    client.mount();
    fs::write(cluster.path().join("GOOD/file"), "x").unwrap();
    client.unmount();
    cluster.kill9(&[2, 4]);
    let finished = client.try_mount();
    assert_eq!(finished.code(), 1, "{}", finished.words());
    let said = finished.words();
    assert!([2, 4].iter().all(|&i| said.contains(&cluster[i].address())) && said.contains("BROKEN"), "{said}");
    assert_eq!(fs::read(cluster.path().join("GOOD/file")).unwrap(), b"x");
    assert!(!is_mounted(&cluster.path().join("BROKEN")));
    let pid = client.pid();
    sh(cluster.path(), "umount GOOD");
    wait_until("the daemon ends with its last volume", END_WITHIN, || !is_alive(pid));
}

/// Volumes form by themselves only when every brick is empty.
#[test]
fn a_volume_is_not_formed_over_data_or_with_a_server_missing() {
    let mut cluster = Cluster::start(3);
    let client = Client::new(cluster.path(), "c", &[Volume::new(&cluster, "V", Array::RAID5, 0)]);
    cluster[2].kill9();
    let finished = client.try_mount();
    assert_eq!(finished.code(), 1, "{}", finished.words());
    assert!(finished.words().contains(&cluster[2].address()), "{}", finished.words());
    cluster[2].start();
    client.mount();
    client.unmount();

    // An unmounted disk: the directory of one member is suddenly empty.
    cluster[1].kill9();
    let dir = cluster[1].dir().to_owned();
    fs::rename(&dir, dir.with_extension("away")).unwrap();
    fs::create_dir(&dir).unwrap();
    cluster[1].start();
    client.mount();
    fs::write(cluster.path().join("V/file"), "x").unwrap();
    client.unmount();
    assert!(!dir.join("file").exists(), "an empty directory where a member should be was filled");
}

#[test]
fn several_volumes_are_one_daemon() {
    let cluster = Cluster::start(5);
    let volumes = [Volume::new(&cluster, "ONE", Array::RAID1, 0), Volume::new(&cluster, "TWO", Array::RAID5, 2)];
    let client = Client::new(cluster.path(), "c", &volumes);
    client.mount();
    fs::write(cluster.path().join("TWO/file"), "x").unwrap();
    sh(cluster.path(), "fusermount3 -u ONE");
    assert_eq!(fs::read(cluster.path().join("TWO/file")).unwrap(), b"x", "the other volume goes on");
    assert!(is_alive(client.pid()));
    let pid = client.pid();
    sh(cluster.path(), "umount TWO");
    wait_until("the daemon ends with its last volume", END_WITHIN, || !is_alive(pid));
    assert_eq!(client.errorlog().matching(&["ONE", "connected"]).len(), 2, "{}", client.errorlog().text());
}

#[test]
fn foreground_stays_until_it_is_told_to_end() {
    let cluster = Cluster::start(2);
    let client = Client::new(cluster.path(), "c", &[Volume::new(&cluster, "V", Array::RAID1, 0)]);
    let mut command = client.command();
    let mut child = command.arg("--foreground").spawn().unwrap();
    wait_until("it mounts", WITHIN, || is_mounted(&cluster.path().join("V")));
    fs::write(cluster.path().join("V/file"), "x").unwrap();
    assert!(child.try_wait().unwrap().is_none(), "it returned");
    sh(cluster.path(), "umount V");
    let status = wait(&mut child, END_WITHIN);
    kill_group(&mut child);
    assert!(status.is_some_and(|s| s.success()), "{status:?}");
}

/// Two clients never both write a volume.
#[test]
fn a_second_mount_is_refused() {
    let cluster = Cluster::start(3);
    let volume = Volume::new(&cluster, "V", Array::RAID5, 0);
    let first = Client::new(cluster.path(), "first", std::slice::from_ref(&volume));
    first.mount();
    let elsewhere = Volume { mountpoint: cluster.path().join("other"), ..volume };
    fs::create_dir(&elsewhere.mountpoint).unwrap();
    let second = Client::new(cluster.path(), "second", &[elsewhere]);
    let finished = second.try_mount();
    let said = finished.words();
    assert_eq!(finished.code(), 1, "{said}");
    let host = sh(cluster.path(), "hostname");
    assert!(said.contains(&format!("in use by process {} on {}", first.pid(), host.trim())), "{said}");
    assert!(said.contains("last heard of") && said.contains(" ms ago"), "{said}");
    assert!(!is_mounted(&cluster.path().join("other")));
    fs::write(cluster.path().join("V/file"), "x").unwrap();
}

#[test]
fn the_errorlog_tells_the_start() {
    let mut cluster = Cluster::start(3);
    cluster.add(None).start();
    let mut volume = Volume::new(&cluster, "V", Array::RAID5, 0);
    volume.spares = vec![cluster[3].address(), "127.0.0.1:9".into()];
    let client = Client::new(cluster.path(), "c", &[volume]);
    client.mount();
    for brick in &cluster[..3] {
        client.errorlog().expect(&["V", "connected", &brick.address()], TIMEOUT);
    }
    client.errorlog().expect(&["V", "spare", "connected", &cluster[3].address()], TIMEOUT);
    client.errorlog().expect(&["V", "spare", "not reachable", "127.0.0.1:9"], 2 * TIMEOUT);
    let year = |line: &str| line.trim_start().starts_with("20") || line.contains(" 20");
    assert!(client.errorlog().text().lines().all(year), "each line has its time:\n{}", client.errorlog().text());
}

#[test]
fn the_configs_of_the_project_are_good() {
    let dir = net_raid_tests::places::workspace().join("configs");
    let is_config = |path: &Path| path.extension().is_some_and(|e| e == "conf");
    let configs: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| is_config(p)).collect();
    assert!(!configs.is_empty(), "there are none");
    for config in configs {
        let work = Workdir::new();
        let text = fs::read_to_string(&config).unwrap();
        let relocate = |line: &str| match line.split_once('=') {
            Some((key, path)) if key.trim() == "mountpoint" => {
                let path = work.path().join(path.trim().replace('/', "_"));
                fs::create_dir(&path).unwrap();
                format!("mountpoint = {}\n", path.display())
            }
            Some((key, _)) if key.trim() == "errorlog" => "errorlog = {dir}/error.log\n".into(),
            _ => format!("{line}\n"),
        };
        let finished = check(&work, &text.lines().map(relocate).collect::<String>());
        assert_eq!(finished.code(), 0, "{}: {}", config.display(), finished.stderr);
    }
}
