//! Background refresh: tokens are refreshed before they expire, and those of `[[prefetch]]` minted.
//!
//! One sweep does it, once a second, not a task for each key, and looks only at what is due. Its decisions are in
//! [`super::step`]; how fast GitHub is asked, admission decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::MissedTickBehavior;

use crate::broker::cache::schedule::Line;
use crate::broker::cache::token_pair::{AsOf, Idle, Slot};
use crate::broker::freshness::State;
use crate::broker::installations::resolver::Found;
use crate::broker::refresh::step::{self, Step, pause_after};
use crate::broker::request::{Requirement, TokenRequest};
use crate::broker::{Broker, Error};
use crate::clock::BootTime;
use crate::flight::Requester;
use crate::model::{AppName, Priority, TokenKey};

/// What the background remembers.
#[derive(Debug)]
pub(in crate::broker) struct RefreshScheduler {
    workers: BTreeMap<AppName, Workers>,
    /// How long the token lived that GitHub granted last.
    lifetime: Duration,
    prefetch: Vec<Prefetch>,
}

/// Bounds the tasks that mint without a caller. What has failed before is kept apart: it may wait long for its turn.
#[derive(Debug)]
struct Workers {
    usual: Arc<Semaphore>,
    suspect: Arc<Semaphore>,
}

/// A key to be minted at start.
#[derive(Debug)]
struct Prefetch {
    app: AppName,
    request: Arc<TokenRequest>,
    progress: Progress,
    /// Attempts in a row that failed, and when the next may be made.
    failures: u32,
    not_before: BootTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Wanted,
    UnderWay,
    Done,
}

/// Something that the sweep does now.
struct Due {
    what: What,
    permit: OwnedSemaphorePermit,
}

enum What {
    Refresh { key: TokenKey, account: Option<String>, requester: Requester },
    Prefetch { index: usize, request: Arc<TokenRequest> },
}

impl Default for Workers {
    fn default() -> Self {
        let [usual, suspect] = [MAX_WORKERS, MAX_WORKERS / 2].map(|most| Arc::new(Semaphore::new(most)));
        Self { usual, suspect }
    }
}

impl Workers {
    fn permit(&self, line: Line) -> Option<OwnedSemaphorePermit> {
        let pool = match line {
            Line::Usual => &self.usual,
            Line::Suspect => &self.suspect,
        };
        Arc::clone(pool).try_acquire_owned().ok()
    }
}

impl RefreshScheduler {
    pub(in crate::broker) fn new(apps: &[AppName]) -> Self {
        let workers = apps.iter().map(|app| (app.clone(), Workers::default())).collect();
        Self { workers, lifetime: DEFAULT_LIFETIME, prefetch: Vec::new() }
    }

    /// The life that callers may ask for at most.
    pub(in crate::broker) fn longest_min_ttl(&self) -> Duration {
        step::longest_min_ttl(self.lifetime)
    }

    /// A mint brought a token that lives so long.
    pub(in crate::broker) fn note_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = lifetime;
    }

    /// What is listed for the start may be had now.
    pub(in crate::broker) fn prefetch_at_once(&mut self) {
        self.prefetch.iter_mut().for_each(|prefetch| prefetch.not_before = BootTime::new(Duration::ZERO));
    }

    fn permit(&self, (app, line): &(AppName, Line)) -> Option<OwnedSemaphorePermit> {
        self.workers.get(app).and_then(|workers| workers.permit(*line))
    }
}

impl Broker {
    /// Sweeps once a second until the daemon drains. It must be polled where its panic ends the process: without it,
    /// the daemon would be half dead and look alive.
    pub async fn sweep(&self) {
        let mut seconds = tokio::time::interval(SWEEP_INTERVAL);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sweeping = async {
            loop {
                seconds.tick().await;
                self.tick();
            }
        };
        self.0.draining.run_until_cancelled(sweeping).await;
    }

    /// One sweep: looks at what is due, and starts the refreshes and prefetches whose moment has come, those with the
    /// least life left first. Returns how many it started. Takes no time for what is not due.
    pub fn tick(&self) -> usize {
        if self.0.draining.is_cancelled() {
            return 0;
        }
        let at = self.moment();
        self.0.tokens.remove_purged(&at);
        self.look_at_due(&at);
        let mut renewals = self.0.renewals.lock();
        let mut started = Vec::new();
        for app in &self.0.apps {
            let mut waiting = 0;
            for line in [Line::Usual, Line::Suspect].map(|line| (app.clone(), line)) {
                self.take_refreshes(&renewals, &line, &at, &mut started);
                waiting += self.0.tokens.ready_count(&line);
            }
            waiting += take_prefetches(&mut renewals, app, &at, &mut started);
            self.0.metrics.refresh_queue_length(app, waiting);
        }
        drop(renewals);
        let count = started.len();
        for Due { what, permit } in started {
            match what {
                What::Refresh { key, account, requester } => {
                    self.spawn_mint(&key, account, requester, Some(permit));
                }
                What::Prefetch { index, request } => self.spawn_prefetch(index, request, permit),
            }
        }
        count
    }

    fn look_at_due(&self, at: &AsOf) {
        let tokens = &self.0.tokens;
        for (key, slot) in tokens.take_due(at) {
            match step::step(&slot, self.0.idle_after, at) {
                Step::DropSuperseded => tokens.drop_superseded(&key, at),
                Step::Remove => tokens.remove_ended(&key, at),
                Step::Refresh => tokens.make_ready(&slot),
                Step::Wait(when) => tokens.schedule(&slot, when, Idle::Scheduled),
                Step::LeaveAlone(end) => tokens.schedule(&slot, end, Idle::LeftAlone),
            }
        }
    }

    /// Takes as many from a line as there are workers.
    fn take_refreshes(
        &self,
        renewals: &RefreshScheduler,
        line: &(AppName, Line),
        at: &AsOf,
        started: &mut Vec<Due>,
    ) {
        let tokens = &self.0.tokens;
        while let Some((key, slot)) = tokens.first_ready(line, at) {
            let entry = slot.in_service(at);
            if step::step(&slot, self.0.idle_after, at) != Step::Refresh {
                // Something has changed while it waited: it is looked at anew.
                tokens.schedule(&slot, at.now, Idle::Scheduled);
            } else if slot.not_before() > at.now {
                tokens.schedule(&slot, slot.not_before(), Idle::Scheduled);
            } else if self.0.mints.is_under_way(&key) {
                self.spawn_mint(&key, None, at.refresh_of(entry), None);
                self.schedule_rise(&slot, at);
            } else if let Some(permit) = renewals.permit(line) {
                let (account, requester) = (entry.account.clone(), at.refresh_of(entry));
                self.schedule_rise(&slot, at);
                started.push(Due { what: What::Refresh { key, account, requester }, permit });
            } else {
                break;
            }
        }
    }

    /// While a refresh is under way, the key is looked at again when it becomes urgent. The end of the mint schedules it
    /// anew; should it be the end of one that nobody knew of, this does.
    fn schedule_rise(&self, slot: &Arc<Slot>, at: &AsOf) {
        let urgent_at = slot.in_service(at).life.stops_serving(&at.windows);
        let next = if urgent_at > at.now { urgent_at } else { at.now.plus(LONG_MINT) };
        self.0.tokens.schedule(slot, next, Idle::Scheduled);
    }

    /// A caller has got this token although it is time to renew it: it is renewed in the background, at once if it is
    /// [`State::Renewing`], else by the next sweep.
    pub(in crate::broker) fn refresh_in_background(
        &self,
        key: &TokenKey,
        slot: &Arc<Slot>,
        found: &Found,
        at: &AsOf,
    ) {
        // The schedule has left it alone until now.
        if slot.set_idle(Idle::Scheduled) == Idle::LeftAlone {
            self.0.tokens.schedule(slot, at.now, Idle::Scheduled);
        }
        let entry = slot.in_service(at);
        let may_start = at.state(entry) == State::Renewing
            && !self.0.draining.is_cancelled()
            && slot.not_before() <= at.now
            && !self.0.mints.is_under_way(key);
        if !may_start {
            return;
        }
        let permit = self.0.renewals.lock().permit(&(key.app.clone(), slot.line()));
        if permit.is_some() {
            self.schedule_rise(slot, at);
            let account = found.account.clone().or_else(|| entry.account.clone());
            self.spawn_mint(key, account, at.refresh_of(entry), permit);
        }
    }

    /// Has the sweep mint these keys.
    pub(in crate::broker) fn prefetch(&self, requests: Vec<TokenRequest>) {
        let wanted = requests.into_iter().filter_map(|request| {
            // The settings have made sure that there is such an app.
            let (app, request) = (self.app(request.app.as_ref()).ok()?.clone(), Arc::new(request));
            let not_before = BootTime::new(Duration::ZERO);
            Some(Prefetch { app, request, progress: Progress::Wanted, failures: 0, not_before })
        });
        self.0.renewals.lock().prefetch = wanted.collect();
    }

    fn spawn_prefetch(&self, index: usize, request: Arc<TokenRequest>, permit: OwnedSemaphorePermit) {
        let broker = self.clone();
        self.0.tasks.spawn(async move {
            let outcome = broker.prefetched(&request).await;
            drop(permit);
            let now = broker.0.clock.boot();
            let prefetch = &mut broker.0.renewals.lock().prefetch[index];
            prefetch.progress = match outcome {
                Ok(()) => Progress::Done,
                Err(error) => {
                    tracing::warn!(%request, %error, "prefetch failed; will retry");
                    prefetch.failures = prefetch.failures.saturating_add(1);
                    let wait = error.named_wait().unwrap_or_else(|| pause_after(prefetch.failures));
                    prefetch.not_before = now.plus(wait);
                    Progress::Wanted
                }
            };
        });
    }

    async fn prefetched(&self, request: &TokenRequest) -> Result<(), Error> {
        let app = self.app(request.app.as_ref())?;
        self.0.github.check_supported(&request.selector, &request.scope, request.user)?;
        let (found, _) = self.0.directory.resolve(app, &request.selector, PREFETCH).await?;
        let key = request.key(app, found.id);
        let at = self.moment();
        if self.0.tokens.get(&key, &at).is_some_and(|slot| slot.fresh_enough(Requirement::Any, &at).is_some())
        {
            return Ok(());
        }
        self.mint(&key, found.account.clone(), PREFETCH).await.map(|_| ())
    }
}

/// Takes what is listed for `app` and due, and returns how many have to wait for a worker.
fn take_prefetches(
    renewals: &mut RefreshScheduler,
    app: &AppName,
    at: &AsOf,
    started: &mut Vec<Due>,
) -> usize {
    let RefreshScheduler { workers, prefetch, .. } = renewals;
    let is_due = |prefetch: &Prefetch| {
        prefetch.progress == Progress::Wanted && prefetch.app == *app && prefetch.not_before <= at.now
    };
    let mut waiting = 0;
    for (index, prefetch) in prefetch.iter_mut().enumerate().filter(|(_, prefetch)| is_due(prefetch)) {
        let line = if prefetch.failures > 0 { Line::Suspect } else { Line::Usual };
        match workers.get(app).and_then(|workers| workers.permit(line)) {
            Some(permit) => {
                prefetch.progress = Progress::UnderWay;
                let request = Arc::clone(&prefetch.request);
                started.push(Due { what: What::Prefetch { index, request }, permit });
            }
            None => waiting += 1,
        }
    }
    waiting
}

const PREFETCH: Requester = Requester::background(Priority::Ahead, None);
/// Each is a task of some kilobytes; GitHub lets an app mint fewer in a minute.
const MAX_WORKERS: usize = 256;
/// Few mints take longer; one that does is not begun again, but looked at.
const LONG_MINT: Duration = Duration::from_secs(60);
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// What GitHub grants, until it has granted something.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
