//! Installation tokens: mint and revoke.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::context::RequestContext;
use super::installations::own_installation;
use super::problem::{Docs, Outcome, Problem};
use super::token_text;
use crate::fake_github::clock::{Millis, SECOND, iso};
use crate::fake_github::faults::fault::{Effect, WiderRepositories};
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::definition::{App, Installation, Permissions, Selection};
use crate::fake_github::world::render;
use crate::fake_github::world::store::{Stateless, Store, Token};
use crate::fake_github::world::validation::rank;

/// `POST /app/installations/{installation_id}/access_tokens`
pub(super) fn mint(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    let installation = not_suspended(own_installation(context, store, app)?)?.clone();
    let wanted = TokenRequest::parse(context)?;
    let grant = Grant::new(&wanted, context, store, &installation)?;
    let requested_format = context.request.header("X-GitHub-Stateless-S2S-Token");
    let (secret, stateless) = match token_of_fault(context.effects) {
        Some(text) => (text.to_owned(), Stateless::No),
        None => {
            token_text::new(&store.random, &context.state.options, app, installation.id, requested_format)
        }
    };
    let body = body(context, store, &installation, &grant, &secret);
    let token = Token {
        installation: installation.id,
        permissions: grant.permissions,
        repositories: grant.repositories,
        user: None,
        created: context.state.clock.now(),
        deadline: deadline(context),
        stateless,
    };
    issue(context, store, secret, token, &wanted.scope());
    Ok(Response::json(201, body))
}

/// `installation`, unless it is suspended.
pub(super) fn not_suspended(installation: &Installation) -> Result<&Installation, Problem> {
    match installation.suspended_at {
        Some(_) => Err(Problem::new(403, "This installation has been suspended", Docs::Operation)),
        None => Ok(installation),
    }
}

/// Makes `token` work, and counts it under `scope`.
pub(super) fn issue(
    context: &RequestContext<'_>,
    store: &mut Store,
    secret: String,
    token: Token,
    scope: &str,
) {
    context.state.journal.lock().record_mint(token.installation, scope);
    store.insert_token(secret, token, context.state.clock.now());
}

/// The time at which a token that is minted now expires.
pub(super) fn deadline(context: &RequestContext<'_>) -> Millis {
    context.state.clock.now().saturating_add(lifetime(context.effects).saturating_mul(SECOND))
}

/// The `expires_at` of a token that is minted now; `None` if a fault leaves it out.
pub(super) fn expires_at(context: &RequestContext<'_>) -> Option<String> {
    let of_fault = context.effects.iter().find_map(|effect| match effect {
        Effect::ExpiresAt { value } => Some(value.clone()),
        _ => None,
    });
    of_fault.unwrap_or_else(|| {
        Some(iso(context.state.clock.skewed_second().saturating_add(lifetime(context.effects))))
    })
}

/// Whether a fault ignores the restriction to repositories or a user.
pub(super) fn is_unrestricted_by_fault(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::WiderGrant { repositories: WiderRepositories::All, .. }))
}

/// The token that a fault prescribes.
pub(super) fn token_of_fault(effects: &[Effect]) -> Option<&str> {
    effects.iter().find_map(|effect| match effect {
        Effect::Token { value } => Some(value.as_str()),
        _ => None,
    })
}

/// `DELETE /installation/token`
pub(super) fn revoke(context: &RequestContext<'_>, store: &mut Store, _token: &Token) -> Outcome {
    if let Some(secret) = context.request.credential().secret() {
        store.revoke(secret, context.state.options.stateless_revocation);
    }
    Ok(Response::no_content())
}

/// The body of a request.
#[derive(Debug, Default)]
pub(super) struct TokenRequest {
    names: Vec<String>,
    ids: Vec<u64>,
    permissions: Option<Permissions>,
}

/// What a minted token may do.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) permissions: Permissions,
    /// The repositories it is restricted to.
    repositories: Option<BTreeSet<u64>>,
    /// The repositories that the response lists: those of a restricted token.
    listed: Option<BTreeSet<u64>>,
}

impl TokenRequest {
    fn parse(context: &RequestContext<'_>) -> Result<Self, Problem> {
        let body = context.object()?;
        let wanted = Self {
            names: list(&body, "repositories", "string", |value| value.as_str().map(str::to_owned))?,
            ids: list(&body, "repository_ids", "integer", Value::as_u64)?,
            permissions: permissions(&body)?,
        };
        if wanted.names.len() + wanted.ids.len() > MAX_REPOSITORIES {
            return Err(unprocessable(&context.state.options.wording.too_many_repositories));
        }
        Ok(wanted)
    }

    /// The scope as counters name it, the same for the same request.
    fn scope(&self) -> String {
        let permissions = self.permissions.as_ref().map(|permissions| {
            let words: Vec<String> =
                permissions.iter().map(|(name, level)| format!("{name}:{level}")).collect();
            format!("permissions={}", words.join(","))
        });
        let names: BTreeSet<String> = self
            .names
            .iter()
            .map(|name| name.to_lowercase())
            .chain(self.ids.iter().map(u64::to_string))
            .collect();
        let names = Vec::from_iter(names);
        let repositories = (!names.is_empty()).then(|| format!("repositories={}", names.join(",")));
        Vec::from_iter(permissions.into_iter().chain(repositories)).join(" ")
    }
}

impl Grant {
    pub(super) fn new(
        wanted: &TokenRequest,
        context: &RequestContext<'_>,
        store: &Store,
        installation: &Installation,
    ) -> Result<Self, Problem> {
        let repositories = granted_repositories(wanted, store, installation)?;
        let permissions = granted_permissions(wanted, installation)?;
        let mut grant = Self { permissions, listed: repositories.clone(), repositories };
        for effect in context.effects {
            if let Effect::WiderGrant { permissions, repositories } = effect {
                grant.permissions.extend(permissions.clone());
                if *repositories == WiderRepositories::All && grant.repositories.take().is_some() {
                    grant.listed =
                        Some(store.repositories_of(installation).iter().map(|own| own.id).collect());
                }
            }
        }
        Ok(grant)
    }
}

/// The maximum of repositories in a request.
const MAX_REPOSITORIES: usize = 500;
/// How long a token lives, in seconds.
const LIFETIME: i64 = 3600;

fn granted_repositories(
    wanted: &TokenRequest,
    store: &Store,
    installation: &Installation,
) -> Result<Option<BTreeSet<u64>>, Problem> {
    // An empty list is not documented. It is taken as none, as Ruby's `present?` would.
    if wanted.names.is_empty() && wanted.ids.is_empty() {
        return Ok(None);
    }
    let own = store.repositories_of(installation);
    let by_name =
        wanted.names.iter().map(|name| own.iter().find(|other| other.name.eq_ignore_ascii_case(name)));
    let by_id = wanted.ids.iter().map(|id| own.iter().find(|other| other.id == *id));
    let ids: Option<BTreeSet<u64>> = by_name.chain(by_id).map(|found| found.map(|own| own.id)).collect();
    ids.map(Some).ok_or_else(|| {
        unprocessable(
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        )
    })
}

fn granted_permissions(wanted: &TokenRequest, installation: &Installation) -> Result<Permissions, Problem> {
    // Every installation may read metadata.
    let mut installed = installation.permissions.clone();
    installed.entry("metadata".into()).or_insert_with(|| "read".into());
    let Some(requested) = wanted.permissions.as_ref().filter(|requested| !requested.is_empty()) else {
        return Ok(installed);
    };
    if requested.keys().any(|name| !installed.contains_key(name)) {
        return Err(unprocessable("The permissions requested are not granted to this installation."));
    }
    for (name, level) in requested {
        let granted = installed.get(name).and_then(|level| rank(level));
        if rank(level).is_none_or(|level| Some(level) > granted) {
            return Err(unprocessable(
                "The level of access for permissions requested are not granted to this installation.",
            ));
        }
    }
    let mut granted = requested.clone();
    granted.entry("metadata".into()).or_insert_with(|| "read".into());
    Ok(granted)
}

fn body(
    context: &RequestContext<'_>,
    store: &Store,
    installation: &Installation,
    grant: &Grant,
    secret: &str,
) -> Value {
    let selection =
        if grant.repositories.is_some() { Selection::Selected } else { installation.repository_selection };
    let mut body = json!({
        "token": secret,
        "permissions": grant.permissions,
        "repository_selection": selection,
    });
    if let Some(listed) = &grant.listed {
        let repositories = listed.iter().filter_map(|id| store.repository_by_id(*id));
        let repositories = repositories.map(|own| render::repository(store, own, context.version));
        body["repositories"] = repositories.collect();
    }
    if let Some(expires_at) = expires_at(context) {
        body["expires_at"] = json!(expires_at);
    }
    body
}

fn lifetime(effects: &[Effect]) -> i64 {
    let of_fault = effects.iter().find_map(|effect| match effect {
        Effect::Lifetime { seconds } => Some(*seconds),
        _ => None,
    });
    of_fault.unwrap_or(LIFETIME)
}

fn list<T>(
    body: &Map<String, Value>,
    name: &str,
    kind: &str,
    item: fn(&Value) -> Option<T>,
) -> Result<Vec<T>, Problem> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| {
                item(value).ok_or_else(|| {
                    invalid(&format!("For 'items', {value} is not a valid {kind} of `{name}`."))
                })
            })
            .collect(),
        Some(value) => Err(invalid(&format!("For 'properties/{name}', {value} is not an array."))),
    }
}

fn permissions(body: &Map<String, Value>) -> Result<Option<Permissions>, Problem> {
    let permissions = match body.get("permissions") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(permissions)) => permissions,
        Some(_) => return Err(bad_request("Problems parsing JSON")),
    };
    let level = |(name, level): (&String, &Value)| match level.as_str() {
        Some(level) => Ok((name.clone(), level.to_owned())),
        None => Err(invalid(&format!("For 'permissions/{name}', {level} is not a string."))),
    };
    permissions.iter().map(level).collect::<Result<_, _>>().map(Some)
}

fn bad_request(message: &str) -> Problem {
    Problem::new(400, message, Docs::Operation)
}

fn invalid(what: &str) -> Problem {
    unprocessable(&format!("Invalid request.\n\n{what}"))
}

fn unprocessable(message: &str) -> Problem {
    Problem::new(422, message, Docs::Operation)
}
