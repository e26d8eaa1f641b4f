//! Tests across the real edge: the daemon on loopback against the emulator.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy lets tests unwrap, but not their helpers"
)]
#![allow(unreachable_pub, reason = "a module's helpers are public to its siblings")]

mod admission;
mod clocks;
mod commands;
mod connections;
mod crowd;
mod deploy;
mod dns;
mod door;
mod endpoint;
mod errors;
mod failure;
mod fake_github;
mod fake_github_preview;
mod fake_github_webhooks;
mod faults;
mod fleet;
mod git;
mod git_server;
mod github_api;
mod identity;
mod integrations;
mod keys;
mod leak;
mod life;
mod min_ttl;
mod outage;
mod page;
mod prefetch;
mod process;
mod program;
mod readme;
mod reject;
mod reload;
mod renewal;
mod rotation;
mod sdk;
mod settings;
mod stub;
mod tidy;
mod tls;
mod vend;
mod webhook;
mod world;
