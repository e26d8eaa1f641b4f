//! Single flight: one call per key at a time. Later callers join the one in flight (coalescing).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use crate::clock::BootTime;
use crate::model::{ClientId, Priority};

/// Calls in flight, by key. Each runs in a task of its own, so that no caller that goes away cancels it.
pub(crate) struct SingleFlight<K, T> {
    in_flight: InFlight<K, T>,
    tasks: TaskTracker,
}

type InFlight<K, T> = Arc<Mutex<HashMap<K, Flight<T>>>>;

struct Flight<T> {
    outcome: Outcome<T>,
    demand: watch::Sender<State>,
}

/// It comes to those who wait in the order in which they came. Without it, the task panicked.
type Outcome<T> = Shared<oneshot::Receiver<T>>;

/// The task panicked: a defect of ours. The next call tries anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskPanicked;

/// How a caller came to a call: one that has joined did not choose on whose account it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Started,
    Joined,
}

/// On whose account, how urgently, and by when something is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requester {
    /// Whose share it counts against.
    pub client: ClientId,
    /// How urgent it is.
    pub priority: Priority,
    /// What is at hand instead expires then: of the daemon's own calls, the earliest goes first.
    pub expires: Option<BootTime>,
}

impl Requester {
    /// A caller who waits.
    pub const fn caller(client: ClientId, priority: Priority) -> Self {
        Self { client, priority, expires: None }
    }

    /// Whether it is for something that was granted before.
    pub(crate) fn is_refresh(&self) -> bool {
        self.priority == Priority::InUse || self.expires.is_some()
    }

    /// The daemon itself.
    pub const fn background(priority: Priority, expires: Option<BootTime>) -> Self {
        Self { client: ClientId::BACKGROUND, priority, expires }
    }
}

/// Who waits for a call, and how urgently: what its place in a queue depends on. It may become more urgent, or be
/// abandoned, while it waits there.
#[derive(Debug)]
pub struct Demand {
    state: watch::Sender<State>,
    changes: watch::Receiver<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    requester: Requester,
    waiters: usize,
    /// Wanted though nobody waits for it.
    is_kept: bool,
    is_abandoned: bool,
}

impl State {
    fn new(requester: Requester) -> Self {
        let is_kept = requester.client == ClientId::BACKGROUND;
        Self { requester, waiters: 0, is_kept, is_abandoned: false }
    }

    fn raise(&mut self, requester: Requester) {
        // A caller waits for a shorter time than the daemon itself.
        let is_first_caller =
            self.requester.client == ClientId::BACKGROUND && requester.client != ClientId::BACKGROUND;
        let is_equal = requester.priority == self.requester.priority;
        if requester.priority > self.requester.priority || (is_equal && is_first_caller) {
            self.requester = requester;
        }
    }

    fn is_unwanted(&self) -> bool {
        self.waiters == 0 && !self.is_kept
    }
}

impl Demand {
    /// A call that one client makes for itself, and that ends when the client goes away.
    pub fn of(requester: Requester) -> Self {
        let state = State { waiters: 1, ..State::new(requester) };
        Self::new(&watch::Sender::new(state))
    }

    fn new(state: &watch::Sender<State>) -> Self {
        Self { state: state.clone(), changes: state.subscribe() }
    }

    /// The most urgent of those who want it.
    pub(crate) fn requester(&self) -> Requester {
        self.state.borrow().requester
    }

    /// Waits until the call is more urgent than for `seen`, or nobody wants it any more.
    pub(crate) async fn changed(&mut self, seen: Requester) {
        let changed = |state: &State| state.requester != seen || state.is_unwanted();
        // The sender is here: it cannot be gone.
        let _ = self.changes.wait_for(changed).await;
    }

    /// Whether nobody wants the call any more. From then on nobody joins it.
    pub(crate) fn abandon_if_unwanted(&self) -> bool {
        let abandon = |state: &mut State| {
            state.is_abandoned |= state.is_unwanted();
            state.is_abandoned
        };
        self.state.send_if_modified(abandon)
    }
}

/// Somebody who waits for the outcome.
struct Waiter(watch::Sender<State>);

impl Waiter {
    /// `None`: the call has been abandoned.
    fn join(demand: &watch::Sender<State>, requester: Requester) -> Option<Self> {
        let joined = demand.send_if_modified(|state| {
            if !state.is_abandoned {
                state.waiters += 1;
                state.raise(requester);
            }
            !state.is_abandoned
        });
        joined.then(|| Self(demand.clone()))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.waiters -= 1);
    }
}

impl<K, T> SingleFlight<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// `tasks` lets a graceful shutdown wait for the calls in flight.
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self { in_flight: Arc::default(), tasks }
    }

    /// What the call for `key` brings: the one in flight, else the one that `start` makes. `requester` waits for it.
    pub(crate) async fn run<F>(
        &self,
        key: &K,
        requester: Requester,
        start: impl FnOnce(Demand) -> F,
    ) -> (Result<T, TaskPanicked>, Role)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (outcome, waiter, role) = {
            let in_flight = self.in_flight.lock();
            let joined = in_flight.get(key).and_then(|flight| {
                let waiter = Waiter::join(&flight.demand, requester)?;
                Some((flight.outcome.clone(), Some(waiter), Role::Joined))
            });
            match joined {
                Some(joined) => joined,
                None => {
                    let state = watch::Sender::new(State::new(requester));
                    let waiter = Waiter::join(&state, requester);
                    (self.begin(in_flight, key, state, start), waiter, Role::Started)
                }
            }
        };
        let outcome = outcome.await.map_err(|_| TaskPanicked);
        drop(waiter);
        (outcome, role)
    }

    /// Starts the call for `key` on the account of `requester`, or makes the one in flight as urgent. It is made though nobody
    /// waits.
    pub(crate) fn start<F>(&self, key: &K, requester: Requester, start: impl FnOnce(Demand) -> F)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let in_flight = self.in_flight.lock();
        let raised = in_flight.get(key).is_some_and(|flight| {
            flight.demand.send_if_modified(|state| {
                state.raise(requester);
                state.is_kept = true;
                !state.is_abandoned
            })
        });
        if !raised {
            let state = State { is_kept: true, ..State::new(requester) };
            drop(self.begin(in_flight, key, watch::Sender::new(state), start));
        }
    }

    /// Whether a call for `key` is under way.
    pub(crate) fn is_in_flight(&self, key: &K) -> bool {
        self.in_flight.lock().contains_key(key)
    }

    fn begin<F>(
        &self,
        mut in_flight: MutexGuard<'_, HashMap<K, Flight<T>>>,
        key: &K,
        demand: watch::Sender<State>,
        start: impl FnOnce(Demand) -> F,
    ) -> Outcome<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let call = start(Demand::new(&demand));
        let (done, outcome) = oneshot::channel();
        let outcome = outcome.shared();
        in_flight.insert(key.clone(), Flight { outcome: outcome.clone(), demand });
        // Let go first: a runtime that is about to end drops what is spawned at once, and that takes the lock.
        drop(in_flight);
        let ended =
            Ended { key: key.clone(), outcome: outcome.clone(), in_flight: Arc::clone(&self.in_flight) };
        self.tasks.spawn(async move {
            let outcome = call.await;
            // Off the list before the waiters hear of it: later callers find the outcome, not the call.
            drop(ended);
            // Nobody may wait.
            let _ = done.send(outcome);
        });
        outcome
    }
}

/// Takes a call off the list when it ends, also by a panic.
struct Ended<K: Hash + Eq, T> {
    key: K,
    outcome: Outcome<T>,
    in_flight: InFlight<K, T>,
}

impl<K: Hash + Eq, T> Drop for Ended<K, T> {
    fn drop(&mut self) {
        let mut in_flight = self.in_flight.lock();
        // One that was abandoned may have a successor already.
        if in_flight.get(&self.key).is_some_and(|flight| flight.outcome.ptr_eq(&self.outcome)) {
            in_flight.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: Requester = Requester::caller(ClientId::new(1), Priority::New);
    const URGENT: Requester = Requester::caller(ClientId::new(1), Priority::InUse);
    const AHEAD: Requester = Requester::background(Priority::Ahead, None);

    #[tokio::test]
    async fn abandoned_call_is_not_joined() {
        let flight = Arc::new(SingleFlight::<u8, bool>::new(TaskTracker::new()));
        let abandons = |mut demand: Demand| async move {
            demand.changed(CALLER).await;
            demand.abandon_if_unwanted()
        };
        let caller = Arc::clone(&flight);
        let caller = tokio::spawn(async move { caller.run(&1, CALLER, abandons).await });
        tokio::task::yield_now().await;
        caller.abort();
        let _ = caller.await;
        // The waiter has gone, and the call has not noticed yet or has ended: either way it is not waited for.
        tokio::task::yield_now().await;
        let next = flight.run(&1, CALLER, |demand| async move { demand.abandon_if_unwanted() });
        assert_eq!(next.await, (Ok(false), Role::Started));
    }

    #[tokio::test]
    async fn joiner_raises_the_priority() {
        let flight = SingleFlight::<u8, Requester>::new(TaskTracker::new());
        let until_raised = |mut demand: Demand| async move {
            demand.changed(AHEAD).await;
            demand.requester()
        };
        flight.start(&1, AHEAD, until_raised);
        let outcome = flight.run(&1, URGENT, until_raised).await;
        assert_eq!((outcome, flight.is_in_flight(&1)), ((Ok(URGENT), Role::Joined), false));
    }

    #[tokio::test]
    async fn background_call_is_never_unwanted() {
        assert!(!Demand::new(&watch::Sender::new(State::new(AHEAD))).abandon_if_unwanted());
        assert!(Demand::new(&watch::Sender::new(State::new(CALLER))).abandon_if_unwanted());
    }
}
