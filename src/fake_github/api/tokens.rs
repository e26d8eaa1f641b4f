//! Installation tokens: made and revoked.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::context::Call;
use super::installations::own;
use super::token_text;
use crate::fake_github::clock::{Millis, SECOND, iso};
use crate::fake_github::faults::fault::{Effect, WiderRepositories};
use crate::fake_github::wire::response::{Answer, Docs, Outcome, Problem};
use crate::fake_github::world::definition::{App, Installation, Permissions, Selection, rank};
use crate::fake_github::world::render;
use crate::fake_github::world::store::{Stateless, Store, Token};

/// `POST /app/installations/{installation_id}/access_tokens`
pub(crate) fn mint(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let installation = usable(own(call, store, app)?)?.clone();
    let ask = Ask::parse(call)?;
    let grant = Grant::of(&ask, call, store, &installation)?;
    let wish = call.request.header("X-GitHub-Stateless-S2S-Token");
    let (secret, stateless) = match scripted_token(call.effects) {
        Some(text) => (text.to_owned(), Stateless::No),
        None => token_text::new(&store.random, &call.shared.options, app, installation.id, wish),
    };
    let body = body(call, store, &installation, &grant, &secret);
    let token = Token {
        installation: installation.id,
        permissions: grant.permissions,
        repositories: grant.repositories,
        user: None,
        created: call.shared.clock.now(),
        deadline: deadline(call),
        stateless,
    };
    issue(call, store, secret, token, &ask.scope());
    Ok(Answer::json(201, body))
}

/// `installation`, unless it is suspended.
pub(crate) fn usable(installation: &Installation) -> Result<&Installation, Problem> {
    match installation.suspended_at {
        Some(_) => Err(Problem::new(403, "This installation has been suspended", Docs::Operation)),
        None => Ok(installation),
    }
}

/// Makes `token` work, and counts it under `scope`.
pub(crate) fn issue(call: &Call<'_>, store: &mut Store, secret: String, token: Token, scope: &str) {
    call.shared.journal.lock().minted(token.installation, scope);
    store.keep_token(secret, token, call.shared.clock.now());
}

/// When a token that is minted now stops working.
pub(crate) fn deadline(call: &Call<'_>) -> Millis {
    call.shared.clock.now().saturating_add(lifetime(call.effects).saturating_mul(SECOND))
}

/// What a token that is minted now says of that, unless a fault takes it away.
pub(crate) fn expires_at(call: &Call<'_>) -> Option<String> {
    let scripted = call.effects.iter().find_map(|effect| match effect {
        Effect::ExpiresAt { value } => Some(value.clone()),
        _ => None,
    });
    scripted
        .unwrap_or_else(|| Some(iso(call.shared.clock.shown_second().saturating_add(lifetime(call.effects)))))
}

/// Whether a fault takes away what a request restricted a token to.
pub(crate) fn is_for_everything(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::WiderGrant { repositories: WiderRepositories::All, .. }))
}

/// The text that a fault gives to a token.
pub(crate) fn scripted_token(effects: &[Effect]) -> Option<&str> {
    effects.iter().find_map(|effect| match effect {
        Effect::Token { value } => Some(value.as_str()),
        _ => None,
    })
}

/// `DELETE /installation/token`
pub(crate) fn revoke(call: &Call<'_>, store: &mut Store, _token: &Token) -> Outcome {
    if let Some(secret) = call.request.credential().secret() {
        store.revoke(secret, call.shared.options.stateless_revocation);
    }
    Ok(Answer::no_content())
}

/// What the body asks for.
#[derive(Debug, Default)]
pub(crate) struct Ask {
    names: Vec<String>,
    ids: Vec<u64>,
    permissions: Option<Permissions>,
}

/// What is given.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) permissions: Permissions,
    /// The repositories it is restricted to.
    repositories: Option<BTreeSet<u64>>,
    /// The repositories the answer lists: those of a restricted token.
    listed: Option<BTreeSet<u64>>,
}

impl Ask {
    fn parse(call: &Call<'_>) -> Result<Self, Problem> {
        let body: Value = call.request.json().map_err(|_| bad_json("Problems parsing JSON"))?;
        let Value::Object(body) = body else { return Err(bad_json("Body should be a JSON object")) };
        let ask = Self {
            names: list(&body, "repositories", "string", |value| value.as_str().map(str::to_owned))?,
            ids: list(&body, "repository_ids", "integer", Value::as_u64)?,
            permissions: permissions(&body)?,
        };
        if ask.names.len() + ask.ids.len() > MAX_REPOSITORIES {
            return Err(refused(&call.shared.options.wording.too_many_repositories));
        }
        Ok(ask)
    }

    /// In words that are the same for the same wish.
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
    pub(crate) fn of(
        ask: &Ask,
        call: &Call<'_>,
        store: &Store,
        installation: &Installation,
    ) -> Result<Self, Problem> {
        let repositories = granted_repositories(ask, store, installation)?;
        let permissions = granted_permissions(ask, installation)?;
        let mut grant = Self { permissions, listed: repositories.clone(), repositories };
        for effect in call.effects {
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

/// As many repositories as a request may list.
const MAX_REPOSITORIES: usize = 500;
/// How long a token lives, in seconds.
const LIFETIME: i64 = 3600;

fn granted_repositories(
    ask: &Ask,
    store: &Store,
    installation: &Installation,
) -> Result<Option<BTreeSet<u64>>, Problem> {
    // Nobody documents an empty list. It is taken as none, as Ruby's `present?` would.
    if ask.names.is_empty() && ask.ids.is_empty() {
        return Ok(None);
    }
    let own = store.repositories_of(installation);
    let by_name = ask.names.iter().map(|name| own.iter().find(|other| other.name.eq_ignore_ascii_case(name)));
    let by_id = ask.ids.iter().map(|id| own.iter().find(|other| other.id == *id));
    let ids: Option<BTreeSet<u64>> = by_name.chain(by_id).map(|found| found.map(|own| own.id)).collect();
    ids.map(Some).ok_or_else(|| {
        refused(
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        )
    })
}

fn granted_permissions(ask: &Ask, installation: &Installation) -> Result<Permissions, Problem> {
    // Whoever may do anything may read metadata.
    let mut installed = installation.permissions.clone();
    installed.entry("metadata".into()).or_insert_with(|| "read".into());
    let Some(asked) = ask.permissions.as_ref().filter(|asked| !asked.is_empty()) else {
        return Ok(installed);
    };
    if asked.keys().any(|name| !installed.contains_key(name)) {
        return Err(refused("The permissions requested are not granted to this installation."));
    }
    for (name, level) in asked {
        let granted = installed.get(name).and_then(|level| rank(level));
        if rank(level).is_none_or(|level| Some(level) > granted) {
            return Err(refused(
                "The level of access for permissions requested are not granted to this installation.",
            ));
        }
    }
    let mut granted = asked.clone();
    granted.entry("metadata".into()).or_insert_with(|| "read".into());
    Ok(granted)
}

fn body(call: &Call<'_>, store: &Store, installation: &Installation, grant: &Grant, secret: &str) -> Value {
    let selection =
        if grant.repositories.is_some() { Selection::Selected } else { installation.repository_selection };
    let mut body = json!({
        "token": secret,
        "permissions": grant.permissions,
        "repository_selection": selection,
    });
    if let Some(listed) = &grant.listed {
        let repositories = listed.iter().filter_map(|id| store.repository_by_id(*id));
        let repositories = repositories.map(|own| render::repository(store, own, call.version));
        body["repositories"] = repositories.collect();
    }
    if let Some(expires_at) = expires_at(call) {
        body["expires_at"] = json!(expires_at);
    }
    body
}

fn lifetime(effects: &[Effect]) -> i64 {
    let scripted = effects.iter().find_map(|effect| match effect {
        Effect::Lifetime { seconds } => Some(*seconds),
        _ => None,
    });
    scripted.unwrap_or(LIFETIME)
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
        Some(_) => return Err(bad_json("Problems parsing JSON")),
    };
    let level = |(name, level): (&String, &Value)| match level.as_str() {
        Some(level) => Ok((name.clone(), level.to_owned())),
        None => Err(invalid(&format!("For 'permissions/{name}', {level} is not a string."))),
    };
    permissions.iter().map(level).collect::<Result<_, _>>().map(Some)
}

fn bad_json(message: &str) -> Problem {
    Problem::new(400, message, Docs::Operation)
}

fn invalid(what: &str) -> Problem {
    refused(&format!("Invalid request.\n\n{what}"))
}

fn refused(message: &str) -> Problem {
    Problem::new(422, message, Docs::Operation)
}
