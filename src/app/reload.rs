//! Reload: key rotation, for which the files of private keys are read every 20 seconds, and on SIGHUP the part of the
//! configuration that needs no restart. Whatever is wrong with either, what works stays in use.
//!
//! Files are read and compared, not watched: Kubernetes changes a Secret by swapping a link two directories up, which a
//! watch on the file does not see.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::error::Error;
use super::keys::{Keys, load_further_keys, try_out};
use super::reads::BoundedFileReads;
use crate::clock::{BootTime, Clock};
use crate::github::key::{Key, KeyError};
use crate::github::webhook::{Secrets, SecretsError};
use crate::github::{Github as _, Upstream};
use crate::model::AppName;
use crate::server::Guard;
use crate::settings::{Listen, Settings, Sources};
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;

/// Brings changed keys and settings into a running daemon. Clones are of the same one.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

struct Inner {
    targets: ReloadTargets,
    in_force: Mutex<Active>,
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
    /// When it was last said of a file that it cannot be used, for as long as it cannot.
    last_warned: BTreeMap<String, BootTime>,
    reads: BoundedFileReads,
}

/// A changed configuration that can be put in force.
struct Prepared {
    settings: Settings,
    keys: Keys,
    changed: Vec<String>,
    /// What has changed too, and takes a restart.
    left: Vec<String>,
}

/// What the files of an app's keys were found to be, in the order of the keys.
type Found = Vec<Result<Option<Key>, KeyError>>;

impl Reloader {
    pub(super) fn new(targets: ReloadTargets, settings: Settings, keys: Keys) -> Self {
        for app in keys.keys() {
            targets.metrics.invalid_key_files(app, 0);
        }
        for what in [KEYS, WEBHOOK, CONFIGURATION] {
            targets.metrics.reload_failed(what, 0);
        }
        let in_force =
            Active { settings, keys, last_warned: BTreeMap::new(), reads: BoundedFileReads::default() };
        Self(Arc::new(Inner { targets, in_force: Mutex::new(in_force) }))
    }

    /// Looks at the key files every now and then.
    pub(super) async fn run(&self) -> Infallible {
        loop {
            tokio::time::sleep(FILE_POLL_INTERVAL).await;
            self.tick().await;
        }
    }

    /// Looks at all key files, and at that of the webhook secret. What a changed one holds is put in use, and GitHub is
    /// asked whether it accepts a key. If it holds none, or cannot be read in time, the one that was read before stays in
    /// use, which is said once a minute.
    pub async fn tick(&self) {
        let mut in_force = self.0.in_force.lock().await;
        self.look(&mut in_force).await;
        self.look_at_secrets(&mut in_force).await;
    }

    /// Reads the configuration anew and puts its live part in force, all of it or, if anything is wrong, nothing.
    pub async fn reload(&self, sources: &Sources) {
        let mut in_force = self.0.in_force.lock().await;
        let (sources, settings, keys) = (sources.clone(), in_force.settings.clone(), in_force.keys.clone());
        let prepared = in_force.reads.one(CONFIGURATION, move || prepare(&sources, &settings, &keys)).await;
        match prepared.unwrap_or(Err(Error::Hangs)) {
            Ok(prepared) => {
                self.put_in_force(&mut in_force, prepared);
                self.look(&mut in_force).await;
                self.look_at_secrets(&mut in_force).await;
            }
            Err(error) => {
                self.0.targets.metrics.reload_failed(CONFIGURATION, 1);
                tracing::error!(%error, "the configuration was not reloaded: nothing has changed");
            }
        }
    }

    fn put_in_force(&self, in_force: &mut Active, prepared: Prepared) {
        let Prepared { settings, keys, changed, left } = prepared;
        log::set_level(settings.log.level);
        self.0.targets.guard.send_replace(guard(&settings.listen));
        // Whoever reloads has often changed something at GitHub, too.
        self.0.targets.upstream.forget_refusals();
        let known: Vec<_> = in_force.keys.values().flatten().map(Key::path).collect();
        keys.values().flatten().filter(|key| !known.contains(&key.path())).for_each(announce);
        let warning_stands = |origin: &String| {
            origin == SECRET_FILE || keys.values().flatten().any(|key| key.origin() == origin)
        };
        in_force.last_warned.retain(|origin, _| warning_stands(origin));
        (in_force.settings, in_force.keys) = (settings, keys);
        tracing::info!(changed = changed.join(", "), "the configuration has been reloaded");
        if !left.is_empty() {
            tracing::warn!(keys = left.join(", "), "changed in the configuration, and needs a restart");
        }
    }

    /// Looks at the file of the webhook secret.
    async fn look_at_secrets(&self, in_force: &mut Active) {
        let Active { settings, last_warned, reads, .. } = in_force;
        let path = settings.webhook.secret_file.clone();
        let Some((path, in_use)) = path.zip(self.0.targets.webhook_secrets.as_ref()) else { return };
        let hangs = SecretsError::hangs(&path);
        match reads.one(SECRET_FILE, move || Secrets::read(&path)).await.unwrap_or(Err(hangs)) {
            Ok(secrets) => {
                let is_other = *in_use.borrow() != secrets;
                in_use.send_replace(secrets);
                if last_warned.remove(SECRET_FILE).is_some() || is_other {
                    tracing::info!("the webhook secret has been read anew");
                }
            }
            Err(error) => {
                self.0.targets.metrics.reload_failed(WEBHOOK, 1);
                self.warn_throttled(last_warned, SECRET_FILE, || {
                    tracing::error!(%error, "the webhook secret cannot be read: the one read before stays");
                });
            }
        }
    }

    async fn look(&self, in_force: &mut Active) {
        let known = in_force.keys.clone();
        let rereads = known.values().flatten().cloned();
        let rereads = rereads.map(|key| (key.origin().to_owned(), move || key.reread()));
        let mut found = in_force.reads.all(rereads).await.into_iter();
        for (app, known) in &known {
            let found = known.iter().zip(&mut found);
            let found =
                found.map(|(key, found)| found.unwrap_or_else(|| Err(KeyError::hangs(key)))).collect();
            self.adopt(in_force, app, found);
            let keys = in_force.keys.get(app).cloned().unwrap_or_default();
            if self.0.targets.upstream.replace_keys(app, keys) {
                // Asked now, a key that GitHub does not know is on record before any caller has to wait for it. What
                // comes of it the client says, and it is tried with every call after this anyway.
                let _ = self.0.targets.upstream.authenticated_app(app).await;
            }
        }
    }

    fn adopt(&self, in_force: &mut Active, app: &AppName, found: Found) {
        let Active { keys, last_warned, .. } = in_force;
        let mut unusable = 0;
        for (key, found) in keys.get_mut(app).into_iter().flatten().zip(found) {
            match found {
                Err(error) => {
                    unusable += 1;
                    let stays = key.fingerprint();
                    self.warn_throttled(last_warned, key.origin(), || {
                        tracing::error!(%error, stays, "a private key file cannot be used: the key read before stays");
                    });
                }
                Ok(other) => {
                    if last_warned.remove(key.origin()).is_some() {
                        tracing::info!(origin = key.origin(), "the private key file can be used again");
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

    /// Says what is wrong with `origin`, unless that has been said within the last minute.
    fn warn_throttled(&self, last_warned: &mut BTreeMap<String, BootTime>, origin: &str, say: impl FnOnce()) {
        let now = self.0.targets.clock.boot();
        let said = last_warned.get(origin).is_some_and(|said| now.since(*said) < WARNING_INTERVAL);
        if !said {
            last_warned.insert(origin.to_owned(), now);
            say();
        }
    }
}

/// The part of the request guards that can change at run time.
pub(super) fn guard(listen: &Listen) -> Guard {
    Guard { allowed_hosts: listen.allowed_hosts.clone(), require_client_header: listen.require_client_header }
}

/// Says which key was read from where, and what its file's mode is worth.
pub fn announce(key: &Key) {
    tracing::info!(fingerprint = key.fingerprint(), origin = key.origin(), "private key loaded");
    if let Some(warning) = key.warning() {
        tracing::warn!(origin = key.origin(), "{warning}");
    }
}

/// Everything that can go wrong with a new configuration goes wrong here, where nothing is changed yet. A file that was
/// in use before may be broken at the moment: its key is in hand.
fn prepare(sources: &Sources, now: &Settings, keys: &Keys) -> Result<Prepared, Error> {
    let new = Settings::load(sources)?;
    new.require_apps()?;
    let settings = now.with_live_part_of(&new);
    let keys = load_further_keys(&settings, keys)?;
    try_out(&keys)?;
    Ok(Prepared { changed: now.differences(&settings), left: settings.differences(&new), settings, keys })
}

/// What could not be taken over, in metrics.
const KEYS: &str = "keys";
const WEBHOOK: &str = "webhook";
const CONFIGURATION: &str = "configuration";
/// What is complained of if it is the webhook's.
const SECRET_FILE: &str = "webhook.secret_file";
/// Kubernetes takes a minute to bring a changed Secret to a node: less would gain nothing.
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
        assert!(reloader.0.in_force.lock().await.reads.one(&path, move || released.recv()).await.is_none());
        reloader.tick().await;
        assert_eq!(unusable(), "1");
        assert_eq!(reloader.0.in_force.lock().await.keys.values().flatten().count(), 1);

        release.send(()).unwrap();
        while unusable() != "0" {
            reloader.tick().await;
        }
    }
}
