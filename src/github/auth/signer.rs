//! The seam for private keys: what signs app JWTs, wherever the key is.

use std::fmt::{Debug, Display};
use std::pin::Pin;

/// A private key of an app. `Debug` shows its fingerprint at most.
pub trait Signer: Debug + Send + Sync {
    /// Signs with RS256 (RSASSA-PKCS1-v1_5 and SHA-256). No lock is held meanwhile, but calls to GitHub wait: a signer that
    /// asks another service bounds the time for it.
    fn sign<'a>(&'a self, message: &'a [u8]) -> Signature<'a>;

    /// The key as GitHub's settings page shows it: `SHA256:` and base64 of the SHA-256 of the public key.
    fn fingerprint(&self) -> &str;

    /// Finds out whether the key works, as far as that can be done at once and without a network.
    fn self_test(&self) -> Result<(), SignError> {
        Ok(())
    }
}

/// The bytes of a signature that is being made.
pub type Signature<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, SignError>> + Send + 'a>>;

/// Why there is no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SignError(String);

impl SignError {
    /// For this reason, which quotes nothing secret.
    pub fn new(reason: &impl Display) -> Self {
        Self(reason.to_string())
    }
}
