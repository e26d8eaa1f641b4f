//! What GitHub tells of without being asked: what it makes stale here.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::Broker;
use crate::clock::BootTime;
use crate::model::{InstallationId, News, TokenKey, UserId};

/// What became of a piece of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// What it makes stale is no longer handed out.
    Obeyed,
    /// It has been heard before.
    Replayed,
}

impl Broker {
    /// GitHub tells `news` in the delivery of this id. One that has been heard before changes nothing: an old delivery
    /// that somebody sends again shall not have tokens minted.
    ///
    /// Tokens that GitHub no longer serves are dropped. Those that it still serves, but would grant otherwise, make the
    /// next caller wait for a new one, and go on as stale if none can be had.
    pub fn hear(&self, delivery: &str, news: &News) -> Heard {
        if !self.0.deliveries.put_new(delivery.to_owned(), ()) {
            return Heard::Replayed;
        }
        tracing::info!(delivery, %news, "GitHub has told of a change");
        match news {
            News::Gone(id) => self.is_worthless(Subject::Installation(*id)),
            News::UserLeft(id) => self.is_worthless(Subject::User(*id)),
            News::Regranted(id) => self.is_outdated(Subject::Installation(*id)),
            News::Widened(id) => self.is_outdated(Subject::Unnarrowed(*id)),
            News::Back(_) | News::Renamed(_) | News::Moved(..) => {}
        }
        match news {
            News::Gone(id) | News::Back(id) | News::Regranted(id) | News::Widened(id) => {
                self.0.directory.forget_installation(*id);
                self.renewals().forget_refusals(|key| key.installation == *id);
            }
            News::Renamed(id) => self.0.directory.forget_installation(*id),
            News::Moved(owner, name) => self.0.directory.forget_repository(owner, name),
            News::UserLeft(_) => {}
        }
        if matches!(news, News::Back(_)) {
            self.renewals().prefetch_at_once();
        }
        Heard::Obeyed
    }

    // What is under way is told first, then what has landed is dealt with: none slips through between.

    fn is_worthless(&self, subject: Subject) {
        self.told().note(subject, Standing::Worthless, self.0.clock.boot());
        self.0.tokens.drop_all(|key| subject.has(key));
    }

    fn is_outdated(&self, subject: Subject) {
        let at = self.moment();
        self.told().note(subject, Standing::Outdated, at.now);
        self.0.tokens.outdate_all(|key| subject.has(key), &at);
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What GitHub has told of lately, for the sake of mints that were under way.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<(Subject, Standing), BootTime>);

/// What a token is worth that was asked for before GitHub told of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    /// As much as ever.
    Good,
    /// GitHub would grant another one now.
    Outdated,
    /// Nothing.
    Worthless,
}

impl Told {
    fn note(&mut self, subject: Subject, standing: Standing, now: BootTime) {
        self.0.retain(|_, at| now.since(*at) < LONGEST_LIFE);
        self.0.insert((subject, standing), now);
    }

    /// What a token for `key` is worth that was asked for at `sent`.
    pub(super) fn standing(&self, key: &TokenKey, sent: BootTime) -> Standing {
        let told = |standing| {
            let told_of = |subject: Subject| self.0.get(&(subject, standing)).is_some_and(|at| *at > sent);
            Subject::all_of(key).any(told_of)
        };
        let standings = [Standing::Worthless, Standing::Outdated];
        standings.into_iter().find(|standing| told(*standing)).unwrap_or(Standing::Good)
    }
}

/// Whose tokens some news is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Installation(InstallationId),
    /// Those of an installation that are for all of its repositories.
    Unnarrowed(InstallationId),
    User(UserId),
}

impl Subject {
    /// Of every app: GitHub gives no two installations one number, and no two users.
    fn has(self, key: &TokenKey) -> bool {
        Self::all_of(key).any(|subject| subject == self)
    }

    fn all_of(key: &TokenKey) -> impl Iterator<Item = Self> {
        let is_narrowed = key.scope.repositories.is_some() || key.scope.repository_ids.is_some();
        let unnarrowed = (!is_narrowed).then_some(Self::Unnarrowed(key.installation));
        [Some(Self::Installation(key.installation)), unnarrowed, key.user.map(Self::User)]
            .into_iter()
            .flatten()
    }
}

/// Deliveries that are known when they come again.
pub(super) const MOST_REMEMBERED: u64 = 10_000;
/// What was asked for so long ago is dead when it lands: no token lives longer.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
