//! Accepts connections, serves them, and lets them end.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handler::Server;
use super::memory::MAX_HEAD_BUFFER;
use super::route::Surface;
use super::slots::{Slot, Slots};
use super::stream::{BoundedStream, Timeouts};
use super::unix_socket::UnixSocket;
use crate::caller::Peer;

/// Sockets that are bound and not yet served.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For tokens, on loopback.
    pub tcp: Option<TcpListener>,
    /// For tokens, guarded by its mode.
    pub unix: Option<UnixSocket>,
    /// For health and metrics.
    pub ops: Option<TcpListener>,
}

impl Server {
    /// Serves until `stop`; then lets the in-flight requests end, for at most `grace`.
    pub async fn serve(self, listeners: Listeners, stop: CancellationToken, grace: Duration) {
        let (log_limiter, tasks) = (Arc::new(Semaphore::new(1)), TaskTracker::new());
        let acceptor = Acceptor { log_limiter, tasks, server: Arc::new(self), stop };
        let Listeners { tcp, unix, ops } = listeners;
        tokio::join!(
            acceptor.accept_tcp(tcp, Surface::Tokens),
            acceptor.accept_unix(unix),
            acceptor.accept_tcp(ops, Surface::Ops),
        );
        acceptor.tasks.close();
        if tokio::time::timeout(grace, acceptor.tasks.wait()).await.is_err() {
            let in_flight = acceptor.tasks.len();
            tracing::warn!(in_flight, "shutdown.grace elapsed; aborting in-flight requests");
            acceptor.server.tokens.abort.cancel();
            let _ = tokio::time::timeout(ABORT_GRACE, acceptor.tasks.wait()).await;
        }
    }
}

struct Acceptor {
    /// Its permit allows one warning.
    log_limiter: Arc<Semaphore>,
    tasks: TaskTracker,
    server: Arc<Server>,
    stop: CancellationToken,
}

impl Acceptor {
    async fn accept_tcp(&self, listener: Option<TcpListener>, surface: Surface) {
        let Some(listener) = listener else { return };
        let config = &self.server.config;
        let (name, max) = match surface {
            Surface::Tokens => ("tcp", config.max_connections),
            Surface::Ops => ("ops", config.max_ops_connections),
        };
        let slots = self.slots(name, max);
        while let Some((slot, (stream, _))) = self.next(&slots, || listener.accept()).await {
            prepare(&stream, surface == Surface::Tokens && config.hop_limit_1);
            self.spawn(stream, slot, Peer::Tcp, surface);
        }
    }

    async fn accept_unix(&self, socket: Option<UnixSocket>) {
        let Some(socket) = socket else { return };
        let slots = self.slots("unix", self.server.config.max_connections);
        while let Some((slot, stream)) = self.next(&slots, || socket.accept()).await {
            let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
            self.spawn(stream, slot, Peer::Unix { uid }, Surface::Tokens);
        }
    }

    /// Each listener has places of its own: a crowd at one of them takes none of the others.
    fn slots(&self, listener: &'static str, max: usize) -> Arc<Slots> {
        Slots::new(max, self.server.tokens.metrics.connections(listener))
    }

    /// The next connection, once there is a place for it; `None` when it is time to stop. An error of one connection, or a
    /// lack of file descriptors, never ends the loop.
    async fn next<T, F>(&self, slots: &Arc<Slots>, accept: impl Fn() -> F) -> Option<(Slot, T)>
    where
        F: Future<Output = io::Result<T>>,
    {
        loop {
            match self.stop.run_until_cancelled(accept()).await? {
                Ok(stream) => return Some((self.stop.run_until_cancelled(slots.acquire()).await?, stream)),
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    self.warn_throttled(&error);
                    // Else the loop would spin until a descriptor is free.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Logs it, but not ten times a second.
    fn warn_throttled(&self, error: &io::Error) {
        if let Ok(permit) = Arc::clone(&self.log_limiter).try_acquire_owned() {
            tracing::warn!(%error, "accept failed; retrying");
            tokio::spawn(async move {
                // Holds the only permit: no second warning within the interval.
                tokio::time::sleep(WARNING_INTERVAL).await;
                drop(permit);
            });
        }
    }

    fn spawn<S>(&self, stream: S, slot: Slot, peer: Peer, surface: Surface)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (server, stop) = (Arc::clone(&self.server), self.stop.clone());
        self.tasks.spawn(async move {
            let slot = Arc::new(slot);
            let timeouts = Timeouts { idle: server.config.idle_timeout, head: server.config.head_timeout };
            let stream = BoundedStream::new(stream, Arc::clone(&slot), timeouts, server.memory.heads());
            let service = service_fn(|request| {
                slot.begin_request();
                let (server, slot) = (Arc::clone(&server), Arc::clone(&slot));
                async move {
                    let reply = server.handle(request, peer, surface).await;
                    // Set where the answer precedes the end of the request.
                    if reply.headers().contains_key(CONNECTION) {
                        slot.leave_bytes_unread();
                    }
                    slot.answer();
                    Ok::<_, Infallible>(reply)
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                // The stream has its own.
                .header_read_timeout(None)
                .max_buf_size(MAX_HEAD_BUFFER)
                .max_headers(MAX_HEADERS)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            // A connection that never ends, or whose client never reads, holds its place no longer than that.
            let aged = tokio::time::sleep(server.config.connection_age);
            // A client's errors and its disconnects are not logged. The connection is polled first: a request that has
            // come in time is served, even if the connection is to close.
            tokio::select! {
                biased;
                _ = connection.as_mut() => {}
                () = stop.cancelled() => finish(connection).await,
                () = slot.evicted() => {}
                () = aged => drop(tokio::time::timeout(CONNECTION_DRAIN_TIMEOUT, finish(connection)).await),
            }
        });
    }
}

/// With a hop limit of 1, no answer leaves this machine, even where a listener is reachable from elsewhere.
fn prepare(stream: &TcpStream, hop_limit_1: bool) {
    let _ = stream.set_nodelay(true);
    if hop_limit_1 {
        let _ = stream.set_ttl(1);
        let _ = sockopt::set_ipv6_unicast_hops(stream, Some(1));
    }
}

/// Lets the in-flight request end, and takes no other.
async fn finish<F: GracefulShutdown>(mut connection: Pin<&mut F>) {
    connection.as_mut().shut_down();
    let _ = connection.await;
}

/// What hyper's connection can do, without naming its type.
trait GracefulShutdown: Future {
    fn shut_down(self: Pin<&mut Self>);
}

impl<I, B, S> GracefulShutdown for http1::Connection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Above the guard's limit, so that the error is the guard's and has a body.
const MAX_HEADERS: usize = 256;
/// Time for aborted requests to get their answer.
const ABORT_GRACE: Duration = Duration::from_secs(1);
/// Without file descriptors, `accept` fails at once and would be called in a busy loop. Some are likely to be closed by
/// then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// One line for a shortage, not one for each pause.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// For the in-flight request of a connection that has reached its age.
const CONNECTION_DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hop_limit_is_set_when_configured() {
        for (hop_limit_1, is_one) in [(true, true), (false, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            prepare(&stream, hop_limit_1);
            assert_eq!(stream.ttl().unwrap() == 1, is_one);
        }
    }
}
