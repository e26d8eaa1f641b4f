//! The heart: turns a request for a token into a token, with as few calls to GitHub as can be.
//!
//! What holds here, whatever the callers and GitHub do:
//! - a dead token is never handed out ([`freshness::assess`]);
//! - for one key there is never more than one mint under way ([`crate::flight`]), and no caller can cancel it;
//! - a failed renewal never removes a live token: only GitHub's word that the installation is suspended or gone does.

mod cache;
mod directory;
mod error;
pub mod freshness;
mod hash;
mod readiness;
mod rejection;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use cache::TokenCache;
pub use cache::{Bodies, Entry};
use directory::{Directory, Found, Source};
pub use error::Error;
use freshness::{Life, State, Windows, assess};
pub use hash::TokenHash;
use readiness::Readiness;
use rejection::Obeyed;
pub use rejection::Rejection;

use crate::clock::Clock;
use crate::flight::Flights;
use crate::github::Github;
pub use crate::github::{Failure, InstallationPage, Kind, Page};
use crate::model::{
    App, AppName, Dialect, Identity, Installation, InstallationId, InstallationToken, KeyInUse, Scope,
    Secret, Selector, TokenKey, UserId,
};
use crate::telemetry::metrics::Metrics;

/// Vends tokens. One for the whole daemon.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    github: Arc<dyn Github>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    windows: Windows,
    settle: Duration,
    obeyed: Mutex<Obeyed>,
    render: Render,
    default_app: Option<AppName>,
    apps: Vec<AppName>,
    directory: Directory,
    tokens: TokenCache,
    mints: Flights<TokenKey, Minting>,
    readiness: Readiness,
    tasks: TaskTracker,
    draining: CancellationToken,
}

type Minting = Result<Arc<Entry>, Error>;

/// How a token looks on the wire. The broker keeps what this makes, and does not look into it.
pub type Render = fn(InstallationId, Option<&str>, &InstallationToken) -> Bodies;

/// What a broker is told at its making.
pub struct Rules {
    /// The apps, each with the installation for requests that name none.
    pub apps: BTreeMap<AppName, Option<InstallationId>>,
    /// The app for requests that name none.
    pub default_app: Option<AppName>,
    /// When a token is how good.
    pub windows: Windows,
    /// Age at which GitHub's replicas can be taken to know a token.
    pub settle: Duration,
    /// Most tokens kept.
    pub max_entries: u64,
    /// Most bytes of tokens kept.
    pub max_bytes: u64,
    /// How a token looks on the wire.
    pub render: Render,
}

/// A caller's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// Which app; `None` is the default one.
    pub app: Option<AppName>,
    /// Which installation.
    pub selector: Selector,
    /// What the token is narrowed to.
    pub scope: Arc<Scope>,
    /// On whose behalf.
    pub user: Option<UserId>,
    /// How old it may be.
    pub age: Age,
}

/// How old a token may be, beyond that it has to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// As old as may be: its caller asks again for every use.
    Any,
    /// Minted within the last minute, or a sixtieth of a shorter life: its caller keeps it without a look at its
    /// expiry, as Octokit does for 59 minutes.
    JustMinted,
}

/// A token for a caller.
#[derive(Debug, Clone)]
pub struct Vended {
    /// Which one.
    pub key: TokenKey,
    /// The token.
    pub entry: Arc<Entry>,
    /// How good it is.
    pub state: State,
    /// Whether it was in hand, or had to be minted.
    pub origin: Origin,
}

/// A token in hand, for whoever looks at the cache.
#[derive(Debug, Clone)]
pub struct Held {
    /// Which one.
    pub key: Arc<TokenKey>,
    /// The token.
    pub entry: Arc<Entry>,
    /// How good it is.
    pub state: State,
    /// What is left of its life.
    pub remaining: Duration,
}

/// Whether a token was in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was in hand.
    Cached,
    /// It was minted for this request or one at the same time.
    Minted,
}

impl Broker {
    /// A broker with nothing in hand.
    pub fn new(github: Arc<dyn Github>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>, rules: Rules) -> Self {
        let tasks = TaskTracker::new();
        let apps: Vec<_> = rules.apps.keys().cloned().collect();
        Self(Arc::new(Inner {
            readiness: Readiness::new(apps.iter()),
            directory: Directory::new(Arc::clone(&github), Arc::clone(&clock), rules.apps, tasks.clone()),
            tokens: TokenCache::new(rules.max_entries, rules.max_bytes),
            mints: Flights::new(tasks.clone()),
            windows: rules.windows,
            settle: rules.settle,
            obeyed: Mutex::default(),
            render: rules.render,
            default_app: rules.default_app,
            draining: CancellationToken::new(),
            github,
            clock,
            metrics,
            apps,
            tasks,
        }))
    }

    /// A token for `request`: the one in hand while it is good, else a new one.
    pub async fn vend(&self, request: &TokenRequest) -> Result<Vended, Error> {
        let app = self.app(request.app.as_ref())?;
        self.vend_for(app, request).await.map_err(|error| error.about(app))
    }

    async fn vend_for(&self, app: &AppName, request: &TokenRequest) -> Result<Vended, Error> {
        self.0.github.can_serve(&request.selector, &request.scope, request.user)?;
        let (found, source) = self.0.directory.resolve(app, &request.selector).await?;
        let vended = self.token(request.key(app, &found), &found, request.age).await;
        match vended {
            Err(error)
                if source == Source::Remembered && error.may_mean_another_installation(&request.scope) =>
            {
                self.0.directory.forget(app, &request.selector);
                let (now_found, _) = self.0.directory.resolve(app, &request.selector).await?;
                if now_found.id == found.id {
                    return Err(error);
                }
                self.token(request.key(app, &now_found), &now_found, request.age).await
            }
            vended => vended,
        }
    }

    /// The app that is meant by `name`, or by none.
    pub fn app<'a>(&'a self, name: Option<&'a AppName>) -> Result<&'a AppName, Error> {
        let configured = || self.0.apps.iter().map(AppName::as_str).collect::<Vec<_>>().join(", ");
        match name {
            Some(name) if self.0.apps.contains(name) => Ok(name),
            Some(name) => {
                Err(Error::UnknownApp(format!("no app {name} is configured: there are {}", configured())))
            }
            None => self.0.default_app.as_ref().ok_or_else(|| {
                let apps = configured();
                Error::AppNeeded(format!("several apps are configured ({apps}): choose one with the header Ghtokend-App, or with app=NAME on /token"))
            }),
        }
    }

    /// Which of GitHub's two APIs is spoken.
    pub fn dialect(&self) -> Dialect {
        self.0.github.dialect()
    }

    /// All tokens in hand: which, and how good.
    pub fn entries(&self) -> Vec<Held> {
        let now = self.0.clock.boot();
        let held = |(key, entry): (_, Arc<Entry>)| Held {
            key,
            state: self.state(&entry),
            remaining: entry.life.remaining(now),
            entry,
        };
        self.0.tokens.entries().into_iter().map(held).collect()
    }

    /// A caller says that a token no longer works. Obeyed with restraint: see [`Rejection`].
    pub fn reject(&self, hash: TokenHash) -> Rejection {
        let in_service = |entry: &Entry| !entry.rejected && self.state(entry) != State::Dead;
        let held =
            self.0.tokens.entries().into_iter().find(|(_, entry)| entry.hash == hash && in_service(entry));
        let Some((key, entry)) = held else { return Rejection::Unknown };
        let now = self.0.clock.boot();
        let settle = entry.life.settles_after(self.0.settle);
        let mut obeyed = self.0.obeyed.lock().unwrap_or_else(PoisonError::into_inner);
        let rejection = obeyed.judge(&key, entry.life.age(now), settle, now);
        if rejection == Rejection::Evicted {
            tracing::info!(app = %key.app, installation = key.installation.get(), %hash, "a caller rejected a token");
            self.0.tokens.reject((*key).clone(), hash);
        }
        rejection
    }

    /// Who came by with `nonce`. Asked once, whatever comes of it: GitHub may have spent the nonce.
    pub async fn identify(&self, app: Option<&AppName>, nonce: &Secret) -> Result<Identity, Error> {
        let app = self.app(app)?;
        let identity = self.0.github.identify(app, nonce).await;
        identity.map_err(|failure| noted("asking who a user is", failure).about(app))
    }

    /// The app, in GitHub's words.
    pub async fn describe_app(&self, app: Option<&AppName>) -> Result<App, Error> {
        let app = self.app(app)?;
        let described = self.0.github.describe_app(app).await;
        described.map_err(|failure| noted("describing the app", failure).about(app))
    }

    /// A page of the app's installations, in GitHub's words.
    pub async fn installation_page(
        &self,
        app: Option<&AppName>,
        page: Page,
    ) -> Result<InstallationPage, Error> {
        let app = self.app(app)?;
        let found = self.0.github.installation_page(app, page).await;
        found.map_err(|failure| noted("listing installations", failure).about(app))
    }

    /// The installation that `selector` names, in GitHub's words.
    pub async fn describe(&self, app: Option<&AppName>, selector: &Selector) -> Result<Installation, Error> {
        let app = self.app(app)?;
        let found = self.0.github.look_up(app, selector).await;
        found.map_err(|failure| match noted("looking up an installation", failure) {
            Error::Github(failure) => directory::explain(app, selector, failure).about(app),
            error => error,
        })
    }

    /// Ends the life of a token, here and at GitHub. One that is dead already is no failure. It is gone here whatever
    /// GitHub answers, and GitHub is asked even if the caller goes away: somebody may give back what has leaked.
    pub async fn revoke(&self, token: Secret) -> Result<(), Error> {
        let hash = TokenHash::of(&token);
        let held = self.0.tokens.entries().into_iter().find(|(_, entry)| entry.hash == hash);
        if let Some((key, _)) = held {
            tracing::info!(app = %key.app, installation = key.installation.get(), %hash, "a caller gave a token back");
            self.0.tokens.drop((*key).clone(), hash);
        }
        let github = Arc::clone(&self.0.github);
        let revoking = self.0.tasks.spawn(async move { github.revoke(&token).await });
        let revoked = revoking.await.map_err(|_| Error::Crashed)?;
        revoked.map_err(|failure| noted("revoking a token", failure))
    }

    /// How many tokens are in hand.
    pub fn entry_count(&self) -> u64 {
        self.0.tokens.len()
    }

    /// Why not every app is accepted by GitHub yet; empty once all are.
    pub fn not_ready(&self) -> Vec<(AppName, String)> {
        self.0.readiness.missing()
    }

    /// The private keys of every app, newest first, and how each stands.
    pub fn keys(&self) -> Vec<(AppName, Vec<KeyInUse>)> {
        self.0.apps.iter().map(|app| (app.clone(), self.0.github.keys(app))).collect()
    }

    /// Asks GitHub who each app is, until it says so. Vending never waits for this.
    pub fn probe(&self) {
        for app in self.0.apps.clone() {
            let inner = Arc::clone(&self.0);
            let probing = async move { inner.readiness.probe(&*inner.github, &app).await };
            tokio::spawn(self.0.draining.clone().run_until_cancelled_owned(probing));
        }
    }

    /// From now on only tokens in hand are vended.
    pub fn drain(&self) {
        self.0.draining.cancel();
    }

    /// Waits for the mints under way.
    pub async fn drained(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    async fn token(&self, key: TokenKey, found: &Found, age: Age) -> Result<Vended, Error> {
        let may_be_old = |entry: &Entry| age == Age::Any || entry.life.has_just_begun(self.0.clock.boot());
        if let Some((entry, state @ (State::Fresh | State::Renewing))) = self.in_hand(&key)
            && may_be_old(&entry)
        {
            return Ok(Vended { key, entry, state, origin: Origin::Cached });
        }
        match self.mint(&key, found).await {
            Ok(entry) => match self.state(&entry) {
                State::Dead => Err(Error::dead_on_arrival()),
                state => Ok(Vended { key, entry, state, origin: Origin::Minted }),
            },
            // Looked up anew: it may have been thrown out, or have died, while the mint was under way.
            Err(error) => match self.in_hand(&key) {
                Some((entry, state)) if may_be_old(&entry) => {
                    Ok(Vended { key, entry, state, origin: Origin::Cached })
                }
                _ => Err(error),
            },
        }
    }

    /// The token in hand, unless it is dead.
    fn in_hand(&self, key: &TokenKey) -> Option<(Arc<Entry>, State)> {
        let entry = self.0.tokens.get(key)?;
        let state = self.state(&entry);
        (state != State::Dead).then_some((entry, state))
    }

    /// How good a token is now. One that was rejected is handed out only if no other can be had.
    fn state(&self, entry: &Entry) -> State {
        match assess(&entry.life, self.0.clock.boot(), &self.0.windows) {
            State::Fresh | State::Renewing if entry.rejected => State::Stale,
            state => state,
        }
    }

    async fn mint(&self, key: &TokenKey, found: &Found) -> Minting {
        if self.0.draining.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        let start = || {
            let (broker, key, account) = (self.clone(), key.clone(), found.account.clone());
            async move { broker.minted(key, account).await }
        };
        self.0.mints.join(key, start).await.unwrap_or(Err(Error::Crashed))
    }

    /// Runs in a task of its own, once at a time for each key.
    async fn minted(&self, key: TokenKey, account: Option<String>) -> Minting {
        if let Some((entry, State::Fresh)) = self.in_hand(&key)
            && entry.life.has_just_begun(self.0.clock.boot())
        {
            // The mint before this one landed between our caller's look into the cache and its joining.
            return Ok(entry);
        }
        let began = self.0.clock.boot();
        let outcome = self.0.github.mint(&key).await;
        let took = self.0.clock.boot().since(began);
        match outcome {
            Ok(minted) => {
                self.0.metrics.mint(&key.app, "ok", took);
                self.0.readiness.accepted(&key.app);
                let bodies = (self.0.render)(key.installation, account.as_deref(), &minted.token);
                let life = Life::of(&minted);
                let hash = TokenHash::of(&minted.token.secret);
                let entry =
                    Arc::new(Entry { token: minted.token, account, life, bodies, hash, rejected: false });
                self.0.tokens.put(key, Arc::clone(&entry));
                Ok(entry)
            }
            Err(failure) => {
                self.0.metrics.mint(&key.app, failure.kind.as_str(), took);
                let installation = key.installation.get();
                tracing::warn!(app = %key.app, installation, %failure, "no token could be minted");
                self.drop_if_gone(&key, &failure).await;
                Err(Error::Github(failure))
            }
        }
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
            self.0.tokens.drop_installation(&key.app, key.installation);
        }
    }
}

impl TokenRequest {
    fn key(&self, app: &AppName, found: &Found) -> TokenKey {
        TokenKey { app: app.clone(), installation: found.id, user: self.user, scope: Arc::clone(&self.scope) }
    }
}

impl fmt::Display for TokenRequest {
    /// As in a query, for log and audit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.selector, self.scope)?;
        self.user.map_or(Ok(()), |user| write!(f, " user={user}"))
    }
}

/// A failure that a caller meets, put on record.
fn noted(what: &'static str, failure: Failure) -> Error {
    if !matches!(failure.kind, Kind::Unsupported | Kind::UserTokensUnsupported) {
        tracing::warn!(what, kind = failure.kind.as_str(), %failure, "GitHub did not do it");
    }
    Error::Github(failure)
}
