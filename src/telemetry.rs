//! What the daemon tells its operators: log, audit, metrics. Never a secret.

pub mod audit;
mod github_metrics;
pub mod log;
pub mod metrics;
mod non_blocking_writer;
