//! What is done without a caller: tokens are renewed ahead of their time, and those of `[[prefetch]]` minted.
//!
//! One sweep over all keys does it, once a second, not a task for each of them. Its decisions are in
//! [`super::renewal`] and [`super::pace`].

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::directory::Found;
use super::freshness::State;
use super::mint::Cause;
use super::pace::{Line, Pace};
use super::renewal::{self, Pauses, Step};
use super::request::{Age, TokenRequest};
use super::slot::{Idle, Moment, Slot};
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

/// Something that the sweep does now.
enum Due {
    Refresh { key: TokenKey, account: Option<String> },
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

    /// When the pause after a failed mint for `key` is over.
    pub(super) fn pause_end(&self, key: &TokenKey) -> Option<BootTime> {
        self.pauses.end(key)
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

    /// One sweep: looks at what is due, and starts the renewals and prefetches whose moment has come, as far as the pace
    /// allows, those with the least life left first. Returns how many it started. Takes no time for what is not due.
    pub fn tick(&self) -> usize {
        if self.0.draining.is_cancelled() {
            return 0;
        }
        let at = self.moment();
        self.0.tokens.remove_purged(&at);
        self.look_at_due(&at);
        let mut renewals = self.renewals();
        renewals.pauses.forget_the_old(at.now);
        let mut started = Vec::new();
        for app in &self.0.apps {
            self.take_refreshes(&mut renewals, app, &at, &mut started);
            self.take_prefetches(&mut renewals, app, &at, &mut started);
        }
        drop(renewals);
        let count = started.len();
        for due in started {
            match due {
                Due::Refresh { key, account } => self.begin_to_mint(&key, account),
                Due::Prefetch { index, request } => self.begin_to_prefetch(index, request),
            }
        }
        count
    }

    fn look_at_due(&self, at: &Moment) {
        let tokens = &self.0.tokens;
        for (key, slot) in tokens.take_due(at) {
            match renewal::step(&slot, self.0.idle_after, at) {
                Step::DropSuperseded => tokens.drop_superseded(&key, at),
                Step::Remove => tokens.remove_ended(&key, at),
                Step::Refresh => tokens.make_ready(&slot),
                Step::Wait(when) => tokens.schedule(&slot, when, Idle::Scheduled),
                Step::LeaveAlone(end) => tokens.schedule(&slot, end, Idle::LeftAlone),
            }
        }
    }

    /// Takes from the line of `app` as many as its pace allows.
    fn take_refreshes(&self, renewals: &mut Renewals, app: &AppName, at: &Moment, started: &mut Vec<Due>) {
        let tokens = &self.0.tokens;
        while let Some((key, slot)) = tokens.first_ready(app, at) {
            let pause = renewals.pause_end(&key).filter(|end| *end > at.now);
            if renewal::step(&slot, self.0.idle_after, at) != Step::Refresh {
                // Something has changed while it waited: it is looked at anew.
                tokens.schedule(&slot, at.now, Idle::Scheduled);
            } else if let Some(end) = pause {
                tokens.schedule(&slot, end, Idle::Scheduled);
            } else if self.0.mints.is_under_way(&key) {
                tokens.unschedule(&slot);
            } else if renewals.take(app, at.now) {
                // The end of the mint schedules it again.
                tokens.unschedule(&slot);
                started.push(Due::Refresh { key, account: slot.in_service(at).account.clone() });
            } else {
                break;
            }
        }
    }

    fn take_prefetches(&self, renewals: &mut Renewals, app: &AppName, at: &Moment, started: &mut Vec<Due>) {
        let mut waiting = self.0.tokens.ready_count(app);
        for index in 0..renewals.prefetch.len() {
            let prefetch = &renewals.prefetch[index];
            let is_due = prefetch.progress == Progress::Wanted
                && prefetch.app == *app
                && !renewals.prefetch_pauses.holds(&index, at.now);
            if !is_due {
                continue;
            }
            // Those in line go first.
            if waiting == 0 && renewals.take(app, at.now) {
                let prefetch = &mut renewals.prefetch[index];
                prefetch.progress = Progress::UnderWay;
                started.push(Due::Prefetch { index, request: Arc::clone(&prefetch.request) });
            } else {
                waiting += 1;
            }
        }
        self.0.metrics.waiting_renewals(app, waiting);
        if let Some(pace) = renewals.paces.get_mut(app) {
            pace.set_line(if waiting > 0 { Line::Waiting } else { Line::Empty });
        }
    }

    /// A caller has got this token although it is time to renew it: it is renewed in the background, at once if it is
    /// [`State::Renewing`] and no others wait for that in line, else by the next sweep.
    pub(super) fn refresh_in_background(&self, key: &TokenKey, slot: &Arc<Slot>, found: &Found, at: &Moment) {
        // The schedule has left it alone until now.
        if slot.set_idle(Idle::Scheduled) == Idle::LeftAlone {
            self.0.tokens.schedule(slot, at.now, Idle::Scheduled);
        }
        let is_renewing = at.state(slot.in_service(at)) == State::Renewing;
        if !is_renewing || self.0.draining.is_cancelled() || self.0.mints.is_under_way(key) {
            return;
        }
        let mut renewals = self.renewals();
        if renewals.pauses.holds(key, at.now) {
            return;
        }
        let pace = renewals.paces.get_mut(&key.app);
        if pace.is_some_and(|pace| pace.take_out_of_turn(at.now)) {
            drop(renewals);
            self.0.tokens.unschedule(slot);
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
        if self.0.tokens.get(&key, &at).is_some_and(|slot| slot.at_once(Age::Any, &at).is_some()) {
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
