//! Answers on their way out. Whoever has one and finds the stream idle writes it, and all that come
//! meanwhile: nobody waits for a lock, and an idle stream costs no wake-up.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::timeout;

use super::WRITE_TIMEOUT;
use super::buffers::Buffers;

/// Answers written with one system call; two slices each stay far below IOV_MAX (1024).
const BATCH_MAX: usize = 64;
/// Answers that wait for one more to be sent with them.
const DEFER_MAX: usize = 16;
/// Bytes of them: a larger answer is better on its way than together with the next.
const DEFER_BYTES_MAX: usize = 16 * 1024;

/// A sealed answer.
pub(super) struct Outgoing {
    /// Header and body.
    pub head: Vec<u8>,
    /// What follows them.
    pub payload: Vec<u8>,
    /// Its request is in flight until this is dropped.
    pub _permit: OwnedSemaphorePermit,
}

/// The sending half of a connection.
pub(super) struct Outbox<W> {
    state: Mutex<State<W>>,
    /// Signals that the session must end.
    ending: Notify,
    /// Signals whoever writes that nothing is to be sent any more.
    closing: Notify,
    /// Where the payloads of answers come from and go to.
    pub buffers: Buffers,
}

struct State<W> {
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
    /// Absent while somebody writes, and in the end.
    writer: Option<W>,
    /// Nothing is sent any more; what comes is dropped.
    closed: bool,
    error: Option<io::Error>,
}

impl<W: AsyncWrite + Unpin> Outbox<W> {
    pub fn new(writer: W) -> Self {
        let state = State { queue: VecDeque::new(), queued_bytes: 0, writer: Some(writer), closed: false, error: None };
        Outbox { state: Mutex::new(state), ending: Notify::new(), closing: Notify::new(), buffers: Buffers::default() }
    }

    /// Queues an answer; true when it should be flushed now.
    pub fn push(&self, answer: Outgoing) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.queued_bytes += answer.head.len() + answer.payload.len();
        state.queue.push_back(answer);
        state.queue.len() >= DEFER_MAX || state.queued_bytes >= DEFER_BYTES_MAX
    }

    /// Sends all that is queued, unless somebody does already: then they send it.
    ///
    /// Not cancel safe: the connection is over when this is dropped while it writes.
    pub async fn flush(&self) {
        let Some(mut writer) = self.claim() else { return };
        loop {
            // Before it is seen whether the outbox is closed, so that closing cannot slip between.
            let closing = self.closing.notified();
            let (same, batch) = match self.next_batch(writer) {
                Some(more) => more,
                None => return,
            };
            writer = same;
            let written = tokio::select! {
                biased;
                written = write_all(&mut writer, &batch) => written,
                () = closing => return,
            };
            if let Err(why) = written {
                return self.fail(why);
            }
            batch.into_iter().for_each(|answer| self.buffers.put(answer.payload));
        }
    }

    /// Takes the writer, when there is something to write.
    fn claim(&self) -> Option<W> {
        let mut state = self.lock();
        if state.queue.is_empty() { None } else { state.writer.take() }
    }

    /// What is next; gives the writer back when there is nothing.
    fn next_batch(&self, writer: W) -> Option<(W, Vec<Outgoing>)> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        if state.queue.is_empty() {
            state.writer = Some(writer);
            return None;
        }
        let count = state.queue.len().min(BATCH_MAX);
        let batch: Vec<Outgoing> = state.queue.drain(..count).collect();
        state.queued_bytes -= batch.iter().map(|answer| answer.head.len() + answer.payload.len()).sum::<usize>();
        Some((writer, batch))
    }

    fn fail(&self, why: io::Error) {
        self.close();
        self.lock().error = Some(why);
        self.ending.notify_one();
    }

    /// Drops what is queued and what comes; the stream is closed.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.writer = None;
        state.queue.clear();
        state.queued_bytes = 0;
        drop(state);
        self.closing.notify_waiters();
    }

    /// Lets the session end after what is queued is sent.
    pub fn end_after_queued(&self) {
        self.ending.notify_one();
    }

    /// Waits until the session must end: nothing can be sent any more, or nothing should be.
    pub async fn ending(&self) {
        self.ending.notified().await;
    }

    /// Why nothing can be sent any more.
    pub fn error(&self) -> Option<io::Error> {
        self.lock().error.take()
    }

    /// Says to the client that nothing more follows.
    pub async fn shutdown(&self) {
        let writer = self.lock().writer.take();
        if let Some(mut writer) = writer {
            // The client may be gone, or not care: either way this was the last word.
            let _ = in_time(writer.shutdown()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes headers, bodies and payloads from where they are.
async fn write_all<W: AsyncWrite + Unpin>(writer: &mut W, batch: &[Outgoing]) -> io::Result<()> {
    let pieces = batch.iter().flat_map(|answer| [&answer.head, &answer.payload]);
    let mut slices: Vec<IoSlice> = pieces.filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match in_time(writer.write_vectored(rest)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut rest, written),
        }
    }
    in_time(writer.flush()).await
}

async fn in_time<T>(progress: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let stalled = |_| io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes");
    timeout(WRITE_TIMEOUT, progress).await.map_err(stalled)?
}
