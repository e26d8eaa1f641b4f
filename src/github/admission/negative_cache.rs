//! What GitHub is not asked again for now: back-off of the host and of each app, and a negative cache of installations
//! and questions. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::topic::{Key, Topic, UNREACHABLE_THRESHOLD};
use crate::backoff::ExponentialBackoff;
use crate::clock::BootTime;
use crate::github::failure::{Failure, Kind, Origin, Scope};
use crate::jitter::jitter;
use crate::model::AppName;

/// Failures in a row, and when the next attempt may be made.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    failures: u32,
    until: BootTime,
    failure: Failure,
    /// When somebody began to find out, where only one may. Others wait for that, but not for a call that hangs.
    attempted: Option<BootTime>,
    /// Its number in the order of insertion.
    inserted: u64,
}

/// Whether a call may be made, for all that is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict<'m> {
    Clear,
    /// An attempt is under way that will tell; until then this is how it failed last.
    Await(&'m Backoff),
    /// Not now, and this is why.
    Refuse(&'m Backoff),
}

/// The single attempts that a call is, for those who wait for what it finds out.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    keys: Vec<Key>,
    began: BootTime,
    /// How often refusals had been forgotten when it began.
    forgotten: u64,
}

/// Bounded in bytes; what was remembered first is forgotten first.
#[derive(Debug)]
pub(crate) struct Memory {
    known: HashMap<Key, Backoff>,
    /// Installations and questions in the order of insertion.
    order: BTreeMap<u64, Key>,
    insertions: u64,
    bytes: usize,
    max_bytes: usize,
    /// How often refusals were forgotten: an answer from before says nothing of what came after.
    forgotten: u64,
}

impl Memory {
    /// Holds failures of at most `max_bytes`.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            known: HashMap::new(),
            order: BTreeMap::new(),
            insertions: 0,
            bytes: 0,
            max_bytes,
            forgotten: 0,
        }
    }

    /// What is remembered that concerns `topic`, for a call that is these `attempts` itself. Of several reasons not to make
    /// it, the one that lasts longest: after that wait no other reason is left.
    pub(crate) fn verdict(&self, topic: &Topic, attempts: &Attempts, now: BootTime) -> Verdict<'_> {
        let mut verdict = Verdict::Clear;
        for key in topic.keys() {
            let Some(backoff) = self.known.get(&key) else { continue };
            let is_attempted = backoff.is_attempted(now) && !attempts.keys.contains(&key);
            verdict = match verdict {
                Verdict::Refuse(other) if other.until >= backoff.until => verdict,
                _ if backoff.until > now => Verdict::Refuse(backoff),
                Verdict::Clear if is_attempted => Verdict::Await(backoff),
                _ => verdict,
            };
        }
        verdict
    }

    /// Whether the last attempt at `topic` failed.
    pub(crate) fn is_suspect(&self, topic: &Topic) -> bool {
        topic.own_keys().any(|key| self.known.contains_key(&key))
    }

    /// A call is about to be made: where only one may be, it is that one.
    pub(crate) fn begin(&mut self, topic: &Topic, now: BootTime) -> Attempts {
        let mut keys: Vec<_> = topic.keys().filter(Key::is_single).collect();
        keys.retain(|key| match self.known.get_mut(key) {
            Some(backoff) if backoff.failures >= key.threshold() => {
                backoff.attempted = Some(now);
                true
            }
            _ => false,
        });
        Attempts { keys, began: now, forgotten: self.forgotten }
    }

    /// A call has ended, with whatever outcome: the next one may make the attempt.
    pub(crate) fn end(&mut self, attempts: &Attempts) {
        for key in &attempts.keys {
            if let Some(backoff) = self.known.get_mut(key)
                && backoff.attempted == Some(attempts.began)
            {
                backoff.attempted = None;
            }
        }
    }

    /// A call about `topic` that set out at `sent` was granted.
    pub(crate) fn succeeded(&mut self, topic: &Topic, sent: BootTime) {
        self.reached();
        self.accepted(topic, sent);
        topic.own_keys().for_each(|key| drop(self.forget(&key)));
    }

    /// Remembers `failure` of a call about `topic`, that was these `attempts` and set out at `sent`, for what it speaks for.
    pub(crate) fn failed(
        &mut self,
        topic: &Topic,
        failure: &Failure,
        (attempts, sent): (&Attempts, BootTime),
        now: BootTime,
    ) {
        let is_refusal = !failure.kind.is_inconclusive();
        if is_refusal || failure.kind == Kind::Forbidden {
            self.accepted(topic, sent);
        }
        // What was refused before somebody said that it is granted now is none.
        if let Some(key) = topic.key(failure).filter(|_| !is_refusal || attempts.forgotten == self.forgotten)
        {
            self.remember(key, failure, attempts, now);
        }
        if failure.kind == Kind::TimedOut {
            let slow = Key::Slow(topic.subject);
            self.forget(&slow);
            self.insert(slow, Backoff::new(failure, now));
        }
        match (failure.kind.scope(), topic.installation, topic.question) {
            // It is no longer the question that failed.
            (Scope::Installation, _, Some(question)) => drop(self.forget(&Key::Question(question))),
            // GitHub judges a question of a live installation only: it is neither suspended nor gone.
            (Scope::Question, Some(installation), _) if is_refusal => {
                drop(self.forget(&Key::Installation(installation)))
            }
            _ => {}
        }
    }

    /// GitHub has just answered, if only with `failure`: then a connection could be made.
    pub(crate) fn answered(&mut self, failure: &Failure) {
        if !matches!(failure.kind.scope(), Scope::Host | Scope::Nothing) {
            self.reached();
        }
    }

    fn reached(&mut self) {
        if self.forget(&Key::Host).is_some_and(|host| host.failures >= UNREACHABLE_THRESHOLD) {
            tracing::info!("GitHub reachable again");
        }
    }

    /// GitHub may grant now what it has refused. What kept it from answering, and waits that it named, go on.
    pub(crate) fn forget_refusals(&mut self) {
        self.forgotten += 1;
        let is_refusal = |(_, backoff): &(_, &Backoff)| !backoff.failure.kind.is_inconclusive();
        let refused: Vec<Key> = self.known.iter().filter(is_refusal).map(|(key, _)| key.clone()).collect();
        refused.iter().for_each(|key| drop(self.forget(key)));
    }

    /// An installation is not gone. Whether it was thought to be.
    pub(crate) fn installation_exists(&mut self, installation: u128) -> bool {
        let key = Key::Installation(installation);
        let was_gone = self.known.get(&key).is_some_and(|backoff| backoff.failure.kind == Kind::Gone);
        was_gone && self.forget(&key).is_some()
    }

    /// `app` has other keys: one call finds out at once whether GitHub accepts them.
    pub(crate) fn retry_app(&mut self, app: &AppName, now: BootTime) {
        if let Some(backoff) = self.known.get_mut(&Key::Refusal(app.clone())) {
            (backoff.until, backoff.attempted) = (now, None);
        }
    }

    /// Until when GitHub limits `app`, and until when it is not asked since it refuses it.
    pub(crate) fn limited_until(&self, app: &AppName, now: BootTime) -> [Option<BootTime>; 2] {
        let until = |key| self.known.get(&key).map(|backoff| backoff.until).filter(|until| *until > now);
        [until(Key::Limit(app.clone())), until(Key::Refusal(app.clone()))]
    }

    /// Whether connections can be made, as far as is known.
    pub(crate) fn is_reachable(&self) -> bool {
        self.known.get(&Key::Host).is_none_or(|host| host.failures < UNREACHABLE_THRESHOLD)
    }

    /// How many failures are remembered.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// GitHub answered as it answers an app that it accepts. A call that set out before a pause says nothing of it.
    fn accepted(&mut self, topic: &Topic, sent: BootTime) {
        for key in topic.app_keys() {
            if self.known.get(&key).is_some_and(|backoff| backoff.until <= sent) {
                self.forget(&key);
            }
        }
    }

    fn remember(&mut self, key: Key, failure: &Failure, attempts: &Attempts, now: BootTime) {
        let mut backoff = self.forget(&key).unwrap_or_else(|| Backoff::new(failure, now));
        let named = failure.retry_after.map(|wait| now.plus(wait));
        // What set out before the pause began, or beside the one attempt after it, tells nothing new; but of two waits that
        // GitHub names the later end holds.
        let is_news = backoff.until <= now && (!backoff.is_attempted(now) || attempts.keys.contains(&key));
        if is_news || named.is_some_and(|until| until > backoff.until) {
            backoff.failures = backoff.failures.saturating_add(u32::from(is_news));
            backoff.until = named.unwrap_or(now).max(now.plus(backoff.pause(&key, failure, now)));
            backoff.failure = failure.clone();
            backoff.attempted = None;
            backoff.report(&key, now);
        }
        self.insert(key, backoff);
    }

    fn insert(&mut self, key: Key, mut backoff: Backoff) {
        self.insertions += 1;
        backoff.inserted = self.insertions;
        self.bytes += backoff.size();
        if key.is_bounded() {
            self.order.insert(self.insertions, key.clone());
        }
        self.known.insert(key, backoff);
        while self.bytes > self.max_bytes
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, key: &Key) -> Option<Backoff> {
        let backoff = self.known.remove(key)?;
        self.order.remove(&backoff.inserted);
        self.bytes -= backoff.size();
        Some(backoff)
    }
}

impl Attempts {
    /// Those of a call that is none.
    pub(crate) const fn none() -> Self {
        Self { keys: Vec::new(), began: BootTime::MAX, forgotten: u64::MAX }
    }
}

impl Backoff {
    fn new(failure: &Failure, now: BootTime) -> Self {
        Self { failures: 0, until: now, failure: failure.clone(), attempted: None, inserted: 0 }
    }

    fn is_attempted(&self, now: BootTime) -> bool {
        self.attempted.is_some_and(|began| now.since(began) < MAX_ATTEMPT)
    }

    /// The pause after the last of its failures, which are remembered for `key`: doubled each time, and cut short by
    /// chance, so that what failed together does not come again together.
    fn pause(&self, key: &Key, failure: &Failure, now: BootTime) -> Duration {
        let failures = self.failures.saturating_sub(key.threshold() - 1);
        let exponential = match key {
            // A limit or a refusal that names its end lasts until then and no longer.
            _ if failure.retry_after.is_some() && failure.kind.is_definite() => return Duration::ZERO,
            Key::Limit(_) => return LIMIT_BACKOFF.pause(failures),
            Key::Host => HOST_BACKOFF,
            _ => BACKOFF,
        };
        // No two failures are met in the same nanosecond.
        exponential.pause(failures).mul_f64(0.5 + jitter(&now) / 2.0)
    }

    /// Logs what an operator should know.
    fn report(&self, key: &Key, now: BootTime) {
        let (failures, retry_after_seconds) = (self.failures, self.until.since(now).as_secs());
        let error = &self.failure;
        match key {
            Key::Host if failures == UNREACHABLE_THRESHOLD => {
                tracing::warn!(consecutive_failures = failures, retry_after_seconds, %error, "GitHub unreachable");
            }
            Key::Limit(app) => tracing::warn!(%app, retry_after_seconds, %error, "GitHub limits the app"),
            _ => {}
        }
    }

    /// The failure for a call that is refused at `now`.
    pub(crate) fn failure(&self, now: BootTime) -> Failure {
        let left = self.until.since(now);
        let wait = if left.is_zero() { MIN_WAIT } else { left };
        Failure { retry_after: Some(wait), origin: Origin::Local, ..self.failure.clone() }
    }

    fn size(&self) -> usize {
        ENTRY_BYTES + self.failure.message.len()
    }
}

const BACKOFF: ExponentialBackoff = ExponentialBackoff::new(Duration::from_secs(1), Duration::from_secs(60));
const HOST_BACKOFF: ExponentialBackoff =
    ExponentialBackoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// GitHub's own limits end within the hour.
const LIMIT_BACKOFF: ExponentialBackoff =
    ExponentialBackoff::new(Duration::from_secs(60), Duration::from_secs(3600));
/// A connection is made by then, and most calls have ended. One that hangs says nothing of the others.
const MAX_ATTEMPT: Duration = Duration::from_secs(5);
/// An attempt that is under way takes some time.
const MIN_WAIT: Duration = Duration::from_secs(1);
/// What a remembered failure takes beside its message: its structs, both places in which it stands, and the allocator's.
const ENTRY_BYTES: usize = 320;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(100_000 + seconds))
    }

    fn topic(question: u128) -> Topic {
        let app = Some(AppName::default());
        Topic {
            app,
            signed_by_app: true,
            installation: Some(1_000_000 + question % 2),
            question: Some(question),
            subject: question,
        }
    }

    fn nobody() -> Attempts {
        Attempts::none()
    }

    fn failure(kind: Kind, wait: Option<u64>) -> Failure {
        Failure { retry_after: wait.map(Duration::from_secs), ..Failure::new(kind, "why") }
    }

    /// What is remembered of question 1 at `now`: `c`lear, `a`wait, or `r`efuse with the seconds left, rounded up.
    fn verdict(memory: &Memory, question: u128, now: u64) -> String {
        match memory.verdict(&topic(question), &nobody(), at(now)) {
            Verdict::Clear => "clear".into(),
            Verdict::Await(_) => "await".into(),
            Verdict::Refuse(backoff) => {
                let left = backoff.failure(at(now)).retry_after.unwrap_or_default();
                format!("refuse {}", left.as_millis().div_ceil(1000))
            }
        }
    }

    /// A call about `question` that is let through and fails, all at `now`.
    fn fail(memory: &mut Memory, question: u128, failed: &Failure, now: u64) {
        let attempts = memory.begin(&topic(question), at(now));
        memory.failed(&topic(question), failed, (&attempts, at(now)), at(now));
        memory.end(&attempts);
    }

    #[test]
    fn unreachable_host_is_tried_by_one_call_at_a_time() {
        let mut memory = Memory::new(1 << 20);
        let down = failure(Kind::Unreachable, None);
        for question in 0..4 {
            fail(&mut memory, question, &down, 0);
            assert_eq!(
                verdict(&memory, question, 0),
                "clear",
                "fewer than five in a row, and no question of its own"
            );
        }
        fail(&mut memory, 9, &down, 0);
        assert_eq!((verdict(&memory, 1, 0).as_str(), memory.is_reachable()), ("refuse 1", false));
        let attempts = memory.begin(&topic(1), at(1));
        assert_eq!(verdict(&memory, 2, 1), "await");
        assert!(matches!(memory.verdict(&topic(1), &attempts, at(1)), Verdict::Clear));
        memory.failed(&topic(1), &down, (&attempts, at(1)), at(1));
        memory.end(&attempts);
        assert_eq!(verdict(&memory, 2, 1), "refuse 2");
        // One that set out before tells nothing new.
        memory.failed(&topic(3), &down, (&nobody(), at(0)), at(2));
        assert_eq!(verdict(&memory, 2, 3), "clear");
        memory.reached();
        assert!(memory.is_reachable());
        assert_eq!(verdict(&memory, 1, 3), "clear");
    }

    #[test]
    fn host_pauses_grow_to_half_a_minute() {
        let mut memory = Memory::new(1 << 20);
        let mut now = 0;
        for _ in 0..20 {
            fail(&mut memory, 1, &failure(Kind::ConnectTimedOut, None), now);
            now += 31;
            assert_eq!(verdict(&memory, 1, now), "clear");
        }
        assert!(
            matches!(verdict(&memory, 1, now - 17).as_str(), "clear" | "refuse 1")
                || verdict(&memory, 1, now - 31).starts_with("refuse")
        );
    }

    #[test]
    fn limit_holds_the_app_as_long_as_github_names() {
        let mut memory = Memory::new(1 << 20);
        fail(&mut memory, 1, &failure(Kind::RateLimited, Some(30)), 0);
        assert_eq!(
            (verdict(&memory, 2, 0), verdict(&memory, 2, 29), verdict(&memory, 2, 30)),
            ("refuse 30".into(), "refuse 1".into(), "clear".into())
        );
        // Neither a shorter limit nor an answer to a call from before shortens it.
        fail(&mut memory, 1, &failure(Kind::RateLimited, Some(600)), 31);
        fail(&mut memory, 1, &failure(Kind::RateLimited, Some(5)), 31);
        memory.accepted(&topic(1), at(30));
        assert_eq!(verdict(&memory, 2, 31), "refuse 600");
        memory.accepted(&topic(1), at(631));
        assert_eq!(memory.limited_until(&AppName::default(), at(31)), [None, None]);
    }

    #[test]
    fn limit_without_an_end_grows_from_a_minute_to_an_hour() {
        let (mut memory, mut now) = (Memory::new(1 << 20), 0);
        for expected in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            fail(&mut memory, 1, &failure(Kind::RateLimited, None), now);
            fail(&mut memory, 1, &failure(Kind::RateLimited, None), now);
            assert_eq!(verdict(&memory, 2, now), format!("refuse {expected}"));
            now += expected;
        }
    }

    #[test]
    fn refused_app_makes_single_attempts() {
        let mut memory = Memory::new(1 << 20);
        let refused = failure(Kind::AppRejected, None);
        fail(&mut memory, 1, &refused, 0);
        memory.failed(&topic(2), &refused, (&nobody(), at(0)), at(0));
        assert_eq!(verdict(&memory, 3, 0), "refuse 1", "one that was under way tells nothing new");
        let attempts = memory.begin(&topic(3), at(1));
        assert_eq!(verdict(&memory, 4, 1), "await");
        memory.end(&attempts);
        assert_eq!(verdict(&memory, 4, 1), "clear");
        let by_token = Topic { signed_by_app: false, ..topic(4) };
        assert!(matches!(memory.verdict(&by_token, &nobody(), at(0)), Verdict::Clear));
        fail(&mut memory, 4, &refused, 1);
        memory.retry_app(&AppName::default(), at(1));
        assert_eq!(verdict(&memory, 3, 1), "clear");
        memory.begin(&topic(3), at(1));
        assert_eq!(
            (verdict(&memory, 4, 5), verdict(&memory, 4, 6)),
            ("await".into(), "clear".into()),
            "none hangs for all"
        );
    }

    #[test]
    fn question_backoff_grows_to_a_minute_alone() {
        let (mut memory, mut now) = (Memory::new(1 << 20), 0);
        for longest in [1, 2, 4, 8, 16, 32, 60, 60] {
            fail(&mut memory, 2, &failure(Kind::Unavailable, None), now);
            let left: u64 = verdict(&memory, 2, now).trim_start_matches("refuse ").parse().unwrap();
            assert!((longest / 2..=longest).contains(&left), "{left} of {longest}");
            assert_eq!(verdict(&memory, 4, now), "clear", "of the same installation");
            now += 60;
        }
        assert!(memory.is_suspect(&topic(2)) && !memory.is_suspect(&topic(4)));
        fail(&mut memory, 2, &failure(Kind::Unavailable, Some(600)), now);
        assert_eq!(verdict(&memory, 2, now), "refuse 600");
        memory.succeeded(&topic(2), at(0));
        assert!(verdict(&memory, 2, now) == "clear" && !memory.is_suspect(&topic(2)));
    }

    #[test]
    fn unknown_name_is_asked_again_after_30_s() {
        let mut memory = Memory::new(1 << 20);
        let look_up = Topic { installation: None, ..topic(1) };
        let unknown = failure(Kind::NotFound, Some(30));
        for now in [0, 30, 60] {
            let attempts = memory.begin(&look_up, at(now));
            memory.failed(&look_up, &unknown, (&attempts, at(now)), at(now));
            assert_eq!(verdict(&memory, 1, now), "refuse 30");
        }
    }

    #[test]
    fn gone_installation_blocks_all_its_questions() {
        let mut memory = Memory::new(1 << 20);
        fail(&mut memory, 2, &failure(Kind::Suspended, None), 0);
        assert_eq!((verdict(&memory, 4, 0), verdict(&memory, 3, 0)), ("refuse 1".into(), "clear".into()));
        let attempts = memory.begin(&topic(4), at(5));
        assert_eq!(verdict(&memory, 6, 5), "await", "one at a time finds out");
        memory.end(&attempts);
        assert!(memory.is_suspect(&topic(6)));
        memory.succeeded(&topic(4), at(0));
        assert!(!memory.is_suspect(&topic(6)));
    }

    #[test]
    fn answer_to_a_question_shows_that_its_installation_is_there() {
        let mut memory = Memory::new(1 << 20);
        fail(&mut memory, 2, &failure(Kind::Suspended, None), 0);
        assert!(!memory.installation_exists(1_000_000), "it is suspended all the same");
        fail(&mut memory, 4, &failure(Kind::ScopeRefused, None), 5);
        assert_eq!((verdict(&memory, 2, 5), verdict(&memory, 4, 5)), ("clear".into(), "refuse 1".into()));
        fail(&mut memory, 2, &failure(Kind::Gone, None), 10);
        assert!(memory.installation_exists(1_000_000) && !memory.installation_exists(1_000_000));
        assert_eq!(verdict(&memory, 2, 10), "clear");
    }

    #[test]
    fn forgotten_refusals_leave_transient_failures() {
        let mut memory = Memory::new(1 << 20);
        fail(&mut memory, 1, &failure(Kind::ScopeRefused, None), 0);
        fail(&mut memory, 2, &failure(Kind::Unavailable, None), 0);
        let under_way = memory.begin(&topic(3), at(0));
        memory.forget_refusals();
        assert_eq!((verdict(&memory, 1, 0), verdict(&memory, 2, 0)), ("clear".into(), "refuse 1".into()));
        memory.failed(&topic(3), &failure(Kind::ScopeRefused, None), (&under_way, at(0)), at(0));
        assert_eq!(verdict(&memory, 3, 0), "clear", "an answer from before");
    }

    #[test]
    fn hung_question_makes_its_subject_suspect() {
        let mut memory = Memory::new(1 << 20);
        let of_owner = |question| Topic { installation: None, subject: 7, ..topic(question) };
        memory.failed(&of_owner(1), &failure(Kind::TimedOut, None), (&nobody(), at(0)), at(0));
        assert!(memory.is_suspect(&of_owner(2)) && !memory.is_suspect(&topic(2)));
        assert_eq!(verdict(&memory, 2, 0), "clear");
        memory.succeeded(&of_owner(2), at(0));
        assert!(!memory.is_suspect(&of_owner(3)));
    }

    #[test]
    fn lack_of_descriptors_is_nobodys_failure() {
        let mut memory = Memory::new(1 << 20);
        (0..10).for_each(|_| fail(&mut memory, 1, &failure(Kind::NoResources, None), 0));
        assert!(memory.is_reachable() && memory.len() == 0);
    }

    proptest! {
        #[test]
        fn full_memory_keeps_the_latest_failures(
            questions in proptest::collection::vec((0u128..300, any::<bool>()), 1..800),
        ) {
            let mut memory = Memory::new(20 * ENTRY_BYTES);
            for (now, (question, succeeds)) in questions.iter().enumerate() {
                if *succeeds {
                    memory.succeeded(&topic(*question), at(0));
                } else {
                    fail(&mut memory, *question, &failure(Kind::Unavailable, None), now as u64);
                    prop_assert!(memory.is_suspect(&topic(*question)));
                }
                prop_assert!(memory.bytes <= memory.max_bytes);
                prop_assert_eq!(memory.bytes, memory.known.values().map(Backoff::size).sum::<usize>());
                prop_assert_eq!(memory.order.len(), memory.known.len());
            }
        }
    }
}
