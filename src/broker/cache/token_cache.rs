//! The token cache. moka stores, bounds and evicts; [`super::index`] finds what is not asked for by its key; whether a
//! token may still be handed out is [`crate::broker::freshness`]'s and [`crate::broker::invalidation`]'s to say.

use std::sync::Arc;

use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::sync;
use parking_lot::Mutex;

use super::as_of::{AsOf, FreshnessClock};
use super::entry::Entry;
use super::index::{Hit, Index};
use super::lru::bounded;
use super::memory::weight;
use super::schedule::Lane;
use super::token_hash::TokenHash;
use super::token_pair::{TokenPair, Validated};
use super::usage::Activity;
use crate::broker::invalidation_log::{Effect, InvalidationLog, InvalidationScope, Sequence, Validity};
use crate::clock::BootTime;
use crate::keyed_hash::KeyedHash;
use crate::model::{AppName, TokenKey};

/// The tokens by all that makes them differ, the least recently used evicted first.
///
/// Every change goes through [`TokenCache::update`]: moka lets one of them at a time happen to a key, so that
/// a removal and a mint cannot undo each other's work. The index is locked for an instant within it,
/// and moka is never called meanwhile.
pub(crate) struct TokenCache {
    pairs: sync::Cache<u128, Cached>,
    /// moka knows keys by their hashes: of what it has removed, it may keep hundreds of keys for long, and they are large
    /// where many repositories are named.
    hash: KeyedHash,
    index: Arc<Mutex<Index>>,
    log: Arc<InvalidationLog>,
    clock: FreshnessClock,
}

#[derive(Debug, Clone)]
struct Cached {
    pair: Arc<TokenPair>,
    /// With its key, in bytes.
    weight: usize,
}

/// What a change does to a key's tokens.
enum Change {
    Keep,
    Put(TokenPair),
    Remove,
}

impl TokenCache {
    /// A cache that never holds more than `max_entries` keys, nor more than about `max_bytes` of them.
    pub(crate) fn new(
        max_entries: u64,
        max_bytes: u64,
        log: Arc<InvalidationLog>,
        clock: FreshnessClock,
    ) -> Self {
        let index: Arc<Mutex<Index>> = Arc::default();
        let evicted = {
            let index = Arc::clone(&index);
            move |_: Arc<u128>, cached: Cached, cause: RemovalCause| {
                // All other removals and replacements update the index themselves.
                if cause.was_evicted() {
                    index.lock().remove(&cached.pair);
                }
            }
        };
        let weigh = |_: &u128, cached: &Cached| cached.weight;
        let pairs = bounded(max_entries, max_bytes, weigh).eviction_listener(evicted).build();
        Self { pairs, hash: KeyedHash::default(), index, log, clock }
    }

    /// Now, with the windows by which tokens are judged.
    pub(crate) fn as_of(&self) -> AsOf {
        self.clock.as_of()
    }

    /// The cached tokens of `key`, in whatever state, without those that have been revoked.
    pub(crate) fn get(&self, key: &TokenKey, at: &AsOf) -> Option<Arc<TokenPair>> {
        let Cached { pair, .. } = self.pairs.get(&self.hash.of(key))?;
        if pair.is_checked(self.log.latest()) {
            return Some(pair);
        }
        self.revalidate(key, pair, at)
    }

    /// Puts a token beside the one in service, or in its place, as [`TokenPair::with_renewed`] decides. `None`: it was
    /// revoked while it was being minted.
    pub(crate) fn put(&self, key: &TokenKey, minted: Entry, at: &AsOf) -> Option<Arc<Entry>> {
        let mut put = None;
        self.update(key, at, |pair| {
            let rejected = match self.log.validity(key, minted.began) {
                Validity::Revoked => return Change::Keep,
                validity => validity == Validity::Stale,
            };
            let entry = Arc::new(Entry { rejected, ..minted });
            put = Some(Arc::clone(&entry));
            let first = || TokenPair::new(self.index.lock().next_id(), Arc::clone(&entry), at.now);
            Change::Put(pair.map_or_else(first, |pair| pair.with_renewed(Arc::clone(&entry), at)))
        });
        // moka would put evictions off, up to 512 of them: large tokens would take many times `max_bytes`.
        self.pairs.run_pending_tasks();
        put
    }

    /// Removes the token that a settled one has replaced.
    pub(crate) fn drop_superseded(&self, key: &TokenKey, at: &AsOf) {
        self.update(key, at, |pair| {
            pair.and_then(|pair| pair.without_superseded(at)).map_or(Change::Keep, Change::Put)
        });
    }

    /// Takes a token out of service, if it is still cached.
    pub(crate) fn reject(&self, key: &TokenKey, hash: TokenHash, at: &AsOf) {
        self.update(key, at, |pair| match pair {
            Some(pair) if pair.contains(hash) => Change::Put(pair.after_reject(hash, at)),
            _ => Change::Keep,
        });
    }

    /// Removes a token, if it is still cached.
    pub(crate) fn remove_token(&self, key: &TokenKey, hash: TokenHash, at: &AsOf) {
        self.update(key, at, |pair| match pair {
            Some(pair) if pair.contains(hash) => pair.without_token(hash).map_or(Change::Remove, Change::Put),
            _ => Change::Keep,
        });
    }

    /// Removes a key, if all of its tokens have expired.
    pub(crate) fn remove_expired(&self, key: &TokenKey, at: &AsOf) {
        self.update(key, at, |pair| match pair {
            Some(pair) if pair.is_expired(at) => Change::Remove,
            _ => Change::Keep,
        });
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> u64 {
        self.pairs.run_pending_tasks();
        self.index.lock().len() as u64
    }

    /// The key that has the token with this hash.
    pub(crate) fn find(&self, hash: TokenHash, at: &AsOf) -> Option<Hit> {
        let (key, pair) = self.index.lock().find(hash)?;
        let pair = self.peek(&key, pair, at)?;
        pair.contains(hash).then_some((key, pair))
    }

    /// Whether a token of `app` can be handed out.
    pub(crate) fn has_unexpired(&self, app: &AppName, at: &AsOf) -> bool {
        let latest = self.index.lock().latest_expiring(app, MAX_REVOKED_SKIPPED);
        latest
            .into_iter()
            .any(|(key, pair)| self.peek(&key, pair, at).is_some_and(|pair| !pair.is_expired(at)))
    }

    /// The keys whose tokens end first, at most so many, and how many there are in all.
    pub(crate) fn soonest_expiring(&self, limit: usize, at: &AsOf) -> (Vec<Hit>, usize) {
        let (mut found, mut seen) = (Vec::new(), 0);
        loop {
            let (hits, total) = {
                let index = self.index.lock();
                (index.soonest_expiring(seen, limit), index.len())
            };
            let is_last = hits.len() < limit;
            seen += hits.len();
            let valid = hits.into_iter().filter_map(|(key, pair)| {
                let pair = self.peek(&key, pair, at)?;
                Some((key, pair))
            });
            found.extend(valid);
            // Those that are revoked are counted only until the sweep has removed them.
            if is_last || found.len() >= limit || seen >= limit + MAX_REVOKED_SKIPPED {
                let revoked = seen - found.len();
                found.truncate(limit);
                return (found, total.saturating_sub(revoked));
            }
        }
    }

    /// What a mint notes when it begins: see [`InvalidationLog::latest`].
    pub(crate) fn latest_invalidation(&self) -> Sequence {
        self.log.latest()
    }

    /// Revokes the tokens of `scope`, cached or being minted: none of them is handed out from now on, and
    /// [`TokenCache::remove_purged`] removes them.
    pub(crate) fn revoke(&self, scope: InvalidationScope) {
        self.log.note(scope.clone(), Effect::Revoke, self.as_of().now);
        self.index.lock().purge(scope);
    }

    /// Has the tokens of `scope` served only if no other can be minted.
    pub(crate) fn mark_stale(&self, scope: InvalidationScope) {
        self.log.note(scope, Effect::MarkStale, self.as_of().now);
    }

    /// Removes some of the revoked tokens: without it those that no caller asks for would fill the cache.
    pub(crate) fn remove_purged(&self, at: &AsOf) {
        let purged = self.index.lock().next_purged(MAX_PURGED);
        for (key, pair) in purged {
            if !pair.is_checked(self.log.latest()) {
                self.revalidate(&key, pair, at);
            }
        }
    }

    /// Takes the due keys out of the schedule.
    pub(crate) fn take_due(&self, at: &AsOf) -> Vec<Hit> {
        let due = self.index.lock().take_due(at.now, MAX_DUE);
        due.into_iter().filter_map(|hit| self.revalidate_hit(hit, at)).collect()
    }

    /// The first in a lane for a refresh, as it is now.
    pub(crate) fn first_ready(&self, lane: &(AppName, Lane), at: &AsOf) -> Option<Hit> {
        loop {
            let first = self.index.lock().first_ready(lane)?;
            if let Some(hit) = self.revalidate_hit(first, at) {
                return Some(hit);
            }
        }
    }

    /// How many wait in a lane for a refresh.
    pub(crate) fn ready_count(&self, lane: &(AppName, Lane)) -> usize {
        self.index.lock().ready_count(lane)
    }

    /// Puts a key in line for a refresh.
    pub(crate) fn make_ready(&self, pair: &Arc<TokenPair>) {
        pair.usage.set_activity(Activity::Active);
        self.index.lock().make_ready(pair);
    }

    /// Has a key looked at when it is `when`, and not before.
    pub(crate) fn schedule(&self, pair: &Arc<TokenPair>, when: BootTime, activity: Activity) {
        pair.usage.set_activity(activity);
        self.index.lock().schedule(pair, when);
    }

    /// Everything, in no order. Takes time in proportion to that: for the end of the daemon only.
    pub(crate) fn all(&self) -> Vec<Hit> {
        self.index.lock().all()
    }

    /// `pair` after what was invalidated since it was last checked, here and in the cache.
    fn revalidate(&self, key: &TokenKey, pair: Arc<TokenPair>, at: &AsOf) -> Option<Arc<TokenPair>> {
        let latest = self.log.latest();
        match self.validated(key, &pair, at) {
            Validated::Unchanged => {
                pair.set_checked(latest);
                Some(pair)
            }
            _ => self.update(key, at, |_| Change::Keep),
        }
    }

    /// A hit of the index as it is now; `None` if it is gone, or another one has taken its place, which is scheduled.
    fn revalidate_hit(&self, (key, pair): Hit, at: &AsOf) -> Option<Hit> {
        if pair.is_checked(self.log.latest()) {
            return Some((key, pair));
        }
        let now = self.revalidate(&key, Arc::clone(&pair), at);
        if now.is_none() {
            self.index.lock().remove(&pair);
        }
        now.filter(|now| Arc::ptr_eq(now, &pair)).map(|now| (key, now))
    }

    /// `pair` without what was invalidated since it was last checked. Changes nothing.
    fn peek(&self, key: &TokenKey, pair: Arc<TokenPair>, at: &AsOf) -> Option<Arc<TokenPair>> {
        if pair.is_checked(self.log.latest()) {
            return Some(pair);
        }
        match self.validated(key, &pair, at) {
            Validated::Unchanged => Some(pair),
            Validated::Changed(pair) => Some(Arc::new(pair)),
            Validated::Revoked => None,
        }
    }

    fn validated(&self, key: &TokenKey, pair: &TokenPair, at: &AsOf) -> Validated {
        pair.validated(|entry| self.log.validity(key, entry.began), at)
    }

    /// Changes what is cached for `key`, one change at a time, and returns it. `change` sees what invalidations have
    /// left of it.
    fn update(
        &self,
        key: &TokenKey,
        at: &AsOf,
        change: impl FnOnce(Option<&TokenPair>) -> Change,
    ) -> Option<Arc<TokenPair>> {
        let mut left = None;
        self.pairs.entry(self.hash.of(key)).and_compute_with(|entry| {
            let old = entry.map(|entry| entry.into_value().pair);
            // What is invalidated from here on is found out at the next look.
            let latest = self.log.latest();
            let validated = old.as_deref().map(|pair| self.validated(key, pair, at));
            let (valid, is_unchanged) = match &validated {
                Some(Validated::Unchanged) => (old.as_deref(), true),
                Some(Validated::Changed(pair)) => (Some(pair), false),
                Some(Validated::Revoked) => (None, false),
                None => (None, true),
            };
            match (change(valid), validated) {
                (Change::Put(pair), _) | (Change::Keep, Some(Validated::Changed(pair))) => {
                    let pair = Arc::new(pair);
                    self.store(key, &pair, latest, at);
                    left = Some(Arc::clone(&pair));
                    Op::Put(Cached { weight: weight(key, &pair), pair })
                }
                (Change::Keep, _) if is_unchanged => {
                    left = old;
                    Op::Nop
                }
                (Change::Keep | Change::Remove, _) => {
                    if let Some(pair) = old {
                        self.index.lock().remove(&pair);
                    }
                    Op::Remove
                }
            }
        });
        left
    }

    fn store(&self, key: &TokenKey, pair: &Arc<TokenPair>, latest: Sequence, at: &AsOf) {
        pair.set_checked(latest);
        pair.usage.set_activity(Activity::Active);
        self.index.lock().put(key, pair, pair.expiry(&at.windows), pair.next_event(at));
    }
}

/// Keys that one look at the schedule takes: after a long suspend all are due, and the rest can wait for a second.
const MAX_DUE: usize = 2_000;
/// Revoked keys that one sweep removes.
const MAX_PURGED: usize = 500;
/// Revoked keys that one look passes over: where there are more, the sweep is about to remove them.
const MAX_REVOKED_SKIPPED: usize = 100;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;
    use crate::broker::cache::token_pair::tests::{as_of, entry};
    use crate::broker::requirement::Requirement;
    use crate::clock::{Clock, ManualClock};
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
        let AsOf { windows, settle, .. } = as_of(0);
        let clock: Arc<dyn Clock> = ManualClock::new(Timestamp::UNIX_EPOCH);
        TokenCache::new(max_entries, max_bytes, Arc::default(), FreshnessClock { clock, windows, settle })
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
        Entry { hash: hash(number), began: cache.log.latest(), ..entry }
    }

    fn put(cache: &TokenCache, key: &TokenKey, number: u64) {
        assert!(cache.put(key, token(cache, number, 100), &as_of(0)).is_some());
    }

    fn fill(cache: &TokenCache, count: u64, json: usize) {
        for installation in 1..=count {
            cache.put(&key(installation), token(cache, installation, json), &as_of(0));
            cache.len();
        }
    }

    fn get(cache: &TokenCache, key: &TokenKey) -> Option<Arc<TokenPair>> {
        cache.get(key, &as_of(1))
    }

    fn revoke(cache: &TokenCache, installation: u64) {
        let scope = InvalidationScope::Installation(InstallationId::new(installation).unwrap());
        cache.revoke(scope);
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
        assert_eq!((cache.len(), cache.pairs.entry_count()), (10, 10));
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
        let at = as_of(1);
        assert!(cache.find(hash(1), &at).is_none() && cache.find(hash(30), &at).is_some());
        assert_eq!(cache.soonest_expiring(100, &at).1, 10);
        assert_eq!(cache.take_due(&as_of(3000)).len(), 10);
    }

    #[test]
    fn revoked_installation_leaves_other_apps_alone() {
        let cache = cache(10, 1024 * 1024);
        fill(&cache, 3, 10);
        put(&cache, &of_app("other", 2), 4);
        let scope = InvalidationScope::AppInstallation(key(2).app, key(2).installation);
        cache.log.note(scope, Effect::Revoke, as_of(1).now);
        assert!(get(&cache, &key(2)).is_none() && get(&cache, &key(1)).is_some());
        assert!(get(&cache, &of_app("other", 2)).is_some(), "the same number is another installation there");
    }

    #[test]
    fn revoked_token_is_in_no_answer() {
        let cache = cache(10, 1024 * 1024);
        fill(&cache, 3, 10);
        revoke(&cache, 2);
        let at = as_of(1);
        assert!(cache.find(hash(2), &at).is_none() && cache.find(hash(1), &at).is_some());
        let (soonest, total) = cache.soonest_expiring(100, &at);
        assert_eq!((soonest.len(), total), (2, 2));
        assert!(soonest.iter().all(|(found, _)| *found != key(2)));
        revoke(&cache, 1);
        revoke(&cache, 3);
        assert!(!cache.has_unexpired(&key(1).app, &at));
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
            cache.remove_purged(&as_of(1));
            assert_eq!(cache.len(), left);
        }
    }

    #[test]
    fn overtaken_mint_is_not_kept() {
        let cache = cache(10, 1024 * 1024);
        let (old, late) = (token(&cache, 1, 10), token(&cache, 2, 10));
        revoke(&cache, 1);
        assert!(cache.put(&key(1), old, &as_of(0)).is_none() && get(&cache, &key(1)).is_none());
        let scope = InvalidationScope::Unnarrowed(key(2).installation);
        cache.log.note(scope, Effect::MarkStale, as_of(0).now);
        assert!(cache.put(&key(2), late, &as_of(0)).unwrap().rejected);
        assert!(get(&cache, &key(2)).unwrap().fresh_enough(Requirement::Any, &as_of(1)).is_none());
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
            let renew_at = entry.life.at_remaining(Duration::from_secs(600 + number % 100));
            cache.put(&key(number), Entry { renew_at, ..entry }, &as_of(0));
        }
        assert_eq!(cache.take_due(&as_of(2899)).len(), 0);
        assert_eq!(cache.take_due(&as_of(2900)).len(), 100);
        assert_eq!(cache.take_due(&as_of(2900)).len(), 0);
        assert_eq!(cache.take_due(&as_of(3600)).len(), MAX_DUE, "the rest another time");
    }

    #[test]
    fn ready_keys_come_by_end_of_life() {
        let cache = cache(10, 1024 * 1024);
        for (number, lifetime) in [(1, 900), (2, 600), (3, 1200)] {
            let life = entry(0, 0, lifetime).life;
            cache.put(&key(number), Entry { life, ..token(&cache, number, 10) }, &as_of(0));
        }
        for (_, pair) in cache.take_due(&as_of(3600)) {
            cache.make_ready(&pair);
        }
        let mut order = Vec::new();
        while let Some((key, pair)) = cache.first_ready(&(key(1).app, Lane::Healthy), &as_of(1)) {
            order.push(key.installation.get());
            cache.schedule(&pair, as_of(9000).now, Activity::Active);
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
                        0 => cache.remove_token(&key(1), hash(round), &as_of(1)),
                        _ => cache.reject(&key(1), hash(round), &as_of(1)),
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(get(&cache, &key(1)).is_none());
            assert!(cache.find(hash(round), &as_of(1)).is_none());
        }
    }
}
