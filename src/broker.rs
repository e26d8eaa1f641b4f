//! Token broker: vends installation tokens from the cache, mints in single flight, refreshes in the background.
//!
//! Invariants, whatever the callers and GitHub do:
//! - an expired token is never handed out ([`freshness::assess`]);
//! - for one key there is never more than one mint under way ([`crate::single_flight`]), and no caller can cancel it;
//! - a failed renewal never removes a token that is good: only GitHub's answer that the installation is suspended or
//!   gone does;
//! - tokens are refreshed in the background before they expire ([`refresh`]), and a new one waits until GitHub's
//!   replicas can be taken to know it (`cache::token_pair`);
//! - nothing that a caller can trigger, and no sweep, takes time in proportion to what is cached (`cache::index`,
//!   `cache::schedule`), nor does an invalidation ([`invalidation_log`]).

mod apps;
mod cache;
mod coalesce;
mod decision;
mod error;
pub mod freshness;
mod installations;
mod invalidation;
mod invalidation_log;
mod minter;
mod readiness;
mod refresh;
mod request;
mod requirement;
mod status;
mod vending;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use apps::Apps;
use cache::as_of::FreshnessClock;
pub use cache::entry::{Bodies, Entry};
use cache::token_cache::TokenCache;
pub use cache::token_hash::TokenHash;
pub use error::Error;
use freshness::Windows;
use installations::explain::explain;
use installations::lookup_cache::LookupCache;
use installations::resolver::InstallationResolver;
use invalidation::events::EventInvalidator;
pub use invalidation::events::EventOutcome;
use invalidation::rejection::Rejecter;
pub use invalidation::rejection::Rejection;
use invalidation::revocation::Revoker;
pub use minter::Render;
use minter::{MintState, Minter};
use readiness::Readiness;
use refresh::prefetch::{Prefetch, Prefetcher};
use refresh::scheduler::RefreshScheduler;
use refresh::workers::Workers;
pub use request::{Origin, TokenRequest, Vended};
pub use requirement::Requirement;
pub use status::{CachedTokenInfo, Settling};
use vending::Vending;

use crate::clock::Clock;
use crate::github::Github;
pub use crate::github::{
    AdmissionStatus, AppAdmission, Failure, InstallationPage, Kind, Origin as FailureOrigin, Page, webhook,
};
use crate::model::{
    App, AppName, Capabilities, ClientId, Identity, Installation, InstallationId, KeyInUse, Priority, Secret,
    Selector, WebhookEvent,
};
use crate::single_flight::{Demand, Requester};
use crate::telemetry::metrics::Metrics;

/// Vends tokens. One for the whole daemon. It wires its parts, each of which owns its state, and
/// passes on what is asked of it.
#[derive(Clone)]
pub struct Broker(Arc<Parts>);

struct Parts {
    apps: Apps,
    github: Arc<dyn Github>,
    tokens: Arc<TokenCache>,
    readiness: Arc<Readiness>,
    vending: Vending,
    refresh: Arc<RefreshScheduler>,
    events: EventInvalidator,
    rejecter: Rejecter,
    revoker: Revoker,
    draining: CancellationToken,
}

/// Configuration of the broker.
pub struct BrokerConfig {
    /// The apps, each with the installation for requests that name none.
    pub apps: BTreeMap<AppName, Option<InstallationId>>,
    /// The app for requests that name none.
    pub default_app: Option<AppName>,
    /// Remaining lives at which tokens are renewed, stale and expired.
    pub windows: Windows,
    /// Age at which GitHub's replicas can be taken to know a token.
    pub settle: Duration,
    /// Time after the last request at which a key is no longer refreshed.
    pub idle_after: Duration,
    /// Tokens to mint at start.
    pub prefetch: Vec<TokenRequest>,
    /// Most tokens kept.
    pub max_entries: u64,
    /// Most bytes of all that is kept: three quarters are for tokens, an eighth for look-ups, an eighth is left to the
    /// negative cache.
    pub max_bytes: u64,
    /// How a token looks on the wire.
    pub render: Render,
}

impl Broker {
    /// A broker with an empty cache.
    pub fn new(
        github: Arc<dyn Github>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        config: BrokerConfig,
    ) -> Self {
        let (tasks, draining, log) = (TaskTracker::new(), CancellationToken::new(), Arc::default());
        let apps = Apps::new(config.apps.keys().cloned().collect(), config.default_app);
        apps.names().iter().for_each(|app| metrics.init_app_series(app));
        let readiness = Arc::new(Readiness::new(apps.names(), github.clone(), draining.clone()));
        let lookups = LookupCache::new(github.clone(), clock.clone(), Arc::clone(&log), config.max_bytes / 8);
        let resolver = Arc::new(InstallationResolver::new(config.apps, lookups, tasks.clone()));
        let clock = FreshnessClock { clock, windows: config.windows, settle: config.settle };
        let tokens = Arc::new(TokenCache::new(config.max_entries, config.max_bytes / 4 * 3, log, clock));
        let minter = Arc::new(Minter {
            github: github.clone(),
            tokens: tokens.clone(),
            readiness: readiness.clone(),
            metrics: metrics.clone(),
            render: config.render,
            draining: draining.clone(),
            state: MintState::new(&tasks),
        });
        let prefetcher = Arc::new(Prefetcher {
            resolver: resolver.clone(),
            tokens: tokens.clone(),
            minter: minter.clone(),
            tasks: tasks.clone(),
            list: prefetches(&apps, config.prefetch),
        });
        let refresh = Arc::new(RefreshScheduler {
            tokens: tokens.clone(),
            minter: minter.clone(),
            prefetcher: prefetcher.clone(),
            metrics,
            workers: Workers::new(apps.names()),
            idle_after: config.idle_after,
            draining: draining.clone(),
        });
        let events = EventInvalidator::new(github.clone(), tokens.clone(), resolver.clone(), prefetcher);
        let vending = Vending { resolver, tokens: tokens.clone(), minter, refresh: refresh.clone() };
        let rejecter = Rejecter { tokens: tokens.clone(), limiter: Mutex::default() };
        let revoker = Revoker { github: github.clone(), tokens: tokens.clone(), tasks };
        Self(Arc::new(Parts {
            apps,
            github,
            tokens,
            readiness,
            vending,
            refresh,
            events,
            rejecter,
            revoker,
            draining,
        }))
    }

    /// A token for `request`: a cached one while it is good, else a new one.
    pub async fn vend(&self, request: &TokenRequest, client: ClientId) -> Result<Vended, Error> {
        let app = self.app(request.app.as_ref())?;
        let vended = self.0.vending.vend(app, request, client).await;
        vended.map_err(|error| {
            if let Error::Github(failure) = &error {
                self.0.readiness.note_failure(app, failure);
            }
            error.about(app)
        })
    }

    /// The app that is meant by `name`, or by none.
    pub fn app<'a>(&'a self, name: Option<&'a AppName>) -> Result<&'a AppName, Error> {
        self.0.apps.find(name)
    }

    /// What the dialect of its GitHub can do.
    pub fn capabilities(&self) -> Capabilities {
        self.0.github.capabilities()
    }

    /// The user who got `nonce`. Asked once, whatever comes of it: GitHub may have spent the nonce.
    pub async fn identify(
        &self,
        app: Option<&AppName>,
        nonce: &Secret,
        client: ClientId,
    ) -> Result<Identity, Error> {
        let app = self.app(app)?;
        let identity = self.0.github.identify(app, nonce, client).await;
        identity.map_err(|failure| Error::logged("identifying a user", failure).about(app))
    }

    /// The app, as GitHub describes it.
    pub async fn describe_app(&self, app: Option<&AppName>, client: ClientId) -> Result<App, Error> {
        let app = self.app(app)?;
        let described = self.0.github.describe_app(app, client).await;
        described.map_err(|failure| Error::logged("describing the app", failure).about(app))
    }

    /// A page of the app's installations, as GitHub describes it.
    pub async fn installation_page(
        &self,
        app: Option<&AppName>,
        page: Page,
        client: ClientId,
    ) -> Result<InstallationPage, Error> {
        let app = self.app(app)?;
        let found = self.0.github.installation_page(app, page, client).await;
        found.map_err(|failure| Error::logged("listing installations", failure).about(app))
    }

    /// The installation that `selector` names, as GitHub describes it.
    pub async fn describe(
        &self,
        app: Option<&AppName>,
        selector: &Selector,
        client: ClientId,
    ) -> Result<Installation, Error> {
        let app = self.app(app)?;
        let demand = Demand::of(Requester::caller(client, Priority::New));
        let found = self.0.github.look_up(app, selector, demand).await;
        found.map_err(|failure| match Error::logged("looking up an installation", failure) {
            Error::Github(failure) => explain(app, selector, failure).about(app),
            error => error,
        })
    }

    /// Applies the `event` of a delivery, once: see [`EventOutcome`].
    pub fn handle_event(&self, delivery: &str, event: &WebhookEvent) -> EventOutcome {
        self.0.events.handle(delivery, event)
    }

    /// Takes a token out of service that no longer works for a caller, within limits: see [`Rejection`].
    pub fn reject(&self, hash: TokenHash) -> Rejection {
        self.0.rejecter.reject(hash)
    }

    /// Ends the life of a token, here and at GitHub. One that has ended already is no failure. It is gone here whatever
    /// GitHub answers, and GitHub is asked even if the caller goes away: what is revoked may have leaked.
    pub async fn revoke(&self, token: Secret, client: ClientId) -> Result<(), Error> {
        self.0.revoker.revoke(token, client).await
    }

    /// Revokes all cached tokens at GitHub, because the daemon is about to end: first those that there are, then those of
    /// the mints under way. The broker must be draining.
    pub async fn revoke_all(&self) {
        self.0.revoker.revoke_all().await;
    }

    /// Asks GitHub who each app is until it accepts the app. Vending never waits for this.
    pub fn probe(&self) {
        self.0.readiness.probe_all();
    }

    /// Sweeps once a second until the daemon drains. It must be polled where its panic ends the process: without it,
    /// the daemon would run on without refreshing.
    pub async fn sweep(&self) {
        self.0.refresh.sweep().await;
    }

    /// One sweep: starts the refreshes and prefetches that are due, and returns how many those are.
    pub fn tick(&self) -> usize {
        self.0.refresh.tick()
    }

    /// From now on only cached tokens are vended.
    pub fn drain(&self) {
        self.0.draining.cancel();
    }

    /// Waits for the mints under way.
    pub async fn drained(&self) {
        self.0.revoker.drained().await;
    }

    /// Whether nothing is under way at GitHub for a token: for tests.
    pub fn is_idle(&self) -> bool {
        self.0.revoker.tasks.is_empty()
    }

    /// The cached keys whose tokens expire first, at most `limit`, in this order, and how many there are in all.
    pub fn soonest_expiring(&self, limit: usize) -> (Vec<CachedTokenInfo>, usize) {
        status::soonest_expiring(&self.0.tokens, limit, &self.0.tokens.as_of())
    }

    /// What is limited, waits and was counted on the way to GitHub.
    pub fn admission(&self) -> AdmissionStatus {
        self.0.github.admission()
    }

    /// How many keys have cached tokens.
    pub fn entry_count(&self) -> u64 {
        self.0.tokens.len()
    }

    /// Why an app cannot be vended for: GitHub has not accepted it yet, or rejects it now and no token is left that has
    /// not expired.
    pub fn not_ready(&self) -> Vec<(AppName, String)> {
        let at = self.0.tokens.as_of();
        self.0.readiness.missing(|app| self.0.tokens.has_unexpired(app, &at))
    }

    /// The private keys of every app, newest first, and the status of each.
    pub fn keys(&self) -> Vec<(AppName, Vec<KeyInUse>)> {
        self.0.apps.names().iter().map(|app| (app.clone(), self.0.github.keys(app))).collect()
    }
}

/// What `[[prefetch]]` lists. The settings have made sure that there are such apps.
fn prefetches(apps: &Apps, requests: Vec<TokenRequest>) -> Mutex<Vec<Prefetch>> {
    let prefetch = |request: TokenRequest| {
        let app = apps.find(request.app.as_ref()).ok()?.clone();
        Some(Prefetch::new(app, request))
    };
    Mutex::new(requests.into_iter().filter_map(prefetch).collect())
}
