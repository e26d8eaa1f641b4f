//! Key ring: the private keys of one app, their rotation, and which of them signs, by what GitHub thinks of each.
//!
//! The newest key signs. One that GitHub rejects is passed over for some minutes in favour of the next, and then tried
//! again. When the keys are replaced, the one that GitHub accepted last stays as a last resort until it has accepted a
//! new one: a file that holds the key of another app by mistake costs no token.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::jwt::{AppJwt, Issuer, is_usable};
use super::signer::{SignError, Signer};
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
    slots: Vec<KeySlot>,
    /// Fingerprint of the key that GitHub accepted last.
    accepted: Option<String>,
    /// Whether a key was rejected since then, so that the next accepted one is logged.
    rejected_since_accepted: bool,
    current: Option<Current>,
    /// How often a JWT was signed.
    signatures: u64,
}

/// The JWT in use. All calls share it, also while it is being signed.
struct Current {
    jwt: Signing,
    fingerprint: String,
    issued_at: Timestamp,
}

/// A JWT that is being signed, or has been.
type Signing = Shared<BoxFuture<'static, Result<AppJwt, SignError>>>;

struct KeySlot {
    signer: Arc<dyn Signer>,
    /// Rejected by GitHub, and passed over until then.
    rejected_until: Option<BootTime>,
    /// No longer configured: a last resort.
    retired: bool,
}

impl KeyRing {
    /// `id` is the app's or the client's; `keys` are newest first.
    pub(crate) fn new(app: AppName, id: &str, keys: Vec<Arc<dyn Signer>>) -> Self {
        let state = State {
            slots: distinct(keys),
            accepted: None,
            rejected_since_accepted: false,
            current: None,
            signatures: 0,
        };
        Self { app, issuer: Issuer::new(id), state: Mutex::new(state) }
    }

    /// A JWT that GitHub accepts for some minutes more, by the newest key that it does not reject; if it rejects all,
    /// by the newest. An error if there is no key that can sign, which the tests at load exclude.
    pub(crate) async fn sign(&self, clock: &GithubClock) -> Result<AppJwt, SignError> {
        let signing = self.state.lock().sign_with_newest(&self.issuer, clock);
        signing.ok_or_else(no_key)?.await
    }

    /// The same for a call that cannot be repeated: it is no occasion to try a key out, so the one that GitHub accepted
    /// last goes first.
    pub(crate) async fn sign_with_last_accepted(&self, clock: &GithubClock) -> Result<AppJwt, SignError> {
        let signing = self.state.lock().sign_with_last_accepted(&self.issuer, clock);
        signing.ok_or_else(no_key)?.await
    }

    /// GitHub does not know the key of `jwt`. Whether there is another one to try.
    pub(crate) fn note_rejected(&self, jwt: &AppJwt, clock: &GithubClock) -> bool {
        let now = clock.boot();
        let mut state = self.state.lock();
        let mut is_first_time = false;
        if let Some(slot) = state.find(jwt) {
            is_first_time = !slot.is_rejected(now);
            slot.rejected_until = Some(now.plus(REJECTED_FOR));
            state.rejected_since_accepted = true;
        }
        let next = state.slots.iter().find(|slot| !slot.is_rejected(now));
        if is_first_time {
            let (app, rejected) = (&self.app, jwt.fingerprint());
            match next.map(KeySlot::fingerprint) {
                Some(next) => tracing::warn!(
                    %app, rejected, next, "GitHub rejected a private key; falling back to the next key"
                ),
                None => {
                    tracing::error!(%app, rejected, "GitHub rejected a private key; there is no other key")
                }
            }
        }
        next.is_some()
    }

    /// GitHub has accepted the key of `jwt`.
    pub(crate) fn note_accepted(&self, jwt: &AppJwt) {
        let mut state = self.state.lock();
        let Some(slot) = state.find(jwt) else { return };
        slot.rejected_until = None;
        if !slot.retired {
            state.slots.retain(|slot| !slot.retired);
        }
        let fingerprint = jwt.fingerprint();
        if state.rejected_since_accepted || state.accepted.as_deref() != Some(fingerprint) {
            tracing::info!(app = %self.app, fingerprint, "GitHub accepted this private key");
        }
        state.rejected_since_accepted = false;
        state.accepted = Some(fingerprint.to_owned());
    }

    /// Puts `new`, newest first, in the place of the keys so far. Whether that changes anything.
    pub(crate) fn replace(&self, new: Vec<Arc<dyn Signer>>, clock: &GithubClock) -> bool {
        let mut state = self.state.lock();
        let new = distinct(new);
        let configured = state.slots.iter().filter(|slot| !slot.retired);
        if configured.map(KeySlot::fingerprint).eq(new.iter().map(KeySlot::fingerprint)) {
            return false;
        }
        let accepted =
            state.slots.iter().position(|slot| Some(slot.fingerprint()) == state.accepted.as_deref());
        let last_resort = accepted.or_else(|| state.turn(clock.boot())).map(|at| state.slots.swap_remove(at));
        state.slots = new;
        if let Some(slot) = last_resort
            && !state.slots.iter().any(|new| new.fingerprint() == slot.fingerprint())
        {
            state.slots.push(KeySlot { retired: true, ..slot });
        }
        true
    }

    /// Every key and how it stands.
    pub(crate) fn list(&self, clock: &GithubClock) -> Vec<KeyInUse> {
        let state = self.state.lock();
        let now = clock.boot();
        let turn = state.turn(now);
        let shown = |(at, slot): (usize, &KeySlot)| {
            let status = match slot.is_rejected(now) {
                true => KeyStatus::Rejected,
                false if turn == Some(at) => KeyStatus::Active,
                false => KeyStatus::Standby,
            };
            KeyInUse { fingerprint: slot.fingerprint().to_owned(), status }
        };
        state.slots.iter().enumerate().map(shown).collect()
    }

    /// How many app JWTs were signed.
    pub(crate) fn signatures(&self) -> u64 {
        self.state.lock().signatures
    }
}

impl State {
    /// Whose turn it is to sign.
    fn turn(&self, now: BootTime) -> Option<usize> {
        let newest = (!self.slots.is_empty()).then_some(0);
        self.slots.iter().position(|slot| !slot.is_rejected(now)).or(newest)
    }

    fn sign_with_newest(&mut self, issuer: &Issuer, clock: &GithubClock) -> Option<Signing> {
        let turn = self.turn(clock.boot())?;
        self.sign(turn, issuer, clock)
    }

    fn sign_with_last_accepted(&mut self, issuer: &Issuer, clock: &GithubClock) -> Option<Signing> {
        let now = clock.boot();
        let is_accepted = |slot: &KeySlot| Some(slot.fingerprint()) == self.accepted.as_deref();
        let accepted = self.slots.iter().position(|slot| is_accepted(slot) && !slot.is_rejected(now));
        let turn = accepted.or_else(|| self.turn(now))?;
        self.sign(turn, issuer, clock)
    }

    /// The signing under way, or done, by the key whose turn it is; else a new one. It begins when it is first awaited.
    fn sign(&mut self, turn: usize, issuer: &Issuer, clock: &GithubClock) -> Option<Signing> {
        let (slot, now) = (self.slots.get(turn)?, clock.now());
        let current = self.current.as_ref().filter(|current| current.fingerprint == slot.fingerprint());
        if let Some(current) = current.filter(|current| current.is_usable(now)) {
            return Some(current.jwt.clone());
        }
        let jwt = AppJwt::sign(issuer.clone(), Arc::clone(&slot.signer), now).boxed().shared();
        let fingerprint = slot.fingerprint().to_owned();
        self.signatures += 1;
        self.current = Some(Current { jwt: jwt.clone(), fingerprint, issued_at: now });
        Some(jwt)
    }

    /// The key of `jwt`, unless it has been replaced meanwhile.
    fn find(&mut self, jwt: &AppJwt) -> Option<&mut KeySlot> {
        self.slots.iter_mut().find(|slot| slot.fingerprint() == jwt.fingerprint())
    }
}

impl Current {
    fn is_usable(&self, now: Timestamp) -> bool {
        is_usable(self.issued_at, now) && !matches!(self.jwt.peek(), Some(Err(_)))
    }
}

impl KeySlot {
    fn fingerprint(&self) -> &str {
        self.signer.fingerprint()
    }

    fn is_rejected(&self, now: BootTime) -> bool {
        self.rejected_until.is_some_and(|until| now < until)
    }
}

/// As a rotation may leave one key in two files, and asking GitHub about it twice would be once too often.
fn distinct(keys: Vec<Arc<dyn Signer>>) -> Vec<KeySlot> {
    let mut slots: Vec<KeySlot> = Vec::with_capacity(keys.len());
    for signer in keys {
        if slots.iter().all(|slot| slot.fingerprint() != signer.fingerprint()) {
            slots.push(KeySlot { signer, rejected_until: None, retired: false });
        }
    }
    slots
}

fn no_key() -> SignError {
    SignError::new(&"there is no key")
}

/// GitHub locks apps out for too many rejected logins, and does not say how many those are.
const REJECTED_FOR: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;
    use tokio::sync::Semaphore;

    use super::super::signer::Signature;
    use super::*;
    use crate::clock::SystemClock;

    /// Signs once for each permit, but fails the first times.
    #[derive(Debug)]
    struct RemoteSigner {
        permits: Semaphore,
        calls: Mutex<u32>,
        failures: u32,
    }

    impl RemoteSigner {
        fn new(failures: u32) -> Arc<Self> {
            Arc::new(Self { permits: Semaphore::new(0), calls: Mutex::new(0), failures })
        }

        fn ring(self: &Arc<Self>) -> KeyRing {
            KeyRing::new("bot".parse().unwrap(), "1", vec![Arc::clone(self) as Arc<dyn Signer>])
        }
    }

    impl Signer for RemoteSigner {
        fn sign<'a>(&'a self, _: &'a [u8]) -> Signature<'a> {
            Box::pin(async {
                *self.calls.lock() += 1;
                self.permits.acquire().await.map_err(|error| SignError::new(&error))?.forget();
                match *self.calls.lock() {
                    call if call <= self.failures => Err(SignError::new(&"the key service is away")),
                    call => Ok(call.to_be_bytes().to_vec()),
                }
            })
        }

        fn fingerprint(&self) -> &str {
            "SHA256:remote"
        }
    }

    fn clock() -> GithubClock {
        GithubClock::new(Arc::new(SystemClock))
    }

    #[tokio::test]
    async fn concurrent_calls_share_one_signing() {
        let (signer, clock) = (RemoteSigner::new(0), clock());
        let ring = signer.ring();
        let (mut first, mut second) = (Box::pin(ring.sign(&clock)), Box::pin(ring.sign(&clock)));
        assert!(poll_immediate(&mut first).await.is_none() && poll_immediate(&mut second).await.is_none());
        assert_eq!(ring.list(&clock)[0].status, KeyStatus::Active, "the ring is not locked meanwhile");
        // Whoever began it may go away.
        drop(first);
        signer.permits.add_permits(1);
        let second = second.await.unwrap();
        let third = ring.sign_with_last_accepted(&clock).await.unwrap();
        assert_eq!(second.secret.expose(), third.secret.expose());
        assert_eq!((*signer.calls.lock(), ring.signatures()), (1, 1));
    }

    #[tokio::test]
    async fn failed_signing_is_not_kept() {
        let (signer, clock) = (RemoteSigner::new(1), clock());
        let ring = signer.ring();
        signer.permits.add_permits(2);
        let error = ring.sign(&clock).await.unwrap_err();
        assert_eq!(error.to_string(), "the key service is away");
        assert!(ring.sign(&clock).await.is_ok());
        assert_eq!(*signer.calls.lock(), 2);
    }
}
