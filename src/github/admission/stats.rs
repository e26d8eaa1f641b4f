//! What admission counts, and shows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::call::{Call, Operation};
use crate::clock::BootTime;
use crate::github::failure::{Failure, Kind};
use crate::model::AppName;

/// The state of admission at one moment.
#[derive(Debug, Clone, Default)]
pub struct AdmissionStatus {
    /// Each app; `None`: tokens that no app here has minted.
    pub apps: BTreeMap<Option<AppName>, AppAdmission>,
    /// Calls under way.
    pub in_flight: usize,
    /// Calls that wait for their turn.
    pub queued: usize,
    /// Failures of questions and installations that are remembered.
    pub remembered: usize,
    /// Whether connections to GitHub can be made, as far as is known.
    pub is_reachable: bool,
    /// App JWTs that were signed.
    pub signatures: u64,
}

/// What is limited and was counted for one app.
#[derive(Debug, Clone, Default)]
pub struct AppAdmission {
    /// How long GitHub limits it.
    pub rate_limited_for: Option<Duration>,
    /// How long it is not asked since GitHub does not accept it.
    pub rejected_for: Option<Duration>,
    /// Points left in its budget, in all and for mints; `None`: there is no budget.
    pub points_left: Option<(u32, u32)>,
    /// Calls that were made, by their outcome: `ok`, or the code of the failure.
    pub requests: BTreeMap<(Operation, &'static str), u64>,
    /// Calls that were not made, by the kind of the failure.
    pub refusals: BTreeMap<&'static str, u64>,
}

impl AppAdmission {
    /// What may limit the app, and for how long it does.
    pub fn limits(&self) -> [(&'static str, Option<Duration>); 2] {
        [("rate_limit", self.rate_limited_for), ("app_rejected", self.rejected_for)]
    }
}

/// Counters of all apps.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    counted: BTreeMap<Option<AppName>, AppAdmission>,
    /// When a refusal of this kind was last logged.
    logged: BTreeMap<(Option<AppName>, &'static str), BootTime>,
}

impl Stats {
    pub(crate) fn sent(&mut self, call: &Call, failure: Option<&Failure>) {
        let outcome = failure.map_or("ok", |failure| failure.kind.code().as_str());
        *self.of(call).requests.entry((call.operation, outcome)).or_default() += 1;
    }

    /// Counts a refusal, and logs one of each reason and app a minute: a line for each would be what is refused next.
    pub(crate) fn refused(&mut self, call: &Call, failure: &Failure, now: BootTime) {
        let (app, reason) = (&call.topic.app, failure.kind.as_str());
        if failure.kind == Kind::Abandoned {
            return;
        }
        let count = self.of(call).refusals.entry(reason).or_default();
        *count += 1;
        let total = *count;
        let logged = self.logged.entry((app.clone(), reason)).or_insert(BootTime::new(Duration::ZERO));
        if now.since(*logged) >= LOG_INTERVAL {
            *logged = now;
            let app = app.as_ref().map_or("", |app| app.as_str());
            tracing::warn!(app, reason, total, error = %failure, "calls to GitHub refused by admission");
        }
    }

    pub(crate) fn counted(&self, app: &Option<AppName>) -> AppAdmission {
        self.counted.get(app).cloned().unwrap_or_default()
    }

    fn of(&mut self, call: &Call) -> &mut AppAdmission {
        self.counted.entry(call.topic.app.clone()).or_default()
    }
}

const LOG_INTERVAL: Duration = Duration::from_secs(60);
