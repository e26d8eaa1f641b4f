//! The life of tokens as a machine of states: whatever happens in whatever order, what the broker promises holds.
//!
//! Random sequences of requests, waits, clock jumps, sweeps, rejections and answers of GitHub run against a GitHub that
//! checks how it is asked, and against a model that knows which tokens are good. `PROPTEST_CASES` sets how many.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghtokend::broker::freshness::{State, Windows};
use ghtokend::broker::{
    self, Broker, EventOutcome, Origin, Rejection, Requirement, TokenHash, TokenRequest, Vended,
};
use ghtokend::clock::{BootTime, Clock, ManualClock};
use ghtokend::github::{Failure, Kind, Reply};
use ghtokend::model::{
    AppName, ClientId, Grant, Installation, InstallationId, InstallationToken, Minted, RepositoryName, Scope,
    Secret, Selector, TokenKey, UserId, WebhookEvent,
};
use ghtokend::telemetry::metrics::Metrics;
use proptest::prelude::*;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::stub::{Answers, Stub};

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Ask {
        key: u64,
        requirement: Requirement,
    },
    Advance(u64),
    /// The machine's wall clock jumps by so many seconds.
    Jump(i64),
    Sweep,
    /// A caller says that the token that it got last no longer works.
    Reject {
        key: u64,
    },
    /// A webhook event that revokes tokens, or makes them stale.
    Event(WebhookEvent),
    /// From now on GitHub answers in this way, about one key or all.
    Github(Option<u64>, Answer),
    /// From now on GitHub keeps its answers back, about one key or all, or lets them go.
    Hold(Option<u64>),
    Release,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Grants { lifetime: u64 },
    Fails(Kind, Option<u64>),
    Panics,
}

fn step() -> impl Strategy<Value = Step> {
    let requirement = prop_oneof![
        6 => Just(Requirement::Any),
        1 => Just(Requirement::RecentlyMinted),
        1 => (1..3000_u64).prop_map(|life| Requirement::MinTtl(Duration::from_secs(life))),
    ];
    let kinds = prop_oneof![
        Just(Kind::Unavailable),
        Just(Kind::AppRejected),
        Just(Kind::BadAnswer),
        Just(Kind::NotFound),
        Just(Kind::ScopeRefused),
        Just(Kind::RateLimited),
        Just(Kind::Suspended),
        Just(Kind::Gone),
        Just(Kind::Unreachable),
        Just(Kind::BudgetSpent),
        Just(Kind::Forbidden),
        Just(Kind::TimedOut),
    ];
    let answer = prop_oneof![
        6 => prop_oneof![Just(3600_u64), 2..7200_u64].prop_map(|lifetime| Answer::Grants { lifetime }),
        3 => (kinds, proptest::option::of(0..5000_u64)).prop_map(|(kind, wait)| Answer::Fails(kind, wait)),
        1 => Just(Answer::Panics),
    ];
    prop_oneof![
        10 => (1..=KEYS, requirement).prop_map(|(key, requirement)| Step::Ask { key, requirement }),
        6 => prop_oneof![0..90_u64, 0..1800_u64].prop_map(Step::Advance),
        1 => (-90_000..90_000_i64).prop_map(Step::Jump),
        3 => Just(Step::Sweep),
        1 => (1..=KEYS).prop_map(|key| Step::Reject { key }),
        1 => (1..=KEYS, 0..4_u8).prop_map(|(key, kind)| Step::Event(event(key, kind))),
        3 => (proptest::option::of(1..=KEYS), answer).prop_map(|(key, answer)| Step::Github(key, answer)),
        1 => proptest::option::of(1..=KEYS).prop_map(Step::Hold),
        2 => Just(Step::Release),
    ]
}

/// The tokens of key `n` are those of installation and user `n`, and those of the last key are narrowed.
fn event(key: u64, kind: u8) -> WebhookEvent {
    let id = InstallationId::new(key).unwrap();
    match kind {
        0 => WebhookEvent::InstallationRemoved(id),
        1 => WebhookEvent::PermissionsChanged(id),
        2 => WebhookEvent::RepositoriesAdded(id),
        _ => WebhookEvent::UserAuthorizationRevoked(UserId::new(key).unwrap()),
    }
}

/// Whose tokens this revokes or marks stale, and whether it revokes them.
fn invalidated(event: &WebhookEvent) -> Option<(u64, bool)> {
    match event {
        WebhookEvent::InstallationRemoved(id) => Some((id.get(), true)),
        WebhookEvent::PermissionsChanged(id) => Some((id.get(), false)),
        WebhookEvent::RepositoriesAdded(id) => (id.get() != KEYS).then_some((id.get(), false)),
        WebhookEvent::UserAuthorizationRevoked(id) => Some((id.get(), true)),
        _ => unreachable!("no other event is sent"),
    }
}

/// GitHub, which checks how it is asked.
struct Model {
    clock: Arc<ManualClock>,
    /// What it answers for each key.
    answers: Mutex<BTreeMap<u64, Answer>>,
    /// The keys about which it keeps its answers back.
    held: watch::Sender<BTreeSet<u64>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    tokens: BTreeMap<String, Token>,
    /// When each call of the last minute came.
    calls: VecDeque<BootTime>,
    under_way: BTreeMap<u64, usize>,
    /// After how many mints the tokens of a key were last invalidated, by whether they were revoked.
    invalidated: BTreeMap<(u64, bool), usize>,
    /// Mints that have begun.
    begun: usize,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    key: u64,
    sent: BootTime,
    lifetime: Duration,
    /// Whether a caller has rejected it, or a webhook has made it stale.
    rejected: bool,
    /// Whether a webhook has revoked it.
    revoked: bool,
    /// Whether GitHub has refused another one because the installation is suspended or gone.
    dropped: bool,
}

impl Token {
    /// What is left at least, wherever within the call its life began.
    fn remaining(&self, now: BootTime) -> Duration {
        self.sent.plus(self.lifetime).since(now)
    }

    /// Whether a caller is to get it, if there is no better one.
    fn is_good(&self, now: BootTime) -> bool {
        let grace = GRACE.min(self.lifetime / 12) + Duration::from_secs(1);
        !self.rejected && !self.dropped && self.remaining(now) > grace
    }
}

/// Takes a call off the list when it ends, also by a panic.
struct UnderWay<'a>(&'a Model, u64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut known = self.0.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *known.under_way.entry(self.1).or_default() -= 1;
    }
}

impl Model {
    fn new(clock: Arc<ManualClock>) -> Self {
        let answers = (1..=KEYS).map(|key| (key, Answer::Grants { lifetime: 3600 })).collect();
        let answers = Mutex::new(answers);
        Self { clock, answers, held: watch::Sender::default(), known: Mutex::default() }
    }

    fn begin(&self, key: u64) -> UnderWay<'_> {
        let now = self.clock.boot();
        let mut known = self.known.lock().unwrap();
        *known.under_way.entry(key).or_default() += 1;
        assert_eq!(known.under_way[&key], 1, "two mints at once for key {key}");
        known.calls.retain(|at| now.since(*at) < Duration::from_secs(60));
        known.calls.push_back(now);
        known.begun += 1;
        UnderWay(self, key)
    }

    async fn minted(&self, key: u64) -> Result<Minted, Failure> {
        let sent = self.clock.boot();
        let _under_way = self.begin(key);
        let begun = self.known.lock().unwrap().begun;
        let _ = self.held.subscribe().wait_for(|held| !held.contains(&key)).await;
        let answer = self.answers.lock().unwrap()[&key];
        let lifetime = match answer {
            Answer::Grants { lifetime } => Duration::from_secs(lifetime),
            Answer::Panics => panic!("{EXPECTED}"),
            Answer::Fails(kind, wait) => {
                let is_mine = |token: &&mut Token| token.key == key && takes_back(kind);
                let mut known = self.known.lock().unwrap();
                known.tokens.values_mut().filter(is_mine).for_each(|token| token.dropped = true);
                let retry_after = wait.map(Duration::from_secs);
                return Err(Failure { retry_after, ..Failure::new(kind, "no") });
            }
        };
        let mut known = self.known.lock().unwrap();
        let text = format!("ghs_{}", known.tokens.len());
        let is_hit = |revokes| known.invalidated.get(&(key, revokes)).is_some_and(|after| *after >= begun);
        let (revoked, stale) = (is_hit(true), is_hit(false));
        known.tokens.insert(
            text.clone(),
            Token { key, sent, lifetime, rejected: stale || revoked, revoked, dropped: false },
        );
        let token = InstallationToken {
            secret: Secret::from(text),
            expires_at: "2026-11-22T10:00:00Z".into(),
            grant: Grant::default(),
            on_behalf_of: None,
            json: bytes::Bytes::new().into(),
        };
        Ok(Minted { token, sent, landed: self.clock.boot(), lifetime })
    }

    fn token(&self, vended: &Vended) -> Token {
        self.known.lock().unwrap().tokens[vended.entry.token.secret.expose()]
    }

    /// Whether a mint for `key` succeeds at once, whatever becomes of the other keys.
    fn serves(&self, key: u64) -> bool {
        let is_under_way = self.known.lock().unwrap().under_way.get(&key).is_some_and(|mints| *mints > 0);
        let grants =
            matches!(self.answers.lock().unwrap()[&key], Answer::Grants { lifetime } if lifetime > 60);
        grants && !is_under_way && !self.held.borrow().contains(&key)
    }

    fn has_a_good_one(&self, key: u64) -> bool {
        let now = self.clock.boot();
        // Whatever GitHub grants last takes the place of what came before.
        let known = self.known.lock().unwrap();
        // On its word that there are to be none, the last one goes.
        let answer = self.answers.lock().unwrap()[&key];
        let denies = matches!(answer, Answer::Fails(kind, _) if takes_back(kind));
        let newest = known.tokens.values().filter(|token| token.key == key).max_by_key(|token| token.sent);
        !denies && newest.is_some_and(|token| token.is_good(now))
    }
}

/// Whether this answer revokes all tokens of an installation.
fn takes_back(kind: Kind) -> bool {
    matches!(kind, Kind::Suspended | Kind::Gone)
}

impl Answers for Model {
    fn mint<'a>(&'a self, key: &'a TokenKey) -> Reply<'a, Minted> {
        Box::pin(self.minted(key.installation.get()))
    }

    fn look_up<'a>(&'a self, selector: &'a Selector) -> Reply<'a, Installation> {
        // A 404 to a mint is never confirmed: no token is to be dropped for it.
        let Selector::Id(id) = selector else { unreachable!("keys are named by id") };
        let installation = Installation {
            id: *id,
            account: None,
            permissions: [].into(),
            suspended: false,
            json: String::new(),
        };
        Box::pin(async { Ok(installation) })
    }
}

type Asking = JoinHandle<Result<Vended, broker::Error>>;

/// A broker, its GitHub, and the callers who wait.
struct Machine {
    broker: Broker,
    model: Arc<Model>,
    clock: Arc<ManualClock>,
    waiting: Vec<(u64, Requirement, Asking)>,
    last: BTreeMap<u64, TokenHash>,
    deliveries: usize,
}

impl Machine {
    fn new() -> Self {
        let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(500_000));
        let model = Arc::new(Model::new(clock.clone()));
        let windows = Windows {
            renew_before: Duration::from_secs(600),
            min_validity: Duration::from_secs(300),
            grace: GRACE,
        };
        let rules = broker::BrokerConfig {
            apps: [(AppName::default(), None)].into(),
            default_app: Some(AppName::default()),
            windows,
            settle: Duration::from_secs(5),
            idle_after: Duration::from_secs(1800),
            prefetch: Vec::new(),
            max_entries: 100,
            max_bytes: 1 << 20,
            render: ghtokend::server::render,
        };
        let broker =
            Broker::new(Arc::new(Stub(model.clone())), clock.clone(), Arc::new(Metrics::default()), rules);
        Self { broker, model, clock, waiting: Vec::new(), last: BTreeMap::new(), deliveries: 0 }
    }

    async fn run(mut self, steps: Vec<Step>) {
        for step in steps {
            self.take(step).await;
            self.collect().await;
        }
        // Everybody gets an answer.
        self.model.held.send_replace(BTreeSet::new());
        self.collect().await;
        assert!(self.waiting.is_empty(), "{} callers wait for ever", self.waiting.len());
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Ask { key, requirement } => self.ask(key, requirement).await,
            Step::Advance(seconds) => self.clock.advance(Duration::from_secs(seconds)),
            Step::Jump(seconds) => self.clock.set_wall_back(seconds * 1000),
            Step::Sweep => drop(self.broker.tick()),
            Step::Reject { key } => self.reject(key),
            Step::Event(event) => self.send_event(event),
            Step::Github(key, answer) => {
                let mut answers = self.model.answers.lock().unwrap();
                answers.extend(keys(key).map(|key| (key, answer)));
            }
            Step::Hold(key) => self.model.held.send_modify(|held| held.extend(keys(key))),
            Step::Release => drop(self.model.held.send_replace(BTreeSet::new())),
        }
    }

    async fn ask(&mut self, key: u64, requirement: Requirement) {
        let is_held = self.model.held.borrow().contains(&key);
        let expected = requirement == Requirement::Any
            && (self.model.serves(key) || (self.model.has_a_good_one(key) && !is_held));
        let name: RepositoryName = "widgets".parse().unwrap();
        let request = TokenRequest {
            app: None,
            selector: Selector::Id(InstallationId::new(key).unwrap()),
            scope: Arc::new(Scope { repositories: (key == KEYS).then(|| [name].into()), ..Scope::default() }),
            user: UserId::new(key),
            requirement,
        };
        let broker = self.broker.clone();
        let asking = tokio::spawn(async move { broker.vend(&request, ClientId::new(1)).await });
        if expected {
            let vended = asking.await.unwrap();
            let vended = vended.unwrap_or_else(|error| {
                panic!("a healthy key {key}, or one with a live token, was not served: {error}")
            });
            self.check(key, requirement, &vended);
        } else {
            self.waiting.push((key, requirement, asking));
        }
    }

    fn reject(&mut self, key: u64) {
        let Some(hash) = self.last.get(&key) else { return };
        if self.broker.reject(*hash) == Rejection::Evicted {
            let mut known = self.model.known.lock().unwrap();
            for (text, token) in &mut known.tokens {
                token.rejected |= TokenHash::of(&Secret::from(text.clone())) == *hash;
            }
        }
    }

    fn send_event(&mut self, event: WebhookEvent) {
        self.deliveries += 1;
        assert_eq!(self.broker.handle_event(&self.deliveries.to_string(), &event), EventOutcome::Applied);
        let mut known = self.model.known.lock().unwrap();
        let Some((key, revokes)) = invalidated(&event) else { return };
        let begun = known.begun;
        known.invalidated.insert((key, revokes), begun);
        for token in known.tokens.values_mut().filter(|token| token.key == key) {
            (token.rejected, token.revoked) = (true, token.revoked || revokes);
        }
    }

    /// Lets all that is under way come to its end, and checks what callers got.
    async fn collect(&mut self) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        for (key, requirement, asking) in std::mem::take(&mut self.waiting) {
            if !asking.is_finished() {
                self.waiting.push((key, requirement, asking));
            } else if let Ok(vended) = asking.await.unwrap() {
                self.check(key, requirement, &vended);
            }
        }
    }

    fn check(&mut self, key: u64, requirement: Requirement, vended: &Vended) {
        let (now, token) = (self.clock.boot(), self.model.token(vended));
        assert_eq!(token.key, key, "a token of another key");
        assert!(!token.remaining(now).is_zero(), "an expired token");
        assert!(!token.revoked, "a revoked token");
        assert_ne!(vended.state, State::Expired);
        assert!(
            !token.rejected || vended.state == State::Stale,
            "a token that is no longer what GitHub grants"
        );
        match requirement {
            Requirement::Any => {}
            Requirement::RecentlyMinted => {
                let limit = Duration::from_secs(60).min(token.lifetime / 60);
                let is_young = vended.origin == Origin::Minted || now.since(token.sent) < limit;
                // Where our own budget keeps another from being minted, one that lives for long will do.
                let is_spent =
                    matches!(self.model.answers.lock().unwrap()[&key], Answer::Fails(Kind::BudgetSpent, _));
                let will_do = is_spent && token.remaining(now) >= Duration::from_secs(3000);
                assert!((is_young || will_do) && !token.rejected, "an old token for a caller that keeps it");
            }
            Requirement::MinTtl(life) => assert!(token.remaining(now) >= life, "a token of shorter life"),
        }
        self.last.insert(key, vended.entry.hash);
    }
}

/// One key, or all of them.
fn keys(one: Option<u64>) -> impl Iterator<Item = u64> {
    (1..=KEYS).filter(move |key| one.is_none_or(|one| one == *key))
}

const KEYS: u64 = 3;
const GRACE: Duration = Duration::from_secs(30);
/// More than any chain of tasks here takes.
const TURNS: usize = 30;
const EXPECTED: &str = "a defect of the model's own";

#[tokio::test]
async fn a_renewal_that_panics_is_tried_again_ever_more_slowly() {
    let mut machine = Machine::new();
    let ask = Step::Ask { key: 1, requirement: Requirement::Any };
    for step in [ask.clone(), Step::Advance(3000), Step::Github(None, Answer::Panics)] {
        machine.take(step).await;
        machine.collect().await;
    }
    for _ in 0..30 {
        for step in [Step::Sweep, ask.clone(), Step::Advance(1)] {
            machine.take(step).await;
            machine.collect().await;
        }
    }
    // At the beginning, and after pauses of up to 1, 2, 4, 8 and 16 seconds, each at least half as long.
    let renewals = machine.model.known.lock().unwrap().calls.len();
    assert!((5..=6).contains(&renewals), "{renewals} in 30 seconds");
    // A caller whom the old token does not satisfy starts a new mint.
    machine.take(Step::Github(None, Answer::Grants { lifetime: 3600 })).await;
    machine.take(Step::Ask { key: 1, requirement: Requirement::RecentlyMinted }).await;
    machine.collect().await;
    assert!(machine.waiting.is_empty() && machine.model.has_a_good_one(1));
}

proptest! {
    #[test]
    fn no_sequence_breaks_a_promise(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Machine::new().run(steps));
    }
}
