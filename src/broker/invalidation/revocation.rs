//! Revocation: tokens whose lives end at GitHub, because a caller revokes them or the daemon ends.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::broker::cache::token_cache::TokenCache;
use crate::broker::cache::token_hash::TokenHash;
use crate::broker::error::Error;
use crate::github::{Failure, Github};
use crate::model::{ClientId, Secret};

/// Revokes tokens at GitHub, and drops them here.
pub(crate) struct Revoker {
    pub(crate) github: Arc<dyn Github>,
    pub(crate) tokens: Arc<TokenCache>,
    /// What the end of the daemon waits for: mints and revocations.
    pub(crate) tasks: TaskTracker,
}

impl Revoker {
    /// Ends the life of a token, here and at GitHub. One that has ended already is no failure. It is gone here whatever
    /// GitHub answers, and GitHub is asked even if the caller goes away: what is revoked may have leaked.
    pub(crate) async fn revoke(&self, token: Secret, client: ClientId) -> Result<(), Error> {
        let hash = TokenHash::of(&token);
        let at = self.tokens.as_of();
        let cached = self.tokens.find(hash, &at);
        if let Some((key, _)) = &cached {
            tracing::info!(app = %key.app, installation = key.installation.get(), hashed_token = %hash, "token revoked by caller");
            self.tokens.remove_token(key, hash, &at);
        }
        let github = Arc::clone(&self.github);
        let revoking = self.tasks.spawn(async move {
            let of = cached.as_ref().map(|(key, _)| (&key.app, key.installation));
            github.revoke(&token, of, client).await
        });
        let revoked = revoking.await.map_err(|_| Error::Internal)?;
        revoked.map_err(|failure| Error::logged("revoking a token", failure))
    }

    /// Revokes all cached tokens at GitHub, first those that there are, then those of the mints under way.
    pub(crate) async fn revoke_all(&self) {
        let mut asked = HashSet::new();
        let (mut revoked, mut failed) = self.revoke_cached_now(&mut asked).await;
        self.drained().await;
        let (late, late_failed) = self.revoke_cached_now(&mut asked).await;
        (revoked, failed) = (revoked + late, failed + late_failed);
        tracing::info!(revoked, failed, "cached tokens revoked on shutdown");
    }

    /// Waits for the mints and revocations under way.
    pub(crate) async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Revokes what is cached and was not `asked` for before: how many are, and how many could not be.
    async fn revoke_cached_now(&self, asked: &mut HashSet<TokenHash>) -> (usize, usize) {
        let mut new = Vec::new();
        for (key, pair) in self.tokens.all() {
            let entries = pair.entries().filter(|entry| asked.insert(entry.hash));
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
            let github = Arc::clone(&self.github);
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
