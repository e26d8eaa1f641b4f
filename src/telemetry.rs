//! Log, audit and metrics. Never a secret.

pub mod audit;
mod github_metrics;
pub mod log;
pub mod metrics;
mod non_blocking_writer;
mod registry;
