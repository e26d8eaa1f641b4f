//! When a token is renewed ahead of its time. Pure.

use std::time::Duration;

use crate::broker::cache::hash::TokenHash;
use crate::broker::cache::token_pair::{AsOf, Slot};
use crate::broker::freshness::{Life, Windows};
use crate::clock::BootTime;
use crate::jitter::jitter;
use crate::model::TokenKey;

/// What the sweep does with a key whose moment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Step {
    /// Its successor has entered service: the old token goes.
    DropSuperseded,
    /// It is refreshed.
    Refresh,
    /// Nothing of it can be handed out any more, and nobody waits for another: it goes.
    Remove,
    /// Nothing yet.
    Wait(BootTime),
    /// Nothing before its end, unless somebody asks for it.
    LeaveAlone(BootTime),
}

/// What to do with `slot` now. A token is refreshed if it was asked for within `idle_after`, at most half its lifetime.
/// One that was rejected is left to the next caller.
pub(in crate::broker) fn step(slot: &Slot, idle_after: Duration, at: &AsOf) -> Step {
    if slot.without_superseded(at).is_some() {
        return Step::DropSuperseded;
    }
    // What has no successor, or one that settles, is looked at when that changes, and never at once again.
    let soon = |when: BootTime| when.max(at.now.plus(MIN_WAIT));
    if slot.settling(at).is_some() {
        return Step::Wait(soon(slot.next_event(at)));
    }
    let entry = slot.in_service(at);
    let is_idle = at.now.since(slot.last_used()) > idle_after.min(entry.life.lifetime() / 2);
    let is_left_to_callers = entry.rejected || is_idle;
    match slot.is_alive(at) {
        false if is_left_to_callers => Step::Remove,
        true if at.now < entry.renew_at && !entry.rejected => Step::Wait(soon(entry.renew_at)),
        true if is_left_to_callers => Step::LeaveAlone(soon(slot.end(&at.windows))),
        _ => Step::Refresh,
    }
}

/// The remaining life at which the timer renews a token: from 1.0 to 1.2 times `renew_before`, each token at its own,
/// so that many that were minted together are not renewed together.
pub(in crate::broker) fn jittered_renew_before(
    key: &TokenKey,
    hash: TokenHash,
    life: &Life,
    windows: &Windows,
) -> Duration {
    life.renew_before(windows).mul_f64(1.0 + SPREAD * jitter(&(key, hash)))
}

/// The longest remaining life that a caller may ask for, where GitHub grants `lifetime`. What is left over keeps each
/// of such callers from causing a mint of its own.
pub(in crate::broker) fn longest_min_ttl(lifetime: Duration) -> Duration {
    lifetime * 5 / 6
}

/// The pause after so many failures in a row that name no wait: from a second, doubled each time, to a minute.
pub(in crate::broker) fn pause_after(failures: u32) -> Duration {
    MIN_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(MAX_PAUSE)
}

/// A look costs little, but there is none that brings nothing.
const MIN_WAIT: Duration = Duration::from_millis(1);
const SPREAD: f64 = 0.2;
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::broker::cache::token_pair::tests::{entry, moment, single};
    use crate::model::{AppName, InstallationId};

    fn key(installation: u64) -> TokenKey {
        let installation = InstallationId::new(installation).unwrap();
        TokenKey { app: AppName::default(), installation, user: None, scope: Arc::default() }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What is done with a token from second 0, last used at `used`, at second `now`.
    fn step_at(used: u64, idle_after: u64, now: u64) -> Step {
        step(&single(entry(1, 0, 3600), BootTime::new(seconds(used))), seconds(idle_after), &moment(now))
    }

    #[test]
    fn key_is_refreshed_if_used_lately() {
        let end = BootTime::new(seconds(3569)).plus(Duration::from_nanos(1));
        for (used, idle_after, expected) in [
            (1200, 1800, Step::Refresh),
            (1199, 1800, Step::LeaveAlone(end)),
            (1199, 3600, Step::LeaveAlone(end)),
            (2699, 300, Step::LeaveAlone(end)),
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
        let slot = single(entry(1, 0, 3600), BootTime::new(seconds(3000)));
        let rejected = slot.rejecting(entry(1, 0, 1).hash, &moment(3000));
        assert!(matches!(step(&rejected, seconds(1800), &moment(3000)), Step::LeaveAlone(_)));
        assert_eq!(step(&rejected, seconds(1800), &moment(3600)), Step::Remove);
    }

    #[test]
    fn settling_successor_is_awaited_then_alone() {
        let slot = single(entry(1, 0, 3600), BootTime::new(seconds(3000)));
        let slot = slot.with(entry(2, 3000, 3600), &moment(3000));
        let settled = BootTime::new(seconds(3005));
        assert_eq!(step(&slot, seconds(1800), &moment(3001)), Step::Wait(settled));
        assert_eq!(step(&slot, seconds(1800), &moment(3005)), Step::DropSuperseded);
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses = [1, 2, 3, 6, 7, 100, u32::MAX].map(|failures| pause_after(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60, 60]);
    }

    #[test]
    fn five_sixths_of_a_lifetime_can_be_asked_for() {
        assert_eq!(longest_min_ttl(seconds(3600)), seconds(3000));
        assert_eq!(longest_min_ttl(seconds(60)), seconds(50));
    }

    proptest! {
        #[test]
        fn renewal_jitter_is_stable_within_1_to_1_2_windows(
            installation in 1u64..1_000_000, hash in any::<u8>(), lifetime in 2u64..86_400, renew_before in 0u64..7200,
        ) {
            let entry = entry(hash, 0, lifetime);
            let windows = Windows { renew_before: seconds(renew_before), ..moment(0).windows };
            let window = seconds(renew_before).min(seconds(lifetime) / 3);
            let moment = || jittered_renew_before(&key(installation), entry.hash, &entry.life, &windows);
            let at = moment();
            prop_assert!(at >= window && at <= window.mul_f64(1.2), "{at:?} for {window:?}");
            prop_assert_eq!(at, moment());
        }
    }

    #[test]
    fn keys_that_were_minted_together_are_spread_evenly() {
        let mut tenths = [0; 10];
        for installation in 1..=1000 {
            let entry = entry(1, 0, 3600);
            let windows = moment(0).windows;
            let at = jittered_renew_before(&key(installation), entry.hash, &entry.life, &windows);
            tenths[((at.as_secs_f64() - 600.0) / 12.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|tenth| (60..=140).contains(tenth)), "{tenths:?}");
    }
}
