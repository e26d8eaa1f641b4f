//! The tokens of one key: the one in service, and the renewed one that will take its place. Pure.
//!
//! GitHub's replicas lag, so that a token that has just been minted may be refused where it is used. That is why a
//! renewed one first waits: until it is `cache.settle` old, or the old one is stale.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::as_of::AsOf;
use super::entry::Entry;
use super::schedule::PairId;
use super::token_hash::TokenHash;
use super::usage::Usage;
use crate::broker::freshness::Windows;
use crate::broker::invalidation_log::{Sequence, Validity};
use crate::broker::requirement::Requirement;
use crate::clock::BootTime;

/// A key's tokens. Replaced as a whole when one of them is; only their usage changes in place.
#[derive(Debug, Clone)]
pub(crate) struct TokenPair {
    id: PairId,
    current: Arc<Entry>,
    next: Option<Arc<Entry>>,
    /// How the key is used, whichever tokens it has.
    pub(crate) usage: Arc<Usage>,
    checked: Checked,
}

/// Up to which sequence number invalidations have been applied.
#[derive(Debug)]
struct Checked(AtomicU64);

impl Clone for Checked {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Acquire)))
    }
}

/// What invalidations have left of a pair.
#[derive(Debug)]
pub(crate) enum Validated {
    /// All of it, as it is.
    Unchanged,
    /// Another one.
    Changed(TokenPair),
    /// Nothing.
    Revoked,
}

impl TokenPair {
    /// The first token of a key, asked for at `now`.
    pub(crate) fn new(id: PairId, entry: Arc<Entry>, now: BootTime) -> Self {
        let usage = Arc::new(Usage::new(now));
        Self { id, current: entry, next: None, usage, checked: Checked(AtomicU64::new(0)) }
    }

    /// Its number in the indexes.
    pub(crate) fn id(&self) -> PairId {
        self.id
    }

    /// The token in service: the renewed one as soon as it has settled, or the old one is stale.
    pub(crate) fn in_service(&self, at: &AsOf) -> &Arc<Entry> {
        match &self.next {
            Some(new)
                if !at.is_expired(new)
                    && (at.settles_in(new).is_zero() || !at.is_servable(&self.current)) =>
            {
                new
            }
            _ => &self.current,
        }
    }

    /// The renewed token that is not in service yet, and after what time it is.
    pub(crate) fn settling(&self, at: &AsOf) -> Option<(&Arc<Entry>, Duration)> {
        let new = self.next.as_ref().filter(|new| !Arc::ptr_eq(new, self.in_service(at)))?;
        Some((new, at.settles_in(new)))
    }

    /// The token that a caller gets without asking GitHub.
    pub(crate) fn fresh_enough(&self, requirement: Requirement, at: &AsOf) -> Option<Arc<Entry>> {
        self.candidates(at).find(|entry| at.is_servable(entry) && at.satisfies(entry, requirement)).cloned()
    }

    /// The token that a caller gets if no better one can be minted.
    pub(crate) fn fallback(&self, requirement: Requirement, at: &AsOf) -> Option<Arc<Entry>> {
        self.candidates(at).find(|entry| !at.is_expired(entry) && at.satisfies(entry, requirement)).cloned()
    }

    /// The token that was minted last.
    pub(crate) fn newest(&self) -> &Arc<Entry> {
        self.next.as_ref().unwrap_or(&self.current)
    }

    /// The token with this hash, if it is one that callers have.
    pub(crate) fn find_served(&self, hash: TokenHash, at: &AsOf) -> Option<&Arc<Entry>> {
        self.candidates(at).find(|entry| entry.hash == hash && !at.is_expired(entry))
    }

    /// Whether a token with this hash is here, in service or not.
    pub(crate) fn contains(&self, hash: TokenHash) -> bool {
        self.current.hash == hash || self.next.as_ref().is_some_and(|new| new.hash == hash)
    }

    /// When none of its tokens can be handed out any more.
    pub(crate) fn expiry(&self, windows: &Windows) -> BootTime {
        let expiries = self.entries().map(|entry| entry.life.expiry(windows));
        expiries.max().unwrap_or(BootTime::new(Duration::ZERO))
    }

    /// When it is to be looked at next, if it is in use: its next token enters service, or its current one is due for
    /// renewal.
    pub(crate) fn next_event(&self, at: &AsOf) -> BootTime {
        if let Some((_, wait)) = self.settling(at) {
            return at.now.plus(wait).min(self.current.life.stale_from(&at.windows));
        }
        let entry = self.in_service(at);
        if entry.rejected { self.expiry(&at.windows) } else { entry.renew_at }
    }

    /// Whether nothing was invalidated since it was last checked: `latest` is the latest number.
    pub(crate) fn is_checked(&self, latest: Sequence) -> bool {
        self.checked.0.load(Ordering::Acquire) == latest.get()
    }

    /// Notes that its tokens are as valid as they say, up to this number.
    pub(crate) fn set_checked(&self, latest: Sequence) {
        self.checked.0.store(latest.get(), Ordering::Release);
    }

    /// What is left of it. Tokens that are revoked are gone; of those that are stale the newest stays as fallback, and one
    /// whose mint began later takes its place at once.
    pub(crate) fn validated(&self, validity: impl Fn(&Entry) -> Validity, at: &AsOf) -> Validated {
        let judged: Vec<_> = self.entries().map(|entry| (entry, validity(entry))).collect();
        let is_new = |(entry, validity): &(&Arc<Entry>, Validity)| match validity {
            Validity::Valid => false,
            Validity::Stale => !entry.rejected,
            Validity::Revoked => true,
        };
        if !judged.iter().any(is_new) {
            return Validated::Unchanged;
        }
        let is_stale = judged.iter().any(|(_, validity)| *validity == Validity::Stale);
        let left = judged.into_iter().filter(|(_, validity)| *validity != Validity::Revoked);
        let left: Vec<_> = left.collect();
        let newest = left.iter().rfind(|(entry, _)| !at.is_expired(entry)).or(left.last());
        let Some((newest, validity)) = newest else { return Validated::Revoked };
        if !is_stale {
            let current = left.first().map_or_else(|| Arc::clone(newest), |(entry, _)| Arc::clone(entry));
            let next = left.get(1).map(|(entry, _)| Arc::clone(entry));
            return Validated::Changed(Self { current, next, ..self.clone() });
        }
        let current = match validity {
            Validity::Stale => Arc::new(Entry { rejected: true, ..(***newest).clone() }),
            _ => Arc::clone(newest),
        };
        Validated::Changed(Self { current, next: None, ..self.clone() })
    }

    /// After a mint: the new token waits while the one in service is good, else it takes its place.
    pub(crate) fn with_renewed(&self, minted: Arc<Entry>, at: &AsOf) -> Self {
        let old = self.in_service(at);
        if at.is_servable(old) {
            return Self { current: Arc::clone(old), next: Some(minted), ..self.clone() };
        }
        Self { current: minted, next: None, ..self.clone() }
    }

    /// Without the token that has been replaced. `None`: none has.
    pub(crate) fn without_superseded(&self, at: &AsOf) -> Option<Self> {
        let in_service = self.in_service(at);
        let replaced = !Arc::ptr_eq(in_service, &self.current);
        replaced.then(|| Self { current: Arc::clone(in_service), next: None, ..self.clone() })
    }

    /// After callers have shown that a token no longer works: the renewed one is in service at once. Without one, the
    /// token stays as fallback.
    pub(crate) fn after_reject(&self, hash: TokenHash, at: &AsOf) -> Self {
        let pair = self.without_superseded(at).unwrap_or_else(|| self.clone());
        match &pair.next {
            None if pair.current.hash == hash => {
                let rejected = Entry { rejected: true, ..(*pair.current).clone() };
                Self { current: Arc::new(rejected), ..pair }
            }
            _ => pair.without_token(hash).unwrap_or(pair),
        }
    }

    /// Without the token that has this hash; `None` if it was the only one.
    pub(crate) fn without_token(&self, hash: TokenHash) -> Option<Self> {
        match &self.next {
            Some(new) if new.hash == hash => Some(Self { next: None, ..self.clone() }),
            Some(new) if self.current.hash == hash => {
                Some(Self { current: Arc::clone(new), next: None, ..self.clone() })
            }
            None if self.current.hash == hash => None,
            _ => Some(self.clone()),
        }
    }

    /// All tokens here, also one that has been replaced.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        std::iter::once(&self.current).chain(&self.next)
    }

    /// Whether no token is left that may be handed out.
    pub(crate) fn is_expired(&self, at: &AsOf) -> bool {
        self.candidates(at).all(|entry| at.is_expired(entry))
    }

    /// The tokens that may be handed out, the one in service first.
    fn candidates(&self, at: &AsOf) -> impl Iterator<Item = &Arc<Entry>> {
        let settling = self.settling(at).map(|(entry, _)| entry);
        std::iter::once(self.in_service(at)).chain(settling)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::broker::Bodies;
    use crate::broker::freshness::Life;
    use crate::model::{Grant, InstallationToken, Minted, Secret};

    /// A token with this hash, sent for at second `sent`, with a lifetime in seconds.
    pub(crate) fn entry(hash: u8, sent: u64, lifetime: u64) -> Arc<Entry> {
        let token = InstallationToken {
            secret: Secret::from("t".to_owned()),
            expires_at: String::new(),
            grant: Grant::default(),
            on_behalf_of: None,
            json: bytes::Bytes::new().into(),
        };
        let (sent, lifetime) = (BootTime::new(Duration::from_secs(sent)), Duration::from_secs(lifetime));
        let life = Life::of(&Minted { token: token.clone(), sent, landed: sent, lifetime });
        let bodies = Bodies { json: Bytes::new(), text: Bytes::new() };
        Arc::new(Entry {
            token,
            account: None,
            life,
            bodies,
            hash: TokenHash::new([hash; 32]),
            rejected: false,
            began: Sequence::default(),
            renew_at: renew_at(&life),
        })
    }

    /// When the timer renews it, without jitter.
    fn renew_at(life: &Life) -> BootTime {
        life.at_remaining(as_of(0).windows.renew_before.min(life.lifetime() / 3))
    }

    /// A key with this token alone.
    pub(crate) fn single(entry: Arc<Entry>, now: BootTime) -> TokenPair {
        TokenPair::new(PairId(1), entry, now)
    }

    /// With the default windows.
    pub(crate) fn as_of(now: u64) -> AsOf {
        let windows = Windows {
            renew_before: Duration::from_secs(600),
            min_validity: Duration::from_secs(300),
            grace: Duration::from_secs(30),
        };
        AsOf { now: BootTime::new(Duration::from_secs(now)), windows, settle: Duration::from_secs(5) }
    }

    fn hash(entry: Option<Arc<Entry>>) -> Option<TokenHash> {
        entry.map(|entry| entry.hash)
    }

    fn is(hash: u8) -> Option<TokenHash> {
        Some(TokenHash::new([hash; 32]))
    }

    /// An old token, and one that was minted at second 3000 of its life.
    fn renewed() -> TokenPair {
        single(entry(1, 0, 3600), BootTime::new(Duration::ZERO))
            .with_renewed(entry(2, 3000, 3600), &as_of(3000))
    }

    #[test]
    fn the_old_one_serves_until_the_new_one_has_settled() {
        let pair = renewed();
        for (now, expected) in [(3000, 1), (3004, 1), (3005, 2), (6000, 2)] {
            assert_eq!(hash(pair.fresh_enough(Requirement::Any, &as_of(now))), is(expected), "{now}");
            assert_eq!(pair.settling(&as_of(now)).is_some(), expected == 1);
            assert_eq!(pair.without_superseded(&as_of(now)).is_some(), expected == 2);
        }
    }

    #[test]
    fn unsettled_token_served_when_current_too_old() {
        let pair = renewed();
        let at = as_of(3001);
        assert_eq!(hash(pair.fresh_enough(Requirement::MinTtl(Duration::from_secs(590)), &at)), is(1));
        assert_eq!(hash(pair.fresh_enough(Requirement::MinTtl(Duration::from_secs(600)), &at)), is(2));
        assert_eq!(hash(pair.fresh_enough(Requirement::MinTtl(Duration::from_secs(3599)), &at)), None);
        assert_eq!(hash(pair.fresh_enough(Requirement::RecentlyMinted, &at)), is(2));
        assert_eq!(hash(pair.fresh_enough(Requirement::RecentlyMinted, &as_of(3060))), None);
    }

    #[test]
    fn a_token_that_does_not_serve_is_replaced_fresh_enough() {
        for now in [3301, 3590, 4000] {
            let pair = single(entry(1, 0, 3600), BootTime::new(Duration::ZERO));
            let pair = pair.with_renewed(entry(2, now, 3600), &as_of(now));
            assert_eq!(
                (hash(pair.fresh_enough(Requirement::Any, &as_of(now))), pair.entries().count()),
                (is(2), 1),
                "{now}"
            );
        }
        let pair = single(entry(1, 0, 3600), BootTime::new(Duration::ZERO));
        let at = as_of(3000);
        let rejected = pair.after_reject(entry(1, 0, 1).hash, &at);
        assert_eq!(
            (
                hash(rejected.fresh_enough(Requirement::Any, &at)),
                hash(rejected.fallback(Requirement::Any, &at))
            ),
            (None, is(1))
        );
        assert_eq!(
            hash(rejected.with_renewed(entry(2, 3000, 3600), &at).fresh_enough(Requirement::Any, &at)),
            is(2)
        );
    }

    #[test]
    fn rejection_promotes_the_settling_token() {
        let pair = renewed();
        let [old, new] = [1, 2].map(|hash| TokenHash::new([hash; 32]));
        assert_eq!(
            hash(pair.after_reject(old, &as_of(3001)).fresh_enough(Requirement::Any, &as_of(3001))),
            is(2)
        );
        assert_eq!(
            hash(pair.after_reject(new, &as_of(3001)).fresh_enough(Requirement::Any, &as_of(3001))),
            is(1)
        );
        // Once it has settled, the old one is no way back.
        let rejected = pair.after_reject(new, &as_of(3010));
        assert_eq!(hash(rejected.fresh_enough(Requirement::Any, &as_of(3010))), None);
        assert_eq!(hash(rejected.fallback(Requirement::Any, &as_of(3010))), is(2));
        assert_eq!(
            hash(pair.after_reject(old, &as_of(3010)).fresh_enough(Requirement::Any, &as_of(3010))),
            is(2)
        );
        assert!(
            pair.find_served(old, &as_of(3010)).is_none() && pair.find_served(new, &as_of(3001)).is_some()
        );
        assert!(pair.without_token(old).and_then(|pair| pair.without_token(new)).is_none());
    }

    /// What is left once tokens 1 and 2 are worth so much.
    fn left(pair: &TokenPair, worth: [Validity; 2], now: u64) -> Option<TokenPair> {
        let validity = |entry: &Entry| if Some(entry.hash) == is(1) { worth[0] } else { worth[1] };
        match pair.validated(validity, &as_of(now)) {
            Validated::Unchanged => Some(pair.clone()),
            Validated::Changed(pair) => Some(pair),
            Validated::Revoked => None,
        }
    }

    #[test]
    fn stale_slot_keeps_youngest_live_token_as_fallback() {
        let stale = left(&renewed(), [Validity::Stale; 2], 3001).unwrap();
        assert_eq!(hash(stale.fresh_enough(Requirement::Any, &as_of(3001))), None);
        assert_eq!(
            (hash(stale.fallback(Requirement::Any, &as_of(3001))), stale.entries().count()),
            (is(2), 1)
        );
        let again = stale.validated(|_| Validity::Stale, &as_of(3002));
        assert!(matches!(again, Validated::Unchanged), "once is enough");
        let short = single(entry(1, 0, 3600), BootTime::new(Duration::ZERO));
        let short = left(&short.with_renewed(entry(2, 60, 2), &as_of(60)), [Validity::Stale; 2], 63).unwrap();
        assert_eq!(hash(short.fallback(Requirement::Any, &as_of(63))), is(1), "the other one has expired");
    }

    #[test]
    fn successor_minted_after_invalidation_serves_fresh_enough() {
        for old in [Validity::Stale, Validity::Revoked] {
            let pair = left(&renewed(), [old, Validity::Valid], 3000).unwrap();
            assert_eq!(hash(pair.fresh_enough(Requirement::Any, &as_of(3000))), is(2), "{old:?}");
            assert_eq!(pair.entries().count(), 1);
        }
    }

    #[test]
    fn revoked_tokens_leave_nothing() {
        assert!(left(&renewed(), [Validity::Revoked; 2], 3000).is_none());
        let pair = left(&renewed(), [Validity::Valid, Validity::Revoked], 3000).unwrap();
        assert_eq!(
            (hash(pair.fresh_enough(Requirement::Any, &as_of(3000))), pair.entries().count()),
            (is(1), 1)
        );
    }

    #[test]
    fn when_a_key_was_asked_for_outlives_its_tokens() {
        let pair = renewed();
        let later = pair.without_superseded(&as_of(3010)).unwrap();
        pair.usage.note_used(BootTime::new(Duration::from_secs(3011)));
        assert_eq!(later.usage.last_used(), BootTime::new(Duration::from_secs(3011)));
    }

    proptest! {
        #[test]
        fn every_live_token_is_served_until_it_expires(
            first in 2u64..7200, second in 2u64..7200, minted in 0u64..7200, now in 0u64..15_000, settle in 0u64..600,
        ) {
            let now = minted + now;
            let at = |now| AsOf { settle: Duration::from_secs(settle), ..as_of(now) };
            let pair = single(entry(1, 0, first), BootTime::new(Duration::ZERO));
            let pair = pair.with_renewed(entry(2, minted, second), &at(minted));
            let at = at(now);
            let is_unexpired = |entry: &Entry| !at.is_expired(entry);
            let fresh_enough = pair.fresh_enough(Requirement::Any, &at);
            let fallback = pair.fallback(Requirement::Any, &at);
            prop_assert!(fresh_enough.as_deref().is_none_or(|entry| at.is_servable(entry)));
            prop_assert!(fallback.as_deref().is_none_or(is_unexpired));
            prop_assert!(fresh_enough.is_none() || fallback.is_some());
            // What has not expired is served.
            let any = pair.entries().any(|entry| is_unexpired(entry));
            prop_assert_eq!(any, fallback.is_some());
        }
    }
}
