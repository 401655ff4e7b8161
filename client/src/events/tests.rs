//! Lines of a log, and the file they are in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use super::*;

/// A clock that stands until it is set, at 2026-11-21 and some milliseconds.
#[derive(Clone, Default)]
struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn set_ms(&self, ms: u64) {
        self.0.store(ms, Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let ms = Arc::clone(&self.0);
        Box::new(move || {
            let since_epoch = Duration::from_secs(1_795_225_800) + Duration::from_millis(ms.load(Ordering::Relaxed));
            UNIX_EPOCH + since_epoch
        })
    }
}

struct Place {
    dir: tempfile::TempDir,
    clock: TestClock,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory"), clock: TestClock::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self) -> EventLog {
        EventLog::with_clock(Some(&self.path("log")), self.clock.clock()).expect("a log")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The words of each line: volume and event.
    fn lines(&self, name: &str) -> Vec<String> {
        self.read(name).lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned).collect()
    }
}

fn server(text: &str) -> ServerAddr {
    text.parse().expect("an address")
}

fn said(event: &Event) -> String {
    let line = line::format(UNIX_EPOCH, "V", Some(&server("h:1")), event);
    line.strip_prefix("1970-01-01T00:00:00.000Z V h:1 ").expect("a prefix").to_owned()
}

#[test]
fn a_line_has_time_volume_server_and_event() {
    let place = Place::new();
    let log = place.open();
    log.log("A", Some(&server("127.0.0.1:10001")), &Event::ServerLost { reason: "connection reset".into() });
    place.clock.set_ms(1_234);
    log.log("B", Some(&server("[::1]:7")), &Event::Connected);
    log.log("B", None, &Event::VolumeMounted { mountpoint: "/mnt/b c".into() });
    assert_eq!(
        place.read("log"),
        "2026-11-21T01:50:00.000Z A 127.0.0.1:10001 server lost: connection reset\n\
         2026-11-21T01:50:01.234Z B [::1]:7 connected at start\n\
         2026-11-21T01:50:01.234Z B - volume mounted on /mnt/b c\n"
    );
}

#[test]
fn every_event_has_its_words() {
    let reason = || "no route".to_owned();
    let repaired = Event::Repaired {
        object: "/a b".into(),
        what: "block 7".into(),
        from: vec![server("h:2"), server("h:3")],
        to: server("h:1"),
    };
    let words = [
        (Event::Connected, "connected at start"),
        (Event::ServerLost { reason: reason() }, "server lost: no route"),
        (Event::ServerBack, "server back, stays out until caught up"),
        (Event::MemberDropped { slot: 2, reason: reason() }, "member dropped, slot 2: no route"),
        (Event::CatchUpStarted { slot: 2 }, "catch-up started, slot 2"),
        (
            Event::CatchUpProgress {
                slot: 2,
                files: (3, 4),
                bytes: (5, 6),
                copied: 7,
                rate: 8,
                left: None,
                object: Some("/a".into()),
            },
            "catch-up progress, slot 2: /a: files 3 of 4, bytes 5 of 6, written 7, bytes a second 8, seconds left unknown",
        ),
        (
            Event::CaughtUp { slot: 2, files: 3, bytes: 4, seconds: 5 },
            "member caught up, slot 2: files 3, bytes 4, seconds 5",
        ),
        (Event::CatchUpFailed { slot: 2, reason: reason() }, "catch-up broken off, and tried again, slot 2: no route"),
        (Event::Replaced, "server back, but a spare has its slot: empty its directory to make it a spare"),
        (Event::SlotGivenBack { slot: 2 }, "server back, has its slot again from a spare, slot 2"),
        (Event::SpareReleased, "spare released, is empty again"),
        (Event::SpareConnected, "spare connected"),
        (Event::SpareUnreachable { reason: reason() }, "spare not reachable: no route"),
        (Event::RebuildStarted { slot: 0 }, "copy to spare started, slot 0"),
        (
            Event::Inconsistency { object: "/a".into(), what: "wrong digest".into() },
            "inconsistency found: /a: wrong digest",
        ),
        (repaired, "repaired: /a b: block 7, from h:2, h:3 to h:1"),
        (
            Event::Recovered { writes: 3, cuts: 0, names: 2, sizes: 1, attributes: 4 },
            "recovered after a crash: writes 3, cuts 0, names 2, sizes 1, attributes 4",
        ),
        (Event::ServerResumed, "server back, up to date"),
        (Event::ServerLeftOut, "server back, was left out by --force: what only it holds is lost"),
        (Event::Forced { reason: "without h:1".into() }, "started by --force: without h:1"),
        (
            Event::TakenOver { reason: "epoch 7".into() },
            "taken over by another client, nothing is written any more: epoch 7",
        ),
        (Event::VolumeFormed, "new volume formed"),
        (Event::VolumeMounted { mountpoint: "/mnt".into() }, "volume mounted on /mnt"),
        (Event::VolumeUnmounted, "volume unmounted"),
        (Event::VolumeOffline { reason: "h:1, h:2 gone".into() }, "volume offline: h:1, h:2 gone"),
        (Event::VolumeOnline, "volume online"),
        (Event::AssemblyRefused { why: "h:1 is missing".into() }, "assembly refused: h:1 is missing"),
    ];
    for (event, words) in words {
        assert_eq!(event.to_string(), words);
        assert_eq!(said(&event), format!("{words}\n"));
    }
}

#[test]
fn no_name_ends_its_line_or_steers_a_terminal() {
    let event = |object: &str| Event::Inconsistency { object: object.into(), what: "x".into() };
    let cases = [
        ("a\nb", "a\\nb"),
        ("\u{1b}[31m\r\t\0", "\\u{1b}[31m\\r\\t\\u{0}"),
        ("a\\n", "a\\\\n"),
        ("\u{85}\u{2028}\u{202e}", "\\u{85}\\u{2028}\\u{202e}"),
        ("größe 'q' \"q\"", "größe 'q' \"q\""),
    ];
    for (name, escaped) in cases {
        assert_eq!(said(&event(name)), format!("inconsistency found: {escaped}: x\n"));
    }
    let line = line::format(UNIX_EPOCH, "V\n", None, &Event::VolumeOnline);
    assert_eq!(line, "1970-01-01T00:00:00.000Z V\\n - volume online\n");
}

#[test]
fn a_line_is_never_too_long() {
    for len in (line::MAX_LINE_LEN - 200)..(line::MAX_LINE_LEN + 200) {
        let line = line::format(UNIX_EPOCH, "V", None, &Event::AssemblyRefused { why: "ü".repeat(len / 2) });
        assert!(line.len() <= line::MAX_LINE_LEN && line.ends_with('\n'), "{} of {len}", line.len());
        assert!(line.ends_with("ü\n") || line.ends_with("ü...\n"), "{line}");
    }
}

#[test]
fn a_log_is_appended_to_and_not_for_everyone() {
    let place = Place::new();
    place.open().log("A", None, &Event::VolumeOnline);
    let (one, two) = (place.open(), place.open());
    one.log("B", None, &Event::VolumeOnline);
    two.log("C", None, &Event::VolumeOnline);
    one.log("D", None, &Event::VolumeOnline);
    assert_eq!(place.lines("log"), ["A", "B", "C", "D"]);
    let mode = fs::metadata(place.path("log")).expect("a log").permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
}

#[test]
fn lines_of_many_threads_do_not_mix() {
    let place = Place::new();
    let logs = [place.open(), place.open()];
    std::thread::scope(|scope| {
        for log in logs.iter().chain(&logs) {
            scope.spawn(|| {
                for _ in 0..200 {
                    log.log("A", None, &Event::AssemblyRefused { why: "x".repeat(500) });
                }
            });
        }
    });
    let text = place.read("log");
    assert_eq!(text.lines().count(), 800);
    assert!(text.lines().all(|line| line.ends_with(&"x".repeat(500))));
}

#[test]
fn a_renamed_or_deleted_log_is_noticed_within_a_second() {
    let place = Place::new();
    let log = place.open();
    log.log("A", None, &Event::VolumeOnline);
    fs::rename(place.path("log"), place.path("log.1")).expect("a rotation");
    place.clock.set_ms(999);
    log.log("B", None, &Event::VolumeOnline);
    place.clock.set_ms(1_000);
    log.log("C", None, &Event::VolumeOnline);
    assert_eq!((place.lines("log.1"), place.lines("log")), (vec!["A".into(), "B".into()], vec!["C".into()]));
    fs::remove_file(place.path("log")).expect("a deletion");
    place.clock.set_ms(2_000);
    log.log("D", None, &Event::VolumeOnline);
    assert_eq!(place.lines("log"), ["D"]);
    // A clock that is set back does not end the checks.
    fs::remove_file(place.path("log")).expect("a deletion");
    place.clock.set_ms(500);
    log.log("E", None, &Event::VolumeOnline);
    assert_eq!(place.lines("log"), ["E"]);
}

#[test]
fn a_log_is_reopened_at_once_when_asked() {
    let place = Place::new();
    let log = place.open();
    log.log("A", None, &Event::VolumeOnline);
    fs::rename(place.path("log"), place.path("log.1")).expect("a rotation");
    log.reopen().expect("a new log");
    log.log("B", None, &Event::VolumeOnline);
    assert_eq!((place.lines("log.1"), place.lines("log")), (vec!["A".into()], vec!["B".into()]));
}

#[test]
fn a_truncated_log_goes_on_at_its_start() {
    let place = Place::new();
    let log = place.open();
    log.log("A", None, &Event::VolumeOnline);
    fs::File::create(place.path("log")).expect("a truncation");
    log.log("B", None, &Event::VolumeOnline);
    assert_eq!(place.lines("log"), ["B"]);
}

#[test]
fn a_log_whose_directory_is_gone_is_still_written() {
    let place = Place::new();
    let dir = place.path("dir");
    fs::create_dir(&dir).expect("a directory");
    let log = EventLog::with_clock(Some(&dir.join("log")), place.clock.clock()).expect("a log");
    fs::rename(&dir, place.path("moved")).expect("a rename");
    log.log("A", None, &Event::VolumeOnline);
    assert!(log.reopen().is_err());
    log.log("B", None, &Event::VolumeOnline);
    assert_eq!(place.lines("moved/log"), ["A", "B"]);
}

#[test]
fn logs_that_cannot_be_opened() {
    let place = Place::new();
    assert!(EventLog::open(Some(place.dir.path())).is_err());
    assert!(EventLog::open(Some(&place.path("no/log"))).is_err());
    let pipe = place.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert!(EventLog::open(Some(&pipe)).is_err(), "nobody reads it");
}

#[test]
fn events_without_a_file_go_to_tracing_only() {
    EventLog::open(None).expect("no file").log("A", None, &Event::VolumeOnline);
    EventLog::open(None).expect("no file").reopen().expect("nothing to do");
}

/// What `run` says through tracing, one JSON object a line.
fn traced(run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt().json().without_time().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, run);
    let bytes = sink.0.lock().expect("no panic").clone();
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

#[test]
fn tracing_gets_the_data_as_fields() {
    let log = EventLog::open(None).expect("no file");
    let event = Event::CatchUpFailed { slot: 2, reason: "disk full".into() };
    assert_eq!(
        traced(|| log.log("A", Some(&server("h:1")), &event)),
        "{\"level\":\"WARN\",\"fields\":{\"message\":\"catch-up broken off, and tried again\",\"volume\":\"A\",\
         \"server\":\"h:1\",\"slot\":2,\"reason\":\"disk full\"},\"target\":\"net_raid::events\"}\n"
    );
    let mounted = Event::VolumeMounted { mountpoint: "/m".into() };
    assert_eq!(
        traced(|| log.log("A", None, &mounted)),
        "{\"level\":\"INFO\",\"fields\":{\"message\":\"volume mounted\",\"volume\":\"A\",\"mountpoint\":\"\\\"/m\\\"\"},\
         \"target\":\"net_raid::events\"}\n"
    );
}

#[test]
fn a_log_that_cannot_be_written_is_reported_once() {
    let log = EventLog::open(Some(Path::new("/dev/full"))).expect("a device that is always full");
    let said = traced(|| {
        for _ in 0..3 {
            log.log("A", None, &Event::VolumeOnline);
        }
    });
    assert_eq!(said.matches("errorlog cannot be written").count(), 1, "{said}");
    assert_eq!(said.matches("volume online").count(), 3, "{said}");
}

#[test]
fn a_log_that_cannot_be_found_again_is_reported_once() {
    let place = Place::new();
    let dir = place.path("dir");
    fs::create_dir(&dir).expect("a directory");
    let log = EventLog::with_clock(Some(&dir.join("log")), place.clock.clock()).expect("a log");
    fs::rename(&dir, place.path("moved")).expect("a rename");
    let said = traced(|| {
        for ms in (0..5_000).step_by(250) {
            place.clock.set_ms(ms);
            log.log("A", None, &Event::VolumeOnline);
        }
    });
    assert_eq!(said.matches("errorlog cannot be written").count(), 1, "{said}");
    assert_eq!(place.lines("moved/log").len(), 20);
}

#[test]
fn a_line_after_a_cut_one_begins_a_line() {
    let place = Place::new();
    let pipe = place.path("log");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let mut reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("a reader");
    let log = place.open();
    // A pipe of one page takes only a part of a longer line.
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).expect("a small pipe");
    log.log("A", None, &Event::AssemblyRefused { why: "x".repeat(7_000) });
    let mut buffer = vec![0; 1 << 20];
    let cut = io::Read::read(&mut reader, &mut buffer).expect("a full pipe");
    assert!(!buffer[..cut].ends_with(b"\n"), "nothing was cut");
    log.log("B", None, &Event::VolumeOnline);
    let rest = io::Read::read(&mut reader, &mut buffer).expect("a line");
    assert!(buffer[..rest].starts_with(b"\n2026"));
}
