//! Admission control: the only way to GitHub, for every kind of call.
//!
//! A call passes three steps. One that is refused has cost nothing; its caller gets the true reason and the true wait:
//!
//! 1. [`negative_cache`]: is it known that GitHub would not do it now?
//! 2. The queue of its app ([`fair_queue`]): there it waits for its turn, for a place ([`places`]) and for points
//!    ([`budget`]) at once, a caller for 10 seconds at most. A call that nobody waits for any more is dropped.
//! 3. At the very moment of sending, memory once more: another answer may have come meanwhile.
//!
//! What fails is remembered for as much as the answer speaks for, and for nothing else:
//!
//! | answer | speaks for | until the next attempt |
//! |---|---|---|
//! | no connection: name, address, TLS, a proxy's refusal | the host, after five in a row | one call at a time after 1 … 30 s |
//! | a rate limit | the app | its end as GitHub names it, 1 h at most; else 60 s and growing |
//! | the app's JWT refused | the app | one call at a time after 1 … 60 s; at once with other keys |
//! | suspended, or a confirmed 404 | the installation | one call at a time after 1 … 60 s |
//! | any other: 4xx, 5xx, silence, nonsense | its question | 1 … 60 s, or what GitHub names; "no such installation" 30 s |
//! | a lack of descriptors or ports here | nothing | at once |
//!
//! There is no circuit breaker: GitHub is a thousand independent keys, and one that is broken must not take another down.
//! A question whose last attempt failed is *suspect*: it waits with the smallest weight, holds at most a third of the
//! places, and is not retried.

mod budget;
mod call;
mod fair_queue;
mod negative_cache;
mod places;
mod queue;
mod retry;
mod stats;
mod topic;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

pub use call::Operation;
pub(crate) use call::{Call, Calls};
use fair_queue::Class;
use negative_cache::Attempts;
use places::Claim;
pub(crate) use queue::Limits;
use queue::{Receipt, State};
use retry::RetryBudget;
pub(crate) use retry::pauses;
pub use stats::{AdmissionStatus, AppAdmission};

use super::failure::{Failure, Kind, Scope};
use crate::clock::{BootTime, Clock};
use crate::model::AppName;
use crate::single_flight::Demand;

/// Lets calls to GitHub through.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    retries: Mutex<RetryBudget>,
}

impl Admission {
    pub(crate) fn new(clock: Arc<dyn Clock>, limits: Limits) -> Self {
        let retries = Mutex::new(RetryBudget::new(clock.boot()));
        Self(Arc::new(Shared { clock, state: Mutex::new(State::new(limits)), retries }))
    }

    /// Waits until `call` may be made on account of `demand`, or says why it may not.
    pub(crate) async fn enter(&self, call: &Call, demand: &mut Demand) -> Result<Permit, Failure> {
        loop {
            let requester = demand.requester();
            let mut queued = self.enqueue(call, demand)?;
            tokio::select! {
                biased;
                granted = &mut queued.receipt.granted => {
                    // Its sender is dropped only after it has sent.
                    queued.is_over = true;
                    let attempts = granted.unwrap_or_else(|_| Err(abandoned()))?;
                    return Ok(Permit::new(self.clone(), queued.call.clone(), queued.receipt.claim, attempts));
                }
                () = demand.changed(requester) => {
                    drop(queued);
                    if demand.abandon_if_unwanted() {
                        return Err(abandoned());
                    }
                }
            }
        }
    }

    /// Remembers `failure`, which several calls have found out together, and says for how long.
    pub(crate) fn remember(&self, call: &Call, failure: Failure) -> Failure {
        let (mut state, now) = (self.state(), self.now());
        let attempts = state.memory.begin(&call.topic, now);
        state.memory.failed(&call.topic, &failure, (&attempts, now), now);
        state.memory.end(&attempts);
        state.flush(now);
        let known = state.confirm(call, &Attempts::none(), now).err();
        Failure { retry_after: known.and_then(|known| known.retry_after), ..failure }
    }

    /// GitHub may grant now what it has refused.
    pub(crate) fn forget_refusals(&self) {
        self.state().memory.forget_refusals();
    }

    /// `app` has other keys: it is asked at once whether GitHub accepts them.
    pub(crate) fn retry_app(&self, app: &AppName) {
        let mut state = self.state();
        state.memory.retry_app(app, self.now());
        state.dispatch(self.now());
    }

    /// A webhook or a look-up has just shown that the installation of this hash exists.
    pub(crate) fn installation_exists(&self, installation: u128) {
        let mut state = self.state();
        if state.memory.installation_exists(installation) {
            state.dispatch(self.now());
        }
    }

    /// What is limited, waits and was counted.
    pub(crate) fn status(&self) -> AdmissionStatus {
        let (state, now) = (self.state(), self.now());
        let app = |(of, points_left): (&Option<AppName>, _)| {
            let until = of.as_ref().map_or([None; 2], |app| state.memory.limited_until(app, now));
            let [rate_limited_for, rejected_for] = until.map(|until| until.map(|until| until.since(now)));
            (
                of.clone(),
                AppAdmission { rate_limited_for, rejected_for, points_left, ..state.stats.counted(of) },
            )
        };
        AdmissionStatus {
            apps: state.points_left(now).map(app).collect(),
            in_flight: state.in_flight(),
            queued: state.queued(),
            remembered: state.memory.len(),
            is_reachable: state.memory.is_reachable(),
            signatures: 0,
        }
    }

    fn enqueue(&self, call: &Call, demand: &Demand) -> Result<Queued, Failure> {
        let mut state = self.state();
        let receipt = state.enqueue(call, demand.requester(), self.now())?;
        self.drive(&mut state);
        Ok(Queued { admission: self.clone(), call: call.clone(), receipt, is_over: false })
    }

    /// Has one task look at the queues for as long as anybody waits: budgets refill, pauses end, callers time out.
    fn drive(&self, state: &mut State) {
        if state.is_driven || state.queued() == 0 {
            return;
        }
        state.is_driven = true;
        let driver = Driver(self.clone());
        tokio::spawn(async move {
            while let Some(wait) = driver.0.tick() {
                tokio::time::sleep(wait).await;
            }
        });
    }

    /// One look at the queues; how long until the next, if anybody waits.
    fn tick(&self) -> Option<Duration> {
        let (mut state, now) = (self.state(), self.now());
        state.dispatch(now);
        state.expire(now);
        let wait = state.next_tick(now);
        state.is_driven = wait.is_some();
        wait
    }

    fn now(&self) -> BootTime {
        self.0.clock.boot()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

/// Drives the queues. Should it panic, the next call that waits starts another.
struct Driver(Admission);

impl Drop for Driver {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state().is_driven = false;
        }
    }
}

/// A call in the queue. Dropped, it leaves; what it was granted meanwhile, it gives back.
struct Queued {
    admission: Admission,
    call: Call,
    receipt: Receipt,
    /// Whether it has left the queue, and its caller knows what came of it.
    is_over: bool,
}

impl Drop for Queued {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let is_cancelled = self.admission.state().cancel(&self.call, self.receipt.ticket);
        if !is_cancelled && let Ok(Ok(attempts)) = self.receipt.granted.try_recv() {
            drop(Permit::new(self.admission.clone(), self.call.clone(), self.receipt.claim, attempts));
        }
    }
}

/// A place, and points for one call. Dropped, it gives the place back, and the points if the call was not sent.
pub(crate) struct Permit {
    admission: Admission,
    call: Call,
    claim: Claim,
    attempts: Attempts,
    /// When it was first sent.
    sent: Option<BootTime>,
    /// Whether the outcome of the last time that it was sent is known here.
    is_learnt: bool,
}

impl Permit {
    fn new(admission: Admission, call: Call, claim: Claim, attempts: Attempts) -> Self {
        Self { admission, call, claim, attempts, sent: None, is_learnt: false }
    }

    /// To be called at the very moment of sending: whether the call still may be made.
    pub(crate) fn confirm(&mut self) -> Result<(), Failure> {
        let now = self.admission.now();
        let state = self.admission.state();
        state.confirm(&self.call, &self.attempts, now)?;
        self.sent.get_or_insert(now);
        self.is_learnt = false;
        self.admission.0.retries.lock().deposit();
        Ok(())
    }

    /// Whether the call may be sent once more at once, as it is or signed anew: if it can be paid for.
    pub(crate) fn may_repeat(&self) -> bool {
        self.admission.state().pay_again(&self.call, self.admission.now())
    }

    /// Whether the call may be sent once more because it failed in passing. What fails again and again is not retried.
    pub(crate) fn may_retry(&self) -> bool {
        let now = self.admission.now();
        if self.claim.class == Class::Suspect || !self.may_repeat() {
            return false;
        }
        let may_retry = self.admission.0.retries.lock().withdraw(now);
        if !may_retry {
            self.admission.state().refund(&self.call);
        }
        may_retry
    }

    /// Learns from a failed attempt that may be followed by another.
    pub(crate) fn learn(&mut self, failure: &Failure) {
        let (mut state, now) = (self.admission.state(), self.admission.now());
        self.is_learnt = true;
        state.stats.sent(&self.call, Some(failure));
        state.memory.answered(failure);
        if failure.kind.scope() == Scope::Host {
            state.memory.failed(&self.call.topic, failure, (&self.attempts, now), now);
            state.flush(now);
        }
    }

    /// Learns from the outcome of the call, and says how long it is remembered if it is a failure.
    pub(crate) fn finish<T>(self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        let (now, mut state) = (self.admission.now(), self.admission.state());
        let Some(sent) = self.sent else { return outcome };
        match outcome {
            Ok(value) => {
                state.stats.sent(&self.call, None);
                state.memory.succeeded(&self.call.topic, sent);
                Ok(value)
            }
            Err(failure) => {
                // An answer that was learnt before says nothing of what was met since.
                if !self.is_learnt {
                    state.stats.sent(&self.call, Some(&failure));
                    state.memory.answered(&failure);
                }
                if !self.is_learnt || failure.kind.scope() != Scope::Host {
                    state.memory.failed(&self.call.topic, &failure, (&self.attempts, sent), now);
                }
                // Nobody else waits for the same question.
                if failure.kind.scope() != Scope::Question {
                    state.flush(now);
                }
                let wait = state
                    .confirm(&self.call, &Attempts::none(), now)
                    .err()
                    .and_then(|known| known.retry_after);
                // What is not remembered may be asked again at once.
                Err(Failure { retry_after: wait.or(failure.retry_after).or(Some(NO_PAUSE)), ..failure })
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        if self.sent.is_none() {
            state.refund(&self.call);
        }
        state.release(&self.claim, &self.attempts);
        state.dispatch(self.admission.now());
    }
}

const NO_PAUSE: Duration = Duration::from_secs(1);

fn abandoned() -> Failure {
    Failure::local(Kind::Abandoned, Duration::ZERO, "nobody waited for it any more, so GitHub was not asked")
}
