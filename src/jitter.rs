//! Jitter: keeps what happened together from happening together again.

use std::hash::{DefaultHasher, Hash, Hasher as _};

/// A number from 0 to 1 that is the same for the same `seed`, and for different ones anywhere.
pub(crate) fn jitter(seed: &impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    // 53 bits are what a float holds.
    (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
}
