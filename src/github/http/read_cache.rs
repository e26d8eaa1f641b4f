//! Answers of GitHub that may be some seconds old: shared by all who ask at once, and kept for a moment.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::clock::{BootTime, Clock};
use crate::github::failure::{Failure, Kind};
use crate::model::{ClientId, Priority};
use crate::single_flight::{Demand, Requester, SingleFlight};

/// Answers by what was asked, each for as long as it may be handed out again.
pub(crate) struct ReadCache<K, V> {
    ttl: Duration,
    /// In bytes.
    weigh: fn(&V) -> usize,
    clock: Arc<dyn Clock>,
    kept: Arc<Mutex<Kept<K, V>>>,
    reads: SingleFlight<K, Result<V, Failure>>,
}

struct Kept<K, V> {
    answers: HashMap<K, (BootTime, V)>,
    /// How often all were forgotten. A read that was under way then is not kept.
    forgotten: u64,
}

impl<K, V> ReadCache<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(ttl: Duration, weigh: fn(&V) -> usize, clock: Arc<dyn Clock>) -> Self {
        let kept = Arc::new(Mutex::new(Kept { answers: HashMap::new(), forgotten: 0 }));
        // Shutdown waits for the requests that wait for a read, so this tracker is not needed.
        Self { ttl, weigh, clock, kept, reads: SingleFlight::new(TaskTracker::new()) }
    }

    /// The cached answer to `key`, else the one that `read` brings.
    pub(crate) async fn get<F>(
        &self,
        key: &K,
        client: ClientId,
        read: impl FnOnce(Demand) -> F,
    ) -> Result<V, Failure>
    where
        F: Future<Output = Result<V, Failure>> + Send + 'static,
    {
        let now = self.clock.boot();
        if let Some((at, value)) = self.kept.lock().answers.get(key)
            && now.since(*at) < self.ttl
        {
            return Ok(value.clone());
        }
        let keep = |demand| {
            let (reading, kept, key) = (read(demand), Arc::clone(&self.kept), key.clone());
            let (clock, ttl, weigh) = (Arc::clone(&self.clock), self.ttl, self.weigh);
            let forgotten = kept.lock().forgotten;
            async move {
                let value = reading.await?;
                let (mut kept, now) = (kept.lock(), clock.boot());
                kept.answers.retain(|_, (at, _)| now.since(*at) < ttl);
                let bytes =
                    weigh(&value) + kept.answers.values().map(|(_, value)| weigh(value)).sum::<usize>();
                if kept.forgotten == forgotten && bytes <= MAX_BYTES {
                    kept.answers.insert(key, (now, value.clone()));
                }
                Ok(value)
            }
        };
        self.reads
            .run(key, Requester::caller(client, Priority::New), keep)
            .await
            .0
            .unwrap_or_else(|_| Err(read_panicked()))
    }

    /// Forgets all: something has changed.
    pub(crate) fn clear(&self) {
        let mut kept = self.kept.lock();
        kept.answers.clear();
        kept.forgotten += 1;
    }
}

/// A read that panicked.
pub(crate) fn read_panicked() -> Failure {
    let message =
        "internal error during a call to GitHub: the next request tries again; please report it with the log";
    Failure::new(Kind::BadAnswer, message)
}

/// Some ten pages of a hundred installations. What does not fit is asked for again.
const MAX_BYTES: usize = 4 * 1024 * 1024;
