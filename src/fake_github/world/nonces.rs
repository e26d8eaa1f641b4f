//! Nonces: a user's browser brings one to the app, which exchanges it once for the user's identity.

use std::collections::HashMap;

use crate::fake_github::clock::Millis;

/// The nonces that can still be used, and some that have expired.
#[derive(Debug, Default)]
pub(crate) struct Nonces(HashMap<String, Nonce>);

/// The user that a nonce identifies, and the installation the user came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nonce {
    pub(crate) installation: u64,
    pub(crate) user: u64,
    deadline: Millis,
}

impl Nonces {
    /// Adds `text`, valid until `deadline`, and drops what has expired at `now`.
    pub(crate) fn insert(
        &mut self,
        text: String,
        (installation, user): (u64, u64),
        deadline: Millis,
        now: Millis,
    ) {
        self.0.retain(|_, nonce| nonce.deadline > now);
        self.0.insert(text, Nonce { installation, user, deadline });
    }

    /// The nonce `text`, if it is valid at `now`. It stays usable.
    pub(crate) fn get(&self, text: &str, now: Millis) -> Option<Nonce> {
        self.0.get(text).copied().filter(|nonce| nonce.deadline > now)
    }

    /// Makes `text` unusable.
    pub(crate) fn consume(&mut self, text: &str) {
        self.0.remove(text);
    }

    /// Another installation may get the same id, but not these nonces.
    pub(crate) fn forget_installation(&mut self, id: u64) {
        self.0.retain(|_, nonce| nonce.installation != id);
    }
}
