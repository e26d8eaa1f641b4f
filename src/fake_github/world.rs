//! The state of GitHub: accounts, installations, repositories, keys, tokens, rate limits, and the journal.

mod changes;
pub(crate) mod definition;
mod demo;
mod events;
pub(crate) mod journal;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod nonces;
pub(crate) mod product;
pub(crate) mod render;
pub(crate) mod replication;
pub(crate) mod store;
pub(crate) mod urls;
mod users;
pub(crate) mod validation;
