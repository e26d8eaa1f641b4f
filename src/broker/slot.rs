//! What is in hand for one key: the token in service, and the renewed one that will take its place. Pure.
//!
//! GitHub's replicas lag, so that a token that has just been minted may be refused where it is used. That is why a
//! renewed one first waits: until it is `cache.settle` old, or the old one no longer serves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::freshness::{State, Windows, assess};
use super::request::Age;
use super::{Entry, TokenHash};
use crate::clock::BootTime;

/// A key's tokens. Replaced as a whole when one of them is; only when it was last asked for changes in place.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    current: Arc<Entry>,
    successor: Option<Arc<Entry>>,
    asked: Arc<Mutex<BootTime>>,
}

/// The time, and what it is measured by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: BootTime,
    pub(super) windows: Windows,
    /// Age at which GitHub's replicas can be taken to know a token.
    pub(super) settle: Duration,
}

impl Moment {
    /// How good a token is. One that was rejected is handed out only if no other can be had.
    pub(super) fn state(&self, entry: &Entry) -> State {
        match assess(&entry.life, self.now, &self.windows) {
            State::Fresh | State::Renewing if entry.rejected => State::Stale,
            state => state,
        }
    }

    /// How long until `entry` is known to GitHub's replicas.
    fn unsettled_for(&self, entry: &Entry) -> Duration {
        entry.life.settles_after(self.settle).saturating_sub(entry.life.known_for(self.now))
    }

    fn serves(&self, entry: &Entry) -> bool {
        matches!(self.state(entry), State::Fresh | State::Renewing)
    }

    fn is_alive(&self, entry: &Entry) -> bool {
        self.state(entry) != State::Dead
    }

    /// Whether a caller who demands this takes it.
    pub(super) fn is_young_enough(&self, entry: &Entry, age: Age) -> bool {
        match age {
            Age::Any => true,
            // Nobody shall keep for an hour what a caller has shown to be dead.
            Age::JustMinted => entry.life.has_just_begun(self.now) && !entry.rejected,
            Age::LivesFor(life) => entry.life.remaining(self.now) >= life,
        }
    }
}

impl Slot {
    /// The first token of a key, asked for at `now`.
    pub(super) fn new(entry: Arc<Entry>, now: BootTime) -> Self {
        Self { current: entry, successor: None, asked: Arc::new(Mutex::new(now)) }
    }

    /// The token in service: the renewed one as soon as it has settled, or the old one no longer serves.
    pub(super) fn in_service(&self, at: &Moment) -> &Arc<Entry> {
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
    pub(super) fn settling(&self, at: &Moment) -> Option<(&Arc<Entry>, Duration)> {
        let new = self.successor.as_ref().filter(|new| !Arc::ptr_eq(new, self.in_service(at)))?;
        Some((new, at.unsettled_for(new)))
    }

    /// The token that a caller gets at once.
    pub(super) fn at_once(&self, age: Age, at: &Moment) -> Option<Arc<Entry>> {
        self.candidates(at).find(|entry| at.serves(entry) && at.is_young_enough(entry, age)).cloned()
    }

    /// The token that a caller gets if no better one can be had.
    pub(super) fn in_need(&self, age: Age, at: &Moment) -> Option<Arc<Entry>> {
        self.candidates(at).find(|entry| at.is_alive(entry) && at.is_young_enough(entry, age)).cloned()
    }

    /// The token that was minted last.
    pub(super) fn youngest(&self) -> &Arc<Entry> {
        self.successor.as_ref().unwrap_or(&self.current)
    }

    /// The token with this hash, if it is one that callers have.
    pub(super) fn handed_out(&self, hash: TokenHash, at: &Moment) -> Option<&Arc<Entry>> {
        self.candidates(at).find(|entry| entry.hash == hash && !entry.rejected && at.is_alive(entry))
    }

    /// Whether a token with this hash is here, in service or not.
    pub(super) fn has(&self, hash: TokenHash) -> bool {
        self.current.hash == hash || self.successor.as_ref().is_some_and(|new| new.hash == hash)
    }

    /// Notes that the key was asked for.
    pub(super) fn note_asked(&self, now: BootTime) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// When the key was last asked for.
    pub(super) fn asked(&self) -> BootTime {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a mint: the new token waits while the one in service serves, else it takes its place.
    pub(super) fn with(&self, minted: Arc<Entry>, at: &Moment) -> Self {
        let old = self.in_service(at);
        if at.serves(old) {
            return Self { current: Arc::clone(old), successor: Some(minted), ..self.clone() };
        }
        Self { current: minted, successor: None, ..self.clone() }
    }

    /// Without the token that has been replaced. `None`: none has.
    pub(super) fn without_the_replaced(&self, at: &Moment) -> Option<Self> {
        let in_service = self.in_service(at);
        let replaced = !Arc::ptr_eq(in_service, &self.current);
        replaced.then(|| Self { current: Arc::clone(in_service), successor: None, ..self.clone() })
    }

    /// After callers have shown that a token no longer works: the renewed one is in service at once. Without one, the
    /// token stays for need.
    pub(super) fn rejecting(&self, hash: TokenHash, at: &Moment) -> Self {
        let slot = self.without_the_replaced(at).unwrap_or_else(|| self.clone());
        match &slot.successor {
            None if slot.current.hash == hash => {
                let rejected = Entry { rejected: true, ..(*slot.current).clone() };
                Self { current: Arc::new(rejected), ..slot }
            }
            _ => slot.without(hash).unwrap_or(slot),
        }
    }

    /// After GitHub has granted something else: the next caller waits for a token of that, and what is in hand stays for
    /// need. `None`: there is nothing that lives, or only what was asked for after that, or is on its way out already.
    pub(super) fn outdated(&self, at: &Moment) -> Option<Self> {
        let youngest = self.entries().filter(|entry| at.is_alive(entry)).last()?;
        let current = match youngest.life.began_by(at.now) {
            true if !youngest.rejected => Arc::new(Entry { rejected: true, ..(**youngest).clone() }),
            false if self.successor.is_some() => Arc::clone(youngest),
            _ => return None,
        };
        Some(Self { current, successor: None, ..self.clone() })
    }

    /// Without the token that has this hash; `None` if it was the only one.
    pub(super) fn without(&self, hash: TokenHash) -> Option<Self> {
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
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        std::iter::once(&self.current).chain(&self.successor)
    }

    /// The tokens that may be handed out, the one in service first.
    fn candidates(&self, at: &Moment) -> impl Iterator<Item = &Arc<Entry>> {
        let settling = self.settling(at).map(|(entry, _)| entry);
        std::iter::once(self.in_service(at)).chain(settling)
    }
}

#[cfg(test)]
pub(super) mod tests {
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
        })
    }

    /// With the default windows.
    pub(in crate::broker) fn moment(now: u64) -> Moment {
        let windows = Windows {
            renew_before: Duration::from_secs(600),
            min_validity: Duration::from_secs(300),
            grace: Duration::from_secs(30),
        };
        Moment { now: BootTime::new(Duration::from_secs(now)), windows, settle: Duration::from_secs(5) }
    }

    fn hash(entry: Option<Arc<Entry>>) -> Option<TokenHash> {
        entry.map(|entry| entry.hash)
    }

    fn is(hash: u8) -> Option<TokenHash> {
        Some(TokenHash::new([hash; 32]))
    }

    /// An old token, and one that was minted at second 3000 of its life.
    fn renewed() -> Slot {
        Slot::new(entry(1, 0, 3600), BootTime::new(Duration::ZERO)).with(entry(2, 3000, 3600), &moment(3000))
    }

    #[test]
    fn the_old_one_serves_until_the_new_one_has_settled() {
        let slot = renewed();
        for (now, expected) in [(3000, 1), (3004, 1), (3005, 2), (6000, 2)] {
            assert_eq!(hash(slot.at_once(Age::Any, &moment(now))), is(expected), "{now}");
            assert_eq!(slot.settling(&moment(now)).is_some(), expected == 1);
            assert_eq!(slot.without_the_replaced(&moment(now)).is_some(), expected == 2);
        }
    }

    #[test]
    fn whom_the_old_one_does_not_satisfy_gets_the_one_that_settles() {
        let slot = renewed();
        let at = moment(3001);
        assert_eq!(hash(slot.at_once(Age::LivesFor(Duration::from_secs(590)), &at)), is(1));
        assert_eq!(hash(slot.at_once(Age::LivesFor(Duration::from_secs(600)), &at)), is(2));
        assert_eq!(hash(slot.at_once(Age::LivesFor(Duration::from_secs(3599)), &at)), None);
        assert_eq!(hash(slot.at_once(Age::JustMinted, &at)), is(2));
        assert_eq!(hash(slot.at_once(Age::JustMinted, &moment(3060))), None);
    }

    #[test]
    fn a_token_that_does_not_serve_is_replaced_at_once() {
        for now in [3301, 3590, 4000] {
            let slot = Slot::new(entry(1, 0, 3600), BootTime::new(Duration::ZERO));
            let slot = slot.with(entry(2, now, 3600), &moment(now));
            assert_eq!(
                (hash(slot.at_once(Age::Any, &moment(now))), slot.entries().count()),
                (is(2), 1),
                "{now}"
            );
        }
        let slot = Slot::new(entry(1, 0, 3600), BootTime::new(Duration::ZERO));
        let at = moment(3000);
        let rejected = slot.rejecting(entry(1, 0, 1).hash, &at);
        assert_eq!(
            (hash(rejected.at_once(Age::Any, &at)), hash(rejected.in_need(Age::Any, &at))),
            (None, is(1))
        );
        assert_eq!(hash(rejected.with(entry(2, 3000, 3600), &at).at_once(Age::Any, &at)), is(2));
    }

    #[test]
    fn a_rejection_puts_the_one_that_settles_into_service_and_never_the_old_one() {
        let slot = renewed();
        let [old, new] = [1, 2].map(|hash| TokenHash::new([hash; 32]));
        assert_eq!(hash(slot.rejecting(old, &moment(3001)).at_once(Age::Any, &moment(3001))), is(2));
        assert_eq!(hash(slot.rejecting(new, &moment(3001)).at_once(Age::Any, &moment(3001))), is(1));
        // Once it has settled, the old one is no way back.
        let rejected = slot.rejecting(new, &moment(3010));
        assert_eq!(hash(rejected.at_once(Age::Any, &moment(3010))), None);
        assert_eq!(hash(rejected.in_need(Age::Any, &moment(3010))), is(2));
        assert_eq!(hash(slot.rejecting(old, &moment(3010)).at_once(Age::Any, &moment(3010))), is(2));
        assert!(
            slot.handed_out(old, &moment(3010)).is_none() && slot.handed_out(new, &moment(3001)).is_some()
        );
        assert!(slot.without(old).and_then(|slot| slot.without(new)).is_none());
    }

    #[test]
    fn what_is_outdated_is_the_youngest_if_it_lives_and_had_begun_by_then() {
        let outdated = renewed().outdated(&moment(3001)).unwrap();
        assert_eq!(hash(outdated.at_once(Age::Any, &moment(3001))), None);
        assert_eq!((hash(outdated.in_need(Age::Any, &moment(3001))), outdated.entries().count()), (is(2), 1));
        assert!(outdated.outdated(&moment(3002)).is_none(), "once is enough");
        let later = renewed().outdated(&moment(2999)).unwrap();
        assert_eq!(hash(later.at_once(Age::Any, &moment(3000))), is(2), "it was asked for after that");
        assert!(later.outdated(&moment(2999)).is_none());
        let short = Slot::new(entry(1, 0, 3600), BootTime::new(Duration::ZERO));
        let short = short.with(entry(2, 60, 2), &moment(60)).outdated(&moment(63)).unwrap();
        assert_eq!(hash(short.at_once(Age::Any, &moment(63))), None, "the one that lives is in service");
        assert!(renewed().outdated(&moment(6600)).is_none(), "it is dead");
    }

    #[test]
    fn when_a_key_was_asked_for_outlives_its_tokens() {
        let slot = renewed();
        let later = slot.without_the_replaced(&moment(3010)).unwrap();
        slot.note_asked(BootTime::new(Duration::from_secs(3011)));
        assert_eq!(later.asked(), BootTime::new(Duration::from_secs(3011)));
    }

    proptest! {
        #[test]
        fn no_dead_token_is_handed_out_and_no_live_one_withheld(
            first in 2u64..7200, second in 2u64..7200, minted in 0u64..7200, now in 0u64..15_000, settle in 0u64..600,
        ) {
            let now = minted + now;
            let at = |now| Moment { settle: Duration::from_secs(settle), ..moment(now) };
            let slot = Slot::new(entry(1, 0, first), BootTime::new(Duration::ZERO));
            let slot = slot.with(entry(2, minted, second), &at(minted));
            let at = at(now);
            let alive = |entry: &Entry| at.state(entry) != State::Dead;
            let at_once = slot.at_once(Age::Any, &at);
            let in_need = slot.in_need(Age::Any, &at);
            prop_assert!(at_once.as_deref().is_none_or(|entry| at.serves(entry)));
            prop_assert!(in_need.as_deref().is_none_or(alive));
            prop_assert!(at_once.is_none() || in_need.is_some());
            // What lives can be had.
            let any = slot.entries().any(|entry| alive(entry));
            prop_assert_eq!(any, in_need.is_some());
        }
    }
}
