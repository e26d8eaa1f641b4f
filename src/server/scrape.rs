//! Metrics of admission, read at each scrape.

use jiff::Timestamp;

use crate::broker::{AdmissionStatus, AppAdmission, Broker};
use crate::telemetry::metrics::{Github, Metrics};

/// Brings the metrics of the way to GitHub up to date.
pub(super) fn admission(broker: &Broker, metrics: &Metrics, now: Timestamp) {
    let AdmissionStatus { apps, in_flight, queued, is_reachable, signatures, .. } = broker.admission();
    let metrics = metrics.github();
    for (app, admission) in &apps {
        let app = app.as_ref().map_or("", |app| app.as_str());
        of_app(metrics, app, admission, now);
    }
    metrics.calls(in_flight, queued);
    metrics.host(is_reachable, signatures);
}

fn of_app(metrics: &Github, app: &str, admission: &AppAdmission, now: Timestamp) {
    for ((operation, outcome), count) in &admission.requests {
        metrics.requests(app, operation.as_str(), outcome, *count);
    }
    for (reason, count) in &admission.refusals {
        metrics.refusals(app, reason, *count);
    }
    let until = |wait: std::time::Duration| now.as_second() as f64 + wait.as_secs_f64();
    for (reason, wait) in admission.limits() {
        metrics.limited_until(app, reason, wait.map(until));
    }
    if let Some((points, mints)) = admission.points_left {
        metrics.budget(app, "all", points);
        metrics.budget(app, "mint", mints);
    }
}
