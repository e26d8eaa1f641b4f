//! GitHub: its keys, its endpoints, its answers.

pub mod key;
