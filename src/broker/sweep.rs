//! What is done without a caller: tokens are renewed ahead of their time, and those of `[[prefetch]]` minted.
//!
//! One sweep over all keys does it, once a second, not a task for each of them. Its decisions are in
//! [`super::renewal`] and [`super::pace`].

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::directory::Found;
use super::mint::Cause;
use super::pace::{Line, Pace};
use super::renewal::{self, Pauses};
use super::request::{Age, TokenRequest};
use super::slot::{Moment, Slot};
use super::{Broker, Error};
use crate::clock::BootTime;
use crate::github::{Asked, Failure, Kind};
use crate::model::{AppName, TokenKey};

/// What the background remembers.
#[derive(Debug)]
pub(super) struct Renewals {
    paces: BTreeMap<AppName, Pace>,
    /// Why the last mint for a key failed; `None` for a defect of ours, which says nothing to callers.
    pauses: Pauses<TokenKey, Option<Failure>>,
    /// How long the token lived that GitHub granted last.
    lifetime: Duration,
    prefetch: Vec<Prefetch>,
    prefetch_pauses: Pauses<usize, ()>,
}

/// A key to be minted at start.
#[derive(Debug)]
struct Prefetch {
    app: AppName,
    request: Arc<TokenRequest>,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Wanted,
    UnderWay,
    Done,
}

/// Something that the sweep would do now.
enum Due {
    Renewal { key: Arc<TokenKey>, account: Option<String> },
    Prefetch { index: usize, request: Arc<TokenRequest> },
}

impl Renewals {
    pub(super) fn new(apps: &[AppName], mints_per_minute: u32) -> Self {
        let pace = |app: &AppName| (app.clone(), Pace::new(mints_per_minute));
        Self {
            paces: apps.iter().map(pace).collect(),
            pauses: Pauses::new(),
            lifetime: USUAL_LIFETIME,
            prefetch: Vec::new(),
            prefetch_pauses: Pauses::new(),
        }
    }

    /// The life that callers may ask for at most.
    pub(super) fn longest_min_ttl(&self) -> Duration {
        renewal::longest_min_ttl(self.lifetime)
    }

    /// A mint for `key` failed.
    pub(super) fn failed(&mut self, key: &TokenKey, failure: &Failure, cause: Cause, now: BootTime) {
        match (failure.asked, cause) {
            (Asked::Github, _) => {
                self.pauses.failed(key.clone(), Some(failure.clone()), failure.retry_after, now);
            }
            // The sweep is not to come again in vain.
            (Asked::Nobody, Cause::Background) => {
                let wait = failure.retry_after.unwrap_or_default();
                self.pauses.put_off(key.clone(), Some(failure.clone()), wait, now);
            }
            // Callers hear the same again without being remembered.
            (Asked::Nobody, Cause::Caller) => {}
        }
        if failure.kind == Kind::RateLimited
            && let Some(pace) = self.paces.get_mut(&key.app)
        {
            // It is the app that is limited, and not this key alone.
            pace.close(now.plus(failure.retry_after.unwrap_or_default().min(renewal::LONGEST_NAMED_WAIT)));
        }
    }

    /// A mint for `key` panicked. Callers may try anew, but the sweep is not to do so every second.
    pub(super) fn crashed(&mut self, key: &TokenKey, now: BootTime) {
        self.pauses.failed(key.clone(), None, None, now);
    }

    /// Why the last mint for `key` failed, if it is too early for another: with what is left of the wait.
    pub(super) fn remembered(&self, key: &TokenKey, now: BootTime) -> Option<Failure> {
        let (why, left) = self.pauses.remembered(key, now)?;
        let failure = why.clone()?;
        Some(Failure { retry_after: Some(left), ..failure })
    }

    /// Takes a mint of `app` for a caller at `now`, or says how long there is none.
    pub(super) fn take_for_caller(&mut self, app: &AppName, now: BootTime) -> Result<(), Duration> {
        self.paces.get_mut(app).map_or(Ok(()), |pace| pace.take_for_caller(now))
    }

    /// A mint for `key` brought a token that lives so long.
    pub(super) fn succeeded(&mut self, key: &TokenKey, lifetime: Duration) {
        self.pauses.succeeded(key);
        self.lifetime = lifetime;
    }

    /// GitHub may grant now what it has refused to the keys that are `meant`. What kept it from answering may go on.
    pub(super) fn forget_refusals(&mut self, meant: impl Fn(&TokenKey) -> bool) {
        self.pauses
            .forget_all(|key, why| meant(key) && why.as_ref().is_some_and(|why| !why.kind.leaves_open()));
    }

    /// What is listed for the start may be had now.
    pub(super) fn prefetch_at_once(&mut self) {
        self.prefetch_pauses.forget_all(|_, ()| true);
    }

    fn take(&mut self, app: &AppName, now: BootTime) -> bool {
        self.paces.get_mut(app).is_some_and(|pace| pace.take(now))
    }
}

impl Broker {
    /// Sweeps once a second until the daemon drains. It must be polled where its panic ends the process: without it,
    /// the daemon would be half dead and look alive.
    pub async fn sweep(&self) {
        let mut seconds = tokio::time::interval(BETWEEN_SWEEPS);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sweeping = async {
            loop {
                seconds.tick().await;
                self.tick();
            }
        };
        self.0.draining.run_until_cancelled(sweeping).await;
    }

    /// One sweep: starts the renewals and prefetches whose moment has come, as far as the pace allows, those with the
    /// least life left first. Returns how many it started.
    pub fn tick(&self) -> usize {
        if self.0.draining.is_cancelled() {
            return 0;
        }
        let at = self.moment();
        let slots = self.0.tokens.slots();
        for (key, slot) in &slots {
            if slot.without_the_replaced(&at).is_some() {
                self.0.tokens.drop_the_replaced((**key).clone(), &at);
            }
        }
        let mut renewals = self.renewals();
        renewals.pauses.forget_the_old(at.now);
        let due = self.due(&renewals, slots, &at);
        let mut waiting: BTreeMap<AppName, usize> = BTreeMap::new();
        let mut started = Vec::new();
        for (app, due) in due {
            match renewals.take(&app, at.now) {
                true => started.push(due),
                false => *waiting.entry(app).or_default() += 1,
            }
        }
        for (app, pace) in &mut renewals.paces {
            let count = waiting.get(app).copied().unwrap_or_default();
            self.0.metrics.waiting_renewals(app, count);
            pace.set_line(if count > 0 { Line::Waiting } else { Line::Empty });
        }
        for due in &started {
            if let Due::Prefetch { index, .. } = due {
                renewals.prefetch[*index].progress = Progress::UnderWay;
            }
        }
        drop(renewals);
        let count = started.len();
        for due in started {
            match due {
                Due::Renewal { key, account } => self.begin_to_mint(&key, account),
                Due::Prefetch { index, request } => self.begin_to_prefetch(index, request),
            }
        }
        count
    }

    /// What is to be done now, in this order.
    fn due(
        &self,
        renewals: &Renewals,
        slots: Vec<(Arc<TokenKey>, Arc<Slot>)>,
        at: &Moment,
    ) -> Vec<(AppName, Due)> {
        let mut expiring: Vec<_> = slots
            .into_iter()
            .filter(|(key, slot)| {
                renewal::is_due(key, slot, self.0.idle_after, at)
                    && !renewals.pauses.holds(key, at.now)
                    && !self.0.mints.is_under_way(key)
            })
            .collect();
        expiring.sort_by_key(|(_, slot)| slot.in_service(at).life.remaining(at.now));
        let renewal = |(key, slot): (Arc<TokenKey>, Arc<Slot>)| {
            let account = slot.in_service(at).account.clone();
            (key.app.clone(), Due::Renewal { key, account })
        };
        let wanted = renewals.prefetch.iter().enumerate().filter(|(index, prefetch)| {
            prefetch.progress == Progress::Wanted && !renewals.prefetch_pauses.holds(index, at.now)
        });
        let prefetch = wanted.map(|(index, prefetch)| {
            (prefetch.app.clone(), Due::Prefetch { index, request: Arc::clone(&prefetch.request) })
        });
        expiring.into_iter().map(renewal).chain(prefetch).collect()
    }

    /// A caller has found this token due for renewal, and got it: it is renewed behind the caller's back, unless others
    /// wait for that in line.
    pub(super) fn renew_behind(&self, key: &TokenKey, slot: &Slot, found: &Found, at: &Moment) {
        if slot.settling(at).is_some() || self.0.draining.is_cancelled() || self.0.mints.is_under_way(key) {
            return;
        }
        let mut renewals = self.renewals();
        if renewals.pauses.holds(key, at.now) {
            return;
        }
        let pace = renewals.paces.get_mut(&key.app);
        if pace.is_some_and(|pace| pace.take_out_of_turn(at.now)) {
            drop(renewals);
            let account = found.account.clone().or_else(|| slot.in_service(at).account.clone());
            self.begin_to_mint(key, account);
        }
    }

    /// Has the sweep mint these keys.
    pub(super) fn prefetch(&self, requests: Vec<TokenRequest>) {
        let wanted = requests.into_iter().filter_map(|request| {
            // The settings have made sure that there is such an app.
            let app = self.app(request.app.as_ref()).ok()?.clone();
            Some(Prefetch { app, request: Arc::new(request), progress: Progress::Wanted })
        });
        self.renewals().prefetch = wanted.collect();
    }

    fn begin_to_prefetch(&self, index: usize, request: Arc<TokenRequest>) {
        let broker = self.clone();
        self.0.tasks.spawn(async move {
            let outcome = broker.prefetched(&request).await;
            let now = broker.0.clock.boot();
            let mut renewals = broker.renewals();
            let progress = match outcome {
                Ok(()) => {
                    renewals.prefetch_pauses.succeeded(&index);
                    Progress::Done
                }
                Err(error) => {
                    tracing::warn!(%request, %error, "a token of [[prefetch]] could not be had yet");
                    renewals.prefetch_pauses.failed(index, (), error.named_wait(), now);
                    Progress::Wanted
                }
            };
            renewals.prefetch[index].progress = progress;
        });
    }

    async fn prefetched(&self, request: &TokenRequest) -> Result<(), Error> {
        let app = self.app(request.app.as_ref())?;
        self.0.github.can_serve(&request.selector, &request.scope, request.user)?;
        let (found, _) = self.0.directory.resolve(app, &request.selector).await?;
        let key = request.key(app, found.id);
        let at = self.moment();
        if self.0.tokens.get(&key).is_some_and(|slot| slot.at_once(Age::Any, &at).is_some()) {
            return Ok(());
        }
        self.mint(&key, found.account.clone(), Cause::Background).await.map(|_| ())
    }

    pub(super) fn renewals(&self) -> MutexGuard<'_, Renewals> {
        self.0.renewals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const BETWEEN_SWEEPS: Duration = Duration::from_secs(1);
/// What GitHub grants, until it has granted something.
const USUAL_LIFETIME: Duration = Duration::from_secs(3600);
