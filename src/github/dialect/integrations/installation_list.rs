//! The list of an app's installations, kept for a dialect that finds them in no other way.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use super::wire::Listed;
use crate::clock::{BootTime, Clock};
use crate::github::failure::Failure;
use crate::github::http::read_cache::read_panicked;
use crate::github::staleness::{Lookup, Staleness};
use crate::model::{AppName, Priority};
use crate::single_flight::{Demand, Requester, SingleFlight};

/// Each app's list: read once, and again when it is old or lacks what is looked for. One read of it at a time.
pub(crate) struct InstallationListCache {
    clock: Arc<dyn Clock>,
    lists: Arc<Lists>,
    reads: SingleFlight<AppName, Result<Arc<List>, Failure>>,
}

/// A read of the whole list that is under way.
pub(crate) type ListRead = Pin<Box<dyn Future<Output = Result<Vec<Listed>, Failure>> + Send>>;

#[derive(Default)]
struct Lists {
    lists: Mutex<BTreeMap<AppName, Arc<List>>>,
    /// How often all were forgotten. A read that was under way then is not kept.
    forgotten: AtomicU64,
}

struct List {
    staleness: Mutex<Staleness>,
    installations: Vec<Listed>,
}

impl InstallationListCache {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        // Shutdown waits for the mints and requests that wait for a read, so this tracker is not needed.
        Self { clock, lists: Arc::default(), reads: SingleFlight::new(TaskTracker::new()) }
    }

    /// What `pick` takes from the app's list: from the cached one; if there is none, it is too old, or has nothing for
    /// `pick` and was not read just now, from one that `read` brings.
    pub(crate) async fn find<T>(
        &self,
        app: &AppName,
        demand: &Demand,
        pick: impl Fn(&[Listed]) -> Option<T>,
        read: impl FnOnce(Demand) -> ListRead,
    ) -> Result<Option<T>, Failure> {
        let cached = self.lists.get(app);
        let useful = cached.clone().and_then(|list| Some((pick(&list.installations)?, list)));
        let Some((found, list)) = useful else {
            // Whatever names somebody thinks of, the list is not read for each of them.
            if cached.as_ref().is_some_and(|list| list.age(self.clock.boot()) < MISSING_TTL) {
                return Ok(None);
            }
            let list = self.read(app, demand, cached, read).await?;
            return Ok(pick(&list.installations));
        };
        match list.staleness().judge(self.clock.boot()) {
            Lookup::Hit => {}
            Lookup::StaleWhileRevalidate => {
                let in_use = Requester { priority: Priority::InUse, ..demand.requester() };
                self.reads.start(app, in_use, |demand| self.reading(app, Some(list), read(demand)));
            }
            Lookup::StaleIfError => match self.read(app, demand, Some(list), read).await {
                Err(failure) if failure.kind.is_inconclusive() => {}
                newer => return Ok(pick(&newer?.installations)),
            },
        }
        Ok(Some(found))
    }

    /// What `pick` takes from the app's list as it was a moment ago.
    pub(crate) async fn find_refreshed<T>(
        &self,
        app: &AppName,
        demand: &Demand,
        pick: impl Fn(&[Listed]) -> Option<T>,
        read: impl FnOnce(Demand) -> ListRead,
    ) -> Result<Option<T>, Failure> {
        let cached = self.lists.get(app);
        match &cached {
            Some(list) if list.age(self.clock.boot()) < REFRESHED_TTL => Ok(pick(&list.installations)),
            _ => Ok(pick(&self.read(app, demand, cached, read).await?.installations)),
        }
    }

    /// Makes the next look-up read the list.
    pub(crate) fn forget(&self, app: &AppName) {
        self.lists.put(app, None);
    }

    /// Makes the next look-up of every app read its list.
    pub(crate) fn forget_all(&self) {
        self.lists.clear();
    }

    async fn read(
        &self,
        app: &AppName,
        demand: &Demand,
        cached: Option<Arc<List>>,
        read: impl FnOnce(Demand) -> ListRead,
    ) -> Result<Arc<List>, Failure> {
        let reading =
            self.reads.run(app, demand.requester(), |demand| self.reading(app, cached, read(demand)));
        reading.await.0.unwrap_or_else(|_| Err(read_panicked()))
    }

    /// Reads the list, unless that has just been done: `cached` is what the caller saw.
    fn reading(
        &self,
        app: &AppName,
        cached: Option<Arc<List>>,
        reading: ListRead,
    ) -> impl Future<Output = Result<Arc<List>, Failure>> + Send + 'static {
        let (lists, clock, app) = (Arc::clone(&self.lists), Arc::clone(&self.clock), app.clone());
        async move {
            let seen = |list: &Arc<List>| cached.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, list));
            if let Some(newer) = lists.get(&app).filter(|list| !seen(list)) {
                // The read before this one landed between our look at the list and our joining.
                return Ok(newer);
            }
            let staleness = Mutex::new(Staleness::new(clock.boot()));
            let forgotten = lists.forgotten();
            match reading.await {
                Ok(installations) => {
                    let list = Arc::new(List { staleness, installations });
                    if lists.forgotten() == forgotten {
                        lists.put(&app, Some(Arc::clone(&list)));
                    }
                    Ok(list)
                }
                Err(failure) => {
                    if let Some(list) = cached {
                        list.note_failure(clock.boot());
                    }
                    Err(failure)
                }
            }
        }
    }
}

impl List {
    fn age(&self, now: BootTime) -> Duration {
        now.since(self.staleness().at)
    }

    fn staleness(&self) -> Staleness {
        *self.staleness.lock()
    }

    fn note_failure(&self, now: BootTime) {
        self.staleness.lock().failed = Some(now);
    }
}

impl Lists {
    fn get(&self, app: &AppName) -> Option<Arc<List>> {
        self.lists.lock().get(app).cloned()
    }

    fn put(&self, app: &AppName, list: Option<Arc<List>>) {
        let mut lists = self.lists.lock();
        match list {
            Some(list) => lists.insert(app.clone(), list),
            None => lists.remove(app),
        };
    }

    fn clear(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.lists.lock().clear();
    }

    fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }
}

/// How long what a list lacks is believed to be missing.
const MISSING_TTL: Duration = Duration::from_secs(30);
const REFRESHED_TTL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use jiff::Timestamp;

    use super::*;
    use crate::clock::ManualClock;
    use crate::github::failure::Kind;
    use crate::model::ClientId;

    /// A list without installations, read and counted.
    fn counted(reads: &Arc<AtomicUsize>) -> impl FnOnce(Demand) -> ListRead + use<> {
        let reads = Arc::clone(reads);
        move |_| {
            Box::pin(async move {
                reads.fetch_add(1, Ordering::SeqCst);
                Ok(Vec::new())
            })
        }
    }

    fn listing() -> (InstallationListCache, Arc<ManualClock>) {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        (InstallationListCache::new(clock.clone()), clock)
    }

    fn demand() -> Demand {
        Demand::of(Requester::caller(ClientId::new(1), Priority::New))
    }

    #[tokio::test]
    async fn list_is_read_again_when_old() {
        let (listing, clock) = listing();
        let reads = Arc::new(AtomicUsize::new(0));
        let ask = async || {
            listing.find(&AppName::default(), &demand(), |_| Some(()), counted(&reads)).await.unwrap();
            reads.load(Ordering::SeqCst)
        };
        assert_eq!((ask().await, ask().await), (1, 1));
        clock.advance(Duration::from_secs(569));
        assert_eq!(ask().await, 1);
        clock.advance(Duration::from_secs(31));
        assert_eq!((ask().await, ask().await), (2, 2));
        listing.forget(&AppName::default());
        assert_eq!(ask().await, 3);
    }

    #[tokio::test]
    async fn missing_names_read_the_list_once_in_30_s() {
        let (listing, clock) = listing();
        let reads = Arc::new(AtomicUsize::new(0));
        let ask = async || {
            listing.find(&AppName::default(), &demand(), |_| None::<()>, counted(&reads)).await.unwrap();
            reads.load(Ordering::SeqCst)
        };
        assert_eq!((ask().await, ask().await), (1, 1));
        clock.advance(Duration::from_secs(29));
        assert_eq!(ask().await, 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!((ask().await, ask().await), (2, 2));
    }

    #[tokio::test]
    async fn late_joiner_reuses_completed_read() {
        let (listing, _) = listing();
        let reads = Arc::new(AtomicUsize::new(0));
        let app = AppName::default();
        let read = async |seen| listing.read(&app, &demand(), seen, counted(&reads)).await.unwrap();
        // Both looked before there was a list, and the second joined when the first was done.
        let first = read(None).await;
        assert!(Arc::ptr_eq(&read(None).await, &first));
        // Both found the same list wanting.
        let second = read(Some(Arc::clone(&first))).await;
        assert!(Arc::ptr_eq(&read(Some(first)).await, &second));
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn panicked_list_read_can_be_retried() {
        let (listing, _) = listing();
        let app = AppName::default();
        let panics = |_| -> ListRead { Box::pin(async { panic!("a defect") }) };
        let failed = listing.find(&app, &demand(), |_| Some(()), panics).await;
        assert_eq!(failed.unwrap_err().kind, Kind::BadAnswer);
        let reads = Arc::new(AtomicUsize::new(0));
        assert_eq!(listing.find(&app, &demand(), |_| Some(()), counted(&reads)).await, Ok(Some(())));
    }
}
