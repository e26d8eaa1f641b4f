//! Whether GitHub has accepted us.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::github::{Failure, Github};
use crate::model::AppName;

/// For each app, whether GitHub has ever accepted its JWT; if not, why not.
#[derive(Debug)]
pub(super) struct Readiness(Mutex<BTreeMap<AppName, Option<String>>>);

impl Readiness {
    pub(super) fn new<'a>(apps: impl Iterator<Item = &'a AppName>) -> Self {
        let not_yet = || Some("GitHub has not been reached yet".to_owned());
        Self(Mutex::new(apps.map(|app| (app.clone(), not_yet())).collect()))
    }

    /// GitHub accepted the app: a fact that stays.
    pub(super) fn accepted(&self, app: &AppName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(app.clone(), None);
    }

    /// Why each app that is not accepted is not.
    pub(super) fn missing(&self) -> Vec<(AppName, String)> {
        let apps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        apps.iter().filter_map(|(app, reason)| Some((app.clone(), reason.clone()?))).collect()
    }

    /// Asks GitHub who `app` is until it says so or a mint has shown it, ever more slowly.
    pub(super) async fn probe(&self, github: &dyn Github, app: &AppName) {
        let mut pause = FIRST_PAUSE;
        while self.missing().iter().any(|(missing, _)| missing == app) {
            match github.who_am_i(app).await {
                Ok(_) => return self.accepted(app),
                Err(failure) => self.refused(app, &failure),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn refused(&self, app: &AppName, failure: &Failure) {
        tracing::warn!(%app, %failure, "GitHub has not accepted the app yet");
        let mut apps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(reason)) = apps.get_mut(app) {
            reason.clone_from(&failure.message);
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
