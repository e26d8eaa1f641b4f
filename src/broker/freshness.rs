//! Freshness of a token: fresh, renewing, stale or expired, a pure function of its life and the time.

use std::hash::Hash;
use std::time::Duration;

use crate::clock::BootTime;
use crate::jitter::jitter;
use crate::model::Minted;

/// The life of a token on the clock that neither jumps nor stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    began: BootTime,
    landed: BootTime,
    lifetime: Duration,
    deadline: BootTime,
}

impl Life {
    /// The life of a token that was asked for at `minted.sent`: it may have begun then, but not before.
    pub fn of(minted: &Minted) -> Self {
        let deadline = minted.sent.plus(minted.lifetime.saturating_sub(DATE_RESOLUTION));
        Self { began: minted.sent, landed: minted.landed, lifetime: minted.lifetime, deadline }
    }

    /// How long it was when it began.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// How old it is, at most.
    pub fn age(&self, now: BootTime) -> Duration {
        now.since(self.began)
    }

    /// How long ago it came: the call that brought it may have taken several tries.
    pub fn age_since_received(&self, now: BootTime) -> Duration {
        now.since(self.landed)
    }

    /// The age at which GitHub's replicas can be taken to know it: `settle`, at most a twelfth of its lifetime.
    pub fn settle_time(&self, settle: Duration) -> Duration {
        settle.min(self.lifetime / 12)
    }

    /// Whether it began within the last minute, or the last sixtieth of its lifetime if that is shorter.
    pub fn is_just_minted(&self, now: BootTime) -> bool {
        self.age(now) < JUST_MINTED.min(self.lifetime / 60)
    }

    /// The remaining life down to which it is fresh: `renew_before`, at most a third of its lifetime.
    pub fn renew_before(&self, windows: &Windows) -> Duration {
        windows.renew_before.min(self.lifetime / 3)
    }

    /// When the timer renews it: at 1.0 to 1.2 times [`Life::renew_before`], by `seed`, so that many tokens that were
    /// minted together are not renewed together.
    pub fn renew_at(&self, windows: &Windows, seed: &impl Hash) -> BootTime {
        self.at_remaining(self.renew_before(windows).mul_f64(1.0 + MAX_JITTER * jitter(seed)))
    }

    /// When only so much of it is left.
    pub fn at_remaining(&self, remaining: Duration) -> BootTime {
        self.began.plus(self.lifetime.saturating_sub(DATE_RESOLUTION).saturating_sub(remaining))
    }

    /// The first time at which it is [`State::Stale`] by `cache.min_validity`, or expired.
    pub fn stale_from(&self, windows: &Windows) -> BootTime {
        self.at_remaining(windows.min_validity.min(self.lifetime / 6)).plus(CLOCK_RESOLUTION)
    }

    /// The first time at which it is [`State::Expired`].
    pub fn expiry(&self, windows: &Windows) -> BootTime {
        self.at_remaining(windows.grace.min(self.lifetime / 12)).plus(CLOCK_RESOLUTION)
    }

    /// What is left of it.
    pub fn remaining(&self, now: BootTime) -> Duration {
        self.deadline.since(now)
    }
}

/// Remaining life at which something changes. Configured as `cache.renew_before`, `cache.min_validity` and
/// `cache.grace`.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// Down to here a token is fresh. Default 10 minutes, at most a third of the token's own lifetime.
    pub renew_before: Duration,
    /// Down to here it is handed out at once. Default 5 minutes, at most a sixth of the lifetime.
    pub min_validity: Duration,
    /// Down to here it is handed out if no new one can be minted. Default 30 seconds, at most a twelfth.
    pub grace: Duration,
}

/// How good a token is, by its remaining life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Handed out.
    Fresh,
    /// Handed out, while a new one is minted in the background.
    Renewing,
    /// Handed out only if no new one can be minted.
    Stale,
    /// Never handed out.
    Expired,
}

impl State {
    /// The value of `Ghtokend-Token-State`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Renewing => "renewing",
            Self::Stale => "stale",
            Self::Expired => "expired",
        }
    }
}

/// How good a token with this life is at `now`.
pub fn assess(life: &Life, now: BootTime, windows: &Windows) -> State {
    let remaining = life.remaining(now);
    if remaining.is_zero() {
        // Whatever the windows are: they may be configured down to nothing.
        State::Expired
    } else if remaining > life.renew_before(windows) {
        State::Fresh
    } else if remaining >= windows.min_validity.min(life.lifetime / 6) {
        State::Renewing
    } else if remaining >= windows.grace.min(life.lifetime / 12) {
        State::Stale
    } else {
        State::Expired
    }
}

/// The longest remaining life that a caller may ask for, where GitHub grants `lifetime`. What is left over keeps each
/// of such callers from causing a mint of its own.
pub fn longest_min_ttl(lifetime: Duration) -> Duration {
    lifetime * 5 / 6
}

/// Callers that keep a token for 59 minutes lose nothing by one that is a minute old.
const JUST_MINTED: Duration = Duration::from_secs(60);
/// `Date` and `expires_at` are whole seconds, so that the real end may be this much earlier.
const DATE_RESOLUTION: Duration = Duration::from_secs(1);

/// Time is not measured finer than this.
const CLOCK_RESOLUTION: Duration = Duration::from_nanos(1);
const MAX_JITTER: f64 = 0.2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOWS: Windows = Windows {
        renew_before: Duration::from_secs(600),
        min_validity: Duration::from_secs(300),
        grace: Duration::from_secs(30),
    };

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    fn life(lifetime: u64) -> Life {
        let lifetime = Duration::from_secs(lifetime);
        Life {
            began: at(1000),
            landed: at(1000),
            lifetime,
            deadline: at(1000).plus(lifetime - DATE_RESOLUTION),
        }
    }

    #[test]
    fn hour_is_fresh_then_renewing_then_stale_then_expired() {
        let deadline = 1000 + 3599;
        for (left, state) in [
            (3599, State::Fresh),
            (601, State::Fresh),
            (600, State::Renewing),
            (300, State::Renewing),
            (299, State::Stale),
            (30, State::Stale),
            (29, State::Expired),
            (0, State::Expired),
        ] {
            assert_eq!(assess(&life(3600), at(deadline - left), &WINDOWS), state, "{left} s left");
        }
        assert_eq!(assess(&life(3600), at(deadline + 1_000_000), &WINDOWS), State::Expired);
    }

    #[test]
    fn windows_shrink_with_the_lifetime() {
        let deadline = 1000 + 59;
        for (left, state) in [
            (21, State::Fresh),
            (20, State::Renewing),
            (10, State::Renewing),
            (9, State::Stale),
            (5, State::Stale),
            (4, State::Expired),
        ] {
            assert_eq!(assess(&life(60), at(deadline - left), &WINDOWS), state, "{left} s left");
        }
    }

    proptest! {
        #[test]
        fn token_state_only_degrades_with_age(
            lifetime in 2u64..86_400, earlier in 0u64..100_000, later in 0u64..100_000, window in [0u64..900, 0..900, 0..900],
        ) {
            let life = life(lifetime);
            let [mut renew_before, mut min_validity, mut grace] = window.map(Duration::from_secs);
            if renew_before < min_validity {
                (renew_before, min_validity) = (min_validity, renew_before);
            }
            grace = grace.min(min_validity);
            min_validity = min_validity.min(renew_before);
            let windows = Windows { renew_before, min_validity, grace };
            let rank = |elapsed: u64| assess(&life, at(1000 + elapsed), &windows) as u8;
            let (earlier, later) = (earlier.min(later), earlier.max(later));
            prop_assert!(rank(earlier) <= rank(later));
            if later >= lifetime - 1 {
                prop_assert_eq!(rank(later), State::Expired as u8);
            }
        }
    }
    #[test]
    fn longest_min_ttl_is_five_sixths_of_lifetime() {
        for (lifetime, longest) in [(3600, 3000), (60, 50)] {
            assert_eq!(longest_min_ttl(Duration::from_secs(lifetime)).as_secs(), longest);
        }
    }

    proptest! {
        #[test]
        fn renewal_jitter_is_stable_within_1_to_1_2_windows(
            seed: u64, lifetime in 2u64..86_400, renew_before in 0u64..7200,
        ) {
            let windows = Windows { renew_before: Duration::from_secs(renew_before), ..WINDOWS };
            let life = life(lifetime);
            let window = life.renew_before(&windows);
            let renew_at = life.renew_at(&windows, &seed);
            prop_assert!(renew_at >= life.at_remaining(window.mul_f64(1.2)) && renew_at <= life.at_remaining(window));
            prop_assert_eq!(renew_at, life.renew_at(&windows, &seed));
        }
    }

    #[test]
    fn renewals_of_tokens_minted_together_are_spread() {
        let mut tenths = [0; 10];
        for seed in 1..=1000 {
            let left = life(3600).remaining(life(3600).renew_at(&WINDOWS, &seed));
            tenths[((left.as_secs_f64() - 600.0) / 12.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|tenth| (60..=140).contains(tenth)), "{tenths:?}");
    }
}
