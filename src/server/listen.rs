//! Sockets: bind, accept, serve, drain.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::guard::Transport;
use super::route::Surface;
use super::{Rules, Server};

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

/// A bound unix socket, which takes its file with it when it is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP address cannot be bound.
    #[error("{key} = {address}: {source}{hint}", hint = hint(source))]
    Tcp {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A unix socket cannot be bound.
    #[error("listen.unix = {path}: {source}{hint}", path = path.display(), hint = hint(source))]
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something else is in the place of the unix socket.
    #[error("listen.unix = {path}: {what}", path = path.display())]
    Occupied {
        /// The socket's path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is another ghtokend running? Stop it, or choose another address",
        io::ErrorKind::PermissionDenied => "; choose a place that this user may use",
        _ => "",
    }
}

/// Binds a TCP address, within a runtime. `key` is the one that configured it.
pub fn bind_tcp(key: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart does not wait for the last connections of the process before.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| BindError::Tcp { key, address, source })
}

impl UnixSocket {
    /// Binds `path` with `mode`. A socket that a dead process left behind is replaced, anything else is not touched.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        remove_stale(path)?;
        let failed = |source| BindError::Unix { path: path.to_owned(), source };
        let listener = bind_unix(path, mode).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

/// Nobody can connect before `listen`, so the mode is in force before the first who could.
fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    net::listen(&socket, BACKLOG.cast_signed())?;
    UnixListener::from_std(socket.into())
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let occupied = |what| BindError::Occupied { path: path.to_owned(), what };
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(occupied("there is something that is no socket: move it away or choose another path"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(occupied("another process is listening there: stop it or choose another path")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|source| BindError::Unix { path: path.to_owned(), source })
        }
        Err(source) => Err(BindError::Unix { path: path.to_owned(), source }),
    }
}

/// Serves until `stop`; then lets the requests in hand end, for at most `grace`.
pub(super) async fn serve(
    listeners: Listeners,
    server: Arc<Server>,
    stop: CancellationToken,
    grace: Duration,
) {
    let connections = Connections {
        permits: Arc::new(Semaphore::new(server.rules.max_connections)),
        complaint: Arc::new(Semaphore::new(1)),
        tasks: TaskTracker::new(),
        server,
        stop,
    };
    let Listeners { tcp, unix, ops } = listeners;
    let ops_connections =
        Connections { permits: Arc::new(Semaphore::new(OPS_CONNECTIONS)), ..connections.clone() };
    tokio::join!(
        connections.accept_tcp(tcp, Surface::Tokens),
        connections.accept_unix(unix),
        ops_connections.accept_tcp(ops, Surface::Ops),
    );
    connections.tasks.close();
    if tokio::time::timeout(grace, connections.tasks.wait()).await.is_err() {
        let left = connections.tasks.len();
        tracing::warn!(left, "shutdown.grace has passed: requests in hand are cut off");
        connections.server.cut.cancel();
        let _ = tokio::time::timeout(LAST_ANSWERS, connections.tasks.wait()).await;
    }
}

#[derive(Clone)]
struct Connections {
    permits: Arc<Semaphore>,
    /// Whoever has its permit may say that no connection can be accepted.
    complaint: Arc<Semaphore>,
    tasks: TaskTracker,
    server: Arc<Server>,
    stop: CancellationToken,
}

impl Connections {
    async fn accept_tcp(&self, listener: Option<TcpListener>, surface: Surface) {
        let Some(listener) = listener else { return };
        while let Some((permit, (stream, _))) = self.next(|| listener.accept()).await {
            prepare(&stream, surface == Surface::Tokens && self.server.rules.hop_limit_1);
            self.spawn(stream, permit, Transport::Tcp, surface);
        }
    }

    async fn accept_unix(&self, socket: Option<UnixSocket>) {
        let Some(socket) = socket else { return };
        while let Some((permit, (stream, _))) = self.next(|| socket.listener.accept()).await {
            let uid = UnixStream::peer_cred(&stream).ok().map(|peer| peer.uid());
            self.spawn(stream, permit, Transport::Unix { uid }, Surface::Tokens);
        }
    }

    /// The next connection, once there is room for it; `None` when it is time to stop. Accepted first: a permit held by
    /// an idle listener would be missing at the others. What goes wrong with one connection, or for want of file
    /// descriptors, never ends the loop.
    async fn next<T, F>(&self, accept: impl Fn() -> F) -> Option<(OwnedSemaphorePermit, T)>
    where
        F: Future<Output = io::Result<T>>,
    {
        loop {
            match self.stop.run_until_cancelled(accept()).await? {
                Ok(stream) => {
                    let permit = Arc::clone(&self.permits).acquire_owned();
                    return Some((self.stop.run_until_cancelled(permit).await?.ok()?, stream));
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    self.complain(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Says so, but not ten times a second.
    fn complain(&self, error: &io::Error) {
        if let Ok(permit) = Arc::clone(&self.complaint).try_acquire_owned() {
            tracing::warn!(%error, "no connection can be accepted at the moment: trying on");
            tokio::spawn(async move {
                tokio::time::sleep(BETWEEN_COMPLAINTS).await;
                drop(permit);
            });
        }
    }

    fn spawn<S>(&self, stream: S, permit: OwnedSemaphorePermit, transport: Transport, surface: Surface)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (server, stop) = (Arc::clone(&self.server), self.stop.clone());
        let Rules { head_timeout, connection_age, .. } = server.rules;
        self.tasks.spawn(async move {
            let service = service_fn(|request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, std::convert::Infallible>(server.handle(request, transport, surface).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(head_timeout)
                .max_buf_size(LARGEST_BUFFER)
                .max_headers(MOST_HEADERS)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let aged = tokio::time::sleep(connection_age);
            // The client's mistakes and its going away are its own business.
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stop.cancelled() => finish(connection).await,
                () = aged => drop(tokio::time::timeout(LONGEST_GOODBYE, finish(connection)).await),
            }
            drop(permit);
        });
    }
}

/// With a hop limit of 1, no answer travels further than this machine, whoever it was that got through.
fn prepare(stream: &TcpStream, hop_limit_1: bool) {
    let _ = stream.set_nodelay(true);
    if hop_limit_1 {
        let _ = stream.set_ttl(1);
        let _ = net::sockopt::set_ipv6_unicast_hops(stream, Some(1));
    }
}

/// Lets the request in hand end, and takes no other.
async fn finish<F: GracefulShutdown>(mut connection: std::pin::Pin<&mut F>) {
    connection.as_mut().shut_down();
    let _ = connection.await;
}

/// What hyper's connection can do, without naming its type.
trait GracefulShutdown: Future {
    fn shut_down(self: std::pin::Pin<&mut Self>);
}

impl<I, B, S> GracefulShutdown for http1::Connection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn shut_down(self: std::pin::Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Callers who may knock at once, as far as the system lets it (`net.core.somaxconn`). The usual 128 makes those beyond
/// it wait for a second, or turns them away.
const BACKLOG: u32 = 4096;
/// Above our own limit, so that the refusal is ours and has a body.
const LARGEST_BUFFER: usize = 64 * 1024;
/// Above our own limit too.
const MOST_HEADERS: usize = 256;
/// For those who are cut off to hear of it.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Out of file descriptors: some are likely to be closed by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const BETWEEN_COMPLAINTS: Duration = Duration::from_secs(10);
/// A kubelet and a Prometheus or two.
const OPS_CONNECTIONS: usize = 64;
const LONGEST_GOODBYE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hop_limit_is_set_where_it_is_asked_for() {
        for (hop_limit_1, is_one) in [(true, true), (false, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            prepare(&stream, hop_limit_1);
            assert_eq!(stream.ttl().unwrap() == 1, is_one);
        }
    }
}
