//! A cached token: what GitHub granted, rendered once.

use std::fmt;

use bytes::Bytes;

use super::token_hash::TokenHash;
use crate::broker::freshness::Life;
use crate::broker::invalidation_log::Sequence;
use crate::clock::BootTime;
use crate::model::InstallationToken;

/// A cached token, ready to be handed out.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What GitHub handed out, without the grant: it is in the bodies, and large where many repositories are named.
    pub token: InstallationToken,
    /// The account of the installation, if known.
    pub account: Option<String>,
    /// Its life.
    pub life: Life,
    /// How it looks on the wire.
    pub bodies: Bodies,
    /// Its SHA-256, by which GitHub's audit log and rejections know it.
    pub hash: TokenHash,
    /// Whether a caller has rejected it, or a webhook has made it stale: it is
    /// handed out only if no other can be minted.
    pub rejected: bool,
    /// What had been invalidated when its mint began.
    pub(crate) began: Sequence,
    /// When the timer renews it.
    pub(crate) renew_at: BootTime,
}

/// A token's answers, rendered once when it is minted.
#[derive(Clone)]
pub struct Bodies {
    /// The JSON object of `GET /token`.
    pub json: Bytes,
    /// The bare token and a newline.
    pub text: Bytes,
}

impl fmt::Debug for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Bodies {
    /// The same without the room to grow that buffers have.
    pub(crate) fn compact(self) -> Self {
        let exact = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Self { json: exact(&self.json), text: exact(&self.text) }
    }
}
