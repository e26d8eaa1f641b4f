//! What tokens take of the memory: measured and summed up, so that `cache.max_bytes` holds.

use bytes::Bytes;

use super::entry::Entry;
use super::token_pair::TokenPair;
use crate::model::{InstallationToken, Scope, TokenKey};

/// What a token costs to keep, without its grant and without the room to grow that buffers have.
pub(crate) fn compact(mut token: InstallationToken) -> InstallationToken {
    token.grant = Default::default();
    token.json = Bytes::copy_from_slice(token.json.expose()).into();
    token
}

/// The memory that a key and its tokens take, with the cache's own and that of the indexes, in bytes.
pub(crate) fn weight(key: &TokenKey, pair: &TokenPair) -> usize {
    PAIR_OVERHEAD + scope_size(&key.scope) + pair.entries().map(|entry| entry_size(entry)).sum::<usize>()
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
pub(crate) const fn allocated(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        bytes => (bytes + WORD).next_multiple_of(2 * WORD),
    }
}

const WORD: usize = size_of::<usize>();
/// A pair's own struct, its key, the cache's book-keeping and that of the indexes: measured, not summed up.
const PAIR_OVERHEAD: usize = 1280;
/// An entry's own struct and the counters of what it shares: measured, not summed up.
const ENTRY_OVERHEAD: usize = 512;
