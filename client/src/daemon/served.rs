//! One volume from its servers to its mount, and back.
//!
//! ```text
//! assembled -> mounted -> serving -> umount by a user ----------------> closed
//!                                 -> stop: written back, detached ----> closed
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::signals::{Scrub, Stop, stopped};
use crate::config::VolumeConfig;
use crate::conn;
use crate::events::{Event, EventLog};
use crate::fs::Fs;
use crate::fuse::Server;
use crate::mounts::{self, Mount, MountError};
use crate::volume::{self, AssemblyError};

/// How long the kernel may take to write its dirty pages before the mount is detached anyway.
const WRITE_BACK_PATIENCE: Duration = Duration::from_secs(60);
/// How long programs that still hold files open keep a detached mount alive.
const LINGER: Duration = Duration::from_secs(1);
/// How long making everything durable may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(60);

/// Why a volume is not mounted.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// Its servers, and why they do not make a volume.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    /// Its mountpoint.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The kernel and we do not agree.
    #[error("the kernel does not begin to use the mount: {0}")]
    Handshake(io::Error),
    /// No thread could be started.
    #[error("no threads: {0}")]
    Threads(io::Error),
    /// All volumes are to end.
    #[error("stopped")]
    Stopped,
}

/// A mounted volume.
pub(super) struct Served {
    name: String,
    events: Arc<EventLog>,
    fs: Arc<Fs>,
    mount: Arc<Mount>,
    /// Comes when the mount is gone and no program uses it any more.
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Served {
    /// Assembles the volume and mounts it. What fails leaves nothing behind.
    pub(super) async fn start(config: VolumeConfig, events: Arc<EventLog>, mut stop: Stop) -> Result<Self, StartError> {
        let fs = tokio::select! {
            fs = assemble(&config, &events) => fs?,
            () = stopped(&mut stop) => return Err(StartError::Stopped),
        };
        let name = config.name.clone();
        let (runtime, to_mount) = (Handle::current(), Arc::clone(&fs));
        let mounted = spawn_blocking(move || mount(&config, to_mount, runtime)).await;
        match mounted.unwrap_or_else(|panic| Err(StartError::Threads(panic.into()))) {
            Ok((mount, ended)) => {
                events.log(&name, None, &Event::VolumeMounted { mountpoint: mount.path().to_owned() });
                Ok(Self { name, events, fs, mount: Arc::new(mount), ended })
            }
            Err(error) => {
                close(&name, &fs).await;
                Err(error)
            }
        }
    }

    /// Serves until the volume is unmounted or all are to end, and closes it.
    pub(super) async fn serve(mut self, mut stop: Stop, scrub: Scrub) {
        let fs = Arc::clone(&self.fs);
        tokio::select! {
            result = &mut self.ended => self.report(result),
            () = stopped(&mut stop) => self.unmount().await,
            () = scrub_on(&fs, scrub) => {}
        }
        close(&self.name, &self.fs).await;
        self.events.log(&self.name, None, &Event::VolumeUnmounted);
    }

    fn report(&self, result: Result<io::Result<()>, oneshot::error::RecvError>) {
        let result = result.unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        if let Err(error) = result {
            tracing::error!(volume = self.name, %error, "the kernel's requests cannot be read any more");
            // Nobody serves it any more, so it should not be in anybody's way.
            self.detach();
        }
    }

    /// Takes the mount away, although programs may use it: what they wrote so far is kept, what comes after that fails.
    async fn unmount(&mut self) {
        let mount = Arc::clone(&self.mount);
        match timeout(WRITE_BACK_PATIENCE, spawn_blocking(move || mount.sync())).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(volume = self.name, %error, "not all could be written back"),
            Ok(Err(_)) | Err(_) => tracing::error!(volume = self.name, "writing back takes too long"),
        }
        self.detach();
        if timeout(LINGER, &mut self.ended).await.is_err() {
            tracing::warn!(volume = self.name, "programs still have files open, and lose them");
        }
    }

    fn detach(&self) {
        if let Err(error) = tokio::task::block_in_place(|| self.mount.detach()) {
            tracing::error!(volume = self.name, %error, "the mount cannot be detached");
        }
    }
}

/// Scrubs as often as that is asked for; never ends.
async fn scrub_on(fs: &Fs, mut scrub: Scrub) {
    while scrub.changed().await.is_ok() {
        fs.scrub();
    }
    std::future::pending().await
}

async fn assemble(config: &VolumeConfig, events: &Arc<EventLog>) -> Result<Arc<Fs>, StartError> {
    // It logs by itself why it fails.
    let volume = volume::open(config, conn::real_world(), Arc::clone(events)).await?;
    Ok(Fs::new(volume))
}

/// Mounts and begins to serve. Blocks as long as the kernel takes.
fn mount(
    config: &VolumeConfig,
    fs: Arc<Fs>,
    runtime: Handle,
) -> Result<(Mount, oneshot::Receiver<io::Result<()>>), StartError> {
    let (device, mount) = mounts::mount(&config.name, &config.mountpoint)?;
    let begun = begin(config, fs, device, runtime);
    match begun {
        Ok(ended) => {
            mount.tune();
            Ok((mount, ended))
        }
        Err(error) => {
            // The mount is dead; the first error is the one to tell.
            let _ = mount.detach();
            Err(error)
        }
    }
}

fn begin(
    config: &VolumeConfig,
    fs: Arc<Fs>,
    device: std::os::fd::OwnedFd,
    runtime: Handle,
) -> Result<oneshot::Receiver<io::Result<()>>, StartError> {
    let server = Server::new(&config.name, fs, device, runtime, config.timeout).map_err(StartError::Handshake)?;
    let (sender, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("fuse".to_owned());
    // Nobody waits for it once the process ends.
    thread.spawn(move || drop(sender.send(server.run()))).map_err(StartError::Threads)?;
    Ok(ended)
}

async fn close(name: &str, fs: &Fs) {
    if timeout(CLOSE_PATIENCE, fs.close()).await.is_err() {
        tracing::error!(volume = name, "closing takes too long; the next mount recovers");
    }
}
