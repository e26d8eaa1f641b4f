//! Staleness policy for cached installation look-ups: fresh, stale-while-revalidate, stale-if-error (RFC 5861). Pure.
//!
//! Accounts are rarely renamed; when one is, and its old name taken by another, ten minutes bound the mistake. While
//! GitHub says nothing, its last word holds: a token in hand must not be out of reach because a name cannot be looked
//! up.

use std::time::Duration;

use crate::clock::BootTime;

/// When GitHub said something, and when it was asked again in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Staleness {
    /// When it was asked that it said so.
    pub(crate) at: BootTime,
    /// When it last gave no answer to the same question.
    pub(crate) failed: Option<BootTime>,
}

/// What to do with something remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Go by it.
    AsItIs,
    /// Go by it, and ask anew behind the caller's back.
    AndAskBehind,
    /// Ask anew, and go by it only if there is no answer.
    IfNoAnswer,
}

impl Staleness {
    /// What was said at `at`.
    pub(crate) fn new(at: BootTime) -> Self {
        Self { at, failed: None }
    }

    /// What to do with it at `now`.
    pub(crate) fn judge(self, now: BootTime) -> Use {
        let age = now.since(self.at);
        match self.failed {
            Some(failed) if now.since(failed) < LEFT_ALONE => Use::AsItIs,
            // Whoever comes now would wait for a GitHub that is known to be silent.
            Some(failed) if now.since(failed) < KEPT_FOR => Use::AndAskBehind,
            Some(_) if age >= KEPT_FOR => Use::IfNoAnswer,
            Some(_) => Use::AndAskBehind,
            None if age < ASKED_AHEAD => Use::AsItIs,
            None if age < KEPT_FOR => Use::AndAskBehind,
            None => Use::IfNoAnswer,
        }
    }
}

const KEPT_FOR: Duration = Duration::from_secs(600);
/// Late enough to ask once in ten minutes, early enough that what is in use is asked anew before it is too old.
const ASKED_AHEAD: Duration = Duration::from_secs(570);
const LEFT_ALONE: Duration = Duration::from_secs(30);

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
            (0, Use::AsItIs),
            (569, Use::AsItIs),
            (570, Use::AndAskBehind),
            (599, Use::AndAskBehind),
            (600, Use::IfNoAnswer),
            (100_000, Use::IfNoAnswer),
        ] {
            assert_eq!(said.judge(at(1000 + age)), expected, "{age} s");
        }
    }

    #[test]
    fn silent_github_is_revalidated_every_30_seconds() {
        let said = Staleness { at: at(1000), failed: Some(at(2000)) };
        for (now, expected) in [(2000, Use::AsItIs), (2029, Use::AsItIs), (2030, Use::AndAskBehind)] {
            assert_eq!(said.judge(at(now)), expected, "{now}");
        }
    }
}
