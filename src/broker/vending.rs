//! Vending: a token for a caller, from the cache or from a mint that it waits for, as [`super::decision`] decides.

use std::sync::Arc;

use super::cache::token_cache::TokenCache;
use super::decision::{Criteria, Decision, Served};
use super::error::Error;
use super::installations::lookup_cache::Found;
use super::installations::resolver::{InstallationResolver, Provenance};
use super::minter::Minter;
use super::refresh::scheduler::RefreshScheduler;
use super::request::{TokenRequest, Vended};
use super::requirement::Requirement;
use crate::model::{AppName, ClientId, Priority, TokenKey};
use crate::single_flight::Requester;

/// Vends tokens.
pub(super) struct Vending {
    pub(super) resolver: Arc<InstallationResolver>,
    pub(super) tokens: Arc<TokenCache>,
    pub(super) minter: Arc<Minter>,
    pub(super) refresh: Arc<RefreshScheduler>,
}

impl Vending {
    /// A token of `app` for `request`. If an installation that was looked up before fails in a way that another one
    /// would explain, it is looked up again.
    pub(super) async fn vend(
        &self,
        app: &AppName,
        request: &TokenRequest,
        client: ClientId,
    ) -> Result<Vended, Error> {
        self.criteria(request.requirement).check()?;
        let requester = Requester::caller(client, Priority::New);
        let (found, provenance) = self.resolver.resolve(app, request, requester).await?;
        let vended = self.token(request.key(app, found.id), &found, request.requirement, requester).await;
        match vended {
            Err(error)
                if provenance == Provenance::Cached
                    && error.may_mean_another_installation(&request.scope) =>
            {
                let found_now = match self.resolver.resolve_fresh(app, &request.selector, requester).await {
                    Err(inconclusive) if inconclusive.is_inconclusive() => return Err(error),
                    found => found?,
                };
                if found_now.id == found.id {
                    return Err(error);
                }
                self.token(request.key(app, found_now.id), &found_now, request.requirement, requester).await
            }
            vended => vended,
        }
    }

    async fn token(
        &self,
        key: TokenKey,
        found: &Found,
        requirement: Requirement,
        mut requester: Requester,
    ) -> Result<Vended, Error> {
        let mut decision = self.decide_from_cache(&key, found, requirement, &mut requester);
        let mut mints = Vec::new();
        loop {
            match decision {
                Decision::Serve(served) | Decision::ServeAndRefresh(served) => {
                    let Served { entry, state, origin } = served;
                    return Ok(Vended { key, entry, state, origin });
                }
                Decision::Fail(error) => return Err(error),
                Decision::Mint => {
                    mints.push(self.minter.mint(&key, found.account.clone(), requester).await);
                    let at = self.tokens.as_of();
                    let pair = self.tokens.get(&key, &at);
                    decision = self.criteria(requirement).decide(pair.as_deref(), &mints, &at);
                }
            }
        }
    }

    fn decide_from_cache(
        &self,
        key: &TokenKey,
        found: &Found,
        requirement: Requirement,
        requester: &mut Requester,
    ) -> Decision {
        let (criteria, at) = (self.criteria(requirement), self.tokens.as_of());
        let Some(pair) = self.tokens.get(key, &at) else { return criteria.decide(None, &[], &at) };
        requester.priority = Priority::InUse;
        pair.usage.note_used(at.now);
        let decision = criteria.decide(Some(&pair), &[], &at);
        if matches!(decision, Decision::ServeAndRefresh(_)) {
            self.refresh.refresh_early(key, &pair, found.account.as_ref(), &at);
        }
        decision
    }

    /// As of now: a mint may show that GitHub grants other lifetimes than before.
    fn criteria(&self, requirement: Requirement) -> Criteria {
        Criteria { requirement, longest_min_ttl: self.minter.longest_min_ttl() }
    }
}
