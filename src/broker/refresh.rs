//! Background refresh: what is minted though no caller waits for it.

pub(super) mod scheduler;
pub(super) mod step;
