//! Starts the daemon, programs and servers that tests need.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod configured;
pub mod door;
pub mod git_server;
pub mod program;
pub mod stub;
pub mod world;
