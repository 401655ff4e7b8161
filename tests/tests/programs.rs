//! Programs that people use, on the mount, healthy and degraded.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use net_raid_tests::fsops::{forget, seek_data};
use net_raid_tests::pattern::{Pattern, verify_range, write_range};
use net_raid_tests::places::{long_run, workspace};
use net_raid_tests::process::{kill_group, run_ok, shell};
use net_raid_tests::{Array, Health, Rig, on_every_healthy_array, on_every_level};

on_every_level!(within 900; git, sqlite_survives_kill_9, tar_and_diff, rsync_there_and_back, cargo_build);
on_every_healthy_array!(a_file_at_8_tib);

const WITHIN: Duration = Duration::from_secs(600);
const GIB: u64 = 1 << 30;

/// Runs a line of shell in the volume.
#[track_caller]
fn sh(rig: &Rig, script: &str) -> String {
    let mut command = shell(&rig.root(), script);
    command.env("WORK", rig.cluster.path()).env("GIT_CONFIG_GLOBAL", "/dev/null");
    run_ok(&mut command, WITHIN)
}

/// A repository with some history, on the local disk: the sources of this project.
const MAKE_REPOSITORY: &str = "git init -q $WORK/origin; cd $WORK/origin
    git config user.name test; git config user.email test@localhost
    for dir in proto raid server client tests; do
        cp -r $SOURCES/$dir .; rm -rf $dir/target; find $dir -type d -empty -delete; git add .; git commit -qm $dir
        for i in $(seq $COMMITS); do echo $i >>$dir/counter; git add .; git commit -qm \"$dir $i\"; done
    done";

fn git(rig: &Rig) {
    let mut make = shell(rig.cluster.path(), MAKE_REPOSITORY);
    make.env("WORK", rig.cluster.path()).env("SOURCES", workspace()).env("GIT_CONFIG_GLOBAL", "/dev/null");
    run_ok(make.env("COMMITS", if long_run() { "20" } else { "4" }), WITHIN);
    let script = "git clone -q file://$WORK/origin clone; cd clone
        git config user.name test; git config user.email test@localhost
        diff -r --exclude=.git . $WORK/origin
        git checkout -qb branch HEAD~12; echo change >>proto/counter; git commit -qam change
        git rebase -q --onto HEAD~1 HEAD~1; git checkout -q -; git gc -q --aggressive --prune=now
        git fsck --full --strict; git status --porcelain | (! grep .)";
    sh(rig, script);
}

/// sqlite is killed with -9 among its transactions: each that it acknowledged is there.
fn sqlite_survives_kill_9(rig: &Rig) {
    let transactions = if long_run() { 150 } else { 50 };
    for round in 0..2 {
        let acknowledged = insert_until_killed(&rig.root(), transactions);
        assert_eq!(sh(rig, "sqlite3 db 'pragma integrity_check'").trim(), "ok");
        let rows: u64 = sh(rig, "sqlite3 db 'select count(*) from t'").trim().parse().unwrap();
        assert!(rows >= acknowledged * (round + 1), "{rows} rows, {acknowledged} more were acknowledged");
    }
}

/// Lets sqlite insert rows, one transaction each, kills it when it has acknowledged `wanted`, and
/// returns how many it had.
fn insert_until_killed(dir: &Path, wanted: u64) -> u64 {
    let mut command = Command::new("sqlite3");
    command.arg("-batch").arg("db").current_dir(dir).process_group(0);
    let mut sqlite = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run sqlite3");
    let mut input = sqlite.stdin.take().expect("a pipe");
    let feed = std::thread::spawn(move || {
        let insert = "insert into t(b) values(randomblob(3000)); select 'done';\n";
        let _ = input.write_all(b"create table if not exists t(a integer primary key, b);\n");
        // Ends when sqlite does, and breaks the pipe.
        while input.write_all(insert.as_bytes()).is_ok() {}
    });
    let lines = BufReader::new(sqlite.stdout.take().expect("a pipe")).lines();
    let acknowledged = lines.take(wanted as usize).filter(|line| line.as_ref().is_ok_and(|l| l == "done")).count();
    kill_group(&mut sqlite);
    feed.join().expect("the feeder");
    acknowledged as u64
}

/// A part of /usr/include that every array can do.
fn tar_and_diff(rig: &Rig) {
    let tree = if long_run() { "include" } else { "include/linux" };
    sh(rig, &format!("tar -C /usr -cf - {tree} | tar xf -"));
    rig.client.remount();
    sh(rig, &format!("diff -r --no-dereference /usr/{tree} {tree}"));
    sh(rig, &format!("tar -cf - {tree} | tar -C /usr --compare -f -; rm -r include"));
}

/// All of it, written and compared with every server, and compared again without those that may be lost.
#[test]
fn tar_and_diff_of_usr_include() {
    Rig::run_within(Duration::from_secs(900), Array::RAID5, Health::Healthy, |rig| {
        sh(rig, "tar -C /usr -cf - include | tar xf -; diff -r --no-dereference /usr/include include");
        rig.kill_victims();
        rig.client.remount();
        sh(rig, "diff -r --no-dereference /usr/include include");
    });
}

/// Hard links, ACLs, xattrs, owners, times, special files, holes: what -aHAX carries, both ways.
fn rsync_there_and_back(rig: &Rig) {
    let script = "mkdir -p $WORK/from/dir; cd $WORK/from
        cp -a /usr/include/$TREE dir/; seq 200000 >dir/numbers; ln dir/numbers hard; ln -s dir/numbers soft
        mkfifo fifo; mknod device c 1 3; echo private >private; chmod 4750 private; chown 12:34 private
        setfattr -n user.colour -v blue private; setfattr -n user.colour -v red dir
        setfacl -m u:60001:rw,g:60002:r private; setfacl -d -m u:60001:rwx dir
        touch -d '1999-12-31 23:59:59.123456789' dir/numbers dir; chmod 1777 dir
        rsync -aHAX --numeric-ids $WORK/from/ $VOLUME/there/
        rsync -aHAX --numeric-ids $VOLUME/there/ $WORK/back/
        for copy in $VOLUME/there $WORK/back; do
            rsync -aHAXnc --numeric-ids --delete --itemize-changes $WORK/from/ $copy/ | (! grep .)
        done
        test $(stat -c %h $VOLUME/there/hard) = 2";
    let tree = if long_run() { "linux" } else { "asm-generic" };
    let script = script.replace("$VOLUME", rig.root().to_str().expect("plain path")).replace("$TREE", tree);
    sh(rig, &script);
}

/// A crate without dependencies, built, changed and built again with its target directory on the mount.
fn cargo_build(rig: &Rig) {
    let source = "mkdir -p crate/src; cd crate
        printf '[package]\\nname = \"small\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n[workspace]\\n' >Cargo.toml
        printf 'fn main() { println!(\"{}\", small::twice(21)); }\\n' >src/main.rs
        printf 'pub fn twice(n: u32) -> u32 { 2 * n }\\n#[test]\\nfn t() { assert_eq!(twice(2), 4); }\\n' >src/lib.rs
        unset CARGO_TARGET_DIR CARGO_PROFILE_DEV_OPT_LEVEL
        export CARGO_BUILD_JOBS=2
        test $(cargo run -q --offline) = 42; test -z $LONG || cargo test -q --offline
        printf 'pub fn twice(n: u32) -> u32 { n + n }\\n' >src/lib.rs; test $(cargo run -q --offline) = 42
        cargo clean -q --offline; test ! -e target";
    sh(rig, &format!("LONG={}; {source}", if long_run() { "1" } else { "" }));
}

/// The end of a sparse file of 8 TiB.
fn a_file_at_8_tib(rig: &Rig) {
    let end: u64 = 8 << 40;
    let file = File::options().read(true).write(true).create_new(true).open(rig.path("sparse")).unwrap();
    write_range(&file, Pattern::of(1), 0, 4096).unwrap();
    file.set_len(end).unwrap();
    write_range(&file, Pattern { object: 2, version: 0 }, end - 100_000, 100_000).unwrap();
    forget(&file);
    assert_eq!(file.metadata().unwrap().len(), end);
    verify_range(&file, Pattern { object: 2, version: 0 }, end - 100_000, 100_000).unwrap();
    verify_range(&file, Pattern::of(1), 0, 4096).unwrap();
    let data = seek_data(&file, 1 << 40).unwrap();
    assert!(data > end - 4 * rig.array.stripe_bytes(), "data at {data}");
    drop(file);
    fs::remove_file(rig.path("sparse")).unwrap();
}

/// 5 GiB are written, lose their servers on the way, and are read back with the checksum of md5sum.
#[test]
fn a_file_of_5_gib() {
    let arrays = if long_run() { &Array::ALL[..] } else { &[Array::RAID6] };
    for &array in arrays {
        Rig::run_within(Duration::from_secs(900), array, Health::Healthy, five_gib);
    }
}

fn five_gib(rig: &mut Rig) {
    let (pattern, length) = (Pattern::of(5), 5 * GIB);
    let file = File::options().read(true).write(true).create_new(true).open(rig.path("large")).unwrap();
    let mut md5sum = Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run md5sum");
    let mut wanted = md5sum.stdin.take().expect("a pipe");
    let mut victims = rig.array.victims().into_iter();
    let mut buffer = vec![0; 1 << 20];
    for at in (0..length).step_by(buffer.len()) {
        pattern.fill(at, &mut buffer);
        file.write_all_at(&buffer, at).unwrap();
        wanted.write_all(&buffer).expect("feed md5sum");
        if at > 0 && at % GIB == 0 {
            victims.next().into_iter().for_each(|victim| rig.cluster[victim].kill9());
        }
    }
    drop(wanted);
    forget(&file);
    drop(file);
    let wanted = md5sum.wait_with_output().expect("wait for md5sum").stdout;
    assert_eq!(sh(rig, "md5sum <large").as_bytes(), wanted, "md5sum of 5 GiB");
}
