//! Runs seeds, each in one thread, on all processors, and reports.

use std::cell::RefCell;
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use net_raid_server::brick::sabotage::{Sabotage, choose};

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
        PANIC.with(|panic| {
            panic.borrow_mut().get_or_insert(message);
        });
    }));
}

/// Runs one seed, with bricks that do something wrong on purpose.
pub fn run(seed: u64, sabotage: Sabotage, shown: bool) -> Outcome {
    PANIC.with(|panic| panic.borrow_mut().take());
    choose(sabotage);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let trace = runtime.block_on(async { Trace::new(shown) });
    let story = || runtime.block_on(story::run(seed, trace.clone()));
    // Whoever is shown a seed is shown what it logs too.
    let result = catch_unwind(AssertUnwindSafe(|| if shown { story() } else { trace.count_events(story) }));
    let result = result.unwrap_or_else(|_| Err("panicked".into()));
    let panicked = PANIC.with(|panic| panic.borrow_mut().take());
    // Tasks that are dropped here have nothing more to say.
    drop(catch_unwind(AssertUnwindSafe(|| drop(runtime))));
    choose(Sabotage::None);
    let result = match panicked {
        Some(panic) => Err(panic),
        None => result,
    };
    Outcome { result, hash: trace.hash(), counts: trace.counts() }
}

/// The same. A seed that goes on without virtual time passing would never end: it ends everything.
fn guarded(seed: u64, sabotage: Sabotage) -> Outcome {
    let (ended, end) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if end.recv_timeout(WALL_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
                println!("seed {seed} with {sabotage:?} does not come to an end");
                std::process::exit(1);
            }
        });
        let outcome = run(seed, sabotage, false);
        drop(ended);
        outcome
    })
}

/// Calls `work` with seeds in order, on all processors, until it says that it has seen enough.
fn each(seeds: Range<u64>, work: impl Fn(u64) -> ControlFlow<()> + Sync) {
    let (next, over) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let run = || {
        while !over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if work(seed).is_break() {
                over.store(true, Ordering::Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(run))));
}

/// Runs one seed and shows all that happens.
pub fn show(seed: u64) -> bool {
    tracing_subscriber::fmt().without_time().with_ansi(false).init();
    let outcome = run(seed, Sabotage::None, true);
    println!("seed {seed}: {:?}, trace {:016x}", outcome.result, outcome.hash);
    outcome.result.is_ok()
}

/// Runs seeds; whether all went well, and each of these was logged at least once.
pub fn run_many(seeds: Range<u64>, expected: &[&str]) -> bool {
    let start = Instant::now();
    let (counts, failed) = (Mutex::new(Counts::new()), Mutex::new(Vec::new()));
    each(seeds.clone(), |seed| {
        let outcome = guarded(seed, Sabotage::None);
        let mut counts = counts.lock().unwrap();
        outcome.counts.into_iter().for_each(|(kind, count)| *counts.entry(kind).or_insert(0) += count);
        drop(counts);
        if let Err(why) = outcome.result {
            println!("seed {seed}: {why}\nreplay: scripts/simulate --seed {seed}");
            failed.lock().unwrap().push(seed);
        }
        ControlFlow::Continue(())
    });
    let (seconds, count) = (start.elapsed().as_secs_f64(), seeds.end - seeds.start);
    println!("{count} seeds from {} in {seconds:.1} s, {:.1} seeds/s", seeds.start, count as f64 / seconds);
    let counts = counts.into_inner().unwrap();
    for (kind, count) in &counts {
        println!("{count:>8} {kind}");
    }
    let failed = failed.into_inner().unwrap();
    println!("failed: {} {failed:?}", failed.len());
    let missing: Vec<_> = expected.iter().filter(|event| !counts.contains_key(&format!("event: {event}"))).collect();
    println!("never happened: {missing:?}");
    failed.is_empty() && missing.is_empty()
}

/// Whether a seed is the same whenever it runs.
pub fn replays_exactly(seeds: Range<u64>) -> bool {
    let differing = Mutex::new(Vec::new());
    each(seeds.clone(), |seed| {
        if guarded(seed, Sabotage::None).hash != guarded(seed, Sabotage::None).hash {
            differing.lock().unwrap().push(seed);
        }
        ControlFlow::Continue(())
    });
    let differing = differing.into_inner().unwrap();
    println!("{} seeds run twice, differing: {differing:?}", seeds.end - seeds.start);
    differing.is_empty()
}

/// Whether some seed notices a fault that was put in on purpose, and only that.
pub fn is_caught(sabotage: Sabotage, seeds: Range<u64>) -> bool {
    let caught = Mutex::new(None);
    each(seeds.clone(), |seed| match guarded(seed, sabotage).result {
        Err(why) if guarded(seed, Sabotage::None).result.is_ok() => {
            caught.lock().unwrap().get_or_insert((seed, why));
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    match caught.into_inner().unwrap() {
        Some((seed, why)) => {
            let shown: String = why.chars().take(120).collect();
            println!("{sabotage:?} is caught by seed {seed}: {shown}");
            true
        }
        None => {
            println!("{sabotage:?} is not caught by seeds {seeds:?}");
            false
        }
    }
}
