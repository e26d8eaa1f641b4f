//! Ids of requests, by which an answer leads to its lines in log and audit.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes ids that no two requests share, and that differ from those of the last run.
#[derive(Debug)]
pub(super) struct RequestIds {
    run: u32,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        let random = RandomState::new().hash_one(0_u8);
        Self { run: (random >> 32) as u32, next: AtomicU64::new(1) }
    }
}

impl RequestIds {
    pub(super) fn next(&self) -> String {
        format!("{:08x}-{:06x}", self.run, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
