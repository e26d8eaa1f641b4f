//! The tokens in hand. moka stores, bounds and evicts; [`super::index`] finds what is not asked for by its key; whether a
//! token is still good is [`crate::broker::freshness`]'s and [`crate::broker::invalidation`]'s to say.

use std::hash::Hash;
use std::sync::Arc;

use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync;
use parking_lot::Mutex;

use crate::broker::cache::entry::{Entry, weight};
use crate::broker::cache::hash::TokenHash;
use crate::broker::cache::index::{Hit, Index};
use crate::broker::cache::schedule::Line;
use crate::broker::cache::token_pair::{AsOf, Idle, Slot, Validated};
use crate::broker::invalidation::log::{InvalidationScope, Invalidations, Sequence, Validity};
use crate::clock::BootTime;
use crate::keyed_hash::KeyedHash;
use crate::model::{AppName, TokenKey};

/// The tokens by all that makes them differ, the least recently used of too many thrown out first.
///
/// Every change goes through [`TokenCache::update`]: moka lets one of them at a time happen to a key, so that whoever
/// removes a token and whoever mints one cannot undo each other's work. The index is locked for an instant within it,
/// and moka is never called meanwhile.
pub(in crate::broker) struct TokenCache {
    slots: sync::Cache<u128, Cached>,
    /// moka knows keys by their hashes: of what it has removed, it may keep hundreds of keys for long, and they are large
    /// where many repositories are named.
    hash: KeyedHash,
    index: Arc<Mutex<Index>>,
    invalidations: Arc<Invalidations>,
}

#[derive(Debug, Clone)]
struct Cached {
    slot: Arc<Slot>,
    /// With its key, in bytes.
    weight: usize,
}

/// What becomes of a key's tokens.
enum Change {
    Keep,
    Put(Slot),
    Remove,
}

impl TokenCache {
    /// A cache that never holds more than `max_entries` keys, nor more than about `max_bytes` of them.
    pub(in crate::broker) fn new(
        max_entries: u64,
        max_bytes: u64,
        invalidations: Arc<Invalidations>,
    ) -> Self {
        let index: Arc<Mutex<Index>> = Arc::default();
        let evicted = {
            let index = Arc::clone(&index);
            move |_: Arc<u128>, cached: Cached, cause: RemovalCause| {
                // Whatever else removes or replaces a slot says so itself.
                if cause.was_evicted() {
                    index.lock().remove(&cached.slot);
                }
            }
        };
        let weigh = |_: &u128, cached: &Cached| cached.weight;
        let slots = bounded(max_entries, max_bytes, weigh).eviction_listener(evicted).build();
        Self { slots, hash: KeyedHash::default(), index, invalidations }
    }

    /// What is in hand, in whatever state, but for what has been invalidated.
    pub(in crate::broker) fn get(&self, key: &TokenKey, at: &AsOf) -> Option<Arc<Slot>> {
        let Cached { slot, .. } = self.slots.get(&self.hash.of(key))?;
        if slot.is_checked(self.invalidations.latest()) {
            return Some(slot);
        }
        self.check(key, slot, at)
    }

    /// Puts a token beside the one in service, or in its place, as [`Slot::with`] decides. `None`: it was revoked while
    /// it was being minted.
    pub(in crate::broker) fn put(&self, key: &TokenKey, minted: Entry, at: &AsOf) -> Option<Arc<Entry>> {
        let mut put = None;
        self.update(key, at, |slot| {
            let rejected = match self.invalidations.validity(key, minted.began) {
                Validity::Revoked => return Change::Keep,
                validity => validity == Validity::Stale,
            };
            let entry = Arc::new(Entry { rejected, ..minted });
            put = Some(Arc::clone(&entry));
            let first = || Slot::new(self.index.lock().next_id(), Arc::clone(&entry), at.now);
            Change::Put(slot.map_or_else(first, |slot| slot.with(Arc::clone(&entry), at)))
        });
        // moka would put evictions off, up to 512 of them: large tokens would take many times `max_bytes`.
        self.slots.run_pending_tasks();
        put
    }

    /// Throws the token out that a settled one has replaced.
    pub(in crate::broker) fn drop_superseded(&self, key: &TokenKey, at: &AsOf) {
        self.update(key, at, |slot| {
            slot.and_then(|slot| slot.without_superseded(at)).map_or(Change::Keep, Change::Put)
        });
    }

    /// Takes a token out of service, if it is still in hand.
    pub(in crate::broker) fn reject(&self, key: &TokenKey, hash: TokenHash, at: &AsOf) {
        self.update(key, at, |slot| match slot {
            Some(slot) if slot.has(hash) => Change::Put(slot.rejecting(hash, at)),
            _ => Change::Keep,
        });
    }

    /// Throws a token out, if it is still in hand.
    pub(in crate::broker) fn remove_token(&self, key: &TokenKey, hash: TokenHash, at: &AsOf) {
        self.update(key, at, |slot| match slot {
            Some(slot) if slot.has(hash) => slot.without(hash).map_or(Change::Remove, Change::Put),
            _ => Change::Keep,
        });
    }

    /// Throws out what is cached for a key, if it still is what the sweep has found worthless.
    pub(in crate::broker) fn remove_ended(&self, key: &TokenKey, at: &AsOf) {
        self.update(key, at, |slot| match slot {
            Some(slot) if !slot.is_alive(at) => Change::Remove,
            _ => Change::Keep,
        });
    }

    /// How many keys there are.
    pub(in crate::broker) fn len(&self) -> u64 {
        self.slots.run_pending_tasks();
        self.index.lock().len() as u64
    }

    /// The key that has the token with this hash.
    pub(in crate::broker) fn find(&self, hash: TokenHash, at: &AsOf) -> Option<Hit> {
        let (key, slot) = self.index.lock().find(hash)?;
        let slot = self.view(&key, slot, at)?;
        slot.has(hash).then_some((key, slot))
    }

    /// Whether a token of `app` can be handed out.
    pub(in crate::broker) fn has_usable(&self, app: &AppName, at: &AsOf) -> bool {
        let latest = self.index.lock().latest_ending(app, MAX_VIEWS);
        latest.into_iter().any(|(key, slot)| self.view(&key, slot, at).is_some_and(|slot| slot.is_alive(at)))
    }

    /// The keys whose tokens end first, at most so many, and how many there are in all.
    pub(in crate::broker) fn soonest_ending(&self, limit: usize, at: &AsOf) -> (Vec<Hit>, usize) {
        let (mut found, mut seen) = (Vec::new(), 0);
        loop {
            let (hits, total) = {
                let index = self.index.lock();
                (index.soonest_ending(seen, limit), index.len())
            };
            let is_last = hits.len() < limit;
            seen += hits.len();
            let valid = hits.into_iter().filter_map(|(key, slot)| {
                let slot = self.view(&key, slot, at)?;
                Some((key, slot))
            });
            found.extend(valid);
            // Those that are revoked are counted only until the sweep has removed them.
            if is_last || found.len() >= limit || seen >= limit + MAX_VIEWS {
                let revoked = seen - found.len();
                found.truncate(limit);
                return (found, total.saturating_sub(revoked));
            }
        }
    }

    /// The tokens of `scope` are worthless: [`TokenCache::remove_purged`] removes them.
    pub(in crate::broker) fn purge(&self, scope: InvalidationScope) {
        self.index.lock().purge(scope);
    }

    /// Removes some of the tokens that are worthless: nobody may ask for them, and they fill the cache.
    pub(in crate::broker) fn remove_purged(&self, at: &AsOf) {
        let purged = self.index.lock().next_purged(MAX_PURGED);
        for (key, slot) in purged {
            if !slot.is_checked(self.invalidations.latest()) {
                self.check(&key, slot, at);
            }
        }
    }

    /// Takes those out of the schedule whose moment has come, as they are now.
    pub(in crate::broker) fn take_due(&self, at: &AsOf) -> Vec<Hit> {
        let due = self.index.lock().take_due(at.now, MAX_DUE);
        due.into_iter().filter_map(|hit| self.checked(hit, at)).collect()
    }

    /// The first in a line for a refresh, as it is now.
    pub(in crate::broker) fn first_ready(&self, line: &(AppName, Line), at: &AsOf) -> Option<Hit> {
        loop {
            let first = self.index.lock().first_ready(line)?;
            if let Some(hit) = self.checked(first, at) {
                return Some(hit);
            }
        }
    }

    /// How many wait in a line for a refresh.
    pub(in crate::broker) fn ready_count(&self, line: &(AppName, Line)) -> usize {
        self.index.lock().ready_count(line)
    }

    /// Puts a key in line for a refresh.
    pub(in crate::broker) fn make_ready(&self, slot: &Arc<Slot>) {
        slot.set_idle(Idle::Scheduled);
        self.index.lock().make_ready(slot);
    }

    /// Has a key looked at when it is `when`, and not before.
    pub(in crate::broker) fn schedule(&self, slot: &Arc<Slot>, when: BootTime, idle: Idle) {
        slot.set_idle(idle);
        self.index.lock().schedule(slot, when);
    }

    /// All that is in hand, in no order: in time proportional to that, so at the end of the daemon only.
    pub(in crate::broker) fn all(&self) -> Vec<Hit> {
        self.index.lock().all()
    }

    /// `slot` after what was invalidated since it was last checked, here and in the cache.
    fn check(&self, key: &TokenKey, slot: Arc<Slot>, at: &AsOf) -> Option<Arc<Slot>> {
        let latest = self.invalidations.latest();
        match self.validated(key, &slot, at) {
            Validated::Unchanged => {
                slot.set_checked(latest);
                Some(slot)
            }
            _ => self.update(key, at, |_| Change::Keep),
        }
    }

    /// A hit of the index as it is now; `None` if it is gone, or another one has taken its place, which is scheduled.
    fn checked(&self, (key, slot): Hit, at: &AsOf) -> Option<Hit> {
        if slot.is_checked(self.invalidations.latest()) {
            return Some((key, slot));
        }
        let now = self.check(&key, Arc::clone(&slot), at);
        if now.is_none() {
            self.index.lock().remove(&slot);
        }
        now.filter(|now| Arc::ptr_eq(now, &slot)).map(|now| (key, now))
    }

    /// `slot` without what was invalidated since it was last checked. Changes nothing.
    fn view(&self, key: &TokenKey, slot: Arc<Slot>, at: &AsOf) -> Option<Arc<Slot>> {
        if slot.is_checked(self.invalidations.latest()) {
            return Some(slot);
        }
        match self.validated(key, &slot, at) {
            Validated::Unchanged => Some(slot),
            Validated::Changed(slot) => Some(Arc::new(slot)),
            Validated::Revoked => None,
        }
    }

    fn validated(&self, key: &TokenKey, slot: &Slot, at: &AsOf) -> Validated {
        slot.validated(|entry| self.invalidations.validity(key, entry.began), at)
    }

    /// Changes what is cached for `key`, while nobody else does, and returns it. `change` sees what invalidations have
    /// left of it.
    fn update(
        &self,
        key: &TokenKey,
        at: &AsOf,
        change: impl FnOnce(Option<&Slot>) -> Change,
    ) -> Option<Arc<Slot>> {
        let mut left = None;
        self.slots.entry(self.hash.of(key)).and_compute_with(|entry| {
            let old = entry.map(|entry| entry.into_value().slot);
            // What is invalidated from here on is found out at the next look.
            let latest = self.invalidations.latest();
            let validated = old.as_deref().map(|slot| self.validated(key, slot, at));
            let (valid, is_unchanged) = match &validated {
                Some(Validated::Unchanged) => (old.as_deref(), true),
                Some(Validated::Changed(slot)) => (Some(slot), false),
                Some(Validated::Revoked) => (None, false),
                None => (None, true),
            };
            match (change(valid), validated) {
                (Change::Put(slot), _) | (Change::Keep, Some(Validated::Changed(slot))) => {
                    let slot = Arc::new(slot);
                    self.store(key, &slot, latest, at);
                    left = Some(Arc::clone(&slot));
                    Op::Put(Cached { weight: weight(key, &slot), slot })
                }
                (Change::Keep, _) if is_unchanged => {
                    left = old;
                    Op::Nop
                }
                (Change::Keep | Change::Remove, _) => {
                    if let Some(slot) = old {
                        self.index.lock().remove(&slot);
                    }
                    Op::Remove
                }
            }
        });
        left
    }

    fn store(&self, key: &TokenKey, slot: &Arc<Slot>, latest: Sequence, at: &AsOf) {
        slot.set_checked(latest);
        slot.set_idle(Idle::Scheduled);
        self.index.lock().put(key, slot, slot.end(&at.windows), slot.next_event(at));
    }
}

/// A map of bounded size that forgets the least recently used.
pub(in crate::broker) struct Lru<K, V>(sync::Cache<K, V>);

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Lru<K, V> {
    /// At most so many.
    pub(in crate::broker) fn new(max_entries: u64) -> Self {
        Self(bounded(max_entries, max_entries, |_, _| 1).build())
    }

    /// At most so many, that take at most about so many bytes.
    pub(in crate::broker) fn weighed(
        max_entries: u64,
        max_bytes: u64,
        weigh: impl Fn(&K, &V) -> usize + Send + Sync + 'static,
    ) -> Self {
        Self(bounded(max_entries, max_bytes, weigh).build())
    }

    pub(in crate::broker) fn get(&self, key: &K) -> Option<V> {
        self.0.get(key)
    }

    /// Changes what is kept for `key`, while nobody else does: to another value, or to none.
    pub(in crate::broker) fn update(&self, key: K, change: impl FnOnce(Option<V>) -> Option<V>) {
        self.0.entry(key).and_compute_with(|entry| match change(entry.map(moka::Entry::into_value)) {
            Some(value) => Op::Put(value),
            None => Op::Remove,
        });
        self.0.run_pending_tasks();
    }

    /// Puts `value` there if there is nothing. Whether there was not.
    pub(in crate::broker) fn put_new(&self, key: K, value: V) -> bool {
        self.0.entry(key).or_insert(value).is_fresh()
    }
}

/// moka weighs by one number: an entry weighs its bytes, and at least its share of them, so that both bounds hold.
fn bounded<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static>(
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

/// Keys that one look at the schedule takes: after a long suspend all are due, and the rest can wait for a second.
const MAX_DUE: usize = 2_000;
/// Worthless keys that one sweep removes.
const MAX_PURGED: usize = 500;
/// Revoked keys that one look passes over: where there are more, the sweep is about to remove them.
const MAX_VIEWS: usize = 100;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::broker::cache::token_pair::tests::{entry, moment};
    use crate::broker::invalidation::log::Effect;
    use crate::broker::request::Requirement;
    use crate::model::{InstallationId, Scope, UserId};

    fn key(installation: u64) -> TokenKey {
        of_app("default", installation)
    }

    fn of_app(app: &str, installation: u64) -> TokenKey {
        TokenKey {
            app: app.parse().unwrap(),
            installation: InstallationId::new(installation).unwrap(),
            user: None,
            scope: Arc::default(),
        }
    }

    fn cache(max_entries: u64, max_bytes: u64) -> TokenCache {
        TokenCache::new(max_entries, max_bytes, Arc::default())
    }

    fn hash(number: u64) -> TokenHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        TokenHash::new(hash)
    }

    /// A token of an hour, asked for at second 0 after all that the cache knows of, with so large an answer.
    fn token(cache: &TokenCache, number: u64, json: usize) -> Entry {
        let mut entry = (*entry(0, 0, 3600)).clone();
        entry.bodies.json = Bytes::from(vec![0; json]);
        Entry { hash: hash(number), began: cache.invalidations.latest(), ..entry }
    }

    fn put(cache: &TokenCache, key: &TokenKey, number: u64) {
        assert!(cache.put(key, token(cache, number, 100), &moment(0)).is_some());
    }

    fn fill(cache: &TokenCache, count: u64, json: usize) {
        for installation in 1..=count {
            cache.put(&key(installation), token(cache, installation, json), &moment(0));
            cache.len();
        }
    }

    fn get(cache: &TokenCache, key: &TokenKey) -> Option<Arc<Slot>> {
        cache.get(key, &moment(1))
    }

    fn revoke(cache: &TokenCache, installation: u64) {
        let scope = InvalidationScope::Installation(InstallationId::new(installation).unwrap());
        cache.invalidations.note(scope.clone(), Effect::Revoke, moment(1).now);
        cache.purge(scope);
    }

    #[test]
    fn evicted_keys_are_freed() {
        let cache = cache(1_000, 64 * 1024);
        let scopes: Vec<_> = (1..=500)
            .map(|number: u64| {
                let names = (0..300).map(|index| format!("repository-{index}").parse().unwrap());
                let scope = Arc::new(Scope { repositories: Some(names.collect()), ..Scope::default() });
                put(&cache, &TokenKey { scope: Arc::clone(&scope), ..key(number) }, number);
                Arc::downgrade(&scope)
            })
            .collect();
        let alive = scopes.iter().filter(|scope| scope.strong_count() > 0).count();
        assert!((1..=3).contains(&alive), "{alive} of {}", scopes.len());
    }

    #[test]
    fn full_cache_keeps_newest_entries() {
        let cache = cache(10, 64 * 1024 * 1024);
        fill(&cache, 30, 100);
        assert_eq!((cache.len(), cache.slots.entry_count()), (10, 10));
        assert!(get(&cache, &key(30)).is_some() && get(&cache, &key(1)).is_none());
    }

    #[test]
    fn large_tokens_are_bounded_by_bytes() {
        let cache = cache(1000, 64 * 1024);
        fill(&cache, 100, 8 * 1024);
        assert!((1..=6).contains(&cache.len()), "{}", cache.len());
        assert!(get(&cache, &key(100)).is_some());
    }

    #[test]
    fn large_keys_are_bounded_by_bytes() {
        let cache = cache(1000, 256 * 1024);
        for set in 0..100_u64 {
            let names = (0..300).map(|name| format!("repository-{set}-{name}").parse().unwrap());
            let scope = Arc::new(Scope { repositories: Some(names.collect()), ..Scope::default() });
            put(&cache, &TokenKey { scope, ..key(1) }, set);
        }
        assert!((5..=12).contains(&cache.len()), "{}", cache.len());
    }

    #[test]
    fn evicted_token_leaves_every_index() {
        let cache = cache(10, 64 * 1024 * 1024);
        fill(&cache, 30, 100);
        let at = moment(1);
        assert!(cache.find(hash(1), &at).is_none() && cache.find(hash(30), &at).is_some());
        assert_eq!(cache.soonest_ending(100, &at).1, 10);
        assert_eq!(cache.take_due(&moment(3000)).len(), 10);
    }

    #[test]
    fn revoked_installation_leaves_other_apps_alone() {
        let cache = cache(10, 1024 * 1024);
        fill(&cache, 3, 10);
        put(&cache, &of_app("other", 2), 4);
        let scope = InvalidationScope::AppInstallation(key(2).app, key(2).installation);
        cache.invalidations.note(scope, Effect::Revoke, moment(1).now);
        assert!(get(&cache, &key(2)).is_none() && get(&cache, &key(1)).is_some());
        assert!(get(&cache, &of_app("other", 2)).is_some(), "the same number is another installation there");
    }

    #[test]
    fn revoked_token_is_in_no_answer() {
        let cache = cache(10, 1024 * 1024);
        fill(&cache, 3, 10);
        revoke(&cache, 2);
        let at = moment(1);
        assert!(cache.find(hash(2), &at).is_none() && cache.find(hash(1), &at).is_some());
        let (soonest, total) = cache.soonest_ending(100, &at);
        assert_eq!((soonest.len(), total), (2, 2));
        assert!(soonest.iter().all(|(found, _)| *found != key(2)));
        revoke(&cache, 1);
        revoke(&cache, 3);
        assert!(!cache.has_usable(&key(1).app, &at));
    }

    #[test]
    fn purged_token_frees_its_memory_unasked() {
        let cache = cache(10_000, 1024 * 1024 * 1024);
        for number in 1..=600_u64 {
            let user = UserId::new(number);
            put(&cache, &TokenKey { user, ..key(1) }, number);
        }
        put(&cache, &key(2), 601);
        revoke(&cache, 1);
        for left in [101, 1, 1] {
            cache.remove_purged(&moment(1));
            assert_eq!(cache.len(), left);
        }
    }

    #[test]
    fn overtaken_mint_is_not_kept() {
        let cache = cache(10, 1024 * 1024);
        let (old, late) = (token(&cache, 1, 10), token(&cache, 2, 10));
        revoke(&cache, 1);
        assert!(cache.put(&key(1), old, &moment(0)).is_none() && get(&cache, &key(1)).is_none());
        let scope = InvalidationScope::Unnarrowed(key(2).installation);
        cache.invalidations.note(scope, Effect::MarkStale, moment(0).now);
        assert!(cache.put(&key(2), late, &moment(0)).unwrap().rejected);
        assert!(get(&cache, &key(2)).unwrap().fresh_enough(Requirement::Any, &moment(1)).is_none());
        put(&cache, &key(1), 3);
    }

    #[test]
    fn invalidation_reaches_token_checked_before() {
        let cache = cache(10, 1024 * 1024);
        put(&cache, &key(1), 1);
        for _ in 0..3 {
            assert!(get(&cache, &key(1)).is_some());
        }
        revoke(&cache, 2);
        assert!(get(&cache, &key(1)).is_some(), "another one");
        revoke(&cache, 1);
        assert!(get(&cache, &key(1)).is_none());
    }

    #[test]
    fn sweep_takes_only_due_keys() {
        let cache = cache(100_000, 1024 * 1024 * 1024);
        for number in 1..=10_000 {
            let entry = token(&cache, number, 10);
            let renew_at = entry.life.has_left(Duration::from_secs(600 + number % 100));
            cache.put(&key(number), Entry { renew_at, ..entry }, &moment(0));
        }
        assert_eq!(cache.take_due(&moment(2899)).len(), 0);
        assert_eq!(cache.take_due(&moment(2900)).len(), 100);
        assert_eq!(cache.take_due(&moment(2900)).len(), 0);
        assert_eq!(cache.take_due(&moment(3600)).len(), MAX_DUE, "the rest another time");
    }

    #[test]
    fn ready_keys_come_by_end_of_life() {
        let cache = cache(10, 1024 * 1024);
        for (number, lifetime) in [(1, 900), (2, 600), (3, 1200)] {
            let life = entry(0, 0, lifetime).life;
            cache.put(&key(number), Entry { life, ..token(&cache, number, 10) }, &moment(0));
        }
        for (_, slot) in cache.take_due(&moment(3600)) {
            cache.make_ready(&slot);
        }
        let mut order = Vec::new();
        while let Some((key, slot)) = cache.first_ready(&(key(1).app, Line::Usual), &moment(1)) {
            order.push(key.installation.get());
            cache.schedule(&slot, moment(9000).now, Idle::Scheduled);
        }
        assert_eq!(order, [2, 1, 3]);
    }

    #[test]
    fn concurrent_put_never_revives_dropped_token() {
        let cache = Arc::new(cache(10, 1024 * 1024));
        for round in 0..200 {
            put(&cache, &key(1), round);
            let threads: Vec<_> = (0..2)
                .map(|which| {
                    let cache = Arc::clone(&cache);
                    std::thread::spawn(move || match which {
                        0 => cache.remove_token(&key(1), hash(round), &moment(1)),
                        _ => cache.reject(&key(1), hash(round), &moment(1)),
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(get(&cache, &key(1)).is_none());
            assert!(cache.find(hash(round), &moment(1)).is_none());
        }
    }
}
