//! The other dialect: the "Integrations" preview of 2016, from which today's API grew.
//!
//! It has its own names for what today's API does, wants its media type in `Accept`, and knows users: tokens act
//! on behalf of one, and a nonce from the browser identifies one. World, tokens, clock, faults, journal and
//! counters are the same ones. GitHub switched it off in 2020; here it is available until it is retired.

pub(super) mod identity;
pub(super) mod installations;
mod render;
pub(super) mod repositories;
pub(super) mod tokens;
mod users;
