//! Signals: SIGTERM and SIGINT end all volumes, SIGHUP opens the errorlogs anew, SIGUSR1 scrubs all volumes.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::logs::Logs;

/// Becomes `true` when all volumes are to end.
pub(super) type Stop = watch::Receiver<bool>;

/// Counts how often all volumes were to be scrubbed.
pub(super) type Scrub = watch::Receiver<u64>;

/// Starts to listen. To be called within a tokio runtime.
///
/// # Errors
/// The kernel does not let a handler be installed.
pub(super) fn listen(logs: Logs) -> io::Result<(watch::Sender<bool>, Stop, Scrub)> {
    let (sender, stop) = watch::channel(false);
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(end_on(terminate, sender.clone()));
    tokio::spawn(end_on(interrupt, sender.clone()));
    tokio::spawn(reopen_on(signal(SignalKind::hangup())?, logs));
    let (count, scrub) = watch::channel(0);
    tokio::spawn(count_on(signal(SignalKind::user_defined1())?, count));
    Ok((sender, stop, scrub))
}

/// Waits until all volumes are to end.
pub(super) async fn stopped(stop: &mut Stop) {
    // Without a sender nobody could say it any more.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn end_on(mut signal: Signal, stop: watch::Sender<bool>) {
    while signal.recv().await.is_some() {
        stop.send_replace(true);
    }
}

async fn count_on(mut signal: Signal, count: watch::Sender<u64>) {
    while signal.recv().await.is_some() {
        count.send_modify(|count| *count += 1);
    }
}

async fn reopen_on(mut signal: Signal, logs: Logs) {
    while signal.recv().await.is_some() {
        logs.reopen();
    }
}
