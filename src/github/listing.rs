//! The list of an app's installations, kept for a dialect that finds them in no other way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::failure::{Failure, Kind};
use super::integrations::Listed;
use crate::clock::{BootTime, Clock};
use crate::flight::Flights;
use crate::model::AppName;

/// Each app's list: read once, and again when it is old or lacks what is looked for. One read of it at a time.
pub(crate) struct Listing {
    clock: Arc<dyn Clock>,
    lists: Arc<Lists>,
    reads: Flights<AppName, Result<Arc<List>, Failure>>,
}

#[derive(Default)]
struct Lists(Mutex<BTreeMap<AppName, Arc<List>>>);

struct List {
    /// When its reading began.
    at: BootTime,
    installations: Vec<Listed>,
}

impl Listing {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        // Whoever waits for a read is waited for itself when the daemon stops: this tracker is not looked at.
        Self { clock, lists: Arc::default(), reads: Flights::new(TaskTracker::new()) }
    }

    /// What `pick` takes from the app's list: from the one in hand; if there is none, or nothing for `pick` in it, from
    /// one that `read` brings.
    pub(crate) async fn find<T, F>(
        &self,
        app: &AppName,
        pick: impl Fn(&[Listed]) -> Option<T>,
        read: impl FnOnce() -> F,
    ) -> Result<Option<T>, Failure>
    where
        F: Future<Output = Result<Vec<Listed>, Failure>> + Send + 'static,
    {
        let in_hand = self.lists.get(app);
        let young = in_hand.as_ref().filter(|list| self.clock.boot().since(list.at) < KEPT_FOR);
        if let Some(found) = young.and_then(|list| pick(&list.installations)) {
            return Ok(Some(found));
        }
        let list = self.read(app, in_hand, read).await?;
        Ok(pick(&list.installations))
    }

    /// Makes the next look-up read the list.
    pub(crate) fn forget(&self, app: &AppName) {
        self.lists.put(app, None);
    }

    async fn read<F>(
        &self,
        app: &AppName,
        in_hand: Option<Arc<List>>,
        read: impl FnOnce() -> F,
    ) -> Result<Arc<List>, Failure>
    where
        F: Future<Output = Result<Vec<Listed>, Failure>> + Send + 'static,
    {
        let start = || {
            let (lists, app, at) = (Arc::clone(&self.lists), app.clone(), self.clock.boot());
            // Made here, polled only if it is needed.
            let reading = read();
            async move {
                let seen = |list: &Arc<List>| in_hand.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, list));
                if let Some(newer) = lists.get(&app).filter(|list| !seen(list)) {
                    // The read before this one landed between our look at the list and our joining.
                    return Ok(newer);
                }
                let list = Arc::new(List { at, installations: reading.await? });
                lists.put(&app, Some(Arc::clone(&list)));
                Ok(list)
            }
        };
        let crashed = |_| {
            let message = "listing the app's installations failed inside ghtokend: the next request tries anew; please \
                           report it with the log";
            Err(Failure::new(Kind::BadAnswer, message))
        };
        self.reads.join(app, start).await.unwrap_or_else(crashed)
    }
}

impl Lists {
    fn get(&self, app: &AppName) -> Option<Arc<List>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(app).cloned()
    }

    fn put(&self, app: &AppName, list: Option<Arc<List>>) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match list {
            Some(list) => lists.insert(app.clone(), list),
            None => lists.remove(app),
        };
    }
}

/// Accounts are rarely renamed; when one is, and its old name taken by another, this bounds the mistake.
const KEPT_FOR: Duration = Duration::from_secs(600);
