//! Installation look-up: which installation a caller means, and the cache of what GitHub answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::broker::Error;
use crate::broker::cache::entry::allocated;
use crate::broker::cache::token_cache::Lru;
use crate::broker::invalidation::log::{Effect, InvalidationScope, Invalidations, Sequence};
use crate::clock::{BootTime, Clock};
use crate::flight::{Demand, Requester, Role, SingleFlight};
use crate::github::staleness::{Staleness, Use};
use crate::github::{Failure, Github, Kind};
use crate::model::{
    AppName, Dialect, Installation, InstallationId, Login, Priority, RepositoryName, Selector,
};

/// Turns owners, repositories and enterprises into installations, and remembers the answers for a while.
pub(in crate::broker) struct Directory {
    /// The configured installation of each app, for requests that name none.
    defaults: BTreeMap<AppName, Option<InstallationId>>,
    desk: Arc<Desk>,
    look_ups: SingleFlight<Question, Result<Arc<Found>, Error>>,
}

type Question = (AppName, Selector);

/// What it is built with.
pub(in crate::broker) struct DirectoryConfig {
    /// The configured installation of each app, for requests that name none.
    pub(in crate::broker) defaults: BTreeMap<AppName, Option<InstallationId>>,
    /// Most bytes of cached answers.
    pub(in crate::broker) max_bytes: u64,
}

/// Where GitHub is asked and its answers are kept.
struct Desk {
    github: Arc<dyn Github>,
    clock: Arc<dyn Clock>,
    known: Lru<Question, Known>,
    invalidations: Arc<Invalidations>,
}

/// An answer that is cached.
#[derive(Debug, Clone)]
struct Known {
    found: Arc<Found>,
    staleness: Staleness,
    /// What had been invalidated when GitHub was asked.
    began: Sequence,
}

/// What a look-up notes when it begins.
#[derive(Debug, Clone, Copy)]
struct Began {
    at: BootTime,
    sequence: Sequence,
}

/// The installation that was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct Found {
    pub(in crate::broker) id: InstallationId,
    pub(in crate::broker) account: Option<String>,
}

/// Where an answer came from: one that was remembered may be out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Source {
    Given,
    Remembered,
    Asked,
}

impl Directory {
    pub(in crate::broker) fn new(
        github: Arc<dyn Github>,
        clock: Arc<dyn Clock>,
        invalidations: Arc<Invalidations>,
        config: DirectoryConfig,
        tasks: TaskTracker,
    ) -> Self {
        let known = Lru::weighed(MAX_LOOKUPS, config.max_bytes, weight);
        let desk = Arc::new(Desk { github, clock, known, invalidations });
        Self { defaults: config.defaults, desk, look_ups: SingleFlight::new(tasks) }
    }

    /// The installation that `selector` names.
    pub(in crate::broker) async fn resolve(
        &self,
        app: &AppName,
        selector: &Selector,
        requester: Requester,
    ) -> Result<(Arc<Found>, Source), Error> {
        let given = match selector {
            Selector::Id(id) => Some(*id),
            Selector::Default => self.defaults.get(app).copied().flatten(),
            _ => None,
        };
        if let Some(id) = given {
            return Ok((Arc::new(Found { id, account: None }), Source::Given));
        }
        let question = (app.clone(), selector.clone());
        let Some(Known { found, staleness, .. }) = self.desk.cached(&question) else {
            return Ok((self.ask(&question, requester).await?, self.source_of_answers()));
        };
        // Whoever goes by a name would have to wait once it is too old; and names are asked for on one's own account.
        let in_use = Requester { priority: Priority::InUse, ..requester };
        match staleness.judge(self.desk.clock.boot()) {
            Use::AsItIs => {}
            Use::AndAskBehind => {
                self.look_ups.start(&question, in_use, |demand| self.look_up(&question, demand));
            }
            Use::IfNoAnswer => match self.ask(&question, in_use).await {
                Err(error) if error.is_inconclusive() => {}
                answer => return Ok((answer?, self.source_of_answers())),
            },
        }
        Ok((found, Source::Remembered))
    }

    /// The installation that `selector` names, as GitHub says now. What is cached stays unless it says another.
    pub(in crate::broker) async fn resolve_anew(
        &self,
        app: &AppName,
        selector: &Selector,
        requester: Requester,
    ) -> Result<Arc<Found>, Error> {
        self.ask(&(app.clone(), selector.clone()), requester).await
    }

    /// Makes the next look-up ask GitHub.
    fn forget(&self, app: &AppName, selector: &Selector) {
        self.desk.known.update((app.clone(), selector.clone()), |_| None);
    }

    /// Makes the next look-up that would bring this installation ask GitHub, and the next that names none.
    pub(in crate::broker) fn forget_installation(&self, id: InstallationId) {
        self.desk.github.forget_installations();
        let scope = InvalidationScope::Installation(id);
        self.desk.invalidations.note(scope, Effect::ForgetLookups, self.desk.clock.boot());
    }

    /// Makes the next look-up of this repository ask GitHub.
    pub(in crate::broker) fn forget_repository(&self, owner: &Login, name: &RepositoryName) {
        // What is under way is told first, so that nothing is cached once it has been dropped.
        self.desk.invalidations.note_lookup_change();
        for app in self.defaults.keys() {
            self.forget(app, &Selector::Repository(owner.clone(), name.clone()));
        }
    }

    /// Of dialect `integrations` the list is what is remembered, and what comes from it may be out of date.
    fn source_of_answers(&self) -> Source {
        match self.desk.github.dialect() {
            Dialect::Apps => Source::Asked,
            Dialect::Integrations => Source::Remembered,
        }
    }

    async fn ask(&self, question: &Question, requester: Requester) -> Result<Arc<Found>, Error> {
        let look_up = |demand| self.look_up(question, demand);
        let (answer, role) = self.look_ups.run(question, requester, look_up).await;
        match answer.unwrap_or(Err(Error::Internal)) {
            // It was another one's share.
            Err(error) if role == Role::Joined && error.is_budget() => {
                let (answer, _) = self.look_ups.run(question, requester, look_up).await;
                answer.unwrap_or(Err(Error::Internal))
            }
            answer => answer,
        }
    }

    fn look_up(
        &self,
        question: &Question,
        demand: Demand,
    ) -> impl Future<Output = Result<Arc<Found>, Error>> + use<> {
        let (desk, question) = (Arc::clone(&self.desk), question.clone());
        async move {
            let began = Began { at: desk.clock.boot(), sequence: desk.invalidations.latest() };
            let answer = desk.look_up(&question, demand).await;
            // To remember answers from a list that is remembered itself would only make them older.
            if desk.github.dialect() == Dialect::Apps {
                desk.remember(question, &answer, began);
            }
            answer
        }
    }
}

impl Desk {
    /// What is cached, unless GitHub has told since that it is no longer so.
    fn cached(&self, question: &Question) -> Option<Known> {
        let known = self.known.get(question)?;
        let holds = match question.1 {
            // The only installation of an app is so until there is another.
            Selector::Default => self.invalidations.no_installation_changed_since(known.began),
            _ => self.invalidations.lookup_holds(known.found.id, known.began),
        };
        holds.then_some(known)
    }

    async fn look_up(&self, (app, selector): &Question, demand: Demand) -> Result<Arc<Found>, Error> {
        let installation = match selector {
            Selector::Default => {
                let list = self.github.installations(app, SEVERAL, demand).await.map_err(Error::Github)?;
                only_one(app, list, self.github.dialect())
            }
            _ => {
                let found = self.github.look_up(app, selector, demand).await;
                found.map_err(|failure| explain(app, selector, failure))
            }
        }?;
        Ok(Arc::new(Found { id: installation.id, account: installation.account }))
    }

    fn remember(&self, question: Question, answer: &Result<Arc<Found>, Error>, began: Began) {
        self.known.update(question, |known| {
            // Looked at where nobody else changes it: whoever drops it says so first, and then drops it here.
            if !self.invalidations.no_lookup_changed_since(began.sequence) {
                return known;
            }
            match answer {
                Ok(found) => Some(Known {
                    found: Arc::clone(found),
                    staleness: Staleness::new(began.at),
                    began: began.sequence,
                }),
                Err(error) if error.is_inconclusive() => known.map(|known| Known {
                    staleness: Staleness { failed: Some(self.clock.boot()), ..known.staleness },
                    ..known
                }),
                Err(_) => None,
            }
        });
    }
}

/// The memory that a cached answer takes, in bytes.
fn weight((_, selector): &Question, known: &Known) -> usize {
    let names = match selector {
        Selector::Default | Selector::Id(_) => [0; 2],
        Selector::Owner(login) | Selector::Organization(login) | Selector::Enterprise(login) => {
            [login.as_str().len(), 0]
        }
        Selector::Repository(owner, name) => [owner.as_str().len(), name.as_str().len()],
    };
    let account = known.found.account.as_ref().map_or(0, String::len);
    LOOKUP_OVERHEAD + names.into_iter().chain([account]).map(allocated).sum::<usize>()
}

/// The app's only installation: the one that a request means which names none.
fn only_one(app: &AppName, list: Vec<Installation>, dialect: Dialect) -> Result<Installation, Error> {
    if list.is_empty() {
        let message = format!("app {app} is not installed anywhere: install it on an account first");
        return Err(Error::UnknownInstallation(message));
    }
    if let [only] = list.as_slice() {
        return Ok(only.clone());
    }
    let named: Vec<_> = list.iter().filter_map(|installation| installation.account.as_deref()).collect();
    let more = if named.len() > NAMED { ", …" } else { "" };
    let names = named.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let ways = match dialect {
        Dialect::Apps => "owner=LOGIN, repo=OWNER/NAME, enterprise=SLUG or installation=ID",
        Dialect::Integrations => "owner=LOGIN or installation=ID",
    };
    let message = format!(
        "app {app} has several installations ({names}{more}): choose with {ways}, or configure app.installation"
    );
    Err(Error::SelectorNeeded(message))
}

/// What GitHub's answer to a look-up means to whoever asked for `selector`.
pub(in crate::broker) fn explain(app: &AppName, selector: &Selector, failure: Failure) -> Error {
    let wanted = match selector {
        Selector::Owner(login) => format!("owner {login}"),
        Selector::Organization(login) => format!("organisation {login}"),
        Selector::Repository(owner, name) => format!("repository {owner}/{name}"),
        Selector::Enterprise(slug) => format!("enterprise {slug}"),
        Selector::Id(_) | Selector::Default => return Error::Github(failure),
    };
    let message = match failure.kind {
        Kind::NotFound => format!(
            "app {app} has no installation for {wanted}: check the spelling, and that the app is installed there \
             and may see it"
        ),
        Kind::Moved => {
            format!(
                "{wanted} has been renamed or moved, GitHub answers with a redirect: ask for it by its new name"
            )
        }
        _ => return Error::Github(failure),
    };
    Error::Github(Failure { kind: Kind::NotFound, message, ..failure })
}

const MAX_LOOKUPS: u64 = 10_000;
/// Its structs and the cache's book-keeping: measured, not summed up.
const LOOKUP_OVERHEAD: usize = 512;
/// Two installations are several; one page of the list tells.
const SEVERAL: usize = 2;
/// Accounts that an error message names.
const NAMED: usize = 5;
