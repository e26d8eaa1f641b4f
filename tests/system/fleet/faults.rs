//! What is broken, where and when.

use std::time::Duration;

use super::github::{Ask, Call};
use super::time::{Rng, Time};
use super::world::Place;

/// How far a fault reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every call.
    Host,
    /// So many calls in a hundred, whichever.
    Connections(u64),
    App(usize),
    Installation(u64),
    /// The look-ups of all owners and repositories.
    LookUps,
    /// The look-up of one owner or repository, by its path.
    Name(String),
}

/// What GitHub, or the way to it, does instead of answering well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// This status, with `Retry-After` or without.
    Status(u16, Option<u64>),
    /// 403: the installation is suspended.
    Suspended,
    /// The installation is gone, also if it is looked up.
    Removed,
    /// 429 or 403: a rate limit.
    Limit(u16, Option<u64>),
    /// No answer until the request times out.
    Hang,
    /// The connection is cut.
    Reset,
    /// No connection.
    Refused,
    /// An answer after 5 to 10 seconds.
    Slow,
    /// 401: the key is not one of the app's.
    KeyRevoked,
    /// 401: GitHub knows no such app.
    AppRefused,
}

#[derive(Debug, Clone)]
pub struct Fault {
    pub scope: Scope,
    pub effect: Effect,
    pub from: Time,
    pub until: Time,
}

impl Fault {
    /// A fault from `from` to `until`, in milliseconds.
    pub fn during(scope: Scope, effect: Effect, from: u64, until: u64) -> Self {
        Self { scope, effect, from: Duration::from_millis(from), until: Duration::from_millis(until) }
    }

    fn is_active(&self, now: Time) -> bool {
        self.from <= now && now < self.until
    }

    fn concerns(&self, call: &Call) -> bool {
        match (&self.scope, &call.ask) {
            (Scope::Host | Scope::Connections(_), _) => true,
            (Scope::App(app), _) => call.app == Some(*app),
            (Scope::Installation(id), Ask::Mint { installation, .. }) => id == installation,
            (Scope::Installation(id), Ask::Confirm(installation) | Ask::LookUp { installation, .. }) => {
                self.effect == Effect::Removed && id == installation
            }
            (Scope::Name(path), Ask::LookUp { path: asked, .. }) => path == asked,
            (Scope::LookUps, Ask::LookUp { .. }) => true,
            _ => false,
        }
    }

    fn touches(&self, place: &Place) -> bool {
        match &self.scope {
            Scope::Host | Scope::Connections(_) => true,
            Scope::App(app) => *app == place.app,
            Scope::Installation(id) => *id == place.installation,
            Scope::LookUps => place.name.is_some(),
            Scope::Name(path) => place.name.as_ref() == Some(path),
        }
    }

    /// The wider ones come first: who cannot connect hears of nothing else.
    fn rank(&self) -> usize {
        match self.scope {
            Scope::Host => 0,
            Scope::Connections(_) => 1,
            Scope::App(_) => 2,
            Scope::Installation(_) | Scope::LookUps | Scope::Name(_) => 3,
        }
    }
}

/// All faults there are and were.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub fn add(&mut self, fault: Fault) {
        self.0.push(fault);
        self.0.sort_by_key(Fault::rank);
    }

    /// What becomes of `call` if it is sent now.
    pub fn effect(&self, call: &Call, now: Time, rng: &mut Rng) -> Option<Effect> {
        let met = |fault: &&Fault| match fault.scope {
            _ if !fault.is_active(now) || !fault.concerns(call) => false,
            Scope::Connections(percent) => rng.chance(percent),
            _ => true,
        };
        self.0.iter().find(met).map(|fault| fault.effect)
    }

    /// Whether nothing was broken that a token for `place` takes, at any time from `from` to `until`.
    pub fn were_none(&self, place: &Place, from: Time, until: Time) -> bool {
        !self.0.iter().any(|fault| fault.touches(place) && fault.from <= until && from < fault.until)
    }

    pub fn list(&self) -> &[Fault] {
        &self.0
    }
}

/// Faults that come and go from `from` to `until`, at random.
pub fn at_random(rng: &mut Rng, places: &[Place], from: Time, until: Time) -> Faults {
    let mut faults = Faults::default();
    let mut now = from;
    while now < until {
        let (effect, length) = (random_effect(rng), rng.seconds(10, 400));
        let scopes = random_scopes(rng, places, effect);
        // What stops everybody is short: else nothing healthy is left to look at.
        let is_wide = matches!(scopes[0], Scope::Host | Scope::Connections(_) | Scope::App(_));
        let length = if is_wide { length / 5 } else { length };
        for scope in scopes {
            faults.add(Fault { scope, effect, from: now, until: (now + length).min(until) });
        }
        now += rng.seconds(5, 90);
    }
    faults
}

fn random_effect(rng: &mut Rng) -> Effect {
    let named = |rng: &mut Rng| rng.chance(60).then(|| rng.between(5, 60));
    match rng.below(14) {
        0 | 1 => Effect::Status(*rng.pick(&[500, 502, 503, 504]), None),
        2 => Effect::Status(503, named(rng)),
        3 => Effect::Status(404, None),
        4 => Effect::Status(422, None),
        5 => Effect::Suspended,
        6 => Effect::Removed,
        7 => Effect::Limit(*rng.pick(&[403, 429]), named(rng)),
        8 | 9 => Effect::Hang,
        10 => Effect::Reset,
        11 => Effect::Refused,
        12 => Effect::Slow,
        _ => *rng.pick(&[Effect::KeyRevoked, Effect::AppRefused]),
    }
}

fn random_scopes(rng: &mut Rng, places: &[Place], effect: Effect) -> Vec<Scope> {
    let app = rng.below(3);
    let wide = |rng: &mut Rng| match rng.chance(50) {
        true => Scope::Host,
        false => Scope::Connections(rng.between(5, 60)),
    };
    match effect {
        Effect::Limit(..) | Effect::KeyRevoked | Effect::AppRefused => vec![Scope::App(app)],
        Effect::Refused => vec![wide(rng)],
        Effect::Removed | Effect::Suspended | Effect::Status(404 | 422, _) => {
            some_installations(rng, places, app)
        }
        _ => match rng.below(10) {
            0 => vec![wide(rng)],
            1 => vec![Scope::App(app)],
            2..6 => some_names(rng, places, app),
            _ => some_installations(rng, places, app),
        },
    }
}

fn some_installations(rng: &mut Rng, places: &[Place], app: usize) -> Vec<Scope> {
    let mut ids: Vec<_> = of_app(places, app).map(|place| place.installation).collect();
    ids.sort_unstable();
    ids.dedup();
    some(rng, ids, Scope::Installation)
}

fn some_names(rng: &mut Rng, places: &[Place], app: usize) -> Vec<Scope> {
    let mut names: Vec<_> = of_app(places, app).filter_map(|place| place.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    some(rng, names, Scope::Name)
}

fn of_app(places: &[Place], app: usize) -> impl Iterator<Item = &Place> {
    places.iter().filter(move |place| place.app == app)
}

/// Up to a third of them, one at least.
fn some<T>(rng: &mut Rng, mut list: Vec<T>, scope: fn(T) -> Scope) -> Vec<Scope> {
    let count = rng.between(1, (list.len() / 3).max(1) as u64 + 1);
    (0..count).map(|_| scope(list.swap_remove(rng.below(list.len())))).collect()
}
