//! The list of an app's installations, kept for a dialect that finds them in no other way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;

use super::failure::{Failure, Kind};
use super::integrations::Listed;
use super::remembrance::{Remembrance, Use};
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
struct Lists {
    lists: Mutex<BTreeMap<AppName, Arc<List>>>,
    /// How often all were forgotten. A read that was under way then is not kept.
    forgotten: AtomicU64,
}

struct List {
    remembrance: Mutex<Remembrance>,
    installations: Vec<Listed>,
}

impl Listing {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        // Whoever waits for a read is waited for itself when the daemon stops: this tracker is not looked at.
        Self { clock, lists: Arc::default(), reads: Flights::new(TaskTracker::new()) }
    }

    /// What `pick` takes from the app's list: from the one in hand; if there is none, it is too old, or has nothing for
    /// `pick`, from one that `read` brings.
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
        let useful = in_hand.clone().and_then(|list| Some((pick(&list.installations)?, list)));
        let Some((found, list)) = useful else {
            let list = self.read(app, in_hand, read).await?;
            return Ok(pick(&list.installations));
        };
        match list.remembrance().judge(self.clock.boot()) {
            Use::AsItIs => {}
            Use::AndAskBehind => self.reads.begin(app, || self.reading(app, Some(list), read)),
            Use::IfNoAnswer => match self.read(app, Some(list), read).await {
                Err(failure) if failure.kind.leaves_open() => {}
                newer => return Ok(pick(&newer?.installations)),
            },
        }
        Ok(Some(found))
    }

    /// What `pick` takes from the app's list as it is now.
    pub(crate) async fn find_anew<T, F>(
        &self,
        app: &AppName,
        pick: impl Fn(&[Listed]) -> Option<T>,
        read: impl FnOnce() -> F,
    ) -> Result<Option<T>, Failure>
    where
        F: Future<Output = Result<Vec<Listed>, Failure>> + Send + 'static,
    {
        let list = self.read(app, self.lists.get(app), read).await?;
        Ok(pick(&list.installations))
    }

    /// Makes the next look-up read the list.
    pub(crate) fn forget(&self, app: &AppName) {
        self.lists.put(app, None);
    }

    /// Makes the next look-up of every app read its list.
    pub(crate) fn forget_all(&self) {
        self.lists.clear();
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
        let crashed = |_| {
            let message = "listing the app's installations failed inside ghtokend: the next request tries anew; please \
                           report it with the log";
            Err(Failure::new(Kind::BadAnswer, message))
        };
        self.reads.join(app, || self.reading(app, in_hand, read)).await.unwrap_or_else(crashed)
    }

    /// Reads the list, unless that has just been done: `in_hand` is what the caller saw.
    fn reading<F>(
        &self,
        app: &AppName,
        in_hand: Option<Arc<List>>,
        read: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<Arc<List>, Failure>> + Send + 'static
    where
        F: Future<Output = Result<Vec<Listed>, Failure>> + Send + 'static,
    {
        let (lists, clock, app) = (Arc::clone(&self.lists), Arc::clone(&self.clock), app.clone());
        // Made here, polled only if it is needed.
        let reading = read();
        async move {
            let seen = |list: &Arc<List>| in_hand.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, list));
            if let Some(newer) = lists.get(&app).filter(|list| !seen(list)) {
                // The read before this one landed between our look at the list and our joining.
                return Ok(newer);
            }
            let remembrance = Mutex::new(Remembrance::new(clock.boot()));
            let forgotten = lists.forgotten();
            match reading.await {
                Ok(installations) => {
                    let list = Arc::new(List { remembrance, installations });
                    if lists.forgotten() == forgotten {
                        lists.put(&app, Some(Arc::clone(&list)));
                    }
                    Ok(list)
                }
                Err(failure) => {
                    if let Some(list) = in_hand {
                        list.note_failure(clock.boot());
                    }
                    Err(failure)
                }
            }
        }
    }
}

impl List {
    fn remembrance(&self) -> Remembrance {
        *self.remembrance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_failure(&self, now: BootTime) {
        self.remembrance.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(now);
    }
}

impl Lists {
    fn get(&self, app: &AppName) -> Option<Arc<List>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).get(app).cloned()
    }

    fn put(&self, app: &AppName, list: Option<Arc<List>>) {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        match list {
            Some(list) => lists.insert(app.clone(), list),
            None => lists.remove(app),
        };
    }

    fn clear(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::clock::ManualClock;

    /// A list without installations, read and counted.
    async fn counted(reads: Arc<AtomicUsize>) -> Result<Vec<Listed>, Failure> {
        reads.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    }

    fn listing() -> (Listing, Arc<ManualClock>) {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        (Listing::new(clock.clone()), clock)
    }

    #[tokio::test]
    async fn a_list_is_read_when_there_is_none_when_it_is_old_and_when_it_lacks_something() {
        let (listing, clock) = listing();
        let reads = Arc::new(AtomicUsize::new(0));
        let ask = async |there: Option<()>| {
            let read = || counted(Arc::clone(&reads));
            listing.find(&AppName::default(), |_| there, read).await.unwrap();
            reads.load(Ordering::SeqCst)
        };
        assert_eq!((ask(None).await, ask(Some(())).await, ask(None).await), (1, 1, 2));
        clock.advance(Duration::from_secs(569));
        assert_eq!(ask(Some(())).await, 2);
        clock.advance(Duration::from_secs(31));
        assert_eq!((ask(Some(())).await, ask(Some(())).await), (3, 3));
        listing.forget(&AppName::default());
        assert_eq!(ask(Some(())).await, 4);
    }

    #[tokio::test]
    async fn who_comes_just_after_a_read_has_landed_is_served_by_it() {
        let (listing, _) = listing();
        let reads = Arc::new(AtomicUsize::new(0));
        let app = AppName::default();
        let read = async |seen| listing.read(&app, seen, || counted(Arc::clone(&reads))).await.unwrap();
        // Both looked before there was a list, and the second joined when the first was done.
        let first = read(None).await;
        assert!(Arc::ptr_eq(&read(None).await, &first));
        // Both found the same list wanting.
        let second = read(Some(Arc::clone(&first))).await;
        assert!(Arc::ptr_eq(&read(Some(first)).await, &second));
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_read_that_panics_is_a_failure_and_the_next_one_is_tried() {
        let (listing, _) = listing();
        let app = AppName::default();
        let panics = listing.find(&app, |_| Some(()), || async { panic!("a defect") }).await;
        assert_eq!(panics.unwrap_err().kind, Kind::BadAnswer);
        let reads = Arc::new(AtomicUsize::new(0));
        assert_eq!(listing.find(&app, |_| Some(()), || counted(reads)).await, Ok(Some(())));
    }
}
