//! Virtual time, and chance that can be replayed.

use std::sync::Arc;
use std::time::Duration;

use ghtokend::clock::{BootTime, Clock};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Time since the simulation began.
pub type Time = Duration;

/// tokio's paused time as the daemon's clock. It moves only when every task waits.
pub struct VirtualClock {
    began: Instant,
}

impl VirtualClock {
    /// A clock that stands at zero. Needs a runtime whose time is paused.
    pub fn start() -> Arc<Self> {
        Arc::new(Self { began: instant() })
    }

    pub fn now(&self) -> Time {
        instant().duration_since(self.began)
    }

    /// The date at GitHub, whose clock is right.
    pub fn github(&self, at: Time) -> Timestamp {
        EPOCH + SignedDuration::try_from(at).expect("hours")
    }
}

impl Clock for VirtualClock {
    fn boot(&self) -> BootTime {
        BootTime::new(UPTIME + self.now())
    }

    fn wall(&self) -> Timestamp {
        self.github(self.now()) + SKEW
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads virtual time")]
fn instant() -> Instant {
    Instant::now()
}

/// 2026-11-22T10:00:00Z
const EPOCH: Timestamp = Timestamp::constant(1_795_341_600, 0);
const UPTIME: Duration = Duration::from_secs(3600);
/// By which this machine's clock is wrong.
const SKEW: SignedDuration = SignedDuration::from_secs(17);

/// SplitMix64: ten lines, and the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Another one, whose numbers have nothing to do with what this one is asked later.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// From `low` to `high - 1`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.between(0, bound as u64) as usize
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.between(0, 100) < percent
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    pub fn seconds(&mut self, low: u64, high: u64) -> Duration {
        self.millis(low * 1000, high * 1000)
    }
}
