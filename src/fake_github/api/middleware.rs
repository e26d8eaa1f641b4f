//! What surrounds every operation: route, API version, authentication, rate limits, and the headers of the response.

use super::authentication::{authenticate_anyone, authenticate_app, authenticate_token};
use super::context::RequestContext;
use super::dialect::{Dialect, media_type, require_media_type};
use super::problem::{Docs, Outcome, Problem};
use super::rate_limit::{login_lockout, primary_limit, secondary_limit};
use super::routes::{Handler, Operation, find};
use crate::fake_github::clock::http_date;
use crate::fake_github::digest::sha256_hex;
use crate::fake_github::faults::fault::Effect;
use crate::fake_github::options::Options;
use crate::fake_github::random::HEX;
use crate::fake_github::state::State;
use crate::fake_github::wire::request::{Credential, Request};
use crate::fake_github::wire::response::{Content, RawResponse, Response};
use crate::fake_github::world::limits::{Caller, Exceeded, Quota};
use crate::fake_github::world::product::{Mode, RateLimits};

/// The middleware for one request.
#[derive(Debug)]
pub(super) struct Middleware<'a> {
    state: &'a State,
    request: &'a Request,
    operation: Option<Operation<'a>>,
    version: &'a str,
    /// The caller's quota, on the routes that have a rate limit.
    quota: Option<Quota>,
}

impl<'a> Middleware<'a> {
    pub(super) fn new(state: &'a State, request: &'a Request) -> Self {
        let operation = find(request, state.preview_is_retired());
        let version = state.options.versions.first().map(String::as_str).unwrap_or_default();
        Self { state, request, operation, version, quota: None }
    }

    /// The route as counters name it, such as `GET /app`.
    pub(super) fn route(&self) -> Option<String> {
        self.operation.as_ref().map(|Operation { route, .. }| format!("{} {}", route.method, route.template))
    }

    /// GitHub's response.
    pub(super) fn respond(&mut self, effects: &[Effect]) -> Response {
        let response = self.handle(effects).unwrap_or_else(|problem| match self.dialect() {
            Dialect::Apps => {
                let docs = self.operation.as_ref().map(|operation| operation.route.docs).unwrap_or_default();
                problem.into_response(&self.state.options, docs)
            }
            Dialect::Preview => problem.into_preview_response(),
        });
        if response.status == 401 && self.request.credential() != Credential::None {
            self.state.limits.lock().record_failed_login(self.state.clock.now());
        }
        response
    }

    /// `response` with the default headers; its own take precedence.
    pub(super) fn finish(&self, response: Response) -> RawResponse {
        let body = response.bytes();
        let etag = format!("W/\"{}\"", sha256_hex(&body));
        let unchanged = response.status == 200 && self.request.header("If-None-Match") == Some(&etag);
        let mut headers = self.default_headers(&response.content);
        if matches!(response.status, 200 | 201) {
            headers.push(("ETag", etag));
        }
        headers.extend(self.quota.iter().flat_map(Quota::headers));
        headers.retain(|(name, _)| !response.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
        let headers = headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .chain(response.headers)
            .collect();
        if unchanged {
            return RawResponse { status: 304, headers, body: Vec::new() };
        }
        RawResponse { status: response.status, headers, body }
    }

    fn dialect(&self) -> Dialect {
        self.operation.as_ref().map_or(Dialect::Apps, |operation| operation.dialect)
    }

    fn handle(&mut self, effects: &[Effect]) -> Outcome {
        let (state, request, dialect) = (self.state, self.request, self.dialect());
        if request.header("User-Agent").is_none_or(str::is_empty) {
            return Ok(Response::text(403, "text/html", NO_USER_AGENT));
        }
        if dialect == Dialect::Apps {
            self.version = version(&state.options, request, self.version)?;
        }
        let Some(operation) = &self.operation else { return Err(Problem::new(404, "Not Found", Docs::Root)) };
        let (template, handler) = (operation.route.template, operation.handler);
        let parameters = operation.parameters.clone();
        if let Some(limited) = self.charge_secondary(template) {
            return Ok(limited);
        }
        if request.body.is_none() {
            return Err(Problem::new(413, "Payload too large", Docs::Root));
        }
        if dialect == Dialect::Preview {
            require_media_type(request, &state.options.preview)?;
        }
        let context = RequestContext { state, request, parameters, version: self.version, effects };
        let mut store = state.store.lock();
        match handler {
            Handler::Jwt(handle) => {
                let app = authenticate_app(&context, &store)?;
                handle(&context, &mut store, &app)
            }
            Handler::Token(handle) => {
                self.quota = self.quota(Caller::Anonymous);
                let token = authenticate_token(&context, &store)?;
                match self.charge(Caller::Installation(token.installation)) {
                    Some(limited) => Ok(limited),
                    None => handle(&context, &mut store, &token),
                }
            }
            Handler::Anyone(handle) | Handler::Uncharged(handle) => {
                self.quota = self.quota(Caller::Anonymous);
                let token = authenticate_anyone(&context, &store)?;
                let caller = token
                    .as_ref()
                    .map_or(Caller::Anonymous, |token| Caller::Installation(token.installation));
                if matches!(handler, Handler::Uncharged(_)) {
                    self.quota = self.quota(caller);
                } else if let Some(limited) = self.charge(caller) {
                    return Ok(limited);
                }
                handle(&context, &store, token.as_ref())
            }
        }
    }

    /// Charges the secondary limits, if they are enforced. The response if that exceeds one.
    fn charge_secondary(&self, template: &'static str) -> Option<Response> {
        let state = self.state;
        if state.options.rate_limits == RateLimits::Reported {
            return None;
        }
        let in_flight = state.journal.lock().in_flight();
        let now = state.clock.now();
        let exceeded =
            state.limits.lock().charge_secondary(&self.request.method, template, in_flight, now)?;
        Some(match exceeded {
            Exceeded::FailedLogins => login_lockout(&state.options),
            Exceeded::Secondary => secondary_limit(403).with_header("Retry-After", "60"),
        })
    }

    fn quota(&self, caller: Caller) -> Option<Quota> {
        // GitHub Enterprise Server has no rate limits unless its administrator sets them.
        let limited = self.state.options.mode != Mode::Ghes;
        limited.then(|| self.state.quota(caller))
    }

    /// Charges the request. The response if that was one too many.
    fn charge(&mut self, caller: Caller) -> Option<Response> {
        self.quota(caller)?;
        let quota = self.state.charge(caller);
        self.quota = Some(quota);
        let enforced = self.state.options.rate_limits == RateLimits::Enforced;
        (enforced && quota.used > quota.limit).then(|| primary_limit(403, caller, quota))
    }

    fn default_headers(&self, content: &Content) -> Vec<(&'static str, String)> {
        let on_jwt_route = matches!(self.operation, Some(Operation { handler: Handler::Jwt(_), .. }));
        // As recorded: responses with secrets say they are public and do not vary by credential.
        let (cache, vary) = if on_jwt_route {
            ("public, max-age=60, s-maxage=60", "Accept, Accept-Encoding, Accept, X-Requested-With")
        } else {
            (
                "private, max-age=60, s-maxage=60",
                "Accept, Authorization, Cookie, X-GitHub-OTP, Accept-Encoding, Accept, X-Requested-With",
            )
        };
        let content_type = match content {
            Content::Nothing => None,
            Content::Json(_) => Some("application/json; charset=utf-8"),
            Content::Text { content_type, .. } => Some(*content_type),
        };
        let state = self.state;
        let mut headers = vec![
            ("Date", http_date(state.clock.skewed_second())),
            ("X-GitHub-Request-Id", request_id(state)),
            ("X-GitHub-Media-Type", media_type(self.request, self.dialect()).to_owned()),
            ("Cache-Control", cache.to_owned()),
            ("Vary", vary.to_owned()),
        ];
        if self.dialect() == Dialect::Apps {
            headers.push(("X-GitHub-Api-Version-Selected", self.version.to_owned()));
        }
        headers.extend(content_type.map(|content_type| ("Content-Type", content_type.to_owned())));
        headers
    }
}

const NO_USER_AGENT: &str = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header (https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required). Check https://developer.github.com for other possible causes.";

fn version<'a>(options: &Options, request: &'a Request, default: &'a str) -> Result<&'a str, Problem> {
    let Some(wanted) = request.header("X-GitHub-Api-Version") else { return Ok(default) };
    if options.retired_versions.iter().any(|retired| retired == wanted) {
        return Err(Problem::new(
            410,
            format!("The version \"{wanted}\" is no longer supported."),
            Docs::Root,
        ));
    }
    if options.versions.iter().any(|version| version == wanted) {
        return Ok(wanted);
    }
    let mut known: Vec<String> = options.versions.iter().map(|version| format!("\"{version}\"")).collect();
    known.sort_by(|a, b| b.cmp(a));
    if let Some(newest) = known.first_mut() {
        newest.push_str(" (most recent)");
    }
    let message = format!(
        "The version you specified in the \"X-GitHub-API-Version\" request header, \"{wanted}\", is not a supported \
         version. The following versions are currently supported: {}.",
        known.join(", ")
    );
    Err(Problem::new(400, message, Docs::Root))
}

fn request_id(state: &State) -> String {
    let group = |length| state.random.text(HEX, length).to_uppercase();
    [group(4), group(4), group(6), group(6), group(8)].join(":")
}
