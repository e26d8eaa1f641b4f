//! Token hash: SHA-256 of a token, as in GitHub's audit log (`hashed_token`).

use std::fmt;

use base64::Engine as _;

use crate::model::Secret;

/// The SHA-256 of a token. Shows as base64, which is how GitHub's audit log names a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// From the digest itself.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash of `token`.
    pub fn of(token: &Secret) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.expose().as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::engine::general_purpose::STANDARD.encode(self.0))
    }
}
