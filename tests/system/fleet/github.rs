//! GitHub below admission: a transport that answers by itself, as far as faults let it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ghtokend::clock::Clock;
use ghtokend::github::{Answer, Failure, Kind, Reply, Request, Transport};
use ghtokend::model::Secret;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, LINK, RETRY_AFTER};
use serde_json::{Value, json};

use super::faults::{Effect, Faults};
use super::observer::Observer;
use super::time::{Rng, Time, VirtualClock};
use super::world;

/// What one call asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Mint {
        installation: u64,
        scope: String,
    },
    LookUp {
        path: String,
        installation: u64,
    },
    /// Whether an installation is there.
    Confirm(u64),
    App,
    List,
    Revoke {
        token: String,
    },
}

/// One call, as GitHub sees it.
#[derive(Debug, Clone)]
pub struct Call {
    pub id: u64,
    pub app: Option<usize>,
    pub ask: Ask,
    pub at: Time,
}

impl Call {
    /// As GitHub counts them.
    pub fn points(&self) -> u32 {
        match self.ask {
            Ask::Mint { .. } | Ask::Revoke { .. } => 5,
            _ => 1,
        }
    }

    pub fn is_mint(&self) -> bool {
        matches!(self.ask, Ask::Mint { .. })
    }

    /// What an answer to this call may be remembered for.
    pub fn question(&self) -> String {
        match &self.ask {
            Ask::Mint { installation, scope } => world::mint_question(*installation, scope),
            Ask::LookUp { path, .. } => path.clone(),
            Ask::Confirm(id) => format!("installation {id}"),
            Ask::App => "app".to_owned(),
            Ask::List => "list".to_owned(),
            Ask::Revoke { .. } => "revoke".to_owned(),
        }
    }
}

/// A token that GitHub has handed out.
#[derive(Debug, Clone)]
pub struct Token {
    pub question: String,
    pub installation: u64,
    /// When its mint was sent.
    pub sent: Time,
    pub life: Duration,
    /// By GitHub's clock.
    pub expires: Time,
}

pub struct Github {
    clock: Arc<VirtualClock>,
    observer: Arc<Observer>,
    faults: Arc<Mutex<Faults>>,
    state: Mutex<State>,
    /// How long the tokens live that it mints.
    life: Duration,
}

struct State {
    rng: Rng,
    calls: u64,
    tokens: u64,
    /// The app that each JWT is of: there are few, and they are long.
    issuers: HashMap<String, usize>,
}

impl Github {
    pub fn new(observer: Arc<Observer>, faults: Arc<Mutex<Faults>>, rng: Rng, life: Duration) -> Arc<Self> {
        let state = State { rng, calls: 0, tokens: 0, issuers: HashMap::new() };
        let clock = Arc::clone(observer.clock());
        Arc::new(Self { clock, observer, faults, state: Mutex::new(state), life })
    }

    fn read(&self, request: &Request, credential: &Secret) -> Call {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        let ask = ask(request, credential);
        let app = match ask {
            Ask::Revoke { .. } => None,
            _ => Some(state.issuer(credential.expose())),
        };
        Call { id: state.calls, app, ask, at: self.clock.now() }
    }

    async fn exchange(&self, request: &Request, credential: &Secret) -> Result<Answer, Failure> {
        let call = self.read(request, credential);
        let in_flight = InFlight { observer: &self.observer, id: call.id };
        self.observer.sent(&call);
        let (effect, there, back) = {
            let rng = &mut self.state.lock().unwrap().rng;
            let effect = self.faults.lock().unwrap().effect(&call, call.at, rng);
            let slow = if effect == Some(Effect::Slow) { rng.seconds(5, 10) } else { Duration::ZERO };
            (effect, slow + rng.millis(25, 150), rng.millis(25, 150))
        };
        let outcome = self.outcome(request.what, &call, effect, there).await;
        if outcome.is_ok() {
            tokio::time::sleep(back).await;
        }
        drop(in_flight);
        self.observer.answered(&call, &outcome);
        outcome
    }

    /// What comes of `call`, which takes `there` to arrive.
    async fn outcome(
        &self,
        what: &'static str,
        call: &Call,
        effect: Option<Effect>,
        there: Duration,
    ) -> Result<Answer, Failure> {
        match effect {
            Some(Effect::Hang) => {
                tokio::time::sleep(REQUEST_TIMEOUT).await;
                return Err(Failure::new(
                    Kind::TimedOut,
                    format!("{what} took longer than github.request_timeout"),
                ));
            }
            Some(Effect::Reset) => {
                tokio::time::sleep(there).await;
                return Err(Failure::new(Kind::Unavailable, format!("{what} was cut off by GitHub (reset)")));
            }
            Some(Effect::Refused) => {
                tokio::time::sleep(there / 10).await;
                return Err(no_connection(what));
            }
            _ => {}
        }
        tokio::time::sleep(there).await;
        Ok(self.answer(what, call, effect))
    }

    fn answer(&self, what: &'static str, call: &Call, effect: Option<Effect>) -> Answer {
        let now = self.clock.now();
        let mut headers = HeaderMap::new();
        headers.insert(DATE, self.date(now));
        let (status, body) = match effect {
            Some(effect) => {
                refusal(effect, &mut headers).unwrap_or_else(|| self.good(call, &mut headers, now))
            }
            None => self.good(call, &mut headers, now),
        };
        let answer = Answer::read(what, status, &headers, body.to_string().into());
        Answer { head_at: Some(self.clock.boot()), ..answer }
    }

    fn date(&self, now: Time) -> HeaderValue {
        let date = self.clock.github(now).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        date.parse().unwrap()
    }

    /// The answer of a GitHub that works.
    fn good(&self, call: &Call, headers: &mut HeaderMap, now: Time) -> (u16, Value) {
        match &call.ask {
            Ask::Mint { installation, scope } => self.mint(call, *installation, scope, now),
            Ask::LookUp { installation: 0, .. } => (404, said("Not Found")),
            Ask::LookUp { installation, .. } | Ask::Confirm(installation) => {
                (200, world::installation_json(*installation))
            }
            Ask::App => (200, json!({"id": call.app.unwrap() + 1, "name": "fleet", "permissions": {}})),
            Ask::List => {
                let next = "<https://api.github.test/app/installations?per_page=30&page=2>; rel=\"next\"";
                headers.insert(LINK, HeaderValue::from_static(next));
                let ids = world::installations(call.app.unwrap()).take(30);
                (200, ids.map(world::installation_json).collect())
            }
            Ask::Revoke { token } => match self.observer.revoked_at_github(token) {
                true => (204, Value::Null),
                false => (401, said("Bad credentials")),
            },
        }
    }

    fn mint(&self, call: &Call, installation: u64, scope: &str, now: Time) -> (u16, Value) {
        if !world::installations(call.app.unwrap()).any(|id| id == installation) {
            return (404, said("Not Found"));
        }
        let asked: Value = serde_json::from_str(scope).unwrap();
        let permissions = asked.get("permissions").cloned().unwrap_or_else(|| json!({"contents": "write"}));
        if permissions.as_object().unwrap().keys().any(|name| name.starts_with(world::MISSPELT)) {
            return (422, said("The permissions requested are not granted to this installation."));
        }
        let mut state = self.state.lock().unwrap();
        state.tokens += 1;
        let token = format!("ghs_fleet{:012}", state.tokens);
        let expires = Duration::from_secs((now + self.life).as_secs());
        let mut body = json!({
            "token": token,
            "expires_at": self.clock.github(expires).to_string(),
            "permissions": permissions,
            "repository_selection": "all",
        });
        if let Some(names) = asked.get("repositories").and_then(Value::as_array) {
            body["repository_selection"] = json!("selected");
            body["repositories"] = names.iter().map(|name| json!({"id": 1, "name": name})).collect();
        }
        let question = world::mint_question(installation, scope);
        let minted = Token { question, installation, sent: call.at, life: self.life, expires };
        self.observer.minted(call.id, token, minted);
        (201, body)
    }
}

impl State {
    fn issuer(&mut self, jwt: &str) -> usize {
        if let Some(app) = self.issuers.get(jwt) {
            return *app;
        }
        let claims = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let app = claims["iss"].as_u64().unwrap() as usize - 1;
        self.issuers.insert(jwt.to_owned(), app);
        app
    }
}

impl Transport for Github {
    fn send<'a>(&'a self, request: &'a Request, credential: &'a Secret) -> Reply<'a, Answer> {
        Box::pin(self.exchange(request, credential))
    }
}

/// Takes a call off the observer's list when it ends, also if the daemon drops it.
struct InFlight<'a> {
    observer: &'a Observer,
    id: u64,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.observer.ended(self.id);
    }
}

fn ask(request: &Request, credential: &Secret) -> Ask {
    let path = request.url.path();
    let segments: Vec<_> = path.split('/').skip(1).collect();
    match segments[..] {
        ["app"] => Ask::App,
        ["app", "installations"] => Ask::List,
        ["app", "installations", id] => Ask::Confirm(id.parse().unwrap()),
        ["app", "installations", id, "access_tokens"] => {
            let scope = String::from_utf8(request.body.clone().unwrap()).unwrap();
            Ask::Mint { installation: id.parse().unwrap(), scope }
        }
        ["users" | "orgs", owner, "installation"] | ["repos", owner, _, "installation"] => {
            let exists = segments.len() == 3 || segments[2].starts_with(world::REPOSITORY);
            let installation = world::installation_of(owner).filter(|_| exists).unwrap_or(0);
            Ask::LookUp { path: path.to_owned(), installation }
        }
        ["installation", "token"] => Ask::Revoke { token: credential.expose().to_owned() },
        _ => panic!("GitHub has no {path}"),
    }
}

/// What GitHub says instead of a good answer. `None`: the fault is not one of its words.
fn refusal(effect: Effect, headers: &mut HeaderMap) -> Option<(u16, Value)> {
    let mut wait = |seconds: Option<u64>| {
        if let Some(seconds) = seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
    };
    Some(match effect {
        Effect::Status(status, seconds) => {
            wait(seconds);
            (status, said(words_of(status)))
        }
        Effect::Suspended => (403, said("This installation has been suspended")),
        Effect::Removed => (404, said("Not Found")),
        Effect::Limit(status, seconds) => {
            wait(seconds);
            if seconds.is_none() {
                headers
                    .insert(HeaderName::from_static("x-ratelimit-remaining"), HeaderValue::from_static("17"));
            }
            (
                status,
                said(
                    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
                ),
            )
        }
        Effect::KeyRevoked => (401, said("A JSON web token could not be decoded")),
        Effect::AppRefused => (401, said("Integration not found")),
        Effect::Hang | Effect::Reset | Effect::Refused | Effect::Slow => return None,
    })
}

fn words_of(status: u16) -> &'static str {
    match status {
        404 => "Not Found",
        422 => {
            "There is at least one repository that does not exist or is not accessible to the parent installation."
        }
        403 => "the `acme` organization has an IP allow list enabled",
        _ => "Server Error",
    }
}

fn said(message: &str) -> Value {
    json!({"message": message, "documentation_url": "https://docs.github.com/rest"})
}

/// As the real transport says that no connection could be made.
pub fn no_connection(what: &str) -> Failure {
    let message = format!(
        "{what} could not connect to api.github.test (Connection refused (os error 111)): check github.api_url, \
         github.proxy and the network, or try again"
    );
    Failure::new(Kind::Unreachable, message)
}

/// `github.request_timeout`, which the real transport keeps.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
