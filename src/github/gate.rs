//! Each app's gate: closed while GitHub wants no calls of it, or does not accept it. Pure but for its lock.
//!
//! <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit>:
//! "Continuing to make requests while you are rate limited may result in the banning of your integration."

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::failure::{Asked, Failure, Kind};
use crate::clock::BootTime;
use crate::model::AppName;

/// The gates of all apps, open at first.
#[derive(Default)]
pub(crate) struct Gates(Mutex<BTreeMap<AppName, Gate>>);

struct Gate {
    /// Why it was closed.
    failure: Failure,
    until: BootTime,
    /// How often it was closed without an answer that would have opened it.
    times: u32,
}

impl Gates {
    /// Whether `app` may ask at `now`; else why not, and for how long.
    pub(crate) fn enter(&self, app: &AppName, now: BootTime) -> Result<(), Failure> {
        match self.lock().get(app) {
            Some(gate) if now < gate.until => {
                let left = gate.until.since(now);
                Err(Failure { retry_after: Some(left), asked: Asked::Nobody, ..gate.failure.clone() })
            }
            _ => Ok(()),
        }
    }

    /// GitHub answered `app` with nothing that would close its gate, to a call that set out at `entered`. One that set out
    /// before the gate was closed says nothing of what came after.
    pub(crate) fn open(&self, app: &AppName, entered: BootTime) {
        let mut gates = self.lock();
        if gates.get(app).is_some_and(|gate| gate.until <= entered) {
            gates.remove(app);
        }
    }

    /// The app has other keys: that it was not accepted before says nothing of them.
    pub(crate) fn forget_refusal(&self, app: &AppName) {
        let mut gates = self.lock();
        if gates.get(app).is_some_and(|gate| gate.failure.kind == Kind::AppRejected) {
            gates.remove(app);
        }
    }

    /// GitHub answered `app` with `failure` at `now`, and may have `named` how long to wait. If not, a limit counts for a
    /// minute at first, and an app that is not accepted is tried again after a second at first. Returns how long its gate
    /// stays closed.
    pub(crate) fn close(
        &self,
        app: &AppName,
        failure: Failure,
        named: Option<Duration>,
        now: BootTime,
    ) -> Duration {
        let mut gates = self.lock();
        let times = match gates.get(app) {
            // Calls that set out before the gate was closed come back with the same answer.
            Some(gate) if now < gate.until => gate.times,
            Some(gate) => gate.times.saturating_add(1),
            None => 0,
        };
        let (first, longest) = match failure.kind {
            Kind::RateLimited => (UNNAMED, LONGEST),
            _ => (NOT_ACCEPTED, UNNAMED),
        };
        let wait = named.unwrap_or(first.saturating_mul(2_u32.saturating_pow(times))).min(longest);
        let until = now.plus(wait);
        // Of two calls that were under way together, the later end holds.
        if let Some(gate) = gates.get(app).filter(|gate| gate.until >= until) {
            return gate.until.since(now);
        }
        gates.insert(app.clone(), Gate { failure, until, times });
        wait
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AppName, Gate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NOT_ACCEPTED: Duration = Duration::from_secs(1);
const UNNAMED: Duration = Duration::from_secs(60);
/// GitHub's own limits end with the hour.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn closed(gates: &Gates, now: u64) -> Option<u64> {
        gates.enter(&AppName::default(), at(now)).err().map(|failure| failure.retry_after.unwrap().as_secs())
    }

    fn close(gates: &Gates, kind: Kind, named: Option<u64>, now: u64) {
        gates.close(&AppName::default(), Failure::new(kind, "why"), named.map(seconds), at(now));
    }

    #[test]
    fn a_limit_lasts_as_long_as_github_names() {
        let gates = Gates::default();
        assert_eq!(closed(&gates, 0), None);
        close(&gates, Kind::RateLimited, Some(30), 0);
        assert_eq!((closed(&gates, 0), closed(&gates, 29), closed(&gates, 30)), (Some(30), Some(1), None));
        let other = "other".parse().unwrap();
        assert_eq!(gates.enter(&other, at(0)), Ok(()), "each app has its own");
        let said = gates.enter(&AppName::default(), at(0)).unwrap_err();
        assert_eq!((said.kind, said.message.as_str()), (Kind::RateLimited, "why"));
    }

    #[test]
    fn a_limit_without_a_name_is_a_minute_and_grows_to_an_hour() {
        let gates = Gates::default();
        let mut now = 0;
        for expected in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            close(&gates, Kind::RateLimited, None, now);
            // What was under way at that time makes it no longer.
            close(&gates, Kind::RateLimited, None, now);
            assert_eq!(closed(&gates, now), Some(expected));
            now += expected;
        }
        gates.open(&AppName::default(), at(now - 1));
        assert_eq!(closed(&gates, now - 1), Some(1), "who set out before says nothing of it");
        gates.open(&AppName::default(), at(now));
        close(&gates, Kind::RateLimited, None, now);
        assert_eq!(closed(&gates, now), Some(60));
    }

    #[test]
    fn an_app_that_is_not_accepted_is_tried_ever_more_rarely() {
        let gates = Gates::default();
        let mut now = 0;
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            close(&gates, Kind::AppRejected, None, now);
            assert_eq!(closed(&gates, now), Some(expected));
            now += expected;
        }
    }

    #[test]
    fn of_two_answers_the_later_end_holds() {
        let gates = Gates::default();
        close(&gates, Kind::RateLimited, Some(600), 0);
        close(&gates, Kind::AppRejected, None, 1);
        close(&gates, Kind::RateLimited, Some(5), 1);
        assert_eq!(closed(&gates, 1), Some(599));
        gates.forget_refusal(&AppName::default());
        assert_eq!(closed(&gates, 1), Some(599), "another key is no more calls");
    }
}
