//! Which token a caller gets: from the cache, from a mint, or none. Pure, and the only place that decides it.

use std::sync::Arc;
use std::time::Duration;

use super::cache::as_of::AsOf;
use super::cache::entry::Entry;
use super::cache::token_pair::TokenPair;
use super::error::Error;
use super::freshness::State;
use super::request::Origin;
use super::requirement::Requirement;

/// What a mint brings: a token that is cached now, or why there is none.
pub(super) type MintResult = Result<Arc<Entry>, Error>;

/// What a caller gets, or what has to be done first.
#[derive(Debug)]
pub(super) enum Decision {
    /// This token.
    Serve(Served),
    /// This token, and a new one is minted in the background.
    ServeAndRefresh(Served),
    /// It waits for a mint, and the decision is made again with what that brings.
    Mint,
    /// No token.
    Fail(Error),
}

/// The token that a caller gets.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) entry: Arc<Entry>,
    pub(super) state: State,
    pub(super) origin: Origin,
}

/// What a caller's token is chosen by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Criteria {
    pub(super) requirement: Requirement,
    /// The longest life that can be asked for.
    pub(super) longest_min_ttl: Duration,
}

impl Criteria {
    /// What no mint can fulfil fails before GitHub is asked for anything.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.requirement {
            Requirement::MinTtl(life) if life > self.longest_min_ttl => {
                Err(Error::min_ttl_too_long(self.longest_min_ttl))
            }
            _ => Ok(()),
        }
    }

    /// What the caller gets, where `pair` is cached now and `mints` is what the mints brought that were made for it.
    pub(super) fn decide(&self, pair: Option<&TokenPair>, mints: &[MintResult], at: &AsOf) -> Decision {
        match mints {
            [] => self.decide_cached(pair, at),
            [first] if self.is_overtaken(first, at) => Decision::Mint,
            [.., Ok(entry)] => self.decide_minted(entry, at),
            [.., Err(error)] => self.decide_fallback(pair, error, at),
        }
    }

    fn decide_cached(&self, pair: Option<&TokenPair>, at: &AsOf) -> Decision {
        let found = pair.and_then(|pair| Some((pair, pair.fresh_enough(self.requirement, at)?)));
        let Some((pair, entry)) = found else { return Decision::Mint };
        let is_due = at.now >= entry.renew_at && pair.settling(at).is_none();
        let served = Served::new(entry, Origin::Cached, at);
        if is_due { Decision::ServeAndRefresh(served) } else { Decision::Serve(served) }
    }

    /// Whether what the first mint brought was out of date when it came: by a webhook meanwhile, by a machine that slept,
    /// or by time, the call having begun long before this caller joined it.
    fn is_overtaken(&self, mint: &MintResult, at: &AsOf) -> bool {
        match mint {
            Ok(entry) => {
                let is_recent = self.requirement == Requirement::RecentlyMinted;
                entry.rejected || (is_recent && entry.life.age(at.now) >= MAX_MINT_AGE)
            }
            Err(error) => matches!(error, Error::InvalidatedWhileMinting),
        }
    }

    /// A caller that waited for a mint gets what that brought, however short its life: no other token is newer.
    fn decide_minted(&self, entry: &Arc<Entry>, at: &AsOf) -> Decision {
        let remaining = entry.life.remaining(at.now);
        Decision::Fail(match self.requirement {
            _ if at.is_expired(entry) => Error::expired_before_use(),
            Requirement::RecentlyMinted if entry.rejected => Error::InvalidatedWhileMinting,
            Requirement::MinTtl(life) if remaining < life => {
                Error::min_ttl_too_long(self.longest_min_ttl.min(remaining))
            }
            _ => return Decision::Serve(Served::new(Arc::clone(entry), Origin::Minted, at)),
        })
    }

    /// What is left to hand out, no new token being minted because of `error`. `pair` is as it is after the mint: its
    /// tokens may have been dropped, or have expired, meanwhile.
    fn decide_fallback(&self, pair: Option<&TokenPair>, error: &Error, at: &AsOf) -> Decision {
        let fallback = |requirement| pair.and_then(|pair| pair.fallback(requirement, at));
        // A caller that keeps its token for long gets an older one if only our own budget prevents a mint.
        let kept = || fallback(Requirement::MinTtl(MIN_KEPT_LIFE)).filter(|entry| !entry.rejected);
        let kept =
            (self.requirement == Requirement::RecentlyMinted && error.is_budget()).then(kept).flatten();
        if let Some(entry) = fallback(self.requirement).or(kept) {
            return Decision::Serve(Served::new(entry, Origin::Cached, at));
        }
        Decision::Fail(match (self.requirement, fallback(Requirement::Any)) {
            (Requirement::MinTtl(_), Some(entry)) => Error::MinTtlUnavailable {
                because: Box::new(error.clone()),
                remaining: entry.life.remaining(at.now),
            },
            _ => error.clone(),
        })
    }
}

/// The token that makes a mint needless: the mint before it landed between its caller's look into the cache and its
/// joining. A mint that no caller waits for is needless too while a renewed token settles.
pub(super) fn just_minted<'a>(pair: &'a TokenPair, is_background: bool, at: &AsOf) -> Option<&'a Arc<Entry>> {
    let newest = pair.newest();
    let is_just_minted = at.state(newest) == State::Fresh && newest.life.is_just_minted(at.now);
    (is_just_minted || (is_background && pair.settling(at).is_some())).then_some(newest)
}

impl Served {
    fn new(entry: Arc<Entry>, origin: Origin, at: &AsOf) -> Self {
        Self { state: at.state(&entry), entry, origin }
    }
}

/// Of an hour, as SDKs take for granted.
const MIN_KEPT_LIFE: Duration = Duration::from_secs(50 * 60);
/// A mint that was sent so long ago is too old for a caller that keeps its token for 59 minutes.
const MAX_MINT_AGE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::cache::token_hash::TokenHash;
    use crate::broker::cache::token_pair::tests::{as_of, entry, single};
    use crate::clock::BootTime;
    use crate::github::{Failure, Kind};

    const ANY: Requirement = Requirement::Any;
    const RECENT: Requirement = Requirement::RecentlyMinted;

    fn min_ttl(seconds: u64) -> Requirement {
        Requirement::MinTtl(Duration::from_secs(seconds))
    }

    /// An hour's token of second 0, and beside it one that was minted at second `renewed`.
    fn pair(renewed: Option<u64>) -> TokenPair {
        let pair = single(entry(1, 0, 3600), BootTime::new(Duration::ZERO));
        match renewed {
            Some(sent) => pair.with_renewed(entry(2, sent, 3600), &as_of(sent)),
            None => pair,
        }
    }

    fn rejected(pair: &TokenPair, now: u64) -> TokenPair {
        pair.after_reject(entry(1, 0, 1).hash, &as_of(now))
    }

    fn rejected_entry() -> MintResult {
        Ok(Arc::new(Entry { rejected: true, ..(*entry(3, 0, 3600)).clone() }))
    }

    fn failed(kind: Kind) -> MintResult {
        Err(Error::Github(Failure::new(kind, "failed")))
    }

    /// As text: `1 fresh`, the number of the token and its state; `mint`; or the error.
    fn decision(
        requirement: Requirement,
        pair: Option<&TokenPair>,
        mints: &[MintResult],
        now: u64,
    ) -> String {
        let criteria = Criteria { requirement, longest_min_ttl: Duration::from_secs(3000) };
        let served = |served: Served| {
            let number = (1..=4).find(|number| TokenHash::new([*number; 32]) == served.entry.hash).unwrap();
            let minted = if served.origin == Origin::Minted { ", minted" } else { "" };
            format!("{number} {}{minted}", served.state.as_str())
        };
        match criteria.decide(pair, mints, &as_of(now)) {
            Decision::Serve(entry) => served(entry),
            Decision::ServeAndRefresh(entry) => format!("{}, refresh", served(entry)),
            Decision::Mint => "mint".to_owned(),
            Decision::Fail(error) => error.to_string(),
        }
    }

    #[test]
    fn cached_token_is_served_while_it_meets_the_requirement() {
        let (alone, renewed) = (pair(None), pair(Some(3000)));
        for (requirement, pair, now, expected) in [
            (ANY, None, 0, "mint"),
            (ANY, Some(&alone), 2998, "1 fresh"),
            (ANY, Some(&alone), 2999, "1 renewing, refresh"),
            (ANY, Some(&alone), 3299, "1 renewing, refresh"),
            (ANY, Some(&alone), 3300, "mint"),
            (ANY, Some(&alone), 3600, "mint"),
            (ANY, Some(&rejected(&alone, 10)), 10, "mint"),
            (RECENT, Some(&alone), 59, "1 fresh"),
            (RECENT, Some(&alone), 60, "mint"),
            (min_ttl(1000), Some(&alone), 2599, "1 fresh"),
            (min_ttl(1000), Some(&alone), 2600, "mint"),
            // While the renewed token settles, the old one serves whom it satisfies.
            (ANY, Some(&renewed), 3004, "1 renewing"),
            (RECENT, Some(&renewed), 3004, "2 fresh"),
            (min_ttl(1000), Some(&renewed), 3004, "2 fresh"),
            (ANY, Some(&renewed), 3005, "2 fresh"),
        ] {
            assert_eq!(decision(requirement, pair, &[], now), expected, "{requirement:?} at {now}");
        }
    }

    #[test]
    fn short_lived_mint_fails_the_requirement() {
        let short = || Ok(entry(4, 0, 120));
        for (requirement, mints, now, expected) in [
            (ANY, vec![Ok(entry(3, 0, 3600))], 1, "3 fresh, minted"),
            (ANY, vec![Ok(entry(3, 0, 3600))], 3400, "3 stale, minted"),
            (RECENT, vec![Ok(entry(3, 0, 3600))], 59, "3 fresh, minted"),
            (RECENT, vec![Ok(entry(3, 0, 3600))], 60, "mint"),
            (RECENT, vec![Ok(entry(3, 0, 3600)); 2], 60, "3 fresh, minted"),
            (ANY, vec![rejected_entry()], 1, "mint"),
            (ANY, vec![rejected_entry(), rejected_entry()], 1, "3 stale, minted"),
            (ANY, vec![Err(Error::InvalidatedWhileMinting), Ok(entry(3, 0, 3600))], 1, "3 fresh, minted"),
            (min_ttl(60), vec![short()], 59, "4 fresh, minted"),
        ] {
            assert_eq!(
                decision(requirement, None, &mints, now),
                expected,
                "{requirement:?} {mints:?} at {now}"
            );
        }
        let fails = |requirement, mints: &[MintResult], now, expected: &str| {
            let decision = decision(requirement, None, mints, now);
            assert!(decision.contains(expected), "{decision}");
        };
        fails(ANY, &[short()], 120, "took longer than the token lives");
        fails(RECENT, &[rejected_entry(), rejected_entry()], 1, "invalidated by a webhook");
        fails(min_ttl(60), &[short()], 79, "ask for 40s at most");
        fails(min_ttl(4000), &[Ok(entry(3, 0, 3600))], 1, "ask for 50m at most");
    }

    #[test]
    fn failed_mint_falls_back_to_cached_token() {
        let (alone, down) = (pair(None), || vec![failed(Kind::Unavailable)]);
        let budget = || vec![failed(Kind::BudgetSpent)];
        for (requirement, pair, mints, now, expected) in [
            (ANY, None, down(), 3400, "failed"),
            (ANY, Some(&alone), down(), 3400, "1 stale"),
            (ANY, Some(&alone), down(), 3600, "failed"),
            (ANY, Some(&rejected(&alone, 10)), down(), 10, "1 stale"),
            (ANY, Some(&alone), vec![Err(Error::InvalidatedWhileMinting)], 3400, "mint"),
            (ANY, Some(&alone), vec![Err(Error::InvalidatedWhileMinting); 2], 3400, "1 stale"),
            (RECENT, Some(&alone), down(), 100, "failed"),
            // Only our own budget prevents a mint: fifty minutes are enough.
            (RECENT, Some(&alone), budget(), 599, "1 fresh"),
            (RECENT, Some(&alone), budget(), 600, "failed"),
            (RECENT, Some(&rejected(&alone, 10)), budget(), 10, "failed"),
            (min_ttl(1000), Some(&alone), down(), 2599, "1 fresh"),
            (
                min_ttl(1000),
                Some(&alone),
                down(),
                2699,
                "failed; the cached token lives 15m more: ask for less with min_ttl=, or leave it out",
            ),
        ] {
            assert_eq!(
                decision(requirement, pair, &mints, now),
                expected,
                "{requirement:?} {mints:?} at {now}"
            );
        }
    }

    #[test]
    fn min_ttl_beyond_every_token_fails_before_a_mint() {
        let check = |requirement| Criteria { requirement, longest_min_ttl: Duration::from_secs(50) }.check();
        assert!(check(min_ttl(50)).is_ok() && check(ANY).is_ok() && check(RECENT).is_ok());
        assert_eq!(check(min_ttl(51)), Err(Error::min_ttl_too_long(Duration::from_secs(50))));
    }

    #[test]
    fn token_that_just_landed_makes_a_mint_needless() {
        for (pair, is_background, now, expected) in [
            (pair(None), false, 59, true),
            (pair(None), false, 60, false),
            (pair(Some(3000)), false, 3059, true),
            (pair(Some(3000)), true, 3004, true),
            (pair(Some(3000)), true, 3060, false),
            (rejected(&pair(None), 10), false, 10, false),
        ] {
            assert_eq!(just_minted(&pair, is_background, &as_of(now)).is_some(), expected, "{now}");
        }
    }
}
