//! Reload: key rotation, for which the files of private keys are read every 20 seconds, and on SIGHUP the part of the
//! configuration that needs no restart. If either is invalid, the version in use stays.
//!
//! Files are read and compared, not watched: Kubernetes changes a Secret by swapping a link two directories up, which a
//! watch on the file does not see.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::error::Error;
use super::keys::{Keys, load_further_keys, self_test};
use super::reads::BoundedFileReads;
use crate::clock::{BootTime, Clock};
use crate::github::Upstream;
use crate::github::key::{Key, KeyError};
use crate::github::webhook::{Secrets, SecretsError};
use crate::model::AppName;
use crate::server::Guard;
use crate::settings::{Listen, Settings, Sources};
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;

/// Applies changed keys and settings to a running daemon. Clones share the state.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

struct Inner {
    targets: ReloadTargets,
    active: Mutex<Active>,
}

/// The parts of the daemon that a reload targets.
pub(super) struct ReloadTargets {
    pub(super) upstream: Arc<Upstream>,
    pub(super) guard: watch::Sender<Guard>,
    pub(super) webhook_secrets: Option<watch::Sender<Secrets>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
}

struct Active {
    settings: Settings,
    /// The last good key of every file.
    keys: Keys,
    /// When a file was last reported as unusable, for as long as it is.
    last_warned: BTreeMap<String, BootTime>,
    reads: BoundedFileReads,
}

/// A changed configuration that can be applied.
struct Prepared {
    settings: Settings,
    keys: Keys,
    changed: Vec<String>,
    /// What has changed too, and requires a restart.
    needs_restart: Vec<String>,
}

/// Results of reading the files of an app's keys, in the order of the keys.
type Found = Vec<Result<Option<Key>, KeyError>>;

impl Reloader {
    pub(super) fn new(targets: ReloadTargets, settings: Settings, keys: Keys) -> Self {
        for app in keys.keys() {
            targets.metrics.invalid_key_files(app, 0);
        }
        for kind in [KEYS, WEBHOOK, CONFIGURATION] {
            targets.metrics.reload_failed(kind, 0);
        }
        let active =
            Active { settings, keys, last_warned: BTreeMap::new(), reads: BoundedFileReads::default() };
        Self(Arc::new(Inner { targets, active: Mutex::new(active) }))
    }

    /// Reads the key files at intervals.
    pub(super) async fn run(&self) -> Infallible {
        loop {
            tokio::time::sleep(FILE_POLL_INTERVAL).await;
            self.tick().await;
        }
    }

    /// Reads all key files and the file of the webhook secret. A changed one is applied, and GitHub is asked whether it
    /// accepts the key. If one is invalid or cannot be read in time, the version in use stays, which is logged once a
    /// minute.
    pub async fn tick(&self) {
        let mut active = self.0.active.lock().await;
        self.poll_key_files(&mut active).await;
        self.poll_webhook_secret(&mut active).await;
    }

    /// Reads the configuration again and applies its reloadable part as a whole, or nothing if anything in it is invalid.
    pub async fn reload(&self, sources: &Sources) {
        let mut active = self.0.active.lock().await;
        let (sources, settings, keys) = (sources.clone(), active.settings.clone(), active.keys.clone());
        let prepared = active.reads.one(CONFIGURATION, move || prepare(&sources, &settings, &keys)).await;
        match prepared.unwrap_or(Err(Error::Hangs)) {
            Ok(prepared) => {
                self.apply(&mut active, prepared);
                self.poll_key_files(&mut active).await;
                self.poll_webhook_secret(&mut active).await;
            }
            Err(error) => {
                self.0.targets.metrics.reload_failed(CONFIGURATION, 1);
                tracing::error!(%error, "configuration not reloaded; the running configuration stays active");
            }
        }
    }

    fn apply(&self, active: &mut Active, prepared: Prepared) {
        let Prepared { settings, keys, changed, needs_restart } = prepared;
        log::set_level(settings.log.level);
        self.0.targets.guard.send_replace(guard(&settings.listen));
        // A reload often follows a change at GitHub.
        self.0.targets.upstream.github().forget_refusals();
        let known: Vec<_> = active.keys.values().flatten().map(Key::path).collect();
        keys.values().flatten().filter(|key| !known.contains(&key.path())).for_each(announce);
        let warning_stands = |origin: &String| {
            origin == SECRET_FILE || keys.values().flatten().any(|key| key.origin() == origin)
        };
        active.last_warned.retain(|origin, _| warning_stands(origin));
        (active.settings, active.keys) = (settings, keys);
        tracing::info!(changed = changed.join(", "), "configuration reloaded");
        if !needs_restart.is_empty() {
            tracing::warn!(keys = needs_restart.join(", "), "configuration change requires a restart");
        }
    }

    /// Reads the file of the webhook secret again.
    async fn poll_webhook_secret(&self, active: &mut Active) {
        let Active { settings, last_warned, reads, .. } = active;
        let path = settings.webhook.secret_file.clone();
        let Some((path, in_use)) = path.zip(self.0.targets.webhook_secrets.as_ref()) else { return };
        let hangs = SecretsError::hangs(&path);
        match reads.one(SECRET_FILE, move || Secrets::read(&path)).await.unwrap_or(Err(hangs)) {
            Ok(secrets) => {
                let is_other = *in_use.borrow() != secrets;
                in_use.send_replace(secrets);
                if last_warned.remove(SECRET_FILE).is_some() || is_other {
                    tracing::info!("webhook secret reloaded");
                }
            }
            Err(error) => {
                self.0.targets.metrics.reload_failed(WEBHOOK, 1);
                self.warn_throttled(last_warned, SECRET_FILE, || {
                    tracing::error!(%error, "webhook secret cannot be read; the previous one stays in use");
                });
            }
        }
    }

    async fn poll_key_files(&self, active: &mut Active) {
        let known = active.keys.clone();
        let rereads = known.values().flatten().cloned();
        let rereads = rereads.map(|key| (key.origin().to_owned(), move || key.reread()));
        let mut found = active.reads.all(rereads).await.into_iter();
        for (app, known) in &known {
            let found = known.iter().zip(&mut found);
            let found = found
                .map(|(key, found)| found.unwrap_or_else(|| Err(KeyError::hangs(key.origin()))))
                .collect();
            self.replace_keys_of(active, app, found);
            let keys = active.keys.get(app).cloned().unwrap_or_default();
            if self.0.targets.upstream.replace_keys(app, keys) {
                // A key that GitHub does not know is found now, before a caller waits for it. The client logs the result.
                let _ = self.0.targets.upstream.github().authenticated_app(app).await;
            }
        }
    }

    fn replace_keys_of(&self, active: &mut Active, app: &AppName, found: Found) {
        let Active { keys, last_warned, .. } = active;
        let mut unusable = 0;
        for (key, found) in keys.get_mut(app).into_iter().flatten().zip(found) {
            match found {
                Err(error) => {
                    unusable += 1;
                    let fingerprint = key.fingerprint();
                    self.warn_throttled(last_warned, key.origin(), || {
                        tracing::error!(%error, fingerprint, "private key file cannot be used; the previous key stays in use");
                    });
                }
                Ok(other) => {
                    if last_warned.remove(key.origin()).is_some() {
                        tracing::info!(origin = key.origin(), "private key file can be used again");
                    }
                    if let Some(other) = other {
                        announce(&other);
                        *key = other;
                    }
                }
            }
        }
        self.0.targets.metrics.invalid_key_files(app, unusable);
        self.0.targets.metrics.reload_failed(KEYS, unusable);
    }

    /// Logs by `warn` unless a warning about `origin` was logged within the last minute.
    fn warn_throttled(
        &self,
        last_warned: &mut BTreeMap<String, BootTime>,
        origin: &str,
        warn: impl FnOnce(),
    ) {
        let now = self.0.targets.clock.boot();
        let is_recent = last_warned.get(origin).is_some_and(|last| now.since(*last) < WARNING_INTERVAL);
        if !is_recent {
            last_warned.insert(origin.to_owned(), now);
            warn();
        }
    }
}

/// The part of the request guards that can change at run time.
pub(super) fn guard(listen: &Listen) -> Guard {
    Guard { allowed_hosts: listen.allowed_hosts.clone(), require_client_header: listen.require_client_header }
}

/// Logs which key was read from where, and a warning about the mode of its file.
pub fn announce(key: &Key) {
    tracing::info!(fingerprint = key.fingerprint(), origin = key.origin(), "private key loaded");
    if let Some(warning) = key.warning() {
        tracing::warn!(origin = key.origin(), "{warning}");
    }
}

/// Checks a new configuration before any of it is applied. Key files already in use are not read again: one may be
/// half-written at this moment.
fn prepare(sources: &Sources, now: &Settings, keys: &Keys) -> Result<Prepared, Error> {
    let new = Settings::load(sources)?;
    new.require_apps()?;
    let settings = now.with_live_part_of(&new);
    let keys = load_further_keys(&settings, keys)?;
    self_test(&keys)?;
    Ok(Prepared {
        changed: now.differences(&settings),
        needs_restart: settings.differences(&new),
        settings,
        keys,
    })
}

/// Labels of the metric of failed reloads.
const KEYS: &str = "keys";
const WEBHOOK: &str = "webhook";
const CONFIGURATION: &str = "configuration";
/// Origin of warnings about the webhook secret.
const SECRET_FILE: &str = "webhook.secret_file";
/// Kubernetes takes a minute to update a mounted Secret: a shorter interval would gain nothing.
const FILE_POLL_INTERVAL: Duration = Duration::from_secs(20);
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{App, load_keys};
    use crate::clock::SystemClock;
    use crate::settings::Environment;
    use crate::telemetry::metrics::Format;

    #[tokio::test]
    async fn key_stays_in_use_while_its_volume_hangs() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), include_str!("../../tests/it/keys/rsa.pem")).unwrap();
        let path = file.path().display().to_string();
        let environment = Environment::from_iter([
            ("GITHUB_APP_ID", "1".to_owned()),
            ("GITHUB_APP_PRIVATE_KEY_FILE", path.clone()),
            ("GITHUB_API_URL", "http://127.0.0.1:1".to_owned()),
        ]);
        let settings = Settings::load(&Sources { environment, ..Sources::default() }).unwrap();
        let keys = load_keys(&settings).unwrap();
        let reloader = App::build(&settings, &keys, Arc::new(SystemClock)).unwrap().reloader();
        let unusable = || {
            let text = reloader.0.targets.metrics.scrape(0, None, Format::Prometheus);
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix("ghtokend_key_files_invalid{app=\"default\"} "));
            value.unwrap().to_owned()
        };
        // Reading a file cannot be made to hang without privileges: another read under the file's name does.
        let (release, released) = std::sync::mpsc::channel::<()>();
        assert!(reloader.0.active.lock().await.reads.one(&path, move || released.recv()).await.is_none());
        reloader.tick().await;
        assert_eq!(unusable(), "1");
        assert_eq!(reloader.0.active.lock().await.keys.values().flatten().count(), 1);

        release.send(()).unwrap();
        while unusable() != "0" {
            reloader.tick().await;
        }
    }
}
