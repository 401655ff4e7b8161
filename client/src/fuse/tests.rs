use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, ThreadId};
use std::time::{Duration, UNIX_EPOCH};

use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::message::Kind;
use tokio::runtime::Runtime;

use super::answer::Answer;
use super::convert::{attributes, errno, kind, timestamp};
use super::run::{Patience, Runner, Work};
use super::writers::Writers;
use crate::fs::{Errno, Stat};

/// An answer that a test receives, with the thread that sent it.
struct Probe(Sender<(Result<u32, Errno>, ThreadId)>);

impl Answer for Probe {
    type Value = u32;

    fn send(self, result: Result<u32, Errno>) {
        self.0.send((result, thread::current().id())).unwrap();
    }
}

fn run(
    runtime: &Runtime,
    operation: impl Future<Output = Result<u32, Errno>> + Send + 'static,
) -> Receiver<(Result<u32, Errno>, ThreadId)> {
    run_as(runtime, false, operation)
}

fn run_as(
    runtime: &Runtime,
    replaced: bool,
    operation: impl Future<Output = Result<u32, Errno>> + Send + 'static,
) -> Receiver<(Result<u32, Errno>, ThreadId)> {
    let (sender, receiver) = channel();
    let patience = Patience::new(Duration::from_secs(1));
    let runner = Runner::new("V", runtime.handle().clone(), patience, Arc::new(AtomicBool::new(replaced)));
    runner.run("test", Work::Usual, Probe(sender), operation);
    receiver
}

#[test]
fn a_client_that_was_replaced_answers_nothing_from_memory() {
    let runtime = Runtime::new().unwrap();
    let answer = run_as(&runtime, true, async { Ok(7) }).try_recv().unwrap();
    assert_eq!(answer.0, Err(Errno(libc::EIO)));
}

#[test]
fn what_is_ready_is_answered_on_the_same_thread() {
    let runtime = Runtime::new().unwrap();
    let answer = run(&runtime, async { Ok(7) }).try_recv().unwrap();
    assert_eq!(answer, (Ok(7), thread::current().id()));
}

#[test]
fn what_waits_starts_at_once_and_is_answered_by_the_runtime() {
    let runtime = Runtime::new().unwrap();
    let (started, has_started) = channel();
    let (wake, waits) = tokio::sync::oneshot::channel();
    let answer = run(&runtime, async move {
        started.send(thread::current().id()).unwrap();
        waits.await.map_err(|_| Errno(libc::EIO))
    });
    assert_eq!(has_started.try_recv().unwrap(), thread::current().id());
    wake.send(8).unwrap();
    let (result, sender) = answer.recv().unwrap();
    assert_eq!(result, Ok(8));
    assert_ne!(sender, thread::current().id());
}

#[test]
fn a_timer_that_was_made_in_the_first_poll_wakes_the_task() {
    let runtime = Runtime::new().unwrap();
    let answer = run(&runtime, async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(9)
    });
    assert_eq!(answer.recv().unwrap().0, Ok(9));
}

#[test]
fn a_panic_is_an_error_in_the_first_poll_and_in_later_ones() {
    let runtime = Runtime::new().unwrap();
    let first = run(&runtime, async { panic!("expected by the test") });
    assert_eq!(first.try_recv().unwrap().0, Err(Errno(libc::EIO)));
    let later = run(&runtime, async {
        tokio::task::yield_now().await;
        panic!("expected by the test")
    });
    assert_eq!(later.recv().unwrap().0, Err(Errno(libc::EIO)));
}

#[test]
fn an_operation_that_takes_too_long_is_answered_but_goes_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (done, is_done) = channel();
    let answer = run(&runtime, async move {
        tokio::time::sleep(Duration::from_secs(1000)).await;
        done.send(()).unwrap();
        Ok(1)
    });
    runtime.block_on(async { tokio::time::sleep(Duration::from_secs(900)).await });
    assert_eq!(answer.try_recv().unwrap().0, Err(Errno(libc::EIO)));
    assert!(is_done.try_recv().is_err());
    runtime.block_on(async { tokio::time::sleep(Duration::from_secs(200)).await });
    is_done.try_recv().unwrap();
}

/// What fuser 0.18 makes of the kernel's seconds and nanoseconds (its `time.rs`, `system_time_from_time`).
fn out_of_fuser(secs: i64, nanos: u32) -> std::time::SystemTime {
    if secs >= 0 {
        UNIX_EPOCH + Duration::new(secs.unsigned_abs(), nanos)
    } else {
        UNIX_EPOCH - Duration::new(secs.unsigned_abs(), nanos)
    }
}

#[test]
fn times_of_the_kernel_survive_fuser() {
    for (secs, nanos) in [(0, 0), (0, 1), (5, 999_999_999), (-1, 0), (-1, 1), (-2, 800_000_000), (i64::MAX, 0)] {
        assert_eq!(timestamp(out_of_fuser(secs, nanos)), Timestamp { secs, nanos });
    }
}

fn stat(kind: Kind, time: Timestamp) -> Stat {
    let (id, mode, nlink, uid, gid, size, blocks) = (ObjectId(9), 0o104755, 2, 3, 4, 5, 6);
    Stat { id, kind, mode, nlink, uid, gid, size, blocks, atime: time, mtime: time, ctime: time }
}

#[test]
fn attributes_before_1970_and_devices_are_kept() {
    let time = Timestamp { secs: -2, nanos: 800_000_000 };
    let attributes = attributes(&stat(Kind::CharDevice(0x501), time));
    assert_eq!(UNIX_EPOCH.duration_since(attributes.mtime).unwrap(), Duration::from_millis(1200));
    assert_eq!((attributes.rdev, attributes.perm, attributes.ino.0), (0x501, 0o4755, 9));
}

#[test]
fn a_time_that_no_clock_shows_is_1970() {
    let time = Timestamp { secs: i64::MAX, nanos: u32::MAX };
    assert_eq!(attributes(&stat(Kind::File, time)).atime, UNIX_EPOCH);
}

#[test]
fn mknod_makes_no_directories() {
    assert_eq!(kind(libc::S_IFBLK | 0o600, 0x800), Ok(Kind::BlockDevice(0x800)));
    assert_eq!(kind(0o600, 0), Ok(Kind::File));
    assert_eq!(kind(libc::S_IFDIR, 0), Err(Errno(libc::EINVAL)));
}

#[test]
fn no_errno_is_zero() {
    assert_eq!(i32::from(errno(Errno(0))), libc::EIO);
    assert_eq!(i32::from(errno(Errno(libc::ENOSPC))), libc::ENOSPC);
}

#[test]
fn a_file_may_be_dirty_while_a_writer_has_it_open() {
    let (writers, file) = (Writers::default(), ObjectId(5));
    writers.opened(file, libc::O_RDONLY);
    assert!(!writers.may_be_dirty(file));
    writers.opened(file, libc::O_RDWR);
    writers.opened(file, libc::O_WRONLY);
    writers.released(file, libc::O_RDONLY);
    writers.released(file, libc::O_RDWR);
    assert!(writers.may_be_dirty(file));
    writers.released(file, libc::O_WRONLY);
    assert!(!writers.may_be_dirty(file));
}
