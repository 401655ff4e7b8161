//! What happened in a run, in order: shown to people, counted by kind, and folded into one number by which two runs are
//! compared.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tracing::Event;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// How often each kind of fault was injected, and each kind of event was logged.
pub type Counts = BTreeMap<String, u64>;

struct State {
    hash: u64,
    counts: Counts,
}

/// The record of one run. Clones are the same record.
#[derive(Clone)]
pub struct Trace {
    state: Arc<Mutex<State>>,
    start: Instant,
    shown: bool,
}

impl Trace {
    /// An empty record; `shown` prints what is noted.
    pub fn new(shown: bool) -> Trace {
        // FNV-1a, whose offset basis and prime are these (RFC 9923).
        let state = State { hash: 0xcbf2_9ce4_8422_2325, counts: Counts::new() };
        Trace { state: Arc::new(Mutex::new(state)), start: Instant::now(), shown }
    }

    /// Notes an event with its virtual time.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>8} ms  {what}", self.start.elapsed().as_millis());
        let mut state = self.state.lock().unwrap();
        state.hash = line.bytes().fold(state.hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        if self.shown {
            println!("{line}");
        }
    }

    /// Notes and counts a fault.
    pub fn fault(&self, kind: &'static str, detail: fmt::Arguments<'_>) {
        self.count(kind.into());
        self.note(format_args!("FAULT {kind} {detail}"));
    }

    fn count(&self, kind: String) {
        *self.state.lock().unwrap().counts.entry(kind).or_insert(0) += 1;
    }

    /// Counts the events that volumes log in this thread while `run` does.
    pub fn count_events<T>(&self, run: impl FnOnce() -> T) -> T {
        let events = Targets::new().with_target("net_raid::events", LevelFilter::TRACE);
        let subscriber = tracing_subscriber::registry().with(EventCounter(self.clone()).with_filter(events));
        tracing::subscriber::with_default(subscriber, run)
    }

    /// All that was noted, as one number.
    pub fn hash(&self) -> u64 {
        self.state.lock().unwrap().hash
    }

    /// The faults so far.
    pub fn counts(&self) -> Counts {
        self.state.lock().unwrap().counts.clone()
    }
}

/// Counts events of volumes by what they say.
struct EventCounter(Trace);

impl<S: tracing::Subscriber> Layer<S> for EventCounter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Message(&self.0));
    }
}

struct Message<'a>(&'a Trace);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.count(format!("event: {value:?}"));
        }
    }
}
