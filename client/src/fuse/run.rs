//! How an operation runs: once on the thread that read the request, on the runtime only if it has to wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;

use super::answer::Answer;
use crate::fs::Errno;

const EIO: Errno = Errno(libc::EIO);

/// How long a request may take before the program gets EIO, whatever the operation does.
///
/// A safety net below the volume's own deadlines: fuser does not deliver interrupts, so a program that waits for an answer
/// cannot even be killed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Of most requests.
    usual: Duration,
}

impl Patience {
    /// Beyond `timeout`: a queue of writes in front of this one, on a slow network.
    const MARGIN: Duration = Duration::from_secs(60);
    /// Of requests whose work has no bound, such as fsync: only a deadlock takes that long.
    const UNBOUNDED: Duration = Duration::from_secs(3600);

    pub(super) fn new(timeout: Duration) -> Self {
        Self { usual: timeout * 2 + Self::MARGIN }
    }

    fn of(self, work: Work) -> Duration {
        match work {
            Work::Usual => self.usual,
            Work::Unbounded => Self::UNBOUNDED.max(self.usual),
        }
    }
}

/// How much an operation may have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// What one request carries.
    Usual,
    /// As much as was written before, or as a whole file has.
    Unbounded,
}

/// Runs operations.
pub(super) struct Runner {
    volume: Arc<str>,
    runtime: Handle,
    patience: Patience,
    /// Another client has the volume: nothing that is known here has to be right any more.
    replaced: Arc<AtomicBool>,
}

impl Runner {
    pub(super) fn new(volume: &str, runtime: Handle, patience: Patience, replaced: Arc<AtomicBool>) -> Self {
        Self { volume: volume.into(), runtime, patience, replaced }
    }

    /// Runs `operation` and answers with its result.
    ///
    /// It is polled at once, so that what can be answered from memory costs no thread hand-over, and what cannot has sent its
    /// messages when this returns. The first poll has a waker that does nothing: an operation that is pending is polled again by
    /// its task, which finds what became ready in between, and leaves the waker that counts.
    pub(super) fn run<A: Answer>(
        &self,
        name: &'static str,
        work: Work,
        answer: A,
        operation: impl Future<Output = Result<A::Value, Errno>> + Send + 'static,
    ) {
        if self.replaced.load(Ordering::Relaxed) {
            return answer.send(Err(EIO));
        }
        // Timers and tasks of the operation need to know the runtime.
        let _runtime = self.runtime.enter();
        let mut operation = Guarded { name, volume: Arc::clone(&self.volume), inner: Box::pin(operation) };
        match Pin::new(&mut operation).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => answer.send(result),
            Poll::Pending => {
                self.runtime.spawn(finish(operation, self.patience.of(work), answer));
            }
        }
    }

    /// Runs what needs no waiting and cannot fail.
    pub(super) fn now(&self, name: &'static str, operation: impl FnOnce()) {
        let _runtime = self.runtime.enter();
        if catch_unwind(AssertUnwindSafe(operation)).is_err() {
            report_panic(name, &self.volume);
        }
    }
}

/// Waits for an operation. One that takes too long is answered, but goes on: a write that ends in the middle would leave
/// members that differ.
async fn finish<A: Answer>(mut operation: Guarded<A::Value>, patience: Duration, answer: A) {
    match timeout(patience, &mut operation).await {
        Ok(result) => answer.send(result),
        Err(_) => {
            tracing::error!(volume = %operation.volume, operation = operation.name, ?patience, "request timed out");
            answer.send(Err(EIO));
            // Nobody waits for the result any more.
            let _ = operation.await;
        }
    }
}

/// A future whose panic is the error EIO, so that it costs the program its request but not the mount a thread.
struct Guarded<T> {
    name: &'static str,
    volume: Arc<str>,
    inner: Pin<Box<dyn Future<Output = Result<T, Errno>> + Send>>,
}

impl<T> Future for Guarded<T> {
    type Output = Result<T, Errno>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A future that panicked is never polled again, so nobody sees a broken invariant of its own.
        let poll = catch_unwind(AssertUnwindSafe(|| self.inner.as_mut().poll(context)));
        poll.unwrap_or_else(|_| {
            report_panic(self.name, &self.volume);
            Poll::Ready(Err(EIO))
        })
    }
}

/// The message and the place have been logged by the panic hook.
fn report_panic(operation: &'static str, volume: &str) {
    tracing::error!(%volume, operation, "a request's handler panicked");
}
