//! The endpoint: connections, guards, routes, errors, webhooks.

mod connections;
mod endpoint;
mod errors;
mod github_api;
mod webhook;
