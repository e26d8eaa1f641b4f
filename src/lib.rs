//! ghtokend: a sidecar daemon that holds a GitHub App's private key and hands out installation tokens.

#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod broker;
pub mod cli;
pub mod client;
pub mod clock;
#[cfg(feature = "fake-github")]
pub mod fake_github;
pub mod github;
pub mod model;
pub mod server;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
