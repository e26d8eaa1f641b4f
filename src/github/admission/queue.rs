//! Who waits to be let through, and who is next: memory, places and budgets as one decision. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::oneshot;

use super::budget::{Budget, Cost, Funds};
use super::call::Call;
use super::fair_queue::{Class, FairQueue, Turn};
use super::negative_cache::{Attempts, Memory, Verdict};
use super::places::{Claim, Places};
use super::stats::Stats;
use crate::clock::BootTime;
use crate::github::failure::{Failure, Kind};
use crate::model::{AppName, ClientId, Priority};
use crate::single_flight::Requester;

/// What is limited, and how far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Calls under way at a time.
    pub(crate) places: usize,
    /// Mints a minute for each app; 0 switches the budgets off.
    pub(crate) mints_per_minute: u32,
    /// Bytes of remembered failures.
    pub(crate) memory: usize,
    /// How long a call may take.
    pub(crate) timeout: Duration,
}

/// All that admission knows.
pub(crate) struct State {
    pub(crate) memory: Memory,
    pub(crate) stats: Stats,
    /// Whether a task looks at the queues from time to time.
    pub(crate) is_driven: bool,
    mints_per_minute: u32,
    places: Places,
    apps: BTreeMap<Option<AppName>, AppState>,
    /// The app that was let through last.
    last: Option<AppName>,
    tickets: u64,
    /// How long a call may hang beyond the time that a caller waits for its turn.
    max_hang: Duration,
}

/// The calls of one app; those that no app of ours authorises are one more.
struct AppState {
    queue: FairQueue<BootTime, Waiting>,
    /// `None`: there is no limit.
    budget: Option<Budget>,
}

struct Waiting {
    ticket: Ticket,
    call: Call,
    claim: Claim,
    /// `None`: nobody waits for the result.
    deadline: Option<BootTime>,
    granted: oneshot::Sender<Result<Attempts, Failure>>,
}

/// The number of a call that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// A call that waits, on its caller's side.
pub(crate) struct Receipt {
    pub(crate) ticket: Ticket,
    pub(crate) claim: Claim,
    pub(crate) granted: oneshot::Receiver<Result<Attempts, Failure>>,
}

impl State {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            memory: Memory::new(limits.memory),
            stats: Stats::default(),
            is_driven: false,
            mints_per_minute: limits.mints_per_minute,
            places: Places::new(limits.places),
            apps: BTreeMap::new(),
            last: None,
            tickets: 0,
            max_hang: limits.timeout.saturating_sub(MAX_WAIT),
        }
    }

    /// Has `call` wait for its turn, unless that is in vain.
    pub(crate) fn enqueue(
        &mut self,
        call: &Call,
        requester: Requester,
        now: BootTime,
    ) -> Result<Receipt, Failure> {
        let client = requester.client;
        let class = match requester.priority {
            Priority::Probe => Class::First,
            _ if self.memory.is_suspect(&call.topic) => Class::Suspect,
            Priority::InUse => Class::InUse,
            Priority::New => Class::New,
            Priority::Ahead => Class::Ahead,
        };
        let claim = Claim { class, client, subject: call.topic.subject };
        self.check(call, client, now).inspect_err(|failure| self.stats.refused(call, failure, now))?;
        let is_caller = client != ClientId::BACKGROUND;
        self.tickets += 1;
        let (ticket, (sender, granted)) = (Ticket(self.tickets), oneshot::channel());
        let deadline = is_caller.then(|| now.plus(MAX_WAIT));
        let waiting = Waiting { ticket, call: call.clone(), claim, deadline, granted: sender };
        // Callers in the order in which they came, the daemon's own calls in that of expiry.
        let rank = if is_caller { Some(now) } else { requester.expires };
        self.app(call).queue.push(class, client, rank.unwrap_or(BootTime::MAX), waiting);
        self.dispatch(now);
        Ok(Receipt { ticket, claim, granted })
    }

    /// Whether `call` has any chance of being let through in time.
    fn check(&mut self, call: &Call, client: ClientId, now: BootTime) -> Result<(), Failure> {
        if let Verdict::Refuse(backoff) = self.memory.verdict(&call.topic, &Attempts::none(), now) {
            return Err(backoff.failure(now));
        }
        if client == ClientId::BACKGROUND {
            return Ok(());
        }
        let is_full = self.callers() >= MAX_WAITING;
        let app = self.app(call);
        let wait = app.budget.as_ref().map_or(Duration::ZERO, |budget| budget.wait(call.cost.of_one(), now));
        if wait > MAX_WAIT {
            Err(budget_spent(call, wait))
        } else if app.queue.len_of(client) >= MAX_WAITING_OF_CLIENT {
            Err(client_limited(app.wait_for_all(call, now)))
        } else if is_full {
            Err(overloaded("waiting"))
        } else {
            Ok(())
        }
    }

    /// Lets all go that may go now.
    pub(crate) fn dispatch(&mut self, now: BootTime) {
        let waits = |(of, app): (&Option<AppName>, &AppState)| (app.queue.len() > 0).then(|| of.clone());
        let mut apps: Vec<_> = self.apps.iter().filter_map(waits).collect();
        // One call of each app in turn, from the one after the last: the places are everybody's.
        let next = apps.partition_point(|of| *of <= self.last);
        apps.rotate_left(next);
        while !apps.is_empty() {
            apps.retain(|of| self.dispatch_one(of, now));
        }
    }

    fn dispatch_one(&mut self, of: &Option<AppName>, now: BootTime) -> bool {
        let Self { memory, places, apps, .. } = self;
        let Some(AppState { queue, budget }) = apps.get_mut(of) else { return false };
        let none = Attempts::none();
        // What costs least is looked at first: most of those who wait do so for points.
        let turn = |waiting: &Waiting| match funds(budget.as_ref(), &waiting.call, now) {
            Funds::NoPoint => Turn::Stop,
            Funds::NoMint => Turn::Skip,
            Funds::Enough if !places.has_room(&waiting.claim) => Turn::Skip,
            Funds::Enough => match memory.verdict(&waiting.call.topic, &none, now) {
                Verdict::Clear => Turn::Take,
                Verdict::Await(_) | Verdict::Refuse(_) => Turn::Skip,
            },
        };
        let Some(waiting) = queue.pop(turn, |waiting| waiting.call.cost.points()) else { return false };
        if let Some(budget) = budget {
            budget.pay(waiting.call.cost, now);
        }
        places.take(&waiting.claim);
        let attempts = memory.begin(&waiting.call.topic, now);
        // A caller that is gone returns its place as it drops its receipt.
        let _ = waiting.granted.send(Ok(attempts));
        self.last.clone_from(of);
        true
    }

    /// Something was learnt that may concern those who wait: tells them who need not wait any longer.
    pub(crate) fn flush(&mut self, now: BootTime) {
        let (memory, none) = (&self.memory, Attempts::none());
        let refused =
            |waiting: &Waiting| matches!(memory.verdict(&waiting.call.topic, &none, now), Verdict::Refuse(_));
        let flushed: Vec<_> =
            self.apps.values_mut().flat_map(|app| app.queue.remove_where(refused)).collect();
        for waiting in flushed {
            if let Err(failure) = self.confirm(&waiting.call, &none, now) {
                self.refuse(waiting, failure, now);
            }
        }
    }

    /// Sends those away who have waited as long as a caller does, with the reason that kept them. Who lacks nothing but a
    /// place waits for as long as a call may hang.
    pub(crate) fn expire(&mut self, now: BootTime) {
        let Self { memory, places, apps, max_hang, .. } = self;
        let none = Attempts::none();
        let (memory, places, max_hang) = (&*memory, &*places, *max_hang);
        let mut late = Vec::new();
        for AppState { queue, budget } in apps.values_mut() {
            let lacks_a_place = |waiting: &Waiting| {
                funds(budget.as_ref(), &waiting.call, now) == Funds::Enough
                    && !places.has_room(&waiting.claim)
                    && matches!(memory.verdict(&waiting.call.topic, &none, now), Verdict::Clear)
            };
            late.extend(queue.remove_where(|waiting| match waiting.deadline {
                Some(deadline) if deadline.plus(max_hang) <= now => true,
                Some(deadline) => deadline <= now && !lacks_a_place(waiting),
                None => false,
            }));
        }
        let mut of_client: HashMap<ClientId, usize> = HashMap::new();
        for waiting in &late {
            *of_client.entry(waiting.claim.client).or_default() += 1;
        }
        for waiting in late {
            let late_of_client = of_client.get(&waiting.claim.client).copied().unwrap_or_default();
            let reason = self.reason_to_wait(&waiting, late_of_client, now);
            self.refuse(waiting, reason, now);
        }
    }

    fn reason_to_wait(&self, waiting: &Waiting, late_of_client: usize, now: BootTime) -> Failure {
        let call = &waiting.call;
        let verdict = self.memory.verdict(&call.topic, &Attempts::none(), now);
        if let Verdict::Await(backoff) | Verdict::Refuse(backoff) = verdict {
            return backoff.failure(now);
        }
        let Some(app) = self.apps.get(&call.topic.app) else { return overloaded("under way") };
        let is_paid_for = funds(app.budget.as_ref(), call, now) == Funds::Enough;
        if is_paid_for && !self.places.has_room(&waiting.claim) {
            overloaded("under way")
        } else if late_of_client + app.queue.len_of(waiting.claim.client) > 1 {
            client_limited(app.wait_for_all(call, now))
        } else {
            budget_spent(call, app.wait_for_all(call, now))
        }
    }

    /// Takes a call out of the queue. Whether it was still there.
    pub(crate) fn cancel(&mut self, call: &Call, ticket: Ticket) -> bool {
        !self.app(call).queue.remove_where(|waiting| waiting.ticket == ticket).is_empty()
    }

    /// Whether a call that was let through may be sent at `now`: something may have been learnt meanwhile.
    pub(crate) fn confirm(&self, call: &Call, attempts: &Attempts, now: BootTime) -> Result<(), Failure> {
        match self.memory.verdict(&call.topic, attempts, now) {
            Verdict::Clear => Ok(()),
            Verdict::Await(backoff) | Verdict::Refuse(backoff) => Err(backoff.failure(now)),
        }
    }

    /// Pays for a call that is sent once more. Whether it can be paid for at once.
    pub(crate) fn pay_again(&mut self, call: &Call, now: BootTime) -> bool {
        let Some(budget) = &mut self.app(call).budget else { return true };
        let can_pay = budget.funds(call.cost, now) == Funds::Enough;
        if can_pay {
            budget.pay(call.cost, now);
        }
        can_pay
    }

    /// A call that was paid for was not sent.
    pub(crate) fn refund(&mut self, call: &Call) {
        if let Some(budget) = &mut self.app(call).budget {
            budget.refund(call.cost);
        }
    }

    /// A call that was let through is over.
    pub(crate) fn release(&mut self, claim: &Claim, attempts: &Attempts) {
        self.places.release(claim);
        self.memory.end(attempts);
    }

    /// How long until something may change for those who wait by time alone; `None`: nobody waits.
    pub(crate) fn next_tick(&self, now: BootTime) -> Option<Duration> {
        let refill = |app: &AppState| {
            app.budget.as_ref().map_or(MAX_TICK, |budget| budget.wait(Cost::Mint.of_one(), now))
        };
        let waiting = self.apps.values().filter(|app| app.queue.len() > 0);
        waiting.map(refill).min().map(|wait| wait.clamp(MIN_TICK, MAX_TICK))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.places.taken()
    }

    pub(crate) fn queued(&self) -> usize {
        self.apps.values().map(|app| app.queue.len()).sum()
    }

    fn callers(&self) -> usize {
        self.apps.values().map(|app| app.queue.len() - app.queue.len_of(ClientId::BACKGROUND)).sum()
    }

    /// Points left to each app; `None` where there is no limit.
    pub(crate) fn points_left(
        &self,
        now: BootTime,
    ) -> impl Iterator<Item = (&Option<AppName>, Option<(u32, u32)>)> {
        self.apps.iter().map(move |(of, app)| (of, app.budget.as_ref().map(|budget| budget.left(now))))
    }

    fn refuse(&mut self, waiting: Waiting, failure: Failure, now: BootTime) {
        self.stats.refused(&waiting.call, &failure, now);
        let _ = waiting.granted.send(Err(failure));
    }

    fn app(&mut self, call: &Call) -> &mut AppState {
        let (of, mints) = (&call.topic.app, self.mints_per_minute);
        let budget = || match (of, mints) {
            (None, _) => Some(Budget::of_reads(FOREIGN_REVOCATIONS_PER_MINUTE)),
            (Some(_), 0) => None,
            (Some(_), mints) => Some(Budget::per_minute(mints)),
        };
        self.apps.entry(of.clone()).or_insert_with(|| AppState { queue: FairQueue::new(), budget: budget() })
    }
}

impl AppState {
    /// How long until all that waits, and `call` after it, can be paid for. Turns are taken: it need not be the last one.
    fn wait_for_all(&self, call: &Call, now: BootTime) -> Duration {
        let costs = self.queue.iter().map(|waiting| waiting.call.cost).chain([call.cost]);
        let (points, mints) =
            costs.map(Cost::of_one).fold((0, 0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1));
        let Some(budget) = &self.budget else { return MIN_WAIT };
        let at_least = budget.wait(call.cost.of_one(), now).max(MIN_WAIT);
        budget.wait((points, mints), now).clamp(at_least, at_least.max(MAX_BUDGET_WAIT))
    }
}

fn funds(budget: Option<&Budget>, call: &Call, now: BootTime) -> Funds {
    budget.map_or(Funds::Enough, |budget| budget.funds(call.cost, now))
}

fn budget_spent(call: &Call, wait: Duration) -> Failure {
    let of = call.topic.app.as_ref().map_or("tokens of other apps".to_owned(), |app| format!("app {app}"));
    let message = format!(
        "the budget of calls to GitHub for {of} is spent (github.mints_per_minute, and 870 points a minute): retry after \
         Retry-After"
    );
    Failure::local(Kind::BudgetSpent, wait, message)
}

fn client_limited(wait: Duration) -> Failure {
    let message = format!(
        "this client asks for more different tokens or names than its fair share of the calls to GitHub (at most \
         {MAX_WAITING_OF_CLIENT} may wait at once): ask for fewer, and retry after Retry-After"
    );
    Failure::local(Kind::CallerLimited, wait, message)
}

fn overloaded(how: &str) -> Failure {
    let message = format!("too many calls to GitHub are {how}: retry after Retry-After");
    Failure::local(Kind::Overloaded, MIN_WAIT, message)
}

/// A caller's patience.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// More than this many tasks that wait are no longer a queue but a leak.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_OF_CLIENT: usize = 64;
const FOREIGN_REVOCATIONS_PER_MINUTE: u32 = 10;
const MIN_WAIT: Duration = Duration::from_secs(1);
/// What an app may use in a minute is not further away than that.
const MAX_BUDGET_WAIT: Duration = Duration::from_secs(60);
/// Fine enough for points that flow back every 100 ms.
const MIN_TICK: Duration = Duration::from_millis(20);
const MAX_TICK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::github::admission::call::Operation;
    use crate::github::admission::topic::Topic;

    fn at(millis: u64) -> BootTime {
        BootTime::new(Duration::from_secs(3600) + Duration::from_millis(millis))
    }

    fn state(places: usize, mints_per_minute: u32) -> State {
        State::new(Limits { places, mints_per_minute, memory: 1 << 20, timeout: Duration::from_secs(15) })
    }

    fn mint(question: u128) -> Call {
        let (app, installation) = (Some(AppName::default()), Some(1_000 + question));
        let topic =
            Topic { app, signed_by_app: true, installation, question: Some(question), subject: question };
        Call { operation: Operation::Mint, topic, cost: Cost::Mint }
    }

    fn caller(client: u64) -> Requester {
        Requester::caller(ClientId::new(client), Priority::New)
    }

    /// Whether a call was let through, or why not; `None`: it waits.
    fn outcome(receipt: &mut Receipt) -> Option<Result<Attempts, Kind>> {
        receipt.granted.try_recv().ok().map(|granted| granted.map_err(|failure| failure.kind))
    }

    fn is_granted(receipt: &mut Receipt) -> bool {
        matches!(outcome(receipt), Some(Ok(_)))
    }

    /// Failures of these questions, all remembered for a while and now over.
    fn suspect(state: &mut State, questions: std::ops::Range<u128>, now: BootTime) {
        for question in questions {
            let failure = Failure::new(Kind::Unavailable, "down");
            let sent = (&Attempts::none(), now);
            state.memory.failed(&mint(question).topic, &failure, sent, now.minus(Duration::from_secs(60)));
        }
    }

    /// Fifty mints of many clients, which are over: all that may be used at once.
    fn spend_the_burst(state: &mut State) {
        for question in 900..950 {
            let mut receipt = state.enqueue(&mint(question), caller(question as u64), at(0)).unwrap();
            assert!(is_granted(&mut receipt));
            state.release(&receipt.claim, &Attempts::none());
        }
    }

    #[test]
    fn caller_waits_until_points_flow_back() {
        let mut state = state(64, 150);
        spend_the_burst(&mut state);
        let mut receipt = state.enqueue(&mint(1), caller(1), at(0)).unwrap();
        state.dispatch(at(599));
        assert!(outcome(&mut receipt).is_none());
        state.dispatch(at(600));
        assert!(is_granted(&mut receipt));
    }

    #[test]
    fn late_caller_hears_which_demand_delayed_it() {
        let mut state = state(64, 150);
        spend_the_burst(&mut state);
        let mut greedy: Vec<_> =
            (100..164).map(|question| state.enqueue(&mint(question), caller(7), at(0)).unwrap()).collect();
        let refused = state.enqueue(&mint(200), caller(7), at(0)).err().unwrap();
        // By then all that waits could have been minted.
        assert_eq!((refused.kind, refused.retry_after), (Kind::CallerLimited, Some(Duration::from_secs(39))));
        let mut modest: Vec<_> = (300..340)
            .map(|question| state.enqueue(&mint(question), caller(question as u64), at(0)).unwrap())
            .collect();
        (0..=10_000).step_by(100).for_each(|now| state.dispatch(at(now)));
        state.expire(at(10_000));
        assert_eq!(outcome(&mut greedy[63]).map(Result::err), Some(Some(Kind::CallerLimited)));
        assert_eq!(outcome(&mut modest[39]).map(Result::err), Some(Some(Kind::BudgetSpent)));
        assert_eq!((state.queued(), state.callers()), (0, 0));
    }

    #[test]
    fn budget_that_cannot_pay_in_time_refuses_at_once() {
        let mut state = state(64, 3);
        assert!(is_granted(&mut state.enqueue(&mint(1), caller(1), at(0)).unwrap()));
        let refused = state.enqueue(&mint(2), caller(1), at(0)).err().unwrap();
        assert_eq!((refused.kind, refused.retry_after), (Kind::BudgetSpent, Some(Duration::from_secs(30))));
    }

    #[test]
    fn failing_questions_leave_places_to_others() {
        let mut state = state(64, 0);
        suspect(&mut state, 0..64, at(0));
        let mut failing: Vec<_> = (0..64)
            .map(|question| state.enqueue(&mint(question), caller(question as u64), at(0)).unwrap())
            .collect();
        assert_eq!(failing.iter_mut().filter_map(outcome).count(), 21);
        assert!(is_granted(&mut state.enqueue(&mint(100), caller(100), at(0)).unwrap()));
    }

    #[test]
    fn caller_without_a_place_waits_for_a_hanging_call() {
        let mut state = state(1, 0);
        let hanging = state.enqueue(&mint(1), caller(1), at(0)).unwrap();
        let mut waiting = state.enqueue(&mint(2), caller(2), at(1)).unwrap();
        state.expire(at(14_000));
        assert!(outcome(&mut waiting).is_none());
        state.release(&hanging.claim, &Attempts::none());
        state.dispatch(at(14_500));
        assert!(is_granted(&mut waiting));
        let mut late = state.enqueue(&mint(3), caller(3), at(14_500)).unwrap();
        state.expire(at(14_500 + 15_000));
        assert_eq!(outcome(&mut late).map(Result::err), Some(Some(Kind::Overloaded)));
    }

    #[test]
    fn learnt_failure_sends_waiting_calls_away() {
        let mut state = state(64, 150);
        (0..50).for_each(|question| drop(state.enqueue(&mint(question), caller(question as u64 % 5), at(0))));
        let mut waiting = state.enqueue(&mint(60), caller(1), at(0)).unwrap();
        let limit = Failure {
            retry_after: Some(Duration::from_secs(9)),
            ..Failure::new(Kind::RateLimited, "slow down")
        };
        state.memory.failed(&mint(1).topic, &limit, (&Attempts::none(), at(0)), at(400));
        state.flush(at(400));
        assert_eq!(outcome(&mut waiting).map(Result::err), Some(Some(Kind::RateLimited)));
        assert!(state.confirm(&mint(61), &Attempts::none(), at(9_399)).is_err());
        assert!(state.confirm(&mint(61), &Attempts::none(), at(9_400)).is_ok());
    }

    #[test]
    fn newcomer_is_served_beside_any_number_of_failing_keys() {
        for failing in [100, 150, 400] {
            let mut state = state(64, 150);
            suspect(&mut state, 0..failing, at(0));
            let mut failing: Vec<_> = (0..failing)
                .filter_map(|question| {
                    state.enqueue(&mint(question), caller(question as u64 % 40), at(0)).ok()
                })
                .collect();
            for newcomer in 0..20_u64 {
                let began = newcomer * 5_000;
                let mut receipt =
                    state.enqueue(&mint(10_000 + u128::from(newcomer)), caller(99), at(began)).unwrap();
                let served = (began..began + 5_000).step_by(100).find(|now| {
                    state.dispatch(at(*now));
                    // Calls end at once here: what is scarce is points.
                    let mut done: Vec<_> = failing.extract_if(.., is_granted).collect();
                    done.iter_mut().for_each(|done| state.release(&done.claim, &Attempts::none()));
                    is_granted(&mut receipt)
                });
                assert!(served.is_some(), "newcomer {newcomer} beside {} failing keys", failing.len());
                state.release(&receipt.claim, &Attempts::none());
            }
        }
    }

    proptest! {
        #[test]
        fn queue_is_work_conserving_without_leaks(
            steps in proptest::collection::vec((0u8..5, 0u128..40, 0u64..4, 0u64..400), 1..300),
        ) {
            let (mut state, mut now) = (state(6, 60), 0);
            let (mut waiting, mut held) = (Vec::<(Call, Receipt)>::new(), Vec::new());
            for (step, question, client, pause) in steps {
                now += pause;
                match step {
                    0..=2 => {
                        let requester = match client {
                            0 => Requester::background(Priority::Ahead, Some(at(now + 1_000))),
                            client => caller(client),
                        };
                        if let Ok(receipt) = state.enqueue(&mint(question), requester, at(now)) {
                            waiting.push((mint(question), receipt));
                        }
                    }
                    3 => {
                        if let Some((call, receipt)) = waiting.pop() {
                            state.cancel(&call, receipt.ticket);
                        }
                    }
                    _ => {
                        if let Some(claim) = held.pop() {
                            state.release(&claim, &Attempts::none());
                        }
                    }
                }
                state.dispatch(at(now));
                state.expire(at(now));
                waiting.retain_mut(|(_, receipt)| match outcome(receipt) {
                    Some(Ok(_)) => {
                        held.push(receipt.claim);
                        false
                    }
                    refused => refused.is_none(),
                });
                prop_assert_eq!((state.in_flight(), state.queued()), (held.len(), waiting.len()));
                let callers = waiting.iter().filter(|(_, receipt)| receipt.claim.client != ClientId::BACKGROUND);
                prop_assert_eq!(state.callers(), callers.count());
                let budget = state.apps.values().next().and_then(|app| app.budget.as_ref());
                let could_go = |(call, receipt): &(Call, Receipt)| {
                    funds(budget, call, at(now)) == Funds::Enough && state.places.has_room(&receipt.claim)
                };
                prop_assert!(!waiting.iter().any(could_go), "somebody waits for nothing");
            }
        }
    }
}
