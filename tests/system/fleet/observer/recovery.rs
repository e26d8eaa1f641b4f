//! What has to happen after the faults: keys in use are renewed, at the full rate of their app.

use super::{GRAIN, Held, MAX_MEMORY, MAX_TURN, MINUTE, Observer};
use crate::fleet::report::Rule;
use crate::fleet::time::Time;
use crate::fleet::world::{INSTALLATIONS, WINDOWS, Wish};

/// A key in use that is to be renewed.
#[derive(Debug, Clone)]
pub struct Due {
    pub question: String,
    pub app: usize,
    /// When the token in hand ends; zero without one.
    pub ends: Time,
}

impl Observer {
    /// Those of `keys` that are to be renewed by now, or must be minted.
    pub fn due(&self, keys: &[Wish]) -> Vec<Due> {
        let (now, state) = (self.clock.now(), self.lock());
        let mut due: Vec<_> = keys
            .iter()
            .filter_map(|wish| {
                let key = state.keys.get(&wish.question)?;
                let dropped = state.dropped.get(&wish.place.installation).copied();
                let held = key.newest.filter(|_| key.lives(dropped, now));
                let is_due = |held: Held| held.remaining(now) <= WINDOWS.renew_before.min(held.life / 3);
                let ends = held.map_or(Time::ZERO, |held| held.sent + held.life);
                let (question, app) = (wish.question.clone(), wish.place.app);
                held.is_none_or(is_due).then_some(Due { question, app, ends })
            })
            .collect();
        due.sort_by(|a, b| (a.ends, &a.question).cmp(&(b.ends, &b.question)));
        due.dedup_by(|a, b| a.question == b.question);
        due
    }

    /// When each of `due` got the token that it has now, if that was after `from`.
    pub fn renewed(&self, due: &Due, from: Time) -> Option<Time> {
        let state = self.lock();
        state.keys[&due.question].newest.map(|held| held.came).filter(|came| *came >= from)
    }

    /// Whether the keys that were `due` at `from`, when the faults ended, were renewed at the full rate of their app.
    pub fn check_recovery(&self, due: &[Due], from: Time, mints_per_minute: u32) {
        for app in 0..INSTALLATIONS.len() {
            let due: Vec<_> = due.iter().filter(|due| due.app == app).collect();
            let renewed: Vec<_> = due.iter().map(|due| self.renewed(due, from)).collect();
            let from = from.max(self.lock().evidence.limited_until(app));
            // What hung when the faults ended still fails some seconds later.
            let failed = |due: &&Due| self.lock().evidence.failed_at(&due.question);
            let from = due.iter().filter_map(failed).max().map_or(from, |failed| from.max(failed));
            let (first, last) = (renewed.iter().flatten().min(), renewed.iter().flatten().max());
            // Others become due meanwhile.
            let mints = self.lock().traffic.mints(app, from, last.copied().unwrap_or(from));
            let of_rate = MINUTE * 3 / (mints_per_minute * 2) * mints as u32;
            let limits = (from + MAX_MEMORY + GRAIN, from + MAX_MEMORY + of_rate + MAX_TURN);
            let is_late = first.is_some_and(|at| *at > limits.0) || last.is_some_and(|at| *at > limits.1);
            let forgotten =
                due.iter().zip(&renewed).find(|(_, at)| at.is_none()).map(|(due, _)| &due.question);
            if is_late || forgotten.is_some() {
                let what = format!(
                    "{} keys of app {app} from {from:?} on: {first:?} to {last:?}, and never {forgotten:?}",
                    due.len()
                );
                self.lock().report.broken(self.clock.now(), Some(app), Rule::Recovery, what);
            }
        }
    }
}
