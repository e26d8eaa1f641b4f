//! Real clients: git, SDKs, and the program itself.

mod commands;
pub mod git;
mod process;
mod sdk;
