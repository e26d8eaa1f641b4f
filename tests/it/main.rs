//! Tests across the real edge: the daemon on loopback against the emulator.

#![expect(clippy::unwrap_used, reason = "clippy lets tests unwrap, but not their helpers")]

mod keys;
mod settings;
