//! ghtokend: a sidecar daemon that holds a GitHub App's private key and hands out installation tokens.

#![forbid(unsafe_code)]

pub mod clock;
pub mod github;
pub mod model;
pub mod settings;
