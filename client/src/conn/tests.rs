use std::collections::VecDeque;
use std::io;

use net_raid_proto::frame::HEADER_LEN;
use net_raid_proto::ids::{BrickId, Timestamp};
use net_raid_proto::limits::PAGE_BODY_MAX;
use net_raid_proto::message::Answer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::*;
use crate::world::{Connecting, Host, Random, Stream, Transport, WallClock};

/// Hands out in-memory streams; the test is the server.
struct Wire {
    streams: Mutex<VecDeque<io::Result<DuplexStream>>>,
    attempts: mpsc::UnboundedSender<Instant>,
}

impl Transport for Wire {
    fn connect<'a>(&'a self, _server: &'a ServerAddr) -> Connecting<'a> {
        self.attempts.send(Instant::now()).expect("the test listens");
        let next = self.streams.lock().unwrap().pop_front();
        Box::pin(async move {
            let stream = next.unwrap_or_else(|| Err(io::ErrorKind::ConnectionRefused.into()))?;
            let (reader, writer) = tokio::io::split(stream);
            Ok(Stream { reader: Box::new(reader), writer: Box::new(writer) })
        })
    }
}

struct Nothing;

impl WallClock for Nothing {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

impl Random for Nothing {
    fn bytes(&self) -> [u8; 16] {
        [0; 16]
    }
}

impl Host for Nothing {
    fn holder(&self) -> Holder {
        Holder { host: "here".into(), pid: 1, started_ticks: 1, boot: "once".into() }
    }

    fn is_dead(&self, _holder: &Holder) -> bool {
        false
    }
}

struct Rig {
    conn: Arc<Conn>,
    wire: Arc<Wire>,
    attempts: mpsc::UnboundedReceiver<Instant>,
}

/// A connection over the given streams, in this order; refused when there are no more.
fn rig(streams: Vec<DuplexStream>) -> Rig {
    let (attempts, receiver) = mpsc::unbounded_channel();
    let wire = Arc::new(Wire { streams: Mutex::new(streams.into_iter().map(Ok).collect()), attempts });
    let world = World {
        transport: Arc::clone(&wire) as _,
        clock: Arc::new(Nothing),
        random: Arc::new(Nothing),
        host: Arc::new(Nothing),
    };
    let server = ServerAddr { host: "test".into(), port: 1 };
    let options = ConnOptions { stall: Duration::from_secs(2), grace: GRACE };
    Rig { conn: Conn::start(server, world, options), wire, attempts: receiver }
}

/// The server's end of a stream.
struct Server(DuplexStream);

impl Server {
    async fn next(&mut self) -> io::Result<(Header, Request, Vec<u8>)> {
        let mut head = [0; HEADER_LEN];
        self.0.read_exact(&mut head).await?;
        let header = Header::decode(&head).expect("a frame");
        let mut body = vec![0; header.body_len as usize];
        self.0.read_exact(&mut body).await?;
        let mut payload = vec![0; header.payload_len as usize];
        self.0.read_exact(&mut payload).await?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&body), &payload);
        assert_eq!(crc, header.content_crc);
        Ok((header, net_raid_proto::codec::decode(&body, BODY_MAX).expect("a request"), payload))
    }

    /// The next request that is no ping; pings are answered.
    async fn request(&mut self) -> (Header, Request) {
        loop {
            match self.next().await.expect("the client is there") {
                (header, Request::Ping, _) => self.answer(&header, &Ok(Reply::Done), b"").await,
                (header, request, _) => return (header, request),
            }
        }
    }

    async fn answer(&mut self, to: &Header, answer: &Answer, payload: &[u8]) {
        let header = Header { kind: FrameKind::Answer, ..*to };
        let frame = seal(header, answer, PAGE_BODY_MAX, &[payload]).expect("fits");
        self.0.write_all(&frame).await.expect("the client reads");
        self.0.write_all(payload).await.expect("the client reads");
    }

    async fn welcome(&mut self) {
        let (header, request) = self.request().await;
        assert!(matches!(request, Request::Hello { .. }), "{request:?}");
        let brick = Box::new(BrickState::Empty { brick: BrickId([7; 16]) });
        self.answer(&header, &Ok(Reply::Welcome { version: 1, features: 0, brick }), b"").await;
    }
}

fn pair() -> (DuplexStream, Server) {
    let (near, far) = tokio::io::duplex(1 << 20);
    (near, Server(far))
}

async fn up(conn: &Conn) {
    let mut states = conn.watch();
    states.wait_for(|state| matches!(state, LinkState::Up(_))).await.expect("the connection lives");
}

fn stat_fs(conn: &Arc<Conn>) -> tokio::task::JoinHandle<Result<Response, CallError>> {
    let conn = Arc::clone(conn);
    tokio::spawn(async move { conn.call(&Request::StatFs, Vec::new(), Vec::new(), false).await })
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_requests_in_any_order() {
    let (near, mut server) = pair();
    let rig = rig(vec![near]);
    server.welcome().await;
    up(&rig.conn).await;
    let (one, two) = (stat_fs(&rig.conn), stat_fs(&rig.conn));
    let (first, second) = (server.request().await.0, server.request().await.0);
    server.answer(&second, &Ok(Reply::Bytes(vec![2])), b"").await;
    server.answer(&first, &Ok(Reply::Bytes(vec![1])), b"").await;
    let replies = (one.await.unwrap().unwrap().reply, two.await.unwrap().unwrap().reply);
    assert_eq!(replies, (Reply::Bytes(vec![1]), Reply::Bytes(vec![2])));
}

#[tokio::test(start_paused = true)]
async fn a_payload_is_received_in_its_places() {
    let (near, mut server) = pair();
    let rig = rig(vec![near]);
    server.welcome().await;
    up(&rig.conn).await;
    let conn = Arc::clone(&rig.conn);
    let call = tokio::spawn(async move {
        let dest = vec![BytesMut::with_capacity(3), BytesMut::with_capacity(5)];
        conn.call(&Request::StatFs, Vec::new(), dest, false).await
    });
    let (header, _) = server.request().await;
    server.answer(&header, &Ok(Reply::Done), b"abcdefgh").await;
    let dest = call.await.unwrap().unwrap().dest;
    assert_eq!((&dest[0][..], &dest[1][..]), (&b"abc"[..], &b"defgh"[..]));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_answered_is_sent_again_and_says_so() {
    let ((near, mut server), (near2, mut server2)) = (pair(), pair());
    let rig = rig(vec![near, near2]);
    server.welcome().await;
    up(&rig.conn).await;
    let call = stat_fs(&rig.conn);
    assert!(!server.request().await.0.resend);
    drop(server);
    server2.welcome().await;
    let (header, request) = server2.request().await;
    assert!(header.resend && request == Request::StatFs);
    server2.answer(&header, &Ok(Reply::Done), b"").await;
    assert_eq!(call.await.unwrap().unwrap().reply, Reply::Done);
}

#[tokio::test(start_paused = true)]
async fn a_killed_server_fails_requests_within_the_grace() {
    let (near, mut server) = pair();
    let rig = rig(vec![near]);
    server.welcome().await;
    up(&rig.conn).await;
    let start = Instant::now();
    let call = stat_fs(&rig.conn);
    server.request().await;
    drop(server);
    assert!(matches!(call.await.unwrap(), Err(CallError::Lost(_))));
    assert!(start.elapsed() <= Duration::from_millis(200), "{:?}", start.elapsed());
    let again = stat_fs(&rig.conn).await.unwrap();
    assert!(matches!(again, Err(CallError::Lost(_))) && start.elapsed() <= Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn a_frozen_server_is_given_up_after_stall() {
    let (near, mut server) = pair();
    let rig = rig(vec![near]);
    server.welcome().await;
    up(&rig.conn).await;
    let start = Instant::now();
    let call = stat_fs(&rig.conn);
    let Err(CallError::Lost(why)) = call.await.unwrap() else { panic!("nobody answered") };
    assert!(why.contains("no answer for"), "{why}");
    assert!(start.elapsed() >= Duration::from_secs(2) && start.elapsed() <= Duration::from_millis(2600));
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_server_that_takes_no_bytes_is_given_up_too() {
    let (near, far) = tokio::io::duplex(256);
    let mut server = Server(far);
    let rig = rig(vec![near]);
    server.welcome().await;
    up(&rig.conn).await;
    let start = Instant::now();
    let payload = vec![Bytes::from(vec![1; 100_000])];
    let call = rig.conn.call(&Request::StatFs, payload, Vec::new(), false);
    let answer = tokio::time::timeout(Duration::from_secs(10), call).await.expect("it ends");
    assert!(matches!(answer, Err(CallError::Lost(_))));
    assert!(start.elapsed() <= Duration::from_millis(2600), "{:?}", start.elapsed());
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_is_no_stall() {
    let (near, far) = tokio::io::duplex(1024);
    let mut server = Server(far);
    let rig = rig(vec![near]);
    server.welcome().await;
    up(&rig.conn).await;
    let conn = Arc::clone(&rig.conn);
    let payload = vec![Bytes::from(vec![1; 20_000])];
    let call = tokio::spawn(async move { conn.call(&Request::StatFs, payload, Vec::new(), false).await });
    // One byte in two milliseconds: ten times `stall` for the frame.
    let mut frame = Vec::new();
    while frame.len() < HEADER_LEN + 20_000 {
        frame.push(server.0.read_u8().await.unwrap());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!call.is_finished(), "{:?}", call.await);
    assert!(rig.conn.is_up());
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_is_no_stall_while_the_server_lives() {
    let (near, mut server) = pair();
    let rig = rig(vec![near]);
    server.welcome().await;
    up(&rig.conn).await;
    let call = stat_fs(&rig.conn);
    let (slow, _) = server.request().await;
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        let (header, request, _) = server.next().await.unwrap();
        assert_eq!(request, Request::Ping);
        server.answer(&header, &Ok(Reply::Done), b"").await;
    }
    server.answer(&slow, &Ok(Reply::Done), b"").await;
    assert_eq!(call.await.unwrap().unwrap().reply, Reply::Done);
}

#[tokio::test(start_paused = true)]
async fn damage_in_transit_breaks_the_connection_and_is_asked_for_again() {
    let ((near, mut server), (near2, mut server2)) = (pair(), pair());
    let rig = rig(vec![near, near2]);
    server.welcome().await;
    up(&rig.conn).await;
    let call = stat_fs(&rig.conn);
    let (header, _) = server.request().await;
    let reply = Header { kind: FrameKind::Answer, ..header };
    let mut frame = seal(reply, &Answer::Ok(Reply::Bytes(vec![1, 2, 3])), PAGE_BODY_MAX, &[b""]).unwrap();
    *frame.last_mut().unwrap() ^= 1;
    server.0.write_all(&frame).await.unwrap();
    server2.welcome().await;
    let (header, _) = server2.request().await;
    server2.answer(&header, &Ok(Reply::Bytes(vec![1, 2, 3])), b"").await;
    assert_eq!(call.await.unwrap().unwrap().reply, Reply::Bytes(vec![1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_lost_server_is_tried_at_most_once_a_second_and_comes_back() {
    let mut rig = rig(Vec::new());
    let mut times = Vec::new();
    while times.len() < 12 {
        times.push(rig.attempts.recv().await.unwrap());
    }
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap <= Duration::from_millis(1100)), "{gaps:?}");
    assert!(*gaps.last().unwrap() >= Duration::from_millis(900), "{gaps:?}");
    let (near, mut server) = pair();
    rig.wire.streams.lock().unwrap().push_back(Ok(near));
    server.welcome().await;
    up(&rig.conn).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_flaps_is_left_alone_unless_it_is_needed() {
    let rig = rig(Vec::new());
    let mut gaps = Vec::new();
    for times in 0..9 {
        let (near, mut server) = pair();
        let broke = Instant::now();
        rig.wire.streams.lock().unwrap().push_back(Ok(near));
        if times == 8 {
            rig.conn.pardon();
        }
        server.welcome().await;
        up(&rig.conn).await;
        gaps.push(broke.elapsed().as_secs());
        let mut states = rig.conn.watch();
        drop(server);
        states.wait_for(|state| !matches!(state, LinkState::Up(_))).await.unwrap();
    }
    assert_eq!(gaps, [0, 0, 0, 0, 0, 0, 5, 10, 0]);
    assert!(matches!(rig.conn.state(), LinkState::Lost(why) if why.contains("broke 9 times")));
}

#[tokio::test(start_paused = true)]
async fn a_call_given_up_in_the_middle_of_its_frame_harms_no_other() {
    let (near, far) = tokio::io::duplex(256);
    let (near2, mut server2) = pair();
    let mut server = Server(far);
    let rig = rig(vec![near, near2]);
    server.welcome().await;
    up(&rig.conn).await;
    let payload = vec![Bytes::from(vec![1; 100_000])];
    let cut = rig.conn.call(&Request::StatFs, payload, Vec::new(), false);
    assert!(tokio::time::timeout(Duration::from_millis(100), cut).await.is_err());
    let call = stat_fs(&rig.conn);
    server2.welcome().await;
    let (header, request) = server2.request().await;
    assert_eq!(request, Request::StatFs);
    server2.answer(&header, &Ok(Reply::Done), b"").await;
    assert_eq!(call.await.unwrap().unwrap().reply, Reply::Done);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_answers_at_once() {
    let (near, mut server) = pair();
    let rig = rig(vec![near]);
    server.welcome().await;
    up(&rig.conn).await;
    let call = stat_fs(&rig.conn);
    server.request().await;
    rig.conn.close();
    assert!(call.await.unwrap().is_err());
    assert!(stat_fs(&rig.conn).await.unwrap().is_err());
}
