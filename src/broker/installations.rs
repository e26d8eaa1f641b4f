//! Installation look-up: from a selector to an installation.

pub(super) mod explain;
pub(super) mod lookup_cache;
pub(super) mod resolver;
