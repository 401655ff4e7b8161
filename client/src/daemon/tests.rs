use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use super::background::Verdict;
use super::logging::Line;
use super::pid_file::PidFile;

#[test]
fn a_pid_file_comes_whole_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    fs::write(&path, "an old one").unwrap();
    let file = PidFile::write(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    drop(file);
    assert!(!path.exists());
}

#[test]
fn a_pid_file_of_another_process_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    let file = PidFile::write(&path).unwrap();
    fs::write(&path, "1\n").unwrap();
    drop(file);
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
}

#[test]
fn a_pid_file_that_cannot_be_written_is_named() {
    let error = PidFile::write("/nonexistent/pid".as_ref()).unwrap_err().to_string();
    assert!(error.starts_with("the pid file /nonexistent/pid cannot be written: "), "{error}");
}

#[test]
fn a_verdict_in_the_foreground_changes_nothing() {
    Verdict::unheard().give(1).unwrap();
    println!("stdout is still here");
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn messages_look_like_events_and_are_one_line() {
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt().with_writer(written.clone()).event_format(Line).finish();
    tracing::subscriber::with_default(subscriber, || tracing::warn!(slot = 3, "two\nlines"));
    let line = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.ends_with('Z'));
    assert_eq!(rest, "- - warn: two\\nlines slot=3\n");
}
