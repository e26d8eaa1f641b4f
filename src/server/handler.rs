//! Answers requests: the guard admits one, and one match hands it to its endpoint.

use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::body::RequestBody;
use super::config::{ServedApp, ServerConfig};
use super::context::Context;
use super::github_api::GithubApi;
use super::guard::{self, Guard};
use super::memory::RequestMemory;
use super::ops::Ops;
use super::reply::{self, ApiError, Reply};
use super::request_id::RequestIds;
use super::route::{Endpoint, Surface, route};
use super::token_service::TokenService;
use super::webhook::{self, Webhook};
use super::{git_credential, reject, token};
use crate::broker::Broker;
use crate::broker::webhook::Secrets;
use crate::caller::{Callers, Peer};
use crate::clock::GithubClock;
use crate::telemetry::metrics::Metrics;

/// Answers requests.
pub struct Server {
    pub(super) config: ServerConfig,
    pub(super) memory: RequestMemory,
    pub(super) tokens: TokenService,
    github_api: GithubApi,
    ops: Ops,
    github_clock: GithubClock,
    guard: watch::Sender<Guard>,
    webhook: Option<Webhook>,
    request_ids: RequestIds,
    callers: Callers,
}

impl Server {
    /// A server that vends what `broker` has.
    pub fn new(
        broker: Broker,
        metrics: Arc<Metrics>,
        github_clock: GithubClock,
        apps: Vec<ServedApp>,
        mut config: ServerConfig,
    ) -> Self {
        let tokens = TokenService {
            broker: broker.clone(),
            metrics: Arc::clone(&metrics),
            request_timeout: config.request_timeout,
            abort: CancellationToken::new(),
        };
        Self {
            guard: watch::Sender::new(config.guard.clone()),
            webhook: config.webhook.take().map(Webhook::new),
            github_api: GithubApi { tokens: tokens.clone(), apps: apps.clone() },
            ops: Ops {
                broker,
                metrics,
                github_clock: github_clock.clone(),
                apps,
                web_url: config.web_url.clone(),
            },
            memory: RequestMemory::default(),
            request_ids: RequestIds::default(),
            callers: Callers::default(),
            config,
            tokens,
            github_clock,
        }
    }

    /// Where another guard can be posted while requests come in.
    pub fn guard(&self) -> watch::Sender<Guard> {
        self.guard.clone()
    }

    /// Where other secrets can be put in force while deliveries come in.
    pub fn webhook_secrets(&self) -> Option<watch::Sender<Secrets>> {
        self.webhook.as_ref().map(Webhook::secrets)
    }

    pub(super) async fn handle(&self, request: Request<Incoming>, peer: Peer, surface: Surface) -> Reply {
        let request_id = self.request_ids.next();
        let (head, body) = request.into_parts();
        let endpoint = route(surface, &head.method, head.uri.path(), &self.config.api_url);
        let name = endpoint.as_ref().map_or("none", |endpoint| endpoint.name());
        let context = Context {
            request_id: &request_id,
            caller: self.callers.identify(&head.headers, peer, self.github_clock.boot()),
            format: token::format(head.uri.query().unwrap_or_default(), &head.headers),
        };
        let mut body = RequestBody::new(body);
        let mut reply = match self.admit(&head, endpoint, peer, surface) {
            Ok(endpoint) => self.answer(endpoint, &head, &mut body, context).await,
            Err(error) => Err(error),
        }
        .unwrap_or_else(|error| context.refuse(&error));
        if !body.is_read() {
            reply::close(&mut reply);
        }
        reply::add_common_headers(&mut reply, &request_id);
        self.tokens.metrics.response(name, reply.status().as_u16());
        reply
    }

    fn admit<'p>(
        &self,
        head: &Parts,
        endpoint: Result<Endpoint<'p>, ApiError>,
        peer: Peer,
        surface: Surface,
    ) -> Result<Endpoint<'p>, ApiError> {
        guard::check_well_formed(&head.method, &head.uri, &head.headers)?;
        if surface == Surface::Tokens {
            self.guard.borrow().admit(peer, endpoint.as_ref().ok().copied(), &head.headers)?;
        }
        endpoint
    }

    async fn answer(
        &self,
        endpoint: Endpoint<'_>,
        head: &Parts,
        body: &mut RequestBody,
        context: Context<'_>,
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
                let vended = self.tokens.vend(token::read(query, &head.headers)?, context).await?;
                Ok(token::answer(&vended, context.format))
            }
            Endpoint::Reject => Ok(reject::answer(self.tokens.broker.reject(reject::read(&body)?))),
            Endpoint::Git(operation) => {
                git_credential::handle(&self.tokens, &self.config.web_url, (operation, head, body), context)
                    .await
            }
            Endpoint::Github(call) => self.github_api.call(call, head, body, context).await,
            Endpoint::Revoke => self.github_api.revoke(&head.headers, context).await,
            Endpoint::Webhook => self.webhook()?.receive(&self.tokens.broker, &head.headers, &body),
            Endpoint::Healthz => Ok(self.ops.healthz()),
            Endpoint::Readyz => Ok(self.ops.readyz()),
            Endpoint::Metrics => Ok(self.ops.metrics(&head.headers)),
            Endpoint::Status => self.ops.status(query),
        }
    }

    fn webhook(&self) -> Result<&Webhook, ApiError> {
        self.webhook.as_ref().ok_or_else(webhook::not_configured)
    }
}
