//! What a client may expect: a token at once, or within so many seconds.

use std::time::Duration;

use ghtokend::broker::{Requirement, Vended};

use super::{Asking, Heard, MAX_MEMORY, MAX_TURN, MINUTE, STEADY, State, Waiting};
use crate::fleet::faults::Faults;
use crate::fleet::report::Rule;
use crate::fleet::time::Time;

/// What a client may expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Nothing,
    Within(Duration),
    AtOnce(&'static str),
}

impl State {
    pub(super) fn check_duty(
        &mut self,
        asking: &Asking<'_>,
        outcome: Option<&Result<Vended, Heard>>,
        faults: &Faults,
        now: Time,
    ) {
        let wish = asking.wish;
        let (app, waited) = (Some(wish.place.app), now.saturating_sub(asking.began));
        let word = match outcome {
            Some(Ok(_)) => "late",
            Some(Err(heard)) => heard.word,
            None => "hung-up",
        };
        let what = |why: &str| {
            format!(
                "{word} for client {} after {waited:?}: {} {:?}, though {why}",
                asking.client, wish.question, wish.place
            )
        };
        let dropped = self.dropped.get(&wish.place.installation).copied();
        let lives = self.keys.get(&wish.question).is_some_and(|key| key.lives(dropped, now));
        let name_is_good =
            wish.place.name.is_none() || faults.were_none(&wish.place, now.saturating_sub(LOOK_UP_KEPT), now);
        if matches!(outcome, Some(Err(_)))
            && wish.request.requirement == Requirement::Any
            && lives
            && name_is_good
        {
            return self.report.broken(now, app, Rule::NoTokenLost, what("a token of it lives"));
        }
        match self.duty(asking, faults, now) {
            Duty::AtOnce(why) => self.report.broken(now, app, Rule::HotAtOnce, what(why)),
            Duty::Within(limit) if waited > limit || matches!(outcome, Some(Err(_))) => {
                self.report.broken(now, app, Rule::ColdInTime, what("it was healthy"));
            }
            _ => {}
        }
    }

    fn duty(&self, asking: &Asking<'_>, faults: &Faults, now: Time) -> Duty {
        let (wish, began) = (asking.wish, asking.began);
        let place = &wish.place;
        let healthy_for = |time: Duration| faults.were_none(place, began.saturating_sub(time), now);
        if place.installation == 0 || !healthy_for(MAX_MEMORY) {
            return Duty::Nothing;
        }
        let key = self.keys.get(&wish.question);
        let evicted = key.and_then(|key| key.evicted).is_some_and(|at| at + STEADY > began);
        if wish.request.requirement == Requirement::Any && !evicted {
            let dropped = self.dropped.get(&place.installation).copied();
            // Whatever has failed is in one queue with it, and has the smallest share.
            let catch_up = MAX_MEMORY * 2 + self.evidence.backlog(place.app, now);
            // A name that has just been found again may not have been known any more.
            let is_known = |name: &String| {
                let since = began.saturating_sub(catch_up);
                self.is_steady(asking, STEADY) && !self.evidence.was_suspect(name, since)
            };
            if key.is_some_and(|key| key.usable(dropped, began).is_some())
                && place.name.as_ref().is_none_or(is_known)
            {
                return Duty::AtOnce("it has a good token");
            }
            let in_use = key.and_then(|key| key.first).is_some_and(|at| at + catch_up < began);
            if in_use && healthy_for(catch_up) && self.is_steady(asking, catch_up) {
                return Duty::AtOnce("it is healthy and in use");
            }
        }
        let is_suspect = [Some(&wish.question), place.name.as_ref()]
            .into_iter()
            .flatten()
            .any(|question| self.evidence.was_suspect(question, began));
        match is_suspect || self.evidence.is_blocked(place, now) || self.asks_too_much(asking, now) {
            true => Duty::Nothing,
            false if self.traffic.were_full(began) => Duty::Within(HANGING),
            false => Duty::Within(MAX_TURN + LATENCY),
        }
    }

    pub(super) fn waits_of(&self, client: u64) -> usize {
        self.asking.values().filter(|waiting| waiting.client == client).count()
    }

    fn is_steady(&self, asking: &Asking<'_>, time: Duration) -> bool {
        let of = (asking.client, asking.wish.place.clone(), asking.wish.question.clone());
        self.uses.get(&of).is_some_and(|of| of.since + time <= asking.began)
    }

    /// Whether a client asks for more than its share: what its class gets at least, by the clients that want it.
    fn asks_too_much(&self, asking: &Asking<'_>, now: Time) -> bool {
        let Some(me) = self.asking.get(&asking.id) else { return true };
        let all = || self.waited.iter().chain(self.asking.values());
        let is_of_my_class =
            |other: &Waiting| other.was_in_use == me.was_in_use || (other.may_be_new && me.may_be_new);
        let rivals = all().filter(|other| other.app == me.app && is_of_my_class(other));
        let at_once =
            rivals.filter(|other| other.began <= now && other.ended.is_none_or(|at| at >= me.began));
        let mut clients: Vec<_> = at_once.map(|other| other.client).collect();
        clients.sort_unstable();
        clients.dedup();
        let mine = all().filter(|other| other.client == me.client && other.app == me.app);
        let mine = mine.filter(|other| other.began + MINUTE > me.began).count();
        // A name takes a turn of its own.
        let turns = 1 + usize::from(asking.wish.place.name.is_some());
        clients.len() * turns > MAX_RIVALS || mine > MAX_REQUESTS
    }
}

const LOOK_UP_KEPT: Duration = Duration::from_secs(600);
/// A look-up and a mint.
const LATENCY: Duration = Duration::from_millis(700);
/// A call that hangs, and one after it.
const HANGING: Duration = Duration::from_millis(16_000);
/// So many clients of a class have a turn within ten seconds, whatever the other classes want: new keys get 4 of 14
/// mints, of which there are 100 a minute, that is one in 2.1 s; and a class may have had its turn just before.
const MAX_RIVALS: usize = 3;
/// That share in a minute, by four.
const MAX_REQUESTS: usize = 7;
