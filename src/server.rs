//! The local endpoint. A request passes `listen`, `route`, `guard`, then its handler; an answer comes back as a value.

mod accept;
mod body;
mod clients;
mod connections;
mod git_credential;
mod github_api;
mod guard;
pub mod listen;
mod memory;
mod ops;
mod reject;
mod reply;
mod route;
mod scrape;
mod slots;
mod stream;
mod token;
mod unix_socket;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use body::RequestBody;
use clients::Clients;
use guard::{CLIENT, Transport};
use listen::Listeners;
use memory::RequestMemory;
use reply::{ApiError, Format, Reply};
use route::{Endpoint, GitOperation, Surface, route};
use webhook::Webhook;

use crate::broker::webhook::Secrets;
use crate::broker::{self, Broker, Origin, TokenHash, TokenRequest, Vended};
use crate::clock::GithubClock;
use crate::model::{ClientId, ErrorCode};
use crate::telemetry::audit::{self, RequestContext};
use crate::telemetry::metrics::Metrics;

pub use guard::Guard;
pub use token::render;

/// Answers requests.
pub struct Server {
    broker: Broker,
    metrics: Arc<Metrics>,
    github_clock: GithubClock,
    apps: Vec<ServedApp>,
    rules: ServerConfig,
    guard: watch::Sender<Guard>,
    webhook: Option<Webhook>,
    memory: RequestMemory,
    /// Cancelled when the requests in hand have had their time.
    cut: CancellationToken,
    request_ids: RequestIds,
    clients: Clients,
}

/// An app, as `/status` shows it.
#[derive(Debug, Clone)]
pub struct ServedApp {
    /// Its name in the configuration.
    pub name: String,
    /// App id or client id.
    pub id: String,
}

/// What the endpoint is told by the configuration.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Who may talk to us, to begin with: see [`Server::guard`].
    pub guard: Guard,
    /// Whether answers are sent with a TTL of 1.
    pub hop_limit_1: bool,
    /// Connections at a time to each listener for tokens.
    pub max_connections: usize,
    /// Connections at a time to the listener for health and metrics.
    pub max_ops_connections: usize,
    /// What deliveries are signed with; `None`: none are taken.
    pub webhook: Option<Secrets>,
    /// Base of GitHub's own API, for those who look for it here.
    pub api_url: Url,
    /// The web and git host that belongs to the API.
    pub web_url: Url,
    /// Longest time from the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// Longest wait for that byte, on a new connection and between two requests.
    pub idle_timeout: Duration,
    /// Age at which a connection takes no more requests: one that never ends, or whose client never reads, holds its
    /// place no longer.
    pub connection_age: Duration,
    /// Longest time that a request for a token is worked on.
    pub request_timeout: Duration,
}

impl Server {
    /// A server that vends what `broker` has.
    pub fn new(
        broker: Broker,
        metrics: Arc<Metrics>,
        github_clock: GithubClock,
        apps: Vec<ServedApp>,
        mut rules: ServerConfig,
    ) -> Self {
        let guard = watch::Sender::new(rules.guard.clone());
        let webhook = rules.webhook.take().map(Webhook::new);
        let (cut, memory) = (CancellationToken::new(), RequestMemory::default());
        let (request_ids, clients) = (RequestIds::default(), Clients::default());
        Self { broker, metrics, github_clock, apps, rules, guard, webhook, memory, cut, request_ids, clients }
    }

    /// Where another guard can be posted while requests come in.
    pub fn guard(&self) -> watch::Sender<Guard> {
        self.guard.clone()
    }

    /// Where other secrets can be put in force while deliveries come in.
    pub fn webhook_secrets(&self) -> Option<watch::Sender<Secrets>> {
        self.webhook.as_ref().map(Webhook::secrets)
    }

    /// Serves until `stop`; then lets the requests in hand end, for at most `grace`.
    pub async fn serve(self, listeners: Listeners, stop: CancellationToken, grace: Duration) {
        accept::serve(listeners, Arc::new(self), stop, grace).await;
    }

    async fn handle(&self, request: Request<Incoming>, transport: Transport, surface: Surface) -> Reply {
        let request_id = self.request_ids.next();
        let (head, body) = request.into_parts();
        let format = token::format(head.uri.query().unwrap_or_default(), &head.headers);
        let endpoint = route(surface, &head.method, head.uri.path(), &self.rules.api_url);
        let name = endpoint.as_ref().map_or("none", |endpoint| endpoint.name());
        let asker = asker(&request_id, &head.headers, transport);
        let caller =
            Caller { asker, format, client: self.clients.id(asker, &head.headers, self.github_clock.boot()) };
        let mut body = RequestBody::new(body);
        let mut reply = match self.admit(&head, endpoint, transport, surface) {
            Ok(endpoint) => self.answer(endpoint, &head, &mut body, caller).await,
            Err(refusal) => Err(refusal),
        }
        .unwrap_or_else(|refusal| caller.refuse(&refusal));
        if !body.is_read() {
            reply::close(&mut reply);
        }
        reply::sign(&mut reply, &request_id);
        self.metrics.response(name, reply.status().as_u16());
        reply
    }

    fn admit<'p>(
        &self,
        head: &Parts,
        endpoint: Result<Endpoint<'p>, ApiError>,
        transport: Transport,
        surface: Surface,
    ) -> Result<Endpoint<'p>, ApiError> {
        guard::well_formed(&head.method, &head.uri, &head.headers)?;
        if surface == Surface::Tokens {
            self.guard.borrow().admit(transport, endpoint.as_ref().ok().copied(), &head.headers)?;
        }
        endpoint
    }

    async fn answer(
        &self,
        endpoint: Endpoint<'_>,
        head: &Parts,
        body: &mut RequestBody,
        caller: Caller<'_>,
    ) -> Result<Reply, ApiError> {
        let query = head.uri.query().unwrap_or_default();
        body.check(endpoint, &head.headers)?;
        let _delivery = match endpoint {
            Endpoint::Webhook => Some(self.webhook()?.admit(&head.headers)?),
            _ => None,
        };
        let (body, _permit) = body.read(endpoint, &self.memory).await?;
        match endpoint {
            Endpoint::Token => {
                let vended = self.vend(token::read(query, &head.headers)?, caller).await?;
                Ok(token::answer(&vended, caller.format))
            }
            Endpoint::Reject => Ok(reject::answer(self.broker.reject(reject::read(&body)?))),
            Endpoint::Git(operation) => self.git(operation, head, body, caller).await,
            Endpoint::Github(call) => self.github(call, head, body, caller).await,
            Endpoint::Revoke => self.revoke(&head.headers, caller).await,
            Endpoint::Webhook => self.webhook()?.hear(&self.broker, &head.headers, &body),
            Endpoint::Healthz => Ok(ops::healthz()),
            Endpoint::Readyz => Ok(ops::readyz(self)),
            Endpoint::Metrics => Ok(ops::metrics(self, &head.headers)),
            Endpoint::Status => ops::status(self, query),
        }
    }

    fn webhook(&self) -> Result<&Webhook, ApiError> {
        self.webhook.as_ref().ok_or_else(webhook::switched_off)
    }

    /// A token for `request`, counted and put on record.
    async fn vend(&self, request: TokenRequest, caller: Caller<'_>) -> Result<Vended, ApiError> {
        let app = self.broker.app(request.app.as_ref()).ok();
        let vended = self.in_time(self.broker.vend(&request, caller.client)).await;
        let outcome = match &vended {
            Ok(Vended { origin: Origin::Cached, .. }) => "cached",
            Ok(Vended { origin: Origin::Minted, .. }) => "minted",
            Err(refusal) => refusal.code.as_str(),
        };
        self.metrics.vend(app, outcome);
        if let Ok(vended) = &vended {
            audit::vended(caller.asker, &vended.key, outcome, &vended.entry.hash);
        }
        vended.map_err(|refusal| ApiError { asked: Some(request.to_string()), ..refusal })
    }

    /// What the broker says, unless it takes longer than any caller would wait.
    async fn in_time<T>(
        &self,
        asking: impl Future<Output = Result<T, broker::Error>>,
    ) -> Result<T, ApiError> {
        let asking = self.cut.run_until_cancelled(asking);
        let answer = tokio::time::timeout(self.rules.request_timeout, asking).await;
        let answer = answer.map(|answer| answer.unwrap_or(Err(broker::Error::ShuttingDown)));
        answer.map_or_else(|_| Err(ApiError::out_of_time()), |answer| answer.map_err(ApiError::from))
    }

    /// Another host, or no such installation, is an empty answer: git asks its next helper.
    async fn git(
        &self,
        operation: GitOperation,
        head: &Parts,
        body: Bytes,
        caller: Caller<'_>,
    ) -> Result<Reply, ApiError> {
        if operation == GitOperation::Other {
            return Ok(git_credential::nothing());
        }
        let description = git_credential::Description::read(body)?;
        if !description.is_for(&self.rules.web_url) {
            return Ok(git_credential::nothing());
        }
        match operation {
            GitOperation::Get => {
                let query = head.uri.query().unwrap_or_default();
                let dialect = self.broker.dialect();
                let Some(request) = description.request(query, &head.headers, dialect)? else {
                    return Ok(git_credential::nothing());
                };
                match self.vend(request, caller).await {
                    Ok(vended) => Ok(git_credential::answer(&vended)),
                    Err(refusal) if refusal.code == ErrorCode::UnknownInstallation => {
                        caller.record(&refusal);
                        Ok(git_credential::nothing())
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            GitOperation::Erase => {
                if let Some(password) = description.password() {
                    self.broker.reject(TokenHash::of(password));
                }
                Ok(git_credential::nothing())
            }
            GitOperation::Other => Ok(git_credential::nothing()),
        }
    }
}

/// Who asked, and in which form it wants to hear.
#[derive(Clone, Copy)]
struct Caller<'a> {
    asker: RequestContext<'a>,
    format: Format,
    /// Whose share of the calls to GitHub it uses.
    client: ClientId,
}

impl Caller<'_> {
    fn record(&self, refusal: &ApiError) {
        // A line for each would cost more than what it was refused.
        if refusal.is_local {
            return;
        }
        audit::refused(self.asker, refusal.asked.as_deref(), refusal.status.as_u16(), refusal.code.as_str());
    }

    fn refuse(&self, refusal: &ApiError) -> Reply {
        self.record(refusal);
        reply::refused(refusal, self.format, self.asker.request_id)
    }
}

fn asker<'a>(request_id: &'a str, headers: &'a HeaderMap, transport: Transport) -> RequestContext<'a> {
    let client = headers.get(CLIENT).and_then(|value| value.to_str().ok());
    let uid = match transport {
        Transport::Tcp => None,
        Transport::Unix { uid } => uid,
    };
    RequestContext { request_id, client, uid }
}

/// Makes ids that no two requests share, and that differ from those of the last run.
#[derive(Debug)]
struct RequestIds {
    run: u32,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let random = RandomState::new().hash_one(0_u8);
        Self { run: (random >> 32) as u32, next: AtomicU64::new(1) }
    }
}

impl RequestIds {
    fn next(&self) -> String {
        format!("{:08x}-{:06x}", self.run, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
