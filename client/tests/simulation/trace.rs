//! What happened in a run, in order: shown to people, counted by kind, and folded into one number by which two runs are
//! compared.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

/// How often each kind of fault was injected.
pub type Counts = BTreeMap<&'static str, u64>;

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
        *self.state.lock().unwrap().counts.entry(kind).or_insert(0) += 1;
        self.note(format_args!("FAULT {kind} {detail}"));
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
