//! A breaker for one GitHub: after failures in a row it is left alone, and then asked by one call at a time. Pure but for
//! its lock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use tokio::sync::watch;

use crate::clock::BootTime;

/// Counts failures in a row, over all apps: it is one GitHub that fails them.
#[derive(Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
    /// Told of when a probe has ended.
    probes: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    failures: u32,
    culprit: Culprit,
    open: Option<Open>,
}

/// What has failed in a row. GitHub may always fail one installation and be well otherwise: that one is left alone by
/// what is remembered of it, and keeps no other from its tokens.
#[derive(Default, PartialEq, Eq)]
enum Culprit {
    #[default]
    Nobody,
    One(String),
    Github,
}

/// How a call failed.
pub(crate) struct Fault {
    /// In words.
    pub how: String,
    /// What was asked for, if it may be the reason: GitHub answered or was slow, and is left to be well otherwise.
    pub target: Option<String>,
}

/// Nobody is let through, but for one call after each pause.
struct Open {
    until: BootTime,
    probe: Probe,
    /// How GitHub failed last.
    last: String,
    pauses: ExponentialBackoff,
}

/// Why a call is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    /// It is too early to ask again; GitHub failed `last` in this way.
    For { wait: Duration, last: String },
    /// A call is under way that will tell.
    WhileProbed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Probe {
    None,
    UnderWay,
}

impl Breaker {
    /// Lets a call through at `now`, or says how long to wait.
    pub(crate) fn enter(&self, now: BootTime) -> Result<Pass<'_>, Closed> {
        let mut state = self.lock();
        let Some(open) = &mut state.open else { return Ok(Pass { breaker: self, probes: Probe::None }) };
        if now < open.until {
            return Err(Closed::For { wait: open.until.since(now), last: open.last.clone() });
        }
        if open.probe == Probe::UnderWay {
            return Err(Closed::WhileProbed);
        }
        open.probe = Probe::UnderWay;
        Ok(Pass { breaker: self, probes: Probe::UnderWay })
    }

    /// Changes when a probe that is under way has ended.
    pub(crate) fn probes(&self) -> watch::Receiver<()> {
        self.probes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that was let through. Dropped without a word, it leaves everything as it was, for the next one to find out.
pub(crate) struct Pass<'a> {
    breaker: &'a Breaker,
    probes: Probe,
}

impl Pass<'_> {
    /// GitHub answered, whatever it said.
    pub(crate) fn answered(self) {
        *self.breaker.lock() = State::default();
    }

    /// GitHub failed at `now`, in this way.
    pub(crate) fn failed(self, now: BootTime, fault: Fault) {
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        let failures = state.failures;
        state.culprit = match (std::mem::take(&mut state.culprit), fault.target) {
            (Culprit::Nobody, Some(target)) => Culprit::One(target),
            (Culprit::One(known), Some(target)) if known == target => Culprit::One(known),
            _ => Culprit::Github,
        };
        let is_down = failures >= IN_A_ROW && state.culprit == Culprit::Github;
        match &mut state.open {
            // What set out before the breaker opened tells nothing new.
            Some(open) if self.probes == Probe::UnderWay => {
                open.until = pause(&mut open.pauses, now);
                open.last = fault.how;
            }
            None if is_down => {
                let mut pauses = PAUSES.build();
                let until = pause(&mut pauses, now);
                tracing::warn!(failures, "GitHub fails again and again: leaving it alone for some seconds");
                state.open = Some(Open { until, probe: Probe::None, last: fault.how, pauses });
            }
            _ => {}
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probes == Probe::UnderWay {
            if let Some(open) = &mut self.breaker.lock().open {
                open.probe = Probe::None;
            }
            self.breaker.probes.send_replace(());
        }
    }
}

fn pause(pauses: &mut ExponentialBackoff, now: BootTime) -> BootTime {
    now.plus(pauses.next().unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE))
}

const IN_A_ROW: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(FIRST_PAUSE)
    .with_max_delay(LONGEST_PAUSE)
    .with_factor(2.0)
    .without_max_times()
    .with_jitter();

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    fn fault(how: &str) -> Fault {
        Fault { how: how.to_owned(), target: None }
    }

    #[test]
    fn one_target_that_always_fails_is_not_github() {
        let breaker = Breaker::default();
        let fail = |target: &str| {
            let fault = Fault { how: "500".into(), target: Some(target.to_owned()) };
            breaker.enter(at(0)).unwrap_or_else(|_| panic!("not let through")).failed(at(0), fault);
        };
        (0..100).for_each(|_| fail("/1"));
        assert_eq!(wait(&breaker, at(0)), None);
        fail("/2");
        assert!(wait(&breaker, at(0)).is_some());
    }

    fn broken(breaker: &Breaker, times: u32, now: BootTime) {
        for _ in 0..times {
            breaker.enter(now).unwrap_or_else(|_| panic!("not let through")).failed(now, fault("why"));
        }
    }

    fn wait(breaker: &Breaker, now: BootTime) -> Option<Duration> {
        match breaker.enter(now).err()? {
            Closed::For { wait, .. } => Some(wait),
            Closed::WhileProbed => Some(Duration::MAX),
        }
    }

    #[test]
    fn it_opens_after_five_failures_in_a_row() {
        let breaker = Breaker::default();
        broken(&breaker, 4, at(0));
        breaker.enter(at(0)).unwrap_or_else(|_| panic!("closed")).answered();
        broken(&breaker, 4, at(0));
        assert_eq!(wait(&breaker, at(0)), None);
        broken(&breaker, 1, at(0));
        let pause = wait(&breaker, at(0)).unwrap();
        assert!((FIRST_PAUSE..FIRST_PAUSE * 2).contains(&pause), "{pause:?}");
    }

    #[test]
    fn one_call_at_a_time_finds_out_whether_it_is_over() {
        let breaker = Breaker::default();
        broken(&breaker, 5, at(0));
        let probe = breaker.enter(at(10)).unwrap_or_else(|_| panic!("the pause is over"));
        let told = breaker.probes();
        assert_eq!((wait(&breaker, at(10)), told.has_changed().unwrap()), (Some(Duration::MAX), false));
        probe.failed(at(10), fault("again"));
        let last = "again".to_owned();
        assert!(
            matches!(breaker.enter(at(10)).err(), Some(Closed::For { last: found, .. }) if found == last)
        );
        assert!(told.has_changed().unwrap());
        let pause = wait(&breaker, at(10)).unwrap();
        assert!((FIRST_PAUSE * 2..FIRST_PAUSE * 4).contains(&pause), "{pause:?}");
        // A caller that went away has found out nothing, and stands in nobody's way.
        drop(breaker.enter(at(40)).unwrap_or_else(|_| panic!("the pause is over")));
        breaker.enter(at(40)).unwrap_or_else(|_| panic!("the probe was given up")).answered();
        assert_eq!(wait(&breaker, at(40)), None);
        broken(&breaker, 4, at(40));
        assert_eq!(wait(&breaker, at(40)), None);
    }

    #[test]
    fn pauses_grow_to_a_minute_and_no_further() {
        let breaker = Breaker::default();
        broken(&breaker, 5, at(0));
        let mut now = 0;
        for _ in 0..20 {
            now += 61;
            broken(&breaker, 1, at(now));
            assert!(wait(&breaker, at(now)).unwrap() <= LONGEST_PAUSE);
        }
        assert!(wait(&breaker, at(now)).unwrap() > LONGEST_PAUSE / 2);
    }

    #[test]
    fn calls_from_before_do_not_make_the_pause_longer() {
        let breaker = Breaker::default();
        let late: Vec<_> = (0..3).filter_map(|_| breaker.enter(at(0)).ok()).collect();
        broken(&breaker, 5, at(0));
        let pause = wait(&breaker, at(4));
        late.into_iter().for_each(|pass| pass.failed(at(4), fault("late")));
        assert_eq!(wait(&breaker, at(4)), pause);
    }
}
