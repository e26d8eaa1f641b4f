//! Every key of the configuration, in one row each: its meaning, its type and how it is read. Its default is its line in
//! `config/ghtokend.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing::Level;
use url::Url;

use super::error::Error;
use super::read;
use super::section::{Key, Table, section};
use super::toml::Toml;
use super::types::{ByteSize, LogFormat, Proxy, UnixMode};
use super::urls;
use super::values::{MAX_NUMBER, Section};
use crate::model::Dialect;

/// All keys but those of `[apps.NAME]`, which are those of `[app]` and `default`.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    let sections = [
        Listen::KEYS,
        Github::KEYS,
        AppKeys::KEYS,
        Cache::KEYS,
        Shutdown::KEYS,
        Runtime::KEYS,
        Log::KEYS,
        Audit::KEYS,
        Webhook::KEYS,
    ];
    sections.into_iter().flatten()
}

section! {
    /// Where callers reach the daemon.
    pub struct Listen in "listen" {
        /// Loopback address, or `None` for off; `127.0.0.1:7171` by default.
        tcp: Option<SocketAddr> = read::loopback,
        /// Path of the unix socket, or `None`, the default, for off.
        unix: Option<PathBuf> = read::socket,
        /// Mode of the unix socket; `0660` by default.
        unix_mode: UnixMode = read::mode,
        /// Address for health and metrics only; `None`, the default, for off.
        ops: Option<SocketAddr> = read::address,
        /// Further values of `Host` to accept, in lower case; none by default.
        allowed_hosts: Vec<String> = read::hosts,
        /// Whether a TCP request must carry a client header, as it must by default.
        require_client_header: bool = read::flag,
        /// Whether responses are sent with a TTL of 1, so that they do not leave the machine; on by default.
        hop_limit_1: bool = read::flag,
        /// Connections served at a time, more wait; 1024 by default.
        max_connections: usize = |item| read::whole(item, 1..=1_000_000),
    }
}

section! {
    /// Which GitHub, and how to connect to it.
    pub struct Github in "github" {
        /// Base of the REST API, without a trailing slash after a path; `https://api.github.com/` by default.
        api_url: Url = urls::api,
        /// Base of the web and git host; derived from `api_url` by default.
        web_url: Url = |item| urls::web(item, &api_url),
        /// Which of GitHub's two APIs to speak; [`Dialect::Apps`] by default.
        dialect: Dialect = |item| read::word(item, &Dialect::ALL.map(|dialect| (dialect.as_str(), dialect))),
        /// Value of `X-GitHub-Api-Version`, or `None` to send none; `2022-11-28` by default.
        api_version: Option<String> = read::api_version,
        /// PEM file with further root certificates; none by default.
        ca_file: Option<PathBuf> = read::path,
        /// Proxy for calls to GitHub; none by default.
        proxy: Option<Proxy> = urls::proxy,
        /// Longest wait for a connection; 5 s by default.
        connect_timeout: Duration = read::timeout,
        /// Longest wait for a whole response; 15 s by default.
        request_timeout: Duration = read::timeout,
        /// Mints a minute for each app, 0 for no budget; 150 by default.
        mints_per_minute: u32 = |item| read::whole(item, 0..=1_000_000),
    }
}

section! {
    /// `[app]`, or the same keys of `[apps.NAME]`, before it is known whether they make an app.
    #[derive(Default)]
    pub(crate) struct AppKeys in "app" {
        /// App id or client id.
        id: Option<String> = read::app_id,
        /// Paths of PEM files, newest first.
        private_key_file: Vec<PathBuf> = read::paths,
        /// The installation for requests that name none; 0 for none.
        installation: u64 = |item| read::whole(item, 0..=MAX_NUMBER),
    }
}

section! {
    /// How long tokens are kept, and how many.
    pub struct Cache in "cache" {
        /// Remaining life at which a token is renewed; 10 min by default.
        renew_before: Duration = read::duration,
        /// Remaining life below which a request waits for the renewal; 5 min by default.
        min_validity: Duration = read::duration,
        /// Remaining life below which a token is not served; 30 s by default.
        grace: Duration = read::duration,
        /// Age at which a renewed token enters service; 5 s by default.
        settle: Duration = read::duration,
        /// Time after the last request at which a key is no longer renewed; 30 min by default.
        idle_after: Duration = read::duration,
        /// Most tokens kept; 10,000 by default.
        max_entries: u64 = |item| read::whole(item, 1..=MAX_NUMBER),
        /// Most bytes kept; 64 MiB by default.
        max_bytes: ByteSize = read::cache_size,
    }
}

section! {
    /// How to stop.
    pub struct Shutdown in "shutdown" {
        /// How long the listeners stay open after the first signal; 0 s by default.
        delay: Duration = read::duration,
        /// How long in-flight requests may still take after that; 10 s by default.
        grace: Duration = read::duration,
        /// Whether the cached tokens are then revoked at GitHub, for at most `grace` more; false by default.
        revoke: bool = read::flag,
    }
}

section! {
    /// How to run.
    pub struct Runtime in "runtime" {
        /// Threads that serve requests; 1 by default.
        worker_threads: usize = |item| read::whole(item, 1..=1024),
    }
}

section! {
    /// What to write to stderr.
    pub struct Log in "log" {
        /// How a line looks; [`LogFormat::Auto`] by default.
        format: LogFormat = |item| read::word(item, &LogFormat::WORDS),
        /// The least important level that is written; `info` by default.
        level: Level = |item| read::word(item, &read::LEVELS),
    }
}

section! {
    /// Where the audit trail goes.
    pub struct Audit in "audit" {
        /// File for the audit lines; `None`, the default, writes them to the log.
        file: Option<PathBuf> = read::path,
    }
}

section! {
    /// Webhook deliveries.
    pub struct Webhook in "webhook" {
        /// File with the secrets that deliveries are signed with; `None`, the default, accepts none.
        secret_file: Option<PathBuf> = read::path,
    }
}
