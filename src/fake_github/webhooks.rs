//! Webhooks: signed deliveries, and the queue that sends them.

pub(crate) mod delivery;
pub(crate) mod hook;
