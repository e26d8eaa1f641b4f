//! What operators are shown: cached tokens, readiness and keys.

use std::sync::Arc;

use super::cache::token_pair::Slot;
use super::{AdmissionStatus, Broker, CachedTokenInfo, Entry, Settling};
use crate::model::{AppName, KeyInUse};

impl Broker {
    /// The cached keys whose tokens end first, at most `limit`, in this order, and how many there are in all.
    pub fn soonest_expiring(&self, limit: usize) -> (Vec<CachedTokenInfo>, usize) {
        let at = self.moment();
        let (hits, total) = self.0.tokens.soonest_ending(limit, &at);
        let held = |(key, slot): (_, Arc<Slot>)| {
            let entry = Arc::clone(slot.in_service(&at));
            let settling = |(entry, wait): (&Arc<Entry>, _)| Settling { entry: Arc::clone(entry), wait };
            let (state, remaining) = (at.state(&entry), entry.life.remaining(at.now));
            CachedTokenInfo { key, entry, state, remaining, successor: slot.settling(&at).map(settling) }
        };
        let mut held: Vec<_> = hits.into_iter().map(held).collect();
        // A key is found by the end of its last token, and shown with the one that is in service.
        held.sort_by_key(|held| held.remaining);
        (held, total)
    }

    /// What is limited, waits and was counted on the way to GitHub.
    pub fn admission(&self) -> AdmissionStatus {
        self.0.github.admission()
    }

    /// How many tokens are in hand.
    pub fn entry_count(&self) -> u64 {
        self.0.tokens.len()
    }

    /// Why an app cannot be vended for: GitHub has not accepted it yet, or refuses it now and no live token is left.
    pub fn not_ready(&self) -> Vec<(AppName, String)> {
        let at = self.moment();
        self.0.readiness.missing(|app| self.0.tokens.has_usable(app, &at))
    }

    /// The private keys of every app, newest first, and how each stands.
    pub fn keys(&self) -> Vec<(AppName, Vec<KeyInUse>)> {
        self.0.apps.iter().map(|app| (app.clone(), self.0.github.keys(app))).collect()
    }
}
