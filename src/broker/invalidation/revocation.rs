//! Tokens that end before their time: rejected by callers, given back, or revoked at the end of the daemon.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::broker::{Broker, Error, Rejection, TokenHash, log_failure};
use crate::github::Failure;
use crate::model::{ClientId, Secret};

impl Broker {
    /// A caller says that a token no longer works. Obeyed with restraint: see [`Rejection`].
    pub fn reject(&self, hash: TokenHash) -> Rejection {
        let at = self.moment();
        let Some((key, slot)) = self.0.tokens.find(hash, &at) else { return Rejection::Unknown };
        let Some(entry) = slot.handed_out(hash, &at) else { return Rejection::Unknown };
        let mut rejections = self.0.rejections.lock();
        if entry.rejected {
            return Rejection::Kept(rejections.wait(&key, at.now));
        }
        let settle = entry.life.settle_time(self.0.settle);
        let rejection = rejections.decide(&key, entry.life.age_since_received(at.now), settle, at.now);
        if rejection == Rejection::Evicted {
            tracing::info!(app = %key.app, installation = key.installation.get(), %hash, "token rejected by caller");
            self.0.tokens.reject(&key, hash, &at);
        }
        rejection
    }

    /// Ends the life of a token, here and at GitHub. One that is dead already is no failure. It is gone here whatever
    /// GitHub answers, and GitHub is asked even if the caller goes away: somebody may give back what has leaked.
    pub async fn revoke(&self, token: Secret, client: ClientId) -> Result<(), Error> {
        let hash = TokenHash::of(&token);
        let at = self.moment();
        let cached = self.0.tokens.find(hash, &at);
        if let Some((key, _)) = &cached {
            tracing::info!(app = %key.app, installation = key.installation.get(), %hash, "token revoked by caller");
            self.0.tokens.remove_token(key, hash, &at);
        }
        let github = Arc::clone(&self.0.github);
        let revoking = self.0.tasks.spawn(async move {
            let of = cached.as_ref().map(|(key, _)| (&key.app, key.installation));
            github.revoke(&token, of, client).await
        });
        let revoked = revoking.await.map_err(|_| Error::Internal)?;
        revoked.map_err(|failure| log_failure("revoking a token", failure))
    }

    /// Has GitHub end the lives of all cached tokens, because the daemon is about to end: first of those that there are,
    /// then of what the mints bring that are under way. The broker must be draining.
    pub async fn revoke_all(&self) {
        let mut asked = HashSet::new();
        let (mut revoked, mut failed) = self.revoke_cached_now(&mut asked).await;
        self.drained().await;
        let (late, late_failed) = self.revoke_cached_now(&mut asked).await;
        (revoked, failed) = (revoked + late, failed + late_failed);
        tracing::info!(revoked, failed, "cached tokens revoked on shutdown");
    }

    /// Revokes what is cached and was not `asked` for before: how many are, and how many could not be.
    async fn revoke_cached_now(&self, asked: &mut HashSet<TokenHash>) -> (usize, usize) {
        let mut new = Vec::new();
        for (key, slot) in self.0.tokens.all() {
            let entries = slot.entries().filter(|entry| asked.insert(entry.hash));
            new.extend(entries.map(|entry| (key.clone(), entry.token.secret.clone())));
        }
        let (mut revoked, mut failed) = (0, 0);
        let mut count = |outcome: Option<Result<Result<(), Failure>, _>>| match outcome {
            Some(Ok(Ok(()))) => revoked += 1,
            Some(_) => failed += 1,
            None => {}
        };
        let mut revoking: JoinSet<Result<(), Failure>> = JoinSet::new();
        for (key, token) in new {
            if revoking.len() >= MAX_REVOCATIONS_IN_FLIGHT {
                count(revoking.join_next().await);
            }
            let github = Arc::clone(&self.0.github);
            revoking.spawn(async move {
                github.revoke(&token, Some((&key.app, key.installation)), ClientId::BACKGROUND).await
            });
        }
        while !revoking.is_empty() {
            count(revoking.join_next().await);
        }
        (revoked, failed)
    }
}

/// GitHub takes a hundred calls at once, and others may be under way.
const MAX_REVOCATIONS_IN_FLIGHT: usize = 20;
