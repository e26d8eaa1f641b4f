//! Key ring: the private keys of one app, their rotation, and which of them signs, by what GitHub thinks of each.
//!
//! The newest key signs. One that GitHub refuses is passed over for some minutes in favour of the next, and then tried
//! again. When the keys are replaced, the one that GitHub accepted last stays as a last resort until it has accepted a
//! new one: a file that holds the key of another app by mistake costs no token.

use std::time::Duration;

use parking_lot::Mutex;

use super::jwt::{Issuer, Signed};
use super::key::Key;
use crate::clock::{BootTime, GithubClock};
use crate::model::{AppName, KeyInUse, KeyStatus};

/// Signs app JWTs for one app and keeps the last one.
pub(crate) struct KeyRing {
    app: AppName,
    issuer: Issuer,
    state: Mutex<State>,
}

struct State {
    /// Newest first, no two the same.
    held: Vec<KeySlot>,
    /// Fingerprint of the key that GitHub accepted last.
    accepted: Option<String>,
    /// Whether a key was refused since then, so that the next that is accepted is news.
    rejected_since_accepted: bool,
    current: Option<Signed>,
    /// How often a JWT was signed.
    signatures: u64,
}

struct KeySlot {
    key: Key,
    /// Refused by GitHub, and passed over until then.
    refused_until: Option<BootTime>,
    /// No longer configured: a last resort.
    retired: bool,
}

impl KeyRing {
    /// `id` is the app's or the client's; `keys` are newest first.
    pub(crate) fn new(app: AppName, id: &str, keys: Vec<Key>) -> Self {
        let state = State {
            held: distinct(keys),
            accepted: None,
            rejected_since_accepted: false,
            current: None,
            signatures: 0,
        };
        Self { app, issuer: Issuer::new(id), state: Mutex::new(state) }
    }

    /// A JWT that GitHub accepts for some minutes more, by the newest key that it does not refuse; if it refuses all,
    /// by the newest. `None` if there is no key that can sign, which the tests at load exclude.
    pub(crate) fn sign(&self, clock: &GithubClock) -> Option<Signed> {
        let mut state = self.state.lock();
        let turn = state.turn(clock.boot())?;
        state.sign(turn, &self.issuer, clock)
    }

    /// The same for a call that cannot be repeated: it is no occasion to try a key out, so the one that GitHub accepted
    /// last goes first.
    pub(crate) fn sign_with_last_accepted(&self, clock: &GithubClock) -> Option<Signed> {
        let mut state = self.state.lock();
        let now = clock.boot();
        let proven = |held: &KeySlot| Some(held.fingerprint()) == state.accepted.as_deref();
        let proven = state.held.iter().position(|held| proven(held) && !held.is_refused(now));
        let turn = proven.or_else(|| state.turn(now))?;
        state.sign(turn, &self.issuer, clock)
    }

    /// GitHub does not know the key of `signed`. Whether there is another one to try.
    pub(crate) fn refused(&self, signed: &Signed, clock: &GithubClock) -> bool {
        let now = clock.boot();
        let mut state = self.state.lock();
        let mut is_news = false;
        if let Some(held) = state.find(signed) {
            is_news = !held.is_refused(now);
            held.refused_until = Some(now.plus(REFUSED_FOR));
            state.rejected_since_accepted = true;
        }
        let next = state.held.iter().find(|held| !held.is_refused(now));
        if is_news {
            let (app, refused) = (&self.app, signed.fingerprint());
            match next.map(KeySlot::fingerprint) {
                Some(next) => {
                    tracing::warn!(%app, refused, next, "GitHub refuses a private key: trying the next")
                }
                None => tracing::error!(%app, refused, "GitHub refuses a private key, and there is no other"),
            }
        }
        next.is_some()
    }

    /// GitHub has accepted the key of `signed`.
    pub(crate) fn accepted(&self, signed: &Signed) {
        let mut state = self.state.lock();
        let Some(held) = state.find(signed) else { return };
        held.refused_until = None;
        if !held.retired {
            state.held.retain(|held| !held.retired);
        }
        let fingerprint = signed.fingerprint();
        if state.rejected_since_accepted || state.accepted.as_deref() != Some(fingerprint) {
            tracing::info!(app = %self.app, fingerprint, "GitHub accepts this private key");
        }
        state.rejected_since_accepted = false;
        state.accepted = Some(fingerprint.to_owned());
    }

    /// Puts `new`, newest first, in the place of the keys so far. Whether that changes anything.
    pub(crate) fn replace(&self, new: Vec<Key>, clock: &GithubClock) -> bool {
        let mut state = self.state.lock();
        let new = distinct(new);
        let configured = state.held.iter().filter(|held| !held.retired);
        if configured.map(KeySlot::fingerprint).eq(new.iter().map(KeySlot::fingerprint)) {
            return false;
        }
        let accepted =
            state.held.iter().position(|held| Some(held.fingerprint()) == state.accepted.as_deref());
        let last_resort = accepted.or_else(|| state.turn(clock.boot())).map(|at| state.held.swap_remove(at));
        state.held = new;
        if let Some(held) = last_resort
            && !state.held.iter().any(|new| new.fingerprint() == held.fingerprint())
        {
            state.held.push(KeySlot { retired: true, ..held });
        }
        true
    }

    /// Every key and how it stands.
    pub(crate) fn list(&self, clock: &GithubClock) -> Vec<KeyInUse> {
        let state = self.state.lock();
        let now = clock.boot();
        let turn = state.turn(now);
        let shown = |(at, held): (usize, &KeySlot)| {
            let status = match held.is_refused(now) {
                true => KeyStatus::Rejected,
                false if turn == Some(at) => KeyStatus::Active,
                false => KeyStatus::Standby,
            };
            KeyInUse { fingerprint: held.fingerprint().to_owned(), status }
        };
        state.held.iter().enumerate().map(shown).collect()
    }

    /// How many app JWTs were signed.
    pub(crate) fn signatures(&self) -> u64 {
        self.state.lock().signatures
    }
}

impl State {
    /// Whose turn it is to sign.
    fn turn(&self, now: BootTime) -> Option<usize> {
        let newest = (!self.held.is_empty()).then_some(0);
        self.held.iter().position(|held| !held.is_refused(now)).or(newest)
    }

    fn sign(&mut self, turn: usize, issuer: &Issuer, clock: &GithubClock) -> Option<Signed> {
        let (key, now) = (&self.held.get(turn)?.key, clock.now());
        let in_hand = self.current.as_ref().filter(|signed| signed.fingerprint() == key.fingerprint());
        if let Some(signed) = in_hand.filter(|signed| signed.is_usable(now)) {
            return Some(signed.clone());
        }
        let signed = Signed::new(issuer, key, now)?;
        self.signatures += 1;
        self.current = Some(signed.clone());
        Some(signed)
    }

    /// The key of `signed`, unless it has been replaced meanwhile.
    fn find(&mut self, signed: &Signed) -> Option<&mut KeySlot> {
        self.held.iter_mut().find(|held| held.fingerprint() == signed.fingerprint())
    }
}

impl KeySlot {
    fn fingerprint(&self) -> &str {
        self.key.fingerprint()
    }

    fn is_refused(&self, now: BootTime) -> bool {
        self.refused_until.is_some_and(|until| now < until)
    }
}

/// As a rotation may leave one key in two files, and asking GitHub about it twice would be once too often.
fn distinct(keys: Vec<Key>) -> Vec<KeySlot> {
    let mut held: Vec<KeySlot> = Vec::with_capacity(keys.len());
    for key in keys {
        if held.iter().all(|held| held.fingerprint() != key.fingerprint()) {
            held.push(KeySlot { key, refused_until: None, retired: false });
        }
    }
    held
}

/// GitHub locks apps out for too many refused logins, and does not say how many those are.
const REFUSED_FOR: Duration = Duration::from_secs(600);
