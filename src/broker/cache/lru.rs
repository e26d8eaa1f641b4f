//! Maps of bounded size, by moka: they forget what was least recently used.

use std::hash::Hash;

use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync;

/// A map of bounded size that forgets the least recently used.
pub(crate) struct Lru<K, V>(sync::Cache<K, V>);

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Lru<K, V> {
    /// At most so many.
    pub(crate) fn new(max_entries: u64) -> Self {
        Self(bounded(max_entries, max_entries, |_, _| 1).build())
    }

    /// At most so many, that take at most about so many bytes.
    pub(crate) fn weighed(
        max_entries: u64,
        max_bytes: u64,
        weigh: impl Fn(&K, &V) -> usize + Send + Sync + 'static,
    ) -> Self {
        Self(bounded(max_entries, max_bytes, weigh).build())
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.0.get(key)
    }

    /// Changes what is cached for `key`, one change at a time: to another value, or to none.
    pub(crate) fn update(&self, key: K, change: impl FnOnce(Option<V>) -> Option<V>) {
        self.0.entry(key).and_compute_with(|entry| match change(entry.map(moka::Entry::into_value)) {
            Some(value) => Op::Put(value),
            None => Op::Remove,
        });
        self.0.run_pending_tasks();
    }

    /// Inserts `value` if there is none for `key`, and returns whether there was none.
    pub(crate) fn put_new(&self, key: K, value: V) -> bool {
        self.0.entry(key).or_insert(value).is_fresh()
    }
}

/// moka weighs by one number: an entry weighs its bytes, and at least its share of them, so that both bounds hold.
pub(super) fn bounded<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static>(
    max_entries: u64,
    max_bytes: u64,
    weigh: impl Fn(&K, &V) -> usize + Send + Sync + 'static,
) -> sync::CacheBuilder<K, V, sync::Cache<K, V>> {
    let share = max_bytes.div_ceil(max_entries.max(1)).max(1);
    let weigh =
        move |key: &K, value: &V| u32::try_from(share.max(weigh(key, value) as u64)).unwrap_or(u32::MAX);
    let builder =
        sync::Cache::builder().max_capacity(share.saturating_mul(max_entries.max(1))).weigher(weigh);
    // The default policy does not admit a new key to a full cache: every request for it would mint.
    builder.eviction_policy(EvictionPolicy::lru())
}
