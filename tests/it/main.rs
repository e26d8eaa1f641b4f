//! Tests across the real edge: the daemon on loopback against the emulator.

mod keys;
mod settings;
