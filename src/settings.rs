//! Configuration: flags, environment and file become [`Settings`] once, at the edge.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::model::{AppName, InstallationId, Secret};

/// Everything the daemon can be told, checked and in domain types.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where callers reach us.
    pub listen: Listen,
    /// Which GitHub, and how to reach it.
    pub github: Github,
    /// The apps by name; one entry at least for a daemon that can vend.
    pub apps: BTreeMap<AppName, App>,
    /// The app for requests that name none, if there is one such.
    pub default_app: Option<AppName>,
    /// How long tokens are kept, and how many.
    pub cache: Cache,
    /// How to stop.
    pub shutdown: Shutdown,
    /// Worker threads; 0 runs all on one thread.
    pub workers: usize,
    /// What to write to stderr.
    pub log: Log,
    /// File for the audit lines; `None` writes them to the log.
    pub audit_file: Option<PathBuf>,
}

/// Where callers reach us.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Loopback address, or `None` for off.
    pub tcp: Option<SocketAddr>,
    /// Path of the unix socket, or `None` for off.
    pub unix: Option<PathBuf>,
    /// Mode of the unix socket.
    pub unix_mode: u32,
    /// Address for health and metrics only.
    pub ops: Option<SocketAddr>,
    /// Further values of `Host` to accept, in lower case.
    pub allowed_hosts: Vec<String>,
    /// Whether a TCP request must carry a client header.
    pub require_client_header: bool,
    /// Whether answers are sent with a TTL of 1, so that they do not leave the machine.
    pub hop_limit_1: bool,
    /// Connections served at a time; more wait.
    pub max_connections: usize,
}

/// Which GitHub, and how to reach it.
#[derive(Debug, Clone)]
pub struct Github {
    /// Base of the REST API, without a trailing slash.
    pub api_url: Url,
    /// Base of the web and git host.
    pub web_url: Url,
    /// Value of `X-GitHub-Api-Version`, or `None` to send none.
    pub api_version: Option<String>,
    /// PEM file with further root certificates.
    pub ca_file: Option<PathBuf>,
    /// Proxy for calls to GitHub.
    pub proxy: Option<Url>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for a whole answer.
    pub request_timeout: Duration,
    /// Mints a minute for each app; 0 is no budget.
    pub mints_per_minute: u32,
}

/// One GitHub App.
#[derive(Debug, Clone)]
pub struct App {
    /// App id or client id, as `iss` of the app JWT.
    pub id: String,
    /// Where its private keys are, newest first.
    pub keys: Keys,
    /// The installation for requests that name none.
    pub installation: Option<InstallationId>,
}

/// Where private keys come from.
#[derive(Debug, Clone)]
pub enum Keys {
    /// PEM files, newest first.
    Files(Vec<PathBuf>),
    /// PEM text from the environment, with the variable's name for messages.
    Inline {
        /// Where the text came from, such as `GITHUB_APP_PRIVATE_KEY`.
        variable: &'static str,
        /// The PEM itself: base64 and `\n` escapes are already undone.
        pem: Secret,
    },
}

/// How long tokens are kept, and how many.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Remaining life at which a token is renewed.
    pub renew_before: Duration,
    /// Remaining life below which a request waits for the renewal.
    pub min_validity: Duration,
    /// Remaining life below which a token is not handed out.
    pub grace: Duration,
    /// Age at which a renewed token enters service.
    pub settle: Duration,
    /// Time after the last request at which a key is no longer renewed.
    pub idle_after: Duration,
    /// Most tokens kept.
    pub max_entries: u64,
    /// Most bytes kept.
    pub max_bytes: u64,
}

/// How to stop.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// How long the listeners stay open after the first signal.
    pub delay: Duration,
    /// How long requests in hand may still take after that.
    pub grace: Duration,
}

/// What to write to stderr.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// The least important level that is written.
    pub level: LogLevel,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Levels of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something will break.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}
