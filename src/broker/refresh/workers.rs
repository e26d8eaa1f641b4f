//! Workers: bound the tasks that mint without a caller.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::broker::cache::schedule::Lane;
use crate::model::AppName;

/// The workers of each app.
pub(crate) struct Workers(BTreeMap<AppName, Pools>);

/// What has failed before is kept apart: it may wait long for its turn at GitHub.
struct Pools {
    healthy: Arc<Semaphore>,
    suspect: Arc<Semaphore>,
}

impl Workers {
    pub(crate) fn new(apps: &[AppName]) -> Self {
        let pools = || {
            let [healthy, suspect] = [MAX_WORKERS, MAX_WORKERS / 2].map(|max| Arc::new(Semaphore::new(max)));
            Pools { healthy, suspect }
        };
        Self(apps.iter().map(|app| (app.clone(), pools())).collect())
    }

    /// The apps that have workers.
    pub(super) fn apps(&self) -> impl Iterator<Item = &AppName> {
        self.0.keys()
    }

    /// A worker of `app`, if one is free.
    pub(super) fn try_acquire(&self, app: &AppName, lane: Lane) -> Option<OwnedSemaphorePermit> {
        let pools = self.0.get(app)?;
        let pool = match lane {
            Lane::Healthy => &pools.healthy,
            Lane::Suspect => &pools.suspect,
        };
        Arc::clone(pool).try_acquire_owned().ok()
    }
}

/// Each is a task of some kilobytes; GitHub lets an app mint fewer in a minute.
const MAX_WORKERS: usize = 256;
