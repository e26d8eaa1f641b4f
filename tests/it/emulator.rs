//! The fake GitHub, against GitHub's documents.

pub mod apps;
pub mod preview;
mod webhooks;
