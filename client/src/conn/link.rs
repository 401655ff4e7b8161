//! The task that keeps one connection: connect, handshake, read answers, notice silence, reconnect.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use net_raid_proto::codec;
use net_raid_proto::frame::{FrameError, FrameKind, HEADER_LEN, Header, seal};
use net_raid_proto::ids::{Epoch, Generation};
use net_raid_proto::limits::{BODY_MAX, PAGE_BODY_MAX, RENEW_MS};
use net_raid_proto::message::{Answer, BrickState, Fault, Reply, Request, VERSION_MAX, VERSION_MIN};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufReader};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{CallError, Conn, LinkState, Pending, Response, Session, Shared};

/// One attempt to connect and shake hands takes at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between attempts while requests wait for the connection to come back.
const RETRY_FAST: Duration = Duration::from_millis(10);
/// Between attempts to reach a lost server, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Small answers are read together; payloads larger than this go straight to their place.
const READ_BUFFER: usize = 8 * 1024;

type Reader = BufReader<Box<dyn AsyncRead + Send + Unpin>>;

/// The writing half, shared by everybody who sends.
pub(super) struct Writer {
    half: tokio::sync::Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
    /// A frame was cut off: nothing may follow it.
    torn: AtomicBool,
    /// When the stream last took bytes again after it was full: the other side reads, however slow the line.
    drained: Mutex<Instant>,
}

impl Writer {
    fn new(half: Box<dyn AsyncWrite + Send + Unpin>) -> Writer {
        Writer {
            half: tokio::sync::Mutex::new(half),
            torn: AtomicBool::new(false),
            drained: Mutex::new(Instant::now()),
        }
    }

    fn drained(&self) -> Instant {
        *self.drained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a frame whole. A caller that goes away in the middle leaves the stream unusable, which
    /// the next one notices.
    pub(super) async fn send(&self, frame: &[u8], payload: &[Bytes]) -> io::Result<()> {
        let mut half = self.half.lock().await;
        if self.torn.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let drained = || *self.drained.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        write_frame(&mut **half, frame, payload, drained).await?;
        self.torn.store(false, Ordering::Release);
        Ok(())
    }
}

/// Writes all of a frame; calls `drained` whenever a full stream has taken bytes again.
async fn write_frame(
    half: &mut (dyn AsyncWrite + Send + Unpin),
    frame: &[u8],
    payload: &[Bytes],
    drained: impl Fn(),
) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(1 + payload.len());
    slices.push(IoSlice::new(frame));
    slices.extend(payload.iter().map(|piece| IoSlice::new(piece)));
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let mut was_full = false;
        let written = poll_fn(|cx| {
            let polled = Pin::new(&mut *half).poll_write_vectored(cx, rest);
            was_full |= polled.is_pending();
            polled
        });
        let written = written.await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if was_full {
            drained();
        }
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

/// Keeps `conn` connected until it is closed.
pub(super) async fn run(conn: Arc<Conn>) {
    let mut delay = RETRY_MIN;
    loop {
        if conn.state() == LinkState::Closed {
            return;
        }
        match timeout(CONNECT_TIMEOUT, connect(&conn)).await.unwrap_or_else(|_| Err("no answer".to_string())) {
            Ok((reader, writer)) => {
                delay = RETRY_MIN;
                let since = Instant::now();
                let why = serve(&conn, reader, &writer).await;
                conn.broken(&writer);
                tracing::debug!(server = %conn.server, why, "connection broke");
                let broke_at = Some(Instant::now()).filter(|_| !why.starts_with(SILENT));
                conn.shared().broke_at = broke_at;
                let alone = conn.shared().note_break(since);
                if let Some(why) = alone.or(Some(why).filter(|_| broke_at.is_none())) {
                    conn.fail_all(LinkState::Lost(why.as_str().into()), &why);
                }
                conn.leave_alone().await;
            }
            Err(why) => {
                let broken_for = conn.broke_at().map(|at| at.elapsed());
                if broken_for.is_some_and(|time| time < conn.options.grace) {
                    sleep(RETRY_FAST).await;
                    continue;
                }
                conn.fail_all(LinkState::Lost(why.as_str().into()), &why);
                let _ = timeout(delay, conn.wake.notified()).await;
                // Within the stall it matters to be early.
                if broken_for.is_none_or(|time| time >= conn.options.stall) {
                    delay = (delay * 2).min(RETRY_MAX);
                }
            }
        }
    }
}

const SILENT: &str = "no answer for";

impl Shared {
    /// The stream that began at `since` broke; what is to be said when the server is left alone for that.
    fn note_break(&mut self, since: Instant) -> Option<String> {
        if std::mem::take(&mut self.is_reset) {
            return None;
        }
        let alone = self.flapping.broke(since, Instant::now())?;
        Some(self.flapping.words(alone))
    }
}

impl Conn {
    /// Waits for as long as a server is left alone that breaks off again and again.
    async fn leave_alone(&self) {
        loop {
            let until = self.shared().flapping.alone_until(Instant::now());
            let Some(until) = until.filter(|_| self.state() != LinkState::Closed) else { return };
            let _ = timeout_at(until, self.wake.notified()).await;
        }
    }
}

/// Connects, asks the brick who it is, and takes up our ownership again where there is one.
async fn connect(conn: &Arc<Conn>) -> Result<(Reader, Arc<Writer>), String> {
    let stream = conn.world.transport.connect(&conn.server).await.map_err(|error| one_clause(&error))?;
    let mut reader = BufReader::with_capacity(READ_BUFFER, stream.reader);
    let mut half = stream.writer;
    let hello = Request::Hello { version_min: VERSION_MIN, version_max: VERSION_MAX, features: 0 };
    let brick = match ask(conn, &mut reader, &mut half, Epoch(0), &hello).await? {
        Ok(Reply::Welcome { brick, .. }) => brick,
        Ok(_) => return Err("answers Hello with nonsense".to_string()),
        Err(fault) => return Err(fault.to_string()),
    };
    let session = {
        let mut shared = conn.shared();
        if shared.may_be_new && matches!(*brick, BrickState::Empty { .. }) {
            (shared.session, shared.kept) = (None, None);
        }
        shared.session.clone()
    };
    if let Some(session) = session {
        let kept = conn.shared().kept.filter(|_| !session.take_over);
        check_brick(&brick, &session, kept)?;
        let own = Request::Own {
            volume: session.volume,
            epoch: session.epoch,
            generation: session.generation,
            holder: session.holder,
            take_over: session.take_over,
        };
        let owned = ask(conn, &mut reader, &mut half, session.epoch, &own).await?;
        {
            let mut shared = conn.shared();
            shared.has_lost |= matches!(owned, Ok(Reply::Owned { is_whole: false, .. }));
            shared.replaced = match owned {
                Err(Fault::StaleEpoch(epoch)) => Some(epoch),
                _ => None,
            };
        }
        owned.map_err(|fault| fault.to_string())?;
    }
    let writer = Arc::new(Writer::new(half));
    resume(conn, &writer, *brick).await.map_err(|error| one_clause(&error))?;
    Ok((reader, writer))
}

fn check_brick(brick: &BrickState, session: &Session, kept: Option<Generation>) -> Result<(), String> {
    match brick {
        BrickState::Labelled { label, .. } if label.volume == session.volume => match (session.brick, kept) {
            (Some(expected), _) if expected != label.brick => {
                Err(format!("serves brick {} where {expected} is expected", label.brick))
            }
            (_, Some(kept)) if label.epoch < session.epoch || label.complete < kept => {
                Err("it is older than when it left: was it restored from a backup?".to_string())
            }
            _ => Ok(()),
        },
        BrickState::Labelled { label, .. } => Err(format!("now serves a brick of volume {}", label.name)),
        BrickState::Empty { .. } => Err("its directory is empty now: is a disk not mounted?".to_string()),
        BrickState::Unusable { why } => Err(why.clone()),
    }
}

/// One request and its answer, before anything else uses the stream.
async fn ask(
    conn: &Conn,
    reader: &mut Reader,
    half: &mut Box<dyn AsyncWrite + Send + Unpin>,
    epoch: Epoch,
    request: &Request,
) -> Result<Answer, String> {
    let header = conn.header(0, epoch, false);
    let frame = seal(header, request, BODY_MAX, &[] as &[Bytes]).map_err(|error| error.to_string())?;
    write_frame(half, &frame, &[], || ()).await.map_err(|error| one_clause(&error))?;
    let (header, body) = read_head(reader).await.map_err(|error| one_clause(&error))?;
    if header.request.0 != 0 || header.payload_len != 0 {
        return Err("answers another request than was asked".to_string());
    }
    check_crc(&header, crc32c::crc32c(&body)).map_err(|error| error.to_string())?;
    codec::decode(&body, PAGE_BODY_MAX).map_err(|error| error.to_string())
}

/// Opens the connection for requests, after what was pending when the last stream broke was sent again.
async fn resume(conn: &Arc<Conn>, writer: &Arc<Writer>, brick: BrickState) -> io::Result<()> {
    let state = LinkState::Up(Arc::new(brick));
    loop {
        let again: Vec<(Vec<u8>, Vec<Bytes>)> = {
            let mut shared = conn.shared();
            let again: Vec<_> =
                shared.pending.values_mut().filter_map(|pending| prepare_again(pending, writer)).collect();
            if again.is_empty() {
                if shared.state == LinkState::Closed {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                shared.pending.values_mut().for_each(|pending| pending.resume_mark = None);
                shared.last_heard = Instant::now();
                shared.writer = Some(Arc::clone(writer));
                conn.enter(&mut shared, state);
                return Ok(());
            }
            again
        };
        for (frame, payload) in again {
            writer.send(&frame, &payload).await?;
        }
    }
}

/// A pending request as it goes out once more on `writer`; `None` when it went out there already.
fn prepare_again(pending: &mut Pending, writer: &Arc<Writer>) -> Option<(Vec<u8>, Vec<Bytes>)> {
    let mark = Arc::as_ptr(writer) as usize;
    if pending.resume_mark == Some(mark) {
        return None;
    }
    pending.resume_mark = Some(mark);
    if pending.sent {
        mark_resend(&mut pending.frame);
        pending.resent.store(true, Ordering::Relaxed);
    }
    pending.sent = true;
    pending.dest.iter_mut().for_each(BytesMut::clear);
    Some((pending.frame.clone(), pending.payload.clone()))
}

fn mark_resend(frame: &mut [u8]) {
    let Some(head) = frame.first_chunk_mut::<HEADER_LEN>() else { return };
    if let Ok(mut header) = Header::decode(head) {
        header.resend = true;
        *head = header.encode();
    }
}

/// Reads answers until the stream breaks or the server falls silent; returns why.
async fn serve(conn: &Arc<Conn>, mut reader: Reader, writer: &Arc<Writer>) -> String {
    let watchdog = watch_silence(conn, writer);
    let answers = read_answers(conn, &mut reader);
    tokio::select! {
        biased;
        why = answers => why,
        why = watchdog => why,
    }
}

async fn read_answers(conn: &Arc<Conn>, reader: &mut Reader) -> String {
    loop {
        if let Err(error) = read_answer(conn, reader).await {
            return one_clause(&error);
        }
    }
}

/// Pings an idle or slow server, and gives up on one that is silent for `stall`.
async fn watch_silence(conn: &Arc<Conn>, writer: &Arc<Writer>) -> String {
    let ping_after = Duration::from_millis(RENEW_MS).min(conn.options.stall / 4);
    loop {
        tokio::select! {
            biased;
            () = sleep(ping_after) => {}
            () = conn.wake.notified() => {
                let current = conn.shared().writer.as_ref().is_some_and(|w| Arc::ptr_eq(w, writer));
                if !current {
                    return "connection broke".to_string();
                }
                continue;
            }
        }
        let (silent, waiting) = {
            let shared = conn.shared();
            (shared.last_heard.max(writer.drained()).elapsed(), !shared.pending.is_empty())
        };
        if waiting && silent >= conn.options.stall {
            return format!("{SILENT} {:.1} s", silent.as_secs_f64());
        }
        let already_asked = waiting && silent < ping_after;
        if !already_asked {
            let conn = Arc::clone(conn);
            // The answer itself is the sign of life.
            tokio::spawn(async move { conn.call(&Request::Ping, Vec::new(), Vec::new(), false).await.is_ok() });
        }
    }
}

async fn read_head(reader: &mut Reader) -> io::Result<(Header, Vec<u8>)> {
    let mut head = [0; HEADER_LEN];
    reader.read_exact(&mut head).await?;
    let header = Header::decode(&head).map_err(io::Error::other)?;
    if header.kind != FrameKind::Answer {
        return Err(io::Error::other("a request where an answer belongs"));
    }
    let mut body = vec![0; header.body_len as usize];
    reader.read_exact(&mut body).await?;
    Ok((header, body))
}

/// Reads one answer and hands it to whoever waits for it.
async fn read_answer(conn: &Arc<Conn>, reader: &mut Reader) -> io::Result<()> {
    let (header, body) = read_head(reader).await?;
    conn.shared().last_heard = Instant::now();
    // Taken out while its buffers are filled; put back if the stream breaks meanwhile.
    let dest = conn.shared().pending.get_mut(&header.request.0).map(|pending| std::mem::take(&mut pending.dest));
    let mut dest = dest.unwrap_or_default();
    let filled = read_payload(reader, &header, &mut dest).await;
    let crc = match filled {
        Ok(crc) => crc(crc32c::crc32c(&body), &dest),
        Err(error) => {
            give_back(conn, header.request.0, dest);
            return Err(error);
        }
    };
    if let Err(error) = check_crc(&header, crc) {
        give_back(conn, header.request.0, dest);
        return Err(io::Error::other(error));
    }
    let answer: Answer = codec::decode(&body, PAGE_BODY_MAX).map_err(io::Error::other)?;
    let mut shared = conn.shared();
    shared.last_heard = Instant::now();
    let Some(pending) = shared.pending.remove(&header.request.0) else { return Ok(()) };
    drop(shared);
    conn.latencies.record(pending.class, pending.asked_at.elapsed());
    let result = answer.map(|reply| Response { reply, dest }).map_err(CallError::Fault);
    // A caller that is gone does not care.
    let _ = pending.done.send(result);
    Ok(())
}

fn give_back(conn: &Conn, request: u64, mut dest: Vec<BytesMut>) {
    dest.iter_mut().for_each(BytesMut::clear);
    if let Some(pending) = conn.shared().pending.get_mut(&request) {
        pending.dest = dest;
    }
}

/// Continues a checksum over the payload that was read.
type PayloadCrc = Box<dyn FnOnce(u32, &[BytesMut]) -> u32 + Send>;

/// Reads the payload into `dest`; a payload that does not fit it is read and thrown away.
async fn read_payload(reader: &mut Reader, header: &Header, dest: &mut [BytesMut]) -> io::Result<PayloadCrc> {
    let wanted: usize = dest.iter().map(|piece| piece.capacity()).sum();
    let announced = header.payload_len as usize;
    if announced == 0 {
        return Ok(Box::new(|crc, _| crc));
    }
    if announced != wanted {
        let mut rest = vec![0; announced];
        reader.read_exact(&mut rest).await?;
        return Ok(Box::new(move |crc, _| crc32c::crc32c_append(crc, &rest)));
    }
    for piece in dest.iter_mut() {
        let mut limited = piece.limit(0);
        limited.set_limit(limited.get_ref().capacity() - limited.get_ref().len());
        while limited.has_remaining_mut() {
            if reader.read_buf(&mut limited).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(Box::new(|crc, dest| dest.iter().fold(crc, |crc, piece| crc32c::crc32c_append(crc, piece.chunk()))))
}

fn check_crc(header: &Header, crc: u32) -> Result<(), FrameError> {
    if crc == header.content_crc { Ok(()) } else { Err(FrameError::ContentCrc) }
}

/// An I/O error in one clause for people.
fn one_clause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "connection closed by the server".to_string(),
        io::ErrorKind::ConnectionRefused => "connection refused (is net_raid_server running there?)".to_string(),
        _ => error.to_string(),
    }
}
