//! Metrics of the way to GitHub: read from admission at each scrape.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What admission counts and limits.
#[derive(Default)]
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
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Calls made to GitHub, by outcome (ok, or the code of the error)";
        registry.register("github_requests", help, self.requests.clone());
        let help = "Calls not made to GitHub, by what admission refused them for";
        registry.register("admission_refusals", help, self.refusals.clone());
        let help = "When the app may be asked again that GitHub limits or does not accept; absent if it does neither";
        registry.register("limited_until_timestamp_seconds", help, self.limited_until.clone());
        let help = "Points left in the app's budget for calls to GitHub, in all and for mints (5 each)";
        registry.register("budget_remaining_points", help, self.budget.clone());
        registry.register("github_calls_in_flight", "Calls to GitHub under way", self.in_flight.clone());
        registry.register("github_calls_queued", "Calls that wait for their turn", self.queued.clone());
        let help = "1 unless five connections to GitHub in a row could not be made";
        registry.register("github_reachable", help, self.reachable.clone());
        registry.register("jwt_signatures", "App JWTs signed", self.signatures.clone());
    }

    /// There is this app: what may not happen to it for long shows as 0 until it does.
    pub(super) fn init_app_series(&self, app: &str) {
        REFUSAL_REASONS.into_iter().for_each(|reason| self.refusals(app, reason, 0));
    }

    /// So many calls of this kind ended so.
    pub fn requests(&self, app: &str, operation: &'static str, outcome: &'static str, count: u64) {
        let request = Request { app: app.to_owned(), operation, outcome };
        self.requests.get_or_create(&request).inner().store(count, Ordering::Relaxed);
    }

    /// So many calls were refused for this reason.
    pub fn refusals(&self, app: &str, reason: &'static str, count: u64) {
        let refusal = Refusal { app: app.to_owned(), reason };
        self.refusals.get_or_create(&refusal).inner().store(count, Ordering::Relaxed);
    }

    /// The app is not asked until then, in seconds since 1970, for this reason; `None`: it may be asked.
    pub fn limited_until(&self, app: &str, reason: &'static str, until: Option<f64>) {
        let limit = Limit { app: app.to_owned(), reason };
        match until {
            Some(until) => drop(self.limited_until.get_or_create(&limit).set(until)),
            None => drop(self.limited_until.remove(&limit)),
        }
    }

    /// So many points are left of this kind.
    pub fn budget(&self, app: &str, kind: &'static str, points: u32) {
        self.budget.get_or_create(&Budget { app: app.to_owned(), kind }).set(points.into());
    }

    /// So many calls are under way, and so many wait.
    pub fn calls(&self, in_flight: usize, queued: usize) {
        self.in_flight.set(super::metrics::gauge(in_flight));
        self.queued.set(super::metrics::gauge(queued));
    }

    /// Whether connections can be made, as far as is known, and how many JWTs were signed.
    pub fn host(&self, is_reachable: bool, signatures: u64) {
        self.reachable.set(is_reachable.into());
        self.signatures.inner().store(signatures, Ordering::Relaxed);
    }
}

/// Those that are worth an alert.
const REFUSAL_REASONS: [&str; 6] =
    ["app_rejected", "budget_spent", "caller_limited", "overloaded", "rate_limited", "unreachable"];
