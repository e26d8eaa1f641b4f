//! ghtokend: a sidecar daemon that holds a GitHub App's private key and hands out installation tokens.

#![forbid(unsafe_code)]

pub mod clock;
#[cfg(feature = "fake-github")]
pub mod fake_github;
pub mod model;
pub mod settings;
