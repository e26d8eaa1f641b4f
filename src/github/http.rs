//! HTTP to GitHub: requests, answers and what they mean, with any dialect.

pub(super) mod answer;
pub(super) mod classify;
pub(super) mod client;
pub(super) mod config;
mod dns;
pub(super) mod read_cache;
pub(super) mod request;
pub(super) mod transport;
