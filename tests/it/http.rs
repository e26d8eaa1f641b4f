//! The endpoint: connections, guards, routes, errors, webhooks.

mod connections;
mod crowd;
mod endpoint;
mod errors;
mod github_api;
mod webhook;
