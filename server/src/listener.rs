//! TCP: accepts connections and gives each its session.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::session::{self, Context, Service, Trouble};

/// Connections at once; one client has a few, strangers are sent away after some seconds.
pub const CONNECTIONS_MAX: usize = 256;
/// Time that requests in flight get to end when the server stops.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that the kernel accepts ahead.
const BACKLOG: i32 = 128;
/// Pause after an error of accept that lasts, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A client whose machine is gone is noticed after `IDLE + PROBES * INTERVAL`, 25 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// Binds `address` and listens; must be called within a tokio runtime.
///
/// # Errors
/// What the kernel says: the port is in use, the address is not of this machine, not permitted.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    // Else a restarted server could not have its port back for a minute. Two servers still cannot share one.
    socket.set_reuse_address(true)?;
    if address.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) {
        // "All addresses" means those of IPv4 too, whatever the system's default.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves connections until `stopped` is done; then lets requests in flight end.
///
/// # Errors
/// `TimedOut` when some did not end within [`STOP_TIMEOUT`]; they may still be running.
pub async fn serve<S: Service>(
    listener: TcpListener,
    context: Arc<Context<S>>,
    stopped: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let mut sessions = JoinSet::new();
    tokio::select! {
        () = stopped => {}
        () = accept(&listener, &context, &mut sessions, &stopping) => {}
    }
    drop(listener);
    stop.send_replace(true);
    let all = async { while sessions.join_next().await.is_some() {} };
    let unfinished = |_| io::Error::new(io::ErrorKind::TimedOut, "requests in flight did not end in time");
    timeout(STOP_TIMEOUT, all).await.map_err(unfinished)
}

/// Accepts connections for ever.
async fn accept<S: Service>(
    listener: &TcpListener,
    context: &Arc<Context<S>>,
    sessions: &mut JoinSet<()>,
    stopping: &watch::Receiver<bool>,
) {
    loop {
        let accepted = listener.accept().await;
        while sessions.try_join_next().is_some() {}
        match accepted {
            Ok((_, peer)) if sessions.len() >= CONNECTIONS_MAX => context.log(peer, &Trouble::Crowded),
            Ok((stream, peer)) => {
                let (context, stopping) = (context.clone(), stopping.clone());
                sessions.spawn(async move { converse(&context, stream, peer, stopping).await });
            }
            Err(why) if is_of_one_connection(&why) => {}
            Err(why) => {
                context.log(listener.local_addr().unwrap_or_else(|_| ([0; 4], 0).into()), &Trouble::Accept(why));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse<S: Service>(
    context: &Arc<Context<S>>,
    stream: TcpStream,
    peer: SocketAddr,
    stopping: watch::Receiver<bool>,
) {
    if let Err(why) = tune(&stream) {
        return context.log(peer, &Trouble::Stream(why));
    }
    let (reader, writer) = stream.into_split();
    session::serve(context, reader, writer, peer, stopping).await;
}

/// Buffer sizes are left to the kernel, whose autotuning is switched off by any fixed size.
fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
    socket.set_tcp_user_timeout(Some(session::WRITE_TIMEOUT))
}

/// Errors of accept that say something of the connection, not of the server (accept(2)).
fn is_of_one_connection(why: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    matches!(
        why.kind(),
        ConnectionAborted | ConnectionReset | HostUnreachable | Interrupted | NetworkDown | NetworkUnreachable
    )
}
