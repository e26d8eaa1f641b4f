//! What the daemon tells its operators: log, audit, metrics. Never a secret.

pub mod audit;
mod backlog;
mod github_metrics;
pub mod log;
pub mod metrics;
