//! The HTTP client: one for the whole daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use url::Url;

use super::answer::Answer;
use super::failure::{Failure, Kind, refuses_key};
use super::jwt::Signed;
use super::key::Key;
use super::patience::Patience;
use super::request::Request;
use super::ring::KeyRing;
use super::transport::Transport;
use crate::clock::{BootTime, Clock, GithubClock};
use crate::model::{AppName, Dialect, KeyInUse, Secret};

/// Sends requests to one GitHub with an app's JWT, and brings answers. What is in them is the dialects' matter.
pub(crate) struct Client {
    transport: Arc<dyn Transport>,
    base: Url,
    apps: BTreeMap<AppName, KeyRing>,
    github_clock: GithubClock,
    patience: Patience,
    clock_is_wrong: AtomicBool,
    /// Room for calls: each takes a connection of its own, and GitHub wants no more than a hundred at once.
    room: Semaphore,
}

/// How to reach GitHub. Has no `Debug`: the proxy's URL may hold a password.
#[derive(Clone)]
pub struct Reach {
    /// Base of the REST API.
    pub api_url: Url,
    /// Which of its APIs to speak.
    pub dialect: Dialect,
    /// Value of `X-GitHub-Api-Version`, or `None` to send none. The preview has no versions, and is sent none.
    pub api_version: Option<String>,
    /// PEM file with further root certificates.
    pub ca_file: Option<PathBuf>,
    /// Proxy for all calls. Those of the environment are never used.
    pub proxy: Option<Url>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for a whole answer.
    pub request_timeout: Duration,
    /// Most calls under way at a time; more wait.
    pub calls_at_once: usize,
}

/// Why no client could be made of what is configured.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The CA file cannot be read.
    #[error("github.ca_file: {path}: cannot be read: {source}", path = path.display())]
    ReadCa {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The CA file holds no certificate.
    #[error("github.ca_file: {path}: holds no PEM certificate (BEGIN CERTIFICATE)", path = .0.display())]
    NoCertificate(PathBuf),
    /// The version has characters that no header can carry.
    #[error("github.api_version: a date such as 2022-11-28 is allowed")]
    Version,
    /// The TLS stack or the proxy was refused.
    #[error(
        "no HTTPS client could be built: {0}; check github.ca_file, github.proxy and the system's CA certificates"
    )]
    Http(String),
}

impl Client {
    /// A client for `apps`, each with its id and its keys, newest first.
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        reach: &Reach,
        apps: BTreeMap<AppName, (String, Vec<Key>)>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let ring = |(name, (id, keys)): (AppName, (String, _))| (name.clone(), KeyRing::new(name, &id, keys));
        let apps = apps.into_iter().map(ring).collect();
        let patience = Patience::new(Arc::clone(&clock), reach.request_timeout);
        let github_clock = GithubClock::new(clock);
        Self {
            transport,
            base: reach.api_url.clone(),
            apps,
            github_clock,
            patience,
            clock_is_wrong: AtomicBool::new(false),
            room: Semaphore::new(reach.calls_at_once),
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

    /// The keys of `app`, and how each stands.
    pub(crate) fn keys(&self, app: &AppName) -> Vec<KeyInUse> {
        self.apps.get(app).map(|ring| ring.list(&self.github_clock)).unwrap_or_default()
    }

    /// Puts `keys`, newest first, in the place of those that `app` has. Whether that changes anything.
    pub(crate) fn replace_keys(&self, app: &AppName, keys: Vec<Key>) -> bool {
        let is_changed = self.apps.get(app).is_some_and(|ring| ring.replace(keys, &self.github_clock));
        if is_changed {
            self.patience.forget(app);
        }
        is_changed
    }

    /// The answer to `request`, which is sent again where that is worth it.
    pub(crate) async fn call(&self, app: &AppName, request: Request) -> Result<Answer, Failure> {
        self.patience.with(app, &request, || self.signed(app, &request)).await
    }

    /// The answer to `request`, which is sent at most once, whatever comes of it.
    pub(crate) async fn call_once(&self, app: &AppName, request: Request) -> Result<Answer, Failure> {
        let ring = self.ring(app)?;
        let send = async || {
            let signed = ring.sign_safely(&self.github_clock).ok_or_else(|| no_key(app))?;
            let answer = self.send(&request, &signed.jwt).await?;
            self.heard(ring, &signed, &answer);
            Ok(answer)
        };
        self.patience.once(app, &request, send).await
    }

    /// The answer to `request`, which an installation token has to authorise and not the app.
    pub(crate) async fn call_with(&self, token: &Secret, request: Request) -> Result<Answer, Failure> {
        self.patience.ungated(&request, || self.send(&request, token)).await
    }

    /// The answer to `request`. If it was refused with a JWT that, as its `Date` shows, a wrong clock had spoilt, it is
    /// signed and sent once more; if it was refused for its key, it is sent with the next one.
    async fn signed(&self, app: &AppName, request: &Request) -> Result<Answer, Failure> {
        let ring = self.ring(app)?;
        let sign = || ring.sign(&self.github_clock).ok_or_else(|| no_key(app));
        let mut signed = sign()?;
        let (mut tries, mut is_resigned) = (1, false);
        loop {
            let answer = self.send(request, &signed.jwt).await?;
            if answer.status == 401 && !is_resigned && !signed.is_usable(self.github_clock.now()) {
                tracing::warn!(%app, "this machine's clock is wrong: signing anew by GitHub's");
                is_resigned = true;
            } else if !self.heard(ring, &signed, &answer) || tries == MOST_TRIES {
                return Ok(answer);
            }
            signed = sign()?;
            tries += 1;
        }
    }

    fn ring(&self, app: &AppName) -> Result<&KeyRing, Failure> {
        self.apps.get(app).ok_or_else(|| no_key(app))
    }

    /// Learns from `answer` what GitHub thinks of the key of `signed`. Whether another key may have more success.
    fn heard(&self, ring: &KeyRing, signed: &Signed, answer: &Answer) -> bool {
        match answer.status {
            401 if refuses_key(answer) => return ring.refused(signed, &self.github_clock),
            200..=299 => ring.accepted(signed),
            // A limit, a defect or a wrong app id says nothing of the key.
            _ => {}
        }
        false
    }

    async fn send(&self, request: &Request, credential: &Secret) -> Result<Answer, Failure> {
        // It is never closed.
        let _place = self.room.acquire().await;
        let what = request.what;
        let answer = self.transport.send(request, credential).await?;
        if let Some((date, head_at)) = answer.date.zip(answer.head_at) {
            self.learn_the_time(date, head_at);
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
    fn learn_the_time(&self, date: Timestamp, at: BootTime) {
        self.github_clock.observe(date, at);
        let Some(offset) = self.github_clock.offset() else { return };
        let is_wrong = offset.abs() > WORTH_A_WARNING;
        if self.clock_is_wrong.swap(is_wrong, Ordering::Relaxed) == is_wrong {
            return;
        }
        let offset_seconds = offset.as_secs();
        match is_wrong {
            true => tracing::warn!(offset_seconds, "this machine's clock is not GitHub's: set it by NTP"),
            false => tracing::info!(offset_seconds, "this machine's clock is GitHub's again"),
        }
    }

    /// What `read` finds on the page of `first` and on those after it, until it is `enough` or there are no more.
    pub(crate) async fn pages<T>(
        &self,
        app: &AppName,
        first: Request,
        read: fn(&Answer) -> Result<Vec<T>, Failure>,
        enough: usize,
    ) -> Result<Vec<T>, Failure> {
        let what = first.what;
        let mut request = first;
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for _ in 0..MOST_PAGES {
            seen.insert(request.url.clone());
            let answer = self.call(app, request).await?;
            found.extend(read(&answer)?);
            match answer.next_page(&self.base)? {
                Some(next) if found.len() < enough && !seen.contains(&next) => {
                    request = Request::to(next, what)
                }
                _ => return Ok(found),
            }
        }
        Err(Failure::new(Kind::BadAnswer, format!("{what} did not end after {MOST_PAGES} pages")))
    }
}

fn no_key(app: &AppName) -> Failure {
    Failure::new(Kind::AppRejected, format!("no key can sign for app {app}"))
}

/// App JWTs have twice as much to spare.
const WORTH_A_WARNING: SignedDuration = SignedDuration::from_secs(30);
/// Refusals in a row that one call may bring about: too many, and GitHub locks the app out.
const MOST_TRIES: u32 = 4;
/// A hundred thousand installations; more is a `Link` that goes in circles.
const MOST_PAGES: usize = 1000;
