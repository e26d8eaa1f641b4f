//! Installation look-up.

pub(super) mod resolver;
