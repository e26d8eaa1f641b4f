//! Background refresh and prefetch: what is minted though no caller waits for it.

pub(super) mod prefetch;
pub(super) mod scheduler;
mod step;
pub(super) mod workers;
