//! Rejection: a caller says that a token no longer works, and when to believe it.
//!
//! GitHub answers 401 to good tokens now and then, and to new ones until its replicas know them, so what one
//! caller saw must not cause a storm of mints.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::broker::cache::token_cache::TokenCache;
use crate::broker::cache::token_hash::TokenHash;
use crate::clock::BootTime;
use crate::model::TokenKey;

/// What becomes of a rejected token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It is out of service: the next request mints.
    Evicted,
    /// It stays in service; the caller may reject it again after this time.
    Kept(Duration),
    /// It is not in service.
    Unknown,
}

/// Takes rejected tokens out of service.
pub(crate) struct Rejecter {
    pub(crate) tokens: Arc<TokenCache>,
    pub(crate) limiter: Mutex<RejectLimiter>,
}

impl Rejecter {
    /// Takes a token out of service that no longer works for a caller, if the limits allow it.
    pub(crate) fn reject(&self, hash: TokenHash) -> Rejection {
        let at = self.tokens.as_of();
        let Some((key, pair)) = self.tokens.find(hash, &at) else { return Rejection::Unknown };
        let Some(entry) = pair.find_served(hash, &at) else { return Rejection::Unknown };
        let mut limiter = self.limiter.lock();
        if entry.rejected {
            return Rejection::Kept(limiter.wait(&key, at.now));
        }
        let settle = entry.life.settle_time(at.settle);
        let rejection = limiter.decide(&key, entry.life.age_since_received(at.now), settle, at.now);
        if rejection == Rejection::Evicted {
            tracing::info!(app = %key.app, installation = key.installation.get(), hashed_token = %hash, "token rejected by caller");
            self.tokens.reject(&key, hash, &at);
        }
        rejection
    }
}

/// Accepts few rejections: those of the last minute.
#[derive(Debug, Default)]
pub(crate) struct RejectLimiter(VecDeque<(TokenKey, BootTime)>);

impl RejectLimiter {
    /// How long, at `now`, to keep a token of `key` that is out of service already: until a rejection of the next one
    /// would be accepted.
    fn wait(&self, key: &TokenKey, now: BootTime) -> Duration {
        let accepted = self.0.iter().rev().find(|(accepted, _)| accepted == key);
        let left = accepted.map(|(_, at)| LIMIT_PERIOD.saturating_sub(now.since(*at)));
        left.filter(|left| !left.is_zero()).unwrap_or(LIMIT_PERIOD)
    }

    /// Whether to accept, at `now`, that the token of `key` was rejected, which is `age` old.
    fn decide(&mut self, key: &TokenKey, age: Duration, settle: Duration, now: BootTime) -> Rejection {
        self.0.retain(|(_, at)| now.since(*at) < LIMIT_PERIOD);
        let left = |at: BootTime| LIMIT_PERIOD.saturating_sub(now.since(at));
        if age <= settle {
            return Rejection::Kept(settle.saturating_sub(age));
        }
        if let Some((_, at)) = self.0.iter().rev().find(|(accepted, _)| accepted == key) {
            return Rejection::Kept(left(*at));
        }
        match self.0.front() {
            Some((_, oldest)) if self.0.len() >= MAX_PER_LIMIT_PERIOD => Rejection::Kept(left(*oldest)),
            _ => {
                self.0.push_back((key.clone(), now));
                Rejection::Evicted
            }
        }
    }
}

const LIMIT_PERIOD: Duration = Duration::from_secs(60);
const MAX_PER_LIMIT_PERIOD: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AppName, InstallationId};

    const SETTLE: Duration = Duration::from_secs(5);
    const OLD: Duration = Duration::from_secs(600);

    fn key(installation: u64) -> TokenKey {
        let installation = InstallationId::new(installation).unwrap();
        TokenKey { app: AppName::default(), installation, user: None, scope: Arc::default() }
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    #[test]
    fn a_token_that_has_not_settled_is_kept_until_it_has() {
        let mut limiter = RejectLimiter::default();
        let verdict = limiter.decide(&key(1), Duration::from_secs(2), SETTLE, at(0));
        assert_eq!(verdict, Rejection::Kept(Duration::from_secs(3)));
        assert_eq!(limiter.decide(&key(1), Duration::from_secs(6), SETTLE, at(4)), Rejection::Evicted);
    }

    #[test]
    fn a_key_is_evicted_once_a_minute() {
        let mut limiter = RejectLimiter::default();
        assert_eq!(limiter.decide(&key(1), OLD, SETTLE, at(0)), Rejection::Evicted);
        assert_eq!(limiter.decide(&key(1), OLD, SETTLE, at(20)), Rejection::Kept(Duration::from_secs(40)));
        assert_eq!(limiter.decide(&key(2), OLD, SETTLE, at(20)), Rejection::Evicted);
        assert_eq!(limiter.decide(&key(1), OLD, SETTLE, at(60)), Rejection::Evicted);
    }

    #[test]
    fn ten_are_evicted_in_a_minute_in_all() {
        let mut limiter = RejectLimiter::default();
        for installation in 1..=10 {
            assert_eq!(limiter.decide(&key(installation), OLD, SETTLE, at(installation)), Rejection::Evicted);
        }
        assert_eq!(limiter.decide(&key(11), OLD, SETTLE, at(11)), Rejection::Kept(Duration::from_secs(50)));
        assert_eq!(limiter.decide(&key(11), OLD, SETTLE, at(61)), Rejection::Evicted);
    }
}
