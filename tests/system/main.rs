//! Tests that need root, thousands of sockets or minutes: the fleet in virtual time, crowds, name servers and TLS.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy lets tests unwrap, but not their helpers"
)]
#![allow(unreachable_pub, reason = "a module's helpers are public to its siblings")]

mod crowd;
mod dns;
mod fleet;
mod polling;
#[path = "../support/mod.rs"]
mod support;
mod tls;
