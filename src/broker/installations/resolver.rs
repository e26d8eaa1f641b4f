//! Installation look-up: which installation a request means, by configuration, from the cache, or as GitHub says.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::lookup::{CachedAnswer, Found, LookupCache, Question};
use crate::broker::coalesce::coalesced;
use crate::broker::error::Error;
use crate::broker::invalidation::log::{Effect, InvalidationLog, InvalidationScope};
use crate::broker::request::TokenRequest;
use crate::clock::Clock;
use crate::flight::{Demand, Requester, SingleFlight};
use crate::github::Github;
use crate::github::staleness::Use;
use crate::model::{AppName, Dialect, InstallationId, Login, Priority, RepositoryName, Selector};

/// Turns owners, repositories and enterprises into installations.
pub(crate) struct InstallationResolver {
    /// The configured installation of each app, for requests that name none.
    defaults: BTreeMap<AppName, Option<InstallationId>>,
    lookups: Arc<LookupCache>,
    flights: SingleFlight<Question, Result<Arc<Found>, Error>>,
}

/// What an [`InstallationResolver`] is built with beside its collaborators.
pub(crate) struct ResolverConfig {
    /// The configured installation of each app, for requests that name none.
    pub(crate) defaults: BTreeMap<AppName, Option<InstallationId>>,
    /// Most bytes of cached answers.
    pub(crate) max_bytes: u64,
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
    pub(crate) fn new(
        github: Arc<dyn Github>,
        clock: Arc<dyn Clock>,
        log: Arc<InvalidationLog>,
        config: ResolverConfig,
        tasks: TaskTracker,
    ) -> Self {
        let lookups = Arc::new(LookupCache::new(github, clock, log, config.max_bytes));
        Self { defaults: config.defaults, lookups, flights: SingleFlight::new(tasks) }
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
        // Whoever goes by a name would have to wait once it is too old; and names are asked for on one's own account.
        let in_use = Requester { priority: Priority::InUse, ..requester };
        match staleness.judge(self.lookups.clock.boot()) {
            Use::AsItIs => {}
            Use::AndAskBehind => {
                self.flights.start(&question, in_use, |demand| self.look_up(&question, demand));
            }
            Use::IfNoAnswer => match self.ask(&question, in_use).await {
                Err(error) if error.is_inconclusive() => {}
                answer => return Ok((answer?, self.provenance_of_answers())),
            },
        }
        Ok((found, Provenance::Cached))
    }

    /// The installation that `selector` names, as GitHub says now. What is cached stays unless it says another.
    pub(crate) async fn resolve_anew(
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

    /// Dialect `integrations` answers from a list that is cached, and what comes from it may be out of date.
    fn provenance_of_answers(&self) -> Provenance {
        match self.lookups.github.dialect() {
            Dialect::Apps => Provenance::Fresh,
            Dialect::Integrations => Provenance::Cached,
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
