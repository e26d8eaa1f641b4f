//! The effective configuration, as a file that could be used again, with secrets masked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;

use super::{App, Keys, LogFormat, LogLevel, Prefetch, Settings};
use crate::model::{AppName, Scope, Selector};

pub(super) fn toml(settings: &Settings) -> String {
    file(settings).text
}

/// Every key and its value. A secret in it is masked: that two are the same does not show.
pub(super) fn values(settings: &Settings) -> BTreeMap<String, String> {
    file(settings).values
}

fn file(settings: &Settings) -> File {
    let mut file = File::default();
    listen(&mut file, settings);
    github(&mut file, settings);
    apps(&mut file, settings);
    cache(&mut file, settings);
    file.section("shutdown");
    file.key("delay", duration(settings.shutdown.delay));
    file.key("grace", duration(settings.shutdown.grace));
    file.key("revoke", settings.shutdown.revoke);
    file.section("runtime");
    file.key("worker_threads", settings.worker_threads);
    file.section("log");
    file.key("format", text(settings.log.format.as_str()));
    file.key("level", text(settings.log.level.as_str()));
    file.section("audit");
    file.key("file", path(&settings.audit_file));
    file.section("webhook");
    file.key("secret_file", path(&settings.webhook_secret_file));
    settings.prefetch.iter().for_each(|prefetch| prefetched(&mut file, prefetch));
    file
}

fn listen(file: &mut File, settings: &Settings) {
    let listen = &settings.listen;
    let address = |address: Option<std::net::SocketAddr>| {
        text(&address.map_or_else(String::new, |address| address.to_string()))
    };
    file.section("listen");
    file.key("tcp", address(listen.tcp));
    file.key("unix", path(&listen.unix));
    file.key("unix_mode", text(&format!("{:04o}", listen.unix_mode)));
    file.key("ops", address(listen.ops));
    file.key("allowed_hosts", list(listen.allowed_hosts.iter().map(|host| text(host))));
    file.key("require_client_header", listen.require_client_header);
    file.key("hop_limit_1", listen.hop_limit_1);
    file.key("max_connections", listen.max_connections);
}

fn github(file: &mut File, settings: &Settings) {
    let github = &settings.github;
    file.section("github");
    file.key("api_url", text(github.api_url.as_str().trim_end_matches('/')));
    file.key("web_url", text(github.web_url.as_str().trim_end_matches('/')));
    file.key("dialect", text(github.dialect.as_str()));
    file.key("api_version", text(github.api_version.as_deref().unwrap_or_default()));
    file.key("ca_file", path(&github.ca_file));
    file.key("proxy", text(&github.proxy.as_ref().map_or_else(String::new, ToString::to_string)));
    file.key("connect_timeout", duration(github.connect_timeout));
    file.key("request_timeout", duration(github.request_timeout));
    file.key("mints_per_minute", github.mints_per_minute);
}

fn apps(file: &mut File, settings: &Settings) {
    let several = settings.apps.len() > 1;
    for (name, app) in &settings.apps {
        match *name == AppName::default() && !several {
            true => file.section("app"),
            false => file.section(&format!("apps.{name}")),
        }
        app_keys(file, app);
        if several && settings.default_app.as_ref() == Some(name) {
            file.key("default", true);
        }
    }
}

fn app_keys(file: &mut File, app: &App) {
    file.key("id", text(&app.id));
    match &app.keys {
        Keys::Files(paths) => {
            let paths = paths.iter().map(|path| text(&path.display().to_string()));
            file.key("private_key_file", list(paths));
        }
        Keys::Inline { variable, .. } => file.comment(&format!("the private key is in {variable}")),
    }
    file.key("installation", app.installation.map_or(0, |id| id.get()));
}

fn cache(file: &mut File, settings: &Settings) {
    let cache = &settings.cache;
    file.section("cache");
    file.key("renew_before", duration(cache.renew_before));
    file.key("min_validity", duration(cache.min_validity));
    file.key("grace", duration(cache.grace));
    file.key("settle", duration(cache.settle));
    file.key("idle_after", duration(cache.idle_after));
    file.key("max_entries", cache.max_entries);
    file.key("max_bytes", bytes(cache.max_bytes));
}

fn prefetched(file: &mut File, prefetch: &Prefetch) {
    file.table("prefetch");
    if let Some(app) = &prefetch.app {
        file.key("app", text(app.as_str()));
    }
    let by_repository = matches!(prefetch.selector, Selector::Repository(..));
    match (&prefetch.selector, prefetch.selector.parameter()) {
        (Selector::Id(id), Some((name, _))) => file.key(name, id),
        (_, Some((name, value))) => file.key(name, text(&value)),
        (_, None) => {}
    }
    let Scope { repositories, repository_ids, permissions } = &prefetch.scope;
    if let Some(names) = repositories.as_ref().filter(|_| !by_repository) {
        file.key("repositories", list(names.iter().map(|name| text(name.as_str()))));
    }
    if let Some(ids) = repository_ids {
        file.key("repository_ids", list(ids.iter().map(ToString::to_string)));
    }
    if let Some(permissions) = permissions {
        let permissions =
            permissions.iter().map(|(name, level)| format!("{name} = {}", text(level.as_str())));
        file.key("permissions", format!("{{ {} }}", permissions.collect::<Vec<_>>().join(", ")));
    }
    if let Some(user) = prefetch.user {
        file.key("user", user);
    }
}

#[derive(Default)]
struct File {
    text: String,
    section: String,
    tables: usize,
    values: BTreeMap<String, String>,
}

// Writing to a `String` cannot fail.
impl File {
    fn section(&mut self, name: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.text, "{gap}[{name}]");
        name.clone_into(&mut self.section);
    }

    /// The next one of an array of tables.
    fn table(&mut self, name: &str) {
        let _ = writeln!(self.text, "\n[[{name}]]");
        self.tables += 1;
        self.section = format!("{name}.{}", self.tables);
    }

    fn key(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{name} = {value}");
        self.values.insert(format!("{}.{name}", self.section), value.to_string());
    }

    fn comment(&mut self, comment: &str) {
        let _ = writeln!(self.text, "# {comment}");
    }
}

/// A JSON string is a TOML string.
fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

fn path(path: &Option<PathBuf>) -> String {
    text(&path.as_ref().map_or_else(String::new, |path| path.display().to_string()))
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn duration(value: Duration) -> String {
    let value = SignedDuration::try_from(value).unwrap_or(SignedDuration::MAX);
    text(&format!("{value:#}").replace(' ', ""))
}

fn bytes(value: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.into_iter().find(|(_, bytes)| value.is_multiple_of(*bytes));
    unit.map_or_else(|| value.to_string(), |(unit, bytes)| text(&format!("{}{unit}", value / bytes)))
}

impl LogFormat {
    fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl LogLevel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
