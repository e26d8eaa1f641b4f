//! Freshness of a token: fresh, renewing, stale or dead, a pure function of its life and the time.

use std::time::Duration;

use crate::clock::BootTime;
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
        let deadline = minted.sent.plus(minted.lifetime.saturating_sub(DATE_GRAIN));
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

    /// How long it has been in hand: the call that brought it may have taken several tries.
    pub fn age_since_received(&self, now: BootTime) -> Duration {
        now.since(self.landed)
    }

    /// The age at which GitHub's replicas can be taken to know it: `settle`, at most a twelfth of its lifetime.
    pub fn settle_time(&self, settle: Duration) -> Duration {
        settle.min(self.lifetime / 12)
    }

    /// Whether it began within the last minute, or the last sixtieth of its lifetime if that is shorter.
    pub fn is_just_minted(&self, now: BootTime) -> bool {
        self.age(now) < JUST_BEGUN.min(self.lifetime / 60)
    }

    /// The remaining life down to which it is fresh: `renew_before`, at most a third of its lifetime.
    pub fn renew_before(&self, windows: &Windows) -> Duration {
        windows.renew_before.min(self.lifetime / 3)
    }

    /// When only so much of it is left.
    pub fn has_left(&self, remaining: Duration) -> BootTime {
        self.began.plus(self.lifetime.saturating_sub(DATE_GRAIN).saturating_sub(remaining))
    }

    /// The first moment at which it is [`State::Stale`] by `cache.min_validity`, or dead.
    pub fn stops_serving(&self, windows: &Windows) -> BootTime {
        self.has_left(windows.min_validity.min(self.lifetime / 6)).plus(INSTANT)
    }

    /// The first moment at which it is [`State::Dead`].
    pub fn end(&self, windows: &Windows) -> BootTime {
        self.has_left(windows.grace.min(self.lifetime / 12)).plus(INSTANT)
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
    /// Down to here it is handed out if no new one can be had. Default 30 seconds, at most a twelfth.
    pub grace: Duration,
}

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It, at once.
    Fresh,
    /// It, at once; a new one should be on its way.
    Renewing,
    /// A new one; it, if there is none to be had.
    Stale,
    /// A new one or a failure.
    Dead,
}

impl State {
    /// The value of `Ghtokend-Token-State`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Renewing => "renewing",
            Self::Stale => "stale",
            Self::Dead => "dead",
        }
    }
}

/// How good a token with this life is at `now`.
pub fn assess(life: &Life, now: BootTime, windows: &Windows) -> State {
    let remaining = life.remaining(now);
    if remaining.is_zero() {
        // Whatever the windows are: they may be configured down to nothing.
        State::Dead
    } else if remaining > life.renew_before(windows) {
        State::Fresh
    } else if remaining >= windows.min_validity.min(life.lifetime / 6) {
        State::Renewing
    } else if remaining >= windows.grace.min(life.lifetime / 12) {
        State::Stale
    } else {
        State::Dead
    }
}

/// Callers that keep a token for 59 minutes lose nothing by one that is a minute old.
const JUST_BEGUN: Duration = Duration::from_secs(60);
/// `Date` and `expires_at` are whole seconds, so that the real end may be this much earlier.
const DATE_GRAIN: Duration = Duration::from_secs(1);

/// Time is not measured finer than this.
const INSTANT: Duration = Duration::from_nanos(1);

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
        Life { began: at(1000), landed: at(1000), lifetime, deadline: at(1000).plus(lifetime - DATE_GRAIN) }
    }

    #[test]
    fn an_hour_is_fresh_then_renewing_then_stale_then_dead() {
        let deadline = 1000 + 3599;
        for (left, state) in [
            (3599, State::Fresh),
            (601, State::Fresh),
            (600, State::Renewing),
            (300, State::Renewing),
            (299, State::Stale),
            (30, State::Stale),
            (29, State::Dead),
            (0, State::Dead),
        ] {
            assert_eq!(assess(&life(3600), at(deadline - left), &WINDOWS), state, "{left} s left");
        }
        assert_eq!(assess(&life(3600), at(deadline + 1_000_000), &WINDOWS), State::Dead);
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
            (4, State::Dead),
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
                prop_assert_eq!(rank(later), State::Dead as u8);
            }
        }
    }
}
