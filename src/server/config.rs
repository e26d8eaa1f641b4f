//! Configuration of the endpoint.

use std::time::Duration;

use url::Url;

use super::guard::Guard;
use crate::broker::webhook::Secrets;

/// An app, as `/status` shows it.
#[derive(Debug, Clone)]
pub struct ServedApp {
    /// Its name in the configuration.
    pub name: String,
    /// App id or client id.
    pub id: String,
}

/// Configuration of the endpoint.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The request guards at start; a reload replaces them.
    pub guard: Guard,
    /// Whether answers are sent with a TTL of 1.
    pub hop_limit_1: bool,
    /// Connections at a time to each listener for tokens.
    pub max_connections: usize,
    /// Connections at a time to the listener for health and metrics.
    pub max_ops_connections: usize,
    /// What deliveries are signed with; `None`: deliveries are not taken.
    pub webhook: Option<Secrets>,
    /// Base of GitHub's own API, named to callers who look for it here.
    pub api_url: Url,
    /// The web and git host that belongs to the API.
    pub web_url: Url,
    /// Longest time from the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// Longest wait for that byte, on a new connection and between two requests.
    pub idle_timeout: Duration,
    /// Age at which a connection takes no more requests: one that never ends, or whose client never reads, holds its
    /// place no longer.
    pub connection_age: Duration,
    /// Longest time that a request for a token is worked on.
    pub request_timeout: Duration,
}
