//! Look-ups of installations: asks GitHub, and caches its answers until they are invalidated.

use std::sync::Arc;

use super::explain::{explain, only_one};
use crate::broker::cache::lru::Lru;
use crate::broker::cache::memory::allocated;
use crate::broker::error::Error;
use crate::broker::invalidation_log::{InvalidationLog, Sequence};
use crate::clock::{BootTime, Clock};
use crate::github::Github;
use crate::github::staleness::Staleness;
use crate::model::{AppName, InstallationId, Selector};
use crate::single_flight::Demand;

/// Which installation is asked for.
pub(super) type Question = (AppName, Selector);

/// Asks GitHub, and keeps its answers.
pub(crate) struct LookupCache {
    pub(super) github: Arc<dyn Github>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) log: Arc<InvalidationLog>,
    answers: Lru<Question, CachedAnswer>,
}

/// An answer that is cached.
#[derive(Debug, Clone)]
pub(super) struct CachedAnswer {
    pub(super) found: Arc<Found>,
    pub(super) staleness: Staleness,
    /// The latest invalidation when GitHub was asked.
    began: Sequence,
}

/// What a look-up notes when it begins.
#[derive(Debug, Clone, Copy)]
struct Began {
    at: BootTime,
    sequence: Sequence,
}

/// The installation that was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: InstallationId,
    pub(crate) account: Option<String>,
}

impl LookupCache {
    /// With at most `max_bytes` of answers.
    pub(crate) fn new(
        github: Arc<dyn Github>,
        clock: Arc<dyn Clock>,
        log: Arc<InvalidationLog>,
        max_bytes: u64,
    ) -> Self {
        Self { github, clock, log, answers: Lru::weighed(MAX_LOOKUPS, max_bytes, weight) }
    }

    /// What is cached, unless it has been invalidated since.
    pub(super) fn get(&self, question: &Question) -> Option<CachedAnswer> {
        let answer = self.answers.get(question)?;
        let holds = match question.1 {
            // The only installation of an app is so until there is another.
            Selector::Default => self.log.no_installation_changed_since(answer.began),
            _ => self.log.lookup_holds(answer.found.id, answer.began),
        };
        holds.then_some(answer)
    }

    /// Drops what is cached.
    pub(super) fn remove(&self, question: Question) {
        self.answers.update(question, |_| None);
    }

    /// GitHub's answer now, which is cached.
    pub(super) async fn look_up(&self, question: Question, demand: Demand) -> Result<Arc<Found>, Error> {
        let began = Began { at: self.clock.boot(), sequence: self.log.latest() };
        let answer = self.ask(&question, demand).await;
        // To cache answers from a list that is cached itself would only make them older.
        if self.github.capabilities().installation_lookup {
            self.put(question, &answer, began);
        }
        answer
    }

    async fn ask(&self, (app, selector): &Question, demand: Demand) -> Result<Arc<Found>, Error> {
        let installation = match selector {
            Selector::Default => {
                let list =
                    self.github.installations(app, AMBIGUOUS_COUNT, demand).await.map_err(Error::Github)?;
                only_one(app, list, self.github.capabilities())
            }
            _ => {
                let found = self.github.look_up(app, selector, demand).await;
                found.map_err(|failure| explain(app, selector, failure))
            }
        }?;
        Ok(Arc::new(Found { id: installation.id, account: installation.account }))
    }

    fn put(&self, question: Question, answer: &Result<Arc<Found>, Error>, began: Began) {
        self.answers.update(question, |cached| {
            // Under the lock of this entry: an invalidation is logged first, and drops the answer here afterwards.
            if !self.log.no_lookup_changed_since(began.sequence) {
                return cached;
            }
            match answer {
                Ok(found) => Some(CachedAnswer {
                    found: Arc::clone(found),
                    staleness: Staleness::new(began.at),
                    began: began.sequence,
                }),
                Err(error) if error.is_inconclusive() => cached.map(|cached| CachedAnswer {
                    staleness: Staleness { failed: Some(self.clock.boot()), ..cached.staleness },
                    ..cached
                }),
                Err(_) => None,
            }
        });
    }
}

/// The memory that a cached answer takes, in bytes.
fn weight((_, selector): &Question, answer: &CachedAnswer) -> usize {
    let account = answer.found.account.as_ref().map_or(0, String::len);
    LOOKUP_OVERHEAD
        + selector.names().map(str::len).into_iter().chain([account]).map(allocated).sum::<usize>()
}

const MAX_LOOKUPS: u64 = 10_000;
/// Its structs and the cache's book-keeping: measured, not summed up.
const LOOKUP_OVERHEAD: usize = 512;
/// Two installations are several; one page of the list tells.
const AMBIGUOUS_COUNT: usize = 2;
