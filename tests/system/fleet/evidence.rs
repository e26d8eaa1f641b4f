//! What GitHub has really said, or not said, and when: by this it is judged whether a reason is true.

use std::collections::HashMap;
use std::time::Duration;

use ghtokend::github::{Answer, Failure};

use super::github::{Ask, Call};
use super::observer::word;
use super::time::Time;
use super::world::{Place, Wish};

/// When a fault was met last, and until when GitHub has said that it will last.
#[derive(Debug, Clone, Copy)]
pub struct Met {
    pub at: Time,
    pub until: Time,
}

#[derive(Debug, Default)]
pub struct Evidence {
    met: HashMap<(String, &'static str), Met>,
    /// When each question failed last, of which app, and when it was answered well.
    failed: HashMap<String, (usize, Time)>,
    answered: HashMap<String, Time>,
    /// When each question was answered well after it had failed.
    recovered: HashMap<String, Time>,
    /// When the host, an app or an installation last answered as one does that works.
    refuted: HashMap<String, Time>,
    /// Of each app, the limits in a row.
    limits: HashMap<usize, u32>,
}

impl Evidence {
    pub fn note(&mut self, call: &Call, outcome: &Result<Answer, Failure>, now: Time) {
        let question = call.question();
        for subject in refuted(call, said(call, outcome).map(|(word, _)| word)) {
            let is_known = |word: &'static str| self.met.get(&(subject.clone(), word)).map(|met| met.at);
            // An answer to a call from before says nothing of what was met since.
            if SINGLE_ATTEMPTS.into_iter().filter_map(is_known).all(|at| at <= call.at) {
                self.refuted.insert(subject, now);
            }
        }
        let app = call.app.unwrap_or(usize::MAX);
        let said = said(call, outcome);
        // That a token is not known says nothing of the app.
        let is_unauthorized = outcome.as_ref().is_ok_and(|answer| answer.status == 401);
        let is_accepted = !is_unauthorized && is_accepted(said.map(|(word, _)| word));
        if is_accepted && call.at >= self.limited_until(app) {
            self.limits.remove(&app);
        }
        let Some((word, wait)) = said else {
            if self.is_suspect(&question) {
                self.recovered.insert(question.clone(), now);
            }
            self.answered.insert(question, now);
            return;
        };
        let wait = match word {
            "rate_limited" => self.limit(app, wait, now),
            _ => wait.unwrap_or_default(),
        };
        let met = Met { at: now, until: now + wait };
        for subject in subjects(call, word, question.clone()) {
            // Of two waits the longer counts.
            let known = self.met.get(&(subject.clone(), word)).map_or(Time::ZERO, |known| known.until);
            self.met.insert((subject, word), Met { until: met.until.max(known), ..met });
        }
        if !matches!(word, "rate_limited" | "app_rejected" | "unreachable") {
            self.failed.insert(question, (app, now));
        }
    }

    /// How long a limit lasts: as GitHub names it, else a minute, and twice as long for each in a row.
    fn limit(&mut self, of: usize, named: Option<Duration>, now: Time) -> Duration {
        let left = self.limited_until(of).saturating_sub(now);
        let times = self.limits.entry(of).or_default();
        // To a call that was under way, it is the same one.
        *times += u32::from(left.is_zero());
        let unnamed = (UNNAMED_LIMIT * 2_u32.pow(times.saturating_sub(1))).min(UNNAMED_LIMIT * 60);
        named.unwrap_or(if left.is_zero() { unnamed } else { left })
    }

    /// Until when GitHub does not want to be asked by an app.
    pub fn limited_until(&self, of: usize) -> Time {
        self.met.get(&(app(of), "rate_limited")).map_or(Time::ZERO, |met| met.until)
    }

    /// Where this was met that concerns `wish`, not too long ago to be remembered by `now`, or since a caller
    /// `began` to ask.
    pub fn of(&self, word: &'static str, wish: &Wish, began: Time, now: Time) -> Option<Met> {
        let Wish { place, question, .. } = wish;
        let questions = [Some(question.clone()), place.name.clone()].into_iter().flatten();
        let met = |subject: String| self.met.get(&(subject, word)).copied();
        let of_questions = questions.filter_map(met);
        let of_questions = of_questions.filter(|met| met.at + REMEMBERED >= now || met.until >= now);
        let wide = [HOST.to_owned(), app(place.app), installation(place.installation)].into_iter();
        let of_wide = wide.filter_map(|subject| {
            let refuted = self.refuted.get(&subject).copied();
            // A limit lasts as long as was said; the rest until an attempt tells otherwise.
            met(subject).filter(|met| match word {
                "rate_limited" => met.until >= now,
                // What the caller's own attempt met is told, whatever others were answered meanwhile, and in one
                // instant of virtual time nothing comes first.
                _ => met.at >= began || refuted.is_none_or(|at| at <= met.at || at == now),
            })
        });
        of_questions.chain(of_wide).max_by_key(|met| met.at)
    }

    /// Whether the installation of `place` has been suspended or gone at some moment since `from`.
    pub fn was_lost(&self, place: &Place, from: Time) -> bool {
        let lost = ["suspended", "not_found"].map(|word| (installation(place.installation), word));
        lost.iter().filter_map(|key| self.met.get(key)).any(|met| met.at >= from)
    }

    /// Whether the name of `place` has failed so: it may last longer, or shorter, than what has failed of its installation.
    pub fn is_of_name(&self, word: &'static str, place: &Place) -> bool {
        place.name.as_ref().is_some_and(|name| self.met.contains_key(&(name.clone(), word)))
    }

    /// Whether the last attempt at a question failed.
    pub fn is_suspect(&self, question: &str) -> bool {
        let answered = self.answered.get(question).copied();
        self.failed.get(question).is_some_and(|(_, at)| answered.is_none_or(|answered| answered < *at))
    }

    /// When a question failed last.
    pub fn failed_at(&self, question: &str) -> Option<Time> {
        self.failed.get(question).map(|(_, at)| *at)
    }

    /// Whether the last attempt at a question failed, or had at any time since `from`.
    pub fn was_suspect(&self, question: &str, from: Time) -> bool {
        self.is_suspect(question) || self.recovered.get(question).is_some_and(|at| *at >= from)
    }

    /// Whether GitHub has named a time that is not over.
    pub fn is_blocked(&self, place: &Place, now: Time) -> bool {
        let subjects = [Some(app(place.app)), place.name.clone()].into_iter().flatten();
        let words = ["rate_limited", "unavailable"];
        let met = subjects.flat_map(|subject| words.map(|word| (subject.clone(), word)));
        met.filter_map(|key| self.met.get(&key)).any(|met| met.until + REMEMBERED > now)
    }

    /// How long it may take until all that has failed of an app is minted.
    pub fn backlog(&self, app: usize, now: Time) -> Duration {
        let of_late = |(of, at): &&(usize, Time)| *of == app && *at + LATE > now;
        SUSPECT_MINT * self.failed.values().filter(of_late).count() as u32
    }
}

/// What the daemon hears, and for how long GitHub says that it holds, if it does. `None`: a good answer.
fn said(call: &Call, outcome: &Result<Answer, Failure>) -> Option<(&'static str, Option<Duration>)> {
    const NOW: Option<Duration> = Some(Duration::ZERO);
    let answer = match outcome {
        Ok(answer) => answer,
        Err(failure) => return Some((word(failure), NOW)),
    };
    let text = String::from_utf8_lossy(&answer.body);
    let named = answer.retry_after.as_ref().map(|wait| Duration::from_secs(wait.parse().unwrap()));
    let is_limit = matches!(answer.status, 403 | 429) && text.contains("rate limit");
    Some(match answer.status {
        _ if is_limit => ("rate_limited", named),
        401 if matches!(call.ask, Ask::Revoke { .. }) => return None,
        200..=299 => return None,
        401 => ("app_rejected", NOW),
        403 if text.contains("suspended") => ("suspended", NOW),
        403 => ("forbidden", NOW),
        404 => ("not_found", NOW),
        422 => ("scope_refused", NOW),
        500.. => ("unavailable", named.or(NOW)),
        _ => ("bad_answer", NOW),
    })
}

/// What an answer speaks for.
fn subjects(call: &Call, word: &str, question: String) -> Vec<String> {
    let of_app = call.app.map(app).unwrap_or_default();
    match (word, &call.ask) {
        ("unreachable", _) => vec![HOST.to_owned()],
        ("rate_limited" | "app_rejected", _) => vec![of_app],
        ("suspended" | "not_found", Ask::Mint { installation: id, .. } | Ask::Confirm(id)) => {
            vec![installation(*id), question]
        }
        _ => vec![question],
    }
}

/// Which of host, app and installation work by this answer, whatever else it says.
fn refuted(call: &Call, word: Option<&str>) -> Vec<String> {
    let host = (word != Some("unreachable")).then(|| HOST.to_owned());
    let accepted = is_accepted(word);
    let of_app = call.app.filter(|_| accepted).map(app);
    let of_installation = match call.ask {
        Ask::Mint { installation: id, .. } if accepted => Some(installation(id)),
        _ => None,
    };
    let of_installation = of_installation.filter(|_| !matches!(word, Some("suspended" | "not_found")));
    [host, of_app, of_installation].into_iter().flatten().collect()
}

/// Whether GitHub answers so whom it neither limits nor refuses.
fn is_accepted(word: Option<&str>) -> bool {
    let not = ["unreachable", "timed_out", "unavailable", "rate_limited", "app_rejected"];
    word.is_none_or(|word| !not.contains(&word))
}

fn app(app: usize) -> String {
    format!("app {app}")
}

fn installation(id: u64) -> String {
    format!("all of installation {id}")
}

const HOST: &str = "host";
/// Whatever fails is remembered for a minute at most, and a call may take its time.
const REMEMBERED: Duration = Duration::from_secs(62);
/// What one call at a time finds out, which may wait for its turn and hang.
const SINGLE_ATTEMPTS: [&str; 4] = ["unreachable", "app_rejected", "suspended", "not_found"];
const UNNAMED_LIMIT: Duration = Duration::from_secs(60);
const LATE: Duration = Duration::from_secs(900);
/// Failing questions have 2 of 14 mints, of which there are 100 a minute.
const SUSPECT_MINT: Duration = Duration::from_millis(4200);
