//! Runs seeds, each in a thread by itself, and reports.

use std::cell::RefCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::story;
use crate::trace::{Counts, Trace};

thread_local! {
    /// The first panic of this thread since the last run began: tasks keep theirs to themselves.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Longest time of one seed, by the clock on the wall.
const WALL_MAX: Duration = Duration::from_secs(60);

/// What became of a seed.
pub struct Outcome {
    pub result: Result<(), String>,
    pub hash: u64,
    pub counts: Counts,
}

/// Notes panics instead of printing them.
pub fn watch_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.to_string();
        PANIC.with(|panic| drop(panic.borrow_mut().get_or_insert(message)));
    }));
}

/// Runs one seed.
pub fn run(seed: u64, shown: bool) -> Outcome {
    PANIC.with(|panic| panic.borrow_mut().take());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let trace = runtime.block_on(async { Trace::new(shown) });
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(story::run(seed, trace.clone()))));
    let result = result.unwrap_or_else(|_| Err("panicked".into()));
    // Tasks that are dropped here have nothing more to say.
    let panicked = PANIC.with(|panic| panic.borrow_mut().take());
    drop(catch_unwind(AssertUnwindSafe(|| drop(runtime))));
    let result = match panicked {
        Some(panic) => Err(panic),
        None => result,
    };
    Outcome { result, hash: trace.hash(), counts: trace.counts() }
}

/// Runs one seed. One that goes on without virtual time passing would never end: it ends everything.
pub fn guarded(seed: u64) -> Outcome {
    let (ended, end) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if end.recv_timeout(WALL_MAX) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                println!("seed {seed} does not come to an end");
                std::process::exit(1);
            }
        });
        let outcome = run(seed, false);
        drop(ended);
        outcome
    })
}

/// Runs one seed and shows all that happens.
pub fn show(seed: u64) -> ExitCode {
    tracing_subscriber::fmt().without_time().with_ansi(false).init();
    let outcome = run(seed, true);
    println!("seed {seed}: {:?}, trace {:016x}", outcome.result, outcome.hash);
    if outcome.result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs seeds on all processors, until one fails.
pub fn run_many(seeds: Range<u64>) -> ExitCode {
    let start = Instant::now();
    let (counts, failed) = (Mutex::new(Counts::new()), Mutex::new(Vec::new()));
    let next = AtomicU64::new(seeds.start);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = guarded(seed);
            let mut counts = counts.lock().unwrap();
            outcome.counts.into_iter().for_each(|(kind, count)| *counts.entry(kind).or_insert(0) += count);
            drop(counts);
            if let Err(why) = outcome.result {
                println!("seed {seed}: {why}");
                println!("replay: scripts/simulate --seed {seed}");
                failed.lock().unwrap().push(seed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let (seconds, count) = (start.elapsed().as_secs_f64(), seeds.end - seeds.start);
    println!("{count} seeds from {} in {seconds:.1} s, {:.1} seeds/s", seeds.start, count as f64 / seconds);
    for (kind, count) in counts.into_inner().unwrap() {
        println!("{count:>8} {kind}");
    }
    let failed = failed.into_inner().unwrap();
    println!("failed: {} {:?}", failed.len(), failed);
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
