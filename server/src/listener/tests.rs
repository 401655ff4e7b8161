//! Real sockets on loopback.

use std::net::Ipv6Addr;

use net_raid_proto::frame::Header;
use net_raid_proto::message::{Answer, Fault, Request};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

use super::*;
use crate::session::SlowWork;

struct Nothing;

impl Service for Nothing {
    fn handle(&self, _: &Header, _: &Request, _: &[u8], _: u64, _: &mut Vec<u8>) -> Answer {
        Err(Fault::Refused("nothing here".into()))
    }

    fn is_slow(&self, _: &Request) -> bool {
        false
    }
}

/// A server on a free port; a word on the channel stops it.
fn start(ip: IpAddr) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<io::Result<()>>) {
    let listener = listen(SocketAddr::new(ip, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let context = Arc::new(Context::new(Nothing, SlowWork::Threads, || 0));
    let stopped = async move { drop(stopped.await) };
    (address, stop, tokio::spawn(serve(listener, context, stopped)))
}

#[tokio::test]
async fn stops_with_connections_open() {
    let (address, stop, server) = start([127, 0, 0, 1].into());
    let mut client = TcpStream::connect(address).await.unwrap();
    // A second connection is answered by the same loop, so the first one has its session by then.
    let mut garbage = TcpStream::connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut garbage, &[7; 56]).await.unwrap();
    assert_eq!(garbage.read(&mut [0]).await.unwrap(), 0);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    // The port can be had at once.
    listen(address).unwrap();
}

#[tokio::test]
async fn sends_the_crowd_away() {
    let (address, stop, server) = start([127, 0, 0, 1].into());
    let mut crowd = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    let mut late = TcpStream::connect(address).await.unwrap();
    assert_eq!(late.read(&mut [0]).await.unwrap(), 0);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn all_addresses_are_those_of_ipv4_too() {
    let (address, stop, server) = start(Ipv6Addr::UNSPECIFIED.into());
    TcpStream::connect(("127.0.0.1", address.port())).await.unwrap();
    TcpStream::connect(("::1", address.port())).await.unwrap();
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_in_use() {
    let first = listen(([127, 0, 0, 1], 0).into()).unwrap();
    assert_eq!(listen(first.local_addr().unwrap()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn accepted_sockets_are_tuned() {
    let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (_client, (stream, _)) = (client.unwrap(), accepted.unwrap());
    tune(&stream).unwrap();
    let socket = SockRef::from(&stream);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(session::WRITE_TIMEOUT));
}
