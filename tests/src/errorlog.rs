//! The `errorlog` of a client: one line for each event.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::deadline::reached;

/// An error log that grows.
#[derive(Debug)]
pub struct ErrorLog {
    path: PathBuf,
}

impl ErrorLog {
    /// The log at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> ErrorLog {
        ErrorLog { path }
    }

    /// All of it.
    pub fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap_or_default()
    }

    /// Lines that contain each of `words`, in upper or lower case.
    pub fn matching(&self, words: &[&str]) -> Vec<String> {
        let holds = |line: &str| {
            let line = line.to_lowercase();
            words.iter().all(|word| line.contains(&word.to_lowercase()))
        };
        self.text().lines().filter(|line| holds(line)).map(str::to_owned).collect()
    }

    /// Waits for a line with each of `words`, and returns the first.
    ///
    /// # Panics
    /// When none comes within `within`; with the whole log.
    pub fn expect(&self, words: &[&str], within: Duration) -> String {
        let found = reached(within, || !self.matching(words).is_empty());
        assert!(found, "no line with {words:?} within {within:?} in the error log:\n{}", self.text());
        self.matching(words).remove(0)
    }

    /// Waits until there are so many such lines.
    ///
    /// # Panics
    /// When there are fewer after `within`; with the whole log.
    pub fn expect_times(&self, words: &[&str], times: usize, within: Duration) {
        let found = reached(within, || self.matching(words).len() >= times);
        assert!(found, "fewer than {times} lines with {words:?} within {within:?} in the error log:\n{}", self.text());
    }
}
