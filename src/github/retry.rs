//! How often a call that failed in passing is made once more: twice, soon, and only while few calls need it. Retries
//! without such a budget are what turns a slow GitHub into one that is down. Pure but for its lock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::clock::BootTime;

/// One retry for ten calls, and three a minute in any case.
pub(crate) struct Budget(Mutex<State>);

/// In tenths of a retry.
struct State {
    tenths: u32,
    filled: BootTime,
}

impl Budget {
    /// A full one.
    pub(crate) fn new(now: BootTime) -> Self {
        Self(Mutex::new(State { tenths: MOST, filled: now }))
    }

    /// A call is made.
    pub(crate) fn earn(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.tenths = (state.tenths + 1).min(MOST);
    }

    /// Whether it may be made once more.
    pub(crate) fn spend(&self, now: BootTime) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refills = u32::try_from(now.since(state.filled).as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        if refills > 0 {
            state.tenths = state.tenths.saturating_add(refills.saturating_mul(WHOLE)).min(MOST);
            state.filled = state.filled.plus(REFILL * refills);
        }
        let enough = state.tenths >= WHOLE;
        state.tenths -= if enough { WHOLE } else { 0 };
        enough
    }
}

/// The pauses before the second and the third time. They differ from call to call, so that what failed together does not
/// come again together.
pub(crate) fn pauses() -> ExponentialBackoff {
    PAUSES.build()
}

const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_factor(2.0)
    .with_max_times(2)
    .with_jitter();
const WHOLE: u32 = 10;
const MOST: u32 = 10 * WHOLE;
const REFILL: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    fn spent(budget: &Budget, now: u64) -> usize {
        (0..100).filter(|_| budget.spend(at(now))).count()
    }

    #[test]
    fn three_a_minute_may_be_spent_and_a_tenth_of_all_calls() {
        let budget = Budget::new(at(0));
        assert_eq!(spent(&budget, 0), 10);
        assert_eq!(spent(&budget, 19), 0);
        assert_eq!(spent(&budget, 60), 3);
        assert_eq!(spent(&budget, 79), 0);
        assert_eq!(spent(&budget, 80), 1);
        (0..50).for_each(|_| budget.earn());
        assert_eq!(spent(&budget, 80), 5);
        assert_eq!(spent(&budget, 100_000), 10, "no more than ten at once");
    }

    #[test]
    fn two_pauses_soon_after_one_another() {
        let pauses: Vec<_> = pauses().collect();
        assert_eq!(pauses.len(), 2);
        assert!((100..200).contains(&pauses[0].as_millis()) && (200..400).contains(&pauses[1].as_millis()));
    }
}
