//! GitHub and the way there: its dialects, keys, limits and faults.

pub mod admission;
mod failure;
pub mod faults;
pub mod identity;
mod integrations;
mod keys;
mod outage;
pub mod rotation;
