//! The clocks: one that only goes forward, the machine's wall clock, and GitHub's as an offset from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// A moment since the machine was started. It goes on while the machine sleeps and never jumps, so it is what
/// lifetimes are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// Later than any moment that comes.
    pub const MAX: Self = Self(Duration::MAX);

    /// The moment `since_boot` after the start of the machine.
    pub const fn new(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `later` after this one.
    pub const fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }

    /// The moment `earlier` before this one.
    pub const fn minus(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(earlier))
    }
}

/// Where the time comes from. The one seam for tests of time.
pub trait Clock: Send + Sync + 'static {
    /// Time since boot, suspend included.
    fn boot(&self) -> BootTime;
    /// The machine's idea of the date, which may be wrong and may jump.
    fn wall(&self) -> Timestamp;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> BootTime {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
        BootTime(Duration::new(seconds, nanos))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock {
    boot_ms: AtomicI64,
    wall_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `wall`, on a machine started an hour ago.
    pub fn new(wall: Timestamp) -> Arc<Self> {
        let boot_ms = AtomicI64::new(Duration::from_secs(3600).as_millis() as i64);
        Arc::new(Self { boot_ms, wall_ms: AtomicI64::new(wall.as_millisecond()) })
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&self, time: Duration) {
        self.boot_ms.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
        self.set_wall_back(-(time.as_millis() as i64));
    }

    /// Sets the wall clock back by `ms` milliseconds, or forward by a negative number; no time passes.
    pub fn set_wall_back(&self, ms: i64) {
        self.wall_ms.fetch_sub(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn boot(&self) -> BootTime {
        BootTime(Duration::from_millis(self.boot_ms.load(Ordering::SeqCst).unsigned_abs()))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_millisecond(self.wall_ms.load(Ordering::SeqCst)).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// GitHub's clock, known by the `Date` headers of its answers and carried on by boot time, so that a jump of the
/// machine's wall clock does not move it.
#[derive(Clone)]
pub struct GithubClock {
    clock: Arc<dyn Clock>,
    observed: Arc<Mutex<Option<(BootTime, Timestamp)>>>,
}

impl GithubClock {
    /// Before the first answer, GitHub is taken to agree with the wall clock of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, observed: Arc::default() }
    }

    /// The time at GitHub.
    pub fn now(&self) -> Timestamp {
        self.observed_now().unwrap_or_else(|| self.clock.wall())
    }

    /// The clock that goes only forward, for durations beside that time.
    pub fn boot(&self) -> BootTime {
        self.clock.boot()
    }

    /// How far GitHub's clock is ahead of the machine's wall clock; `None` before the first answer.
    pub fn offset(&self) -> Option<SignedDuration> {
        Some(self.observed_now()?.duration_since(self.clock.wall()))
    }

    /// Learns from the `Date` header of an answer whose head came at `at`. It is in whole seconds, and some answers are
    /// slower than others: what differs little from what was expected moves the clock by a part of the difference only.
    pub fn observe(&self, date: Timestamp, at: BootTime) {
        let difference = self.observed_at(at).map(|expected| (expected, date.duration_since(expected)));
        let time = match difference {
            Some((expected, difference)) if difference.abs() <= JITTER => {
                expected.checked_add(difference / SMOOTHING).unwrap_or(date)
            }
            _ => date,
        };
        *self.observed.lock() = Some((at, time));
    }

    fn observed_now(&self) -> Option<Timestamp> {
        self.observed_at(self.clock.boot())
    }

    fn observed_at(&self, at: BootTime) -> Option<Timestamp> {
        let (boot, date) = (*self.observed.lock())?;
        date.checked_add(at.since(boot)).ok()?.checked_sub(boot.since(at)).ok()
    }
}

/// The grain of `Date`, and a slow answer's way.
const JITTER: SignedDuration = SignedDuration::from_secs(3);
/// The part of a small difference that is believed is one of so many.
const SMOOTHING: i32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_goes_on_while_the_wall_clock_is_set_back() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24));
        let (boot, wall) = (clock.boot(), clock.wall());
        clock.advance(Duration::from_secs(10));
        clock.set_wall_back(3_600_000);
        assert_eq!(clock.boot().since(boot), Duration::from_secs(10));
        assert_eq!(clock.wall().duration_since(wall), SignedDuration::from_secs(10 - 3600));
    }

    #[test]
    fn githubs_time_follows_its_date_header() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24));
        let github = GithubClock::new(clock.clone());
        assert_eq!((github.offset(), github.now()), (None, clock.wall()));
        let date = clock.wall() + SignedDuration::from_mins(10);
        github.observe(date, clock.boot());
        assert_eq!((github.offset(), github.now()), (Some(SignedDuration::from_mins(10)), date));
    }

    #[test]
    fn clock_offset_ignores_date_resolution_not_jumps() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24));
        let github = GithubClock::new(clock.clone());
        github.observe(clock.wall(), clock.boot());
        for late in [0, 1, 2, 1, 0, 2, 1, 1] {
            clock.advance(Duration::from_secs(60));
            github.observe(clock.wall() - SignedDuration::from_secs(late), clock.boot());
            let offset = github.offset().unwrap();
            assert!(offset.abs() <= SignedDuration::from_millis(1_200), "{offset:#}");
        }
        github.observe(clock.wall() + SignedDuration::from_secs(60), clock.boot());
        assert_eq!(github.offset(), Some(SignedDuration::from_secs(60)));
    }

    #[test]
    fn githubs_time_does_not_jump_with_the_wall_clock() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(48));
        let github = GithubClock::new(clock.clone());
        let date = clock.wall();
        github.observe(date, clock.boot());
        clock.set_wall_back(86_400_000);
        clock.advance(Duration::from_secs(60));
        assert_eq!(github.now(), date + SignedDuration::from_secs(60));
        assert_eq!(github.offset(), Some(SignedDuration::from_hours(24)));
    }

    #[test]
    fn the_system_clock_moves_forward() {
        let earlier = SystemClock.boot();
        assert!(SystemClock.boot() >= earlier);
    }
}
