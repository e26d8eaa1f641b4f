//! Minting: in single flight, one call to GitHub for each key at a time, in a task of its own, however many callers wait.
//! A caller that goes away does not cancel it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cache::entry::{Bodies, Entry};
use super::cache::memory::compact;
use super::cache::token_cache::TokenCache;
use super::cache::token_hash::TokenHash;
use super::cache::usage::Activity;
use super::coalesce::coalesced;
use super::decision::{MintResult, just_minted};
use super::error::Error;
use super::freshness::{Life, longest_min_ttl};
use super::invalidation_log::{InvalidationScope, Sequence};
use super::readiness::Readiness;
use crate::github::{Failure, Github, Kind, Origin};
use crate::model::{ClientId, InstallationId, InstallationToken, Minted, TokenKey};
use crate::single_flight::{Demand, Requester, SingleFlight};
use crate::telemetry::metrics::{Metrics, Urgency};

/// How a token looks on the wire. The broker keeps what this makes, and does not look into it.
pub type Render = fn(InstallationId, Option<&str>, &InstallationToken) -> Bodies;

/// Mints tokens, and puts them into the cache.
pub(super) struct Minter {
    pub(super) github: Arc<dyn Github>,
    pub(super) tokens: Arc<TokenCache>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) render: Render,
    /// From when on nothing is minted.
    pub(super) draining: CancellationToken,
    pub(super) state: MintState,
}

/// The mints in flight, and what the last ones brought.
pub(super) struct MintState {
    flights: SingleFlight<TokenKey, MintResult>,
    /// How long the token lived that GitHub granted last, in nanoseconds: every vend reads it.
    lifetime: AtomicU64,
}

impl MintState {
    /// Of mints that run in `tasks`, so that the end of the daemon can wait for them.
    pub(super) fn new(tasks: &TaskTracker) -> Self {
        let lifetime = AtomicU64::new(nanos(DEFAULT_LIFETIME));
        Self { flights: SingleFlight::new(tasks.clone()), lifetime }
    }
}

impl Minter {
    /// The life that callers may ask for at most.
    pub(super) fn longest_min_ttl(&self) -> Duration {
        longest_min_ttl(Duration::from_nanos(self.state.lifetime.load(Ordering::Relaxed)))
    }

    /// Whether a mint for `key` is under way.
    pub(super) fn is_minting(&self, key: &TokenKey) -> bool {
        self.state.flights.is_in_flight(key)
    }

    /// A new token: the one that is under way, else one that is asked for now. `requester` waits for it.
    pub(super) async fn mint(
        self: &Arc<Self>,
        key: &TokenKey,
        account: Option<String>,
        requester: Requester,
    ) -> MintResult {
        if self.draining.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        let start = |demand| Arc::clone(self).mint_once(key.clone(), account.clone(), demand);
        coalesced(&self.state.flights, key, requester, start).await
    }

    /// The same, without a caller that waits; one that is under way becomes as urgent. `permit` is held until it ends.
    pub(super) fn spawn_mint(
        self: &Arc<Self>,
        key: &TokenKey,
        account: Option<String>,
        requester: Requester,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let start = |demand| {
            let mint = Arc::clone(self).mint_once(key.clone(), account, demand);
            async move {
                let minted = mint.await;
                drop(permit);
                minted
            }
        };
        self.state.flights.start(key, requester, start);
    }

    /// Runs in a task of its own, once at a time for each key.
    async fn mint_once(
        self: Arc<Self>,
        key: TokenKey,
        account: Option<String>,
        demand: Demand,
    ) -> MintResult {
        let at = self.tokens.as_of();
        // Before anything is looked at or asked: whatever is invalidated from here on reaches this mint.
        let began = self.tokens.latest_invalidation();
        let is_background = demand.requester().client == ClientId::BACKGROUND;
        let mut guard = PanicGuard { minter: &self, key: &key, next: Next::AfterFailure(None) };
        if let Some(pair) = self.tokens.get(&key, &at)
            && let Some(entry) = just_minted(&pair, is_background, &at)
        {
            guard.next = Next::AsPlanned;
            return Ok(Arc::clone(entry));
        }
        let outcome = self.github.mint(&key, demand).await;
        let urgency = if is_background { Urgency::Background } else { Urgency::Foreground };
        self.count(&key, &outcome, urgency);
        match outcome {
            Ok(minted) => {
                guard.next = Next::AsPlanned;
                self.keep(&key, account, (minted, began)).ok_or(Error::InvalidatedWhileMinting)
            }
            Err(failure) => {
                guard.next = Next::after(&failure);
                if failure.origin == Origin::Upstream {
                    self.note_failure(&key, &failure, urgency);
                }
                Err(Error::Github(failure))
            }
        }
    }

    /// Counts a mint that was sent.
    fn count(&self, key: &TokenKey, outcome: &Result<Minted, Failure>, urgency: Urgency) {
        let (label, took) = match outcome {
            Ok(minted) => ("ok", Some(minted.landed.since(minted.sent))),
            Err(failure) if failure.origin == Origin::Upstream => (failure.kind.code().as_str(), None),
            Err(_) => return,
        };
        self.metrics.mint(&key.app, label, urgency);
        if let Some(took) = took {
            self.metrics.mint_took(&key.app, took);
        }
    }

    /// Logs that GitHub has refused a token, or could not be reached, and acts on it: a suspended or removed installation
    /// revokes all of its tokens.
    fn note_failure(&self, key: &TokenKey, failure: &Failure, urgency: Urgency) {
        let (installation, kind, priority) =
            (key.installation.get(), failure.kind.as_str(), urgency.as_str());
        tracing::warn!(
            app = %key.app, installation, kind, priority, error = %failure, "minting an installation token failed"
        );
        self.readiness.note_failure(&key.app, failure);
        if matches!(failure.kind, Kind::Suspended | Kind::Gone) {
            let scope = InvalidationScope::AppInstallation(key.app.clone(), key.installation);
            self.tokens.revoke(scope);
        }
    }

    /// Caches a token that has just come; `began` is the latest invalidation when its mint began. `None`: a webhook has
    /// revoked it meanwhile.
    fn keep(
        &self,
        key: &TokenKey,
        account: Option<String>,
        (minted, began): (Minted, Sequence),
    ) -> Option<Arc<Entry>> {
        self.readiness.note_accepted(&key.app);
        self.state.lifetime.store(nanos(minted.lifetime), Ordering::Relaxed);
        let at = self.tokens.as_of();
        let life = Life::of(&minted);
        let bodies = (self.render)(key.installation, account.as_deref(), &minted.token).compact();
        let token = compact(minted.token);
        let hash = TokenHash::of(&token.secret);
        let renew_at = life.renew_at(&at.windows, &(key, hash));
        let entry = Entry { token, account, life, bodies, hash, rejected: false, began, renew_at };
        self.tokens.put(key, entry, &at)
    }

    /// Schedules what is cached for `key`: its next event, but nothing before the pause after a failure is over.
    fn schedule(&self, key: &TokenKey, next: Next) {
        let at = self.tokens.as_of();
        let Some(pair) = self.tokens.get(key, &at) else { return };
        match next {
            Next::AsPlanned => pair.usage.note_minted(),
            Next::AfterFailure(wait) => pair.usage.note_failed(wait, at.now),
            Next::NotBefore(wait) => pair.usage.defer(at.now.plus(wait)),
        }
        let next_event = pair.next_event(&at).max(pair.usage.not_before());
        self.tokens.schedule(&pair, next_event, Activity::Active);
    }
}

/// When the next mint of a key may be made, by what came of this one.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// This one succeeded.
    AsPlanned,
    /// This one failed, or panicked: after the wait that GitHub names, or after ever longer pauses.
    AfterFailure(Option<Duration>),
    /// This one's failure does not concern the key.
    NotBefore(Duration),
}

impl Next {
    fn after(failure: &Failure) -> Self {
        match failure.origin {
            Origin::Upstream if failure.kind.speaks_for_the_key() => Self::AfterFailure(failure.retry_after),
            _ => Self::NotBefore(failure.retry_after.unwrap_or_default()),
        }
    }
}

/// Schedules a key when its mint ends, also by a panic.
struct PanicGuard<'a> {
    minter: &'a Minter,
    key: &'a TokenKey,
    next: Next,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        self.minter.schedule(self.key, self.next);
    }
}

fn nanos(lifetime: Duration) -> u64 {
    u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX)
}

/// What GitHub grants, until it has granted something.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
