//! Readiness: whether GitHub accepts each app. One that it has accepted stays ready through any outage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::backoff::ExponentialBackoff;
use crate::github::{Failure, Github, Kind};
use crate::model::AppName;

/// For each app, whether GitHub accepts it; GitHub is asked until it does.
pub(super) struct Readiness {
    github: Arc<dyn Github>,
    /// From when on GitHub is not asked.
    draining: CancellationToken,
    apps: Mutex<BTreeMap<AppName, AppHealth>>,
}

/// Whether GitHub accepts an app.
#[derive(Debug)]
struct AppHealth {
    ever_accepted: bool,
    /// Why it is not accepted now.
    last_error: Option<String>,
    /// Whether GitHub is being asked.
    probing: bool,
}

impl Readiness {
    pub(super) fn new(apps: &[AppName], github: Arc<dyn Github>, draining: CancellationToken) -> Self {
        let not_yet = || AppHealth {
            ever_accepted: false,
            last_error: Some("GitHub has not been reached yet".to_owned()),
            probing: false,
        };
        let apps = Mutex::new(apps.iter().map(|app| (app.clone(), not_yet())).collect());
        Self { github, draining, apps }
    }

    /// GitHub has accepted the app.
    pub(super) fn note_accepted(&self, app: &AppName) {
        if let Some(health) = self.apps.lock().get_mut(app) {
            (health.ever_accepted, health.last_error) = (true, None);
        }
    }

    /// GitHub has refused `app` something. If it was the app itself, it is asked until it accepts it again.
    pub(super) fn note_failure(self: &Arc<Self>, app: &AppName, failure: &Failure) {
        if failure.kind == Kind::AppRejected {
            self.note_rejected(app, &failure.message);
            self.probe_after(app, 1);
        }
    }

    /// Asks GitHub who each app is until it accepts the app.
    pub(super) fn probe_all(self: &Arc<Self>) {
        let apps: Vec<_> = self.apps.lock().keys().cloned().collect();
        apps.iter().for_each(|app| self.probe_after(app, 0));
    }

    /// Apps without tokens, and why: GitHub never accepted them, or rejects them now and they no longer have tokens.
    pub(super) fn missing(&self, has_tokens: impl Fn(&AppName) -> bool) -> Vec<(AppName, String)> {
        let apps = self.apps.lock();
        let missing = apps.iter().filter_map(|(app, health)| {
            let last_error = health.last_error.clone()?;
            (!health.ever_accepted || !has_tokens(app)).then(|| (app.clone(), last_error))
        });
        missing.collect()
    }

    fn note_rejected(&self, app: &AppName, error: &str) {
        if let Some(health) = self.apps.lock().get_mut(app) {
            health.last_error = Some(error.to_owned());
        }
    }

    fn probe_after(self: &Arc<Self>, app: &AppName, failures: u32) {
        if !self.begin_probing(app) {
            return;
        }
        let (readiness, app) = (Arc::clone(self), app.clone());
        let probing = async move { readiness.probe(&app, failures).await };
        tokio::spawn(self.draining.clone().run_until_cancelled_owned(probing));
    }

    /// Marks an app that is not accepted as being probed; `false` if it is accepted, or is being probed already.
    fn begin_probing(&self, app: &AppName) -> bool {
        let mut apps = self.apps.lock();
        let Some(health) = apps.get_mut(app) else { return false };
        health.last_error.is_some() && !std::mem::replace(&mut health.probing, true)
    }

    /// Asks GitHub who `app` is, after so many failures and more, until it accepts the app here or in a mint.
    async fn probe(&self, app: &AppName, failures: u32) {
        for failures in failures.. {
            let pause = BACKOFF.pause(failures);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            if self.end_probing_if_accepted(app) {
                return;
            }
            match self.github.authenticated_app(app).await {
                Ok(_) => {
                    self.note_accepted(app);
                    if self.end_probing_if_accepted(app) {
                        return;
                    }
                }
                Err(failure) => {
                    let is_rejected = failure.kind == Kind::AppRejected;
                    tracing::warn!(%app, kind = failure.kind.as_str(), error = %failure, "readiness probe failed");
                    // A failure to ask about an accepted app says nothing against it.
                    if is_rejected || !self.is_ever_accepted(app) {
                        self.note_rejected(app, &failure.message);
                    }
                }
            }
        }
    }

    fn end_probing_if_accepted(&self, app: &AppName) -> bool {
        let mut apps = self.apps.lock();
        let Some(health) = apps.get_mut(app) else { return true };
        health.probing = health.last_error.is_some();
        !health.probing
    }

    fn is_ever_accepted(&self, app: &AppName) -> bool {
        self.apps.lock().get(app).is_some_and(|health| health.ever_accepted)
    }
}

const BACKOFF: ExponentialBackoff = ExponentialBackoff::new(Duration::from_secs(1), Duration::from_secs(30));
