//! What was broken, and what came before it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use super::time::Time;

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A healthy key in use is served at once.
    HotAtOnce,
    /// A healthy cold key is served in time.
    ColdInTime,
    /// Every reason is true.
    TrueReason,
    /// Every wait is true.
    TrueWait,
    Budget,
    /// Nothing is sent while GitHub said stop.
    Stop,
    /// Nothing but single attempts at what refuses everything.
    SingleAttempt,
    Places,
    NoDeadToken,
    /// No live token is lost for a failure.
    NoTokenLost,
    /// Keys in use are renewed after the faults.
    Recovery,
    /// Queues and memories stay within bounds, and nothing is left over.
    Bounds,
}

#[derive(Debug)]
struct Event {
    at: Time,
    app: Option<usize>,
    text: String,
}

#[derive(Debug)]
struct Broken {
    at: Time,
    rule: Rule,
    what: String,
    before: Vec<String>,
}

#[derive(Debug)]
pub struct Report {
    /// Every event that holds this text is printed.
    trace: Option<String>,
    events: VecDeque<Event>,
    /// By the promise, and the first word of what was found.
    count: BTreeMap<(Rule, String), usize>,
    first: Vec<Broken>,
}

impl Report {
    pub fn new(trace: Option<String>) -> Self {
        Self { trace, events: VecDeque::new(), count: BTreeMap::new(), first: Vec::new() }
    }

    pub fn note(&mut self, at: Time, app: Option<usize>, text: impl FnOnce() -> String) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        let text = text();
        if self.trace.as_ref().is_some_and(|trace| text.contains(trace)) {
            println!("{at:>12.3?} {text}");
        }
        self.events.push_back(Event { at, app, text });
    }

    pub fn broken(&mut self, at: Time, app: Option<usize>, rule: Rule, what: String) {
        let kind = what.split_whitespace().next().unwrap_or_default().to_owned();
        let count = self.count.entry((rule, kind)).or_default();
        *count += 1;
        if *count > MAX_SHOWN {
            return;
        }
        let before = self.before(app, &what);
        self.first.push(Broken { at, rule, what, before });
    }

    /// What happened last to the same installation, and to its app.
    fn before<'a>(&'a self, app: Option<usize>, what: &str) -> Vec<String> {
        let is_id = |word: &&str| word.len() >= 5 && word.bytes().all(|byte| byte.is_ascii_digit());
        let id = what.split(|c: char| !c.is_ascii_digit()).find(is_id);
        let same = |event: &Event| id.is_some_and(|id| event.text.contains(id));
        let near = |event: &Event| app.is_none() || event.app.is_none() || event.app == app;
        let (mut same_left, mut near_left) = (SHOWN_BEFORE, SHOWN_BEFORE / 2);
        let mut of_client: BTreeMap<&str, usize> = BTreeMap::new();
        let mut left = |event: &&'a Event| {
            // What one client hears again and again is shown a few times only.
            let seen = of_client.entry(event.text.split(" got ").next().unwrap_or_default()).or_default();
            *seen += 1;
            if *seen > MAX_OF_CLIENT {
                return false;
            }
            let left = if same(event) { &mut same_left } else { &mut near_left };
            let is_shown = near(event) && *left > 0;
            *left -= usize::from(is_shown);
            is_shown
        };
        let before = self.events.iter().rev().filter(|event| left(event));
        let mut before: Vec<_> = before.map(|event| format!("{:>12.3?} {}", event.at, event.text)).collect();
        before.reverse();
        before
    }

    /// All that was broken, if anything was. `replay` says how it is seen again.
    pub fn outcome(&self, replay: &str) -> Result<(), String> {
        if self.count.is_empty() {
            return Ok(());
        }
        let mut text = format!("{:?}\nreplay: {replay}\n", self.count);
        for broken in &self.first {
            let _ = writeln!(text, "\n{:?} at {:?}: {}", broken.rule, broken.at, broken.what);
            for line in &broken.before {
                let _ = writeln!(text, "    {line}");
            }
        }
        Err(text)
    }
}

const MAX_EVENTS: usize = 4000;
/// Of each kind.
const MAX_SHOWN: usize = 2;
const SHOWN_BEFORE: usize = 30;
/// Of each client.
const MAX_OF_CLIENT: usize = 5;
