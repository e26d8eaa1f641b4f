//! Proves that we are the app: its private keys, and the JWTs that they sign.

pub(super) mod jwt;
pub mod key;
mod key_error;
pub(super) mod key_ring;
mod pem_signer;
mod signer;
