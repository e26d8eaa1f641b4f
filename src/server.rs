//! The local endpoint. A request passes `listen`, `route`, `guard`, then its handler; an answer comes back as a value.

mod guard;
pub mod listen;
mod ops;
mod reply;
mod route;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use tokio_util::sync::CancellationToken;

use guard::{CLIENT, Guard, Transport};
use listen::Listeners;
use reply::{Format, Refusal, Reply};
use route::{Endpoint, Surface, route};

use crate::broker::{Broker, Origin};
use crate::clock::GithubClock;
use crate::telemetry::audit::{self, Asker};
use crate::telemetry::metrics::Metrics;

pub use token::render;

/// Answers requests.
pub struct Server {
    broker: Broker,
    metrics: Arc<Metrics>,
    github_clock: GithubClock,
    apps: Vec<ServedApp>,
    rules: Rules,
    guard: Guard,
    request_ids: RequestIds,
}

/// An app, as `/status` shows it.
#[derive(Debug, Clone)]
pub struct ServedApp {
    /// Its name in the configuration.
    pub name: String,
    /// App id or client id.
    pub id: String,
    /// Fingerprint of the key that signs.
    pub key_fingerprint: String,
}

/// What the endpoint is told by the configuration.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Further values of `Host`, in lower case.
    pub allowed_hosts: Vec<String>,
    /// Whether a TCP request must carry a client header.
    pub require_client_header: bool,
    /// Whether answers are sent with a TTL of 1.
    pub hop_limit_1: bool,
    /// Connections served at a time; more wait.
    pub max_connections: usize,
    /// Longest wait for the head of a request, and for the next one on an idle connection.
    pub head_timeout: Duration,
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
        rules: Rules,
    ) -> Self {
        let guard = Guard {
            allowed_hosts: rules.allowed_hosts.clone().into(),
            require_client_header: rules.require_client_header,
        };
        Self { broker, metrics, github_clock, apps, rules, guard, request_ids: RequestIds::default() }
    }

    /// Serves until `stop`; then lets the requests in hand end, for at most `grace`.
    pub async fn serve(self, listeners: Listeners, stop: CancellationToken, grace: Duration) {
        listen::serve(listeners, Arc::new(self), stop, grace).await;
    }

    async fn handle(&self, request: Request<Incoming>, transport: Transport, surface: Surface) -> Reply {
        let request_id = self.request_ids.next();
        let (head, _) = request.into_parts();
        let format = token::format(head.uri.query().unwrap_or_default(), &head.headers);
        let endpoint = route(surface, &head.method, head.uri.path());
        let name = endpoint.as_ref().map_or("none", |endpoint| endpoint.name());
        let caller = Caller { asker: asker(&request_id, &head.headers, transport), format };
        let mut reply = match self.admit(&head, endpoint, transport, surface) {
            Ok(endpoint) => self.answer(endpoint, &head, caller).await,
            Err(refusal) => caller.refuse(&refusal),
        };
        reply::sign(&mut reply, &request_id);
        self.metrics.response(name, reply.status().as_u16());
        reply
    }

    fn admit(
        &self,
        head: &Parts,
        endpoint: Result<Endpoint, Refusal>,
        transport: Transport,
        surface: Surface,
    ) -> Result<Endpoint, Refusal> {
        guard::well_formed(&head.method, &head.uri, &head.headers)?;
        let endpoint = endpoint?;
        if surface == Surface::Tokens {
            self.guard.admit(transport, endpoint, &head.headers)?;
        }
        no_body(&head.headers)?;
        Ok(endpoint)
    }

    async fn answer(&self, endpoint: Endpoint, head: &Parts, caller: Caller<'_>) -> Reply {
        match endpoint {
            Endpoint::Token => self.token(head.uri.query().unwrap_or_default(), &head.headers, caller).await,
            Endpoint::Healthz => ops::healthz(),
            Endpoint::Readyz => ops::readyz(self),
            Endpoint::Metrics => ops::metrics(self, &head.headers),
            Endpoint::Status => ops::status(self),
        }
    }

    async fn token(&self, query: &str, headers: &HeaderMap, caller: Caller<'_>) -> Reply {
        let request = token::read(query, headers);
        let app = request.as_ref().ok().and_then(|request| self.broker.app(request.app.as_ref()).ok());
        let vended = match &request {
            Ok(request) => {
                let vending = tokio::time::timeout(self.rules.request_timeout, self.broker.vend(request));
                vending
                    .await
                    .map_or_else(|_| Err(Refusal::out_of_time()), |vended| vended.map_err(Refusal::from))
            }
            Err(refusal) => Err(refusal.clone()),
        };
        match vended {
            Ok(vended) => {
                let outcome = match vended.origin {
                    Origin::Cached => "cached",
                    Origin::Minted => "minted",
                };
                self.metrics.vend(app, outcome);
                audit::vended(caller.asker, &vended.key, outcome, &vended.entry.hashed_token);
                token::answer(&vended, caller.format)
            }
            Err(refusal) => {
                self.metrics.vend(app, refusal.code);
                caller.refuse(&refusal)
            }
        }
    }
}

/// Who asked, and in which form it wants to hear.
#[derive(Clone, Copy)]
struct Caller<'a> {
    asker: Asker<'a>,
    format: Format,
}

impl Caller<'_> {
    fn refuse(&self, refusal: &Refusal) -> Reply {
        audit::refused(self.asker, refusal.status.as_u16(), refusal.code);
        reply::refused(refusal, self.format, self.asker.request_id)
    }
}

fn asker<'a>(request_id: &'a str, headers: &'a HeaderMap, transport: Transport) -> Asker<'a> {
    let client = headers.get(CLIENT).and_then(|value| value.to_str().ok());
    let uid = match transport {
        Transport::Tcp => None,
        Transport::Unix { uid } => uid,
    };
    Asker { request_id, client, uid }
}

/// Refuses a body: nothing that is served here has a use for one. hyper drops `Content-Length` where it stands beside
/// `Transfer-Encoding`, so that pair, which two servers may read differently, is refused here too.
fn no_body(headers: &HeaderMap) -> Result<(), Refusal> {
    let length =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0_u64);
    if length > LARGEST_BODY {
        let message = "the body is over 64 KiB: what is asked goes into the query";
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
    }
    if length > 0 || headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::invalid("a GET here has no body: what is asked goes into the query"));
    }
    Ok(())
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

const LARGEST_BODY: u64 = 64 * 1024;
