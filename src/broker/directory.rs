//! Which installation a caller means.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::task::TaskTracker;

use super::Error;
use super::cache::Lru;
use crate::clock::{BootTime, Clock};
use crate::flight::Flights;
use crate::github::remembrance::{Remembrance, Use};
use crate::github::{Failure, Github, Kind};
use crate::model::{AppName, Dialect, Installation, InstallationId, Login, RepositoryName, Selector};

/// Turns owners, repositories and enterprises into installations, and remembers the answers for a while.
pub(super) struct Directory {
    /// The configured installation of each app, for requests that name none.
    defaults: BTreeMap<AppName, Option<InstallationId>>,
    desk: Arc<Desk>,
    look_ups: Flights<Question, Result<Arc<Found>, Error>>,
}

type Question = (AppName, Selector);

/// Where GitHub is asked and its answers are kept.
struct Desk {
    github: Arc<dyn Github>,
    clock: Arc<dyn Clock>,
    known: Lru<Question, (Arc<Found>, Remembrance)>,
    /// How often GitHub has told that something changed. Answers that were under way then are not remembered.
    changes: AtomicU64,
}

/// The installation that was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: InstallationId,
    pub(super) account: Option<String>,
}

/// Where an answer came from: one that was remembered may be out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Given,
    Remembered,
    Asked,
}

impl Directory {
    pub(super) fn new(
        github: Arc<dyn Github>,
        clock: Arc<dyn Clock>,
        defaults: BTreeMap<AppName, Option<InstallationId>>,
        tasks: TaskTracker,
    ) -> Self {
        let known = Lru::new(MOST_REMEMBERED);
        let desk = Arc::new(Desk { github, clock, known, changes: AtomicU64::new(0) });
        Self { defaults, desk, look_ups: Flights::new(tasks) }
    }

    /// The installation that `selector` names.
    pub(super) async fn resolve(
        &self,
        app: &AppName,
        selector: &Selector,
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
        let Some((found, remembrance)) = self.desk.known.get(&question) else {
            return Ok((self.ask(&question).await?, self.source_of_answers()));
        };
        match remembrance.judge(self.desk.clock.boot()) {
            Use::AsItIs => {}
            Use::AndAskBehind => self.look_ups.begin(&question, || self.look_up(&question)),
            Use::IfNoAnswer => match self.ask(&question).await {
                Err(error) if error.leaves_open() => {}
                answer => return Ok((answer?, self.source_of_answers())),
            },
        }
        Ok((found, Source::Remembered))
    }

    /// Makes the next look-up ask GitHub.
    pub(super) fn forget(&self, app: &AppName, selector: &Selector) {
        self.desk.known.forget(&(app.clone(), selector.clone()));
    }

    /// Makes the next look-up that would bring this installation ask GitHub, and the next that names none.
    pub(super) fn forget_installation(&self, id: InstallationId) {
        self.desk.github.forget_installations();
        self.desk.forget_all(|selector, found| found.id == id || *selector == Selector::Default);
    }

    /// Makes the next look-up of this repository ask GitHub.
    pub(super) fn forget_repository(&self, owner: &Login, name: &RepositoryName) {
        let repository = Selector::Repository(owner.clone(), name.clone());
        self.desk.forget_all(|selector, _| *selector == repository);
    }

    /// Of dialect `integrations` the list is what is remembered, and what comes from it may be out of date.
    fn source_of_answers(&self) -> Source {
        match self.desk.github.dialect() {
            Dialect::Apps => Source::Asked,
            Dialect::Integrations => Source::Remembered,
        }
    }

    async fn ask(&self, question: &Question) -> Result<Arc<Found>, Error> {
        self.look_ups.join(question, || self.look_up(question)).await.unwrap_or(Err(Error::Crashed))
    }

    fn look_up(&self, question: &Question) -> impl Future<Output = Result<Arc<Found>, Error>> + use<> {
        let (desk, question) = (Arc::clone(&self.desk), question.clone());
        async move {
            let (asked, changes) = (desk.clock.boot(), desk.changes());
            let answer = desk.look_up(&question).await;
            // To remember answers from a list that is remembered itself would only make them older.
            if desk.github.dialect() == Dialect::Apps && desk.changes() == changes {
                desk.remember(question, &answer, asked);
            }
            answer
        }
    }
}

impl Desk {
    fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    fn forget_all(&self, meant: impl Fn(&Selector, &Found) -> bool) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.known.forget_all(|(_, selector), (found, _)| meant(selector, found));
    }

    async fn look_up(&self, (app, selector): &Question) -> Result<Arc<Found>, Error> {
        let installation = match selector {
            Selector::Default => {
                let list = self.github.installations(app, SEVERAL).await.map_err(Error::Github)?;
                only_one(app, list, self.github.dialect())
            }
            _ => {
                let found = self.github.look_up(app, selector).await;
                found.map_err(|failure| explain(app, selector, failure))
            }
        }?;
        Ok(Arc::new(Found { id: installation.id, account: installation.account }))
    }

    fn remember(&self, question: Question, answer: &Result<Arc<Found>, Error>, asked: BootTime) {
        match answer {
            Ok(found) => self.known.put(question, (Arc::clone(found), Remembrance::new(asked))),
            Err(error) if error.leaves_open() => {
                if let Some((found, remembrance)) = self.known.get(&question) {
                    let failed = Some(self.clock.boot());
                    self.known.put(question, (found, Remembrance { failed, ..remembrance }));
                }
            }
            Err(_) => self.known.forget(&question),
        }
    }
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
pub(super) fn explain(app: &AppName, selector: &Selector, failure: Failure) -> Error {
    let wanted = match selector {
        Selector::Owner(login) => format!("owner {login}"),
        Selector::Organization(login) => format!("organisation {login}"),
        Selector::Repository(owner, name) => format!("repository {owner}/{name}"),
        Selector::Enterprise(slug) => format!("enterprise {slug}"),
        Selector::Id(_) | Selector::Default => return Error::Github(failure),
    };
    match failure.kind {
        Kind::NotFound => Error::UnknownInstallation(format!(
            "app {app} has no installation for {wanted}: check the spelling, and that the app is installed there \
             and may see it"
        )),
        Kind::Moved => Error::UnknownInstallation(format!(
            "{wanted} has been renamed or moved, GitHub answers with a redirect: ask for it by its new name"
        )),
        _ => Error::Github(failure),
    }
}

const MOST_REMEMBERED: u64 = 10_000;
/// Two installations are several; one page of the list tells.
const SEVERAL: usize = 2;
/// Accounts that an error message names.
const NAMED: usize = 5;
