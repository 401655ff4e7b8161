//! Where messages go that are not events: to stderr in the foreground, else into the errorlog.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::Plan;

/// How messages on stderr look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// An object for programs.
    Json,
}

/// Starts logging, also of panics.
pub(super) fn start(plan: &Plan) {
    if plan.foreground {
        let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter(LevelFilter::INFO));
        match plan.log_format {
            LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
            LogFormat::Json => builder.json().init(),
        }
    } else if let Some(path) = errorlog(plan) {
        // Events are in the errorlog already.
        let filter = filter(LevelFilter::WARN).add_directive(off("net_raid::events"));
        tracing_subscriber::fmt().with_writer(Appender(path)).with_env_filter(filter).event_format(Line).init();
    }
    std::panic::set_hook(Box::new(report_panic));
}

/// The errorlog of no volume in particular.
fn errorlog(plan: &Plan) -> Option<PathBuf> {
    let of_volumes = || plan.config.volumes.iter().find_map(|volume| volume.errorlog.clone());
    plan.config.errorlog.clone().or_else(of_volumes)
}

fn filter(default: LevelFilter) -> EnvFilter {
    let builder = EnvFilter::builder().with_default_directive(default.into());
    // fuser calls it an error when a program was killed while it waited for an answer.
    builder.from_env_lossy().add_directive(off("fuser"))
}

fn off(target: &str) -> tracing_subscriber::filter::Directive {
    // Both targets are words that a directive may consist of.
    format!("{target}=off").parse().unwrap_or_else(|_| LevelFilter::OFF.into())
}

fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let location = panic.location().map(ToString::to_string);
    tracing::error!(location, "panic: {message}");
}

/// Opens the file for each message, which are few, so that a rotated one is found again.
struct Appender(PathBuf);

impl<'a> MakeWriter<'a> for Appender {
    type Writer = Box<dyn io::Write>;

    fn make_writer(&'a self) -> Self::Writer {
        match OpenOptions::new().append(true).open(&self.0) {
            Ok(file) => Box::new(file),
            // There is no place left to tell of it.
            Err(_) => Box::new(io::sink()),
        }
    }
}

/// A line like those of events: time, `-` for volume and server, and what there is to say.
pub(super) struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, " - - {}: ", event.metadata().level().as_str().to_lowercase())?;
        // One line each, whatever a message or a file name has in it.
        for c in text.chars() {
            if c.is_control() { write!(writer, "{}", c.escape_default())? } else { writer.write_char(c)? }
        }
        writeln!(writer)
    }
}
