//! The control endpoint: what the Rust interface can do, for everybody with curl.

mod context;
mod emulator;
mod json;
mod routes;
pub(crate) mod service;
mod webhooks;
mod world;
