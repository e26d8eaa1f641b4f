//! Starts the daemon, programs and servers that tests need.

pub mod door;
pub mod git_server;
pub mod program;
pub mod stub;
pub mod world;
