//! Configuration: flags, environment and file become [`Settings`] once, at the edge.
//!
//! [`Sources`] → a layer each (`layer`, `file`) → stacked by `config` (`values`) → checked and in domain types
//! (`parse`, `apps`, `url`). Defaults are those of `config/ghtokend.toml`, which documents every key.

mod apps;
mod effective;
mod error;
mod file;
mod layer;
mod parse;
mod prefetch;
mod reloadable;
mod sources;
mod unsupported;
mod url;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ::url::Url;

pub use self::error::Error;
use self::layer::{Known, Layer};
pub use self::sources::{Environment, Flag, Sources};
pub use self::url::Proxy;
use self::values::Values;
use crate::model::{AppName, Dialect, InstallationId, Scope, Secret, Selector, UserId};

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
    /// Tokens to mint at start; none by default.
    pub prefetch: Vec<Prefetch>,
    /// How to stop.
    pub shutdown: Shutdown,
    /// Threads that serve requests; 1 by default.
    pub worker_threads: usize,
    /// What to write to stderr.
    pub log: Log,
    /// File for the audit lines; `None`, the default, writes them to the log.
    pub audit_file: Option<PathBuf>,
    /// File with the secrets that webhook deliveries are signed with; `None`, the default, takes none.
    pub webhook_secret_file: Option<PathBuf>,
}

impl Settings {
    /// Reads and checks what the sources say. That no app is configured is no error: see [`Self::require_apps`].
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        let known = Known::new()?;
        let file = file::load(sources, &known)?;
        let values = Values::stack([
            known.defaults.clone(),
            file,
            Layer::of_well_known(&sources.environment, &known),
            Layer::of_environment(&sources.environment, &known)?,
            Layer::of_flags(&sources.flags, &known)?,
        ])?;
        parse::settings(&values, &sources.environment)
    }

    /// An error that says what to set, if no app is configured. A daemon needs one; its clients do not.
    pub fn require_apps(&self) -> Result<(), Error> {
        if self.apps.is_empty() { Err(apps::none_configured()) } else { Ok(()) }
    }

    /// All settings as TOML, with secrets masked.
    pub fn effective(&self) -> String {
        effective::toml(self)
    }
}

/// Where callers reach us.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Loopback address, or `None` for off; `127.0.0.1:7171` by default.
    pub tcp: Option<SocketAddr>,
    /// Path of the unix socket, or `None`, the default, for off.
    pub unix: Option<PathBuf>,
    /// Mode of the unix socket; `0o660` by default.
    pub unix_mode: u32,
    /// Address for health and metrics only; `None`, the default, for off.
    pub ops: Option<SocketAddr>,
    /// Further values of `Host` to accept, in lower case; none by default.
    pub allowed_hosts: Vec<String>,
    /// Whether a TCP request must carry a client header, as it must by default.
    pub require_client_header: bool,
    /// Whether answers are sent with a TTL of 1, so that they do not leave the machine; on by
    /// default.
    pub hop_limit_1: bool,
    /// Connections served at a time, more wait; 1024 by default.
    pub max_connections: usize,
}

/// Which GitHub, and how to reach it.
#[derive(Debug, Clone)]
pub struct Github {
    /// Base of the REST API, without a trailing slash after a path; `https://api.github.com/` by default.
    pub api_url: Url,
    /// Base of the web and git host; derived from `api_url` by default.
    pub web_url: Url,
    /// Which of GitHub's two APIs to speak; [`Dialect::Apps`] by default.
    pub dialect: Dialect,
    /// Value of `X-GitHub-Api-Version`, or `None` to send none; `2022-11-28` by default.
    pub api_version: Option<String>,
    /// PEM file with further root certificates; none by default.
    pub ca_file: Option<PathBuf>,
    /// Proxy for calls to GitHub; none by default.
    pub proxy: Option<Proxy>,
    /// Longest wait for a connection; 5 s by default.
    pub connect_timeout: Duration,
    /// Longest wait for a whole answer; 15 s by default.
    pub request_timeout: Duration,
    /// Mints a minute for each app, 0 for no budget; 150 by default.
    pub mints_per_minute: u32,
}

/// One GitHub App.
#[derive(Debug, Clone)]
pub struct App {
    /// App id or client id, as `iss` of the app JWT.
    pub id: String,
    /// Where its private keys are, newest first.
    pub keys: Keys,
    /// The installation for requests that name none; `None` by default.
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
    /// Remaining life at which a token is renewed; 10 min by default.
    pub renew_before: Duration,
    /// Remaining life below which a request waits for the renewal; 5 min by default.
    pub min_validity: Duration,
    /// Remaining life below which a token is not handed out; 30 s by default.
    pub grace: Duration,
    /// Age at which a renewed token enters service; 5 s by default.
    pub settle: Duration,
    /// Time after the last request at which a key is no longer renewed; 30 min by default.
    pub idle_after: Duration,
    /// Most tokens kept; 10,000 by default.
    pub max_entries: u64,
    /// Most bytes kept; 64 MiB by default.
    pub max_bytes: u64,
}

/// A token to mint at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefetch {
    /// Which app; `None`, the default, is the default one.
    pub app: Option<AppName>,
    /// Which installation; [`Selector::Default`] by default.
    pub selector: Selector,
    /// What it is narrowed to; nothing by default.
    pub scope: Scope,
    /// On whose behalf; nobody's by default.
    pub user: Option<UserId>,
}

/// How to stop.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// How long the listeners stay open after the first signal; 0 s by default.
    pub delay: Duration,
    /// How long requests in hand may still take after that; 10 s by default.
    pub grace: Duration,
    /// Whether the tokens in hand are then revoked at GitHub, for at most `grace` more; false by default.
    pub revoke: bool,
}

/// What to write to stderr.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// How a line looks; [`LogFormat::Auto`] by default.
    pub format: LogFormat,
    /// The least important level that is written; [`LogLevel::Info`] by default.
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
