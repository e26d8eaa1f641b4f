//! Minting: one call to GitHub for each key at a time, in a task of its own, whoever waits for it.

use std::sync::Arc;
use std::time::Duration;

use super::freshness::{Life, State};
use super::news::Standing;
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
        if let Some(slot) = self.0.tokens.get(&key) {
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
            Ok(minted) => self.keep(&key, account, minted).ok_or(Error::Overtaken),
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

    /// Puts a token that has just come beside the one in service, or in its place. `None`: GitHub has told meanwhile
    /// that it is worthless.
    fn keep(&self, key: &TokenKey, account: Option<String>, minted: Minted) -> Option<Arc<Entry>> {
        self.0.readiness.accepted(&key.app);
        self.renewals().succeeded(key, minted.lifetime);
        let (life, minted_at) = (Life::of(&minted), minted.sent);
        let token = minted.token;
        let bodies = (self.0.render)(key.installation, account.as_deref(), &token);
        let hash = TokenHash::of(&token.secret);
        let at = self.moment();
        // Kept until the token is in its place, where whatever GitHub tells next finds it.
        let told = self.told();
        let standing = told.standing(key, minted_at);
        if standing == Standing::Worthless {
            return None;
        }
        let rejected = standing == Standing::Outdated;
        let entry = Arc::new(Entry { token, account, life, bodies, hash, rejected });
        self.0.tokens.put(key.clone(), &entry, &at);
        Some(entry)
    }

    /// Throws tokens out on GitHub's word that they are worthless: a suspension, or a 404 that holds when asked again.
    async fn drop_if_gone(&self, key: &TokenKey, failure: &Failure) {
        let gone = match failure.kind {
            Kind::Suspended => true,
            Kind::NotFound if self.0.tokens.holds(&key.app, key.installation) => {
                let confirmed = self.0.github.look_up(&key.app, &Selector::Id(key.installation)).await;
                confirmed.is_err_and(|failure| failure.kind == Kind::NotFound)
            }
            _ => false,
        };
        if gone {
            self.0.tokens.drop_all(|held| held.installation == key.installation && held.app == key.app);
        }
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
