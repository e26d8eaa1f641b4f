//! The cached tokens as operators are shown them.

use std::sync::Arc;
use std::time::Duration;

use super::cache::as_of::AsOf;
use super::cache::entry::Entry;
use super::cache::token_cache::TokenCache;
use super::freshness::State;
use crate::model::TokenKey;

/// A cached token.
#[derive(Debug, Clone)]
pub struct CachedTokenInfo {
    /// Which one.
    pub key: TokenKey,
    /// The token in service.
    pub entry: Arc<Entry>,
    /// How good it is.
    pub state: State,
    /// What is left of its life.
    pub remaining: Duration,
    /// The one that will take its place.
    pub successor: Option<Settling>,
}

/// A renewed token that waits until GitHub's replicas know it.
#[derive(Debug, Clone)]
pub struct Settling {
    /// The token.
    pub entry: Arc<Entry>,
    /// After what time it enters service at the latest.
    pub wait: Duration,
}

/// The cached keys whose tokens expire first, at most `limit`, in this order, and how many there are in all.
pub(super) fn soonest_expiring(
    tokens: &TokenCache,
    limit: usize,
    at: &AsOf,
) -> (Vec<CachedTokenInfo>, usize) {
    let (hits, total) = tokens.soonest_expiring(limit, at);
    let infos = hits.into_iter().map(|(key, pair)| {
        let entry = Arc::clone(pair.in_service(at));
        let settling = |(entry, wait): (&Arc<Entry>, _)| Settling { entry: Arc::clone(entry), wait };
        let (state, remaining) = (at.state(&entry), entry.life.remaining(at.now));
        CachedTokenInfo { key, entry, state, remaining, successor: pair.settling(at).map(settling) }
    });
    let mut infos: Vec<_> = infos.collect();
    // A key is found by the expiry of its last token, and shown with the one that is in service.
    infos.sort_by_key(|info| info.remaining);
    (infos, total)
}
