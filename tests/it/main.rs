//! Tests across the real edge: the daemon on loopback against the emulator.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy lets tests unwrap, but not their helpers"
)]
#![allow(unreachable_pub, reason = "a module's helpers are public to its siblings")]

mod architecture;
mod clients;
mod config;
mod docs;
mod emulator;
mod http;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod upstream;
