//! pjdfstest and fsx on every array, healthy and degraded. ext4 on the same machine in the same run
//! is the measure of pjdfstest; fsx is its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use net_raid_tests::deadline::wait_until;
use net_raid_tests::process::kill_group;
use net_raid_tests::suites::{self, Results};
use net_raid_tests::workdir::Workdir;
use net_raid_tests::{Array, Rig, on_every_array, on_every_healthy_array};

const SEEDS: [u64; 3] = [1, 2, 3];

on_every_array!(within 900; pjdfstest, fsx);
on_every_healthy_array!(fsx_while_servers_die);

/// No test fails that passes on ext4.
fn pjdfstest(rig: &Rig) {
    let baseline = ext4();
    assert!(baseline.passed() > 300, "only {} tests pass on ext4: something is wrong there", baseline.passed());
    let found = suites::pjdfstest(rig.cluster.path(), &directory_for_anyone(&rig.path("suite")));
    let lost = baseline.lost_in(&found);
    assert!(lost.is_empty(), "{} tests pass on ext4 and not here:\n{}", lost.len(), lost.join("\n"));
}

/// Three seeds at once, on three files.
fn fsx(rig: &Rig) {
    let stripe = rig.array.stripe_bytes();
    let run = |seed: u64| suites::fsx(rig.cluster.path(), &rig.path(&format!("fsx.{seed}")), stripe, seed);
    std::thread::scope(|scope| {
        let runs: Vec<_> = SEEDS.iter().map(|&seed| scope.spawn(move || run(seed))).collect();
        if let Some(panic) = runs.into_iter().filter_map(|run| run.join().err()).next() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// As many servers as may be lost are killed one after the other while fsx runs.
fn fsx_while_servers_die(rig: &mut Rig) {
    let file = rig.path("fsx");
    let mut command = suites::fsx_command(rig.cluster.path(), &file, rig.array.stripe_bytes(), 4);
    let mut fsx = command.spawn().expect("run fsx");
    wait_until("fsx has begun", Duration::from_secs(30), || length(&file) > 0);
    for victim in rig.array.victims() {
        let before = length(&file);
        wait_until("fsx goes on", Duration::from_secs(60), || length(&file) != before);
        rig.cluster[victim].kill9();
    }
    let status = net_raid_tests::process::wait(&mut fsx, Duration::from_secs(200));
    kill_group(&mut fsx);
    assert!(status.is_some_and(|s| s.success()), "fsx ended with {status:?}");
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |meta| meta.len())
}

/// What ext4 does in this run.
fn ext4() -> &'static Results {
    static RESULTS: OnceLock<Results> = OnceLock::new();
    RESULTS.get_or_init(|| {
        let work = Workdir::new();
        suites::pjdfstest(work.path(), &directory_for_anyone(&work.path().join("ext4")))
    })
}

/// Creates a directory that the users of pjdfstest may walk through.
fn directory_for_anyone(path: &Path) -> PathBuf {
    fs::create_dir(path).expect("mkdir");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
    path.to_owned()
}

/// The suites themselves work here: what they find on the mount is about the mount.
#[test]
fn both_suites_pass_on_ext4() {
    let failed = ext4().lost_in(&Results::default());
    assert!(failed.len() > 300, "{} tests passed on ext4", failed.len());
    let work = Workdir::new();
    suites::fsx(work.path(), &work.path().join("f"), Array::RAID6.stripe_bytes(), SEEDS[0]);
}
