//! What the daemon may send to GitHub: budgets, limits, single attempts, places.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ghtokend::github::{Answer, Failure};

use super::github::{Ask, Call};
use super::observer::word;
use super::report::{Report, Rule};
use super::time::Time;
use super::world::{INSTALLATIONS, PLACES, Place};

pub struct Traffic {
    mints_per_minute: u32,
    apps: Vec<App>,
    foreign: VecDeque<Time>,
    in_flight: BTreeMap<u64, Call>,
    /// When all places were taken for the last time, and when as many as one installation or name may hold.
    full: Option<Time>,
    busy: Option<Time>,
    host: Attempts,
    /// Connections in a row that could not be made.
    unreachable: u32,
    /// All calls so far.
    pub calls: Vec<Call>,
}

#[derive(Default)]
struct App {
    /// When each call of the last minute was sent, its points, and whether it was a mint.
    minute: VecDeque<(Time, u32, bool)>,
    stopped_until: Option<Time>,
    refused: Attempts,
}

/// While only single attempts may be made.
#[derive(Default)]
struct Attempts {
    since: Option<Time>,
    /// When the last one failed, and what it asked.
    failed: Time,
    asked: String,
}

impl Traffic {
    pub fn new(mints_per_minute: u32) -> Self {
        Self {
            mints_per_minute,
            apps: INSTALLATIONS.iter().map(|_| App::default()).collect(),
            foreign: VecDeque::new(),
            in_flight: BTreeMap::new(),
            full: None,
            busy: None,
            host: Attempts::default(),
            unreachable: 0,
            calls: Vec::new(),
        }
    }

    pub fn sent(&mut self, call: &Call, is_foreign: bool, report: &mut Report) {
        let now = call.at;
        report.note(now, call.app, || format!("sent {}", call.question()));
        let mut problems = Vec::new();
        if let Some(app) = call.app {
            problems.extend(self.apps[app].sent(call, self.mints_per_minute));
        }
        if is_foreign {
            self.foreign.retain(|at| *at + MINUTE > now);
            self.foreign.push_back(now);
            if self.foreign.len() > MAX_FOREIGN {
                problems
                    .push((Rule::Budget, format!("{} foreign revocations in a minute", self.foreign.len())));
            }
        }
        problems.extend(self.single_attempts(call));
        self.in_flight.insert(call.id, call.clone());
        self.calls.push(call.clone());
        problems.extend(self.places(call));
        for (rule, what) in problems {
            report.broken(now, call.app, rule, format!("{what}: {}", call.question()));
        }
    }

    fn single_attempts(&self, call: &Call) -> Vec<(Rule, String)> {
        let others: Vec<_> = self.in_flight.values().collect();
        let mut problems = self.host.problems("the host refuses connections", call, &others);
        if let Some(app) = call.app {
            let of_app: Vec<_> = others.into_iter().filter(|other| other.app == Some(app)).collect();
            problems.extend(self.apps[app].refused.problems("the app is refused", call, &of_app));
        }
        problems
    }

    fn places(&mut self, call: &Call) -> Vec<(Rule, String)> {
        let mut problems = Vec::new();
        self.note_places(call.at);
        if self.in_flight.len() > PLACES {
            problems.push((Rule::Places, format!("{} calls in flight", self.in_flight.len())));
        }
        let same = |other: &&Call| match (&call.ask, &other.ask) {
            (Ask::Mint { installation: a, .. }, Ask::Mint { installation: b, .. }) => a == b,
            (Ask::LookUp { path: a, .. }, Ask::LookUp { path: b, .. }) => a == b,
            _ => false,
        };
        let same = self.in_flight.values().filter(same).count();
        if same > PLACES / 4 {
            problems.push((Rule::Places, format!("{same} calls of one installation or name in flight")));
        }
        problems
    }

    /// A call has ended: until now it held its place.
    pub fn ended(&mut self, id: u64, now: Time) {
        self.note_places(now);
        self.in_flight.remove(&id);
    }

    fn note_places(&mut self, now: Time) {
        if self.in_flight.len() >= PLACES {
            self.full = Some(now);
        }
        if self.in_flight.len() >= PLACES / 4 {
            self.busy = Some(now);
        }
    }

    pub fn answered(&mut self, call: &Call, outcome: &Result<Answer, Failure>, now: Time) {
        let unreachable = matches!(outcome, Err(failure) if word(failure) == "unreachable");
        self.unreachable = if unreachable { self.unreachable + 1 } else { 0 };
        match unreachable {
            true if self.unreachable >= UNREACHABLE_THRESHOLD => self.host.fail(call, now),
            true => {}
            false => self.host.since = None,
        }
        if let (Some(app), Ok(answer)) = (call.app, outcome) {
            self.apps[app].answered(call, answer, now);
        }
    }

    /// Whether an app's budget is spent: in the last seconds nearly all was used that flows back, or more.
    pub fn is_spent(&self, app: usize, now: Time) -> bool {
        let of_late = self.apps[app].minute.iter().filter(|(at, ..)| *at + SPENT > now);
        let (points, mints) = of_late
            .fold((0, 0), |(points, mints), (_, cost, is_mint)| (points + cost, mints + u32::from(*is_mint)));
        // Two thirds of the limits flow back in a minute.
        let share = |limit: u32| limit * 2 / 3 * SPENT.as_secs() as u32 / 60;
        points * 10 >= share(POINTS) * 9 || mints * 10 >= share(self.mints_per_minute) * 9
    }

    /// How many mints of an app were sent from `from` to `until`.
    pub fn mints(&self, app: usize, from: Time, until: Time) -> usize {
        let mints = self.calls.iter().filter(|call| call.app == Some(app) && call.is_mint());
        mints.filter(|call| (from..=until).contains(&call.at)).count()
    }

    /// Whether a call is under way that may tell of `place` whether what failed as `word` still does.
    pub fn is_tried(&self, word: &str, place: &Place) -> bool {
        self.in_flight.values().any(|call| match (word, &call.ask) {
            ("unreachable", _) => true,
            ("app_rejected", _) => call.app == Some(place.app),
            (_, Ask::Mint { installation, .. }) => *installation == place.installation,
            _ => false,
        })
    }

    /// Whether all places were taken at some moment since `from`.
    pub fn were_full(&self, from: Time) -> bool {
        self.in_flight.len() >= PLACES || self.full.is_some_and(|at| at >= from)
    }

    /// The same for as many as one installation or name may hold.
    pub fn were_busy(&self, from: Time) -> bool {
        self.in_flight.len() >= PLACES / 4 || self.busy.is_some_and(|at| at >= from)
    }
}

impl App {
    fn sent(&mut self, call: &Call, mints_per_minute: u32) -> Vec<(Rule, String)> {
        let now = call.at;
        let mut problems = Vec::new();
        while self.minute.front().is_some_and(|(at, ..)| *at + MINUTE <= now) {
            self.minute.pop_front();
        }
        self.minute.push_back((now, call.points(), call.is_mint()));
        let points: u32 = self.minute.iter().map(|(_, points, _)| points).sum();
        let mints = self.minute.iter().filter(|(.., is_mint)| *is_mint).count();
        if points > POINTS {
            problems.push((Rule::Budget, format!("{points} points in a minute")));
        }
        if mints > mints_per_minute as usize {
            problems.push((Rule::Budget, format!("{mints} mints in a minute")));
        }
        if let Some(until) = self.stopped_until.filter(|until| now < *until) {
            problems.push((Rule::Stop, format!("GitHub has said stop until {until:?}")));
        }
        problems
    }

    fn answered(&mut self, call: &Call, answer: &Answer, now: Time) {
        let text = String::from_utf8_lossy(&answer.body);
        let is_limit = matches!(answer.status, 403 | 429) && text.contains("rate limit");
        if is_limit {
            let named = answer.retry_after.as_ref().map(|wait| wait.parse().unwrap());
            // One without a time, to a call that was under way at the first, is the same one.
            let is_known = self.stopped_until.is_some_and(|until| now < until);
            if named.is_some() || !is_known {
                let until = now + named.map_or(MINUTE, Duration::from_secs);
                self.stopped_until = self.stopped_until.max(Some(until));
            }
        } else if answer.status == 401 {
            self.refused.fail(call, now);
        } else if answer.status < 500 && self.refused.since.is_some_and(|since| call.at >= since) {
            self.refused.since = None;
        }
    }
}

impl Attempts {
    /// What is wrong with sending `call` beside `others`.
    fn problems(&self, why: &str, call: &Call, others: &[&Call]) -> Vec<(Rule, String)> {
        let Some(since) = self.since else { return Vec::new() };
        let beside = others.iter().find(|other| other.at >= since && call.at < other.at + LONGEST_ATTEMPT);
        let beside = beside.map(|other| format!("{why}: beside {}", other.question()));
        // One whose JWT was about to end is signed anew, and sent again at once.
        let is_resigned = call.at == self.failed && call.question() == self.asked;
        let too_early = call.at < self.failed + SHORTEST_PAUSE && !is_resigned;
        let too_early = too_early.then(|| format!("{why}: no pause since the last one failed"));
        beside.into_iter().chain(too_early).map(|what| (Rule::SingleAttempt, what)).collect()
    }

    fn fail(&mut self, call: &Call, now: Time) {
        // A call that was sent before anybody knew tells nothing new.
        if self.since.is_none_or(|since| call.at >= since) {
            self.since.get_or_insert(now);
            (self.failed, self.asked) = (now, call.question());
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// A little less than GitHub's 900.
const POINTS: u32 = 870;
/// As long as a caller waits.
const SPENT: Duration = Duration::from_secs(10);
const MAX_FOREIGN: usize = 10;
const UNREACHABLE_THRESHOLD: u32 = 5;
/// Others wait so long for what one finds out: five seconds from when it was first sent, and it may be retried for one.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(4);
/// The first pause is a second, or half of it by chance.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
