//! Refresh schedule: when each cached key is to be looked at next, and which of them are due for a refresh. Pure.
//!
//! A key is in one place at most: it waits for a time, or it is ready and waits for its turn, the one that expires
//! first before all others of its app. A look at what is due takes no time for what is not.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::clock::BootTime;
use crate::model::AppName;

/// The number of a cached key for as long as it stays cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PairId(pub(in crate::broker) u64);

/// Which keys a ready one waits behind: failing keys do not hold up healthy ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Their last mint succeeded.
    Healthy,
    /// Their last mint failed.
    Suspect,
}

/// Keys by the time of their next event, and those that are ready by app and expiry.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    waiting: BTreeSet<(BootTime, PairId)>,
    ready: BTreeMap<(AppName, Lane), BTreeSet<(BootTime, PairId)>>,
    places: HashMap<PairId, Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Waiting(BootTime),
    Ready((AppName, Lane), BootTime),
}

impl Schedule {
    /// Has `id` looked at when it is `at`, and not before.
    pub(crate) fn wait_until(&mut self, id: PairId, at: BootTime) {
        self.cancel(id);
        self.waiting.insert((at, id));
        self.places.insert(id, Place::Waiting(at));
    }

    /// Puts `id`, whose token ends at `end`, in line for a refresh.
    pub(crate) fn make_ready(&mut self, id: PairId, lane: (AppName, Lane), end: BootTime) {
        self.cancel(id);
        self.ready.entry(lane.clone()).or_default().insert((end, id));
        self.places.insert(id, Place::Ready(lane, end));
    }

    /// Forgets `id`.
    pub(crate) fn cancel(&mut self, id: PairId) {
        match self.places.remove(&id) {
            Some(Place::Waiting(at)) => drop(self.waiting.remove(&(at, id))),
            Some(Place::Ready(app, end)) => {
                if let Some(lane) = self.ready.get_mut(&app) {
                    lane.remove(&(end, id));
                }
            }
            None => {}
        }
    }

    /// Takes out what is due by `now`, the earliest first, and at most so many.
    pub(crate) fn take_due(&mut self, now: BootTime, limit: usize) -> Vec<PairId> {
        let due = self.waiting.iter().take_while(|(at, _)| *at <= now).take(limit);
        let due: Vec<_> = due.map(|(_, id)| *id).collect();
        due.iter().for_each(|id| self.cancel(*id));
        due
    }

    /// The first in a lane.
    pub(crate) fn first_ready(&self, lane: &(AppName, Lane)) -> Option<PairId> {
        self.ready.get(lane)?.first().map(|(_, id)| *id)
    }

    /// The length of a lane.
    pub(crate) fn ready_count(&self, lane: &(AppName, Lane)) -> usize {
        self.ready.get(lane).map_or(0, BTreeSet::len)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    #[derive(Debug, Clone)]
    enum Step {
        Wait(u64, u64),
        Ready(u64, usize, u64),
        Cancel(u64),
        TakeDue(u64, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6_u64, 0..20_u64).prop_map(|(id, at)| Step::Wait(id, at)),
            2 => (0..6_u64, 0..2_usize, 0..20_u64).prop_map(|(id, app, end)| Step::Ready(id, app, end)),
            1 => (0..6_u64).prop_map(Step::Cancel),
            2 => (0..20_u64, 0..4_usize).prop_map(|(now, limit)| Step::TakeDue(now, limit)),
        ]
    }

    proptest! {
        #[test]
        fn schedule_equals_a_plain_list(steps in proptest::collection::vec(step(), 0..60)) {
            let apps = ["one", "two"].map(|name| name.parse::<AppName>().unwrap());
            let mut schedule = Schedule::default();
            // Time and key; those that are ready have an app.
            let mut list: Vec<(Option<usize>, u64, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Wait(id, moment) => {
                        schedule.wait_until(PairId(id), at(moment));
                        list.retain(|(_, _, known)| *known != id);
                        list.push((None, moment, id));
                    }
                    Step::Ready(id, app, end) => {
                        schedule.make_ready(PairId(id), (apps[app].clone(), Lane::Healthy), at(end));
                        list.retain(|(_, _, known)| *known != id);
                        list.push((Some(app), end, id));
                    }
                    Step::Cancel(id) => {
                        schedule.cancel(PairId(id));
                        list.retain(|(_, _, known)| *known != id);
                    }
                    Step::TakeDue(now, limit) => {
                        list.sort_unstable();
                        let due = list.iter().filter(|(app, moment, _)| app.is_none() && *moment <= now);
                        let due: Vec<_> = due.take(limit).map(|(_, _, id)| PairId(*id)).collect();
                        list.retain(|(_, _, id)| !due.contains(&PairId(*id)));
                        prop_assert_eq!(schedule.take_due(at(now), limit), due);
                    }
                }
                for (index, app) in apps.iter().enumerate() {
                    let mut lane: Vec<_> = list.iter().filter(|(known, _, _)| *known == Some(index)).collect();
                    lane.sort_unstable();
                    prop_assert_eq!(schedule.first_ready(&(app.clone(), Lane::Healthy)), lane.first().map(|(_, _, id)| PairId(*id)));
                    prop_assert_eq!(schedule.ready_count(&(app.clone(), Lane::Healthy)), lane.len());
                }
                prop_assert_eq!(schedule.places.len(), list.len());
            }
        }
    }
}
