//! Refresh timing: what is to be done with a cached key at which time. Pure.

use std::time::Duration;

use crate::broker::cache::as_of::AsOf;
use crate::broker::cache::token_pair::TokenPair;
use crate::clock::BootTime;

/// What the sweep does with a key that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The renewed token has entered service: the old one goes.
    DropSuperseded,
    /// It is refreshed.
    Refresh,
    /// Its tokens have expired, and no caller has asked for it lately: it goes.
    Remove,
    /// Nothing until then.
    Wait(BootTime),
    /// Nothing before it expires, unless a caller asks for it.
    Idle(BootTime),
}

/// What to do with `pair` now. A token is refreshed if it was asked for within `idle_after`, at most half its lifetime.
/// One that was rejected is left to the next caller.
pub(super) fn next_step(pair: &TokenPair, idle_after: Duration, at: &AsOf) -> Step {
    if pair.without_superseded(at).is_some() {
        return Step::DropSuperseded;
    }
    // A key without a renewed token, or with one that settles, is looked at when that changes, and never twice at once.
    let soon = |when: BootTime| when.max(at.now.plus(MIN_WAIT));
    if pair.settling(at).is_some() {
        return Step::Wait(soon(pair.next_event(at)));
    }
    let entry = pair.in_service(at);
    let is_idle = at.now.since(pair.usage.last_used()) > idle_after.min(entry.life.lifetime() / 2);
    let is_left_to_callers = entry.rejected || is_idle;
    match pair.is_expired(at) {
        true if is_left_to_callers => Step::Remove,
        false if at.now < entry.renew_at && !entry.rejected => Step::Wait(soon(entry.renew_at)),
        false if is_left_to_callers => Step::Idle(soon(pair.expiry(&at.windows))),
        _ => Step::Refresh,
    }
}

/// Keeps a key from being looked at twice at the same time.
const MIN_WAIT: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::cache::token_pair::tests::{as_of, entry, single};

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What is done with a token from second 0, last used at `used`, at second `now`.
    fn step_at(used: u64, idle_after: u64, now: u64) -> Step {
        next_step(&single(entry(1, 0, 3600), BootTime::new(seconds(used))), seconds(idle_after), &as_of(now))
    }

    #[test]
    fn key_is_refreshed_if_used_lately() {
        let end = BootTime::new(seconds(3569)).plus(Duration::from_nanos(1));
        for (used, idle_after, expected) in [
            (1200, 1800, Step::Refresh),
            (1199, 1800, Step::Idle(end)),
            (1199, 3600, Step::Idle(end)),
            (2699, 300, Step::Idle(end)),
            (2700, 300, Step::Refresh),
        ] {
            assert_eq!(step_at(used, idle_after, 3000), expected, "{used} {idle_after}");
        }
    }

    #[test]
    fn key_waits_for_its_moment() {
        assert_eq!(step_at(0, 1800, 2998), Step::Wait(BootTime::new(seconds(2999))));
        assert_eq!(step_at(1200, 1800, 2999), Step::Refresh);
    }

    #[test]
    fn expired_key_is_removed_unless_used() {
        assert_eq!(step_at(0, 1800, 3570), Step::Remove);
        assert_eq!(step_at(3500, 1800, 3570), Step::Refresh);
    }

    #[test]
    fn rejected_token_is_left_to_callers() {
        let pair = single(entry(1, 0, 3600), BootTime::new(seconds(3000)));
        let rejected = pair.after_reject(entry(1, 0, 1).hash, &as_of(3000));
        assert!(matches!(next_step(&rejected, seconds(1800), &as_of(3000)), Step::Idle(_)));
        assert_eq!(next_step(&rejected, seconds(1800), &as_of(3600)), Step::Remove);
    }

    #[test]
    fn settling_successor_is_awaited_then_alone() {
        let pair = single(entry(1, 0, 3600), BootTime::new(seconds(3000)));
        let pair = pair.with_renewed(entry(2, 3000, 3600), &as_of(3000));
        let settled = BootTime::new(seconds(3005));
        assert_eq!(next_step(&pair, seconds(1800), &as_of(3001)), Step::Wait(settled));
        assert_eq!(next_step(&pair, seconds(1800), &as_of(3005)), Step::DropSuperseded);
    }
}
