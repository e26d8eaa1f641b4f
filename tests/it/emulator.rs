//! The fake GitHub, against GitHub's documents.

pub mod client;
mod control;
mod faults;
mod installations;
mod journal;
mod jwt;
pub mod preview;
mod replication;
mod requests;
mod tokens;
mod webhooks;
mod worlds;
