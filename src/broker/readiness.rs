//! Readiness: whether GitHub accepts each app.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::github::{Github, Kind};
use crate::model::AppName;

/// For each app, whether GitHub accepts it.
#[derive(Debug)]
pub(super) struct Readiness(Mutex<BTreeMap<AppName, AppHealth>>);

/// What GitHub thinks of an app.
#[derive(Debug)]
struct AppHealth {
    ever_accepted: bool,
    /// Why it is not accepted now.
    last_error: Option<String>,
    /// Whether GitHub is being asked.
    probing: bool,
}

impl Readiness {
    pub(super) fn new<'a>(apps: impl Iterator<Item = &'a AppName>) -> Self {
        let not_yet = || AppHealth {
            ever_accepted: false,
            last_error: Some("GitHub has not been reached yet".to_owned()),
            probing: false,
        };
        Self(Mutex::new(apps.map(|app| (app.clone(), not_yet())).collect()))
    }

    /// GitHub has accepted the app.
    pub(super) fn accepted(&self, app: &AppName) {
        if let Some(health) = self.0.lock().get_mut(app) {
            (health.ever_accepted, health.last_error) = (true, None);
        }
    }

    /// GitHub has refused the app itself.
    pub(super) fn refused(&self, app: &AppName, why: &str) {
        if let Some(health) = self.0.lock().get_mut(app) {
            health.last_error = Some(why.to_owned());
        }
    }

    /// Why apps cannot be vended for: one that was never accepted, or that is refused now and `has_tokens` no more.
    pub(super) fn missing(&self, has_tokens: impl Fn(&AppName) -> bool) -> Vec<(AppName, String)> {
        let apps = self.0.lock();
        let objected = apps.iter().filter_map(|(app, health)| {
            let last_error = health.last_error.clone()?;
            (!health.ever_accepted || !has_tokens(app)).then(|| (app.clone(), last_error))
        });
        objected.collect()
    }

    /// Whether GitHub is to be asked from now on: somebody objects, and nobody is asking.
    pub(super) fn begins_probing(&self, app: &AppName) -> bool {
        let mut apps = self.0.lock();
        let Some(health) = apps.get_mut(app) else { return false };
        health.last_error.is_some() && !std::mem::replace(&mut health.probing, true)
    }

    /// Asks GitHub, first after `pause`, who `app` is until it says so or a mint has shown it, ever more slowly.
    pub(super) async fn probe(&self, github: &dyn Github, app: &AppName, pause: Duration) {
        let mut pause = pause;
        loop {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            if self.has_ended_probing(app) {
                return;
            }
            match github.authenticated_app(app).await {
                Ok(_) => {
                    self.accepted(app);
                    if self.has_ended_probing(app) {
                        return;
                    }
                }
                Err(failure) => {
                    let is_word = failure.kind == Kind::AppRejected;
                    let said = if is_word { "does not accept" } else { "does not say whether it accepts" };
                    tracing::warn!(%app, %failure, "GitHub {said} the app");
                    // What keeps an accepted app from being asked about is no word against it.
                    if is_word || !self.is_ever_accepted(app) {
                        self.refused(app, &failure.message);
                    }
                }
            }
            pause = (pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
        }
    }

    fn has_ended_probing(&self, app: &AppName) -> bool {
        let mut apps = self.0.lock();
        let Some(health) = apps.get_mut(app) else { return true };
        health.probing = health.last_error.is_some();
        !health.probing
    }

    fn is_ever_accepted(&self, app: &AppName) -> bool {
        self.0.lock().get(app).is_some_and(|health| health.ever_accepted)
    }
}

pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
