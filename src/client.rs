//! The client of our own endpoint, over TCP or the unix socket.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{ACCEPT, HOST, SERVER};
use hyper::http::request::Builder;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::api;
use crate::model::{AppName, Secret};

/// Where the daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`.
    Tcp(String),
    /// The path of its socket.
    Unix(PathBuf),
}

/// Talks to a daemon.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where it is.
    pub address: Address,
    /// Which app, where several are configured.
    pub app: Option<AppName>,
    /// The caller's secret, where callers are configured.
    pub secret: Option<Secret>,
}

/// A response of the daemon.
#[derive(Clone)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its body. May hold a token.
    pub body: Bytes,
}

/// Why the daemon did not respond.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed.
    #[error("cannot connect to ghtokend at {address}: {source}; is it running, and is this its address?")]
    Connect {
        /// Where.
        address: Address,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The connection was closed early, or the server is another one.
    #[error("the server at {address} closed the connection or is not ghtokend: is this its address?")]
    Broken {
        /// Where.
        address: Address,
    },
    /// It took too long.
    #[error("{address} did not respond within {} s", TIMEOUT.as_secs())]
    TimedOut {
        /// Where.
        address: Address,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Client {
    /// The response to `GET target`, in JSON or as plain text.
    pub async fn get(&self, target: &str, accept: &str) -> Result<Response, Error> {
        self.send(Request::get(target).header(ACCEPT, accept), Bytes::new()).await
    }

    /// The response to `POST target` with this body.
    pub async fn post(&self, target: &str, accept: &str, body: Bytes) -> Result<Response, Error> {
        self.send(Request::post(target).header(ACCEPT, accept), body).await
    }

    async fn send(&self, request: Builder, body: Bytes) -> Result<Response, Error> {
        let exchange = async {
            let failed = |source| Error::Connect { address: self.address.clone(), source };
            match &self.address {
                Address::Tcp(authority) => {
                    let stream = TcpStream::connect(authority).await.map_err(failed)?;
                    self.exchange(stream, request, body).await
                }
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(failed)?;
                    self.exchange(stream, request, body).await
                }
            }
        };
        let timed_out = |_| Error::TimedOut { address: self.address.clone() };
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(timed_out)?
    }

    async fn exchange<S>(&self, stream: S, request: Builder, body: Bytes) -> Result<Response, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = || Error::Broken { address: self.address.clone() };
        let host = match &self.address {
            Address::Tcp(authority) => authority.as_str(),
            Address::Unix(_) => "localhost",
        };
        let mut request = request.header(HOST, host).header(CLIENT, "ghtokend-cli");
        if let Some(app) = &self.app {
            request = request.header("ghtokend-app", app.as_str());
        }
        if let Some(secret) = &self.secret {
            request = request.header("ghtokend-secret", secret.expose());
        }
        let request = request.body(Full::new(body)).map_err(|_| broken())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| broken())?;
        // It ends by itself, once the response is read or the daemon has gone.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|_| broken())?;
        let server =
            response.headers().get(SERVER).and_then(|server| server.to_str().ok()).unwrap_or_default();
        if !server.starts_with("ghtokend/") {
            return Err(broken());
        }
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|_| broken())?.to_bytes();
        Ok(Response { status, body })
    }
}

impl Response {
    /// The error as `code: message`; a response in plain text has that form already.
    pub fn error(&self) -> String {
        match serde_json::from_slice::<api::Error>(&self.body) {
            Ok(error) => format!("{}: {}", error.code, error.message),
            Err(_) => String::from_utf8_lossy(&self.body).trim_end().to_owned(),
        }
    }
}

const CLIENT: &str = "ghtokend-client";
/// Longer than the daemon lets any request wait with its default deadlines.
const TIMEOUT: Duration = Duration::from_secs(90);
