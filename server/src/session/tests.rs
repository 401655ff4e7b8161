//! Sessions over in-memory streams, with a fake service.

mod broken;
mod fence;
mod handshake;
mod pipeline;
mod timing;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use net_raid_proto::codec;
use net_raid_proto::frame::{FrameKind, HEADER_LEN, Header, seal};
use net_raid_proto::ids::{Epoch, Generation, ObjectId, RequestId};
use net_raid_proto::limits::{BODY_MAX, PAGE_BODY_MAX};
use net_raid_proto::message::{Answer, BrickState, Fault, Part, Reply, Request, VERSION_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Context, Service, SlowWork, serve};

/// Answers by kind of request: `Checkpoint` is slow and waits for the gate, `StatFs` and
/// `PurgeOrphans` (slow) panic, `GetXattr` returns its name, `ReadLink` whether it was resent,
/// `SetMembership` cannot be sent here, `Read` returns bytes that count.
#[derive(Default)]
struct Fake {
    open: Mutex<bool>,
    opened: Condvar,
    handled: AtomicUsize,
}

impl Fake {
    fn open_gate(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    /// Not for ever: a test that fails must not hang in its runtime's threads.
    fn wait_for_gate(&self) {
        let (open, limit) = (self.open.lock().unwrap(), Duration::from_secs(10));
        drop(self.opened.wait_timeout_while(open, limit, |open| !*open).unwrap());
    }
}

fn counting(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 7) as u8).collect()
}

impl Service for Fake {
    fn handle(&self, header: &Header, request: &Request, payload: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Answer {
        assert!(out.is_empty());
        self.handled.fetch_add(1, Ordering::Relaxed);
        match request {
            Request::Hello { .. } => {
                let brick = Box::new(BrickState::Unusable { why: format!("fake at {now_ms}") });
                Ok(Reply::Welcome { version: 77, features: 77, brick })
            }
            Request::Checkpoint { .. } => {
                self.wait_for_gate();
                Ok(Reply::Done)
            }
            Request::StatFs | Request::PurgeOrphans => panic!("on purpose"),
            Request::GetXattr { name, .. } => Ok(Reply::Bytes(name.clone())),
            Request::ReadLink { .. } => Ok(Reply::Bytes(vec![u8::from(header.resend)])),
            Request::Read { parts, .. } => {
                *out = counting(parts.iter().map(|part| part.len as usize).sum());
                Ok(Reply::Read(Vec::new()))
            }
            Request::Release { .. } => {
                out.extend_from_slice(payload);
                Ok(Reply::Done)
            }
            Request::Disown => Ok(Reply::Bytes(vec![0; BODY_MAX])),
            Request::Ping | Request::Own { .. } => Ok(Reply::Done),
            _ => {
                out.extend_from_slice(b"must not be sent");
                Err(Fault::Errno(libc::ENOENT))
            }
        }
    }

    fn is_slow(&self, request: &Request) -> bool {
        matches!(request, Request::Checkpoint { .. } | Request::PurgeOrphans | Request::Own { .. })
    }
}

/// The client's end of one session.
struct Client {
    stream: DuplexStream,
    context: Arc<Context<Fake>>,
    session: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Client {
    /// A connection on which nothing was said.
    fn connect(slow: SlowWork) -> Client {
        Client::with_buffer(slow, 1 << 20)
    }

    fn with_buffer(slow: SlowWork, buffer: usize) -> Client {
        Client::to(Arc::new(Context::new(Fake::default(), slow, || 42)), buffer)
    }

    /// One more connection to the same server.
    fn to(context: Arc<Context<Fake>>, buffer: usize) -> Client {
        let (stream, servers) = duplex(buffer);
        let (stop, stopping) = watch::channel(false);
        let shared = context.clone();
        let session = tokio::spawn(async move {
            let (reader, writer) = split(servers);
            serve(&shared, reader, writer, ([127, 0, 0, 1], 9).into(), stopping).await;
        });
        Client { stream, context, session, stop }
    }

    /// A connection after `Hello`.
    async fn welcome(slow: SlowWork) -> Client {
        let mut client = Client::connect(slow);
        client.hello().await;
        client
    }

    async fn hello(&mut self) {
        self.send(0, &hello(), &[]).await;
        assert!(matches!(self.receive().await.1, Ok(Reply::Welcome { .. })));
    }

    async fn send(&mut self, id: u64, request: &Request, payload: &[u8]) {
        self.stream.write_all(&frame(id, request, payload)).await.unwrap();
    }

    async fn receive(&mut self) -> (Header, Answer, Vec<u8>) {
        let mut bytes = [0; HEADER_LEN];
        self.stream.read_exact(&mut bytes).await.unwrap();
        let header = Header::decode(&bytes).unwrap();
        let mut content = vec![0; (header.body_len + header.payload_len) as usize];
        self.stream.read_exact(&mut content).await.unwrap();
        assert_eq!(crc32c::crc32c(&content), header.content_crc);
        assert_eq!(header.kind, FrameKind::Answer);
        let payload = content.split_off(header.body_len as usize);
        (header, codec::decode(&content, PAGE_BODY_MAX).unwrap(), payload)
    }

    /// Expects that the session ends and sends nothing more.
    async fn expect_end(mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        self.session.await.unwrap();
    }
}

fn hello() -> Request {
    Request::Hello { version_min: 1, version_max: VERSION_MAX, features: 0 }
}

fn header(id: u64) -> Header {
    Header {
        version: VERSION_MAX,
        kind: FrameKind::Request,
        resend: false,
        request: RequestId(id),
        epoch: Epoch(3),
        body_len: 0,
        payload_len: 0,
        content_crc: 0,
    }
}

fn frame(id: u64, request: &Request, payload: &[u8]) -> Vec<u8> {
    sealed(header(id), request, payload)
}

fn sealed(header: Header, request: &Request, payload: &[u8]) -> Vec<u8> {
    let mut bytes = seal(header, request, BODY_MAX, &[payload]).unwrap();
    bytes.extend_from_slice(payload);
    bytes
}

fn echo(text: &str) -> Request {
    Request::GetXattr { id: ObjectId::ROOT, name: text.into() }
}

fn read(len: u32) -> Request {
    Request::Read { id: ObjectId::ROOT, parts: vec![Part { unit: 0, offset: 0, len }] }
}
