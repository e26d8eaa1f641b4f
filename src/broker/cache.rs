//! The tokens in hand. moka stores, bounds and evicts; whether a token is still good is [`super::freshness`]'s to say.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::Expiry;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync;

use super::TokenHash;
use super::freshness::Life;
use super::slot::{Moment, Slot};
use crate::model::{AppName, InstallationId, InstallationToken, TokenKey};

/// A token in hand, ready to be handed out.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What GitHub handed out.
    pub token: InstallationToken,
    /// The account of the installation, if it is known.
    pub account: Option<String>,
    /// Its life.
    pub life: Life,
    /// How it looks on the wire.
    pub bodies: Bodies,
    /// Its SHA-256, by which GitHub's audit log and rejections know it.
    pub hash: TokenHash,
    /// Whether a caller has shown that it no longer works, or GitHub has told that it would grant another one: it is
    /// handed out only if no other can be had.
    pub rejected: bool,
}

/// A token's answers, rendered once when it is minted.
#[derive(Clone)]
pub struct Bodies {
    /// The JSON object of `GET /token`.
    pub json: Bytes,
    /// The bare token and a newline.
    pub text: Bytes,
}

impl fmt::Debug for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The tokens by all that makes them differ, the least recently used of too many thrown out first.
pub(super) struct TokenCache(sync::Cache<TokenKey, Arc<Slot>>);

impl TokenCache {
    /// A cache that never holds more than `max_entries` tokens, nor more than about `max_bytes` of them.
    pub(super) fn new(max_entries: u64, max_bytes: u64) -> Self {
        // moka weighs by one number: an entry weighs its bytes, and at least its share of them, so that
        // both bounds hold.
        let share = max_bytes.div_ceil(max_entries.max(1));
        let weigh =
            move |_: &TokenKey, slot: &Arc<Slot>| u32::try_from(share.max(size(slot))).unwrap_or(u32::MAX);
        // The default policy does not admit a new key to a full cache: every request for it would mint.
        let cache =
            sync::Cache::builder().max_capacity(share.saturating_mul(max_entries.max(1))).weigher(weigh);
        Self(cache.eviction_policy(EvictionPolicy::lru()).expire_after(UntilDead).build())
    }

    /// What is in hand, in whatever state.
    pub(super) fn get(&self, key: &TokenKey) -> Option<Arc<Slot>> {
        self.0.get(key)
    }

    /// Puts a token beside the one in service, or in its place, as [`Slot::with`] decides.
    pub(super) fn put(&self, key: TokenKey, minted: &Arc<Entry>, at: &Moment) {
        self.0.entry(key).and_compute_with(|slot| {
            let slot = slot.map(moka::Entry::into_value);
            let first = || Slot::new(Arc::clone(minted), at.now);
            Op::Put(Arc::new(slot.map_or_else(first, |slot| slot.with(Arc::clone(minted), at))))
        });
    }

    /// Throws the token out that a settled one has replaced.
    pub(super) fn drop_the_replaced(&self, key: TokenKey, at: &Moment) {
        self.0.entry(key).and_compute_with(|slot| {
            let without = slot.and_then(|slot| slot.into_value().without_the_replaced(at));
            without.map_or(Op::Nop, |slot| Op::Put(Arc::new(slot)))
        });
    }

    /// Takes a token out of service, if it is still in hand.
    pub(super) fn reject(&self, key: TokenKey, hash: TokenHash, at: &Moment) {
        self.0.entry(key).and_compute_with(|slot| match slot.map(moka::Entry::into_value) {
            Some(slot) if slot.has(hash) => Op::Put(Arc::new(slot.rejecting(hash, at))),
            _ => Op::Nop,
        });
    }

    /// Throws a token out, if it is still in hand.
    pub(super) fn drop(&self, key: TokenKey, hash: TokenHash) {
        self.0.entry(key).and_compute_with(|slot| match slot.map(moka::Entry::into_value) {
            Some(slot) if slot.has(hash) => {
                slot.without(hash).map_or(Op::Remove, |slot| Op::Put(Arc::new(slot)))
            }
            _ => Op::Nop,
        });
    }

    /// All that is in hand, in no order. Does not count as use.
    pub(super) fn slots(&self) -> Vec<(Arc<TokenKey>, Arc<Slot>)> {
        self.0.iter().collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }

    /// Whether any token of this installation is in hand.
    pub(super) fn holds(&self, app: &AppName, installation: InstallationId) -> bool {
        self.0.iter().any(|(key, _)| key.installation == installation && key.app == *app)
    }

    /// Throws out the tokens of every key that is `meant`: GitHub no longer serves them.
    pub(super) fn drop_all(&self, meant: impl Fn(&TokenKey) -> bool) {
        for (key, _) in self.0.iter().filter(|(key, _)| meant(key)) {
            self.0.invalidate(&*key);
        }
    }

    /// Takes the tokens of every key that is `meant` out of service: GitHub would grant others now.
    pub(super) fn outdate_all(&self, meant: impl Fn(&TokenKey) -> bool, at: &Moment) {
        for (key, _) in self.0.iter().filter(|(key, _)| meant(key)) {
            self.0.entry((*key).clone()).and_compute_with(|slot| {
                let outdated = slot.and_then(|slot| slot.into_value().outdated(at));
                outdated.map_or(Op::Nop, |slot| Op::Put(Arc::new(slot)))
            });
        }
    }
}

/// A map of bounded size that forgets the least recently used.
pub(super) struct Lru<K, V>(sync::Cache<K, V>);

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Lru<K, V> {
    pub(super) fn new(most: u64) -> Self {
        Self(sync::Cache::builder().max_capacity(most).eviction_policy(EvictionPolicy::lru()).build())
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.0.get(key)
    }

    pub(super) fn put(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    /// Puts `value` there if there is nothing. Whether there was not.
    pub(super) fn put_new(&self, key: K, value: V) -> bool {
        self.0.entry(key).or_insert(value).is_fresh()
    }

    pub(super) fn forget(&self, key: &K) {
        self.0.invalidate(key);
    }

    pub(super) fn forget_all(&self, meant: impl Fn(&K, &V) -> bool) {
        for (key, _) in self.0.iter().filter(|(key, value)| meant(key, value)) {
            self.0.invalidate(&*key);
        }
    }
}

/// Frees the memory of tokens that have died. Its clock stops while the machine sleeps, so it may be late: that costs
/// memory, never correctness.
struct UntilDead;

impl Expiry<TokenKey, Arc<Slot>> for UntilDead {
    fn expire_after_create(&self, _: &TokenKey, slot: &Arc<Slot>, _: Instant) -> Option<Duration> {
        lifetime(slot)
    }

    fn expire_after_update(
        &self,
        _: &TokenKey,
        slot: &Arc<Slot>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        lifetime(slot)
    }
}

fn lifetime(slot: &Slot) -> Option<Duration> {
    slot.entries().map(|entry| entry.life.lifetime()).max()
}

fn size(slot: &Slot) -> u64 {
    slot.entries().map(|entry| entry_size(entry)).sum()
}

fn entry_size(entry: &Entry) -> u64 {
    let bytes = entry.bodies.json.len()
        + entry.bodies.text.len()
        + entry.token.secret.expose().len()
        + entry.token.json.expose().len();
    // The grant is in the JSON body once and beside it once more.
    (bytes + entry.bodies.json.len() + FIXED) as u64
}

/// An entry's own structs, its key, moka's book-keeping, and what the allocator adds: measured, not summed up.
const FIXED: usize = 3 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::freshness::Windows;
    use crate::clock::BootTime;
    use crate::model::{Grant, Minted, Secret};

    fn entry_of(lifetime: Duration, json: usize) -> Arc<Entry> {
        let secret = Secret::from("t".to_owned());
        let token = InstallationToken {
            secret,
            expires_at: String::new(),
            grant: Grant::default(),
            on_behalf_of: None,
            json: bytes::Bytes::new().into(),
        };
        let life = Life::of(&Minted {
            token: token.clone(),
            sent: BootTime::new(Duration::ZERO),
            landed: BootTime::new(Duration::ZERO),
            lifetime,
        });
        let bodies = Bodies { json: vec![0; json].into(), text: Bytes::new() };
        Arc::new(Entry { token, account: None, life, bodies, hash: TokenHash::new([0; 32]), rejected: false })
    }

    fn moment() -> Moment {
        let windows =
            Windows { renew_before: Duration::ZERO, min_validity: Duration::ZERO, grace: Duration::ZERO };
        Moment { now: BootTime::new(Duration::ZERO), windows, settle: Duration::from_secs(5) }
    }

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

    fn fill(cache: &TokenCache, count: u64, json: usize) {
        for installation in 1..=count {
            cache.put(key(installation), &entry_of(Duration::from_secs(3600), json), &moment());
            cache.len();
        }
    }

    #[test]
    fn no_more_than_the_configured_entries_stay_and_the_newest_do() {
        let cache = TokenCache::new(10, 64 * 1024 * 1024);
        fill(&cache, 30, 100);
        assert_eq!(cache.len(), 10);
        assert!(cache.get(&key(30)).is_some() && cache.get(&key(1)).is_none());
    }

    #[test]
    fn large_tokens_are_bounded_by_bytes() {
        let cache = TokenCache::new(1000, 64 * 1024);
        fill(&cache, 100, 8 * 1024);
        assert!((1..=4).contains(&cache.len()), "{}", cache.len());
        assert!(cache.get(&key(100)).is_some());
    }

    #[test]
    fn dropping_an_installation_leaves_the_others() {
        let cache = TokenCache::new(10, 1024 * 1024);
        fill(&cache, 3, 10);
        cache.put(of_app("other", 2), &entry_of(Duration::from_secs(3600), 10), &moment());
        cache.drop_all(|meant| *meant == key(2));
        assert!(cache.get(&key(2)).is_none() && cache.get(&key(1)).is_some() && cache.get(&key(3)).is_some());
        assert!(
            cache.get(&of_app("other", 2)).is_some(),
            "the same number in another app is another installation"
        );
    }
}
