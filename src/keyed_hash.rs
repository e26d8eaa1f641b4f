//! What stands for a key that may be long.

use std::hash::{BuildHasher, Hash, RandomState};

/// Makes hashes of 128 bits with a secret of the process: nobody can think of two things that have the same.
#[derive(Debug, Default)]
pub(crate) struct KeyedHash([RandomState; 2]);

impl KeyedHash {
    /// The hash of `key`.
    pub(crate) fn of(&self, key: &impl Hash) -> u128 {
        let [high, low] = self.0.each_ref().map(|state| u128::from(state.hash_one(key)));
        high << 64 | low
    }
}
