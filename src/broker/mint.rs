//! Minting: one call to GitHub for each key at a time, in a task of its own, whoever waits for it.

use std::sync::Arc;
use std::time::Duration;

use super::entry::compact;
use super::freshness::{Life, State};
use super::invalidation::{InvalidationScope, Sequence};
use super::renewal::jittered_renew_before;
use super::slot::Idle;
use super::{Broker, Entry, Error, Minting, TokenHash};
use crate::github::{Failure, Kind};
use crate::model::{Minted, Selector, TokenKey};

/// On whose account a token is minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A caller waits for it.
    Caller,
    /// Nobody does.
    Background,
}

impl Broker {
    /// A new token for `key`: the one that is under way, else one that is asked for now.
    pub(super) async fn mint(&self, key: &TokenKey, account: Option<String>, cause: Cause) -> Minting {
        if self.0.draining.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        let start = || self.clone().minted(key.clone(), account, cause);
        self.0.mints.join(key, start).await.unwrap_or(Err(Error::Crashed))
    }

    /// The same, and nobody waits for it.
    pub(super) fn begin_to_mint(&self, key: &TokenKey, account: Option<String>) {
        self.0.mints.begin(key, || self.clone().minted(key.clone(), account, Cause::Background));
    }

    /// Runs in a task of its own, once at a time for each key.
    async fn minted(self, key: TokenKey, account: Option<String>, cause: Cause) -> Minting {
        let at = self.moment();
        // Before anything is looked at or asked: whatever is invalidated from here on reaches this mint.
        let began = self.0.invalidations.latest();
        let _end = ScheduledAtEnd { broker: &self, key: &key };
        if let Some(slot) = self.0.tokens.get(&key, &at) {
            let youngest = slot.youngest();
            let minted_just_now = at.state(youngest) == State::Fresh && youngest.life.has_just_begun(at.now);
            if minted_just_now || (cause == Cause::Background && slot.settling(&at).is_some()) {
                // The mint before this one landed between our caller's look into the cache and its joining.
                return Ok(Arc::clone(youngest));
            }
        }
        if cause == Cause::Caller {
            self.renewals().take_for_caller(&key.app, at.now).map_err(budget_is_spent)?;
        }
        let _crash = NotedIfPanicking { broker: &self, key: &key };
        let outcome = self.0.github.mint(&key).await;
        let now = self.0.clock.boot();
        let took = now.since(at.now);
        let word = outcome.as_ref().map_or_else(|failure| failure.kind.as_str(), |_| "ok");
        self.0.metrics.mint(&key.app, word, took);
        if cause == Cause::Background {
            self.0.metrics.background_mint(&key.app, word);
        }
        match outcome {
            Ok(minted) => self.keep(&key, account, (minted, began)).ok_or(Error::Overtaken),
            Err(failure) => {
                let installation = key.installation.get();
                tracing::warn!(app = %key.app, installation, %failure, "no token could be minted");
                self.renewals().failed(&key, &failure, cause, now);
                self.note_refusal(&key.app, failure.kind, &failure.message);
                self.drop_if_gone(&key, &failure).await;
                Err(Error::Github(failure))
            }
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
        self.renewals().succeeded(key, minted.lifetime);
        let life = Life::of(&minted);
        let bodies = (self.0.render)(key.installation, account.as_deref(), &minted.token).compact();
        let token = compact(minted.token);
        let hash = TokenHash::of(&token.secret);
        let renew_at = life.has_left(jittered_renew_before(key, hash, &life, &self.0.windows));
        let entry = Entry { token, account, life, bodies, hash, rejected: false, began, renew_at };
        self.0.tokens.put(key, entry, &self.moment())
    }

    /// Schedules what is cached for `key`, whatever became of its mint: its next event, but nothing before the pause
    /// after a failure is over.
    fn schedule(&self, key: &TokenKey) {
        let at = self.moment();
        let pause = self.renewals().pause_end(key);
        if let Some(slot) = self.0.tokens.get(key, &at) {
            let next = slot.next_event(&at);
            self.0.tokens.schedule(&slot, pause.map_or(next, |pause| pause.max(next)), Idle::Scheduled);
        }
    }

    /// Throws tokens out on GitHub's word that they are worthless: a suspension, or a 404 that holds when asked again.
    async fn drop_if_gone(&self, key: &TokenKey, failure: &Failure) {
        let gone = match failure.kind {
            Kind::Suspended => true,
            Kind::NotFound if self.0.tokens.holds(&key.app, key.installation, &self.moment()) => {
                let confirmed = self.0.github.look_up(&key.app, &Selector::Id(key.installation)).await;
                confirmed.is_err_and(|failure| failure.kind == Kind::NotFound)
            }
            _ => false,
        };
        if gone {
            self.revoke_cached(InvalidationScope::AppInstallation(key.app.clone(), key.installation));
        }
    }
}

/// Schedules a key when its mint ends, also by a panic. Dropped last, once its failure is noted.
struct ScheduledAtEnd<'a> {
    broker: &'a Broker,
    key: &'a TokenKey,
}

impl Drop for ScheduledAtEnd<'_> {
    fn drop(&mut self) {
        self.broker.schedule(self.key);
    }
}

/// Notes that a mint panicked, when it is dropped by that.
struct NotedIfPanicking<'a> {
    broker: &'a Broker,
    key: &'a TokenKey,
}

impl Drop for NotedIfPanicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.broker.renewals().crashed(self.key, self.broker.0.clock.boot());
        }
    }
}

/// It is our own budget, so that GitHub's is never spent.
fn budget_is_spent(wait: Duration) -> Error {
    let message = "as many tokens as github.mints_per_minute allows were minted within a minute: ask for fewer different \
                   ones, or raise it";
    Error::Github(Failure { retry_after: Some(wait), ..Failure::new(Kind::RateLimited, message) })
}
