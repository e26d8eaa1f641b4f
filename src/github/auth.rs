//! Proves that we are the app: its private keys, and the JWTs that they sign.

pub(super) mod jwt;
pub mod key;
pub(super) mod key_ring;
