//! One server: a connection that reconnects, pipelines requests and notices silence. No RAID in here.
//!
//! ```text
//!            connect, Hello, (Own)
//!  Lost  ---------------------------> Up
//!   ^  ^                              |  broken stream, or silence for `stall`
//!   |  | `grace` over: pending fail   v
//!   |  +--------------------------- Broken   (requests wait; those sent before are sent again)
//!   +-- taken over, another brick, closed: for good
//! ```

mod flapping;
mod host;
mod latency;
mod link;
mod tcp;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use net_raid_proto::frame::{FrameKind, Header, seal};
use net_raid_proto::ids::{BrickId, Epoch, Generation, RequestId, VolumeId};
use net_raid_proto::limits::BODY_MAX;
use net_raid_proto::message::{BrickState, Fault, Holder, Reply, Request, VERSION_MAX};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use crate::config::ServerAddr;
use crate::world::World;

use flapping::Flapping;

pub use latency::{Class, Latencies};
pub use tcp::real_world;

/// Limits of one connection, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct ConnOptions {
    /// Silence after which a server counts as frozen.
    pub stall: Duration,
    /// How long a broken connection may take to come back before requests fail.
    pub grace: Duration,
}

/// A broken connection is given this long: an operation waits no longer for a killed server.
pub const GRACE: Duration = Duration::from_millis(150);

/// What a server answered.
#[derive(Debug)]
pub struct Response {
    /// The answer.
    pub reply: Reply,
    /// The buffers given to the call, filled with the payload.
    pub dest: Vec<BytesMut>,
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The server is out of reach: why.
    #[error("{0}")]
    Lost(Arc<str>),
    /// It answered no.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Whether a server can be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkState {
    /// Never connected so far, or given up for now.
    Lost(Arc<str>),
    /// The stream broke a moment ago: requests wait.
    Broken,
    /// Connected; what the brick said when it was asked who it is.
    Up(Arc<BrickState>),
    /// Closed by us.
    Closed,
}

/// The ownership under which requests are sent.
#[derive(Debug, Clone)]
pub struct Session {
    /// The volume.
    pub volume: VolumeId,
    /// Our epoch.
    pub epoch: Epoch,
    /// Generation that changes are stamped with.
    pub generation: Generation,
    /// Who we are.
    pub holder: Holder,
    /// The brick that must answer, where it is known: addresses are hints.
    pub brick: Option<BrickId>,
    /// Whoever has it loses it: an administrator decided so.
    pub take_over: bool,
}

/// A request that waits for its answer.
struct Pending {
    frame: Vec<u8>,
    payload: Vec<Bytes>,
    dest: Vec<BytesMut>,
    /// It was written to a stream at least once.
    sent: bool,
    /// Set when it was written to more than one.
    resent: Arc<AtomicBool>,
    /// The stream on which it went out again after a break.
    resume_mark: Option<usize>,
    class: Class,
    asked_at: Instant,
    done: oneshot::Sender<Result<Response, CallError>>,
}

struct Shared {
    state: LinkState,
    /// In the order in which they were asked, and are sent again.
    pending: BTreeMap<u64, Pending>,
    session: Option<Session>,
    /// What the brick has completed at least, once it is ours.
    kept: Option<Generation>,
    /// Since it went its machine was restarted, and lost what was not on its disk.
    has_lost: bool,
    /// An empty directory in its place is a new brick, and welcome.
    may_be_new: bool,
    /// The brick was found to be another owner's, in this epoch.
    replaced: Option<Epoch>,
    writer: Option<Arc<link::Writer>>,
    last_heard: Instant,
    /// When the last stream ended, unless that was after a long silence.
    broke_at: Option<Instant>,
    /// The present stream was given up by us: that is no fault of the server.
    is_reset: bool,
    flapping: Flapping,
}

/// A connection to one server.
pub struct Conn {
    server: ServerAddr,
    options: ConnOptions,
    world: World,
    next_request: AtomicU64,
    latencies: Latencies,
    shared: Mutex<Shared>,
    state: watch::Sender<LinkState>,
    /// Wakes the task that connects: a stream broke, or there is no need to wait any longer.
    wake: Notify,
}

impl Conn {
    /// Begins to connect, and stays connected until closed.
    pub fn start(server: ServerAddr, world: World, options: ConnOptions) -> Arc<Conn> {
        let state = LinkState::Lost("not connected yet".into());
        let shared = Shared {
            state: state.clone(),
            pending: BTreeMap::new(),
            session: None,
            kept: None,
            has_lost: false,
            may_be_new: false,
            replaced: None,
            writer: None,
            last_heard: Instant::now(),
            broke_at: None,
            is_reset: false,
            flapping: Flapping::default(),
        };
        let conn = Arc::new(Conn {
            server,
            options,
            world,
            next_request: AtomicU64::new(1),
            latencies: Latencies::default(),
            shared: Mutex::new(shared),
            state: watch::channel(state).0,
            wake: Notify::new(),
        });
        tokio::spawn(link::run(Arc::clone(&conn)));
        conn
    }

    /// The server's address.
    pub fn server(&self) -> &ServerAddr {
        &self.server
    }

    /// How long it takes to answer.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Follows the state.
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// The state now.
    pub fn state(&self) -> LinkState {
        self.shared().state.clone()
    }

    /// Whether requests can be answered now.
    pub fn is_up(&self) -> bool {
        matches!(self.shared().state, LinkState::Up(_))
    }

    /// When the last stream broke, and whether it is up again or not; `None` when none broke yet, or the server had been
    /// silent for `stall` by then.
    pub fn broke_at(&self) -> Option<Instant> {
        self.shared().broke_at
    }

    /// Sends under this ownership from now on, after reconnects too.
    pub fn set_session(&self, session: Session) {
        self.shared().session = Some(session);
    }

    /// Whether the brick is taken, at later reconnects, whoever has it and whatever it lost.
    pub fn set_take_over(&self, take_over: bool) {
        if let Some(session) = &mut self.shared().session {
            session.take_over = take_over;
        }
    }

    /// The epoch of another owner, when the brick said at the last attempt to connect that it has one.
    pub fn replaced(&self) -> Option<Epoch> {
        self.shared().replaced
    }

    /// The brick is ours, and has completed this generation: one that is not or has not, at later reconnects, is something else that was
    /// put there, and refused.
    pub fn set_kept(&self, complete: Generation) {
        self.shared().kept = Some(complete);
    }

    /// From now on it is of interest whether the brick loses something ([`Conn::has_lost`]).
    pub fn begin_absence(&self) {
        self.shared().has_lost = false;
    }

    /// Whether the brick's machine was restarted in this ownership since its absence began, so that what was not on its disk is lost.
    pub fn has_lost(&self) -> bool {
        self.shared().has_lost
    }

    /// Whether an empty directory that takes the place of the brick is a new brick, which has no session: an administrator emptied
    /// it. Of a brick that counts it would be a disk that is not mounted.
    pub fn set_may_be_new(&self, may_be_new: bool) {
        self.shared().may_be_new = may_be_new;
    }

    /// Tells the brick after later reconnects that changes are made in this generation by now.
    pub fn set_generation(&self, generation: Generation) {
        if let Some(session) = &mut self.shared().session {
            session.generation = generation;
        }
    }

    /// Gives the present stream up; the next one is checked against the session before it is used.
    pub fn reset(&self) {
        let writer = {
            let mut shared = self.shared();
            shared.is_reset = shared.writer.is_some();
            shared.writer.clone()
        };
        if let Some(writer) = writer {
            self.broken(&writer);
        }
    }

    /// Too few servers are left without it: connects at once, however often it broke off.
    pub fn pardon(&self) {
        self.shared().flapping.pardon();
        self.wake.notify_one();
    }

    /// Ends the connection; what is pending fails.
    pub fn close(&self) {
        self.fail_all(LinkState::Closed, "closed");
        self.wake.notify_one();
    }

    /// Sends a request and waits for the answer; `dest` buffers are filled with the answer's payload,
    /// each to its capacity.
    ///
    /// Cancel safe: a dropped call may or may not have been done.
    ///
    /// # Errors
    /// [`CallError::Lost`] when the server is out of reach; [`CallError::Fault`] when it says no.
    pub async fn call(
        &self,
        request: &Request,
        payload: Vec<Bytes>,
        dest: Vec<BytesMut>,
        resend: bool,
    ) -> Result<Response, CallError> {
        self.call_telling(request, payload, dest, &Arc::new(AtomicBool::new(resend))).await
    }

    /// [`Conn::call`] that says in `resend`, which must be set when the request was sent before, whether it went out more than
    /// once: for a caller that has to ask again, because a brick that restarted in between may have done it before.
    pub(crate) async fn call_telling(
        &self,
        request: &Request,
        payload: Vec<Bytes>,
        dest: Vec<BytesMut>,
        resend: &Arc<AtomicBool>,
    ) -> Result<Response, CallError> {
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (frame, writer, mut done) = self.enqueue(id, request, payload, dest, resend)?;
        let pending = PendingGuard { conn: self, id };
        if let Some(writer) = writer {
            let (frame, payload) = frame;
            tokio::select! {
                biased;
                sent = writer.send(&frame, &payload) => if sent.is_err() {
                    self.broken(&writer);
                },
                // A stream that takes nothing more is given up while the frame is on its way into it.
                answer = &mut done => {
                    std::mem::forget(pending);
                    return answer.unwrap_or_else(|_| Err(CallError::Lost("connection task ended".into())));
                }
            }
        }
        let answer = done.await;
        std::mem::forget(pending);
        answer.unwrap_or_else(|_| Err(CallError::Lost("connection task ended".into())))
    }

    #[allow(clippy::type_complexity)]
    fn enqueue(
        &self,
        id: u64,
        request: &Request,
        payload: Vec<Bytes>,
        dest: Vec<BytesMut>,
        resend: &Arc<AtomicBool>,
    ) -> Result<
        ((Vec<u8>, Vec<Bytes>), Option<Arc<link::Writer>>, oneshot::Receiver<Result<Response, CallError>>),
        CallError,
    > {
        let epoch = self.shared().session.as_ref().map_or(Epoch(0), |session| session.epoch);
        let frame = seal(self.header(id, epoch, resend.load(Ordering::Relaxed)), request, BODY_MAX, &payload)
            .map_err(|error| CallError::Fault(Fault::Refused(error.to_string())))?;
        let (done, answer) = oneshot::channel();
        let mut shared = self.shared();
        let writer = match &shared.state {
            LinkState::Up(_) => shared.writer.clone(),
            LinkState::Broken => None,
            LinkState::Lost(why) => return Err(CallError::Lost(Arc::clone(why))),
            LinkState::Closed => return Err(CallError::Lost("closed".into())),
        };
        if shared.pending.is_empty() {
            // Silence counts from the moment when an answer is due.
            shared.last_heard = Instant::now();
        }
        let pending = Pending {
            frame: frame.clone(),
            payload: payload.clone(),
            dest,
            sent: writer.is_some(),
            resent: Arc::clone(resend),
            resume_mark: None,
            class: Class::of(request),
            asked_at: Instant::now(),
            done,
        };
        shared.pending.insert(id, pending);
        Ok(((frame, payload), writer, answer))
    }

    fn header(&self, id: u64, epoch: Epoch, resend: bool) -> Header {
        Header {
            version: VERSION_MAX,
            kind: FrameKind::Request,
            resend,
            request: RequestId(id),
            epoch,
            body_len: 0,
            payload_len: 0,
            content_crc: 0,
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of `writer` broke; nothing happens when another one has replaced it.
    fn broken(&self, writer: &Arc<link::Writer>) {
        let mut shared = self.shared();
        if shared.writer.as_ref().is_some_and(|current| Arc::ptr_eq(current, writer)) {
            shared.writer = None;
            if matches!(shared.state, LinkState::Up(_)) {
                self.enter(&mut shared, LinkState::Broken);
            }
            self.wake.notify_one();
        }
    }

    fn enter(&self, shared: &mut Shared, state: LinkState) {
        shared.state = state.clone();
        // A server that stays away is news only once, whatever the reason is by now.
        let news = !matches!((&*self.state.borrow(), &state), (LinkState::Lost(_), LinkState::Lost(_)));
        self.state.send_if_modified(|told| {
            *told = state;
            news
        });
    }

    /// Fails everything that waits.
    fn fail_all(&self, state: LinkState, why: &str) {
        let pending: Vec<Pending> = {
            let mut shared = self.shared();
            shared.writer = None;
            if shared.state != LinkState::Closed {
                self.enter(&mut shared, state);
            }
            std::mem::take(&mut shared.pending).into_values().collect()
        };
        let why: Arc<str> = why.into();
        for pending in pending {
            // A caller that is gone does not care.
            let _ = pending.done.send(Err(CallError::Lost(Arc::clone(&why))));
        }
    }
}

/// Forgets a request whose caller went away.
struct PendingGuard<'a> {
    conn: &'a Conn,
    id: u64,
}

impl Drop for PendingGuard<'_> {
    fn drop(&mut self) {
        self.conn.shared().pending.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
