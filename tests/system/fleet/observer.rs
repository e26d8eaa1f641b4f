//! Sees all requests to the daemon and its answers, and all its traffic with GitHub, and knows what is promised.
//!
//! What GitHub is asked is judged in [`super::traffic`], what callers hear here.

mod duty;
mod recovery;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ghtokend::broker::freshness::State as Freshness;
use ghtokend::broker::{Error, Requirement, Vended};
use ghtokend::github::{Answer, Failure};

use super::evidence::Evidence;
use super::faults::Faults;
use super::github::{Ask, Call, Token};
use super::report::{Report, Rule};
use super::time::{Time, VirtualClock};
use super::traffic::Traffic;
use super::world::{Place, WINDOWS, Wish};

pub struct Observer {
    clock: Arc<VirtualClock>,
    faults: Arc<Mutex<Faults>>,
    state: Mutex<State>,
}

pub struct State {
    pub report: Report,
    pub traffic: Traffic,
    pub evidence: Evidence,
    /// What was minted, and not yet heard of by the daemon; then what it has.
    under_way: HashMap<u64, (String, Token)>,
    tokens: HashMap<String, Token>,
    keys: HashMap<String, Key>,
    uses: HashMap<(u64, Place, String), Use>,
    /// From when on no older token of an installation may be handed out.
    dropped: HashMap<u64, Time>,
    asking: BTreeMap<u64, Waiting>,
    /// Who has waited in the last minutes.
    waited: VecDeque<Waiting>,
    next: u64,
    pub served: BTreeMap<&'static str, u64>,
}

/// What is known of the tokens of one key.
#[derive(Debug, Default)]
struct Key {
    newest: Option<Held>,
    first: Option<Time>,
    evicted: Option<Time>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    sent: Time,
    came: Time,
    life: Duration,
}

impl Held {
    fn remaining(&self, now: Time) -> Duration {
        (self.sent + self.life).saturating_sub(now + GRAIN)
    }
}

/// How one client has asked for one wish.
#[derive(Debug, Default)]
struct Use {
    since: Time,
    last: Time,
    /// What it was told last, and until when to wait.
    told: Option<(&'static str, Time, Time)>,
}

#[derive(Debug, Clone)]
struct Waiting {
    client: u64,
    app: usize,
    was_in_use: bool,
    /// Whether the daemon may know nothing of its key, any more or yet.
    may_be_new: bool,
    began: Time,
    ended: Option<Time>,
}

/// What a caller heard instead of a token.
#[derive(Debug, Clone)]
pub struct Heard {
    /// The kind of failure.
    pub word: &'static str,
    pub wait: Option<Duration>,
    pub text: String,
}

impl Heard {
    pub fn of(error: &Error) -> Self {
        let (word, wait) = match error {
            Error::Github(failure) => (word(failure), failure.retry_after),
            Error::UnknownInstallation(_) => ("not_found", None),
            Error::InvalidatedWhileMinting => ("overtaken", None),
            Error::MinTtlUnavailable { because, .. } => {
                let Self { word, wait, .. } = Self::of(because);
                (word, wait)
            }
            Error::MinTtlTooLong(_) => ("min_ttl_too_long", None),
            _ => ("internal", None),
        };
        Self { word, wait, text: error.to_string() }
    }
}

/// The one place that knows how failures are told from one another.
pub fn word(failure: &Failure) -> &'static str {
    match failure.kind.as_str() {
        "gone" => "not_found",
        "connect_timed_out" => "unreachable",
        word => word,
    }
}

/// A request that is under way. Dropped before its end, its client has hung up.
pub struct Asking<'a> {
    observer: &'a Observer,
    wish: &'a Wish,
    id: u64,
    client: u64,
    began: Time,
    is_done: bool,
}

impl<'a> Asking<'a> {
    pub fn begin(observer: &'a Observer, client: u64, wish: &'a Wish) -> Self {
        let began = observer.clock.now();
        let id = observer.lock().begin(client, wish, began);
        Self { observer, wish, id, client, began, is_done: false }
    }

    pub fn end(mut self, outcome: Result<Vended, Error>) -> Result<Vended, Heard> {
        self.is_done = true;
        let outcome = outcome.map_err(|error| Heard::of(&error));
        self.observer.judge(&self, Some(&outcome));
        outcome
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.observer.judge(self, None);
        }
    }
}

impl Observer {
    pub fn new(clock: Arc<VirtualClock>, faults: Arc<Mutex<Faults>>, mints_per_minute: u32) -> Self {
        let state = State {
            report: Report::new(super::variable("FLEET_TRACE")),
            traffic: Traffic::new(mints_per_minute),
            evidence: Evidence::default(),
            under_way: HashMap::new(),
            tokens: HashMap::new(),
            keys: HashMap::new(),
            uses: HashMap::new(),
            dropped: HashMap::new(),
            asking: BTreeMap::new(),
            waited: VecDeque::new(),
            next: 0,
            served: BTreeMap::new(),
        };
        Self { clock, faults, state: Mutex::new(state) }
    }

    pub fn clock(&self) -> &Arc<VirtualClock> {
        &self.clock
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sent(&self, call: &Call) {
        let State { report, traffic, tokens, .. } = &mut *self.lock();
        let is_foreign = matches!(&call.ask, Ask::Revoke { token } if !tokens.contains_key(token));
        traffic.sent(call, is_foreign, report);
    }

    /// A call has ended, or was dropped.
    pub fn ended(&self, id: u64) {
        let now = self.clock.now();
        self.lock().traffic.ended(id, now);
    }

    /// The daemon hears what came of `call`.
    pub fn answered(&self, call: &Call, outcome: &Result<Answer, Failure>) {
        let now = self.clock.now();
        let state = &mut *self.lock();
        let text = match outcome {
            Ok(answer) => answer.status.to_string(),
            Err(failure) => failure.kind.as_str().to_owned(),
        };
        state.report.note(now, call.app, || format!("GitHub answered {} with {text}", call.question()));
        state.traffic.answered(call, outcome, now);
        state.evidence.note(call, outcome, now);
        if let Some((text, token)) = state.under_way.remove(&call.id) {
            state.keys.entry(token.question.clone()).or_default().received(&token, now);
            state.tokens.insert(text, token);
        }
        state.note_if_gone(call, outcome, now);
    }

    pub fn minted(&self, id: u64, text: String, token: Token) {
        self.lock().under_way.insert(id, (text, token));
    }

    /// Whether GitHub knew this token.
    pub fn revoked_at_github(&self, text: &str) -> bool {
        self.lock().tokens.contains_key(text)
    }

    /// A client is about to give this token back: nobody may get it from now on.
    pub fn giving_back(&self, text: &str) {
        let state = &mut *self.lock();
        if let Some(token) = state.tokens.get_mut(text) {
            token.expires = Time::ZERO;
            state.keys.entry(token.question.clone()).or_default().newest = None;
        }
    }

    /// The daemon has believed a client that this token no longer works.
    pub fn evicted(&self, text: &str) {
        let now = self.clock.now();
        let state = &mut *self.lock();
        let question = state.tokens[text].question.clone();
        state.keys.entry(question).or_default().evicted = Some(now);
    }

    fn judge(&self, asking: &Asking<'_>, outcome: Option<&Result<Vended, Heard>>) {
        let now = self.clock.now();
        let faults = self.faults.lock().unwrap();
        let state = &mut *self.lock();
        let waited = now.saturating_sub(asking.began);
        if let Some(Ok(vended)) = outcome {
            state.check_token(asking, vended, now);
        }
        if let Some(Err(heard)) = outcome {
            state.check_reason(asking, heard, now);
        }
        let word = match outcome {
            Some(Ok(_)) if waited.is_zero() => "at once",
            Some(Ok(_)) => "after a wait",
            Some(Err(heard)) => heard.word,
            None => "hung up",
        };
        *state.served.entry(word).or_default() += 1;
        if word != "at once" {
            let (client, question) = (asking.client, &asking.wish.question);
            let name = asking.wish.place.name.as_deref().unwrap_or("by id");
            let how = || format!("client {client} got for {question} ({name}), asked {waited:?} ago: {word}");
            state.report.note(now, Some(asking.wish.place.app), how);
            state.check_duty(asking, outcome, &faults, now);
        }
        state.end(asking, now);
    }
}

impl Key {
    fn received(&mut self, token: &Token, now: Time) {
        let held = Held { sent: token.sent, came: now, life: token.life };
        if self.newest.is_none_or(|newest| newest.sent <= held.sent) {
            self.newest = Some(held);
        }
        self.first.get_or_insert(now);
    }

    /// A token that must be handed out at once, if there is one.
    fn usable(&self, dropped: Option<Time>, now: Time) -> Option<Held> {
        let held = self.newest?;
        let enough = WINDOWS.min_validity.min(held.life / 6);
        let is_out =
            self.evicted.is_some_and(|at| at >= held.came) || dropped.is_some_and(|at| at >= held.sent);
        (!is_out && held.remaining(now) > enough && held.came < now).then_some(held)
    }

    /// Whether there is a token that must be handed out if there is no better one.
    fn lives(&self, dropped: Option<Time>, now: Time) -> bool {
        let is_gone = |held: &Held| dropped.is_some_and(|at| at >= held.sent);
        let grace = |held: &Held| WINDOWS.grace.min(held.life / 12);
        self.newest.is_some_and(|held| !is_gone(&held) && held.remaining(now) > grace(&held))
    }
}

impl State {
    fn begin(&mut self, client: u64, wish: &Wish, now: Time) -> u64 {
        self.next += 1;
        let of = self.uses.entry((client, wish.place.clone(), wish.question.clone())).or_default();
        if now.saturating_sub(of.last) > STEADY {
            of.since = now;
        }
        of.last = now;
        let key = self.keys.get(&wish.question);
        let was_in_use = key.is_some_and(|key| key.first.is_some());
        let dropped = self.dropped.get(&wish.place.installation).copied();
        let may_be_new = !key.is_some_and(|key| key.lives(dropped, now));
        let app = wish.place.app;
        let waiting = Waiting { client, app, was_in_use, may_be_new, began: now, ended: None };
        self.asking.insert(self.next, waiting);
        self.next
    }

    fn end(&mut self, asking: &Asking<'_>, now: Time) {
        let Some(waiting) = self.asking.remove(&asking.id) else { return };
        if now > waiting.began {
            self.waited.push_back(Waiting { ended: Some(now), ..waiting });
        }
        while self.waited.front().is_some_and(|old| old.ended < Some(now.saturating_sub(WAITS_KEPT))) {
            self.waited.pop_front();
        }
    }

    /// A suspension, or a 404 that was confirmed, ends all tokens of the installation.
    fn note_if_gone(&mut self, call: &Call, outcome: &Result<Answer, Failure>, now: Time) {
        let Ok(answer) = outcome else { return };
        let suspended = answer.status == 403 && String::from_utf8_lossy(&answer.body).contains("suspended");
        match &call.ask {
            Ask::Mint { installation, .. } if suspended => drop(self.dropped.insert(*installation, now)),
            Ask::Confirm(installation) if answer.status == 404 => {
                self.dropped.insert(*installation, now);
            }
            _ => {}
        }
    }

    fn check_token(&mut self, asking: &Asking<'_>, vended: &Vended, now: Time) {
        let text = vended.entry.token.secret.expose();
        let Some(token) = self.tokens.get(text) else {
            return self.report.broken(now, None, Rule::NoDeadToken, "GitHub knows no such token".into());
        };
        let dropped = self.dropped.get(&token.installation).is_some_and(|at| token.sent < *at && *at < now);
        let age = now.saturating_sub(token.sent);
        let problem = if token.question != asking.wish.question {
            "a token of another key"
        } else if token.expires <= now {
            "an expired token"
        } else if dropped {
            "a token of an installation that is gone"
        } else if vended.state == Freshness::Expired {
            "a token that the daemon takes for expired"
        } else {
            match asking.wish.request.requirement {
                Requirement::RecentlyMinted if age >= JUST_MINTED.min(token.life / 60) => {
                    "an old token for one who keeps it"
                }
                Requirement::MinTtl(life) if token.sent + token.life < now + life => {
                    "a token of too short a life"
                }
                _ => return,
            }
        };
        let what = format!("{problem}: {}", asking.wish.question);
        self.report.broken(now, Some(asking.wish.place.app), Rule::NoDeadToken, what);
    }

    fn check_reason(&mut self, asking: &Asking<'_>, heard: &Heard, now: Time) {
        let wish = asking.wish;
        let app = Some(wish.place.app);
        let found = self.evidence.of(heard.word, wish, asking.began, now);
        let is_spent = self.traffic.is_spent(wish.place.app, now);
        let is_ours = match heard.word {
            "budget_spent" => is_spent,
            "caller_limited" => is_spent || self.waits_of(asking.client) >= MAX_WAITING_OF_CLIENT,
            // A token of an installation that was suspended or gone meanwhile.
            "overtaken" => self.evidence.was_lost(&wish.place, asking.began),
            "overloaded" => self.traffic.were_busy(asking.began) || self.asking.len() > MAX_WAITING,
            _ => false,
        };
        if found.is_none() && !is_ours && heard.word != "min_ttl_too_long" {
            let waited = now.saturating_sub(asking.began);
            let what = format!(
                "{} for client {}, {} {:?} after {waited:?}: no such fault was met: {}",
                heard.word, asking.client, wish.question, wish.place.name, heard.text
            );
            self.report.broken(now, app, Rule::TrueReason, what);
        }
        // However a call failed: until then the next would be in vain.
        let limit = self.evidence.limited_until(wish.place.app).saturating_sub(now);
        let longest =
            found.map_or(Duration::ZERO, |met| met.until.saturating_sub(now)).max(limit).max(MAX_MEMORY)
                + GRAIN;
        if let Some(wait) = heard.wait.filter(|wait| *wait > longest) {
            let what = format!("{} for {}: told to wait {wait:?}: {}", heard.word, wish.question, heard.text);
            self.report.broken(now, app, Rule::TrueWait, what);
        }
        let of = (asking.client, wish.place.clone(), wish.question.clone());
        let told = self.uses.entry(of).or_default();
        // Whoever waits for an attempt that is under way hears of the last one if it takes too long.
        let is_tried = now > asking.began && self.traffic.is_tried(heard.word, &wish.place);
        if let (Some((word, at, until)), Some(met)) = (told.told, found)
            && word == heard.word
            && asking.began >= until
            && met.at <= at
            && !is_tried
            && !self.evidence.is_of_name(word, &wish.place)
        {
            let what =
                format!("{word} for {} was to end at {until:?}, and was not met since {at:?}", wish.question);
            self.report.broken(now, app, Rule::TrueWait, what);
        }
        told.told = heard.wait.map(|wait| (heard.word, now, now + wait));
    }
}

impl Observer {
    /// What was broken. `replay` says how it is made again.
    pub fn outcome(&self, replay: &str) -> Result<(), String> {
        self.lock().report.outcome(replay)
    }

    pub fn broken(&self, rule: Rule, what: String) {
        self.lock().report.broken(self.clock.now(), None, rule, what);
    }
}

/// `Date` and `expires_at` are whole seconds.
const GRAIN: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const JUST_MINTED: Duration = Duration::from_secs(60);
/// Who asks again within this time asks steadily.
const STEADY: Duration = Duration::from_secs(30);
const WAITS_KEPT: Duration = Duration::from_secs(120);
/// The longest that a failure is remembered for which GitHub has not named a time.
const MAX_MEMORY: Duration = Duration::from_secs(60);
/// The longest that anybody waits for a turn.
const MAX_TURN: Duration = Duration::from_secs(10);
const MAX_WAITING_OF_CLIENT: usize = 64;
const MAX_WAITING: usize = 1024;
