//! Secondary indexes beside the cache, which by itself finds a token only by its whole key: by hash, by end of life, by
//! installation, by user, and by the time of the next event. Pure.
//!
//! An entry that outlives its pair is harmless: every hit is acted on through the cache, which decides.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::schedule::{Lane, PairId, Schedule};
use super::token_hash::TokenHash;
use super::token_pair::TokenPair;
use crate::broker::invalidation_log::InvalidationScope;
use crate::clock::BootTime;
use crate::model::{AppName, InstallationId, TokenKey, UserId};

/// A cached key and what is cached for it.
pub(crate) type Hit = (TokenKey, Arc<TokenPair>);

/// All cached keys, by what they are found by.
#[derive(Debug, Default)]
pub(crate) struct Index {
    records: HashMap<PairId, Record>,
    by_hash: HashMap<TokenHash, PairId>,
    by_expiry: BTreeMap<AppName, BTreeSet<(BootTime, PairId)>>,
    by_installation: BTreeSet<(InstallationId, PairId)>,
    by_user: BTreeSet<(UserId, PairId)>,
    schedule: Schedule,
    purges: VecDeque<Purge>,
    last_id: u64,
}

#[derive(Debug)]
struct Record {
    key: TokenKey,
    pair: Arc<TokenPair>,
    /// When the last of its tokens ends.
    end: BootTime,
}

/// Revoked tokens, which are removed a few at a time.
#[derive(Debug)]
struct Purge {
    scope: InvalidationScope,
    /// Keys before it have been looked at.
    next: PairId,
}

impl Index {
    /// A number for a key that is not cached yet.
    pub(crate) fn next_id(&mut self) -> PairId {
        self.last_id += 1;
        PairId(self.last_id)
    }

    /// `pair` is what is cached for `key` now. Its last token ends at `end`, and its next event is at `next`.
    pub(crate) fn put(&mut self, key: &TokenKey, pair: &Arc<TokenPair>, end: BootTime, next: BootTime) {
        let id = pair.id();
        self.remove_record(id);
        self.by_hash.extend(pair.entries().map(|entry| (entry.hash, id)));
        self.by_expiry.entry(key.app.clone()).or_default().insert((end, id));
        self.by_installation.insert((key.installation, id));
        self.by_user.extend(key.user.map(|user| (user, id)));
        self.records.insert(id, Record { key: key.clone(), pair: Arc::clone(pair), end });
        self.schedule.wait_until(id, next);
    }

    /// `pair` is no longer cached. Nothing changes if another one has taken its place.
    pub(crate) fn remove(&mut self, pair: &Arc<TokenPair>) {
        if self.is_current(pair) {
            self.remove_record(pair.id());
            self.schedule.cancel(pair.id());
        }
    }

    /// Whether nothing has taken the place of `pair`.
    fn is_current(&self, pair: &Arc<TokenPair>) -> bool {
        self.records.get(&pair.id()).is_some_and(|record| Arc::ptr_eq(&record.pair, pair))
    }

    /// How many keys are cached.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Everything, in no order.
    pub(crate) fn all(&self) -> Vec<Hit> {
        self.records.values().map(|record| (record.key.clone(), Arc::clone(&record.pair))).collect()
    }

    /// The key that has, or had, the token with this hash.
    pub(crate) fn find(&self, hash: TokenHash) -> Option<Hit> {
        self.hit(*self.by_hash.get(&hash)?)
    }

    /// Those of `app` that end last, the last first, at most so many.
    pub(crate) fn latest_expiring(&self, app: &AppName, limit: usize) -> Vec<Hit> {
        let ends = self.by_expiry.get(app).into_iter().flatten().rev();
        ends.filter_map(|(_, id)| self.hit(*id)).take(limit).collect()
    }

    /// Those of all apps that end first, in this order, after the `skip` first ones and at most so many.
    pub(crate) fn soonest_expiring(&self, skip: usize, limit: usize) -> Vec<Hit> {
        // However many apps there are, no more than these can be among them.
        let of_app = |ends: &BTreeSet<_>| ends.iter().take(skip + limit).copied().collect::<Vec<_>>();
        let mut ends: Vec<(BootTime, PairId)> = self.by_expiry.values().flat_map(of_app).collect();
        ends.sort_unstable();
        ends.into_iter().skip(skip).take(limit).filter_map(|(_, id)| self.hit(id)).collect()
    }

    /// Has `pair` looked at when it is `at`, if it is still what is cached.
    pub(crate) fn schedule(&mut self, pair: &Arc<TokenPair>, at: BootTime) {
        if self.is_current(pair) {
            self.schedule.wait_until(pair.id(), at);
        }
    }

    /// Puts `pair` in line for a refresh, if it is still what is cached.
    pub(crate) fn make_ready(&mut self, pair: &Arc<TokenPair>) {
        if let Some(record) = self.records.get(&pair.id()).filter(|record| Arc::ptr_eq(&record.pair, pair)) {
            self.schedule.make_ready(pair.id(), (record.key.app.clone(), pair.usage.lane()), record.end);
        }
    }

    /// Takes those out of the schedule that are due, the earliest first and at most so many.
    pub(crate) fn take_due(&mut self, now: BootTime, limit: usize) -> Vec<Hit> {
        let due = self.schedule.take_due(now, limit);
        due.into_iter().filter_map(|id| self.hit(id)).collect()
    }

    /// The first in a lane for a refresh.
    pub(crate) fn first_ready(&self, lane: &(AppName, Lane)) -> Option<Hit> {
        self.hit(self.schedule.first_ready(lane)?)
    }

    /// How many wait in a lane for a refresh.
    pub(crate) fn ready_count(&self, lane: &(AppName, Lane)) -> usize {
        self.schedule.ready_count(lane)
    }

    /// The tokens of `scope` are revoked: [`Index::next_purged`] brings them. Of too many scopes at a time, some are
    /// left out: each of their tokens is dropped when it is next looked at.
    pub(crate) fn purge(&mut self, scope: InvalidationScope) {
        if self.purges.len() < MAX_PURGES {
            self.purges.push_back(Purge { scope, next: FIRST });
        }
    }

    /// The next keys whose tokens may be revoked, at most so many.
    pub(crate) fn next_purged(&mut self, limit: usize) -> Vec<Hit> {
        use InvalidationScope::{AppInstallation, Installation, Unnarrowed, User};
        let Some(Purge { scope, next }) = self.purges.pop_front() else { return Vec::new() };
        let ids: Vec<PairId> = match &scope {
            Installation(id) | AppInstallation(_, id) | Unnarrowed(id) => {
                self.by_installation.range((*id, next)..=(*id, LAST)).map(|(_, id)| *id).take(limit).collect()
            }
            User(user) => {
                self.by_user.range((*user, next)..=(*user, LAST)).map(|(_, id)| *id).take(limit).collect()
            }
        };
        if ids.len() == limit
            && let Some(PairId(last)) = ids.last()
        {
            self.purges.push_front(Purge { scope, next: PairId(last + 1) });
        }
        ids.into_iter().filter_map(|id| self.hit(id)).collect()
    }

    fn hit(&self, id: PairId) -> Option<Hit> {
        let record = self.records.get(&id)?;
        Some((record.key.clone(), Arc::clone(&record.pair)))
    }

    fn remove_record(&mut self, id: PairId) {
        let Some(Record { key, pair, end }) = self.records.remove(&id) else { return };
        for entry in pair.entries() {
            // Should GitHub grant one token twice, the key that got it last is found by it.
            if self.by_hash.get(&entry.hash) == Some(&id) {
                self.by_hash.remove(&entry.hash);
            }
        }
        if let Some(ends) = self.by_expiry.get_mut(&key.app) {
            ends.remove(&(end, id));
        }
        self.by_installation.remove(&(key.installation, id));
        if let Some(user) = key.user {
            self.by_user.remove(&(user, id));
        }
    }
}

const FIRST: PairId = PairId(0);
const LAST: PairId = PairId(u64::MAX);
/// Installations and users that GitHub takes back within a second.
const MAX_PURGES: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::broker::cache::token_pair::tests::entry;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    fn key((app, installation, user): (bool, u64, u64)) -> TokenKey {
        TokenKey {
            app: if app { "one" } else { "two" }.parse().unwrap(),
            installation: InstallationId::new(installation).unwrap(),
            user: UserId::new(user),
            scope: Arc::default(),
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// A new key, with a token with this hash and expiry.
        Add((bool, u64, u64), u8, u64),
        /// The key that was added as the nth has another token.
        Replace(usize, u8, u64),
        Remove(usize),
        /// A pair that has been replaced is evicted late.
        RemoveLate(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => ((any::<bool>(), 1..4_u64, 0..3_u64), any::<u8>(), 0..50_u64)
                .prop_map(|(key, hash, end)| Step::Add(key, hash, end)),
            3 => (0..8_usize, any::<u8>(), 0..50_u64).prop_map(|(nth, hash, end)| Step::Replace(nth, hash, end)),
            2 => (0..8_usize).prop_map(Step::Remove),
            1 => (0..8_usize).prop_map(Step::RemoveLate),
        ]
    }

    /// An index beside a plain list of what is in it.
    #[derive(Default)]
    struct Pair {
        index: Index,
        list: Vec<(TokenKey, Arc<TokenPair>, u64)>,
        replaced: Vec<Arc<TokenPair>>,
    }

    impl Pair {
        fn put(&mut self, key: TokenKey, id: PairId, (hash, end): (u8, u64)) {
            // No two tokens have one hash.
            if self.list.iter().any(|(_, pair, _)| pair.contains(TokenHash::new([hash; 32]))) {
                return;
            }
            let pair = Arc::new(TokenPair::new(id, entry(hash, 0, 3600), at(0)));
            self.index.put(&key, &pair, at(end), at(end));
            self.list.push((key, pair, end));
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Add(of, hash, end) => {
                    let id = self.index.next_id();
                    self.put(key(of), id, (hash, end));
                }
                Step::Replace(nth, hash, end) if nth < self.list.len() => {
                    let (key, pair, _) = self.list.remove(nth);
                    let before = self.list.len();
                    self.put(key.clone(), pair.id(), (hash, end));
                    match self.list.len() > before {
                        true => self.replaced.push(pair),
                        false => self.index.remove(&pair),
                    }
                }
                Step::Remove(nth) if nth < self.list.len() => self.index.remove(&self.list.remove(nth).1),
                Step::RemoveLate(nth) if nth < self.replaced.len() => self.index.remove(&self.replaced[nth]),
                _ => {}
            }
        }

        fn check(&self) {
            assert_eq!(self.index.len(), self.list.len());
            let ids = |hits: Vec<Hit>| hits.iter().map(|(_, pair)| pair.id()).collect::<Vec<_>>();
            let mut by_expiry: Vec<_> =
                self.list.iter().map(|(key, pair, end)| (*end, pair.id(), key)).collect();
            by_expiry.sort_unstable_by_key(|(end, id, _)| (*end, *id));
            let soonest: Vec<_> = by_expiry.iter().skip(1).take(3).map(|(_, id, _)| *id).collect();
            assert_eq!(ids(self.index.soonest_expiring(1, 3)), soonest);
            for app in ["one", "two"].map(|name| name.parse::<AppName>().unwrap()) {
                let latest = by_expiry.iter().rev().filter(|(_, _, key)| key.app == app).take(2);
                let latest: Vec<_> = latest.map(|(_, id, _)| *id).collect();
                assert_eq!(ids(self.index.latest_expiring(&app, 2)), latest);
            }
            for hash in 0..=u8::MAX {
                let hash = TokenHash::new([hash; 32]);
                let cached = self.list.iter().find(|(_, pair, _)| pair.contains(hash));
                let expected = cached.map(|(key, pair, _)| (key.clone(), pair.id()));
                assert_eq!(self.index.find(hash).map(|(key, pair)| (key, pair.id())), expected);
            }
        }
    }

    proptest! {
        #[test]
        fn index_equals_a_plain_list(steps in proptest::collection::vec(step(), 0..40)) {
            let mut both = Pair::default();
            for step in steps {
                both.take(step);
                both.check();
            }
            let mut due = both.index.take_due(at(25), usize::MAX);
            due.sort_unstable_by_key(|(_, pair)| pair.id());
            let expected = both.list.iter().filter(|(_, _, end)| *end <= 25).map(|(_, pair, _)| pair.id());
            prop_assert_eq!(due.len(), expected.count());
            // Emptied, it holds nothing.
            for (_, pair, _) in std::mem::take(&mut both.list) {
                both.index.remove(&pair);
            }
            let index = both.index;
            prop_assert!(index.records.is_empty() && index.by_hash.is_empty() && index.by_user.is_empty());
            prop_assert!(index.by_installation.is_empty() && index.by_expiry.values().all(BTreeSet::is_empty));
        }
    }

    #[test]
    fn purge_brings_each_key_of_its_scope_once() {
        let mut index = Index::default();
        for (installation, user) in [(1, 1), (1, 2), (2, 1), (1, 0), (1, 1)] {
            let id = index.next_id();
            let pair = Arc::new(TokenPair::new(id, entry(id.0 as u8, 0, 3600), at(0)));
            index.put(&key((true, installation, user)), &pair, at(1), at(1));
        }
        let purged = |index: &mut Index| {
            let hits = index.next_purged(2);
            hits.iter().map(|(_, pair)| pair.id().0).collect::<Vec<_>>()
        };
        index.purge(InvalidationScope::Installation(InstallationId::new(1).unwrap()));
        index.purge(InvalidationScope::User(UserId::new(1).unwrap()));
        let all: Vec<_> = (0..6).map(|_| purged(&mut index)).collect();
        assert_eq!(all, [vec![1, 2], vec![4, 5], vec![], vec![1, 3], vec![5], vec![]]);
    }
}
