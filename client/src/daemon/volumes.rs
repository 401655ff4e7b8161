//! All volumes: started at the same time, served each by itself.

use tokio::task::JoinSet;

use super::background::Verdict;
use super::logs::Logs;
use super::served::{Served, StartError};
use super::signals::{self, Scrub, Stop};
use super::{EXIT_FAILED, EXIT_OK, complain};
use crate::config::VolumeConfig;

/// Mounts the volumes, gives the verdict, and serves until the last one has ended. Returns the exit code.
pub(super) async fn run(volumes: Vec<VolumeConfig>, logs: Logs, verdict: Verdict) -> u8 {
    let (stopper, stop, scrub) = match signals::listen(logs.clone()) {
        Ok(all) => all,
        Err(error) => return super::give_up(&format!("no signal handlers: {error}"), EXIT_FAILED, verdict),
    };
    let count = volumes.len();
    let served = start(volumes, &logs, &stop).await;
    let code = if served.len() == count { EXIT_OK } else { EXIT_FAILED };
    if verdict.give(code).is_err() {
        // Whoever started this did not wait for it (^C), so it is not wanted.
        stopper.send_replace(true);
    }
    serve(served, &stop, &scrub).await;
    code
}

/// Starts all volumes, and says on stderr why those that cannot be mounted are not.
async fn start(volumes: Vec<VolumeConfig>, logs: &Logs, stop: &Stop) -> Vec<Served> {
    let mut starting = JoinSet::new();
    for volume in volumes {
        let (events, stop) = (logs.of(&volume), stop.clone());
        starting.spawn(async move {
            let name = volume.name.clone();
            (name, Served::start(volume, events, stop).await)
        });
    }
    let mut served = Vec::new();
    while let Some(started) = starting.join_next().await {
        match started {
            Ok((_, Ok(volume))) => served.push(volume),
            Ok((name, Err(StartError::Stopped))) => tracing::info!(volume = name, "stopped before it was mounted"),
            Ok((name, Err(error))) => {
                complain(&format!("{name} is not mounted: {error}"), EXIT_FAILED);
            }
            // A panic, of which the panic hook has told.
            Err(error) => {
                complain(&format!("a volume is not mounted: {error}"), EXIT_FAILED);
            }
        }
    }
    served
}

async fn serve(volumes: Vec<Served>, stop: &Stop, scrub: &Scrub) {
    let mut serving = JoinSet::new();
    for volume in volumes {
        serving.spawn(volume.serve(stop.clone(), scrub.clone()));
    }
    while let Some(ended) = serving.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a volume ended badly");
        }
    }
}
