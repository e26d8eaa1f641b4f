//! Installation look-up: which installation a request means, by configuration, from the cache, or from GitHub.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::lookup_cache::{CachedAnswer, Found, LookupCache, Question};
use crate::broker::coalesce::coalesced;
use crate::broker::error::Error;
use crate::broker::invalidation_log::{Effect, InvalidationScope};
use crate::broker::request::TokenRequest;
use crate::github::staleness::Lookup;
use crate::model::{AppName, InstallationId, Login, Priority, RepositoryName, Selector};
use crate::single_flight::{Demand, Requester, SingleFlight};

/// Turns owners, repositories and enterprises into installations.
pub(crate) struct InstallationResolver {
    /// The configured installation of each app, for requests that name none.
    defaults: BTreeMap<AppName, Option<InstallationId>>,
    lookups: Arc<LookupCache>,
    flights: SingleFlight<Question, Result<Arc<Found>, Error>>,
}

/// Where an answer came from: one from a cache may be out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provenance {
    /// The request or the configuration.
    Explicit,
    /// A cache.
    Cached,
    /// GitHub, just now.
    Fresh,
}

impl InstallationResolver {
    /// With the configured installation of each app. Look-ups run in `tasks`.
    pub(crate) fn new(
        defaults: BTreeMap<AppName, Option<InstallationId>>,
        lookups: LookupCache,
        tasks: TaskTracker,
    ) -> Self {
        Self { defaults, lookups: Arc::new(lookups), flights: SingleFlight::new(tasks) }
    }

    /// The installation that `request` means, if the dialect supports such a request.
    pub(crate) async fn resolve(
        &self,
        app: &AppName,
        request: &TokenRequest,
        requester: Requester,
    ) -> Result<(Arc<Found>, Provenance), Error> {
        let selector = &request.selector;
        self.lookups.github.check_supported(selector, &request.scope, request.user)?;
        let explicit = match selector {
            Selector::Id(id) => Some(*id),
            Selector::Default => self.defaults.get(app).copied().flatten(),
            _ => None,
        };
        if let Some(id) = explicit {
            return Ok((Arc::new(Found { id, account: None }), Provenance::Explicit));
        }
        let question = (app.clone(), selector.clone());
        let Some(CachedAnswer { found, staleness, .. }) = self.lookups.get(&question) else {
            return Ok((self.ask(&question, requester).await?, self.provenance_of_answers()));
        };
        // A look-up that is in use goes before new ones, and counts against the share of the caller who needs it.
        let in_use = Requester { priority: Priority::InUse, ..requester };
        match staleness.judge(self.lookups.clock.boot()) {
            Lookup::Hit => {}
            Lookup::StaleWhileRevalidate => {
                self.flights.start(&question, in_use, |demand| self.look_up(&question, demand));
            }
            Lookup::StaleIfError => match self.ask(&question, in_use).await {
                Err(error) if error.is_inconclusive() => {}
                answer => return Ok((answer?, self.provenance_of_answers())),
            },
        }
        Ok((found, Provenance::Cached))
    }

    /// The installation that `selector` names, asked of GitHub now. What is cached stays if GitHub does not answer.
    pub(crate) async fn resolve_fresh(
        &self,
        app: &AppName,
        selector: &Selector,
        requester: Requester,
    ) -> Result<Arc<Found>, Error> {
        self.ask(&(app.clone(), selector.clone()), requester).await
    }

    /// Makes the next look-up that would bring this installation ask GitHub, and the next that names none.
    pub(crate) fn forget_installation(&self, id: InstallationId) {
        self.lookups.github.forget_installations();
        let scope = InvalidationScope::Installation(id);
        self.lookups.log.note(scope, Effect::ForgetLookups, self.lookups.clock.boot());
    }

    /// Makes the next look-up of this repository ask GitHub.
    pub(crate) fn forget_repository(&self, owner: &Login, name: &RepositoryName) {
        // What is under way is invalidated first, so that nothing is cached once it has been dropped.
        self.lookups.log.note_lookup_change();
        for app in self.defaults.keys() {
            self.lookups.remove((app.clone(), Selector::Repository(owner.clone(), name.clone())));
        }
    }

    /// A dialect without look-ups answers from a list that is cached, and what comes from it may be out of date.
    fn provenance_of_answers(&self) -> Provenance {
        match self.lookups.github.capabilities().installation_lookup {
            true => Provenance::Fresh,
            false => Provenance::Cached,
        }
    }

    async fn ask(&self, question: &Question, requester: Requester) -> Result<Arc<Found>, Error> {
        coalesced(&self.flights, question, requester, |demand| self.look_up(question, demand)).await
    }

    fn look_up(
        &self,
        question: &Question,
        demand: Demand,
    ) -> impl Future<Output = Result<Arc<Found>, Error>> + use<> {
        let (lookups, question) = (Arc::clone(&self.lookups), question.clone());
        async move { lookups.look_up(question, demand).await }
    }
}
