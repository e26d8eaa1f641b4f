//! What surrounds every operation: the route, the version, the credential, the limits, and the headers of the answer.

use super::context::Call;
use super::dialect::{self, Dialect};
use super::jwt;
use super::routes::{Availability, Handler, Route, find};
use crate::fake_github::clock::http_date;
use crate::fake_github::digest::sha256_hex;
use crate::fake_github::faults::fault::Effect;
use crate::fake_github::options::{Mode, Options, RateLimits, SuspendedWording};
use crate::fake_github::random::HEX;
use crate::fake_github::state::Shared;
use crate::fake_github::wire::request::{Credential, Request};
use crate::fake_github::wire::response::{Answer, Content, Docs, Outcome, Problem};
use crate::fake_github::world::limits::{Caller, Quota, primary_limit};
use crate::fake_github::world::store::{Store, Token};

/// A request on its way through.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    shared: &'a Shared,
    request: &'a Request,
    route: Option<(&'static Route, Vec<&'a str>)>,
    dialect: Dialect,
    version: &'a str,
    /// Where the caller stands with the rate limit, on the routes that have one.
    quota: Option<Quota>,
}

/// An answer with all its headers.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl<'a> Frame<'a> {
    pub(crate) fn new(shared: &'a Shared, request: &'a Request) -> Self {
        let retired = shared.preview_is_retired();
        let route = request.path.as_deref().and_then(|path| find(&request.method, path));
        let route = route.filter(|(route, _)| !(retired && route.spoken == Availability::ByPreview));
        let dialect = dialect::dialect(route.as_ref().map(|(route, _)| route.spoken), request, retired);
        let version = shared.options.versions.first().map(String::as_str).unwrap_or_default();
        Self { shared, request, route, dialect, version, quota: None }
    }

    /// The operation asked for, in words for counters.
    pub(crate) fn route(&self) -> Option<(&'static str, &'static str)> {
        self.route.as_ref().map(|(route, _)| (route.method, route.template))
    }

    /// GitHub's answer.
    pub(crate) fn answer(&mut self, effects: &[Effect]) -> Answer {
        let answer = self.respond(effects).unwrap_or_else(|problem| {
            let docs = self.route.as_ref().map(|(route, _)| route.docs).unwrap_or_default();
            match self.dialect {
                Dialect::Modern => problem.into_answer(&self.shared.options, docs),
                Dialect::Preview => problem.into_preview_answer(),
            }
        });
        if answer.status == 401 && self.request.credential() != Credential::None {
            self.shared.limits.lock().refused_login(self.shared.clock.now());
        }
        answer
    }

    /// `answer` with the headers that GitHub gives to all; its own take their place.
    pub(crate) fn finish(&self, answer: Answer) -> Finished {
        let body = answer.bytes();
        let etag = format!("W/\"{}\"", sha256_hex(&body));
        let unchanged = answer.status == 200 && self.request.header("If-None-Match") == Some(&etag);
        let mut headers = self.usual_headers(&answer.content);
        if matches!(answer.status, 200 | 201) {
            headers.push(("ETag", etag));
        }
        headers.extend(self.quota.iter().flat_map(Quota::headers));
        headers.retain(|(name, _)| !answer.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
        let headers =
            headers.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(answer.headers).collect();
        if unchanged {
            return Finished { status: 304, headers, body: Vec::new() };
        }
        Finished { status: answer.status, headers, body }
    }

    fn respond(&mut self, effects: &[Effect]) -> Outcome {
        let (shared, request) = (self.shared, self.request);
        if request.header("User-Agent").is_none_or(str::is_empty) {
            return Ok(Answer::text(403, "text/html", NO_USER_AGENT));
        }
        if self.dialect == Dialect::Modern {
            self.version = version(&shared.options, request, self.version)?;
        }
        let (route, parameters) =
            self.route.clone().ok_or_else(|| Problem::new(404, "Not Found", Docs::Root))?;
        let in_flight = shared.journal.lock().in_flight();
        let objection = shared.limits.lock().objection(shared, &request.method, route.template, in_flight);
        if let Some(objection) = objection {
            return Ok(objection);
        }
        if request.body.is_none() {
            return Err(Problem::new(413, "Payload too large", Docs::Root));
        }
        if self.dialect == Dialect::Preview {
            dialect::gate(request, &shared.options.preview)?;
        }
        let (dialect, version) = (self.dialect, self.version);
        let call = Call { shared, request, parameters, dialect, version, effects };
        let mut store = shared.store.lock();
        match route.handler {
            Handler::Jwt(handle) => {
                let app = authenticated_app(&call, &store)?;
                let app = store.app(&app).cloned().ok_or_else(Problem::not_found)?;
                handle(&call, &mut store, &app)
            }
            Handler::Token(handle) => {
                self.quota = self.stand(Caller::Anonymous);
                let token = authenticated_token(&call, &store)?;
                match self.charge(Caller::Installation(token.installation)) {
                    Some(limited) => Ok(limited),
                    None => handle(&call, &mut store, &token),
                }
            }
            Handler::Anyone(handle) => {
                self.quota = self.stand(Caller::Anonymous);
                let token = anyone(&call, &store)?;
                let caller = token
                    .as_ref()
                    .map_or(Caller::Anonymous, |token| Caller::Installation(token.installation));
                // Asking where one stands costs nothing.
                let free = route.template == "/rate_limit";
                if free {
                    self.quota = self.stand(caller);
                } else if let Some(limited) = self.charge(caller) {
                    return Ok(limited);
                }
                handle(&call, &store, token.as_ref())
            }
        }
    }

    fn stand(&self, caller: Caller) -> Option<Quota> {
        // GitHub Enterprise Server limits nobody unless its administrator says so.
        (self.shared.options.mode != Mode::Ghes).then(|| self.shared.limits.lock().quota(caller, self.shared))
    }

    /// Charges the request. The answer if that was one too many.
    fn charge(&mut self, caller: Caller) -> Option<Answer> {
        self.stand(caller)?;
        let quota = self.shared.limits.lock().charge(caller, self.shared);
        self.quota = Some(quota);
        let enforced = self.shared.options.rate_limits == RateLimits::Enforced;
        (enforced && quota.used > quota.limit).then(|| primary_limit(403, caller, quota))
    }

    fn usual_headers(&self, content: &Content) -> Vec<(&'static str, String)> {
        let on_jwt_route = matches!(self.route, Some((Route { handler: Handler::Jwt(_), .. }, _)));
        // As recorded: answers with secrets say they are public and do not vary by who asks.
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
        let shared = self.shared;
        let mut headers = vec![
            ("Date", http_date(shared.clock.shown_second())),
            ("X-GitHub-Request-Id", request_id(shared)),
            ("X-GitHub-Media-Type", dialect::media_type(self.request, self.dialect).to_owned()),
            ("Cache-Control", cache.to_owned()),
            ("Vary", vary.to_owned()),
        ];
        if self.dialect == Dialect::Modern {
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

/// The name of the app whose JWT this is.
fn authenticated_app(call: &Call<'_>, store: &Store) -> Result<String, Problem> {
    // A JWT counts only by the scheme `Bearer`.
    let Credential::Bearer(jwt) = call.request.credential() else { return Err(Problem::undecodable_jwt()) };
    let accepted = jwt::check(store, &call.shared.options, call.shared.clock.shown_second(), &jwt)?;
    call.shared.journal.lock().accepted_jwt(&jwt, accepted.age);
    Ok(accepted.app)
}

fn authenticated_token(call: &Call<'_>, store: &Store) -> Result<Token, Problem> {
    let credential = call.request.credential();
    let secret = credential.secret().ok_or_else(requires_authentication)?;
    if jwt::is_jwt(secret) {
        authenticated_app(call, store)?;
        let on_installation =
            call.request.path.as_deref().is_some_and(|path| path.starts_with("/installation/"));
        return Err(if on_installation {
            Problem::new(403, &call.shared.options.wording.jwt_on_token_route, Docs::Operation)
        } else {
            Problem::not_for_integrations("metadata=read")
        });
    }
    let now = call.shared.clock.now();
    let token = store.live_token(secret, now).ok_or_else(Problem::bad_credentials)?;
    if let Some(problem) = call.shared.replication.lock().objection(token, now) {
        return Err(problem);
    }
    match store.installation(token.installation).and_then(|installation| {
        let owner = store.account_of(installation).map_or("ghost", |account| account.name());
        installation.suspended_at.as_ref().map(|at| suspended(&call.shared.options, owner, at))
    }) {
        Some(problem) => Err(problem),
        None => Ok(token.clone()),
    }
}

/// The token if there is one, or nobody, or an app. A credential that is none of these is refused all the same.
fn anyone(call: &Call<'_>, store: &Store) -> Result<Option<Token>, Problem> {
    let credential = call.request.credential();
    match credential.secret() {
        None if call.shared.options.mode == Mode::Ghe => Err(requires_authentication()),
        None => Ok(None),
        Some(secret) if jwt::is_jwt(secret) => authenticated_app(call, store).map(|_| None),
        Some(_) => authenticated_token(call, store).map(Some),
    }
}

fn requires_authentication() -> Problem {
    Problem::new(401, "Requires authentication", Docs::Root)
}

fn suspended(options: &Options, owner: &str, at: &str) -> Problem {
    let message = match options.suspended_wording {
        SuspendedWording::OwnedBy => {
            format!("This installation owned by {owner} suspended your access at {at}.")
        }
        SuspendedWording::Currently => {
            "This installation is currently suspended. Please contact an organization owner.".to_owned()
        }
    };
    Problem::new(403, message, Docs::Root)
}

fn request_id(shared: &Shared) -> String {
    let group = |length| shared.random.text(HEX, length).to_uppercase();
    [group(4), group(4), group(6), group(6), group(8)].join(":")
}
