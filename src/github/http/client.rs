//! The HTTP client: one for the whole daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::answer::Answer;
use super::classify::refuses_key;
use super::config::UpstreamConfig;
use super::request::Request;
use super::transport::Transport;
use crate::clock::{BootTime, Clock, GithubClock};
use crate::github::admission::{self, Admission, AdmissionStatus, Call, Calls, Limits, Permit};
use crate::github::auth::jwt::AppJwt;
use crate::github::auth::key::{Key, SignError};
use crate::github::auth::key_ring::KeyRing;
use crate::github::failure::{Failure, Kind};
use crate::model::{AppName, KeyInUse, Secret};
use crate::single_flight::Demand;

/// Sends requests to one GitHub with an app's JWT, and brings answers. What is in them is the dialects' matter.
pub(crate) struct Client {
    transport: Arc<dyn Transport>,
    base: Url,
    apps: BTreeMap<AppName, KeyRing>,
    github_clock: GithubClock,
    admission: Admission,
    calls: Calls,
    clock_is_wrong: AtomicBool,
    /// No call is retried that long after it was first sent.
    retry_window: Duration,
}

/// How a call was signed so far.
#[derive(Default)]
struct Signatures {
    by_right_clock: bool,
    keys: u32,
}

impl Client {
    /// A client for `apps`, each with its id and its keys, newest first.
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        config: &UpstreamConfig,
        apps: BTreeMap<AppName, (String, Vec<Key>)>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let ring = |(name, (id, keys)): (AppName, (String, Vec<Key>))| {
            (name.clone(), KeyRing::new(name, &id, keys.iter().map(Key::signer).collect()))
        };
        let apps = apps.into_iter().map(ring).collect();
        let limits = Limits {
            places: config.calls_at_once,
            mints_per_minute: config.mints_per_minute,
            memory: config.remembered_bytes,
            // The longest of all: no connection, and then no answer.
            timeout: config.connect_timeout + config.request_timeout,
        };
        let admission = Admission::new(Arc::clone(&clock), limits);
        let github_clock = GithubClock::new(clock);
        Self {
            transport,
            base: config.api_url.clone(),
            apps,
            github_clock,
            admission,
            calls: Calls::default(),
            clock_is_wrong: AtomicBool::new(false),
            retry_window: RETRY_WINDOW.min(config.request_timeout),
        }
    }

    /// Base of the REST API.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// GitHub's clock, as this client learns it from every answer.
    pub(crate) fn github_clock(&self) -> &GithubClock {
        &self.github_clock
    }

    /// What lets calls through.
    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// What is limited, waits and was counted.
    pub(crate) fn status(&self) -> AdmissionStatus {
        let signatures = self.apps.values().map(KeyRing::signatures).sum();
        AdmissionStatus { signatures, ..self.admission.status() }
    }

    /// What makes calls for it.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The keys of `app`, and how each stands.
    pub(crate) fn keys(&self, app: &AppName) -> Vec<KeyInUse> {
        self.apps.get(app).map(|ring| ring.list(&self.github_clock)).unwrap_or_default()
    }

    /// Puts `keys`, newest first, in the place of those that `app` has. Whether that changes anything.
    pub(crate) fn replace_keys(&self, app: &AppName, keys: Vec<Key>) -> bool {
        let signers = keys.iter().map(Key::signer).collect();
        let is_changed = self.apps.get(app).is_some_and(|ring| ring.replace(signers, &self.github_clock));
        if is_changed {
            self.admission.retry_app(app);
        }
        is_changed
    }

    /// What `read` makes of the answer to `request`, sent as the app, and again where that is worth it. `read` gets the time at which
    /// the request that was answered set out.
    pub(crate) async fn call<T>(
        &self,
        call: &Call,
        request: &Request,
        demand: &mut Demand,
        read: impl Fn(&Answer, BootTime) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let ring = self.ring(call.topic.app.as_ref())?;
        let mut permit = self.admission.enter(call, demand).await?;
        let outcome = self.attempts(&mut permit, ring, request, read).await;
        permit.finish(outcome)
    }

    /// Remembers a failure that was found out by more than one call.
    pub(crate) fn remember(&self, call: &Call, failure: Failure) -> Failure {
        self.admission.remember(call, failure)
    }

    /// The same, sent at most once, whatever comes of it.
    pub(crate) async fn call_no_retry<T>(
        &self,
        call: &Call,
        request: &Request,
        demand: &mut Demand,
        read: impl Fn(&Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let ring = self.ring(call.topic.app.as_ref())?;
        let mut permit = self.admission.enter(call, demand).await?;
        let sending = async {
            permit.confirm()?;
            let jwt = ring.sign_with_last_accepted(&self.github_clock).await.map_err(not_signed)?;
            let answer = self.send(request, &jwt.secret).await?;
            self.record_key_result(ring, &jwt, &answer);
            read(&answer)
        };
        let outcome = sending.await;
        permit.finish(outcome)
    }

    /// The same, authorised by an installation token and not by the app.
    pub(crate) async fn call_with<T>(
        &self,
        token: &Secret,
        (call, request): (&Call, &Request),
        demand: &mut Demand,
        read: impl Fn(&Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut permit = self.admission.enter(call, demand).await?;
        let sending = async {
            permit.confirm()?;
            read(&self.send(request, token).await?)
        };
        let outcome = sending.await;
        permit.finish(outcome)
    }

    /// Sends `request` until an answer is final. A JWT that, as its answer's `Date` shows, a wrong clock had spoilt is signed
    /// anew once; one that was refused for its key is followed by one of the next key; what failed in passing is retried.
    async fn attempts<T>(
        &self,
        permit: &mut Permit,
        ring: &KeyRing,
        request: &Request,
        read: impl Fn(&Answer, BootTime) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let began = self.github_clock.boot();
        let (mut pauses, mut signatures) = (admission::pauses(began), Signatures::default());
        let mut last = None;
        loop {
            // Should something have been learnt since the last attempt, that attempt is what came of the call.
            permit.confirm().map_err(|refused| last.take().unwrap_or(refused))?;
            let sent = self.github_clock.boot();
            let jwt = ring.sign(&self.github_clock).await.map_err(not_signed)?;
            let answer = self.send(request, &jwt.secret).await;
            let is_signed_again = answer
                .as_ref()
                .is_ok_and(|answer| self.needs_another_signature(&mut signatures, ring, &jwt, answer));
            let is_transient =
                is_transient(&answer) && self.github_clock.boot().since(began) < self.retry_window;
            let failure = match answer.and_then(|answer| read(&answer, sent)) {
                Err(failure) => failure,
                done => return done,
            };
            let pause = match (is_signed_again, is_transient) {
                (true, _) => permit.may_repeat().then_some(Duration::ZERO),
                (_, true) => pauses.next().filter(|_| permit.may_retry()),
                _ => None,
            };
            let Some(pause) = pause else { return Err(failure) };
            permit.learn(&failure);
            last = Some(failure);
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether an answer is worth another signature: by the right clock, or by another key.
    fn needs_another_signature(
        &self,
        signatures: &mut Signatures,
        ring: &KeyRing,
        jwt: &AppJwt,
        answer: &Answer,
    ) -> bool {
        if answer.status == 401 && !signatures.by_right_clock && !jwt.is_usable(self.github_clock.now()) {
            tracing::warn!("local clock is skewed; re-signing the app JWT with GitHub's time");
            signatures.by_right_clock = true;
            return true;
        }
        signatures.keys += 1;
        self.record_key_result(ring, jwt, answer) && signatures.keys < MAX_KEYS
    }

    fn ring(&self, app: Option<&AppName>) -> Result<&KeyRing, Failure> {
        app.and_then(|app| self.apps.get(app)).ok_or_else(no_key)
    }

    /// Learns from `answer` what GitHub thinks of the key of `jwt`. Whether another key may have more success.
    fn record_key_result(&self, ring: &KeyRing, jwt: &AppJwt, answer: &Answer) -> bool {
        match answer.status {
            401 if refuses_key(answer) => return ring.note_rejected(jwt, &self.github_clock),
            200..=299 => ring.note_accepted(jwt),
            // A limit, a defect or a wrong app id says nothing of the key.
            _ => {}
        }
        false
    }

    async fn send(&self, request: &Request, credential: &Secret) -> Result<Answer, Failure> {
        let what = request.what;
        let answer = self.transport.send(request, credential).await?;
        if let Some((date, head_at)) = answer.date.zip(answer.head_at) {
            self.update_clock_offset(date, head_at);
        }
        tracing::debug!(
            what,
            status = answer.status,
            github_request_id = answer.request_id,
            "GitHub answered"
        );
        Ok(answer)
    }

    /// Says so when this machine's clock has gone wrong, and when it is right again: JWTs are signed by GitHub's, but
    /// other programs here are not.
    fn update_clock_offset(&self, date: Timestamp, at: BootTime) {
        self.github_clock.observe(date, at);
        let Some(offset) = self.github_clock.offset() else { return };
        let is_wrong = offset.abs() > MAX_UNREPORTED_OFFSET;
        if self.clock_is_wrong.swap(is_wrong, Ordering::Relaxed) == is_wrong {
            return;
        }
        let offset_seconds = offset.as_secs();
        match is_wrong {
            true => {
                tracing::warn!(offset_seconds, "local clock differs from GitHub's: synchronise it by NTP")
            }
            false => tracing::info!(offset_seconds, "local clock agrees with GitHub's again"),
        }
    }

    /// What `read` finds on the page of `first` and on those after it, until it is `enough` or there are no more. One
    /// question, whose pages are paced like other calls.
    pub(crate) async fn pages<T>(
        &self,
        call: &Call,
        first: Request,
        demand: &mut Demand,
        (read, enough): (ReadPage<T>, usize),
    ) -> Result<Vec<T>, Failure> {
        let what = first.what;
        let mut request = first;
        let (mut found, mut seen, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
        while seen.len() < MAX_PAGES && bytes < MAX_LIST_BYTES {
            seen.insert(request.url.clone());
            let page =
                |answer: &Answer, _| Ok((read(answer)?, answer.next_page(&self.base)?, answer.body.len()));
            let (items, next, size) = self.call(call, &request, demand, page).await?;
            found.extend(items);
            bytes += size;
            match next {
                Some(next) if found.len() < enough && !seen.contains(&next) => {
                    request = Request::to(next, what)
                }
                _ => return Ok(found),
            }
        }
        let message = format!("{what} did not end after {MAX_PAGES} pages or 64 MiB: check github.api_url");
        Err(Failure::new(Kind::BadAnswer, message))
    }
}

/// Takes the items from a page.
pub(crate) type ReadPage<T> = fn(&Answer) -> Result<Vec<T>, Failure>;

/// Whether the same call may have more success in a moment. If GitHub names a wait, it does not.
fn is_transient(answer: &Result<Answer, Failure>) -> bool {
    match answer {
        Ok(answer) => matches!(answer.status, 500 | 502 | 503 | 504) && answer.named_wait().is_none(),
        // What has timed out has used up its caller's time.
        Err(failure) => matches!(failure.kind, Kind::Unavailable | Kind::Unreachable),
    }
}

fn not_signed(error: SignError) -> Failure {
    Failure::new(Kind::AppRejected, format!("no private key of the app can sign: {error}"))
}

fn no_key() -> Failure {
    Failure::new(Kind::AppRejected, "no private key of the app can sign")
}

/// App JWTs have twice as much to spare.
const MAX_UNREPORTED_OFFSET: SignedDuration = SignedDuration::from_secs(30);
/// Refusals in a row that one call may bring about: too many, and GitHub locks the app out.
const MAX_KEYS: u32 = 4;
/// A hundred thousand installations; more is a `Link` that goes in circles.
const MAX_PAGES: usize = 1000;
const MAX_LIST_BYTES: usize = 64 * 1024 * 1024;
const RETRY_WINDOW: Duration = Duration::from_secs(1);
