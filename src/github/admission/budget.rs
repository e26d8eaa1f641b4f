//! Rate limiter: token buckets for what GitHub counts. Pure.
//!
//! A third of a minute's limit may be used at once, and two thirds flow back evenly in a minute, so that no window of 60
//! seconds ever holds more than the limit. <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits>:
//! 900 points a minute, of which a read costs 1 and a write 5.

use std::time::Duration;

use crate::clock::BootTime;

/// What a call costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cost {
    /// The revocation of a token that was minted here: it gives back more than it takes.
    Free,
    /// `GET`
    Read,
    /// Any other method.
    Write,
    /// A new token: GitHub is believed to create at most 180 a minute for one app.
    Mint,
}

impl Cost {
    /// In GitHub's points.
    pub(crate) const fn points(self) -> u32 {
        match self {
            Self::Free => 0,
            Self::Read => 1,
            Self::Write | Self::Mint => 5,
        }
    }

    const fn mints(self) -> u32 {
        matches!(self, Self::Mint) as u32
    }

    /// Points, and mints.
    pub(crate) const fn of_one(self) -> (u32, u32) {
        (self.points(), self.mints())
    }
}

/// What one app may ask of GitHub.
#[derive(Debug)]
pub(crate) struct Budget {
    points: Bucket,
    mints: Bucket,
}

/// Whether a call can be paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Funds {
    Enough,
    /// No mint is left: a read may well be.
    NoMint,
    /// No point is left: later calls wait too, else expensive ones would starve.
    NoPoint,
}

impl Budget {
    /// `mints_per_minute` mints, of at most 750 points, within 870 points a minute: 120 are always left to the rest, and
    /// 30 of GitHub's 900 to a clock that runs differently there.
    pub(crate) fn per_minute(mints_per_minute: u32) -> Self {
        Self {
            points: Bucket::per_minute(POINTS),
            mints: Bucket::per_minute(mints_per_minute.min(MAX_MINTS)),
        }
    }

    /// A fixed number of reads a minute in all: for calls that no app of ours authorises.
    pub(crate) fn of_reads(per_minute: u32) -> Self {
        Self { points: Bucket::per_minute(per_minute), mints: Bucket::per_minute(0) }
    }

    pub(crate) fn funds(&self, cost: Cost, now: BootTime) -> Funds {
        if !self.points.wait(cost.points(), now).is_zero() {
            Funds::NoPoint
        } else if cost == Cost::Mint && !self.mints.wait(1, now).is_zero() {
            Funds::NoMint
        } else {
            Funds::Enough
        }
    }

    pub(crate) fn pay(&mut self, cost: Cost, now: BootTime) {
        self.points.take(cost.points(), now);
        self.mints.take(cost.mints(), now);
    }

    /// A call that was paid for has not been sent.
    pub(crate) fn refund(&mut self, cost: Cost) {
        self.points.put_back(cost.points());
        self.mints.put_back(cost.mints());
    }

    /// How long until `points`, `mints` of them for tokens, can be paid for.
    pub(crate) fn wait(&self, (points, mints): (u32, u32), now: BootTime) -> Duration {
        let mints = if mints == 0 { Duration::ZERO } else { self.mints.wait(mints, now) };
        mints.max(self.points.wait(points, now))
    }

    /// Points left in all, and those left for mints.
    pub(crate) fn left(&self, now: BootTime) -> (u32, u32) {
        (self.points.left(now), self.mints.left(now) * Cost::Mint.points())
    }
}

/// A token bucket, kept as the moment at which it will be full again (the generic cell rate algorithm).
#[derive(Debug)]
struct Bucket {
    /// In which one unit flows back.
    interval: Duration,
    /// In which an empty bucket fills.
    depth: Duration,
    full_at: BootTime,
}

impl Bucket {
    fn per_minute(limit: u32) -> Self {
        // A limit of 0 is never paid from: some interval, and no depth.
        let interval = MINUTE * 3 / (limit.max(1) * 2);
        let depth = (MINUTE / 2).max(interval);
        Self {
            interval,
            depth: if limit == 0 { Duration::ZERO } else { depth },
            full_at: BootTime::new(Duration::ZERO),
        }
    }

    fn wait(&self, units: u32, now: BootTime) -> Duration {
        self.full_at.max(now).plus(self.interval * units).since(now).saturating_sub(self.depth)
    }

    fn take(&mut self, units: u32, now: BootTime) {
        self.full_at = self.full_at.max(now).plus(self.interval * units);
    }

    fn put_back(&mut self, units: u32) {
        self.full_at = self.full_at.minus(self.interval * units);
    }

    fn left(&self, now: BootTime) -> u32 {
        let left = self.depth.saturating_sub(self.full_at.since(now));
        u32::try_from(left.as_nanos() / self.interval.as_nanos().max(1)).unwrap_or(u32::MAX)
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const POINTS: u32 = 870;
const MAX_MINTS: u32 = 150;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::new(Duration::from_secs(3600) + Duration::from_millis(millis))
    }

    fn take_all(budget: &mut Budget, cost: Cost, now: BootTime) -> usize {
        (0..2000)
            .take_while(|_| {
                budget.funds(cost, now) == Funds::Enough && {
                    budget.pay(cost, now);
                    true
                }
            })
            .count()
    }

    #[test]
    fn budget_bursts_a_third_then_refills_evenly() {
        let mut budget = Budget::per_minute(150);
        assert_eq!(take_all(&mut budget, Cost::Mint, at(0)), 50);
        assert_eq!(budget.funds(Cost::Mint, at(599)), Funds::NoMint);
        assert_eq!(take_all(&mut budget, Cost::Mint, at(600)), 1);
        let per_minute: usize =
            (1..=600).map(|tenth| take_all(&mut budget, Cost::Mint, at(600 + tenth * 100))).sum();
        assert_eq!(per_minute, 100);
    }

    #[test]
    fn budget_spent_on_mints_leaves_points_for_reads() {
        let mut budget = Budget::per_minute(150);
        take_all(&mut budget, Cost::Mint, at(0));
        assert_eq!(take_all(&mut budget, Cost::Read, at(0)), 40);
        assert_eq!(budget.funds(Cost::Read, at(0)), Funds::NoPoint);
    }

    #[test]
    fn small_budget_is_not_rounded_away() {
        for limit in 1..10 {
            assert!(take_all(&mut Budget::per_minute(limit), Cost::Mint, at(0)) >= 1, "{limit}");
        }
    }

    #[test]
    fn refund_restores_the_budget() {
        let mut budget = Budget::per_minute(3);
        budget.pay(Cost::Mint, at(0));
        assert_eq!(budget.wait((5, 1), at(0)), Duration::from_secs(30));
        budget.refund(Cost::Mint);
        assert_eq!((budget.wait((5, 1), at(0)), budget.left(at(0))), (Duration::ZERO, (290, 5)));
    }

    proptest! {
        #[test]
        fn no_minute_holds_more_than_the_limit(
            limit in 1u32..160, steps in proptest::collection::vec((0u64..20_000, any::<bool>()), 1..40),
        ) {
            let mut budget = Budget::per_minute(limit);
            let (mut now, mut mints, mut points) = (0, Vec::new(), Vec::new());
            for (step, is_mint) in steps {
                now += step;
                let cost = if is_mint { Cost::Mint } else { Cost::Read };
                let taken = take_all(&mut budget, cost, at(now));
                mints.extend(std::iter::repeat_n(now, if is_mint { taken } else { 0 }));
                points.extend(std::iter::repeat_n(now, taken * cost.points() as usize));
            }
            for (taken, limit) in [(mints, limit.min(150)), (points, 870)] {
                // One more than the limit takes a minute at least.
                for window in taken.windows(limit as usize + 1) {
                    prop_assert!(window[limit as usize] - window[0] >= 60_000, "more than {limit}");
                }
            }
        }
    }
}
