//! Mounting after kill -9 takes as long as what changed since the last checkpoint, not as long as what is there.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use net_raid_tests::deadline::wait_until;
use net_raid_tests::places::long_run;
use net_raid_tests::{Array, Health, Rig};

const FILES_IN_A_DIRECTORY: usize = 1000;
/// What a mount after a crash may take longer than one after an umount.
const PROMISE: Duration = Duration::from_secs(2);
const MADE_WITHIN: Duration = Duration::from_secs(1500);

/// Makes files with a few bytes each, until it fails; returns how many were made.
fn make_files(root: &Path, from: usize, to: usize, made: &AtomicUsize) {
    let one = |number: usize| {
        let dir = root.join(format!("d{}", number / FILES_IN_A_DIRECTORY));
        if number.is_multiple_of(FILES_IN_A_DIRECTORY) {
            fs::create_dir(&dir)?;
        }
        // A file that is dropped does not say that its bytes did not get out; close(2) does.
        let mut file = fs::File::create(dir.join(number.to_string()))?;
        file.write_all(number.to_string().as_bytes())?;
        nix::unistd::close(file)?;
        made.store(number + 1, Ordering::Relaxed);
        Ok::<(), std::io::Error>(())
    };
    let _ = (from..to).try_for_each(one);
}

fn mount_takes(rig: &Rig) -> Duration {
    let begin = Instant::now();
    rig.client.mount();
    begin.elapsed()
}

fn check(root: &Path, number: usize) {
    let path = root.join(format!("d{}/{number}", number / FILES_IN_A_DIRECTORY));
    assert_eq!(fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())), number.to_string());
}

#[test]
fn a_mount_after_kill_9_is_as_quick_as_any() {
    let count = if long_run() { 100_000 } else { 10_000 };
    Rig::unmounted(Array::RAID5, 0).run_mounted(MADE_WITHIN * 2, Health::Healthy, |rig| {
        let (root, made) = (rig.root(), AtomicUsize::new(0));
        make_files(&root, 0, count, &made);
        assert_eq!(made.load(Ordering::Relaxed), count, "files were made");
        rig.client.unmount();
        let clean = mount_takes(rig);

        // Killed in the middle of work.
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| make_files(&root, count, 2 * count, &made));
            let some = || made.load(Ordering::Relaxed) >= count + count / 100 || writer.is_finished();
            wait_until("more files are made", MADE_WITHIN, some);
            rig.client.kill9();
        });
        let killed = mount_takes(rig);
        println!("{count} files: {clean:.2?} after umount, {killed:.2?} after kill -9");
        assert!(killed <= clean + PROMISE, "{killed:.2?} after kill -9, {clean:.2?} after umount");
        let made = made.into_inner();
        (0..made).step_by(made / 500).chain(count..made).for_each(|number| check(&root, number));
    });
}
