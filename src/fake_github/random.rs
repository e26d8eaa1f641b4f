//! Pseudo-random numbers, reproducible with a seed. Not for cryptography.

use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64: one atomic step per number, so it needs no lock.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    /// Numbers that follow from `seed`; without one, from the system's randomness.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(AtomicU64::new(seed.unwrap_or_else(from_the_system)))
    }

    pub(crate) fn next(&self) -> u64 {
        let state = self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0. The tiny bias does not matter here.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True with `probability`, from 0 to 1.
    pub(crate) fn random_bool(&self, probability: f64) -> bool {
        // 53 bits are what fits into the fraction of an f64.
        (self.next() >> 11) as f64 / ((1_u64 << 53) as f64) < probability
    }

    /// `length` characters out of `alphabet`.
    pub(crate) fn text(&self, alphabet: &[u8], length: usize) -> String {
        (0..length)
            .filter_map(|_| alphabet.get(usize::try_from(self.below(alphabet.len() as u64)).unwrap_or(0)))
            .map(|byte| char::from(*byte))
            .collect()
    }
}

/// Lower-case hexadecimal.
pub(crate) const HEX: &[u8] = b"0123456789abcdef";

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn from_the_system() -> u64 {
    let mut bytes = [0; 8];
    // A failure leaves a fixed seed, which is as good as any for a fake.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
