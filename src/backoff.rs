//! Exponential back-off: how long to pause after so many failures in a row. Pure.

use std::time::Duration;

/// Pauses that double from `first` to `max`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExponentialBackoff {
    first: Duration,
    max: Duration,
}

impl ExponentialBackoff {
    pub(crate) const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// The pause after `failures` in a row; zero after none.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_maximum() {
        let backoff = ExponentialBackoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let pauses = [0, 1, 2, 3, 6, 7, 100, u32::MAX].map(|failures| backoff.pause(failures).as_secs());
        assert_eq!(pauses, [0, 1, 2, 4, 32, 60, 60, 60]);
    }
}
