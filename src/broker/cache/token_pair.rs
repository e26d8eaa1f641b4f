//! What is in hand for one key: the token in service, and the renewed one that will take its place. Pure.
//!
//! GitHub's replicas lag, so that a token that has just been minted may be refused where it is used. That is why a
//! renewed one first waits: until it is `cache.settle` old, or the old one no longer serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::broker::cache::schedule::{Line, SlotId};
use crate::broker::cache::{entry::Entry, hash::TokenHash};
use crate::broker::freshness::{State, Windows, assess};
use crate::broker::invalidation::log::{Sequence, Validity};
use crate::broker::refresh::step::pause_after;
use crate::broker::request::Requirement;
use crate::clock::BootTime;
use crate::flight::Requester;
use crate::model::Priority;

/// A key's tokens. Replaced as a whole when one of them is; only its use changes in place.
#[derive(Debug, Clone)]
pub(in crate::broker) struct Slot {
    id: SlotId,
    current: Arc<Entry>,
    successor: Option<Arc<Entry>>,
    usage: Arc<Usage>,
    checked: Checked,
}

/// What callers and the sweep do with a key, whichever tokens it has.
#[derive(Debug, Default)]
struct Usage {
    /// Milliseconds since boot.
    last_used: AtomicU64,
    /// Whether the schedule has left it alone because nobody used it.
    idle: AtomicBool,
    /// Mints in a row that failed.
    failures: AtomicU32,
    /// Milliseconds since boot before which it is not refreshed: the last mint failed.
    not_before: AtomicU64,
}

/// Up to which number its tokens are known not to be invalidated.
#[derive(Debug)]
struct Checked(AtomicU64);

impl Clone for Checked {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Acquire)))
    }
}

/// What invalidations have left of a slot.
#[derive(Debug)]
pub(in crate::broker) enum Validated {
    /// All of it, as it is.
    Unchanged,
    /// Another one.
    Changed(Slot),
    /// Nothing.
    Revoked,
}

/// The time, and what it is measured by.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct AsOf {
    pub(in crate::broker) now: BootTime,
    pub(in crate::broker) windows: Windows,
    /// Age at which GitHub's replicas can be taken to know a token.
    pub(in crate::broker) settle: Duration,
}

impl AsOf {
    /// How good a token is. One that was rejected is handed out only if no other can be had.
    pub(in crate::broker) fn state(&self, entry: &Entry) -> State {
        match assess(&entry.life, self.now, &self.windows) {
            State::Fresh | State::Renewing if entry.rejected => State::Stale,
            state => state,
        }
    }

    /// How long until `entry` is known to GitHub's replicas.
    fn unsettled_for(&self, entry: &Entry) -> Duration {
        entry.life.settle_time(self.settle).saturating_sub(entry.life.age_since_received(self.now))
    }

    /// On what account it is refreshed: one that no longer serves is urgent.
    pub(in crate::broker) fn refresh_of(&self, entry: &Entry) -> Requester {
        let priority = if self.serves(entry) { Priority::Ahead } else { Priority::InUse };
        Requester::background(priority, Some(self.now.plus(entry.life.remaining(self.now))))
    }

    fn serves(&self, entry: &Entry) -> bool {
        matches!(self.state(entry), State::Fresh | State::Renewing)
    }

    fn is_alive(&self, entry: &Entry) -> bool {
        self.state(entry) != State::Dead
    }

    /// Whether a caller who demands this takes it.
    pub(in crate::broker) fn satisfies(&self, entry: &Entry, age: Requirement) -> bool {
        match age {
            Requirement::Any => true,
            // Nobody shall keep for an hour what a caller has shown to be dead.
            Requirement::RecentlyMinted => entry.life.is_just_minted(self.now) && !entry.rejected,
            Requirement::MinTtl(life) => entry.life.remaining(self.now) >= life,
        }
    }
}

impl Slot {
    /// The first token of a key, asked for at `now`.
    pub(in crate::broker) fn new(id: SlotId, entry: Arc<Entry>, now: BootTime) -> Self {
        let usage = Usage { last_used: AtomicU64::new(millis(now)), ..Usage::default() };
        let checked = Checked(AtomicU64::new(0));
        Self { id, current: entry, successor: None, usage: Arc::new(usage), checked }
    }

    /// Its number in the indexes.
    pub(in crate::broker) fn id(&self) -> SlotId {
        self.id
    }

    /// The token in service: the renewed one as soon as it has settled, or the old one no longer serves.
    pub(in crate::broker) fn in_service(&self, at: &AsOf) -> &Arc<Entry> {
        match &self.successor {
            Some(new)
                if at.is_alive(new) && (at.unsettled_for(new).is_zero() || !at.serves(&self.current)) =>
            {
                new
            }
            _ => &self.current,
        }
    }

    /// The renewed token that is not in service yet, and after what time it is.
    pub(in crate::broker) fn settling(&self, at: &AsOf) -> Option<(&Arc<Entry>, Duration)> {
        let new = self.successor.as_ref().filter(|new| !Arc::ptr_eq(new, self.in_service(at)))?;
        Some((new, at.unsettled_for(new)))
    }

    /// The token that a caller gets at once.
    pub(in crate::broker) fn fresh_enough(&self, age: Requirement, at: &AsOf) -> Option<Arc<Entry>> {
        self.candidates(at).find(|entry| at.serves(entry) && at.satisfies(entry, age)).cloned()
    }

    /// The token that a caller gets if no better one can be had.
    pub(in crate::broker) fn fallback(&self, age: Requirement, at: &AsOf) -> Option<Arc<Entry>> {
        self.candidates(at).find(|entry| at.is_alive(entry) && at.satisfies(entry, age)).cloned()
    }

    /// The token that was minted last.
    pub(in crate::broker) fn youngest(&self) -> &Arc<Entry> {
        self.successor.as_ref().unwrap_or(&self.current)
    }

    /// The token with this hash, if it is one that callers have.
    pub(in crate::broker) fn handed_out(&self, hash: TokenHash, at: &AsOf) -> Option<&Arc<Entry>> {
        self.candidates(at).find(|entry| entry.hash == hash && at.is_alive(entry))
    }

    /// Whether a token with this hash is here, in service or not.
    pub(in crate::broker) fn has(&self, hash: TokenHash) -> bool {
        self.current.hash == hash || self.successor.as_ref().is_some_and(|new| new.hash == hash)
    }

    /// Notes that the key was asked for.
    pub(in crate::broker) fn note_used(&self, now: BootTime) {
        self.usage.last_used.store(millis(now), Ordering::Relaxed);
    }

    /// When the key was last asked for.
    pub(in crate::broker) fn last_used(&self) -> BootTime {
        BootTime::new(Duration::from_millis(self.usage.last_used.load(Ordering::Relaxed)))
    }

    /// Notes that a mint failed at `now`, and is tried again after `wait`, or ever later.
    pub(in crate::broker) fn note_failed(&self, wait: Option<Duration>, now: BootTime) {
        let failures = self.usage.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let until = now.plus(wait.unwrap_or_else(|| pause_after(failures)));
        self.usage.not_before.store(millis(until), Ordering::Relaxed);
    }

    /// Notes that no mint is to be tried before that.
    pub(in crate::broker) fn put_off(&self, until: BootTime) {
        self.usage.not_before.store(millis(until), Ordering::Relaxed);
    }

    /// Notes that a mint succeeded.
    pub(in crate::broker) fn note_minted(&self) {
        self.usage.failures.store(0, Ordering::Relaxed);
        self.usage.not_before.store(0, Ordering::Relaxed);
    }

    /// Where it waits for a refresh.
    pub(in crate::broker) fn line(&self) -> Line {
        if self.usage.failures.load(Ordering::Relaxed) > 0 { Line::Suspect } else { Line::Usual }
    }

    /// Before this it is not refreshed.
    pub(in crate::broker) fn not_before(&self) -> BootTime {
        BootTime::new(Duration::from_millis(self.usage.not_before.load(Ordering::Relaxed)))
    }

    /// Notes whether the schedule leaves the key alone because nobody uses it. Whether it did before.
    pub(in crate::broker) fn set_idle(&self, idle: Idle) -> Idle {
        let before = self.usage.idle.swap(idle == Idle::LeftAlone, Ordering::AcqRel);
        if before { Idle::LeftAlone } else { Idle::Scheduled }
    }

    /// When none of its tokens can be handed out any more.
    pub(in crate::broker) fn end(&self, windows: &Windows) -> BootTime {
        let ends = self.entries().map(|entry| entry.life.end(windows));
        ends.max().unwrap_or(BootTime::new(Duration::ZERO))
    }

    /// When it is to be looked at next, if it is in use: its successor enters service, or its token is to be renewed.
    pub(in crate::broker) fn next_event(&self, at: &AsOf) -> BootTime {
        if let Some((_, wait)) = self.settling(at) {
            return at.now.plus(wait).min(self.current.life.stops_serving(&at.windows));
        }
        let entry = self.in_service(at);
        if entry.rejected { self.end(&at.windows) } else { entry.renew_at }
    }

    /// Whether nothing was invalidated since it was last checked: `latest` is the latest number.
    pub(in crate::broker) fn is_checked(&self, latest: Sequence) -> bool {
        self.checked.0.load(Ordering::Acquire) == latest.get()
    }

    /// Notes that its tokens are as valid as they say, up to this number.
    pub(in crate::broker) fn set_checked(&self, latest: Sequence) {
        self.checked.0.store(latest.get(), Ordering::Release);
    }

    /// What is left of it. Tokens that are revoked are gone; of those that are stale the youngest stays for need, and one
    /// whose mint began later takes its place at once.
    pub(in crate::broker) fn validated(&self, validity: impl Fn(&Entry) -> Validity, at: &AsOf) -> Validated {
        let judged: Vec<_> = self.entries().map(|entry| (entry, validity(entry))).collect();
        let is_new = |(entry, validity): &(&Arc<Entry>, Validity)| match validity {
            Validity::Valid => false,
            Validity::Stale => !entry.rejected,
            Validity::Revoked => true,
        };
        if !judged.iter().any(is_new) {
            return Validated::Unchanged;
        }
        let is_stale = judged.iter().any(|(_, validity)| *validity == Validity::Stale);
        let left = judged.into_iter().filter(|(_, validity)| *validity != Validity::Revoked);
        let left: Vec<_> = left.collect();
        let youngest = left.iter().rfind(|(entry, _)| at.is_alive(entry)).or(left.last());
        let Some((youngest, validity)) = youngest else { return Validated::Revoked };
        if !is_stale {
            let current = left.first().map_or_else(|| Arc::clone(youngest), |(entry, _)| Arc::clone(entry));
            let successor = left.get(1).map(|(entry, _)| Arc::clone(entry));
            return Validated::Changed(Self { current, successor, ..self.clone() });
        }
        let current = match validity {
            Validity::Stale => Arc::new(Entry { rejected: true, ..(***youngest).clone() }),
            _ => Arc::clone(youngest),
        };
        Validated::Changed(Self { current, successor: None, ..self.clone() })
    }

    /// After a mint: the new token waits while the one in service serves, else it takes its place.
    pub(in crate::broker) fn with(&self, minted: Arc<Entry>, at: &AsOf) -> Self {
        let old = self.in_service(at);
        if at.serves(old) {
            return Self { current: Arc::clone(old), successor: Some(minted), ..self.clone() };
        }
        Self { current: minted, successor: None, ..self.clone() }
    }

    /// Without the token that has been replaced. `None`: none has.
    pub(in crate::broker) fn without_superseded(&self, at: &AsOf) -> Option<Self> {
        let in_service = self.in_service(at);
        let replaced = !Arc::ptr_eq(in_service, &self.current);
        replaced.then(|| Self { current: Arc::clone(in_service), successor: None, ..self.clone() })
    }

    /// After callers have shown that a token no longer works: the renewed one is in service at once. Without one, the
    /// token stays for need.
    pub(in crate::broker) fn rejecting(&self, hash: TokenHash, at: &AsOf) -> Self {
        let slot = self.without_superseded(at).unwrap_or_else(|| self.clone());
        match &slot.successor {
            None if slot.current.hash == hash => {
                let rejected = Entry { rejected: true, ..(*slot.current).clone() };
                Self { current: Arc::new(rejected), ..slot }
            }
            _ => slot.without(hash).unwrap_or(slot),
        }
    }

    /// Without the token that has this hash; `None` if it was the only one.
    pub(in crate::broker) fn without(&self, hash: TokenHash) -> Option<Self> {
        match &self.successor {
            Some(new) if new.hash == hash => Some(Self { successor: None, ..self.clone() }),
            Some(new) if self.current.hash == hash => {
                Some(Self { current: Arc::clone(new), successor: None, ..self.clone() })
            }
            None if self.current.hash == hash => None,
            _ => Some(self.clone()),
        }
    }

    /// All tokens here, also one that has been replaced.
    pub(in crate::broker) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        std::iter::once(&self.current).chain(&self.successor)
    }

    /// Whether a token that may be handed out is left.
    pub(in crate::broker) fn is_alive(&self, at: &AsOf) -> bool {
        self.candidates(at).any(|entry| at.is_alive(entry))
    }

    /// The tokens that may be handed out, the one in service first.
    fn candidates(&self, at: &AsOf) -> impl Iterator<Item = &Arc<Entry>> {
        let settling = self.settling(at).map(|(entry, _)| entry);
        std::iter::once(self.in_service(at)).chain(settling)
    }
}

/// Whether a key is looked at ahead of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Idle {
    /// It is: its next event is scheduled.
    Scheduled,
    /// It is not, for nobody uses it.
    LeftAlone,
}

fn millis(time: BootTime) -> u64 {
    u64::try_from(time.since(BootTime::new(Duration::ZERO)).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(in crate::broker) mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::broker::Bodies;
    use crate::broker::freshness::Life;
    use crate::model::{Grant, InstallationToken, Minted, Secret};

    /// A token that is known by `hash`, asked for at `sent`, and lives so long, in seconds.
    pub(in crate::broker) fn entry(hash: u8, sent: u64, lifetime: u64) -> Arc<Entry> {
        let token = InstallationToken {
            secret: Secret::from("t".to_owned()),
            expires_at: String::new(),
            grant: Grant::default(),
            on_behalf_of: None,
            json: bytes::Bytes::new().into(),
        };
        let (sent, lifetime) = (BootTime::new(Duration::from_secs(sent)), Duration::from_secs(lifetime));
        let life = Life::of(&Minted { token: token.clone(), sent, landed: sent, lifetime });
        let bodies = Bodies { json: Bytes::new(), text: Bytes::new() };
        Arc::new(Entry {
            token,
            account: None,
            life,
            bodies,
            hash: TokenHash::new([hash; 32]),
            rejected: false,
            began: Sequence::default(),
            renew_at: renew_at(&life),
        })
    }

    /// The moment without jitter.
    fn renew_at(life: &Life) -> BootTime {
        life.has_left(moment(0).windows.renew_before.min(life.lifetime() / 3))
    }

    /// A key with this token alone.
    pub(in crate::broker) fn single(entry: Arc<Entry>, now: BootTime) -> Slot {
        Slot::new(SlotId(1), entry, now)
    }

    /// With the default windows.
    pub(in crate::broker) fn moment(now: u64) -> AsOf {
        let windows = Windows {
            renew_before: Duration::from_secs(600),
            min_validity: Duration::from_secs(300),
            grace: Duration::from_secs(30),
        };
        AsOf { now: BootTime::new(Duration::from_secs(now)), windows, settle: Duration::from_secs(5) }
    }

    fn hash(entry: Option<Arc<Entry>>) -> Option<TokenHash> {
        entry.map(|entry| entry.hash)
    }

    fn is(hash: u8) -> Option<TokenHash> {
        Some(TokenHash::new([hash; 32]))
    }

    /// An old token, and one that was minted at second 3000 of its life.
    fn renewed() -> Slot {
        single(entry(1, 0, 3600), BootTime::new(Duration::ZERO)).with(entry(2, 3000, 3600), &moment(3000))
    }

    #[test]
    fn the_old_one_serves_until_the_new_one_has_settled() {
        let slot = renewed();
        for (now, expected) in [(3000, 1), (3004, 1), (3005, 2), (6000, 2)] {
            assert_eq!(hash(slot.fresh_enough(Requirement::Any, &moment(now))), is(expected), "{now}");
            assert_eq!(slot.settling(&moment(now)).is_some(), expected == 1);
            assert_eq!(slot.without_superseded(&moment(now)).is_some(), expected == 2);
        }
    }

    #[test]
    fn unsettled_token_served_when_current_too_old() {
        let slot = renewed();
        let at = moment(3001);
        assert_eq!(hash(slot.fresh_enough(Requirement::MinTtl(Duration::from_secs(590)), &at)), is(1));
        assert_eq!(hash(slot.fresh_enough(Requirement::MinTtl(Duration::from_secs(600)), &at)), is(2));
        assert_eq!(hash(slot.fresh_enough(Requirement::MinTtl(Duration::from_secs(3599)), &at)), None);
        assert_eq!(hash(slot.fresh_enough(Requirement::RecentlyMinted, &at)), is(2));
        assert_eq!(hash(slot.fresh_enough(Requirement::RecentlyMinted, &moment(3060))), None);
    }

    #[test]
    fn a_token_that_does_not_serve_is_replaced_at_once() {
        for now in [3301, 3590, 4000] {
            let slot = single(entry(1, 0, 3600), BootTime::new(Duration::ZERO));
            let slot = slot.with(entry(2, now, 3600), &moment(now));
            assert_eq!(
                (hash(slot.fresh_enough(Requirement::Any, &moment(now))), slot.entries().count()),
                (is(2), 1),
                "{now}"
            );
        }
        let slot = single(entry(1, 0, 3600), BootTime::new(Duration::ZERO));
        let at = moment(3000);
        let rejected = slot.rejecting(entry(1, 0, 1).hash, &at);
        assert_eq!(
            (
                hash(rejected.fresh_enough(Requirement::Any, &at)),
                hash(rejected.fallback(Requirement::Any, &at))
            ),
            (None, is(1))
        );
        assert_eq!(hash(rejected.with(entry(2, 3000, 3600), &at).fresh_enough(Requirement::Any, &at)), is(2));
    }

    #[test]
    fn rejection_promotes_the_settling_token() {
        let slot = renewed();
        let [old, new] = [1, 2].map(|hash| TokenHash::new([hash; 32]));
        assert_eq!(
            hash(slot.rejecting(old, &moment(3001)).fresh_enough(Requirement::Any, &moment(3001))),
            is(2)
        );
        assert_eq!(
            hash(slot.rejecting(new, &moment(3001)).fresh_enough(Requirement::Any, &moment(3001))),
            is(1)
        );
        // Once it has settled, the old one is no way back.
        let rejected = slot.rejecting(new, &moment(3010));
        assert_eq!(hash(rejected.fresh_enough(Requirement::Any, &moment(3010))), None);
        assert_eq!(hash(rejected.fallback(Requirement::Any, &moment(3010))), is(2));
        assert_eq!(
            hash(slot.rejecting(old, &moment(3010)).fresh_enough(Requirement::Any, &moment(3010))),
            is(2)
        );
        assert!(
            slot.handed_out(old, &moment(3010)).is_none() && slot.handed_out(new, &moment(3001)).is_some()
        );
        assert!(slot.without(old).and_then(|slot| slot.without(new)).is_none());
    }

    /// What is left once tokens 1 and 2 are worth so much.
    fn left(slot: &Slot, worth: [Validity; 2], now: u64) -> Option<Slot> {
        let validity = |entry: &Entry| if Some(entry.hash) == is(1) { worth[0] } else { worth[1] };
        match slot.validated(validity, &moment(now)) {
            Validated::Unchanged => Some(slot.clone()),
            Validated::Changed(slot) => Some(slot),
            Validated::Revoked => None,
        }
    }

    #[test]
    fn stale_slot_keeps_youngest_live_token_as_fallback() {
        let stale = left(&renewed(), [Validity::Stale; 2], 3001).unwrap();
        assert_eq!(hash(stale.fresh_enough(Requirement::Any, &moment(3001))), None);
        assert_eq!(
            (hash(stale.fallback(Requirement::Any, &moment(3001))), stale.entries().count()),
            (is(2), 1)
        );
        let again = stale.validated(|_| Validity::Stale, &moment(3002));
        assert!(matches!(again, Validated::Unchanged), "once is enough");
        let short = single(entry(1, 0, 3600), BootTime::new(Duration::ZERO));
        let short = left(&short.with(entry(2, 60, 2), &moment(60)), [Validity::Stale; 2], 63).unwrap();
        assert_eq!(hash(short.fallback(Requirement::Any, &moment(63))), is(1), "the other one is dead");
    }

    #[test]
    fn successor_minted_after_invalidation_serves_at_once() {
        for old in [Validity::Stale, Validity::Revoked] {
            let slot = left(&renewed(), [old, Validity::Valid], 3000).unwrap();
            assert_eq!(hash(slot.fresh_enough(Requirement::Any, &moment(3000))), is(2), "{old:?}");
            assert_eq!(slot.entries().count(), 1);
        }
    }

    #[test]
    fn revoked_tokens_leave_nothing() {
        assert!(left(&renewed(), [Validity::Revoked; 2], 3000).is_none());
        let slot = left(&renewed(), [Validity::Valid, Validity::Revoked], 3000).unwrap();
        assert_eq!(
            (hash(slot.fresh_enough(Requirement::Any, &moment(3000))), slot.entries().count()),
            (is(1), 1)
        );
    }

    #[test]
    fn when_a_key_was_asked_for_outlives_its_tokens() {
        let slot = renewed();
        let later = slot.without_superseded(&moment(3010)).unwrap();
        slot.note_used(BootTime::new(Duration::from_secs(3011)));
        assert_eq!(later.last_used(), BootTime::new(Duration::from_secs(3011)));
    }

    proptest! {
        #[test]
        fn every_live_token_is_served_until_it_expires(
            first in 2u64..7200, second in 2u64..7200, minted in 0u64..7200, now in 0u64..15_000, settle in 0u64..600,
        ) {
            let now = minted + now;
            let at = |now| AsOf { settle: Duration::from_secs(settle), ..moment(now) };
            let slot = single(entry(1, 0, first), BootTime::new(Duration::ZERO));
            let slot = slot.with(entry(2, minted, second), &at(minted));
            let at = at(now);
            let alive = |entry: &Entry| at.state(entry) != State::Dead;
            let at_once = slot.fresh_enough(Requirement::Any, &at);
            let in_need = slot.fallback(Requirement::Any, &at);
            prop_assert!(at_once.as_deref().is_none_or(|entry| at.serves(entry)));
            prop_assert!(in_need.as_deref().is_none_or(alive));
            prop_assert!(at_once.is_none() || in_need.is_some());
            // What lives can be had.
            let any = slot.entries().any(|entry| alive(entry));
            prop_assert_eq!(any, in_need.is_some());
        }
    }
}
