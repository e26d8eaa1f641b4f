//! The client of our own endpoint, over TCP or the unix socket.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{ACCEPT, HOST};
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
    /// The app that is meant, where several are configured.
    pub app: Option<AppName>,
    /// What proves who we are, where callers are configured.
    pub secret: Option<Secret>,
}

/// An answer of the daemon.
#[derive(Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body. May hold a token.
    pub body: Bytes,
}

/// Why the daemon did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there, or not to us.
    #[error("no ghtokend answers at {address}: {source}; is it running, and is this its address?")]
    Connect {
        /// Where it was sought.
        address: Address,
        /// What the system says.
        source: std::io::Error,
    },
    /// It broke off, or is no HTTP server.
    #[error("{address} broke off or does not speak HTTP: is it ghtokend?")]
    Broken {
        /// Where it was sought.
        address: Address,
    },
    /// It took too long.
    #[error("{address} gave no answer within {} s", TIMEOUT.as_secs())]
    TimedOut {
        /// Where it was sought.
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
    /// The answer to `GET target`, in JSON or as plain text.
    pub async fn get(&self, target: &str, accept: &str) -> Result<Answer, Error> {
        self.send(Request::get(target).header(ACCEPT, accept), Bytes::new()).await
    }

    /// The answer to `POST target` with this body.
    pub async fn post(&self, target: &str, accept: &str, body: Bytes) -> Result<Answer, Error> {
        self.send(Request::post(target).header(ACCEPT, accept), body).await
    }

    async fn send(&self, request: Builder, body: Bytes) -> Result<Answer, Error> {
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

    async fn exchange<S>(&self, stream: S, request: Builder, body: Bytes) -> Result<Answer, Error>
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
        let answer = async {
            let answer = sender.send_request(request).await.map_err(|_| broken())?;
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(|_| broken())?.to_bytes();
            Ok(Answer { status, body })
        };
        tokio::select! {
            answer = answer => answer,
            _ = connection => Err(broken()),
        }
    }
}

impl Answer {
    /// What the daemon says went wrong, as `code: message`.
    pub fn error(&self) -> String {
        match serde_json::from_slice::<api::Error>(&self.body) {
            Ok(error) => format!("{}: {}", error.code, error.message),
            Err(_) => {
                format!("ghtokend answered {} with a body that this version does not know", self.status)
            }
        }
    }
}

const CLIENT: &str = "ghtokend-client";
/// Longer than the daemon lets any request wait with its default deadlines.
const TIMEOUT: Duration = Duration::from_secs(90);
