//! One call per key at a time, whoever asks: later callers join the one that is under way.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// Calls under way, by key. Each runs in a task of its own, so that no caller that goes away cancels it.
pub(crate) struct Flights<K, T> {
    under_way: UnderWay<K, T>,
    tasks: TaskTracker,
}

type UnderWay<K, T> = Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>;

/// The task panicked: a defect of ours. The next call tries anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crashed;

impl<K, T> Flights<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// `tasks` lets whoever stops the daemon wait for what is under way.
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self { under_way: Arc::default(), tasks }
    }

    /// What the call for `key` brings: the one under way, else the one that `start` makes.
    pub(crate) async fn join<F>(&self, key: &K, start: impl FnOnce() -> F) -> Result<T, Crashed>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut landing = self.board(key, start);
        let outcome = landing.wait_for(Option::is_some).await.map_err(|_| Crashed)?;
        outcome.clone().ok_or(Crashed)
    }

    /// Begins the call for `key`, unless it is under way. Nobody waits for it.
    pub(crate) fn begin<F>(&self, key: &K, start: impl FnOnce() -> F)
    where
        F: Future<Output = T> + Send + 'static,
    {
        self.board(key, start);
    }

    /// Whether the call for `key` is under way.
    pub(crate) fn is_under_way(&self, key: &K) -> bool {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    fn board<F>(&self, key: &K, start: impl FnOnce() -> F) -> watch::Receiver<Option<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landing) = under_way.get(key) {
            return landing.clone();
        }
        let call = start();
        let (land, landing) = watch::channel(None);
        under_way.insert(key.clone(), landing.clone());
        // Let go first: a runtime that is about to end drops what is spawned at once, and that takes the lock.
        drop(under_way);
        let ended = Ended { key: key.clone(), under_way: Arc::clone(&self.under_way) };
        self.tasks.spawn(async move {
            let outcome = call.await;
            // Off the list before the waiters hear of it: whoever asks after that finds the outcome, not the call.
            drop(ended);
            land.send_replace(Some(outcome));
        });
        landing
    }
}

/// Takes a call off the list when it ends, also by a panic.
struct Ended<K: Hash + Eq, T> {
    key: K,
    under_way: UnderWay<K, T>,
}

impl<K: Hash + Eq, T> Drop for Ended<K, T> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
