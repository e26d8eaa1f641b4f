//! How a key is used: what callers, mints and the refresh schedule note of it. Atomic, as every vend writes it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::schedule::Lane;
use crate::backoff::ExponentialBackoff;
use crate::clock::BootTime;

/// The usage of a key, whichever tokens it has.
#[derive(Debug)]
pub(crate) struct Usage {
    /// Milliseconds since boot.
    last_used: AtomicU64,
    /// Whether the schedule skips the key until its tokens expire.
    is_idle: AtomicBool,
    /// Mints in a row that failed.
    failures: AtomicU32,
    /// Milliseconds since boot before which it is not refreshed: the last mint failed.
    not_before: AtomicU64,
}

/// Whether a key is refreshed before its tokens expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It is: its next event is scheduled.
    Active,
    /// It is not, since no caller has asked for it lately.
    Idle,
}

impl Usage {
    /// Of a key that was asked for at `now`.
    pub(super) fn new(now: BootTime) -> Self {
        Self {
            last_used: AtomicU64::new(millis(now)),
            is_idle: AtomicBool::default(),
            failures: AtomicU32::default(),
            not_before: AtomicU64::default(),
        }
    }

    /// Notes that the key was asked for.
    pub(crate) fn note_used(&self, now: BootTime) {
        self.last_used.store(millis(now), Ordering::Relaxed);
    }

    /// When the key was last asked for.
    pub(crate) fn last_used(&self) -> BootTime {
        BootTime::new(Duration::from_millis(self.last_used.load(Ordering::Relaxed)))
    }

    /// Notes that a mint failed at `now`, and is tried again after `wait`, or after ever longer pauses.
    pub(crate) fn note_failed(&self, wait: Option<Duration>, now: BootTime) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.defer(now.plus(wait.unwrap_or_else(|| MINT_BACKOFF.pause(failures))));
    }

    /// Notes that no mint is to be tried before that.
    pub(crate) fn defer(&self, until: BootTime) {
        self.not_before.store(millis(until), Ordering::Relaxed);
    }

    /// Notes that a mint succeeded.
    pub(crate) fn note_minted(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.not_before.store(0, Ordering::Relaxed);
    }

    /// Where the key waits for a refresh.
    pub(crate) fn lane(&self) -> Lane {
        if self.failures.load(Ordering::Relaxed) > 0 { Lane::Suspect } else { Lane::Healthy }
    }

    /// Before this the key is not refreshed.
    pub(crate) fn not_before(&self) -> BootTime {
        BootTime::new(Duration::from_millis(self.not_before.load(Ordering::Relaxed)))
    }

    /// Notes whether the key is in use, and returns what was noted before.
    pub(crate) fn set_activity(&self, activity: Activity) -> Activity {
        let was_idle = self.is_idle.swap(activity == Activity::Idle, Ordering::AcqRel);
        if was_idle { Activity::Idle } else { Activity::Active }
    }
}

fn millis(time: BootTime) -> u64 {
    u64::try_from(time.since(BootTime::new(Duration::ZERO)).as_millis()).unwrap_or(u64::MAX)
}

/// Pauses after mints in a row that failed without naming a wait.
pub(crate) const MINT_BACKOFF: ExponentialBackoff =
    ExponentialBackoff::new(Duration::from_secs(1), Duration::from_secs(60));
