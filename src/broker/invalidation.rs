//! Invalidation: tokens and look-ups that end before their time, by webhook, by callers, or with the daemon.

pub(super) mod events;
pub(super) mod rejection;
pub(super) mod revocation;
