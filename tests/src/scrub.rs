//! What rots on bricks, and scrubs that find it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::Rig;
use crate::deadline::reached;
use crate::process::send;

/// How long a scrub of the little that tests have may take.
pub const SCRUBBED_WITHIN: Duration = Duration::from_secs(60);

/// What a scrub said at its end.
pub struct Scrubbed {
    /// Objects on servers that were put right.
    pub mended: u64,
    /// Objects that could not be.
    pub damaged: u64,
    /// All lines of the errorlog since it began.
    pub log: String,
}

impl Scrubbed {
    /// What the log says of the scrub that ended last.
    fn read(log: String) -> Scrubbed {
        let counts = log.lines().rfind(|line| line.contains("scrub done")).expect("it is done").to_owned();
        let count = |word: &str| {
            let rest = counts.split(&format!("{word} ")).nth(1).expect("a count");
            rest.split(',').next().expect("a number").parse().expect("a number")
        };
        Scrubbed { mended: count("mended"), damaged: count("damaged"), log }
    }

    /// How many of the lines have all of these words.
    pub fn lines(&self, words: &[&str]) -> usize {
        self.log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

/// Scrubs the whole volume at full speed.
///
/// # Panics
/// It does not end within [`SCRUBBED_WITHIN`].
pub fn scrub(rig: &Rig) -> Scrubbed {
    let log = rig.client.errorlog();
    let (before, done) = (log.text().len(), log.matching(&["scrub done"]).len());
    send(rig.client.pid(), Signal::SIGUSR1);
    assert!(reached(SCRUBBED_WITHIN, || log.matching(&["scrub done"]).len() > done), "no end:\n{}", log.text());
    Scrubbed::read(log.text().split_off(before))
}

/// Scrubs the whole volume at full speed from now on, whatever scrub is under way. One that is broken off is begun again.
///
/// # Panics
/// It does not end within `within`.
pub fn scrub_from_now(rig: &Rig, within: Duration) -> Scrubbed {
    let log = rig.client.errorlog();
    let mut before = log.text().len();
    let want = || send(rig.client.pid(), Signal::SIGUSR1);
    want();
    let ended = reached(within, || {
        let text = log.text();
        // What was under way before ends first.
        let Some(begun) = text[before..].find("scrub started") else { return false };
        let since = &text[before + begun..];
        if since.contains("scrub broken off") {
            before = text.len();
            want();
        }
        since.contains("scrub done")
    });
    assert!(ended, "no end:\n{}", log.text());
    Scrubbed::read(log.text().split_off(before))
}

/// Changes one byte of a file, as a bad disk does: neither its length nor its times move. `false` where it has no such byte.
///
/// # Panics
/// The file is not there, or cannot be written.
pub fn flip(file: &Path, at: u64) -> bool {
    try_flip(file, at).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The same to a file that others may change, cut or remove meanwhile.
///
/// # Errors
/// It is not there, or cannot be written.
pub fn try_flip(file: &Path, at: u64) -> io::Result<bool> {
    let opened = File::options().read(true).write(true).open(file)?;
    let modified = opened.metadata()?.modified()?;
    let mut byte = [0];
    if opened.read_at(&mut byte, at)? == 0 {
        return Ok(false);
    }
    opened.write_all_at(&[byte[0] ^ 0x10], at)?;
    opened.set_modified(modified)?;
    Ok(true)
}
