//! Text into entries, and entries into sections: the part of the parser that knows lines but no values.

use std::collections::BTreeMap;
use std::ops::Range;

use super::key::Key;
use super::problem::Problems;

/// A part of one line, and where in the file it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// The line, counted from 1.
    pub(super) line: usize,
    /// The offset of the first byte in the file.
    at: usize,
}

impl<'a> Piece<'a> {
    /// The lines of a file, without a byte order mark and with their carriage returns.
    fn lines(text: &'a str) -> impl Iterator<Item = Self> {
        let body = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut at = text.len() - body.len();
        body.split('\n').zip(1..).map(move |(text, line)| {
            let piece = Self { text, line, at };
            at += text.len() + 1;
            piece
        })
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    fn part(&self, range: Range<usize>) -> Self {
        Self { text: &self.text[range.clone()], line: self.line, at: self.at + range.start }
    }

    fn trim(&self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        self.part(start..start + self.text.trim().len())
    }

    /// The trimmed parts before the first and after the first character for which `is_border` holds.
    fn split_at_first(&self, is_border: impl Fn(char) -> bool) -> Option<(Self, Self)> {
        let (at, border) = self.text.char_indices().find(|&(_, c)| is_border(c))?;
        let rest = at + border.len_utf8()..self.text.len();
        Some((self.part(0..at).trim(), self.part(rest).trim()))
    }

    /// The trimmed parts between commas.
    pub(super) fn list(&self) -> impl Iterator<Item = Self> {
        let mut at = 0;
        self.text.split(',').map(move |item| {
            let piece = self.part(at..at + item.len()).trim();
            at += item.len() + 1;
            piece
        })
    }

    /// The line without its comment: a `#` begins one at the line's start and after a blank, so that names may hold one.
    fn without_comment(&self) -> Self {
        let mut after_blank = true;
        for (at, c) in self.text.char_indices() {
            if c == '#' && after_blank {
                return self.part(0..at).trim();
            }
            after_blank = c.is_whitespace();
        }
        self.trim()
    }
}

/// One `key = value` line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: Key,
    /// The whole line.
    pub(super) line: Piece<'a>,
    /// The value; `None` if it cannot be used, which has been reported.
    pub(super) value: Option<Piece<'a>>,
    /// Whether the key is what was probably meant, not what was written.
    guessed: bool,
}

/// What a `diskname` line begins, or what stands before the first one.
#[derive(Debug, Default)]
pub(super) struct Section<'a> {
    entries: BTreeMap<Key, Entry<'a>>,
}

impl<'a> Section<'a> {
    pub(super) fn get(&self, key: Key) -> Option<Entry<'a>> {
        self.entries.get(&key).copied()
    }

    fn add(&mut self, entry: Entry<'a>, problems: &mut Problems) {
        let earlier = self.get(entry.key);
        match earlier {
            Some(earlier) if !earlier.guessed => {
                if !entry.guessed {
                    let message = format!("`{}` is repeated", entry.key.name());
                    problems.add(entry.line, message, format!("line {} has it already", earlier.line.line));
                }
            }
            _ => drop(self.entries.insert(entry.key, entry)),
        }
    }
}

/// The defaults and the volumes of a file. What is not understood is reported, and read as what was probably meant, so that
/// one mistake does not look like three.
pub(super) fn sections<'a>(text: &'a str, problems: &mut Problems) -> (Section<'a>, Vec<Section<'a>>) {
    let mut defaults = Section::default();
    let mut volumes: Vec<Section<'a>> = Vec::new();
    for line in Piece::lines(text) {
        let line = line.without_comment();
        let Some(entry) = entry(line, problems) else { continue };
        if entry.key == Key::Diskname {
            volumes.push(Section::default());
        }
        match volumes.last_mut() {
            Some(volume) => volume.add(entry, problems),
            None if entry.key.belongs_to_volume() => {
                let message = format!("`{}` stands before the first volume", entry.key.name());
                problems.add(line, message, "move it below the `diskname` line of its volume");
            }
            None => defaults.add(entry, problems),
        }
    }
    (defaults, volumes)
}

fn entry<'a>(line: Piece<'a>, problems: &mut Problems) -> Option<Entry<'a>> {
    if line.text.is_empty() {
        return None;
    }
    let Some((word, value)) = line.split_at_first(|c| c == '=') else {
        return entry_without_equals_sign(line, problems);
    };
    if let Some(key) = Key::named(word.text) {
        let value = usable_value(key, line, value, problems);
        return Some(Entry { key, line, value, guessed: false });
    }
    if word.text.is_empty() {
        problems.add(line, "there is no key before the `=`", "write `key = value`");
        return None;
    }
    let message = format!("unknown key `{}`", word.text);
    let Some(key) = Key::near(word.text) else {
        problems.add(word, message, format!("the keys are {}", Key::list()));
        return None;
    };
    problems.add(word, message, format!("did you mean `{}`?", key.name()));
    let value = usable_value(key, line, value, problems);
    Some(Entry { key, line, value, guessed: true })
}

fn entry_without_equals_sign<'a>(line: Piece<'a>, problems: &mut Problems) -> Option<Entry<'a>> {
    let message = "there is no `=`";
    if line.text.starts_with('[') {
        problems.add(line, message, "a volume begins with `diskname = NAME`");
        return None;
    }
    let (word, value) = line.split_at_first(|c| c.is_whitespace() || c == ':').unwrap_or((line, line.part(0..0)));
    let Some(key) = Key::named(word.text).or_else(|| Key::near(word.text)) else {
        problems.add(line, message, "write `key = value`, or begin a comment with `#`");
        return None;
    };
    let example = if value.text.is_empty() { "VALUE" } else { value.text };
    problems.add(line, message, format!("write `{} = {example}`", key.name()));
    let value = Some(value).filter(|value| !value.text.is_empty());
    Some(Entry { key, line, value, guessed: true })
}

/// Checks what holds for the values of all keys.
fn usable_value<'a>(key: Key, line: Piece<'a>, value: Piece<'a>, problems: &mut Problems) -> Option<Piece<'a>> {
    if value.text.is_empty() && key != Key::Hotswap {
        problems.add(line, format!("`{}` has no value", key.name()), format!("write `{} = VALUE`", key.name()));
        return None;
    }
    if let Some(control) = value.text.chars().find(|&c| c.is_control() && c != '\t') {
        let message = format!("the control character {} is not allowed", control.escape_unicode());
        problems.add(value, message, "remove it");
        return None;
    }
    let unquoted = value.text.strip_prefix(['"', '\'']).and_then(|text| text.strip_suffix(['"', '\'']));
    if let Some(unquoted) = unquoted {
        let help = format!("write `{} = {unquoted}`; blanks need no quotes", key.name());
        problems.add(value, "the quotes would be part of the value", help);
        return None;
    }
    Some(value)
}
