//! Staleness policy for cached installation look-ups: fresh, stale-while-revalidate, stale-if-error (RFC 5861). Pure.
//!
//! Accounts are rarely renamed; when one is, and its old name taken by another, ten minutes bound the mistake. While
//! GitHub says nothing, its last word holds: a cached token must not be out of reach because a name cannot be looked
//! up.

use std::time::Duration;

use crate::clock::BootTime;

/// When GitHub said something, and when it was asked again in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Staleness {
    /// When the question was sent.
    pub(crate) at: BootTime,
    /// When it last gave no answer to it.
    pub(crate) failed: Option<BootTime>,
}

/// How a cached look-up is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// It is served.
    Hit,
    /// It is served, and revalidated in the background.
    StaleWhileRevalidate,
    /// GitHub is asked, and it is served only if there is no answer.
    StaleIfError,
}

impl Staleness {
    /// Of an answer to what was asked at `at`.
    pub(crate) fn new(at: BootTime) -> Self {
        Self { at, failed: None }
    }

    /// How it is used at `now`.
    pub(crate) fn judge(self, now: BootTime) -> Lookup {
        let age = now.since(self.at);
        match self.failed {
            Some(failed) if now.since(failed) < RETRY_INTERVAL => Lookup::Hit,
            // GitHub is known to be silent: nobody waits for it.
            Some(failed) if now.since(failed) < TTL => Lookup::StaleWhileRevalidate,
            Some(_) if age >= TTL => Lookup::StaleIfError,
            Some(_) => Lookup::StaleWhileRevalidate,
            None if age < REVALIDATE_AFTER => Lookup::Hit,
            None if age < TTL => Lookup::StaleWhileRevalidate,
            None => Lookup::StaleIfError,
        }
    }
}

const TTL: Duration = Duration::from_secs(600);
/// Late enough to ask once in ten minutes, early enough that what is in use is asked anew before it is too old.
const REVALIDATE_AFTER: Duration = Duration::from_secs(570);
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    #[test]
    fn lookup_in_use_is_revalidated_before_it_expires() {
        let said = Staleness::new(at(1000));
        for (age, expected) in [
            (0, Lookup::Hit),
            (569, Lookup::Hit),
            (570, Lookup::StaleWhileRevalidate),
            (599, Lookup::StaleWhileRevalidate),
            (600, Lookup::StaleIfError),
            (100_000, Lookup::StaleIfError),
        ] {
            assert_eq!(said.judge(at(1000 + age)), expected, "{age} s");
        }
    }

    #[test]
    fn silent_github_is_revalidated_every_30_seconds() {
        let said = Staleness { at: at(1000), failed: Some(at(2000)) };
        for (now, expected) in
            [(2000, Lookup::Hit), (2029, Lookup::Hit), (2030, Lookup::StaleWhileRevalidate)]
        {
            assert_eq!(said.judge(at(now)), expected, "{now}");
        }
    }
}
