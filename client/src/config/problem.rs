//! What is wrong with a configuration, and how it is shown: one compact line for each error, or with the line of the file
//! drawn by miette.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use super::line::Piece;
use super::value::Rejected;

/// The width for which snippets are drawn, in columns.
const RENDER_WIDTH: usize = 100;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The line, counted from 1; `None` where the whole file is meant.
    pub line: Option<usize>,
    /// The line itself, without blanks around it.
    pub text: String,
    /// What is wrong, in one clause.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The bytes of the file to underline.
    span: Range<usize>,
}

/// Everything that is wrong with a file, in the order of its lines; never empty.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    path: PathBuf,
    text: String,
    errors: Vec<ConfigError>,
}

/// Collects what is wrong while a file is read.
#[derive(Default)]
pub(super) struct Problems(Vec<ConfigError>);

impl Problems {
    /// Notes that `piece` of the file is wrong.
    pub(super) fn add(&mut self, piece: Piece<'_>, message: impl Into<String>, help: impl Into<String>) {
        self.0.push(ConfigError {
            line: Some(piece.line),
            text: String::new(),
            message: message.into(),
            help: Some(help.into()),
            span: piece.span(),
        });
    }

    /// Notes a value's rejection, and passes on an accepted one.
    pub(super) fn accept<T>(&mut self, piece: Piece<'_>, value: Result<T, Rejected>) -> Option<T> {
        value.map_err(|rejected| self.add(piece, rejected.message, rejected.help)).ok()
    }

    /// Notes that the file as a whole is wrong.
    pub(super) fn add_to_file(&mut self, message: impl Into<String>, help: impl Into<String>) {
        let (message, help) = (message.into(), Some(help.into()));
        self.0.push(ConfigError { line: None, text: String::new(), message, help, span: 0..0 });
    }

    /// `good` if there was no problem, else all of them.
    pub(super) fn or<T>(self, good: T, path: &Path, text: &str) -> Result<T, ConfigErrors> {
        if self.0.is_empty() {
            return Ok(good);
        }
        Err(ConfigErrors::new(path, text, self.0))
    }
}

impl ConfigErrors {
    fn new(path: &Path, text: &str, mut errors: Vec<ConfigError>) -> Self {
        // Errors of the whole file come last. A default that does not fit is noticed by every volume, but is one error.
        errors.sort_by_key(|error| (error.line.is_none(), error.line, error.span.start));
        errors.dedup_by(|a, b| a.line == b.line && a.message == b.message && a.span == b.span);
        let lines: Vec<&str> = text.split('\n').collect();
        for error in &mut errors {
            let line = error.line.and_then(|line| lines.get(line - 1)).copied().unwrap_or_default();
            error.text = line.trim_start_matches('\u{feff}').trim().to_owned();
        }
        Self { path: path.to_owned(), text: drawable(text), errors }
    }

    /// These and more about the same file.
    #[must_use]
    pub fn and(mut self, other: ConfigErrors) -> ConfigErrors {
        self.errors.extend(other.errors);
        self.errors.sort_by_key(|error| (error.line.is_none(), error.line, error.span.start));
        self
    }

    pub(super) fn whole_file(path: &Path, message: &str, help: Option<&str>) -> Self {
        let (message, help) = (message.to_owned(), help.map(str::to_owned));
        Self::new(path, "", vec![ConfigError { line: None, text: String::new(), message, help, span: 0..0 }])
    }

    /// The file's first `valid` bytes are UTF-8, the next one is not.
    pub(super) fn not_utf8(path: &Path, bytes: &[u8], valid: usize) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let line = bytes[..valid].iter().filter(|&&byte| byte == b'\n').count() + 1;
        let message = format!("the byte 0x{:02x} is not UTF-8", bytes[valid]);
        let help = Some("save the file as UTF-8".to_owned());
        let span = valid..valid + char::REPLACEMENT_CHARACTER.len_utf8();
        Self::new(path, &text, vec![ConfigError { line: Some(line), text: String::new(), message, help, span }])
    }

    /// The errors in the order of their lines.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// All errors with the lines they are about, drawn with colours for a `terminal`, else in ASCII without any escape code.
    pub fn render(&self, terminal: bool) -> String {
        let theme = if terminal { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(RENDER_WIDTH).with_links(false);
        let source = NamedSource::new(escaped(&self.path.to_string_lossy()), self.text.clone());
        let mut out = String::new();
        for error in &self.errors {
            let snippet = Snippet { error, path: &self.path, source: &source };
            // Only a formatter that fails could make this fail, and a String does not.
            let _ = handler.render_report(&mut out, &snippet);
        }
        out
    }

    /// Writes the errors to stderr: drawn with colours if it is a terminal that wants them, else plainly.
    ///
    /// # Errors
    /// Stderr cannot be written.
    pub fn print(&self) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let text = self.render(stderr.is_terminal() && colours);
        stderr.write_all(text.as_bytes())
    }
}

/// One line for each error: ``FILE:LINE: message: `the line`; help``.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = escaped(&self.path.to_string_lossy());
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            write!(f, "{path}:")?;
            if let Some(line) = error.line {
                write!(f, "{line}:")?;
            }
            write!(f, " {}", escaped(&error.message))?;
            if error.line.is_some() {
                write!(f, ": `{}`", escaped(&error.text))?;
            }
            if let Some(help) = &error.help {
                write!(f, "; {}", escaped(help))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One error as miette wants it.
#[derive(Debug)]
struct Snippet<'a> {
    error: &'a ConfigError,
    path: &'a Path,
    source: &'a NamedSource<String>,
}

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.error.line.is_none() {
            write!(f, "{}: ", escaped(&self.path.to_string_lossy()))?;
        }
        f.write_str(&escaped(&self.error.message))
    }
}

impl std::error::Error for Snippet<'_> {}

impl Diagnostic for Snippet<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.help.as_deref().map(|help| Box::new(escaped(help)) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.error.line.map(|_| self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.error.line?;
        let label = LabeledSpan::new_with_span(None, self.error.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

/// The text with control characters spelled out, so that a file cannot steer the terminal it is shown on.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}

/// As [`escaped`], but every byte keeps its place, which the spans rely on.
fn drawable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            // A carriage return belongs to a line's end here or is an error of its own.
            '\r' => out.push(' '),
            '\u{feff}' => out.push_str("   "),
            c if c.is_control() && c != '\n' && c != '\t' => out.extend(std::iter::repeat_n('?', c.len_utf8())),
            c => out.push(c),
        }
        out
    })
}
