//! As of when tokens are judged: the time and the configured windows.

use std::sync::Arc;
use std::time::Duration;

use super::entry::Entry;
use crate::broker::freshness::{State, Windows, assess};
use crate::broker::requirement::Requirement;
use crate::clock::{BootTime, Clock};
use crate::model::Priority;
use crate::single_flight::Requester;

/// The clock, and the configured windows.
pub(crate) struct FreshnessClock {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) windows: Windows,
    pub(crate) settle: Duration,
}

/// A time, and the windows that tokens are judged by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsOf {
    pub(crate) now: BootTime,
    pub(crate) windows: Windows,
    /// Age at which GitHub's replicas can be taken to know a token.
    pub(crate) settle: Duration,
}

impl FreshnessClock {
    /// Now, with the windows.
    pub(crate) fn as_of(&self) -> AsOf {
        AsOf { now: self.clock.boot(), windows: self.windows, settle: self.settle }
    }
}

impl AsOf {
    /// How good a token is. One that was rejected is handed out only if no other can be minted.
    pub(crate) fn state(&self, entry: &Entry) -> State {
        match assess(&entry.life, self.now, &self.windows) {
            State::Fresh | State::Renewing if entry.rejected => State::Stale,
            state => state,
        }
    }

    /// Whether a token is handed out without asking GitHub.
    pub(crate) fn is_servable(&self, entry: &Entry) -> bool {
        matches!(self.state(entry), State::Fresh | State::Renewing)
    }

    /// Whether a token is never handed out again.
    pub(crate) fn is_expired(&self, entry: &Entry) -> bool {
        self.state(entry) == State::Expired
    }

    /// Whether a token meets a caller's requirement.
    pub(crate) fn satisfies(&self, entry: &Entry, requirement: Requirement) -> bool {
        match requirement {
            Requirement::Any => true,
            // No caller may keep for an hour what GitHub has rejected for another.
            Requirement::RecentlyMinted => entry.life.is_just_minted(self.now) && !entry.rejected,
            Requirement::MinTtl(life) => entry.life.remaining(self.now) >= life,
        }
    }

    /// How long until GitHub's replicas can be taken to know `entry`.
    pub(crate) fn settles_in(&self, entry: &Entry) -> Duration {
        entry.life.settle_time(self.settle).saturating_sub(entry.life.age_since_received(self.now))
    }

    /// On what account `entry` is refreshed: one that is stale is urgent.
    pub(crate) fn refresh_requester(&self, entry: &Entry) -> Requester {
        let priority = if self.is_servable(entry) { Priority::Ahead } else { Priority::InUse };
        Requester::background(priority, Some(self.now.plus(entry.life.remaining(self.now))))
    }
}
