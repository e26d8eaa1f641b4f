//! Configuration: flags, environment and file become [`Settings`] once, at the edge.
//!
//! [`Sources`] → a layer each (`layer`, `file`) → stacked by `config` (`values`) → read key by key (`keys`, a row for
//! each). A new key is a row there and a line with its default in `config/ghtokend.toml`.

mod apps;
mod effective;
mod error;
mod file;
mod key_names;
mod key_table;
mod layer;
mod prefetch;
mod read;
mod rules;
mod section;
mod sources;
mod toml;
mod types;
mod urls;
mod values;

use std::collections::BTreeMap;

use self::apps::Apps;
pub use self::apps::{App, Keys};
pub use self::error::Error;
pub use self::key_table::{Audit, Cache, Github, Listen, Log, Runtime, Shutdown, Webhook};
use self::layer::Layer;
pub use self::prefetch::Prefetch;
pub use self::sources::{Environment, Flag, Sources};
pub use self::types::{ByteSize, LogFormat, Proxy, UnixMode};
use self::values::Values;
use crate::model::AppName;

/// The whole configuration, checked and in domain types.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where callers reach the daemon.
    pub listen: Listen,
    /// Which GitHub, and how to connect to it.
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
    /// How to run.
    pub runtime: Runtime,
    /// What to write to stderr.
    pub log: Log,
    /// Where the audit trail goes.
    pub audit: Audit,
    /// Webhook deliveries.
    pub webhook: Webhook,
}

impl Settings {
    /// Reads and checks the sources. That no app is configured is no error: see [`Self::require_apps`].
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        let values = Values::stack([
            file::defaults()?,
            file::load(sources)?,
            Layer::of_well_known(&sources.environment),
            Layer::of_environment(&sources.environment)?,
            Layer::of_flags(&sources.flags)?,
        ])?;
        rules::supported(&values)?;
        rules::ordered_windows(&values)?;
        let apps = Apps::new(&values, &sources.environment)?;
        let github = Github::read(&values.section("github"))?;
        let listen = Listen::read(&values.section("listen"))?;
        rules::has_listener(&listen, &values)?;
        Ok(Self {
            listen,
            prefetch: prefetch::read(&values, &apps, github.dialect)?,
            github,
            apps: apps.apps,
            default_app: apps.default_app,
            cache: Cache::read(&values.section("cache"))?,
            shutdown: Shutdown::read(&values.section("shutdown"))?,
            runtime: Runtime::read(&values.section("runtime"))?,
            log: Log::read(&values.section("log"))?,
            audit: Audit::read(&values.section("audit"))?,
            webhook: Webhook::read(&values.section("webhook"))?,
        })
    }

    /// An error that says what to set, if no app is configured. A daemon needs one; its clients do not.
    pub fn require_apps(&self) -> Result<(), Error> {
        if self.apps.is_empty() { Err(apps::none_configured()) } else { Ok(()) }
    }
}
