//! A cached token: what GitHub granted, rendered once, and what it takes of the memory.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::cache::hash::TokenHash;
use crate::broker::cache::token_pair::Slot;
use crate::broker::freshness::Life;
use crate::broker::invalidation::log::Sequence;
use crate::clock::BootTime;
use crate::model::{InstallationToken, Scope, TokenKey};

/// A token in hand, ready to be handed out.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What GitHub handed out, without the grant: it is in the bodies, and large where many repositories are named.
    pub token: InstallationToken,
    /// The account of the installation, if it is known.
    pub account: Option<String>,
    /// Its life.
    pub life: Life,
    /// How it looks on the wire.
    pub bodies: Bodies,
    /// Its SHA-256, by which GitHub's audit log and rejections know it.
    pub hash: TokenHash,
    /// Whether a caller has shown that it no longer works, or GitHub has told that it would grant another one: it is
    /// handed out only if no other can be had.
    pub rejected: bool,
    /// What had been invalidated when its mint began.
    pub(in crate::broker) began: Sequence,
    /// When the timer renews it.
    pub(in crate::broker) renew_at: BootTime,
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
    pub(in crate::broker) fn compact(self) -> Self {
        let exact = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Self { json: exact(&self.json), text: exact(&self.text) }
    }
}

/// What a token costs to keep, without its grant and without the room to grow that buffers have.
pub(in crate::broker) fn compact(mut token: InstallationToken) -> InstallationToken {
    token.grant = Default::default();
    token.json = Bytes::copy_from_slice(token.json.expose()).into();
    token
}

/// The memory that a key and its tokens take, with the cache's own and that of the indexes, in bytes.
pub(in crate::broker) fn weight(key: &TokenKey, slot: &Arc<Slot>) -> usize {
    SLOT_OVERHEAD + scope_size(&key.scope) + slot.entries().map(|entry| entry_size(entry)).sum::<usize>()
}

fn entry_size(entry: &Entry) -> usize {
    let token = &entry.token;
    let user = token.on_behalf_of.as_ref().map_or(0, |user| user.json.len());
    let account = entry.account.as_ref().map_or(0, String::len);
    let bytes = [
        entry.bodies.json.len(),
        entry.bodies.text.len(),
        token.json.expose().len(),
        token.secret.expose().len(),
        token.expires_at.len(),
        user,
        account,
    ];
    ENTRY_OVERHEAD + bytes.into_iter().map(allocated).sum::<usize>()
}

fn scope_size(scope: &Scope) -> usize {
    let names = scope.repositories.iter().flatten().map(|name| shared_text(name.as_str()));
    let ids = scope.repository_ids.iter().flatten().map(|_| node_share(size_of::<u64>()));
    let permissions = scope.permissions.iter().flatten().map(|(name, _)| shared_text(name.as_str()) + WORD);
    names.chain(ids).chain(permissions).sum()
}

/// An `Arc<str>` in a B-tree: its pointer and length there, and its text with two counters.
fn shared_text(text: &str) -> usize {
    node_share(2 * WORD) + allocated(2 * WORD + text.len())
}

/// B-tree nodes are half empty at worst.
const fn node_share(size: usize) -> usize {
    size * 2
}

/// What an allocator takes for so many bytes: a header, rounded up.
pub(in crate::broker) const fn allocated(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        bytes => (bytes + WORD).next_multiple_of(2 * WORD),
    }
}

const WORD: usize = size_of::<usize>();
/// A slot's own struct, its key, the cache's book-keeping and that of the indexes: measured, not summed up.
const SLOT_OVERHEAD: usize = 1280;
/// An entry's own struct and the counters of what it shares: measured, not summed up.
const ENTRY_OVERHEAD: usize = 512;
