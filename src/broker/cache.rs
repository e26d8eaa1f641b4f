//! The token cache: the tokens of each key, indexes to find them by, and when each is looked at next.

pub(super) mod as_of;
pub(super) mod entry;
mod index;
pub(super) mod lru;
pub(super) mod memory;
pub(super) mod schedule;
pub(super) mod token_cache;
pub(super) mod token_hash;
pub(super) mod token_pair;
pub(super) mod usage;
