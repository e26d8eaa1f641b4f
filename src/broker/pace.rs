//! How fast an app's tokens are minted. Pure.
//!
//! GitHub allows some 180 mints a minute. Callers who wait come first: what nobody waits for has two thirds of
//! `github.mints_per_minute`, and is spread over the minute.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::BootTime;

/// The mints of one app.
#[derive(Debug)]
pub(super) struct Pace {
    /// Mints in a minute, whoever wants them, and the background's share of them; `None` is no bound.
    most: Option<Most>,
    /// Those of the last minute.
    taken: VecDeque<(BootTime, Taker)>,
    closed_until: BootTime,
    line: Line,
}

#[derive(Debug, Clone, Copy)]
struct Most {
    in_all: usize,
    in_the_background: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taker {
    Caller,
    Background,
}

/// Whether keys are waiting for their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// None is.
    Empty,
    /// Some are, in the order of their expiry, and nobody is to go before them.
    Waiting,
}

impl Pace {
    /// `mints_per_minute` in all; 0 is no bound.
    pub(super) fn new(mints_per_minute: u32) -> Self {
        let in_all = mints_per_minute as usize;
        let most = Most { in_all, in_the_background: (in_all * 2 / 3).max(1) };
        Self {
            most: (in_all > 0).then_some(most),
            taken: VecDeque::new(),
            closed_until: BootTime::new(Duration::ZERO),
            line: Line::Empty,
        }
    }

    /// Takes a mint for the key whose turn it is, if there is one left at `now`.
    pub(super) fn take(&mut self, now: BootTime) -> bool {
        if !self.closed_until.since(now).is_zero() {
            return false;
        }
        let Some(most) = self.most else { return true };
        self.forget_the_old(now);
        let ours = || self.taken.iter().rev().filter(|(_, taker)| *taker == Taker::Background);
        let at_once = ours().take_while(|(at, _)| now.since(*at) < SECOND).count();
        let left = self.taken.len() < most.in_all
            && ours().count() < most.in_the_background
            && at_once < most.in_the_background.div_ceil(SECONDS_AT_LEAST);
        if left {
            self.taken.push_back((now, Taker::Background));
        }
        left
    }

    /// Takes a mint for a caller who waits for it, or says how long there is none.
    pub(super) fn take_for_caller(&mut self, now: BootTime) -> Result<(), Duration> {
        let Some(most) = self.most else { return Ok(()) };
        self.forget_the_old(now);
        match self.taken.front() {
            Some((oldest, _)) if self.taken.len() >= most.in_all => {
                Err(MINUTE.saturating_sub(now.since(*oldest)))
            }
            _ => {
                self.taken.push_back((now, Taker::Caller));
                Ok(())
            }
        }
    }

    fn forget_the_old(&mut self, now: BootTime) {
        while self.taken.front().is_some_and(|(at, _)| now.since(*at) >= MINUTE) {
            self.taken.pop_front();
        }
    }

    /// The same for a key that has not waited.
    pub(super) fn take_out_of_turn(&mut self, now: BootTime) -> bool {
        self.line == Line::Empty && self.take(now)
    }

    /// Says whether there are keys in line.
    pub(super) fn set_line(&mut self, line: Line) {
        self.line = line;
    }

    /// GitHub wants to be left alone by this app until then.
    pub(super) fn close(&mut self, until: BootTime) {
        self.closed_until = self.closed_until.max(until);
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// A minute's share takes this many seconds at least, so that what is due at once does not come at once.
const SECONDS_AT_LEAST: usize = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::new(Duration::from_millis(millis))
    }

    /// How many are taken by who tries as often as can be at that moment.
    fn taken(pace: &mut Pace, now: BootTime) -> usize {
        (0..1000).take_while(|_| pace.take(now)).count()
    }

    #[test]
    fn two_thirds_of_the_budget_are_spread_over_each_minute() {
        let mut pace = Pace::new(150);
        let per_second: Vec<_> = (0..90).map(|second| taken(&mut pace, at(second * 1000))).collect();
        assert_eq!(per_second[..20], [5; 20]);
        assert_eq!(per_second[20..60], [0; 40]);
        assert_eq!(per_second[60..80], [5; 20]);
        // Small budgets are not rounded away.
        for (budget, share) in [(1, 1), (2, 1), (3, 2), (30, 20)] {
            let mut pace = Pace::new(budget);
            let taken: usize = (0..60).map(|second| taken(&mut pace, at(second * 1000))).sum();
            assert_eq!(taken, share, "of {budget}");
        }
        assert_eq!(taken(&mut Pace::new(0), at(0)), 1000);
    }

    #[test]
    fn a_closed_pace_gives_nothing_and_is_never_opened_early() {
        let mut pace = Pace::new(0);
        pace.close(at(5000));
        pace.close(at(2000));
        assert_eq!((taken(&mut pace, at(4999)), taken(&mut pace, at(5000))), (0, 1000));
    }

    #[test]
    fn nobody_goes_before_those_in_line() {
        let mut pace = Pace::new(150);
        pace.set_line(Line::Waiting);
        assert!(!pace.take_out_of_turn(at(0)) && pace.take(at(0)));
        pace.set_line(Line::Empty);
        assert!(pace.take_out_of_turn(at(0)));
    }

    proptest! {
        #[test]
        fn no_minute_has_more_than_its_share(
            budget in 1u32..400, steps in proptest::collection::vec((0u64..20_000, 1usize..50), 1..200),
        ) {
            let mut pace = Pace::new(budget);
            let (mut now, mut all) = (0, Vec::new());
            for (step, wanted) in steps {
                now += step;
                all.extend((0..wanted).filter(|_| pace.take(at(now))).map(|_| now));
            }
            let share = (budget as usize * 2 / 3).max(1);
            for (first, from) in all.iter().enumerate() {
                let within = all[first..].iter().take_while(|taken| **taken - from < 60_000).count();
                prop_assert!(within <= share, "{within} of {share}");
            }
        }
    }
}
