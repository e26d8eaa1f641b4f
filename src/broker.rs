//! Token broker: vends installation tokens from the cache, mints in single flight, refreshes in the background.
//!
//! What holds here, whatever the callers and GitHub do:
//! - a dead token is never handed out ([`freshness::assess`]);
//! - for one key there is never more than one mint under way ([`crate::flight`]), and no caller can cancel it;
//! - a failed renewal never removes a live token: only GitHub's word that the installation is suspended or gone does;
//! - tokens are refreshed in the background before they expire ([`refresh`]), and a new one waits until GitHub's replicas
//!   can be taken to know it ([`cache::token_pair`]);
//! - nothing that a caller can trigger, and no sweep, takes time in proportion to what is cached ([`cache::index`],
//!   [`cache::schedule`]), nor does an invalidation ([`invalidation`]).

mod cache;
mod error;
pub mod freshness;
mod installations;
mod invalidation;
mod mint;
mod readiness;
mod refresh;
mod request;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use cache::entry::{Bodies, Entry};
pub use cache::hash::TokenHash;
use cache::token_cache::{Lru, TokenCache};
use cache::token_pair::AsOf;
pub use error::Error;
use error::in_words;
use freshness::{State, Windows};
use installations::resolver::{Directory, DirectoryConfig, Found, Source};
pub use invalidation::events::EventOutcome;
use invalidation::log::Invalidations;
use invalidation::rejection::RejectLimiter;
pub use invalidation::rejection::Rejection;
use readiness::Readiness;
use refresh::scheduler::RefreshScheduler;
pub use request::{CachedTokenInfo, Origin, Requirement, Settling, TokenRequest, Vended};

use crate::clock::Clock;
use crate::flight::{Demand, Requester, SingleFlight};
use crate::github::{self, Github};
pub use crate::github::{
    AdmissionStatus, AppAdmission, Failure, InstallationPage, Kind, Origin as FailureOrigin, Page, webhook,
};
use crate::model::{
    App, AppName, ClientId, Dialect, Identity, Installation, InstallationId, InstallationToken, Priority,
    Secret, Selector, TokenKey,
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
    idle_after: Duration,
    renewals: Mutex<RefreshScheduler>,
    rejections: Mutex<RejectLimiter>,
    invalidations: Arc<Invalidations>,
    deliveries: Lru<String, ()>,
    render: Render,
    default_app: Option<AppName>,
    apps: Vec<AppName>,
    directory: Directory,
    tokens: TokenCache,
    mints: SingleFlight<TokenKey, Minting>,
    readiness: Readiness,
    tasks: TaskTracker,
    draining: CancellationToken,
}

type Minting = Result<Arc<Entry>, Error>;

/// How a token looks on the wire. The broker keeps what this makes, and does not look into it.
pub type Render = fn(InstallationId, Option<&str>, &InstallationToken) -> Bodies;

/// Configuration of the broker.
pub struct BrokerConfig {
    /// The apps, each with the installation for requests that name none.
    pub apps: BTreeMap<AppName, Option<InstallationId>>,
    /// The app for requests that name none.
    pub default_app: Option<AppName>,
    /// When a token is how good.
    pub windows: Windows,
    /// Age at which GitHub's replicas can be taken to know a token.
    pub settle: Duration,
    /// Time after the last request at which a key is no longer renewed.
    pub idle_after: Duration,
    /// Keys to mint at start.
    pub prefetch: Vec<TokenRequest>,
    /// Most tokens kept.
    pub max_entries: u64,
    /// Most bytes of all that is kept: three quarters are for tokens, an eighth for look-ups, an eighth is left to what
    /// is remembered of failures.
    pub max_bytes: u64,
    /// How a token looks on the wire.
    pub render: Render,
}

impl Broker {
    /// A broker with nothing in hand.
    pub fn new(
        github: Arc<dyn Github>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        rules: BrokerConfig,
    ) -> Self {
        let tasks = TaskTracker::new();
        let apps: Vec<_> = rules.apps.keys().cloned().collect();
        apps.iter().for_each(|app| metrics.init_app_series(app));
        let invalidations: Arc<Invalidations> = Arc::default();
        let lookups = DirectoryConfig { defaults: rules.apps, max_bytes: rules.max_bytes / 8 };
        let broker = Self(Arc::new(Inner {
            readiness: Readiness::new(apps.iter()),
            directory: Directory::new(
                Arc::clone(&github),
                Arc::clone(&clock),
                Arc::clone(&invalidations),
                lookups,
                tasks.clone(),
            ),
            tokens: TokenCache::new(rules.max_entries, rules.max_bytes / 4 * 3, Arc::clone(&invalidations)),
            mints: SingleFlight::new(tasks.clone()),
            windows: rules.windows,
            settle: rules.settle,
            idle_after: rules.idle_after,
            renewals: Mutex::new(RefreshScheduler::new(&apps)),
            rejections: Mutex::default(),
            invalidations,
            deliveries: Lru::new(invalidation::events::MAX_REMEMBERED_DELIVERIES),
            render: rules.render,
            default_app: rules.default_app,
            draining: CancellationToken::new(),
            github,
            clock,
            metrics,
            apps,
            tasks,
        }));
        broker.prefetch(rules.prefetch);
        broker
    }

    /// A token for `request`: the one in hand while it is good, else a new one.
    pub async fn vend(&self, request: &TokenRequest, client: ClientId) -> Result<Vended, Error> {
        let app = self.app(request.app.as_ref())?;
        if let Requirement::MinTtl(life) = request.age {
            let longest = self.0.renewals.lock().longest_min_ttl();
            if life > longest {
                return Err(Error::min_ttl_too_long(longest));
            }
        }
        let vended = self.vend_for(app, request, client).await;
        vended.map_err(|error| {
            if let Error::Github(failure) = &error {
                self.note_refusal(app, failure);
            }
            error.about(app)
        })
    }

    async fn vend_for(
        &self,
        app: &AppName,
        request: &TokenRequest,
        client: ClientId,
    ) -> Result<Vended, Error> {
        let look_up = Requester::caller(client, Priority::New);
        self.0.github.check_supported(&request.selector, &request.scope, request.user)?;
        let (found, source) = self.0.directory.resolve(app, &request.selector, look_up).await?;
        let vended = self.token(request.key(app, found.id), &found, request.age, client).await;
        match vended {
            Err(error)
                if source == Source::Remembered && error.may_mean_another_installation(&request.scope) =>
            {
                let now_found = match self.0.directory.resolve_anew(app, &request.selector, look_up).await {
                    Err(inconclusive) if inconclusive.is_inconclusive() => return Err(error),
                    found => found?,
                };
                if now_found.id == found.id {
                    return Err(error);
                }
                self.token(request.key(app, now_found.id), &now_found, request.age, client).await
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

    /// Who came by with `nonce`. Asked once, whatever comes of it: GitHub may have spent the nonce.
    pub async fn identify(
        &self,
        app: Option<&AppName>,
        nonce: &Secret,
        client: ClientId,
    ) -> Result<Identity, Error> {
        let app = self.app(app)?;
        let identity = self.0.github.identify(app, nonce, client).await;
        identity.map_err(|failure| log_failure("asking who a user is", failure).about(app))
    }

    /// The app, in GitHub's words.
    pub async fn describe_app(&self, app: Option<&AppName>, client: ClientId) -> Result<App, Error> {
        let app = self.app(app)?;
        let described = self.0.github.describe_app(app, client).await;
        described.map_err(|failure| log_failure("describing the app", failure).about(app))
    }

    /// A page of the app's installations, in GitHub's words.
    pub async fn installation_page(
        &self,
        app: Option<&AppName>,
        page: Page,
        client: ClientId,
    ) -> Result<InstallationPage, Error> {
        let app = self.app(app)?;
        let found = self.0.github.installation_page(app, page, client).await;
        found.map_err(|failure| log_failure("listing installations", failure).about(app))
    }

    /// The installation that `selector` names, in GitHub's words.
    pub async fn describe(
        &self,
        app: Option<&AppName>,
        selector: &Selector,
        client: ClientId,
    ) -> Result<Installation, Error> {
        let app = self.app(app)?;
        let demand = Demand::of(Requester::caller(client, Priority::New));
        let found = self.0.github.look_up(app, selector, demand).await;
        found.map_err(|failure| match log_failure("looking up an installation", failure) {
            Error::Github(failure) => installations::resolver::explain(app, selector, failure).about(app),
            error => error,
        })
    }

    /// Asks GitHub who each app is, until it says so. Vending never waits for this.
    pub fn probe(&self) {
        for app in &self.0.apps {
            self.probe_after(app, Duration::ZERO);
        }
    }

    /// GitHub has refused `app` something. If it was the app itself, it is asked until it accepts it again.
    fn note_refusal(&self, app: &AppName, failure: &Failure) {
        if failure.kind == Kind::AppRejected {
            self.0.readiness.refused(app, &failure.message);
            self.probe_after(app, readiness::FIRST_PAUSE);
        }
    }

    fn probe_after(&self, app: &AppName, pause: Duration) {
        if !self.0.readiness.begins_probing(app) {
            return;
        }
        let (inner, app) = (Arc::clone(&self.0), app.clone());
        let probing = async move { inner.readiness.probe(&*inner.github, &app, pause).await };
        tokio::spawn(self.0.draining.clone().run_until_cancelled_owned(probing));
    }

    /// From now on only tokens in hand are vended.
    pub fn drain(&self) {
        self.0.draining.cancel();
    }

    /// Whether nothing is under way at GitHub for a token: for tests.
    pub fn is_idle(&self) -> bool {
        self.0.tasks.is_empty()
    }

    /// Waits for the mints under way.
    pub async fn drained(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    async fn token(
        &self,
        key: TokenKey,
        found: &Found,
        age: Requirement,
        client: ClientId,
    ) -> Result<Vended, Error> {
        let at = self.moment();
        let mut requester = Requester::caller(client, Priority::New);
        if let Some(slot) = self.0.tokens.get(&key, &at) {
            requester.priority = Priority::InUse;
            slot.note_used(at.now);
            if let Some(entry) = slot.fresh_enough(age, &at) {
                if at.now >= entry.renew_at && slot.settling(&at).is_none() {
                    self.refresh_in_background(&key, &slot, found, &at);
                }
                let state = at.state(&entry);
                return Ok(Vended { key, entry, state, origin: Origin::Cached });
            }
        }
        let mut minting = self.mint(&key, found.account.clone(), requester).await;
        // By what GitHub told of meanwhile, by a machine that slept, or by time, the call having begun long before.
        let is_overtaken = match &minting {
            Ok(entry) => {
                let took_too_long = || entry.life.age(self.moment().now) >= MAX_MINT_AGE;
                entry.rejected || (age == Requirement::RecentlyMinted && took_too_long())
            }
            Err(error) => matches!(error, Error::InvalidatedWhileMinting),
        };
        if is_overtaken {
            minting = self.mint(&key, found.account.clone(), requester).await;
        }
        match minting {
            Ok(entry) => self.serve_minted(key, entry, age),
            // Looked up anew: it may have been thrown out, or have died, while the mint was under way.
            Err(error) => self.fallback(key, error, age),
        }
    }

    fn serve_minted(&self, key: TokenKey, entry: Arc<Entry>, age: Requirement) -> Result<Vended, Error> {
        let at = self.moment();
        let state = at.state(&entry);
        let remaining = entry.life.remaining(at.now);
        match age {
            _ if state == State::Dead => Err(Error::expired_before_use()),
            // Whoever waited for a mint gets what it brought. What is short of life is old soon, and no other is younger.
            Requirement::RecentlyMinted if entry.rejected => Err(Error::InvalidatedWhileMinting),
            Requirement::MinTtl(life) if remaining < life => {
                Err(Error::min_ttl_too_long(self.0.renewals.lock().longest_min_ttl().min(remaining)))
            }
            _ => Ok(Vended { key, entry, state, origin: Origin::Minted }),
        }
    }

    /// What is left to hand out, no new token being had because of `error`.
    fn fallback(&self, key: TokenKey, error: Error, age: Requirement) -> Result<Vended, Error> {
        let at = self.moment();
        let Some(slot) = self.0.tokens.get(&key, &at) else { return Err(error) };
        // Whoever keeps a token for long gets an older one where only our own budget keeps another from being minted.
        let kept = || slot.fallback(Requirement::MinTtl(MIN_KEPT_LIFE), &at).filter(|entry| !entry.rejected);
        let kept = (age == Requirement::RecentlyMinted && error.is_budget()).then(kept).flatten();
        if let Some(entry) = slot.fallback(age, &at).or(kept) {
            let state = at.state(&entry);
            return Ok(Vended { key, entry, state, origin: Origin::Cached });
        }
        match (age, slot.fallback(Requirement::Any, &at)) {
            (Requirement::MinTtl(_), Some(entry)) => {
                let remaining = entry.life.remaining(at.now);
                Err(Error::MinTtlUnavailable { because: Box::new(error), remaining })
            }
            _ => Err(error),
        }
    }

    fn moment(&self) -> AsOf {
        AsOf { now: self.0.clock.boot(), windows: self.0.windows, settle: self.0.settle }
    }
}

/// Of an hour, as SDKs take for granted.
const MIN_KEPT_LIFE: Duration = Duration::from_secs(50 * 60);
/// What was asked for so long ago is no token for whoever keeps it for 59 minutes, if another one can be minted.
const MAX_MINT_AGE: Duration = Duration::from_secs(60);

/// A failure that a caller meets, put on record.
fn log_failure(operation: &'static str, failure: Failure) -> Error {
    if failure.origin == github::Origin::Upstream
        && !matches!(failure.kind, Kind::Unsupported | Kind::UserTokensUnsupported)
    {
        tracing::warn!(operation, kind = failure.kind.as_str(), error = %failure, "GitHub request failed");
    }
    Error::Github(failure)
}
