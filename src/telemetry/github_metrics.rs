//! Metrics of the calls to GitHub: read from admission at each scrape.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::registry::{add, gauge_value};

/// What admission counts and limits.
pub struct Github {
    requests: Family<Request, Counter>,
    refusals: Family<Refusal, Counter>,
    limited_until: Family<Limit, Gauge<f64, AtomicU64>>,
    budget: Family<Budget, Gauge>,
    in_flight: Gauge,
    queued: Gauge,
    reachable: Gauge,
    signatures: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    app: String,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    app: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    app: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Budget {
    app: String,
    kind: &'static str,
}

impl Github {
    pub(super) fn new(all: &mut Registry) -> Self {
        Self {
            requests: add(
                all,
                "github_requests",
                "Calls made to GitHub, by outcome (ok, or the code of the error)",
            ),
            refusals: add(all, "admission_refusals", "Calls refused by admission control, by reason"),
            limited_until: add(
                all,
                "limited_until_timestamp_seconds",
                "End of the back-off of an app that GitHub limits or rejects; absent without one",
            ),
            budget: add(
                all,
                "budget_remaining_points",
                "Points left in the app's budget for calls to GitHub, in all and for mints (5 each)",
            ),
            in_flight: add(all, "github_calls_in_flight", "Calls to GitHub in flight"),
            queued: add(all, "github_calls_queued", "Calls to GitHub queued by admission control"),
            reachable: add(
                all,
                "github_reachable",
                "0 after five failed connections to GitHub in a row, else 1",
            ),
            signatures: add(all, "jwt_signatures", "App JWTs signed"),
        }
    }

    /// Creates the series of an app at 0, so that an alert on their increase sees the first event.
    pub(super) fn init_app_series(&self, app: &str) {
        REFUSAL_REASONS.into_iter().for_each(|reason| self.refusals(app, reason, 0));
    }

    /// Number of calls by operation and outcome.
    pub fn requests(&self, app: &str, operation: &'static str, outcome: &'static str, count: u64) {
        let request = Request { app: app.to_owned(), operation, outcome };
        self.requests.get_or_create(&request).inner().store(count, Ordering::Relaxed);
    }

    /// Number of calls refused for this reason.
    pub fn refusals(&self, app: &str, reason: &'static str, count: u64) {
        let refusal = Refusal { app: app.to_owned(), reason };
        self.refusals.get_or_create(&refusal).inner().store(count, Ordering::Relaxed);
    }

    /// End of the back-off for this reason, in seconds since 1970; `None` without one.
    pub fn limited_until(&self, app: &str, reason: &'static str, until: Option<f64>) {
        let limit = Limit { app: app.to_owned(), reason };
        match until {
            Some(until) => drop(self.limited_until.get_or_create(&limit).set(until)),
            None => drop(self.limited_until.remove(&limit)),
        }
    }

    /// Points left of this kind.
    pub fn budget(&self, app: &str, kind: &'static str, points: u32) {
        self.budget.get_or_create(&Budget { app: app.to_owned(), kind }).set(points.into());
    }

    /// Number of calls in flight, and of those queued.
    pub fn calls(&self, in_flight: usize, queued: usize) {
        self.in_flight.set(gauge_value(in_flight));
        self.queued.set(gauge_value(queued));
    }

    /// Whether connections succeed, as far as is known, and how many JWTs were signed.
    pub fn host(&self, is_reachable: bool, signatures: u64) {
        self.reachable.set(is_reachable.into());
        self.signatures.inner().store(signatures, Ordering::Relaxed);
    }
}

/// Those that are worth an alert.
const REFUSAL_REASONS: [&str; 6] =
    ["app_rejected", "budget_spent", "caller_limited", "overloaded", "rate_limited", "unreachable"];
