//! Minting: one call to GitHub for each key at a time, in a task of its own, whoever waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::cache::entry::compact;
use super::cache::token_pair::Idle;
use super::freshness::{Life, State};
use super::invalidation::log::{InvalidationScope, Sequence};
use super::refresh::step::jittered_renew_before;
use super::{Broker, Entry, Error, Minting, TokenHash};
use crate::flight::{Demand, Requester, Role};
use crate::github::{Failure, Kind, Origin};
use crate::model::{ClientId, Minted, TokenKey};
use crate::telemetry::metrics::Urgency;

impl Broker {
    /// A new token for `key`: the one that is under way, else one that is asked for now. `requester` waits for it.
    pub(super) async fn mint(
        &self,
        key: &TokenKey,
        account: Option<String>,
        requester: Requester,
    ) -> Minting {
        if self.0.draining.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        let start = |demand| self.clone().minted(key.clone(), account.clone(), demand);
        let (minting, role) = self.0.mints.run(key, requester, start).await;
        match minting.unwrap_or(Err(Error::Internal)) {
            // It was another one's share.
            Err(error) if role == Role::Joined && error.is_budget() => {
                let (minting, _) = self.0.mints.run(key, requester, start).await;
                minting.unwrap_or(Err(Error::Internal))
            }
            minting => minting,
        }
    }

    /// The same, and nobody waits for it; one that is under way becomes as urgent. `permit` is held until it has ended.
    pub(super) fn spawn_mint(
        &self,
        key: &TokenKey,
        account: Option<String>,
        requester: Requester,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let mint = |demand| {
            let minted = self.clone().minted(key.clone(), account, demand);
            async move {
                let minting = minted.await;
                drop(permit);
                minting
            }
        };
        self.0.mints.start(key, requester, mint);
    }

    /// Runs in a task of its own, once at a time for each key.
    async fn minted(self, key: TokenKey, account: Option<String>, demand: Demand) -> Minting {
        let at = self.moment();
        // Before anything is looked at or asked: whatever is invalidated from here on reaches this mint.
        let began = self.0.invalidations.latest();
        let is_background = demand.requester().client == ClientId::BACKGROUND;
        let mut end = ScheduledAtEnd { broker: &self, key: &key, outcome: MintOutcome::Panicked };
        if let Some(slot) = self.0.tokens.get(&key, &at) {
            let youngest = slot.youngest();
            let minted_just_now = at.state(youngest) == State::Fresh && youngest.life.is_just_minted(at.now);
            if minted_just_now || (is_background && slot.settling(&at).is_some()) {
                // The mint before this one landed between our caller's look into the cache and its joining.
                end.outcome = MintOutcome::Minted;
                return Ok(Arc::clone(youngest));
            }
        }
        let outcome = self.0.github.mint(&key, demand).await;
        let urgency = if is_background { Urgency::Background } else { Urgency::Foreground };
        self.count(&key, &outcome, urgency);
        match outcome {
            Ok(minted) => {
                end.outcome = MintOutcome::Minted;
                self.keep(&key, account, (minted, began)).ok_or(Error::InvalidatedWhileMinting)
            }
            Err(failure) => {
                end.outcome = match failure.origin {
                    Origin::Upstream if failure.kind.speaks_for_the_key() => {
                        MintOutcome::Failed(failure.retry_after)
                    }
                    _ => MintOutcome::PutOff(failure.retry_after.unwrap_or_default()),
                };
                if failure.origin == Origin::Upstream {
                    self.note_failed_mint(&key, &failure);
                }
                Err(Error::Github(failure))
            }
        }
    }

    /// Counts a mint that was sent.
    fn count(&self, key: &TokenKey, outcome: &Result<Minted, Failure>, urgency: Urgency) {
        let (word, took) = match outcome {
            Ok(minted) => ("ok", Some(minted.landed.since(minted.sent))),
            Err(failure) if failure.origin == Origin::Upstream => (failure.kind.code().as_str(), None),
            Err(_) => return,
        };
        self.0.metrics.mint(&key.app, word, urgency);
        if let Some(took) = took {
            self.0.metrics.mint_took(&key.app, took);
        }
    }

    /// GitHub has refused a token, or could not be asked: by some of its words, all tokens of the installation are
    /// worthless.
    fn note_failed_mint(&self, key: &TokenKey, failure: &Failure) {
        let (installation, kind) = (key.installation.get(), failure.kind.as_str());
        tracing::warn!(app = %key.app, installation, kind, error = %failure, "minting an installation token failed");
        self.note_refusal(&key.app, failure);
        if matches!(failure.kind, Kind::Suspended | Kind::Gone) {
            self.revoke_cached(InvalidationScope::AppInstallation(key.app.clone(), key.installation));
        }
    }

    /// Puts a token that has just come, and what had been invalidated when its mint began, beside the one in service, or
    /// in its place. `None`: GitHub has told meanwhile that it is worthless.
    fn keep(
        &self,
        key: &TokenKey,
        account: Option<String>,
        (minted, began): (Minted, Sequence),
    ) -> Option<Arc<Entry>> {
        self.0.readiness.accepted(&key.app);
        self.0.renewals.lock().note_lifetime(minted.lifetime);
        let life = Life::of(&minted);
        let bodies = (self.0.render)(key.installation, account.as_deref(), &minted.token).compact();
        let token = compact(minted.token);
        let hash = TokenHash::of(&token.secret);
        let renew_at = life.has_left(jittered_renew_before(key, hash, &life, &self.0.windows));
        let entry = Entry { token, account, life, bodies, hash, rejected: false, began, renew_at };
        self.0.tokens.put(key, entry, &self.moment())
    }

    /// Schedules what is cached for `key`: its next event, but nothing before the pause after a failure is over.
    fn schedule(&self, key: &TokenKey, outcome: MintOutcome) {
        let at = self.moment();
        let Some(slot) = self.0.tokens.get(key, &at) else { return };
        match outcome {
            MintOutcome::Minted => slot.note_minted(),
            MintOutcome::Failed(wait) => slot.note_failed(wait, at.now),
            MintOutcome::PutOff(wait) => slot.put_off(at.now.plus(wait)),
            MintOutcome::Panicked => slot.note_failed(None, at.now),
        }
        let next = slot.next_event(&at).max(slot.not_before());
        self.0.tokens.schedule(&slot, next, Idle::Scheduled);
    }
}

/// What came of a mint, as far as the next one of its key is concerned.
#[derive(Debug, Clone, Copy)]
enum MintOutcome {
    Minted,
    /// With the wait until the next attempt.
    Failed(Option<Duration>),
    /// It says nothing of the key, and may be made after that.
    PutOff(Duration),
    Panicked,
}

/// Schedules a key when its mint ends, also by a panic.
struct ScheduledAtEnd<'a> {
    broker: &'a Broker,
    key: &'a TokenKey,
    outcome: MintOutcome,
}

impl Drop for ScheduledAtEnd<'_> {
    fn drop(&mut self) {
        self.broker.schedule(self.key, self.outcome);
    }
}
