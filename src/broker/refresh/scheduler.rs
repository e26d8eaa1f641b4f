//! Background refresh: tokens in use are refreshed before they expire.
//!
//! One sweep does it, once a second, not a task for each key, and looks only at what is due. Its decisions are in
//! [`super::step`]; how fast GitHub is asked, admission decides.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::prefetch::Prefetcher;
use super::step::{Step, next_step};
use super::workers::Workers;
use crate::broker::cache::as_of::AsOf;
use crate::broker::cache::schedule::Lane;
use crate::broker::cache::token_cache::TokenCache;
use crate::broker::cache::token_pair::TokenPair;
use crate::broker::cache::usage::Activity;
use crate::broker::freshness::State;
use crate::broker::minter::Minter;
use crate::model::{AppName, TokenKey};
use crate::telemetry::metrics::Metrics;

/// Starts mints in the background.
pub(crate) struct RefreshScheduler {
    pub(crate) tokens: Arc<TokenCache>,
    pub(crate) minter: Arc<Minter>,
    pub(crate) prefetcher: Arc<Prefetcher>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) workers: Workers,
    /// Time after the last request at which a key is no longer refreshed.
    pub(crate) idle_after: Duration,
    /// From when on nothing is started.
    pub(crate) draining: CancellationToken,
}

impl RefreshScheduler {
    /// Sweeps once a second until the daemon drains.
    pub(crate) async fn sweep(&self) {
        let mut seconds = tokio::time::interval(SWEEP_INTERVAL);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sweeping = async {
            loop {
                seconds.tick().await;
                self.tick();
            }
        };
        self.draining.run_until_cancelled(sweeping).await;
    }

    /// One sweep: looks at what is due, and starts the refreshes and prefetches whose time has come, those with the
    /// least life left first. Returns how many it started. Takes no time for what is not due.
    pub(crate) fn tick(&self) -> usize {
        if self.draining.is_cancelled() {
            return 0;
        }
        let at = self.tokens.as_of();
        self.tokens.remove_purged(&at);
        self.look_at_due(&at);
        let mut count = 0;
        for app in self.workers.apps() {
            let mut waiting = 0;
            for lane in [Lane::Healthy, Lane::Suspect].map(|lane| (app.clone(), lane)) {
                count += self.start_refreshes(&lane, &at);
                waiting += self.tokens.ready_count(&lane);
            }
            let (started, without_worker) = self.prefetcher.start_due(app, &self.workers, at.now);
            count += started;
            self.metrics.refresh_queue_length(app, waiting + without_worker);
        }
        count
    }

    /// A caller has got a token although it is time to renew it: it is renewed in the background, at once if it is
    /// [`State::Renewing`], else by the next sweep.
    pub(crate) fn refresh_early(
        &self,
        key: &TokenKey,
        pair: &Arc<TokenPair>,
        account: Option<&String>,
        at: &AsOf,
    ) {
        // The schedule has skipped it, as idle, until now.
        if pair.usage.set_activity(Activity::Active) == Activity::Idle {
            self.tokens.schedule(pair, at.now, Activity::Active);
        }
        let entry = pair.in_service(at);
        let may_start = at.state(entry) == State::Renewing
            && !self.draining.is_cancelled()
            && pair.usage.not_before() <= at.now
            && !self.minter.is_minting(key);
        if !may_start {
            return;
        }
        let permit = self.workers.try_acquire(&key.app, pair.usage.lane());
        if permit.is_some() {
            self.reschedule_when_urgent(pair, at);
            let account = account.or(entry.account.as_ref()).cloned();
            self.minter.spawn_mint(key, account, at.refresh_requester(entry), permit);
        }
    }

    fn look_at_due(&self, at: &AsOf) {
        let tokens = &self.tokens;
        for (key, pair) in tokens.take_due(at) {
            match next_step(&pair, self.idle_after, at) {
                Step::DropSuperseded => tokens.drop_superseded(&key, at),
                Step::Remove => tokens.remove_expired(&key, at),
                Step::Refresh => tokens.make_ready(&pair),
                Step::Wait(when) => tokens.schedule(&pair, when, Activity::Active),
                Step::Idle(expiry) => tokens.schedule(&pair, expiry, Activity::Idle),
            }
        }
    }

    /// Starts as many of a lane as there are workers.
    fn start_refreshes(&self, lane: &(AppName, Lane), at: &AsOf) -> usize {
        let tokens = &self.tokens;
        let mut started = 0;
        while let Some((key, pair)) = tokens.first_ready(lane, at) {
            let (entry, not_before) = (pair.in_service(at), pair.usage.not_before());
            if next_step(&pair, self.idle_after, at) != Step::Refresh {
                // Something has changed while it waited: it is looked at again.
                tokens.schedule(&pair, at.now, Activity::Active);
            } else if not_before > at.now {
                tokens.schedule(&pair, not_before, Activity::Active);
            } else if self.minter.is_minting(&key) {
                self.minter.spawn_mint(&key, None, at.refresh_requester(entry), None);
                self.reschedule_when_urgent(&pair, at);
            } else if let Some(permit) = self.workers.try_acquire(&lane.0, lane.1) {
                self.reschedule_when_urgent(&pair, at);
                let account = entry.account.clone();
                self.minter.spawn_mint(&key, account, at.refresh_requester(entry), Some(permit));
                started += 1;
            } else {
                break;
            }
        }
        started
    }

    /// While a refresh is under way, the key is looked at again when it becomes urgent. The end of the mint schedules it
    /// again; should the mint have ended just before, this does.
    fn reschedule_when_urgent(&self, pair: &Arc<TokenPair>, at: &AsOf) {
        let urgent_at = pair.in_service(at).life.stale_from(&at.windows);
        let next = if urgent_at > at.now { urgent_at } else { at.now.plus(SLOW_MINT) };
        self.tokens.schedule(pair, next, Activity::Active);
    }
}

/// Few mints take longer. After that the key is looked at again; a mint under way is joined, not repeated.
const SLOW_MINT: Duration = Duration::from_secs(60);
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
