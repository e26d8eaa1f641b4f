//! Tests across the real edge: the daemon on loopback against the emulator.

mod fake_github;
mod keys;
mod settings;
mod vend;
mod world;
