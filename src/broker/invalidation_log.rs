//! Invalidation log: what GitHub has invalidated, by sequence number instead of by time.
//!
//! Every mint and every look-up notes the latest number when it begins; every invalidation takes a later one. What began
//! before its scope's number is stale or revoked, as the next look at it shows. So no invalidation walks the cache, and
//! neither a tie of the clock nor an answer on its way gets past one.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::BootTime;
use crate::model::{AppName, InstallationId, TokenKey, UserId};

/// A position in the order of all mints, look-ups and invalidations of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sequence(u64);

impl Sequence {
    /// For an atomic.
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// What an invalidation is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum InvalidationScope {
    /// An installation, whatever the app: GitHub gives no two installations one number.
    Installation(InstallationId),
    /// An installation, as one app sees it: another app gets "not found" for it, which proves nothing.
    AppInstallation(AppName, InstallationId),
    /// The tokens of an installation that are for all of its repositories.
    Unnarrowed(InstallationId),
    /// The tokens on behalf of a user.
    User(UserId),
}

/// What an invalidation does to what began before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    /// Tokens are dropped.
    Revoke,
    /// GitHub would grant other tokens now: these are served only if no other can be minted.
    MarkStale,
    /// Cached look-ups are dropped.
    ForgetLookups,
}

/// Whether a token may be handed out, as far as invalidations go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Validity {
    /// As its life says.
    Valid,
    /// Only if no other can be minted.
    Stale,
    /// Never.
    Revoked,
}

/// The invalidations of this process. Bounded: the oldest are folded into a floor for every scope, which costs mints and
/// is never wrong.
#[derive(Debug, Default)]
pub(crate) struct InvalidationLog {
    latest: AtomicU64,
    /// The latest number that changed any look-up.
    latest_lookup: AtomicU64,
    /// The latest number that changed which installations there are.
    latest_installation: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    numbers: HashMap<(InvalidationScope, Effect), Sequence>,
    order: BTreeMap<Sequence, (InvalidationScope, Effect, BootTime)>,
    floors: HashMap<Effect, Sequence>,
}

impl InvalidationLog {
    /// What a mint or a look-up notes when it begins.
    pub(crate) fn latest(&self) -> Sequence {
        Sequence(self.latest.load(Ordering::SeqCst))
    }

    /// Everything of `scope` that has begun by now is subject to `effect`.
    pub(crate) fn note(&self, scope: InvalidationScope, effect: Effect, now: BootTime) {
        let mut log = self.log.lock();
        let number = self.advance();
        log.note((scope, effect), number, now);
        if effect == Effect::ForgetLookups {
            self.latest_lookup.store(number.0, Ordering::SeqCst);
            self.latest_installation.store(number.0, Ordering::SeqCst);
        }
    }

    /// Look-ups that have begun by now may bring an outdated answer. The caller drops the cached ones.
    pub(crate) fn note_lookup_change(&self) {
        let _log = self.log.lock();
        let number = self.advance();
        self.latest_lookup.store(number.0, Ordering::SeqCst);
    }

    /// The validity of a token for `key` whose mint began at `began`.
    pub(crate) fn validity(&self, key: &TokenKey, began: Sequence) -> Validity {
        let log = self.log.lock();
        let scopes = || scopes_of(key);
        if log.is_hit(scopes(), Effect::Revoke, began) {
            Validity::Revoked
        } else if log.is_hit(scopes(), Effect::MarkStale, began) {
            Validity::Stale
        } else {
            Validity::Valid
        }
    }

    /// Whether a look-up that began at `began` and brought `installation` still holds.
    pub(crate) fn lookup_holds(&self, installation: InstallationId, began: Sequence) -> bool {
        self.no_lookup_changed_since(began) || {
            let scope = InvalidationScope::Installation(installation);
            !self.log.lock().is_hit([scope].into_iter(), Effect::ForgetLookups, began)
        }
    }

    /// Whether no installation has come, gone or changed its name since `began`.
    pub(crate) fn no_installation_changed_since(&self, began: Sequence) -> bool {
        self.latest_installation.load(Ordering::SeqCst) <= began.0
    }

    /// Whether no look-up has changed since `began`.
    pub(crate) fn no_lookup_changed_since(&self, began: Sequence) -> bool {
        self.latest_lookup.load(Ordering::SeqCst) <= began.0
    }

    fn advance(&self) -> Sequence {
        Sequence(self.latest.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

impl Log {
    fn note(&mut self, subject: (InvalidationScope, Effect), number: Sequence, now: BootTime) {
        let (scope, effect) = subject.clone();
        if let Some(before) = self.numbers.insert(subject, number) {
            self.order.remove(&before);
        }
        self.order.insert(number, (scope, effect, now));
        if self.order.len() > MAX_SCOPES {
            self.fold_oldest(now);
        }
    }

    fn fold_oldest(&mut self, now: BootTime) {
        let Some((number, (scope, effect, noted))) = self.order.pop_first() else { return };
        self.numbers.remove(&(scope, effect));
        // Every token from before that has expired. A look-up has no end while GitHub does not answer.
        if effect == Effect::ForgetLookups || now.since(noted) <= MAX_TOKEN_AGE {
            self.floors.insert(effect, number);
        }
    }

    fn is_hit(
        &self,
        mut scopes: impl Iterator<Item = InvalidationScope>,
        effect: Effect,
        began: Sequence,
    ) -> bool {
        let is_after = |number: Option<&Sequence>| number.is_some_and(|number| *number > began);
        is_after(self.floors.get(&effect)) || scopes.any(|scope| is_after(self.numbers.get(&(scope, effect))))
    }
}

fn scopes_of(key: &TokenKey) -> impl Iterator<Item = InvalidationScope> {
    use InvalidationScope::{AppInstallation, Installation, Unnarrowed, User};
    let unnarrowed = (!key.scope.names_repositories()).then_some(Unnarrowed(key.installation));
    let whole = [Installation(key.installation), AppInstallation(key.app.clone(), key.installation)];
    whole.into_iter().chain(unnarrowed).chain(key.user.map(User))
}

/// More than the installations that most apps have; some 2 MB.
const MAX_SCOPES: usize = 10_000;
/// No token lives longer than a day, and no mint takes an hour.
const MAX_TOKEN_AGE: Duration = Duration::from_secs(25 * 3600);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Scope;

    fn installation(id: u64) -> InstallationId {
        InstallationId::new(id).unwrap()
    }

    fn key(id: u64, user: Option<u64>, is_narrowed: bool) -> TokenKey {
        let names = is_narrowed.then(|| ["widgets".parse().unwrap()].into());
        TokenKey {
            app: AppName::default(),
            installation: installation(id),
            user: user.and_then(UserId::new),
            scope: Arc::new(Scope { repositories: names, ..Scope::default() }),
        }
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    /// One of few scopes, so that invalidations meet tokens.
    fn scope() -> impl Strategy<Value = InvalidationScope> {
        (0..4_u8, 1..4_u64).prop_map(|(kind, id)| match kind {
            0 => InvalidationScope::Installation(installation(id)),
            1 => InvalidationScope::AppInstallation(AppName::default(), installation(id)),
            2 => InvalidationScope::Unnarrowed(installation(id)),
            _ => InvalidationScope::User(UserId::new(id).unwrap()),
        })
    }

    fn has(scope: &InvalidationScope, key: &TokenKey) -> bool {
        match scope {
            InvalidationScope::Installation(id) => key.installation == *id,
            InvalidationScope::AppInstallation(app, id) => key.installation == *id && key.app == *app,
            InvalidationScope::Unnarrowed(id) => key.installation == *id && key.scope.repositories.is_none(),
            InvalidationScope::User(id) => key.user == Some(*id),
        }
    }

    proptest! {
        #[test]
        fn validity_matches_a_plain_list_of_events(
            events in proptest::collection::vec(
                proptest::option::of((scope(), any::<bool>())), 0..40,
            ),
            id in 1..4_u64, user in 0..4_u64, is_narrowed: bool,
        ) {
            let (log, key) = (InvalidationLog::default(), key(id, Some(user), is_narrowed));
            // `None` is a mint that begins, and meets all that comes after it.
            let mut mints: Vec<(Sequence, Validity)> = Vec::new();
            for event in events {
                let Some((scope, revokes)) = event else {
                    mints.push((log.latest(), Validity::Valid));
                    continue;
                };
                let (effect, worst) = match revokes {
                    true => (Effect::Revoke, Validity::Revoked),
                    false => (Effect::MarkStale, Validity::Stale),
                };
                if has(&scope, &key) {
                    mints.iter_mut().for_each(|(_, validity)| *validity = worst.max(*validity));
                }
                log.note(scope, effect, at(0));
            }
            for (began, expected) in mints {
                prop_assert_eq!(log.validity(&key, began), expected);
            }
        }
    }

    #[test]
    fn same_instant_invalidation_hits_earlier_mints() {
        let log = InvalidationLog::default();
        let before = log.latest();
        log.note(InvalidationScope::Installation(installation(1)), Effect::Revoke, at(7));
        assert_eq!(log.validity(&key(1, None, false), before), Validity::Revoked);
        assert_eq!(log.validity(&key(1, None, false), log.latest()), Validity::Valid);
        assert_eq!(log.validity(&key(2, None, false), before), Validity::Valid);
    }

    fn overflow(log: &InvalidationLog, first: u64, effect: Effect, now: BootTime) {
        for id in first..first + MAX_SCOPES as u64 {
            log.note(InvalidationScope::Installation(installation(id)), effect, now);
        }
    }

    #[test]
    fn full_log_folds_oldest_into_floor() {
        let log = InvalidationLog::default();
        let before = log.latest();
        log.note(InvalidationScope::Installation(installation(1)), Effect::MarkStale, at(0));
        let after = log.latest();
        overflow(&log, 100, Effect::Revoke, at(3600));
        assert_eq!(log.log.lock().numbers.len(), MAX_SCOPES);
        assert_eq!(log.validity(&key(1, None, false), before), Validity::Stale);
        assert_eq!(log.validity(&key(2, None, false), before), Validity::Stale, "it costs a mint");
        assert_eq!(log.validity(&key(2, None, false), after), Validity::Valid);
    }

    #[test]
    fn full_log_drops_events_older_than_any_token() {
        let log = InvalidationLog::default();
        let before = log.latest();
        log.note(InvalidationScope::Installation(installation(1)), Effect::MarkStale, at(0));
        overflow(&log, 100, Effect::MarkStale, at(26 * 3600));
        assert_eq!(log.validity(&key(2, None, false), before), Validity::Valid);
    }

    #[test]
    fn repeated_invalidation_takes_one_place_in_log() {
        let log = InvalidationLog::default();
        for _ in 0..10 {
            log.note(InvalidationScope::Installation(installation(1)), Effect::Revoke, at(0));
        }
        let log = log.log.lock();
        assert_eq!((log.numbers.len(), log.order.len()), (1, 1));
    }

    #[test]
    fn lookup_holds_until_its_installation_changes() {
        let log = InvalidationLog::default();
        let began = log.latest();
        log.note(InvalidationScope::Installation(installation(1)), Effect::Revoke, at(0));
        assert!(log.lookup_holds(installation(1), began) && log.no_installation_changed_since(began));
        log.note(InvalidationScope::Installation(installation(1)), Effect::ForgetLookups, at(0));
        assert!(!log.lookup_holds(installation(1), began) && log.lookup_holds(installation(2), began));
        assert!(!log.no_installation_changed_since(began));
        assert!(log.lookup_holds(installation(1), log.latest()));
    }

    #[test]
    fn lookup_change_affects_only_lookups_in_flight() {
        let log = InvalidationLog::default();
        let began = log.latest();
        log.note_lookup_change();
        assert!(!log.no_lookup_changed_since(began));
        assert!(log.lookup_holds(installation(1), began) && log.no_installation_changed_since(began));
    }
}
