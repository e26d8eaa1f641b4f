//! Retry budget: a transient failure is retried twice, soon, and only while few calls need it. Retries without such a
//! budget are what turns a slow GitHub into one that is down. Pure.

use std::time::Duration;

use crate::backoff::ExponentialBackoff;
use crate::clock::BootTime;
use crate::jitter::jitter;

/// A retry budget: one retry for ten calls that are sent, and three a minute in any case.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// In tenths of a retry.
    tenths: u32,
    filled: BootTime,
}

impl RetryBudget {
    /// A full one.
    pub(crate) fn new(now: BootTime) -> Self {
        Self { tenths: MAX_TENTHS, filled: now }
    }

    /// A call is sent.
    pub(crate) fn deposit(&mut self) {
        self.tenths = (self.tenths + 1).min(MAX_TENTHS);
    }

    /// Whether it may be sent once more.
    pub(crate) fn withdraw(&mut self, now: BootTime) -> bool {
        let refills = u32::try_from(now.since(self.filled).as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        if refills > 0 {
            self.tenths = self.tenths.saturating_add(refills.saturating_mul(WHOLE)).min(MAX_TENTHS);
            self.filled = self.filled.plus(REFILL * refills);
        }
        let enough = self.tenths >= WHOLE;
        self.tenths -= if enough { WHOLE } else { 0 };
        enough
    }
}

/// The pauses before the retries of a call that `began` then. No two calls begin in the same nanosecond, so calls that
/// failed together are not retried together.
pub(crate) fn pauses(began: BootTime) -> impl Iterator<Item = Duration> {
    (1..=MAX_RETRIES).map(move |retry| BACKOFF.pause(retry).mul_f64(1.0 + jitter(&(began, retry))))
}

const MAX_RETRIES: u32 = 2;
const BACKOFF: ExponentialBackoff =
    ExponentialBackoff::new(Duration::from_millis(100), Duration::from_millis(200));
const WHOLE: u32 = 10;
const MAX_TENTHS: u32 = 10 * WHOLE;
const REFILL: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    fn spent(budget: &mut RetryBudget, now: u64) -> usize {
        (0..100).filter(|_| budget.withdraw(at(now))).count()
    }

    #[test]
    fn retry_budget_is_three_a_minute_plus_a_tenth() {
        let mut budget = RetryBudget::new(at(0));
        assert_eq!(spent(&mut budget, 0), 10);
        assert_eq!(spent(&mut budget, 19), 0);
        assert_eq!(spent(&mut budget, 60), 3);
        assert_eq!(spent(&mut budget, 79), 0);
        assert_eq!(spent(&mut budget, 80), 1);
        (0..50).for_each(|_| budget.deposit());
        assert_eq!(spent(&mut budget, 80), 5);
        assert_eq!(spent(&mut budget, 100_000), 10, "no more than ten at once");
    }

    #[test]
    fn two_retries_come_soon() {
        let pauses: Vec<_> = pauses(at(7)).collect();
        assert_eq!(pauses.len(), 2);
        assert!((100..200).contains(&pauses[0].as_millis()) && (200..400).contains(&pauses[1].as_millis()));
    }
}
