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
    pub fn hear(&self, delivery: &str, news: News) -> Heard {
        let delivery = delivery.to_owned();
        if self.0.deliveries.get(&delivery).is_some() {
            return Heard::Replayed;
        }
        tracing::info!(delivery, %news, "GitHub has told of a change");
        self.0.deliveries.put(delivery, ());
        let subject = Subject::of(news);
        let meant = |key: &TokenKey| subject.has(key);
        if let Subject::Installation(id) = subject {
            self.0.directory.forget_installation(id);
        }
        // First the mints under way, then what has landed: none slips through between.
        if matches!(news, News::Gone(_) | News::Regranted(_) | News::UserLeft(_)) {
            self.told().note(subject, self.0.clock.boot());
        }
        match news {
            News::Gone(_) | News::UserLeft(_) => self.0.tokens.drop_all(meant),
            News::Regranted(_) => self.0.tokens.outdate_all(meant),
            News::Back(_) | News::Renamed(_) => {}
        }
        self.renewals().forget_failures(meant);
        Heard::Obeyed
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What GitHub has told of lately, for the sake of mints that were under way.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<Subject, BootTime>);

impl Told {
    fn note(&mut self, subject: Subject, now: BootTime) {
        self.0.retain(|_, at| now.since(*at) < LONGEST_LIFE);
        self.0.insert(subject, now);
    }

    /// Whether what was asked for at `sent` may have been granted before GitHub's last word on it.
    pub(super) fn outdates(&self, key: &TokenKey, sent: BootTime) -> bool {
        let subjects = [Some(Subject::Installation(key.installation)), key.user.map(Subject::User)];
        let told = |subject| self.0.get(&subject).is_some_and(|at| *at > sent);
        subjects.into_iter().flatten().any(told)
    }
}

/// Whose tokens some news is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Installation(InstallationId),
    User(UserId),
}

impl Subject {
    fn of(news: News) -> Self {
        match news {
            News::Gone(id) | News::Back(id) | News::Regranted(id) | News::Renamed(id) => {
                Self::Installation(id)
            }
            News::UserLeft(id) => Self::User(id),
        }
    }

    /// Of every app: GitHub gives no two installations one number, and no two users.
    fn has(self, key: &TokenKey) -> bool {
        match self {
            Self::Installation(id) => key.installation == id,
            Self::User(id) => key.user == Some(id),
        }
    }
}

/// Deliveries that are known when they come again.
pub(super) const MOST_REMEMBERED: u64 = 10_000;
/// What was asked for so long ago is dead when it lands: no token lives longer.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
