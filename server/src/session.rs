//! One client's connection: requests in, answers out, in whatever order they are ready.
//!
//! ```text
//!  frames ──> receive ──fast──> answer ──> outbox ──> stream
//!                │                ^
//!                └──slow──> a thread of its own
//! ```
//!
//! Fast requests run in the task that reads, because handing one to another thread and back costs
//! more than the request itself. Slow ones (fsync, cold reads) run elsewhere and hold up nobody.
//! Requests in flight may be done in any order: a client that needs one waits for the answer.
//!
//! Nothing here starts a thread by itself, reads a clock, or knows that the stream is TCP: the
//! [`Context`] says how, so that sessions also run over in-memory streams on a paused clock.

mod buffers;
mod fence;
mod frames;
mod outbox;
mod service;
mod trouble;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::time::Duration;

use net_raid_proto::codec;
use net_raid_proto::frame::{FrameKind, Header, seal};
use net_raid_proto::ids::Epoch;
use net_raid_proto::limits::{BODY_MAX, PAGE_BODY_MAX, PAYLOAD_MAX, UNIT_SIZE};
use net_raid_proto::message::{Answer, Fault, Reply, Request, VERSION_MAX, VERSION_MIN};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use fence::Cut;
use frames::{Accept, Frame, FrameReader};
use outbox::{Outbox, Outgoing};
pub use service::{Context, Service, SlowWork};
pub use trouble::Trouble;

/// Time in which a new connection must say `Hello`.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which a frame that began must be here.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// Time in which a client must take at least one byte of what is sent to it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// What one connection may have in flight, in weights (see `weight`): 16 MiB and fewer requests.
pub const IN_FLIGHT_MAX: u32 = 256;

// Any single request fits, else its connection would stand still for ever.
const _: () = assert!(2 * (PAYLOAD_MAX / UNIT_SIZE) < IN_FLIGHT_MAX as usize);

/// Serves one connection until the client ends it, breaks the protocol, or `stop` turns true.
///
/// Returns when no work of this connection is left, so that the brick may be closed afterwards.
/// Not cancel safe: dropping it may cut an answer in two, and leaves slow work running.
pub async fn serve<S, R, W>(
    context: &Arc<Context<S>>,
    reader: R,
    writer: W,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
) where
    S: Service,
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let session = Arc::new(Session {
        context: context.clone(),
        outbox: Outbox::new(writer),
        in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX as usize)),
        peer,
    });
    let mut ended = pin!(async {
        tokio::select! {
            biased;
            // An error means that the server itself is gone: the same thing.
            _ = stop.wait_for(|stop| *stop) => End::Stopped,
            () = session.outbox.ending() => session.outbox.error().map_or(End::Stopped, |why| End::Trouble(why.into())),
        }
    });
    let mut frames = FrameReader::new(reader);
    let hello = tokio::select! {
        biased;
        end = &mut ended => Err(end),
        hello = hello(&mut frames) => hello,
    };
    let end = match hello {
        Ok(hello) => match session.welcome(hello).await {
            Some(version) => session.receive(&mut frames, version, ended).await,
            None => End::Stopped,
        },
        Err(end) => end,
    };
    session.finish(end).await;
}

/// Why a session is over.
enum End {
    /// The client closed the connection between two frames.
    Closed,
    /// The server stops, or an answer said why there will be no other.
    Stopped,
    /// The stream cannot be trusted or used any more.
    Trouble(Trouble),
}

impl From<Trouble> for End {
    fn from(why: Trouble) -> End {
        End::Trouble(why)
    }
}

/// What the reading task and the slow requests of one connection share.
struct Session<S, W> {
    context: Arc<Context<S>>,
    outbox: Outbox<W>,
    in_flight: Arc<Semaphore>,
    peer: SocketAddr,
}

/// The first request: protocol versions that the client speaks, oldest and newest.
struct Hello {
    header: Header,
    request: Request,
    versions: (u16, u16),
}

/// Reads the first request.
async fn hello<R: AsyncRead + Unpin>(frames: &mut FrameReader<R>) -> Result<Hello, End> {
    let frame = timeout(HELLO_TIMEOUT, frames.next(Accept::Hello, Vec::new())).await.map_err(|_| Trouble::Silent)?;
    let Frame { header, content } = frame?.ok_or(End::Closed)?;
    let request: Request = codec::decode(&content, BODY_MAX).map_err(Trouble::from)?;
    match request {
        Request::Hello { version_min, version_max, .. } => {
            Ok(Hello { header, request, versions: (version_min, version_max) })
        }
        _ => Err(Trouble::NoHello.into()),
    }
}

impl<S: Service, W: AsyncWrite + Unpin + Send + 'static> Cut for Session<S, W> {
    fn cut(&self) -> Arc<Semaphore> {
        tracing::info!(peer = %self.peer, "client connected anew, its earlier connection is closed");
        self.outbox.close();
        self.outbox.end_after_queued();
        self.in_flight.clone()
    }
}

/// A request that was checked, and its place among those in flight.
struct Job {
    header: Header,
    request: Request,
    content: Vec<u8>,
    /// Version of the connection.
    version: u16,
    permit: OwnedSemaphorePermit,
}

impl<S: Service, W: AsyncWrite + Unpin + Send + 'static> Session<S, W> {
    /// Answers `Hello`; returns the protocol version of the connection, `None` when there is none.
    async fn welcome(&self, hello: Hello) -> Option<u16> {
        let Hello { header, request, versions } = hello;
        let permit = self.permit(1).await.ok()?;
        let agreed = agree(versions.0, versions.1);
        let version = *agreed.as_ref().unwrap_or(&VERSION_MAX);
        let mut payload = Vec::new();
        let answer = match agreed {
            Ok(_) => self.call(&header, &request, &[], &mut payload).map(|reply| welcomed(reply, version)),
            Err(fault) => Err(fault),
        };
        let welcome = answer.is_ok();
        self.outbox.push(self.sealed(&header, version, answer, payload, permit));
        self.outbox.flush().await;
        if welcome {
            tracing::info!(peer = %self.peer, version, "client connected");
        } else {
            tracing::info!(peer = %self.peer, ?versions, "client refused");
        }
        welcome.then_some(version)
    }

    /// Reads and answers requests until there are no more.
    async fn receive<R: AsyncRead + Unpin>(
        self: &Arc<Self>,
        frames: &mut FrameReader<R>,
        version: u16,
        mut ended: Pin<&mut impl Future<Output = End>>,
    ) -> End {
        loop {
            // Answers to requests that came together leave together, but nothing waits unsent.
            if !frames.has_whole_frame() {
                self.outbox.flush().await;
            }
            let next = async {
                match frames.next(Accept::Request { version }, self.outbox.buffers.take()).await? {
                    Some(frame) => Ok(self.job(frame, version).await?),
                    None => Err(End::Closed),
                }
            };
            let job = tokio::select! {
                biased;
                end = &mut ended => return end,
                job = next => match job {
                    Ok(job) => job,
                    Err(end) => return end,
                },
            };
            self.run(job).await;
        }
    }

    /// Makes a job of a frame as soon as there is room for it.
    async fn job(&self, frame: Frame, version: u16) -> Result<Job, End> {
        let Frame { header, content } = frame;
        let request = codec::decode(&content[..header.body_len as usize], BODY_MAX).map_err(Trouble::from)?;
        let permit = self.permit(weight(&header, &request)).await?;
        Ok(Job { header, request, content, version, permit })
    }

    /// Waits for room. What waits in the outbox takes room, so that goes out first.
    async fn permit(&self, weight: u32) -> Result<OwnedSemaphorePermit, End> {
        if let Ok(permit) = self.in_flight.clone().try_acquire_many_owned(weight) {
            return Ok(permit);
        }
        self.outbox.flush().await;
        // Closed when another connection of the same owner took over.
        self.in_flight.clone().acquire_many_owned(weight).await.map_err(|_| End::Stopped)
    }

    async fn run(self: &Arc<Self>, job: Job) {
        if let Request::Own { epoch, .. } = job.request {
            return self.own(epoch, job).await;
        }
        if !self.context.service.is_slow(&job.request) {
            if self.outbox.push(self.answer(job).0) {
                self.outbox.flush().await;
            }
            return;
        }
        match self.context.slow {
            SlowWork::Inline => {
                self.outbox.flush().await;
                self.outbox.push(self.answer(job).0);
            }
            SlowWork::Threads => {
                let (session, runtime) = (self.clone(), Handle::current());
                // The thread sends the answer itself: waking a task for it would cost a hand-over.
                tokio::task::spawn_blocking(move || {
                    session.outbox.push(session.answer(job).0);
                    runtime.block_on(session.outbox.flush());
                });
            }
        }
    }

    /// Takes the brick, and says so when nothing of the owner's earlier connection is left.
    async fn own(self: &Arc<Self>, epoch: Epoch, job: Job) {
        self.outbox.flush().await;
        let (answer, accepted) = match self.context.slow {
            SlowWork::Inline => self.answer(job),
            SlowWork::Threads => {
                let session = self.clone();
                match tokio::task::spawn_blocking(move || session.answer(job)).await {
                    Ok(answered) => answered,
                    // The runtime is ending.
                    Err(_) => return,
                }
            }
        };
        if accepted {
            let this: Weak<Self> = Arc::downgrade(self);
            self.context.fence.pass(epoch, this).await;
        }
        self.outbox.push(answer);
    }

    /// Does a request; also says whether the service said yes.
    fn answer(&self, job: Job) -> (Outgoing, bool) {
        let Job { header, request, content, version, permit } = job;
        let mut payload = self.outbox.buffers.take();
        let answer = match request {
            Request::Hello { .. } => Err(Fault::Refused("Hello was said before".into())),
            _ => self.call(&header, &request, &content[header.body_len as usize..], &mut payload),
        };
        self.outbox.buffers.put(content);
        let accepted = answer.is_ok();
        (self.sealed(&header, version, answer, payload, permit), accepted)
    }

    /// Calls the service; its panic becomes an answer and the end of the connection.
    fn call(&self, header: &Header, request: &Request, payload: &[u8], out: &mut Vec<u8>) -> Answer {
        let now_ms = (self.context.clock)();
        let call = || self.context.service.handle(header, request, payload, now_ms, out);
        catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
            tracing::error!(peer = %self.peer, request = %header.request, "request panicked");
            self.outbox.end_after_queued();
            Err(Fault::Failed("internal error, see the server's log".into()))
        })
    }

    /// An answer as a frame; a reply over the limits becomes EIO, and the log says so.
    fn sealed(
        &self,
        header: &Header,
        version: u16,
        answer: Answer,
        mut payload: Vec<u8>,
        permit: OwnedSemaphorePermit,
    ) -> Outgoing {
        if answer.is_err() {
            payload.clear();
        }
        let reply = answer_header(header, version);
        let is_page = matches!(answer, Ok(Reply::Page { .. } | Reply::Changed { .. }));
        let body_max = if is_page { PAGE_BODY_MAX } else { BODY_MAX };
        let head = seal(reply, &answer, body_max, &[&payload]).unwrap_or_else(|why| {
            tracing::error!(peer = %self.peer, request = %header.request, %why, "answer over the limits");
            payload.clear();
            let answer: Answer = Err(Fault::Errno(libc::EIO));
            seal(reply, &answer, BODY_MAX, &[&payload]).expect("an errno fits")
        });
        Outgoing { head, payload, _permit: permit }
    }

    /// Ends the connection, at once when it cannot be trusted, and waits for the work in flight.
    async fn finish(&self, end: End) {
        match end {
            End::Closed => tracing::debug!(peer = %self.peer, "client closed the connection"),
            End::Stopped => {}
            End::Trouble(why) => {
                self.outbox.close();
                self.context.log(self.peer, &why);
            }
        }
        self.outbox.flush().await;
        // Every request keeps its permit until its answer is sent or dropped.
        let _all = self.in_flight.acquire_many(IN_FLIGHT_MAX).await;
        self.outbox.shutdown().await;
    }
}

/// The newest version that both sides speak.
fn agree(client_min: u16, client_max: u16) -> Result<u16, Fault> {
    let version = client_max.min(VERSION_MAX);
    if version < client_min.max(VERSION_MIN) {
        return Err(Fault::Version { min: VERSION_MIN, max: VERSION_MAX });
    }
    Ok(version)
}

/// The brick's welcome, with what this connection agreed on. There are no features yet.
fn welcomed(reply: Reply, version: u16) -> Reply {
    match reply {
        Reply::Welcome { brick, .. } => Reply::Welcome { version, features: 0, brick },
        other => other,
    }
}

fn answer_header(request: &Header, version: u16) -> Header {
    Header {
        version,
        kind: FrameKind::Answer,
        resend: false,
        request: request.request,
        epoch: request.epoch,
        body_len: 0,
        payload_len: 0,
        content_crc: 0,
    }
}

/// Units of memory, rounded up, that a request and its answer take, and one for itself.
fn weight(header: &Header, request: &Request) -> u32 {
    let reply = match request {
        // Not to be trusted yet: the brick refuses what is over the limit.
        Request::Read { parts, .. } => parts.iter().map(|part| part.len as usize).sum::<usize>().min(PAYLOAD_MAX),
        _ => 0,
    };
    1 + (header.payload_len as usize).div_ceil(UNIT_SIZE) as u32 + reply.div_ceil(UNIT_SIZE) as u32
}
