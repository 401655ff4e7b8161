//! The errorlogs of all volumes; volumes with the same path share one.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, VolumeConfig};
use crate::events::EventLog;

/// Open errorlogs by their paths.
#[derive(Clone)]
pub(super) struct Logs(HashMap<Option<PathBuf>, Arc<EventLog>>);

/// Why an errorlog cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the errorlog {} cannot be opened: {error}", path.as_deref().unwrap_or("".as_ref()).display())]
pub(super) struct LogError {
    path: Option<PathBuf>,
    error: io::Error,
}

impl Logs {
    /// Opens all errorlogs of a configuration.
    pub(super) fn open(config: &Config) -> Result<Self, LogError> {
        let mut logs = HashMap::new();
        for VolumeConfig { errorlog: path, .. } in &config.volumes {
            if !logs.contains_key(path) {
                let log = EventLog::open(path.as_deref()).map_err(|error| LogError { path: path.clone(), error })?;
                logs.insert(path.clone(), Arc::new(log));
            }
        }
        Ok(Self(logs))
    }

    /// The errorlog of one of the configuration's volumes.
    pub(super) fn of(&self, volume: &VolumeConfig) -> Arc<EventLog> {
        Arc::clone(&self.0[&volume.errorlog])
    }

    /// Opens the files anew, after they were rotated.
    pub(super) fn reopen(&self) {
        for (path, log) in &self.0 {
            if let Err(error) = log.reopen() {
                tracing::error!(?path, %error, "errorlog cannot be opened again");
            }
        }
    }
}
