//! The listeners, on loopback only.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::body::{ConnectionReset, ResponseBody};

/// Handles the requests of a listener.
pub(crate) type Service = Arc<
    dyn Fn(
            hyper::Request<Incoming>,
        )
            -> Pin<Box<dyn Future<Output = Result<hyper::Response<ResponseBody>, ConnectionReset>> + Send>>
        + Send
        + Sync,
>;

/// Listens at `address`.
///
/// # Errors
///
/// If `address` is not loopback, or not free.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        let message = format!("{address} is not a loopback address; the emulator listens on no other");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    TcpListener::bind(address).await
}

/// Serves until it is aborted, and all connections with it.
pub(crate) async fn accept(listener: TcpListener, service: Service) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, service.clone()))),
                // Out of file descriptors, most likely: connections that end give some back.
                Err(error) => {
                    tracing::warn!(%error, "accept failed; retrying");
                    // Else the loop would spin until a descriptor is free.
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn connection(stream: TcpStream, service: Service) {
    let _ = stream.set_nodelay(true);
    let serve = service_fn(move |request| service(request));
    let mut connection =
        http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(stream), serve);
    let end = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let mut stream = connection.into_parts().io.into_inner();
    match end {
        Err(error)
            if std::error::Error::source(&error).is_some_and(|source| source.is::<ConnectionReset>()) =>
        {
            // With nothing to linger for, closing sends a reset.
            let _ = stream.set_zero_linger();
        }
        _ => drop(stream.shutdown().await),
    }
}
