//! Signals: SIGTERM and SIGINT end all volumes, SIGHUP opens the errorlogs anew.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::logs::Logs;

/// Becomes `true` when all volumes are to end.
pub(super) type Stop = watch::Receiver<bool>;

/// Starts to listen. To be called within a tokio runtime.
///
/// # Errors
/// The kernel does not let a handler be installed.
pub(super) fn listen(logs: Logs) -> io::Result<(watch::Sender<bool>, Stop)> {
    let (sender, stop) = watch::channel(false);
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(end_on(terminate, sender.clone()));
    tokio::spawn(end_on(interrupt, sender.clone()));
    tokio::spawn(reopen_on(signal(SignalKind::hangup())?, logs));
    Ok((sender, stop))
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

async fn reopen_on(mut signal: Signal, logs: Logs) {
    while signal.recv().await.is_some() {
        logs.reopen();
    }
}
