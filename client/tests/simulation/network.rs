//! Streams that are delayed, held, cut, and cut off with bytes still on their way.
//!
//! Each direction of a connection is a task that carries bytes. Connections have delays of their own, so that what is
//! sent on several of them arrives in any order; on one of them the order stays, as TCP promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use net_raid_server::disk::sim::Random;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// Bytes that one side of a stream holds.
pub const STREAM_BUFFER: usize = 256 * 1024;
/// Bytes that travel together.
const CHUNKS: [usize; 3] = [1500, 16 * 1024, 64 * 1024];

/// What one direction of a connection meets.
pub struct Way {
    /// Nothing passes while one of them is true.
    pub gates: Vec<watch::Receiver<bool>>,
    /// The sender is gone: what it has not sent by now is never sent.
    pub silenced: Vec<Arc<AtomicBool>>,
    /// The connection is reset when this turns true.
    pub cut: watch::Receiver<bool>,
    pub random: Random,
    /// Longest delay in ms.
    pub delay_max: u64,
}

impl Way {
    fn is_silenced(&self) -> bool {
        self.silenced.iter().any(|silenced| silenced.load(Ordering::SeqCst))
    }

    async fn open(&mut self) {
        for gate in &mut self.gates {
            // A gate whose other side is gone stays as it is: open, or its task is aborted.
            let _ = gate.wait_for(|closed| !closed).await;
        }
    }

    async fn run<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(mut self, mut from: R, mut to: W) {
        let mut cut = self.cut.clone();
        tokio::select! {
            biased;
            // A client that is gone cuts nothing any more.
            Ok(_) = cut.wait_for(|cut| *cut) => {}
            () = self.carry(&mut from, &mut to) => {}
        }
        let _ = to.shutdown().await;
    }

    async fn carry<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(&mut self, from: &mut R, to: &mut W) {
        let mut buffer = vec![0; CHUNKS[self.random.below(CHUNKS.len() as u64) as usize]];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            // Half of everything arrives at once.
            let delay = if self.random.chance(4) { 0 } else { self.random.below(self.delay_max + 1) };
            if delay > 0 {
                sleep(Duration::from_millis(delay)).await;
            }
            self.open().await;
            if self.is_silenced() {
                return;
            }
            if to.write_all(&buffer[..len]).await.is_err() {
                return;
            }
        }
        // The end travels like everything else.
        self.open().await;
    }
}

/// Begins to carry bytes in one direction.
pub fn carry<R, W>(way: Way, from: R, to: W) -> AbortHandle
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(way.run(from, to)).abort_handle()
}
