//! Nonces: what the browser brings back to the integrator, good for one question.

use std::collections::HashMap;

use crate::fake_github::clock::Millis;

/// The nonces that can still be used, and some that have expired.
#[derive(Debug, Default)]
pub(crate) struct Nonces(HashMap<String, Nonce>);

/// Who came by the browser, and to which installation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nonce {
    pub(crate) installation: u64,
    pub(crate) user: u64,
    deadline: Millis,
}

impl Nonces {
    /// Remembers `text` until `deadline`, and forgets what has expired at `now`.
    pub(crate) fn keep(
        &mut self,
        text: String,
        (installation, user): (u64, u64),
        deadline: Millis,
        now: Millis,
    ) {
        self.0.retain(|_, nonce| nonce.deadline > now);
        self.0.insert(text, Nonce { installation, user, deadline });
    }

    /// What `text` stands for at `now`; looking does not use it up.
    pub(crate) fn look(&self, text: &str, now: Millis) -> Option<Nonce> {
        self.0.get(text).copied().filter(|nonce| nonce.deadline > now)
    }

    /// Uses `text` up.
    pub(crate) fn spend(&mut self, text: &str) {
        self.0.remove(text);
    }

    /// Another installation may get the same id, but not these nonces.
    pub(crate) fn forget_installation(&mut self, id: u64) {
        self.0.retain(|_, nonce| nonce.installation != id);
    }
}
