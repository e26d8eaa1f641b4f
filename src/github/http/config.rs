//! How GitHub is reached, and why it may not be.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::model::Dialect;

/// How to reach GitHub. Has no `Debug`: the proxy's URL may hold a password.
#[derive(Clone)]
pub struct UpstreamConfig {
    /// Base of the REST API.
    pub api_url: Url,
    /// Which of its APIs to speak.
    pub dialect: Dialect,
    /// Value of `X-GitHub-Api-Version`, or `None` to send none. The preview has no versions, and is sent none.
    pub api_version: Option<String>,
    /// PEM file with further root certificates.
    pub ca_file: Option<PathBuf>,
    /// Proxy for all calls. Those of the environment are never used.
    pub proxy: Option<Url>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for a whole answer.
    pub request_timeout: Duration,
    /// Most calls under way at a time; more wait.
    pub calls_at_once: usize,
    /// Mints a minute for each app, at most 150; 0 is no limit on calls.
    pub mints_per_minute: u32,
    /// Most bytes of failures that are remembered.
    pub remembered_bytes: usize,
}

/// Why no client could be made of what is configured.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The CA file cannot be read.
    #[error("github.ca_file: {path}: {problem}", path = path.display())]
    ReadCa {
        /// The file.
        path: PathBuf,
        /// What keeps it from being read.
        problem: String,
    },
    /// The CA file holds no certificate.
    #[error("github.ca_file: {path}: holds no PEM certificate (BEGIN CERTIFICATE)", path = .0.display())]
    NoCertificate(PathBuf),
    /// The version has characters that no header can carry.
    #[error("github.api_version: a date such as 2022-11-28 is allowed")]
    Version,
    /// The TLS stack or the proxy was refused.
    #[error(
        "no HTTPS client could be built: {0}; check github.ca_file, github.proxy and the system's CA certificates"
    )]
    Http(String),
}
